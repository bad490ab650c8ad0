//! `.dockerignore`, and the patterns of `--exclude` and `--parents`, after moby's patternmatcher.
//!
//! Patterns are taken in order and the last one that matches decides; one that begins with `!`
//! re-includes. A pattern also matches everything below what it matches. `*` and `?` stop at a
//! slash; `**` does not.

use crate::TreePath;
use crate::context::glob::{self, PatternError};

/// Ordered patterns.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
    /// The file that they are from, as messages name it.
    file: Option<String>,
}

/// An ignore file that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    /// A line that is no pattern.
    #[error("line {line}: {error}")]
    Pattern {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        error: PatternError,
    },
    /// Text in an encoding that would be read as patterns that match nothing.
    #[error("it is written in UTF-16, and ignore files are UTF-8")]
    Utf16,
}

/// The pattern that leaves a path out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecidingPattern {
    /// The pattern, cleaned.
    pub text: String,
    /// Its line in the file, from 1.
    pub line: usize,
}

/// Which patterns matched a directory, so that they need not be tried again below it.
#[derive(Clone, Debug, Default)]
pub struct MatchedPatterns(Vec<bool>);

#[derive(Clone, Debug)]
struct Pattern {
    negated: bool,
    form: Form,
    text: Vec<u8>,
    /// Where it stands, from 1.
    line: usize,
}

#[derive(Clone, Debug)]
enum Form {
    /// No wildcard: the path itself.
    Exact(Vec<u8>),
    /// Nothing special but `**` at the end.
    Prefix(Vec<u8>),
    /// Nothing special but `**` at the start: a suffix of the path, or the path itself after the
    /// slash.
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
    /// Reads an ignore file: a BOM is skipped, lines that begin with `#` and empty ones too, white
    /// space around a pattern (so also CR) is not part of it, and a leading slash says nothing.
    pub fn parse(bytes: &[u8]) -> Result<Self, IgnoreError> {
        if is_utf16(bytes) {
            return Err(IgnoreError::Utf16);
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut ignore = Self::default();
        let lines = (1..).zip(bytes.split(|byte| *byte == b'\n'));
        for (number, line) in lines.filter(|(_, line)| !line.starts_with(b"#")) {
            let line = line.trim_ascii();
            let (negated, text) = match line.strip_prefix(b"!") {
                Some(rest) => (true, rest.trim_ascii()),
                None => (false, line),
            };
            let cleaned = if text.is_empty() { Vec::new() } else { clean(text) };
            let cleaned = match &cleaned[..] {
                [b'/', rest @ ..] if !rest.is_empty() => rest,
                other => other,
            };
            ignore.add(negated, cleaned, number).map_err(|mut error| {
                error.pattern = String::from_utf8_lossy(line).chars().take(200).collect();
                IgnoreError::Pattern { line: number, error }
            })?;
        }
        Ok(ignore)
    }

    /// These patterns, as those of a file that messages name so.
    pub fn of_file(self, name: impl Into<String>) -> Self {
        Self { file: Some(name.into()), ..self }
    }

    /// The file that the patterns are from.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// Takes patterns as `--exclude` and `--parents` have them, one each.
    pub fn from_patterns<S: AsRef<str>>(texts: &[S]) -> Result<Self, PatternError> {
        let mut ignore = Self::default();
        for (number, text) in (1..).zip(texts) {
            let text = text.as_ref().trim();
            let cleaned = if text.is_empty() { Vec::new() } else { clean(text.as_bytes()) };
            let added = match cleaned.strip_prefix(b"!") {
                Some(rest) => ignore.add(true, rest, number),
                None => ignore.add(false, &cleaned, number),
            };
            added.map_err(|error| PatternError { pattern: text.chars().take(200).collect(), ..error })?;
        }
        Ok(ignore)
    }

    fn add(&mut self, negated: bool, text: &[u8], line: usize) -> Result<(), PatternError> {
        let error = |reason| PatternError { pattern: String::new(), reason };
        match (negated, text) {
            (true, b"") => return Err(error("nothing follows the `!`")),
            (true, b"/") => return Err(error("the root, which follows the `!`, is always there")),
            (false, b"") => return Ok(()),
            _ => {}
        }
        glob::check_bytes(text).and_then(|()| glob::check_ranges(text)).map_err(error)?;
        self.patterns.push(Pattern { negated, form: Form::of(text), text: text.to_vec(), line });
        Ok(())
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
        !self.is_empty() && self.deciding(path).is_some()
    }

    /// The pattern by which a path matches, itself or through a directory above it.
    pub fn deciding_pattern(&self, path: &TreePath) -> Option<DecidingPattern> {
        let Pattern { text, line, .. } = self.deciding(path)?;
        Some(DecidingPattern { text: String::from_utf8_lossy(text).into_owned(), line: *line })
    }

    fn deciding(&self, path: &TreePath) -> Option<&Pattern> {
        let mut above: Vec<TreePath> = path.ancestors().filter(|above| !above.is_root()).collect();
        above.reverse();
        let mut deciding = None;
        for pattern in &self.patterns {
            if pattern.negated == deciding.is_some()
                && above.iter().chain([path]).any(|path| pattern.matches(path.as_bytes()))
            {
                deciding = (!pattern.negated).then_some(pattern);
            }
        }
        deciding
    }

    /// What a walk from the top knows at a directory.
    pub(crate) fn matched_at(&self, path: &TreePath) -> MatchedPatterns {
        let mut above: Vec<TreePath> = path.ancestors().filter(|above| !above.is_root()).collect();
        above.reverse();
        above
            .iter()
            .chain([path])
            .fold(MatchedPatterns::default(), |matched, path| self.matches_below(path, &matched).1)
    }

    /// As [`Ignore::matches`] during a walk: `parent` is what the directory above gave (the default
    /// at the top).
    pub fn matches_below(&self, path: &TreePath, parent: &MatchedPatterns) -> (bool, MatchedPatterns) {
        let mut by = vec![false; self.patterns.len()];
        let mut matched = false;
        for (index, pattern) in self.patterns.iter().enumerate() {
            by[index] = parent.0.get(index).copied().unwrap_or(false)
                || (pattern.negated == matched && pattern.matches(path.as_bytes()));
            if by[index] {
                matched = !pattern.negated;
            }
        }
        (matched, MatchedPatterns(by))
    }

    /// Whether something below a matched directory could be re-included.
    pub fn may_reinclude_below(&self, directory: &TreePath) -> bool {
        let inside = [directory.as_bytes(), b"/"].concat();
        self.patterns.iter().filter(|pattern| pattern.negated).any(|pattern| {
            let special = pattern.text.iter().position(|byte| b"*?[\\".contains(byte));
            let literal = &pattern.text[..special.unwrap_or(pattern.text.len())];
            literal.starts_with(&inside) || (special.is_some() && inside.starts_with(literal))
                // A pattern that re-includes the directory itself was already asked about the
                // directory.
                || [literal, b"/"].concat() == inside
        })
    }
}

/// Whether text is written in UTF-16: it begins with that encoding's mark, or every other one of
/// its first bytes is 0.
pub fn is_utf16(bytes: &[u8]) -> bool {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        [a, 0, b, 0, ..] | [0, a, 0, b, ..] => *a != 0 && *b != 0,
        _ => false,
    }
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

/// Runs the pattern as the set of positions that it can be at: linear in both lengths, whatever the
/// pattern.
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

/// The shortest path that means the same, as Go's `filepath.Clean` gives it: `.` if nothing is
/// left, and `..` kept where it leads above the start.
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
