//! What a shell is called with: a line, or a script.

mod line;
mod script;
mod syntax;

use dbuild_events::StartSeverity;

use crate::analysis::{Analysis, Scope};
use crate::image_files::{base_name, join};
use crate::verdict::Finding;

/// A shell that is started.
pub(crate) struct ShellCall<'a> {
    /// The path by which it is called.
    pub(crate) named: &'a str,
    /// Without links.
    pub(crate) real: &'a str,
}

impl Analysis<'_> {
    /// Follows a shell into the line or the script that it is given.
    pub(crate) fn run_shell(&mut self, shell: &ShellCall<'_>, words: &[String], scope: &Scope) {
        let Some(call) = syntax::read_options(words) else { return };
        let name = base_name(shell.named);
        // Files that are read first, and functions that come in variables, can make anything of a
        // name.
        let reads = call.is_login
            || name == "bash"
                && self.env.keys().any(|key| key == "BASH_ENV" || key.starts_with("BASH_FUNC_"));
        let mut scope = scope.clone();
        if reads {
            scope.worst = scope.worst.min(StartSeverity::Advice);
            self.unknown(format!("what {name} reads before it begins"));
        }
        scope.shell = Some(shell.real.to_owned());
        if call.has_line {
            return call.word.map_or((), |line| self.run_line(line, &scope));
        }
        let Some(word) = call.word else { return };
        let mut file = word.to_owned();
        // Bash and others look in PATH for what is not in the working directory.
        if !word.contains('/') && !matches!(name, "sh" | "dash" | "ash") {
            let here = join(&scope.cwd, word);
            if self.view.file(&here).is_none()
                && let Some(path) = self.in_path(word, &scope)
            {
                file = path;
            }
        }
        let Some(path) = self.readable_script(&file, name, &scope) else { return };
        let Some(text) = self.view.text(&path, 64 << 10) else {
            return self.unread(&path);
        };
        let first = text.lines().next().unwrap_or_default();
        if text.split('\n').next().is_some_and(|line| line.ends_with('\r')) && !first.is_empty() {
            let finding = Finding::new(
                "crlf",
                StartSeverity::MayFail,
                format!("{path} has Windows line ends, which the shell takes as parts of words"),
            );
            self.find(finding.at(path.clone()).help("save it with Unix line ends"));
        }
        self.script_execs(&path, &text, call.rest, &scope);
    }
}
