//! Errors and warnings that point at words.

use std::fmt;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::source::{Source, Span};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The build cannot go on.
    Error,
    /// It can, but something is likely not meant so.
    Warning,
}

/// A place and what is to be said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The words that are underlined.
    pub span: Span,
    /// What is said of them; may be empty.
    pub text: String,
    /// The place that the message is about; others only explain.
    pub primary: bool,
}

/// One error or warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The name of the check that found it, as `docker build --check` has it.
    pub rule: Option<&'static str>,
    /// What is wrong, in one line.
    pub message: String,
    /// Where, the most important place first. May be empty for faults of the command line.
    pub labels: Vec<Label>,
    /// What to try.
    pub help: Option<String>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        let label = Label { span, text: String::new(), primary: true };
        Self {
            severity: Severity::Error,
            rule: None,
            message: message.into(),
            labels: vec![label],
            help: None,
            notes: Vec::new(),
        }
    }

    /// An error of what the command line asked for: it has no place in the file.
    pub fn placeless(message: impl Into<String>) -> Self {
        Self { labels: Vec::new(), ..Self::error(Span::default(), message) }
    }

    /// A finding of a check.
    pub fn check(rule: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, rule: Some(rule), ..Self::error(span, message) }
    }

    /// Says something at the main place.
    #[must_use]
    pub fn label(mut self, text: impl Into<String>) -> Self {
        if let Some(label) = self.labels.first_mut() {
            label.text = text.into();
        }
        self
    }

    /// Points at another place too.
    #[must_use]
    pub fn also(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into(), primary: false });
        self
    }

    /// Says what to try.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }

    /// Says what to try, if there is something to say.
    #[must_use]
    pub fn maybe_help(self, text: Option<String>) -> Self {
        match text {
            Some(text) => self.help(text),
            None => self,
        }
    }

    /// Adds something worth knowing.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// The line of the main place, from 1.
    pub fn line(&self, source: &Source) -> Option<u32> {
        self.labels.first().map(|label| source.line_of(label.span.start))
    }
}

/// Everything that keeps a Dockerfile from being built; at least one error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{}", diagnostic.message)?;
        }
        Ok(())
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

/// A diagnostic as people read it: file, line, the words underlined, what to try. `color` asks for
/// ANSI sequences. Ends without a newline.
pub fn render(diagnostic: &Diagnostic, source: &Source, color: bool) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let message = printable(&diagnostic.message);
    let excerpt = Excerpt::around(&diagnostic.labels, source);
    let mut title = level.primary_title(message.as_str());
    if let Some(rule) = diagnostic.rule {
        title = title.id(rule);
    }
    let mut report: Vec<Group<'_>> = Vec::new();
    let mut group = Group::with_title(title);
    if !excerpt.labels.is_empty() {
        let mut snippet =
            Snippet::source(excerpt.text.as_str()).line_start(excerpt.first_line).path(source.name.as_str());
        for label in &excerpt.labels {
            let kind = if label.primary { AnnotationKind::Primary } else { AnnotationKind::Context };
            let text = Some(label.text.as_str()).filter(|text| !text.is_empty());
            snippet = snippet.annotation(kind.span(label.span.range()).label(text));
        }
        group = group.element(snippet);
    }
    let notes: Vec<String> = diagnostic.notes.iter().map(|note| printable(note)).collect();
    for note in &notes {
        group = group.element(Level::NOTE.message(note.as_str()));
    }
    let help = diagnostic.help.as_deref().map(printable);
    if let Some(help) = &help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    report.push(group);
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    renderer.render(&report)
}

/// The part of the source that a renderer needs to see: a hostile file has lines of a megabyte.
struct Excerpt {
    text: String,
    first_line: usize,
    labels: Vec<Label>,
}

impl Excerpt {
    const LONGEST_LINE: usize = 512;
    const MOST_LINES: usize = 12;

    fn around(labels: &[Label], source: &Source) -> Self {
        let Some(main) = labels.first() else {
            return Self { text: String::new(), first_line: 1, labels: Vec::new() };
        };
        let from = labels.iter().map(|label| label.span.start).min().unwrap_or(main.span.start);
        let first_line = source.line_of(from) as usize;
        let mut text = String::new();
        // Where each kept line begins in the source and in the excerpt, and how much of it is kept.
        let mut kept: Vec<(usize, usize, usize)> = Vec::new();
        let mut offset = 0;
        for (index, line) in source.text.split_inclusive('\n').enumerate() {
            let start = offset;
            offset += line.len();
            if index + 1 < first_line {
                continue;
            }
            if !Self::is_wanted(labels, start, start + line.len()) {
                // A line that is not pointed at keeps its number and loses its text.
                text.push('\n');
                continue;
            }
            let body = line.trim_end_matches(['\n', '\r']);
            let cut = floor_boundary(body, Self::LONGEST_LINE);
            kept.push((start, text.len(), cut));
            text.push_str(&body[..cut]);
            text.push('\n');
            if kept.len() >= Self::MOST_LINES {
                break;
            }
        }
        if kept.is_empty() {
            kept.push((source.text.len(), text.len(), 0));
            text.push('\n');
        }
        let place = |at: usize| {
            let line = kept.iter().rev().find(|(start, ..)| *start <= at).copied();
            let (start, begin, len) = line.unwrap_or(kept[0]);
            begin + at.saturating_sub(start).min(len)
        };
        let labels = labels
            .iter()
            .map(|label| {
                let start = place(label.span.start);
                let end = place(label.span.end.max(label.span.start)).max(start);
                Label { span: Span::new(start, end), text: printable(&label.text), primary: label.primary }
            })
            .collect();
        Self { text: without_controls(&text), first_line, labels }
    }

    fn is_wanted(labels: &[Label], start: usize, end: usize) -> bool {
        labels.iter().any(|label| {
            let last = label.span.end.saturating_sub(1).max(label.span.start);
            label.span.start < end && last >= start
        })
    }
}

fn floor_boundary(text: &str, most: usize) -> usize {
    let mut at = text.len().min(most);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Control characters of a source would reach the terminal. Each is one byte before and after, so
/// places stay right.
fn without_controls(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_control() && c != '\n' && c != '\t' { '?' } else { c }).collect()
}

/// A message holds words of the file, so it is bounded and stays on its line.
fn printable(text: &str) -> String {
    const LONGEST: usize = 600;
    let cut = floor_boundary(text, LONGEST);
    let mut out: String = text[..cut]
        .chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' => ' ',
            c if c.is_control() => '?',
            c => c,
        })
        .collect();
    if cut < text.len() {
        out.push('…');
    }
    out
}
