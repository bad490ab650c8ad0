//! The flags that an instruction takes.

use dbuild_support::edit_distance;

use crate::diagnostics::Diagnostic;
use crate::source::Word;
use crate::words::Flag;

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing, `true` or `false`.
    Bool,
    /// A text.
    Text,
    /// A text, and the flag may be repeated.
    Texts,
}

/// The flags of one instruction, each with what it takes.
pub(super) type Known = [(&'static str, Takes)];

/// Flags that were found to be right.
#[derive(Debug, Default)]
pub(super) struct Found {
    texts: Vec<(&'static str, Word)>,
    bools: Vec<(&'static str, bool)>,
}

impl Found {
    /// The value of a flag that is given once.
    pub(super) fn text(&self, name: &str) -> Option<Word> {
        self.texts.iter().find(|(other, _)| *other == name).map(|(_, value)| value.clone())
    }

    /// All values of a flag.
    pub(super) fn texts(&self, name: &str) -> Vec<Word> {
        self.texts.iter().filter(|(other, _)| *other == name).map(|(_, value)| value.clone()).collect()
    }

    /// The value of a flag that is true or false.
    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.bools.iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
    }
}

/// Reads the flags of an instruction.
pub(super) fn read(flags: &[Flag], keyword: &str, known: &Known, errors: &mut Vec<Diagnostic>) -> Found {
    let mut found = Found::default();
    let mut seen: Vec<&str> = Vec::new();
    for flag in flags {
        let name = flag.name();
        let Some((name, takes)) = known.iter().copied().find(|(other, _)| *other == name) else {
            errors.push(unknown(flag, keyword, known));
            continue;
        };
        if seen.contains(&name) && takes != Takes::Texts {
            let message = format!("`--{name}` is given twice");
            errors.push(Diagnostic::error(flag.word.span, message).help("keep one of them"));
            continue;
        }
        seen.push(name);
        match (takes, flag.value()) {
            (Takes::Bool, value) => match bool_of(value.as_ref()) {
                Some(value) => found.bools.push((name, value)),
                None => errors.push(
                    Diagnostic::error(flag.word.span, format!("`--{name}` is true or false"))
                        .help(format!("write `--{name}`, `--{name}=true` or `--{name}=false`")),
                ),
            },
            (Takes::Text | Takes::Texts, Some(value)) => found.texts.push((name, value)),
            (Takes::Text | Takes::Texts, None) => errors.push(
                Diagnostic::error(flag.word.span, format!("`--{name}` needs a value"))
                    .help(format!("write `--{name}=…`, without white space around `=`")),
            ),
        }
    }
    found
}

fn bool_of(value: Option<&Word>) -> Option<bool> {
    match value.map(|value| value.text.to_lowercase()).as_deref() {
        None | Some("true") => Some(true),
        Some("false") => Some(false),
        Some(_) => None,
    }
}

fn unknown(flag: &Flag, keyword: &str, known: &Known) -> Diagnostic {
    let keyword = keyword.to_ascii_uppercase();
    let error = Diagnostic::error(flag.word.span, format!("{keyword} has no flag `--{}`", flag.name()));
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    if let Some(near) = edit_distance::nearest(flag.name(), names.iter().copied()) {
        return error.help(format!("did you mean `--{near}`?"));
    }
    if names.is_empty() {
        return error.help(format!("{keyword} takes no flags"));
    }
    error.help(format!("{keyword} knows `--{}`", names.join("`, `--")))
}
