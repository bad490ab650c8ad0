//! From a line of shell to the programs that are started.

use std::collections::BTreeMap;

use dbuild_events::StartSeverity;

use super::syntax::{self, Simple, Then};
use crate::analysis::{Analysis, Scope, UNKNOWN_WORD};
use crate::image_files::join;
use crate::verdict::{Finding, Need};

/// What a shell does itself, without effect on what it starts later.
const BUILTINS: [&str; 57] = [
    ":",
    "true",
    "false",
    "echo",
    "printf",
    "test",
    "[",
    "set",
    "umask",
    "ulimit",
    "trap",
    "unset",
    "readonly",
    "wait",
    "read",
    "shift",
    "alias",
    "unalias",
    "type",
    "hash",
    "shopt",
    "local",
    "pwd",
    "jobs",
    "declare",
    "typeset",
    "let",
    "mapfile",
    "readarray",
    "popd",
    "dirs",
    "getopts",
    "caller",
    "complete",
    "compgen",
    "compopt",
    "enable",
    "disown",
    "bind",
    "times",
    "help",
    "history",
    "fc",
    "suspend",
    "kill",
    "bg",
    "fg",
    "break",
    "continue",
    "integer",
    "print",
    "whence",
    "setopt",
    "unsetopt",
    "autoload",
    "float",
    "vared",
];
/// Of those, what always succeeds.
const SUCCEEDS: [&str; 6] = [":", "true", "echo", "printf", "set", "umask"];

