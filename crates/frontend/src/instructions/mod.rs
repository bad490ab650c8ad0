//! From a logical line to an instruction.
//!
//! As in BuildKit there are two phases: the arguments are cut as the keyword asks for (this alone
//! is done for what follows ONBUILD), then they are given their meaning.

mod copy;
mod flags;
mod health;
mod pairs;
mod plain;
mod run;

use std::ops::Range;

use dbuild_support::edit_distance;

use crate::ast::{CommandLine, InstructionKind};
use crate::diagnostics::Diagnostic;
use crate::heredoc::Heredoc;
use crate::lines::LogicalLine;
use crate::source::{Span, Word};
use crate::words::{self, Command, Json};

/// All keywords.
pub(crate) const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// A line taken apart: all that the second phase needs.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) line: &'a LogicalLine,
    pub(crate) command: Command,
    pub(crate) args: Args,
    pub(crate) heredocs: Vec<Heredoc>,
}

/// Arguments, cut as the keyword asks for.
#[derive(Debug)]
pub(crate) enum Args {
    /// Words.
    Words(Vec<Word>),
    /// A JSON array.
    Json(Vec<Word>),
    /// The whole rest of the line; `None` is nothing.
    Whole(Option<Word>),
    /// `name=value` pairs.
    Pairs(Vec<crate::ast::Pair>),
    /// HEALTHCHECK's type and what follows it.
    Health(Option<Word>, Range<usize>),
}

impl Args {
    /// JSON and words alike.
    fn into_words(self) -> Vec<Word> {
        match self {
            Self::Words(words) | Self::Json(words) => words,
            Self::Whole(word) => word.into_iter().collect(),
            Self::Pairs(_) | Self::Health(..) => Vec::new(),
        }
    }

    /// As the command of RUN, CMD and ENTRYPOINT.
    fn into_command(self) -> CommandLine {
        match self {
            Self::Json(words) => CommandLine::Exec(words),
            Self::Whole(word) => CommandLine::Shell(word),
            Self::Words(_) | Self::Pairs(_) | Self::Health(..) => CommandLine::Shell(None),
        }
    }
}

/// The first phase: cuts the arguments. `None`: not an instruction.
pub(crate) fn cut(line: &LogicalLine, command: &Command, escape: char) -> Result<Option<Args>, Diagnostic> {
    let range = command.args.clone();
    let whole = || (!range.is_empty()).then(|| line.word(range.clone()));
    let args = match command.keyword.text.to_ascii_uppercase().as_str() {
        "ADD" | "COPY" | "VOLUME" => match words::json_array(line, range.clone()) {
            Json::Strings(words) => Args::Json(words),
            Json::Mixed => return Err(mixed_json(line.span(range))),
            Json::No => Args::Words(words::blank_separated(line, range)),
        },
        "ENTRYPOINT" | "CMD" | "RUN" | "SHELL" => match words::json_array(line, range.clone()) {
            Json::Strings(words) => Args::Json(words),
            Json::Mixed => return Err(mixed_json(line.span(range))),
            Json::No => Args::Whole(whole()),
        },
        "ARG" => Args::Words(words::quoted_words(line, range, escape)),
        "ENV" | "LABEL" => Args::Pairs(pairs::cut(line, command, escape)?),
        "EXPOSE" | "FROM" => Args::Words(words::blank_separated(line, range)),
        "HEALTHCHECK" => health::cut(line, range)?,
        "MAINTAINER" | "STOPSIGNAL" | "USER" | "WORKDIR" => Args::Whole(whole()),
        "ONBUILD" => {
            if !range.is_empty() {
                let inner = words::split_command(line, range.clone(), escape);
                cut_nested(line, &inner, escape)?;
            }
            // The config keeps the blanks at the end, as BuildKit does.
            Args::Whole((!range.is_empty()).then(|| line.word(range.start..line.text.len())))
        }
        _ => return Ok(None),
    };
    Ok(Some(args))
}

/// What follows ONBUILD only has to be cut. It is a loop, since `ONBUILD ONBUILD …` could nest
/// without end.
fn cut_nested(line: &LogicalLine, command: &Command, escape: char) -> Result<(), Diagnostic> {
    if command.keyword.text.eq_ignore_ascii_case("ONBUILD") {
        return Ok(());
    }
    cut(line, command, escape).map(drop)
}

fn mixed_json(span: Span) -> Diagnostic {
    Diagnostic::error(span, "the exec form is a JSON array of strings only")
        .label("an element is not a string")
        .help("put each element into double quotes, or drop the brackets to use the shell form")
}

/// The second phase: what the arguments mean. Faults go to `errors`; an instruction is given back
/// only without them.
pub(crate) fn meaning(request: Request<'_>, errors: &mut Vec<Diagnostic>) -> Option<InstructionKind> {
    let keyword = request.command.keyword.text.to_ascii_uppercase();
    let before = errors.len();
    let kind = match keyword.as_str() {
        "ADD" | "COPY" => copy::meaning(request, &keyword, errors),
        "ARG" => pairs::arg(request, errors),
        "CMD" | "ENTRYPOINT" | "SHELL" => run::command(request, &keyword, errors),
        "ENV" | "LABEL" => pairs::meaning(request, &keyword, errors),
        "EXPOSE" | "VOLUME" => plain::list(request, &keyword, errors),
        "FROM" => plain::from(request, errors),
        "HEALTHCHECK" => health::meaning(request, errors),
        "ONBUILD" => plain::onbuild(request, errors),
        "RUN" => run::meaning(request, errors),
        _ => plain::whole(request, &keyword, errors),
    };
    kind.filter(|_| errors.len() == before)
}

/// The error of a keyword that does not exist.
pub(crate) fn unknown(keyword: &Word) -> Diagnostic {
    let shown: String = keyword.text.chars().take(60).collect();
    let error = Diagnostic::error(keyword.span, format!("`{shown}` is not an instruction"));
    if let Some(near) = edit_distance::nearest(&shown.to_ascii_uppercase(), KEYWORDS) {
        return error.help(format!("did you mean `{near}`?"));
    }
    error.help("if this continues the line above, that line must end with the escape character `\\`")
}

/// The error of an instruction without arguments.
fn needs(request: &Request<'_>, what: &str, example: &str) -> Diagnostic {
    let keyword = &request.command.keyword;
    let name = keyword.text.to_ascii_uppercase();
    Diagnostic::error(keyword.span, format!("{name} needs {what}")).help(format!("for example `{example}`"))
}
