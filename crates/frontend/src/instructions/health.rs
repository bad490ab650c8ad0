//! HEALTHCHECK.

use std::ops::Range;

use dbuild_support::edit_distance;

use super::{Args, Request, flags, mixed_json, needs};
use crate::ast::{CommandLine, Healthcheck, InstructionKind};
use crate::diagnostics::Diagnostic;
use crate::gotext;
use crate::lines::LogicalLine;
use crate::source::{Span, Word};
use crate::words::{self, Json};

/// The type, `CMD` or `NONE`, and where the rest is.
pub(super) fn cut(line: &LogicalLine, range: Range<usize>) -> Result<Args, Diagnostic> {
    if range.is_empty() {
        return Ok(Args::Health(None, range));
    }
    let text = &line.text[range.clone()];
    let len = text.find(char::is_whitespace).unwrap_or(text.len());
    let rest = range.end - text[len..].trim_start().len()..range.end;
    if let Json::Mixed = words::json_array(line, rest.clone()) {
        return Err(mixed_json(line.span(rest)));
    }
    Ok(Args::Health(Some(line.word(range.start..range.start + len)), rest))
}

/// HEALTHCHECK.
pub(super) fn meaning(request: Request<'_>, errors: &mut Vec<Diagnostic>) -> Option<InstructionKind> {
    let Args::Health(Some(kind), rest) = &request.args else {
        errors.push(needs(&request, "at least one argument", "HEALTHCHECK CMD curl -f http://localhost/"));
        return None;
    };
    let command = match words::json_array(request.line, rest.clone()) {
        Json::Strings(words) => CommandLine::Exec(words),
        Json::Mixed => return None,
        Json::No if rest.is_empty() => CommandLine::Shell(None),
        Json::No => CommandLine::Shell(Some(request.line.word(rest.clone()))),
    };
    match kind.text.to_ascii_uppercase().as_str() {
        "NONE" => {
            if !matches!(command, CommandLine::Shell(None)) {
                let span = request.line.span(rest.clone());
                errors.push(Diagnostic::error(span, "HEALTHCHECK NONE takes no arguments"));
            }
            Some(InstructionKind::Healthcheck(Healthcheck::default()))
        }
        "CMD" => with_flags(&request, kind, command, errors),
        other => {
            let near = edit_distance::nearest(other, ["CMD", "NONE"]);
            let help =
                near.map_or("expected `CMD` or `NONE`".to_owned(), |near| format!("did you mean `{near}`?"));
            let shown: String = kind.text.chars().take(60).collect();
            errors
                .push(Diagnostic::error(kind.span, format!("HEALTHCHECK has no type `{shown}`")).help(help));
            None
        }
    }
}

fn with_flags(
    request: &Request<'_>,
    kind: &Word,
    command: CommandLine,
    errors: &mut Vec<Diagnostic>,
) -> Option<InstructionKind> {
    let names = ["interval", "timeout", "start-period", "start-interval", "retries"];
    let known = names.map(|name| (name, flags::Takes::Text));
    let found = flags::read(&request.command.flags, "HEALTHCHECK", &known, errors);
    if matches!(&command, CommandLine::Shell(None))
        || matches!(&command, CommandLine::Exec(words) if words.is_empty())
    {
        errors.push(Diagnostic::error(kind.span, "a command is missing after HEALTHCHECK CMD"));
    }
    let mut interval = |name| duration(found.text(name), name, errors);
    let check = Healthcheck {
        command: Some(command),
        interval: interval("interval"),
        timeout: interval("timeout"),
        start_period: interval("start-period"),
        start_interval: interval("start-interval"),
        retries: 0,
    };
    let retries = found.text("retries").filter(|word| !word.text.is_empty());
    let retries = retries.map_or(0, |word| match word.text.parse::<i32>() {
        Ok(retries) if retries >= 0 => i64::from(retries),
        _ => {
            let message = "`--retries` is a number, 0 or more";
            errors.push(Diagnostic::error(word.span, message));
            0
        }
    });
    Some(InstructionKind::Healthcheck(Healthcheck { retries, ..check }))
}

fn duration(word: Option<Word>, name: &str, errors: &mut Vec<Diagnostic>) -> i64 {
    const MILLISECOND: i64 = 1_000_000;
    let Some(word) = word.filter(|word| !word.text.is_empty()) else {
        return 0;
    };
    match gotext::parse_duration(&word.text) {
        Some(nanoseconds) if nanoseconds == 0 || nanoseconds >= MILLISECOND => nanoseconds,
        Some(_) => {
            let error = Diagnostic::error(word.span, format!("`--{name}` cannot be less than 1ms"));
            errors.push(error.help("0 is the default"));
            0
        }
        None => {
            let shown: String = word.text.chars().take(60).collect();
            let span: Span = word.span;
            let error = Diagnostic::error(span, format!("`{shown}` is not a duration"));
            errors.push(error.help("write a number and a unit, such as `30s`, `1m30s` or `500ms`"));
            0
        }
    }
}
