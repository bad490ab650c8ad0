//! From ENTRYPOINT and CMD, or a line of shell, to the programs that are started.

use std::collections::BTreeMap;

use dbuild_oci::ImageConfig;

use super::check::Check;
use super::files::join;
use super::program::Scope;
use super::shell::{self, Simple, Then};
use super::{Finding, Severity, Want};

/// What a shell does itself, without effect on what it starts later.
const BUILTINS: [&str; 26] = [
    ":", "true", "false", "echo", "printf", "test", "[", "set", "umask", "ulimit", "trap", "unset",
    "readonly", "wait", "read", "exit", "shift", "alias", "unalias", "type", "hash", "shopt", "local", "pwd",
    "return", "jobs",
];

/// The image's own command.
pub(super) fn run_config(check: &mut Check<'_>, config: &ImageConfig, argv: &[String], scope: &Scope) {
    let entrypoint = config.entrypoint.as_deref().unwrap_or_default();
    let from = if entrypoint.is_empty() { "CMD" } else { "ENTRYPOINT" };
    let form = if entrypoint.is_empty() { config.cmd.as_deref().unwrap_or_default() } else { entrypoint };
    if let [shell, flag, line, ..] = form
        && flag == "-c"
        && shell.starts_with('/')
    {
        if line.trim_start().starts_with("['") && line.contains('\'') {
            let text = format!("{from} {line} is run by the shell: it is no JSON, which has double quotes");
            let mended = line.replace('\'', "\"");
            let finding = Finding::new("not-json", scope.worst, text).help(format!("write {from} {mended}"));
            return check.find(finding);
        }
        if check.view.walk(shell).is_err() {
            let text = format!("{from} has the shell form, and {shell} is not in the image");
            let finding = Finding::new("shell-missing", scope.worst, text)
                .help(format!("write it as a list: {from} [\"program\", \"argument\"]"))
                .wants(Want::Path(shell.clone()));
            return check.find(finding.at(shell.clone()));
        }
    }
    check.run(argv, scope);
}

impl Check<'_> {
    /// What a shell would start for a line, one command after the other.
    pub(super) fn run_line(&mut self, line: &str, scope: &Scope) {
        let script = shell::parse(line, &self.env);
        let mut shell =
            Shell { scope: Scope { by_shell: true, ..scope.clone() }, env: self.env.clone(), ran: false };
        for simple in &script.commands {
            if !self.run_simple(simple, &mut shell) {
                return;
            }
        }
        if script.cut {
            self.unknown(format!("what `{}` starts: its shell has to say", shorten(line)));
        }
    }

    /// Whether what comes after it can still be told.
    fn run_simple(&mut self, simple: &Simple, shell: &mut Shell) -> bool {
        shell.env.extend(simple.sets.iter().filter(|_| simple.words.is_empty()).cloned());
        let mut words = &simple.words[..];
        while let [Some(first), rest @ ..] = words
            && matches!(first.as_str(), "exec" | "command" | "builtin")
        {
            words = rest;
        }
        let Some((first, rest)) = words.split_first() else { return true };
        let Some(first) = first else {
            self.unknown("what is started: its name is a variable that the image does not set".to_owned());
            return false;
        };
        let known: Vec<&str> = rest.iter().flatten().map(String::as_str).collect();
        match first.as_str() {
            "cd" => return self.change_dir(known.first().copied(), simple.then, shell),
            "export" => {
                let sets = known.iter().filter_map(|word| word.split_once('='));
                let sets: Vec<(String, String)> = sets.map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
                shell.env.extend(sets);
            }
            "." | "source" => self.source(known.first().copied(), shell),
            "eval" => {
                self.unknown("what `eval` starts".to_owned());
                return false;
            }
            name if BUILTINS.contains(&name) => {}
            _ if simple.then == Then::Or => return false,
            _ => {
                // What ran before may have made what is not there yet, and a command that is not the last may fail.
                let firm = !shell.ran && !matches!(simple.then, Then::Pipe | Then::Background | Then::Next);
                let worst = if firm { shell.scope.worst } else { shell.scope.worst.min(Severity::MayFail) };
                let argv: Vec<String> = std::iter::once(first.clone())
                    .chain(rest.iter().map(|word| word.clone().unwrap_or_else(|| UNKNOWN_WORD.to_owned())))
                    .collect();
                let path = shell.env.get("PATH").cloned().unwrap_or_default();
                let outer = std::mem::replace(&mut self.env, shell.env.clone());
                self.env.extend(simple.sets.iter().cloned());
                self.run(&argv, &Scope { worst, path, ..shell.scope.clone() });
                self.env = outer;
                shell.ran = true;
            }
        }
        true
    }

    fn change_dir(&mut self, dir: Option<&str>, then: Then, shell: &mut Shell) -> bool {
        let home = shell.env.get("HOME").cloned().unwrap_or_else(|| "/".to_owned());
        let target = join(&shell.scope.cwd, dir.unwrap_or(&home));
        let there = self.view.dir(&target).is_some();
        if !there && !shell.ran {
            let severity = if then == Then::And { shell.scope.worst } else { Severity::MayFail };
            let text = format!(
                "the command begins with `cd {}`, and there is no directory {target}",
                dir.unwrap_or(&home)
            );
            self.find(Finding::new("file-missing", severity, text).wants(Want::Path(target.clone())));
        }
        shell.scope.cwd = target;
        there || then != Then::And
    }

    /// An environment of Python puts its programs first; other files are not read.
    fn source(&mut self, file: Option<&str>, shell: &mut Shell) {
        let Some(file) = file else { return };
        let path = join(&shell.scope.cwd, file);
        if self.view.file(&path).is_none() {
            let text = format!("the command reads {path}, which is not in the image");
            self.find(
                Finding::new("file-missing", shell.scope.worst, text)
                    .at(path.clone())
                    .wants(Want::Path(path)),
            );
            return;
        }
        match path.strip_suffix("/activate") {
            Some(dir) => {
                let before = shell.env.get("PATH").cloned().unwrap_or_default();
                shell.env.insert("PATH".to_owned(), format!("{dir}:{before}"));
            }
            // It can set anything.
            None => shell.ran = true,
        }
    }
}

/// Stands for a word that is known only when the command runs.
pub(super) const UNKNOWN_WORD: &str = "\u{fffd}";

/// A shell between two commands.
struct Shell {
    scope: Scope,
    env: BTreeMap<String, String>,
    /// A program ran, or a file was read, that can have changed files and variables.
    ran: bool,
}

/// A line as it stands in a sentence.
pub(super) fn shorten(line: &str) -> String {
    let first = line.trim().lines().next().unwrap_or_default();
    match first.char_indices().nth(48) {
        Some((end, _)) => format!("{}…", &first[..end]),
        None => first.to_owned(),
    }
}
