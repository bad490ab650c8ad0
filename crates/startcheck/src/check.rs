//! The whole of it: user, working directory, command.

use std::collections::{BTreeMap, BTreeSet};

use dbuild_oci::{DEFAULT_PATH, ImageConfig, Platform};

use crate::accounts::{NoAccount, Who, who};
use crate::command;
use crate::image_files::{Broken, View};
use crate::loader::Libc;
use crate::program::Scope;
use crate::{Files, Finding, Severity, Start, Verdict, Want};

/// Looks into an image: whether what its config starts can start in its files.
pub fn check(config: &ImageConfig, platform: &Platform, files: &dyn Files) -> Start {
    let command =
        [config.entrypoint.clone().unwrap_or_default(), config.cmd.clone().unwrap_or_default()].concat();
    let mut check = Check::new(config, platform, files);
    if command.is_empty() {
        return check.end(command, Some(Verdict::NoCommand));
    }
    check.workdir();
    let scope = check.scope();
    command::run_config(&mut check, config, &command, &scope);
    check.end(command, None)
}

/// An analysis under way.
pub(crate) struct Check<'a> {
    pub(crate) view: View<'a>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) architecture: String,
    pub(crate) libc: Option<Libc>,
    workdir: String,
    findings: Vec<Finding>,
    unknown: BTreeSet<String>,
}

impl<'a> Check<'a> {
    fn new(config: &ImageConfig, platform: &Platform, files: &'a dyn Files) -> Self {
        let mut env: BTreeMap<String, String> = config
            .env
            .iter()
            .filter_map(|entry| entry.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let (who, account) = match who(files, &config.user) {
            Ok(who) => (who, None),
            Err(error) => (Who::default(), Some(error)),
        };
        env.entry("PATH".to_owned()).or_insert_with(|| DEFAULT_PATH.to_owned());
        let home = if who.home.is_empty() { "/".to_owned() } else { who.home.clone() };
        env.entry("HOME".to_owned()).or_insert(home);
        let view = View::new(files, who);
        // The text may hold `..`, and is entered clean.
        let workdir = entered(&config.working_dir);
        let libc = Libc::of_image(&view);
        let mut check = Self {
            view,
            env,
            architecture: platform.architecture.clone(),
            libc,
            workdir,
            findings: Vec::new(),
            unknown: BTreeSet::new(),
        };
        check.account(account);
        check
    }

    fn account(&mut self, error: Option<NoAccount>) {
        let (what, name, file, add) = match error {
            None => return,
            Some(NoAccount::Unread(file)) => return self.unknown(format!("the user: {file} is not at hand")),
            Some(NoAccount::User(name)) => ("user", name, "/etc/passwd", "useradd"),
            Some(NoAccount::Group(name)) => ("group", name, "/etc/group", "groupadd"),
        };
        self.find(Finding {
            path: Some(file.to_owned()),
            help: vec![format!("make the {what} in this stage (RUN {add} {name}), or give USER a number")],
            ..Finding::new(
                "user-unknown",
                Severity::WillNotStart,
                format!("USER names the {what} `{name}`, which {file} does not have"),
            )
        });
    }

    fn workdir(&mut self) {
        let path = self.workdir.clone();
        let finding = match self.view.walk(&path) {
            Ok(place) if !place.node.is_dir() => {
                Finding::new("workdir", Severity::WillNotStart, format!("WORKDIR {path} is no directory"))
            }
            Ok(place) if !self.view.who.may(&place.node, 1) => {
                let text = format!("WORKDIR {path} cannot be entered by user {}", self.view.who.uid);
                Finding::new("workdir", Severity::MayFail, text)
            }
            Ok(_) => return,
            Err(Broken::AtRunTime(_)) => return,
            Err(Broken::Missing { .. }) => {
                let text = format!(
                    "WORKDIR {path} is not in the image: Docker makes it when it starts, others refuse"
                );
                Finding::new("workdir", Severity::Advice, text)
            }
            Err(Broken::Denied(dir)) => {
                let text = format!(
                    "WORKDIR {path} cannot be reached: user {} may not enter {dir}",
                    self.view.who.uid
                );
                Finding::new("workdir", Severity::MayFail, text)
            }
            Err(Broken::NotADirectory(at)) => Finding::new(
                "workdir",
                Severity::WillNotStart,
                format!("WORKDIR {path} leads through {at}, which is no directory"),
            ),
            Err(Broken::Loop(_)) => Finding::new(
                "workdir",
                Severity::WillNotStart,
                format!("WORKDIR {path} is a link in a circle"),
            ),
        };
        self.find(Finding { path: Some(path), ..finding });
    }

    fn scope(&self) -> Scope {
        Scope {
            cwd: self.workdir.clone(),
            path: self.env.get("PATH").cloned().unwrap_or_default(),
            worst: Severity::WillNotStart,
            by: None,
            by_shell: false,
            shell: None,
            depth: 0,
        }
    }

    /// Takes a finding, once.
    pub(crate) fn find(&mut self, finding: Finding) {
        if !self.findings.iter().any(|known| known.text == finding.text) {
            self.findings.push(finding);
        }
    }

    /// How much was found so far.
    pub(crate) fn told(&self) -> usize {
        self.findings.len()
    }

    /// Takes back what was found after that; whether there was anything.
    pub(crate) fn forget_since(&mut self, told: usize) -> bool {
        let any = self.findings.len() > told;
        self.findings.truncate(told);
        any
    }

    /// Notes what cannot be known.
    pub(crate) fn unknown(&mut self, what: String) {
        self.unknown.insert(what);
    }

    fn end(mut self, command: Vec<String>, verdict: Option<Verdict>) -> Start {
        self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        let worst = self.findings.first().map(|finding| finding.severity);
        let verdict = verdict.unwrap_or(match worst {
            Some(Severity::WillNotStart) => Verdict::WillNotStart,
            Some(Severity::MayFail) => Verdict::MayFail,
            _ if !self.unknown.is_empty() => Verdict::Unknown,
            _ => Verdict::Starts,
        });
        Start { command, verdict, findings: self.findings, unknown: self.unknown.into_iter().collect() }
    }
}

impl Finding {
    /// One without path, help or want.
    pub(crate) fn new(rule: &'static str, severity: Severity, text: String) -> Self {
        Self { rule, severity, text, path: None, help: Vec::new(), wants: None }
    }

    pub(crate) fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    pub(crate) fn at(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    pub(crate) fn wants(mut self, want: Want) -> Self {
        self.wants = Some(want);
        self
    }
}

/// Where a container starts whose config has this WORKDIR.
fn entered(workdir: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in workdir.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}
