//! What is shown while a build runs. Each view is a sink of events and nothing else: it could be
//! fed from the journal as well.

mod lines;
mod plain;
mod rawjson;
mod tty;

use std::io::IsTerminal as _;
use std::sync::Arc;

use dbuild_events::{Event, EventSink, NoEvents};

use crate::cli::ProgressMode;

/// A view, and what must be called when the build is over so that its last words stand.
pub(crate) trait View: EventSink {
    /// Shows what is left to show; nothing is shown afterwards.
    fn close(&self) {}
}

impl View for NoEvents {}

/// The view that was asked for.
pub(crate) fn view(mode: ProgressMode, quiet: bool) -> Arc<dyn View> {
    let mode = match mode {
        _ if quiet => ProgressMode::Quiet,
        ProgressMode::Auto
            if std::io::stderr().is_terminal()
                && std::env::var_os("TERM").is_none_or(|term| term != "dumb") =>
        {
            ProgressMode::Tty
        }
        ProgressMode::Auto => ProgressMode::Plain,
        mode => mode,
    };
    match mode {
        ProgressMode::Tty => tty::Tty::start(),
        ProgressMode::Rawjson => Arc::new(rawjson::RawJson),
        ProgressMode::Quiet => Arc::new(NoEvents),
        ProgressMode::Plain | ProgressMode::Auto => Arc::new(plain::Plain::new(std::io::stderr())),
    }
}

/// Whether colour may be used on standard error: on a terminal, unless `NO_COLOR` says no.
pub(crate) fn color() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether a warning is about a place in a Dockerfile, or of a check: it was drawn with a heading
/// of its own.
pub(crate) fn brings_heading(rule: &Option<String>, line: Option<u32>) -> bool {
    rule.is_some() || line.is_some()
}

/// Shows notes and warnings alone, where there is nothing else to show.
pub(crate) struct Notes;

impl EventSink for Notes {
    fn emit(&self, event: Event) {
        match event {
            Event::Note { text } => say(&format!("note: {text}")),
            Event::Warning { text, rule, line } => match brings_heading(&rule, line) {
                true => say(&text),
                false => say(&format!("warning: {text}")),
            },
            _ => {}
        }
    }
}

/// The columns of the terminal that standard error is; elsewhere lines may be as long as they are.
pub(crate) fn width() -> usize {
    let size = console::Term::stderr().size_checked().filter(|_| std::io::stderr().is_terminal());
    size.map_or(usize::MAX, |(_, columns)| usize::from(columns).max(20))
}

/// A line on standard error, where no view is.
pub(crate) fn say(text: &str) {
    use std::io::Write as _;
    // A reader that has gone does not stop anything.
    let _ = writeln!(std::io::stderr(), "{text}");
}
