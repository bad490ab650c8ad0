//! A Dockerfile's text and places in it.

use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;

/// The text that spans and diagnostics refer to.
#[derive(Clone, Debug)]
pub struct Source {
    /// What people call the file: `Dockerfile`.
    pub name: String,
    /// The whole text.
    pub text: String,
    /// Where lines end, found when somebody asks for one: a plan of thousands of steps asks for
    /// each.
    newlines: OnceLock<Box<[usize]>>,
}

impl Source {
    /// A source from its text.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), newlines: OnceLock::new() }
    }

    /// A source from bytes; what is not UTF-8 becomes U+FFFD.
    pub fn from_bytes(name: impl Into<String>, bytes: &[u8]) -> Self {
        Self::new(name, String::from_utf8_lossy(bytes))
    }

    /// The line in which a byte stands, from 1.
    pub fn line_of(&self, offset: usize) -> u32 {
        let newlines = self.newlines.get_or_init(|| {
            let bytes = self.text.bytes().enumerate();
            bytes.filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect()
        });
        let before = newlines.partition_point(|at| *at < offset);
        u32::try_from(before).unwrap_or(u32::MAX - 1) + 1
    }

    /// The line of a byte, from 1, and how many characters stand before it there.
    pub fn position_of(&self, offset: usize) -> (u32, u32) {
        let at =
            (0..=offset.min(self.text.len())).rev().find(|at| self.text.is_char_boundary(*at)).unwrap_or(0);
        let before = &self.text[..at];
        let in_line = before.rsplit('\n').next().unwrap_or_default().chars().count();
        (self.line_of(at), u32::try_from(in_line).unwrap_or(u32::MAX))
    }

    /// The words that a span covers; empty where the span does not fit the text.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.range()).unwrap_or_default()
    }
}

/// A range of bytes of a [`Source`].
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// A span from its ends.
    pub const fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The same as a range.
    pub const fn range(self) -> Range<usize> {
        self.start..self.end
    }

    /// The smallest span that covers both.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}..{}", self.start, self.end)
    }
}

/// A piece of text and where it came from. The text can differ from the source: quotes of flags and
/// escapes of JSON are removed, and continuation lines are joined.
#[derive(Clone, PartialEq, Eq)]
pub struct Word {
    /// The text.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

impl Word {
    /// A word.
    pub fn new(text: impl Into<String>, span: Span) -> Self {
        Self { text: text.into(), span }
    }

    /// The span of a part of the text; that of the whole word where it is not known.
    pub fn part(&self, range: Range<usize>) -> Span {
        let direct = self.span.end - self.span.start == self.text.len() && range.end <= self.text.len();
        if direct && range.start < range.end {
            Span::new(self.span.start + range.start, self.span.start + range.end)
        } else {
            self.span
        }
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}{:?}", self.text, self.span)
    }
}
