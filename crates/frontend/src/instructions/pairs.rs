//! ARG, ENV and LABEL.

use super::{Args, Request, flags, needs};
use crate::ast::{ArgDefinition, InstructionKind, Pair};
use crate::diagnostics::Diagnostic;
use crate::lines::LogicalLine;
use crate::source::Word;
use crate::words::{self, Command};

/// Cuts the arguments of ENV and LABEL. If the first word has no `=`, the old form is meant: one
/// name, and the rest of the line is its value.
pub(super) fn cut(line: &LogicalLine, command: &Command, escape: char) -> Result<Vec<Pair>, Diagnostic> {
    let keyword = command.keyword.text.to_ascii_uppercase();
    let range = command.args.clone();
    let found = words::quoted_words(line, range.clone(), escape);
    let Some(first) = found.first() else {
        return Ok(Vec::new());
    };
    if !first.text.contains('=') {
        let text = &line.text[range.clone()];
        let name_len = text.find(words::is_blank).unwrap_or(text.len());
        let key = line.word(range.start..range.start + name_len);
        let value_len = text[name_len..].trim_start_matches(words::is_blank).len();
        if name_len == text.len() {
            return Err(Diagnostic::error(key.span, format!("{keyword} needs a name and a value"))
                .label("there is no value")
                .help(format!("write `{keyword} name=value`")));
        }
        let value = line.word(range.end - value_len..range.end);
        return Ok(vec![Pair { key, value, legacy: true }]);
    }
    found.into_iter().map(|word| pair(word, &keyword)).collect()
}

fn pair(word: Word, keyword: &str) -> Result<Pair, Diagnostic> {
    match split(&word) {
        Some((key, value)) => Ok(Pair { key, value, legacy: false }),
        None => Err(Diagnostic::error(word.span, "`=` is missing")
            .label("expected `name=value`")
            .help(format!("write `{keyword} name=value …`, and quote a value that holds white space"))),
    }
}

/// `key=value` at the first `=`.
fn split(word: &Word) -> Option<(Word, Word)> {
    let at = word.text.find('=')?;
    let key = Word::new(&word.text[..at], word.part(0..at));
    let value = Word::new(&word.text[at + 1..], word.part(at + 1..word.text.len()));
    Some((key, value))
}

/// ENV and LABEL.
pub(super) fn meaning(
    request: Request<'_>,
    keyword: &str,
    errors: &mut Vec<Diagnostic>,
) -> Option<InstructionKind> {
    flags::read(&request.command.flags, keyword, &[], errors);
    let missing = needs(&request, "at least one argument", &format!("{keyword} name=value"));
    let pairs = match request.args {
        Args::Pairs(pairs) if !pairs.is_empty() => pairs,
        _ => {
            errors.push(missing);
            return None;
        }
    };
    for pair in &pairs {
        if pair.key.text.is_empty() {
            errors.push(Diagnostic::error(pair.value.span, "a name is missing before `=`"));
        }
    }
    Some(if keyword == "ENV" { InstructionKind::Env(pairs) } else { InstructionKind::Label(pairs) })
}

/// ARG. BuildKit does not look at its flags.
pub(super) fn arg(request: Request<'_>, errors: &mut Vec<Diagnostic>) -> Option<InstructionKind> {
    let missing = needs(&request, "at least one argument", "ARG VERSION=1.0");
    let words = request.args.into_words();
    if words.is_empty() {
        errors.push(missing);
        return None;
    }
    let mut definitions = Vec::with_capacity(words.len());
    for word in words {
        match split(&word) {
            Some((name, _)) if name.text.is_empty() => {
                errors.push(Diagnostic::error(word.span, "a name is missing before `=`"));
            }
            Some((name, value)) => definitions.push(ArgDefinition { name, value: Some(value) }),
            None => definitions.push(ArgDefinition { name: word, value: None }),
        }
    }
    Some(InstructionKind::Arg(definitions))
}
