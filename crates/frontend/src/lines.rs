//! Physical lines to logical ones: continuation, comments, blank lines, directives.

use std::ops::Range;

use crate::diagnostics::Diagnostic;
use crate::source::{Span, Word};

/// BuildKit reads lines into a buffer of 64 KiB; a longer one is an error there.
const LONGEST_LINE: usize = 65_535;

/// A line after joining, and where its pieces came from.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogicalLine {
    /// The pieces, joined. Neither newlines nor the comments between them.
    pub(crate) text: String,
    /// For each piece: where it begins in `text`, and in the source.
    pieces: Vec<(usize, usize)>,
    /// The text is not in the source (a trigger of a base image): every span is this one.
    fixed: Option<Span>,
}

impl LogicalLine {
    /// A line all of whose spans are the same.
    #[cfg(test)]
    pub(crate) fn fixed(text: &str, span: Span) -> Self {
        Self { text: text.to_owned(), pieces: Vec::new(), fixed: Some(span) }
    }

    fn push(&mut self, piece: &str, source_start: usize) {
        if !piece.is_empty() {
            self.pieces.push((self.text.len(), source_start));
            self.text.push_str(piece);
        }
    }

    /// The span in the source of a part of the joined text.
    pub(crate) fn span(&self, range: Range<usize>) -> Span {
        if let Some(span) = self.fixed {
            return span;
        }
        let start = self.source_offset(range.start);
        if range.end <= range.start {
            return Span::new(start, start);
        }
        // The end belongs to the piece of the last byte, not to the one that begins after it.
        Span::new(start, self.source_offset(range.end - 1) + 1)
    }

    fn source_offset(&self, at: usize) -> usize {
        let index = self.pieces.partition_point(|(begin, _)| *begin <= at);
        match index.checked_sub(1).and_then(|index| self.pieces.get(index)) {
            Some((begin, source)) => source + (at - begin),
            None => self.pieces.first().map_or(0, |(_, source)| *source),
        }
    }

    /// A part of the text as a word.
    pub(crate) fn word(&self, range: Range<usize>) -> Word {
        Word::new(&self.text[range.clone()], self.span(range))
    }

    /// The range without white space at its ends.
    pub(crate) fn trim(&self, range: Range<usize>) -> Range<usize> {
        let text = &self.text[range.clone()];
        let start = range.start + (text.len() - text.trim_start().len());
        let end = start + text.trim().len();
        start..end
    }
}

/// A parser directive: `# escape=` and its kin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// In lower case: `syntax`, `escape` or `check`.
    pub name: String,
    /// The value as written, without white space at its ends.
    pub value: Word,
}

/// A comment line before an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// The text after `#`, trimmed.
    pub text: String,
    /// The whole line.
    pub span: Span,
}

/// One logical line with what belongs to it.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) line: LogicalLine,
    /// The comments right above (an empty comment ends a block of them).
    pub(crate) comments: Vec<Comment>,
    /// Blank lines inside the continuation.
    pub(crate) blanks: Vec<Span>,
}

/// Hands out logical lines, and physical ones for here-documents.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    text: &'a str,
    /// The next physical line's first byte.
    at: usize,
    pub(crate) escape: char,
    pub(crate) directives: Vec<Directive>,
    directives_done: bool,
    fixed: Option<Span>,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a str, fixed: Option<Span>) -> Self {
        let at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Self {
            text,
            at,
            escape: '\\',
            directives: Vec::new(),
            directives_done: false,
            fixed,
            diagnostics: Vec::new(),
        }
    }

    /// The next physical line with its line ending, as a range of the text.
    pub(crate) fn next_physical(&mut self) -> Option<Range<usize>> {
        if self.at >= self.text.len() {
            return None;
        }
        let start = self.at;
        let rest = &self.text[start..];
        let len = rest.find('\n').map_or(rest.len(), |newline| newline + 1);
        self.at = start + len;
        if len > LONGEST_LINE {
            let span = self.span(start..start + 60.min(len));
            self.diagnostics.push(
                Diagnostic::error(span, format!("this line is longer than {LONGEST_LINE} bytes"))
                    .help("move the text into a file of the context, or break the line"),
            );
        }
        Some(start..start + len)
    }

    pub(crate) fn slice(&self, range: Range<usize>) -> &'a str {
        &self.text[range]
    }

    pub(crate) fn span(&self, range: Range<usize>) -> Span {
        self.fixed.unwrap_or(Span::new(range.start, range.end))
    }

    /// The next logical line that holds anything.
    pub(crate) fn next_statement(&mut self) -> Option<Statement> {
        let mut comments = Vec::new();
        loop {
            let range = self.next_physical()?;
            let raw = self.slice(range.clone());
            let body = raw.trim_end_matches(['\r', '\n']).trim_start();
            let start = range.start + (raw.len() - raw.trim_start().len()).min(raw.len());
            if self.directive(body, start) {
                continue;
            }
            if let Some(comment) = body.strip_prefix('#') {
                let text = comment.trim();
                if text.is_empty() {
                    comments.clear();
                } else {
                    let span = self.span(start..start + body.len());
                    comments.push(Comment { text: text.to_owned(), span });
                }
                continue;
            }
            let (piece, continues) = self.without_continuation(body);
            if piece.is_empty() && !continues {
                continue;
            }
            let mut line = LogicalLine { fixed: self.fixed, ..LogicalLine::default() };
            line.push(piece, start);
            let blanks = if continues { self.continuation(&mut line) } else { Vec::new() };
            if line.pieces.is_empty() {
                line.pieces.push((0, start));
            }
            return Some(Statement { line, comments, blanks });
        }
    }

    /// Reads the lines that continue one.
    fn continuation(&mut self, line: &mut LogicalLine) -> Vec<Span> {
        let mut blanks = Vec::new();
        while let Some(range) = self.next_physical() {
            let body = self.slice(range.clone()).trim_end_matches(['\r', '\n']);
            if body.trim_start().starts_with('#') {
                continue;
            }
            if body.trim_start().is_empty() {
                blanks.push(self.span(range.start..range.start + body.len()));
                continue;
            }
            let (piece, continues) = self.without_continuation(body);
            line.push(piece, range.start);
            if !continues {
                break;
            }
        }
        blanks
    }

    /// The line without an escape character at its end, and whether there was one. An escaped
    /// escape does not count.
    fn without_continuation<'b>(&self, body: &'b str) -> (&'b str, bool) {
        let trimmed = body.trim_end_matches([' ', '\t']);
        match trimmed.strip_suffix(self.escape) {
            Some(before) if !before.ends_with(self.escape) => (before, true),
            _ => (body, false),
        }
    }

    /// Reads a parser directive; the first line that is none ends their part of the file.
    fn directive(&mut self, body: &str, start: usize) -> bool {
        if self.directives_done {
            return false;
        }
        let Some((name, value, offset)) = directive_of(body, "#") else {
            self.directives_done = true;
            return false;
        };
        let span = self.span(start..start + body.len());
        let value_span = self.span(start + offset..start + offset + value.len());
        if self.directives.iter().any(|old| old.name == name) {
            let message = format!("there can be only one `{name}` directive");
            self.diagnostics.push(Diagnostic::error(span, message).help("remove this line"));
            return true;
        }
        if name == "escape" {
            match value {
                "\\" => self.escape = '\\',
                "`" => self.escape = '`',
                _ => {
                    let message = format!("`{value}` cannot be the escape character");
                    self.diagnostics
                        .push(Diagnostic::error(value_span, message).label("expected `\\` or a backtick"));
                }
            }
        }
        self.directives.push(Directive { name, value: Word::new(value, value_span) });
        true
    }
}

