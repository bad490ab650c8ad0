//! The state of an analysis, and what every part of it asks of the image.
//!
//! Shells, wrappers and package managers start programs, and a program may be a shell: they meet
//! here. What starts a program calls [`Analysis::run`], which the root of the analysis fills in, so
//! that no interpreter depends on another.

use std::collections::{BTreeMap, BTreeSet};

use dbuild_events::StartSeverity;

use crate::image_files::{base_name, join};
use crate::loader::Libc;
use crate::verdict::{Finding, Need, Unknown};
use crate::view::{PathError, View};

/// Stands for a word that is known only when the command runs.
pub(crate) const UNKNOWN_WORD: &str = "\u{fffd}";

/// From where a program is started.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) cwd: String,
    /// PATH.
    pub(crate) path: String,
    /// What is missing here is no worse than this.
    pub(crate) worst: StartSeverity,
    /// The file that starts it, for the sentence: `the shebang of /app/run`.
    pub(crate) by: Option<String>,
    /// A shell starts it: it runs files without a shebang itself.
    pub(crate) by_shell: bool,
    /// That shell, without links.
    pub(crate) shell: Option<String>,
    pub(crate) depth: usize,
}

impl Scope {
    /// The image's own command.
    pub(crate) fn of_image(workdir: String, path: String) -> Self {
        Self {
            cwd: workdir,
            path,
            worst: StartSeverity::WillNotStart,
            by: None,
            by_shell: false,
            shell: None,
            depth: 0,
        }
    }
}

/// An analysis in progress.
pub(crate) struct Analysis<'a> {
    pub(crate) view: View<'a>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) architecture: String,
    pub(crate) libc: Option<Libc>,
    run_program: RunProgram,
    findings: Vec<Finding>,
    unknown: BTreeSet<Unknown>,
}

/// What follows a program that is started with these words.
pub(crate) type RunProgram = fn(&mut Analysis<'_>, &[String], &Scope);

impl<'a> Analysis<'a> {
    pub(crate) fn new(
        view: View<'a>,
        env: BTreeMap<String, String>,
        architecture: String,
        run_program: RunProgram,
    ) -> Self {
        let libc = Libc::of_image(&view);
        let (findings, unknown) = (Vec::new(), BTreeSet::new());
        Self { view, env, architecture, libc, run_program, findings, unknown }
    }

    /// Starts a program, as `execvp` would.
    pub(crate) fn run(&mut self, argv: &[String], scope: &Scope) {
        (self.run_program)(self, argv, scope);
    }

    /// Takes a finding, once.
    pub(crate) fn find(&mut self, finding: Finding) {
        if !self.findings.iter().any(|known| known.text == finding.text) {
            self.findings.push(finding);
        }
    }

    /// How much was found so far.
    pub(crate) fn finding_count(&self) -> usize {
        self.findings.len()
    }

    /// Takes back what was found after that; whether there was anything.
    pub(crate) fn drop_findings_after(&mut self, count: usize) -> bool {
        let any = self.findings.len() > count;
        self.findings.truncate(count);
        any
    }

    /// Notes what can only be known by running the image.
    pub(crate) fn unknown(&mut self, text: String) {
        self.unknown.insert(Unknown { text, is_unread: false });
    }

    /// Notes that the content of a file is missing: `what` depends on it.
    pub(crate) fn unread(&mut self, what: &str) {
        self.unknown.insert(Unknown::unread(what));
    }

    /// What was found, and what stays unknown.
    pub(crate) fn finish(self) -> (Vec<Finding>, Vec<Unknown>) {
        (self.findings, self.unknown.into_iter().collect())
    }

    /// Where a program's name leads in PATH, executable or not.
    pub(crate) fn in_path(&self, name: &str, scope: &Scope) -> Option<String> {
        let dirs = scope.path.split(':').map(|dir| join(&scope.cwd, dir));
        let all: Vec<String> =
            dirs.map(|dir| join(&dir, name)).filter(|path| self.view.file(path).is_some()).collect();
        let runs =
            |path: &&String| self.view.file(path).is_some_and(|place| self.view.user.may(&place.node, 1));
        all.iter().find(runs).or(all.first()).cloned()
    }

    /// The file that an interpreter is to read, if it is there and may be read.
    pub(crate) fn readable_script(&mut self, file: &str, reader: &str, scope: &Scope) -> Option<String> {
        if file.contains(UNKNOWN_WORD) {
            self.unknown(format!("what {reader} is to read: it is known only when it runs"));
            return None;
        }
        let path = join(&scope.cwd, file);
        let finding = match self.view.walk(&path) {
            Ok(place) if self.view.user.may(&place.node, 4) => return Some(path),
            Ok(_) => {
                let text = format!("{reader} is to read {path}, which user {} may not", self.view.user.uid);
                Finding::new("no-permission", scope.worst, text)
                    .help(format!("COPY it with --chown or --chmod, or RUN chmod o+r {path}"))
            }
            Err(PathError::AtRunTime(_)) => {
                self.unknown(format!("what {reader} reads from {path}"));
                return None;
            }
            Err(PathError::Denied(dir)) => {
                let text =
                    format!("{reader} is to read {path}: user {} may not enter {dir}", self.view.user.uid);
                Finding::new("no-permission", scope.worst, text)
            }
            Err(PathError::Missing { path: missing, .. }) => {
                let text = match missing == path {
                    true => format!("{reader} is to read {path}, which is not in the image"),
                    false => format!(
                        "{reader} is to read {path}, which leads to {missing}, which is not in the image"
                    ),
                };
                let mut finding = Finding::new("file-missing", scope.worst, text).need(Need::Path(missing));
                let elsewhere =
                    ["/", "/app", "/src", "/usr/src/app", "/code"].map(|dir| join(dir, base_name(file)));
                if let Some(other) =
                    elsewhere.iter().find(|other| **other != path && self.view.file(other).is_some())
                {
                    finding = finding.help(format!("it is at {other}: set WORKDIR, or name that path"));
                }
                finding
            }
            Err(_) => Finding::new(
                "file-missing",
                scope.worst,
                format!("{reader} is to read {path}, which leads nowhere"),
            ),
        };
        self.find(finding.at(path));
        None
    }
}
