//! `.dockerignore`, and the patterns of `--exclude` and `--parents`, after moby's patternmatcher.
//!
//! Patterns are taken in order and the last one that matches decides; one that begins with `!` re-includes. A pattern
//! also matches everything below what it matches. `*` and `?` stop at a slash; `**` does not.

use crate::TreePath;
use crate::context::glob::{self, PatternError};

/// Ordered patterns.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
}

/// Which patterns matched a directory, so that they need not be tried again below it.
#[derive(Clone, Debug, Default)]
pub struct Matched(Vec<bool>);

#[derive(Clone, Debug)]
struct Pattern {
    negated: bool,
    form: Form,
    text: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Form {
    /// No wildcard: the path itself.
    Exact(Vec<u8>),
    /// Nothing special but `**` at the end.
    Prefix(Vec<u8>),
    /// Nothing special but `**` at the start: a suffix of the path, or the path itself after the slash.
    Suffix(Vec<u8>),
    Tokens(Vec<Token>),
}

#[derive(Clone, Debug)]
enum Token {
    Byte(u8),
    /// `?`: one character, no slash.
    One,
    /// `*`: characters, no slash.
    Star,
    /// `**` before something: nothing, or anything that ends in a slash.
    Directories,
    /// `**` at the end: anything.
    Anything,
    /// `[…]`, as written.
    Class(Vec<u8>),
}

impl Ignore {
    /// Reads an ignore file: a BOM is skipped, lines that begin with `#` and empty ones too, white space around a
    /// pattern (so also CR) is not part of it, and a leading slash says nothing.
    pub fn parse(bytes: &[u8]) -> Result<Self, PatternError> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut patterns = Vec::new();
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"#")) {
            let line = line.trim_ascii();
            let (negated, line) = match line.strip_prefix(b"!") {
                Some(rest) => (true, rest.trim_ascii()),
                None => (false, line),
            };
            let cleaned = if line.is_empty() { Vec::new() } else { clean(line) };
            let cleaned = match &cleaned[..] {
                [b'/', rest @ ..] if !rest.is_empty() => rest,
                other => other,
            };
            add(&mut patterns, negated, cleaned)?;
        }
        Ok(Self { patterns })
    }

    /// Takes patterns as `--exclude` and `--parents` have them, one each.
    pub fn from_patterns<S: AsRef<str>>(texts: &[S]) -> Result<Self, PatternError> {
        let mut patterns = Vec::new();
        for text in texts {
            let text = text.as_ref().trim();
            let cleaned = if text.is_empty() { Vec::new() } else { clean(text.as_bytes()) };
            match cleaned.strip_prefix(b"!") {
                Some(rest) => add(&mut patterns, true, rest)?,
                None => add(&mut patterns, false, &cleaned)?,
            }
        }
        Ok(Self { patterns })
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a pattern re-includes something.
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.negated)
    }

    /// Whether one pattern alone matches everything: `*`, `**` or `**/*`.
    pub fn has_everything(&self) -> bool {
        self.patterns
            .iter()
            .any(|pattern| !pattern.negated && matches!(&pattern.text[..], b"*" | b"**" | b"**/*"))
    }

    /// Whether a path matches, itself or through a directory above it.
    pub fn matches(&self, path: &TreePath) -> bool {
        let mut above: Vec<TreePath> = path.ancestors().filter(|above| !above.is_root()).collect();
        above.reverse();
        let mut matched = false;
        for pattern in &self.patterns {
            if pattern.negated == matched
                && above.iter().chain([path]).any(|path| pattern.matches(path.as_bytes()))
            {
                matched = !pattern.negated;
            }
        }
        matched
    }

    /// As [`Ignore::matches`] during a walk: `parent` is what the directory above gave (the default at the top).
    pub fn matches_below(&self, path: &TreePath, parent: &Matched) -> (bool, Matched) {
        let mut by = vec![false; self.patterns.len()];
        let mut matched = false;
        for (index, pattern) in self.patterns.iter().enumerate() {
            by[index] = parent.0.get(index).copied().unwrap_or(false)
                || (pattern.negated == matched && pattern.matches(path.as_bytes()));
            if by[index] {
                matched = !pattern.negated;
            }
        }
        (matched, Matched(by))
    }

    /// Whether something below a matched directory could be re-included.
    pub fn may_reinclude_below(&self, directory: &TreePath) -> bool {
        let inside = [directory.as_bytes(), b"/"].concat();
        self.patterns.iter().filter(|pattern| pattern.negated).any(|pattern| {
            let special = pattern.text.iter().position(|byte| b"*?[\\".contains(byte));
            let literal = &pattern.text[..special.unwrap_or(pattern.text.len())];
            literal.starts_with(&inside) || (special.is_some() && inside.starts_with(literal))
                // A pattern that re-includes the directory itself was already asked about the directory.
                || [literal, b"/"].concat() == inside
        })
    }
}

