//! Text to AST, with recovery: an instruction that is wrong is left out, and the next one is read.

use crate::ast::{Dockerfile, Instruction, InstructionKind};
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::heredoc::{self, Announced, Heredoc};
use crate::instructions::{self, Args, Request};
use crate::lines::{Lines, Statement};
use crate::source::{Source, Span, Word};
use crate::words;

/// What a text holds.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The instructions that could be read.
    pub ast: Dockerfile,
    /// What is wrong, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// The AST, if nothing is wrong.
    pub fn into_result(self) -> Result<Dockerfile, Diagnostics> {
        if self.diagnostics.is_empty() { Ok(self.ast) } else { Err(Diagnostics(self.diagnostics)) }
    }
}

/// After this many errors nobody reads on.
const MOST_ERRORS: usize = 50;

/// Parses a Dockerfile. Never panics and always ends, whatever the text.
pub fn parse(source: &Source) -> Parsed {
    let mut parsed = parse_text(&source.text, None);
    if parsed.diagnostics.is_empty() {
        parsed.diagnostics.extend(structure_errors(&parsed.ast, &source.text));
    }
    parsed
}

/// Parses one instruction that is not in the file: a trigger of ONBUILD. All spans are the one
/// given.
pub(crate) fn parse_trigger(text: &str, span: Span) -> Result<Instruction, Diagnostic> {
    let shown: String = text.chars().take(200).collect();
    let note = format!("this is a trigger of ONBUILD: `{shown}`");
    let parsed = parse_text(text, Some(span));
    if let Some(error) = parsed.diagnostics.into_iter().next() {
        return Err(error.note(note));
    }
    let [instruction] = <[Instruction; 1]>::try_from(parsed.ast.instructions)
        .map_err(|_| Diagnostic::error(span, "a trigger of ONBUILD is one instruction").note(note.clone()))?;
    match instruction.kind {
        InstructionKind::From(_) => Err(Diagnostic::error(span, "ONBUILD cannot trigger FROM").note(note)),
        _ => Ok(instruction),
    }
}

fn parse_text(text: &str, fixed: Option<Span>) -> Parsed {
    let mut lines = Lines::new(text, fixed);
    let mut ast = Dockerfile::default();
    let mut diagnostics = Vec::new();
    while let Some(statement) = lines.next_statement() {
        ast.instructions.extend(instruction(statement, &mut lines, &mut diagnostics));
        if diagnostics.len() >= MOST_ERRORS {
            break;
        }
    }
    diagnostics.append(&mut lines.diagnostics);
    diagnostics.sort_by_key(|diagnostic| diagnostic.labels.first().map(|label| label.span.start));
    ast.directives = std::mem::take(&mut lines.directives);
    Parsed { ast, diagnostics }
}

fn instruction(
    statement: Statement,
    lines: &mut Lines<'_>,
    errors: &mut Vec<Diagnostic>,
) -> Option<Instruction> {
    let Statement { line, comments, blanks } = statement;
    let escape = lines.escape;
    let trimmed = line.trim(0..line.text.len());
    let command = words::split_command(&line, trimmed.clone(), escape);
    let keyword = command.keyword.clone();
    let args = match instructions::cut(&line, &command, escape) {
        Ok(Some(args)) => args,
        Ok(None) => {
            errors.push(instructions::unknown(&keyword));
            return None;
        }
        Err(error) => {
            errors.push(error);
            // Its bodies are not instructions, so they are read past.
            drop(read_heredocs(&line.text, lines, &mut Vec::new()));
            return None;
        }
    };
    let heredocs = if may_have_heredocs(&keyword, &args, &line.text) {
        read_heredocs(&line.text, lines, errors)?
    } else {
        Vec::new()
    };
    // White space after an escape character keeps it from being read as a continuation.
    let end = if line.text[trimmed.clone()].ends_with(escape) { line.text.len() } else { trimmed.end };
    let line_word = Word::new(&line.text[trimmed.start..end], line.span(trimmed));
    let span = heredocs.last().map_or(line_word.span, |last| line_word.span.to(last.span));
    let request = Request { line: &line, command, args, heredocs: heredocs.clone() };
    let kind = instructions::meaning(request, errors)?;
    Some(Instruction { keyword, comments, line: line_word, span, blanks, heredocs, kind })
}

