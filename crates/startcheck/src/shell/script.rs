//! What a shell script starts in the end.

use dbuild_events::StartSeverity;

use super::syntax;
use crate::analysis::{Analysis, Scope};

impl Analysis<'_> {
    /// What a script ends as: the lines at its margin that say `exec`.
    pub(super) fn script_execs(&mut self, path: &str, text: &str, arguments: &[String], scope: &Scope) {
        let by = Some(path.to_owned());
        let inner = Scope {
            worst: scope.worst.min(StartSeverity::MayFail),
            by,
            by_shell: true,
            depth: scope.depth + 1,
            ..scope.clone()
        };
        // Another program can be started in a branch, and its lines can change what the last one
        // starts.
        const DECIDES: [&str; 9] =
            ["set -- ", "shift", "case ", "cd ", "PATH=", "exit", ". /", "source ", "eval "];
        let mut decided = false;
        for line in text.lines() {
            let said = line.trim_start();
            let is_inner = said.len() < line.len() && said.contains("exec ");
            decided |= !said.starts_with('#') && (is_inner || DECIDES.iter().any(|word| said.contains(word)));
            let Some(line) = line.strip_prefix("exec ").map(str::trim) else { continue };
            if matches!(line, "\"$@\"" | "$@") {
                // The arguments are CMD's; a word with a dash is an option for what the script puts
                // before it.
                if arguments.first().is_some_and(|word| !word.starts_with('-')) {
                    let count = self.finding_count();
                    self.run(arguments, &Scope { by_shell: false, ..inner.clone() });
                    if decided && self.drop_findings_after(count) {
                        self.unknown(format!("what {path} makes of `{}`", arguments.join(" ")));
                    }
                }
            } else if !line.starts_with(['<', '>', '&'])
                && line.chars().next().is_some_and(|c| !c.is_ascii_digit())
            {
                let line = line.replace("\"$@\"", "");
                let script = syntax::parse(&line, &self.env);
                if !script.cut
                    && script
                        .commands
                        .first()
                        .is_some_and(|simple| simple.words.first().is_some_and(Option::is_some))
                {
                    let count = self.finding_count();
                    self.run_line(&line, &inner);
                    if decided && self.drop_findings_after(count) {
                        self.unknown(format!("what {path} starts in the end"));
                    }
                    // Nothing after it is run.
                    return;
                }
            }
        }
    }
}