fn add(patterns: &mut Vec<Pattern>, negated: bool, text: &[u8]) -> Result<(), PatternError> {
    let shown = || String::from_utf8_lossy(text).chars().take(200).collect::<String>();
    match (negated, text) {
        (true, b"") => {
            return Err(PatternError { pattern: "!".to_owned(), reason: "nothing follows the `!`" });
        }
        (false, b"") => return Ok(()),
        _ => {}
    }
    glob::check_bytes(text).map_err(|reason| PatternError { pattern: shown(), reason })?;
    patterns.push(Pattern { negated, form: Form::of(text), text: text.to_vec() });
    Ok(())
}

impl Form {
    fn of(text: &[u8]) -> Self {
        let special = |text: &[u8]| text.iter().any(|byte| b"*?[]\\".contains(byte));
        if !special(text) {
            return Self::Exact(text.to_vec());
        }
        if let Some(rest) = text.strip_prefix(b"**").filter(|rest| !special(rest)) {
            return Self::Suffix(rest.to_vec());
        }
        if let Some(rest) = text.strip_suffix(b"**").filter(|rest| !special(rest)) {
            return Self::Prefix(rest.to_vec());
        }
        Self::Tokens(tokens(text))
    }
}

fn tokens(mut text: &[u8]) -> Vec<Token> {
    let mut tokens = Vec::new();
    while let [first, rest @ ..] = text {
        text = rest;
        tokens.push(match first {
            b'*' if text.starts_with(b"*") => {
                text = &text[1..];
                text = text.strip_prefix(b"/").unwrap_or(text);
                if text.is_empty() { Token::Anything } else { Token::Directories }
            }
            b'*' => Token::Star,
            b'?' => Token::One,
            b'\\' if !text.is_empty() => {
                let escaped = text[0];
                text = &text[1..];
                Token::Byte(escaped)
            }
            b'[' => match glob::class_length(text) {
                Some(length) => {
                    let class = [b"[", &text[..length]].concat();
                    text = &text[length..];
                    Token::Class(class)
                }
                None => Token::Byte(b'['),
            },
            other => Token::Byte(*other),
        });
    }
    tokens
}

impl Pattern {
    fn matches(&self, path: &[u8]) -> bool {
        match &self.form {
            Form::Exact(exact) => exact == path,
            Form::Prefix(prefix) => path.starts_with(prefix),
            Form::Suffix(suffix) => {
                path.ends_with(suffix) || suffix.strip_prefix(b"/").is_some_and(|rest| rest == path)
            }
            Form::Tokens(tokens) => run(tokens, path),
        }
    }
}

/// Runs the pattern as the set of positions that it can be at: linear in both lengths, whatever the pattern.
fn run(tokens: &[Token], path: &[u8]) -> bool {
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    for token in tokens {
        let mut next = vec![false; path.len() + 1];
        match token {
            Token::Byte(byte) => {
                for at in 0..path.len() {
                    next[at + 1] = reached[at] && path[at] == *byte;
                }
            }
            Token::One | Token::Class(_) => {
                for at in (0..path.len()).filter(|at| reached[*at]) {
                    let pattern = if let Token::Class(class) = token { &class[..] } else { b"?" };
                    if let Some(length) = glob::match_char(pattern, &path[at..]) {
                        next[at + length] = true;
                    }
                }
            }
            Token::Star => {
                let mut open = false;
                for at in 0..=path.len() {
                    open |= reached[at];
                    next[at] = open;
                    open &= path.get(at) != Some(&b'/');
                }
            }
            Token::Directories => {
                let mut open = false;
                for at in 0..=path.len() {
                    next[at] = reached[at] || (open && path[at - 1] == b'/');
                    open |= reached[at];
                }
            }
            Token::Anything => {
                let first = reached.iter().position(|reached| *reached).unwrap_or(path.len() + 1);
                next.iter_mut().skip(first).for_each(|reached| *reached = true);
            }
        }
        reached = next;
    }
    reached[path.len()]
}

/// The shortest path that means the same, as Go's `filepath.Clean` gives it: `.` if nothing is left, and `..` kept
/// where it leads above the start.
pub(crate) fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.first() == Some(&b'/');
    let mut components: Vec<&[u8]> = Vec::new();
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." if components.last().is_some_and(|last| *last != b"..") => {
                components.pop();
            }
            b".." if rooted => {}
            other => components.push(other),
        }
    }
    let joined = components.join(&b'/');
    match (rooted, joined.is_empty()) {
        (true, _) => [b"/", &joined[..]].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

#[cfg(test)]
#[path = "tests/ignore.rs"]
mod tests;
