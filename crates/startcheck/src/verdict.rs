//! What is known of an image's start, as data and in words.

use std::fmt;

use dbuild_events::{Event, StartFinding, StartSeverity, StartVerdict};
use serde::{Serialize, Serializer};

/// What is known of an image's start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Start {
    /// ENTRYPOINT and CMD together.
    pub command: Vec<String>,
    /// What it comes to.
    pub verdict: StartVerdict,
    /// What is wrong, or could be; the worst first.
    pub findings: Vec<Finding>,
    /// What could not be looked into, and why.
    pub unknown: Vec<Unknown>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its kind, for programs: `program-missing`.
    pub rule: &'static str,
    /// How bad it is.
    pub severity: StartSeverity,
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
    pub need: Option<Need>,
}

/// Something that the files do not say. In JSON it is its text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unknown {
    /// What is not known, and why.
    pub text: String,
    /// The content of a file is missing, which may be there another time: its layer was not
    /// unpacked.
    pub is_unread: bool,
}

impl Unknown {
    /// What depends on the content of a file that is missing.
    pub(crate) fn unread(what: &str) -> Self {
        Self { text: format!("{what}: the content of the file is not available"), is_unread: true }
    }
}

impl Serialize for Unknown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// Something that is not in the image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
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

impl Start {
    /// Whether looking again at the same image would find the same, whatever was unpacked in the
    /// meantime.
    pub fn is_final(&self) -> bool {
        !self.unknown.iter().any(|unknown| unknown.is_unread)
    }

    /// As builds tell it.
    pub fn event(&self, stage: u32) -> Event {
        let findings = self.findings.iter().map(|finding| StartFinding {
            severity: finding.severity,
            rule: finding.rule.to_owned(),
            text: finding.text.clone(),
            help: finding.help.clone(),
        });
        let findings = findings.collect();
        Event::StartChecked { stage, verdict: self.verdict, line: line(self), findings }
    }

    /// The worst finding.
    pub fn worst(&self) -> Option<&Finding> {
        self.findings.first()
    }
}

impl Finding {
    /// One without path, help or want.
    pub(crate) fn new(rule: &'static str, severity: StartSeverity, text: String) -> Self {
        Self { rule, severity, text, path: None, help: Vec::new(), need: None }
    }

    pub(crate) fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    pub(crate) fn at(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    pub(crate) fn need(mut self, need: Need) -> Self {
        self.need = Some(need);
        self
    }
}

/// One line for the end of a build.
pub fn line(start: &Start) -> String {
    let worst = start.worst().map(|finding| finding.text.as_str()).unwrap_or_default();
    match start.verdict {
        StartVerdict::Starts => format!("starts: {}", quoted(&start.command)),
        StartVerdict::MayFail => format!("may not start: {worst}"),
        StartVerdict::WillNotStart => format!("will not start: {worst}"),
        StartVerdict::Unknown => {
            let why = start.unknown.first().map(|unknown| unknown.text.as_str()).unwrap_or_default();
            format!("starts: {}, as far as files show (not known: {why})", quoted(&start.command))
        }
        StartVerdict::NoCommand => "starts: nothing, there is no ENTRYPOINT and no CMD".to_owned(),
    }
}

/// A command as one would type it; of a shell form, what the shell is given.
pub fn quoted(argv: &[String]) -> String {
    if let [shell, flag, line] = argv
        && flag == "-c"
        && shell.starts_with('/')
    {
        return one_line(line);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    let quote = |word: &String| match !word.is_empty() && word.chars().all(plain) {
        true => word.clone(),
        false => format!("'{}'", one_line(word).replace('\'', r"'\''")),
    };
    argv.iter().map(quote).collect::<Vec<_>>().join(" ")
}

fn one_line(text: &str) -> String {
    text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command = quoted(&self.command);
        match self.verdict {
            StartVerdict::Starts => write!(f, "starts: {command}")?,
            StartVerdict::MayFail => write!(f, "may not start: {command}")?,
            StartVerdict::WillNotStart => write!(f, "will not start: {command}")?,
            StartVerdict::Unknown => write!(f, "starts, as far as files show: {command}")?,
            StartVerdict::NoCommand => write!(f, "starts nothing: the image has no ENTRYPOINT and no CMD")?,
        }
        for finding in &self.findings {
            let word = match finding.severity {
                StartSeverity::WillNotStart => "error",
                StartSeverity::MayFail => "warning",
                StartSeverity::Advice => "note",
            };
            write!(f, "\n\n{word}[{}]: {}", finding.rule, finding.text)?;
            for help in &finding.help {
                write!(f, "\n  help: {}", help.replace('\n', "\n        "))?;
            }
        }
        if !self.unknown.is_empty() {
            write!(f, "\n\nnot known:")?;
        }
        self.unknown.iter().try_for_each(|unknown| write!(f, "\n  {}", unknown.text))
    }
}