impl Analysis<'_> {
    /// What a shell would start for a line, one command after the other.
    pub(crate) fn run_line(&mut self, line: &str, scope: &Scope) {
        let script = syntax::parse(line, &self.env);
        let mut shell = Shell {
            scope: Scope { by_shell: true, ..scope.clone() },
            env: self.env.clone(),
            ran: false,
            succeeded: true,
            reached: Certainty::Certain,
        };
        let mut commands = script.commands.iter();
        while let Some(simple) = commands.next() {
            let is_last = simple.then != Then::Next || commands.as_slice().is_empty() && !script.cut;
            let decides = is_last && decides(simple, commands.as_slice()) && !script.cut;
            if !self.run_simple(simple, decides, &mut shell) {
                return;
            }
            match simple.then {
                // What stands behind it is for the case that it fails.
                Then::Or => {
                    if shell.reached != Certainty::Certain || !shell.succeeded {
                        self.unknown(format!("what `{}` starts if a command of it fails", shorten(line)));
                    }
                    for other in commands.by_ref() {
                        if matches!(other.then, Then::Next | Then::Background) {
                            break;
                        }
                    }
                    shell.reached = Certainty::Certain;
                }
                Then::And if !shell.succeeded => shell.reached = Certainty::Possible,
                Then::Next | Then::Background => shell.reached = Certainty::Certain,
                _ => {}
            }
        }
        if script.cut {
            self.unknown(format!("what `{}` starts: its shell has to say", shorten(line)));
        }
    }

    /// Whether what comes after it can still be known. Where the command `decides`, the image does
    /// not start without it.
    fn run_simple(&mut self, simple: &Simple, decides: bool, shell: &mut Shell) -> bool {
        shell.succeeded = true;
        shell.env.extend(simple.sets.iter().filter(|_| simple.words.is_empty()).cloned());
        let mut words = &simple.words[..];
        while let [Some(first), rest @ ..] = words
            && matches!(first.as_str(), "exec" | "command" | "builtin")
        {
            let option = rest.first().and_then(Option::as_deref).filter(|word| word.starts_with('-'));
            words = match (first.as_str(), option) {
                ("exec", Some("-a")) => rest.get(2..).unwrap_or_default(),
                (_, Some("-p" | "-c" | "-l" | "--")) => &rest[1..],
                (_, None) => rest,
                // It asks only.
                _ => {
                    shell.succeeded = false;
                    return true;
                }
            };
        }
        let Some((first, rest)) = words.split_first() else { return true };
        let Some(first) = first else {
            self.unknown("what is started: its name is a variable that the image does not set".to_owned());
            return false;
        };
        let known: Vec<&str> = rest.iter().flatten().map(String::as_str).collect();
        match first.as_str() {
            "cd" | "pushd" => return self.change_dir(&known, rest.len(), simple.then, decides, shell),
            "exit" | "return" | "logout" => return false,
            "export" => {
                let sets = known.iter().filter_map(|word| word.split_once('='));
                let sets: Vec<(String, String)> = sets.map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
                shell.env.extend(sets);
            }
            "." | "source" => self.source(known.first().copied(), simple.then, decides, shell),
            "eval" => {
                self.unknown("what `eval` starts".to_owned());
                return false;
            }
            name if BUILTINS.contains(&name) => shell.succeeded = SUCCEEDS.contains(&name),
            _ => self.run_program(first, rest, simple, decides, shell),
        }
        true
    }

    fn run_program(
        &mut self,
        first: &str,
        rest: &[Option<String>],
        simple: &Simple,
        decides: bool,
        shell: &mut Shell,
    ) {
        // What ran before may have made what is not there yet, and a command that is not the last
        // may fail.
        let firm = decides && !shell.ran;
        let worst = if firm { shell.scope.worst } else { shell.scope.worst.min(StartSeverity::MayFail) };
        let argv: Vec<String> = std::iter::once(first.to_owned())
            .chain(rest.iter().map(|word| word.clone().unwrap_or_else(|| UNKNOWN_WORD.to_owned())))
            .collect();
        let path = shell.env.get("PATH").cloned().unwrap_or_default();
        let outer = std::mem::replace(&mut self.env, shell.env.clone());
        self.env.extend(simple.sets.iter().cloned());
        let count = self.finding_count();
        self.run(&argv, &Scope { worst, path, ..shell.scope.clone() });
        self.env = outer;
        // What follows `||` is for the case that it is missing.
        let is_caught = simple.then == Then::Or;
        let is_perhaps = is_caught || shell.reached == Certainty::Possible;
        if is_perhaps && self.drop_findings_after(count) && !is_caught {
            self.unknown(format!("whether `{first}` is needed"));
        }
        shell.ran = true;
        // If it fails, nothing after `&&` matters.
        shell.succeeded = simple.then != Then::Or;
    }

    fn change_dir(
        &mut self,
        words: &[&str],
        count: usize,
        then: Then,
        decides: bool,
        shell: &mut Shell,
    ) -> bool {
        let home = shell.env.get("HOME").cloned().unwrap_or_else(|| "/".to_owned());
        let plain = words.iter().copied().find(|word| !word.starts_with('-'));
        let is_odd =
            words.len() != count || words.contains(&"-") || words.iter().any(|word| word.starts_with('+'));
        if is_odd || shell.env.contains_key("CDPATH") && plain.is_some_and(|dir| !dir.starts_with(['/', '.']))
        {
            self.unknown("what is started: the directory is known only when it runs".to_owned());
            return false;
        }
        let target = join(&shell.scope.cwd, plain.unwrap_or(&home));
        let there = self.view.dir(&target).is_some();
        if !there && !shell.ran && then != Then::Or && shell.reached == Certainty::Certain {
            let severity = if decides { shell.scope.worst } else { StartSeverity::MayFail };
            let text = format!(
                "the command begins with `cd {}`, and there is no directory {target}",
                plain.unwrap_or(&home)
            );
            self.find(
                Finding::new("file-missing", severity.min(shell.scope.worst), text)
                    .need(Need::Path(target.clone())),
            );
        }
        shell.scope.cwd = target;
        shell.succeeded = there;
        there || then != Then::And
    }

    /// An environment of Python puts its programs first; other files are not read.
    fn source(&mut self, file: Option<&str>, then: Then, decides: bool, shell: &mut Shell) {
        shell.succeeded = false;
        let Some(file) = file else { return };
        let path = join(&shell.scope.cwd, file);
        if self.view.walk(&path).is_err() {
            // A name without a slash is looked for in PATH; and what ran before may have made the
            // file.
            let in_path = !file.contains('/') && self.in_path(file, &shell.scope).is_some();
            if shell.reached == Certainty::Possible || shell.ran || then == Then::Or || in_path {
                shell.ran = true;
                return self.unknown(format!("what {path} does, which the command reads"));
            }
            let worst =
                if decides { shell.scope.worst } else { shell.scope.worst.min(StartSeverity::MayFail) };
            let text = format!("the command reads {path}, which is not in the image");
            self.find(Finding::new("file-missing", worst, text).at(path.clone()).need(Need::Path(path)));
            return;
        }
        match path.strip_suffix("/activate") {
            Some(dir) => {
                let before = shell.env.get("PATH").cloned().unwrap_or_default();
                shell.env.insert("PATH".to_owned(), format!("{dir}:{before}"));
            }
            // It can set anything, and define functions.
            None => {
                shell.ran = true;
                shell.scope.worst = shell.scope.worst.min(StartSeverity::Advice);
                self.unknown(format!("what {path} does, which the command reads"));
            }
        }
    }
}

/// A shell between two commands.
struct Shell {
    scope: Scope,
    env: BTreeMap<String, String>,
    /// A program ran, or a file was read, that can have changed files and variables.
    ran: bool,
    /// Whether the next command runs.
    reached: Certainty,
    /// The last command surely did.
    succeeded: bool,
}

/// Whether a command of a line is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Certainty {
    Certain,
    Possible,
}

/// Whether all comes to nothing if a command fails: nothing of the line catches that or goes on
/// after it.
fn decides(simple: &Simple, after: &[Simple]) -> bool {
    let mut then = simple.then;
    for next in after {
        if then != Then::And {
            return false;
        }
        then = next.then;
    }
    matches!(then, Then::End | Then::And | Then::Next)
}

/// A line, shortened for a sentence.
pub(crate) fn shorten(line: &str) -> String {
    let first = line.trim().lines().next().unwrap_or_default();
    match first.char_indices().nth(48) {
        Some((end, _)) => format!("{}…", &first[..end]),
        None => first.to_owned(),
    }
}
