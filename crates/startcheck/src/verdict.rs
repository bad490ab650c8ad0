//! What is known of a start, in words.

use std::fmt;

use crate::{Severity, Start, Verdict};

/// One line for the end of a build.
pub fn line(start: &Start) -> String {
    let worst = start.worst().map(|finding| finding.text.as_str()).unwrap_or_default();
    match start.verdict {
        Verdict::Starts => format!("starts: {}", quoted(&start.command)),
        Verdict::MayFail => format!("may not start: {worst}"),
        Verdict::WillNotStart => format!("will not start: {worst}"),
        Verdict::Unknown => {
            let why = start.unknown.first().map(String::as_str).unwrap_or_default();
            format!("starts: {}, as far as can be told (not known: {why})", quoted(&start.command))
        }
        Verdict::NoCommand => "starts: nothing, there is no ENTRYPOINT and no CMD".to_owned(),
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
            Verdict::Starts => write!(f, "starts: {command}")?,
            Verdict::MayFail => write!(f, "may not start: {command}")?,
            Verdict::WillNotStart => write!(f, "will not start: {command}")?,
            Verdict::Unknown => write!(f, "starts, as far as can be told: {command}")?,
            Verdict::NoCommand => write!(f, "starts nothing: the image has no ENTRYPOINT and no CMD")?,
        }
        for finding in &self.findings {
            let word = match finding.severity {
                Severity::WillNotStart => "error",
                Severity::MayFail => "warning",
                Severity::Advice => "note",
            };
            write!(f, "\n\n{word}[{}]: {}", finding.rule, finding.text)?;
            for help in &finding.help {
                write!(f, "\n  help: {}", help.replace('\n', "\n        "))?;
            }
        }
        if !self.unknown.is_empty() {
            write!(f, "\n\nnot known:")?;
        }
        self.unknown.iter().try_for_each(|what| write!(f, "\n  {what}"))
    }
}