/// A directive's name in lower case, its value and where the value begins.
pub(crate) fn directive_of<'a>(body: &'a str, prefix: &str) -> Option<(String, &'a str, usize)> {
    let rest = body.strip_prefix(prefix)?.trim_start();
    let name_len = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
    let name = &rest[..name_len];
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let value = rest[name_len..].trim_start().strip_prefix('=')?;
    let value = value.trim_start();
    let offset = body.len() - value.len();
    let value = value.trim_end();
    let name = name.to_ascii_lowercase();
    let known = matches!(name.as_str(), "syntax" | "escape" | "check");
    (known && !value.is_empty()).then_some((name, value, offset))
}

#[cfg(test)]
mod tests {
    use super::Lines;

    fn check(text: &str, expected: &[&str]) {
        let mut lines = Lines::new(text, None);
        let mut found = Vec::new();
        while let Some(statement) = lines.next_statement() {
            let line = &statement.line;
            // Every character that is not at a joint stands where its span says.
            for (at, c) in line.text.char_indices() {
                let span = line.span(at..at + c.len_utf8());
                assert_eq!(&text[span.range()], c.to_string(), "{text:?}");
            }
            found.push(line.text.clone());
        }
        assert_eq!(found, expected, "{text:?}");
        assert_eq!(lines.diagnostics, [], "{text:?}");
    }

    #[test]
    fn lines_are_joined() {
        check("FROM a\nRUN b\n", &["FROM a", "RUN b"]);
        check("\u{feff}FROM a\r\nRUN b \\\r\n  c\r\n", &["FROM a", "RUN b   c"]);
        check("RUN a \\\n# no\n   # no\n\n  b\n", &["RUN a   b"]);
        check("RUN a \\ \t\n b", &["RUN a  b"]);
        check("RUN a \\\\\nRUN b", &["RUN a \\\\", "RUN b"]);
        check("RUN a \\", &["RUN a "]);
        check("\\\nFROM a", &["FROM a"]);
        check("  # c\n\n  FROM a\n", &["FROM a"]);
        check("", &[]);
        check("# only\n\n", &[]);
        check("# escape=`\nRUN a `\n  b \\\nRUN c", &["RUN a   b \\", "RUN c"]);
        check("# x\n# escape=`\nRUN a `\nRUN b", &["RUN a `", "RUN b"]);
        check("RUN é\\\nü", &["RUN éü"]);
    }

    #[test]
    fn directives_are_read() {
        let mut lines =
            Lines::new("# Syntax = docker/dockerfile:1 \n#check=skip=all\n#escape=`\nFROM a", None);
        assert!(lines.next_statement().is_some());
        let found: Vec<_> =
            lines.directives.iter().map(|d| (d.name.as_str(), d.value.text.as_str())).collect();
        assert_eq!(found, [("syntax", "docker/dockerfile:1"), ("check", "skip=all"), ("escape", "`")]);
        for text in ["# escape=x\n", "# escape=`\n# escape=`\n"] {
            let mut lines = Lines::new(text, None);
            assert!(lines.next_statement().is_none());
            assert_eq!(lines.diagnostics.len(), 1, "{text}");
        }
    }

    #[test]
    fn comments_above_belong_to_a_line() {
        let mut lines = Lines::new("# a\n#\n# b\n# c\nFROM x\n", None);
        let statement = lines.next_statement();
        let texts: Vec<_> = statement.iter().flat_map(|s| &s.comments).map(|c| c.text.as_str()).collect();
        assert_eq!(texts, ["b", "c"]);
    }
}