/// RUN, COPY and ADD announce here-documents, also after ONBUILD, but not in the exec form.
fn may_have_heredocs(keyword: &Word, args: &Args, line: &str) -> bool {
    let is_one = |word: &str| ["RUN", "COPY", "ADD"].iter().any(|name| word.eq_ignore_ascii_case(name));
    if !line.contains("<<") {
        return false;
    }
    if keyword.text.eq_ignore_ascii_case("ONBUILD") {
        let Args::Whole(Some(trigger)) = args else {
            return false;
        };
        let (first, rest) = trigger.text.split_once(words::is_blank).unwrap_or((&trigger.text, ""));
        let is_json = serde_json::from_str::<Vec<String>>(rest.trim()).is_ok();
        return is_one(first) && !is_json;
    }
    is_one(&keyword.text) && !matches!(args, Args::Json(_))
}

/// Reads the bodies that a line announces. `None`: one does not end.
fn read_heredocs(line: &str, lines: &mut Lines<'_>, errors: &mut Vec<Diagnostic>) -> Option<Vec<Heredoc>> {
    let announced = heredoc::announced_in(line).unwrap_or_default();
    announced.into_iter().map(|document| read_heredoc(document, lines, errors)).collect()
}

fn read_heredoc(document: Announced, lines: &mut Lines<'_>, errors: &mut Vec<Diagnostic>) -> Option<Heredoc> {
    let mut content = String::new();
    let mut span: Option<Span> = None;
    while let Some(range) = lines.next_physical() {
        let line = lines.slice(range.clone());
        let place = lines.span(range);
        let whole = span.map_or(place, |span| span.to(place));
        span = Some(whole);
        if document.is_end(line) {
            let Announced { name, expand, chomp } = document;
            return Some(Heredoc { name, expand, chomp, content, span: whole });
        }
        content.push_str(line);
    }
    let end = lines.span(lines_end(span)..lines_end(span));
    let place = span.unwrap_or(end);
    errors.push(
        Diagnostic::error(place, format!("the here-document `{}` does not end", document.name))
            .help(format!("write `{}` alone on a line where it ends", document.name)),
    );
    None
}

fn lines_end(span: Option<Span>) -> usize {
    span.map_or(0, |span| span.end)
}

/// What can be said of the whole file alone.
fn structure_errors(ast: &Dockerfile, text: &str) -> Vec<Diagnostic> {
    let is_from = |instruction: &Instruction| matches!(instruction.kind, InstructionKind::From(_));
    if ast.instructions.is_empty() {
        let message = if text.trim().is_empty() {
            "the Dockerfile is empty"
        } else {
            "the Dockerfile has no instructions"
        };
        return vec![Diagnostic::error(Span::new(0, 0), message).help("begin with `FROM image`")];
    }
    let early = ast.instructions.iter().take_while(|instruction| !is_from(instruction));
    let mut errors: Vec<Diagnostic> = early
        .filter(|instruction| !matches!(instruction.kind, InstructionKind::Arg(_)))
        .take(1)
        .map(|instruction| {
            let keyword = instruction.keyword.text.to_ascii_uppercase();
            Diagnostic::error(instruction.keyword.span, format!("{keyword} comes before the first FROM"))
                .help("only ARG may stand before FROM; begin with `FROM image`")
        })
        .collect();
    if errors.is_empty() && !ast.instructions.iter().any(is_from) {
        let span = ast.instructions.last().map_or(Span::new(0, 0), |instruction| instruction.line.span);
        errors.push(Diagnostic::error(span, "no stage is opened").help("add `FROM image` after this"));
    }
    errors
}
