//! Will an image start? What stands in its files is followed as the kernel, the dynamic loader, the shell and the
//! interpreter of its command would follow it; nothing is run.
//!
//! What is known to be wrong is said with the reason. What cannot be known without running it is said to be unknown, and
//! never guessed. The files come through [`Files`]: this module knows neither stores nor directories, and reads of large
//! files only the parts that matter.

mod accounts;
mod check;
mod command;
mod elf;
mod image_files;
mod loader;
mod node;
mod program;
mod python;
mod remedies;
mod shell;
mod strings;
#[cfg(test)]
mod tests;
mod verdict;
mod wrappers;

use dbuild_events::{Event, StartFinding};
use serde::Serialize;

pub use check::check;
pub use image_files::{Files, Node, NodeKind};
pub use remedies::{Stage, add_remedies};
pub use verdict::{line, quoted};

/// What is known of an image's start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Start {
    /// ENTRYPOINT and CMD together.
    pub command: Vec<String>,
    /// What it comes to.
    pub verdict: Verdict,
    /// What is wrong, or could be; the worst first.
    pub findings: Vec<Finding>,
    /// What could not be looked into, and why.
    pub unknown: Vec<String>,
}

/// Whether it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All that it needs to start is there, as far as that stands in files.
    Starts,
    /// It depends on what happens when it runs.
    MayFail,
    /// Something without which it cannot start is missing.
    WillNotStart,
    /// Too little is known.
    Unknown,
    /// The image says no command.
    NoCommand,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Advice,
    /// The image may fail when it is started.
    MayFail,
    /// The image does not start.
    WillNotStart,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its kind, for programs: `program-missing`.
    pub rule: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong and where, in one sentence without its full stop.
    pub text: String,
    /// The path in the image that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What to try.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub help: Vec<String>,
    /// What would mend it, if it were there.
    #[serde(skip)]
    pub wants: Option<Want>,
}

/// Something that is not in the image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// A program, looked for in PATH.
    Program(String),
    /// A file or directory.
    Path(String),
    /// A shared library.
    Library(String),
    /// The standard library of Python, in some version, below this directory.
    PythonLibrary(String),
    /// A module of Python, by its top name, and where the image's python looks for such.
    Module(String, String),
}

/// How a reason ends that can be another one tomorrow: the layer that has the bytes was not unpacked.
const NOT_AT_HAND: &str = "not at hand";

impl Start {
    /// Whether looking again at the same image would find the same, whatever was unpacked in the meantime.
    pub fn is_final(&self) -> bool {
        !self.unknown.iter().any(|what| what.ends_with(NOT_AT_HAND))
    }
}

impl Verdict {
    /// Its name in events and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Starts => "starts",
            Verdict::MayFail => "may_fail",
            Verdict::WillNotStart => "will_not_start",
            Verdict::Unknown => "unknown",
            Verdict::NoCommand => "no_command",
        }
    }
}

impl Severity {
    /// Its name in events and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Advice => "advice",
            Severity::MayFail => "may_fail",
            Severity::WillNotStart => "will_not_start",
        }
    }
}

impl Start {
    /// As builds tell it.
    pub fn event(&self, stage: u32) -> Event {
        let findings = self.findings.iter().map(|finding| StartFinding {
            severity: finding.severity.name().to_owned(),
            rule: finding.rule.to_owned(),
            text: finding.text.clone(),
            help: finding.help.clone(),
        });
        let (verdict, findings) = (self.verdict.name().to_owned(), findings.collect());
        Event::StartChecked { stage, verdict, line: line(self), findings }
    }

    /// The worst finding.
    pub fn worst(&self) -> Option<&Finding> {
        self.findings.first()
    }
}
