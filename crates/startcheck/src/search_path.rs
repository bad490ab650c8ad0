//! Where a program's name leads.

use crate::analysis::{Analysis, Scope};
use crate::image_files::join;
use crate::strings;
use crate::verdict::{Finding, Need};
use crate::view::{Location, PathError};

impl Analysis<'_> {
    /// The file of a program, named by its path or looked for in PATH; what is wrong with it is a
    /// finding.
    pub(crate) fn find_program(&mut self, name: &str, scope: &Scope) -> Option<Location> {
        let by = scope.by.as_ref().map(|by| format!(" (from {by})")).unwrap_or_default();
        let path = match name.contains('/') {
            true => join(&scope.cwd, name),
            false => match self.in_path(name, scope) {
                Some(path) => path,
                None => {
                    self.program_missing(name, &by, scope);
                    return None;
                }
            },
        };
        let worst = scope.worst;
        let finding = match self.view.walk(&path) {
            Ok(place) if !place.node.is_file() => {
                Finding::new("not-executable", worst, format!("{path} is not a file{by}"))
            }
            Ok(place) if !self.view.user.may(&place.node, 1) => {
                let (mode, uid) = (place.node.mode, self.view.user.uid);
                let text = match mode & 0o111 {
                    0 => format!("{path} is not executable (its mode is {mode:04o}){by}"),
                    _ => format!(
                        "user {uid} may not execute {path} (its mode is {mode:04o}, its owner {}){by}",
                        place.node.uid
                    ),
                };
                Finding::new("not-executable", worst, text)
                    .help(format!("COPY it with --chmod=755, or RUN chmod +x {path}"))
            }
            Ok(place) => return Some(place),
            Err(PathError::Missing { path: missing, link }) => {
                let text = match link {
                    Some(link) if missing != path => format!(
                        "{path} is not there: the link {link} leads to {missing}, which is missing{by}"
                    ),
                    _ => format!("{path} is not in the image{by}"),
                };
                Finding::new("program-missing", worst, text).need(Need::Path(missing))
            }
            Err(PathError::AtRunTime(at)) => {
                self.unknown(format!("what {path} is: {at} is there only when it runs"));
                return None;
            }
            Err(PathError::Denied(dir)) => {
                let text =
                    format!("{path} cannot be reached: user {} may not enter {dir}{by}", self.view.user.uid);
                Finding::new("no-permission", worst, text).help(format!(
                    "copy it to where everybody may read, or open the way with RUN chmod o+x {dir}"
                ))
            }
            Err(PathError::NotADirectory(at)) => Finding::new(
                "program-missing",
                worst,
                format!("{path} leads through {at}, which is no directory{by}"),
            ),
            Err(PathError::Loop(_)) => Finding::new(
                "program-missing",
                worst,
                format!("{path} leads into a cycle of symbolic links{by}"),
            ),
        };
        self.find(finding.at(path));
        None
    }

    /// Whether a shell may know a name without a file of it: busybox has the programs that it is
    /// made of inside.
    fn is_inside(&self, name: &str, scope: &Scope) -> bool {
        let Some(shell) = scope.shell.as_ref().filter(|_| scope.by_shell) else { return false };
        strings::has_applet(&self.view, shell, name).unwrap_or(true)
    }

    fn program_missing(&mut self, name: &str, by: &str, scope: &Scope) {
        if self.is_inside(name, scope) {
            return self
                .unknown(format!("whether the shell has `{name}` inside: no directory of PATH has it"));
        }
        let mut finding =
            Finding::new("program-missing", scope.worst, format!("{name} is in no directory of PATH{by}"))
                .need(Need::Program(name.to_owned()));
        if name.contains(' ') && !scope.by_shell {
            let words: Vec<String> = name.split_whitespace().map(|word| format!("\"{word}\"")).collect();
            finding = finding.help(format!("a list has one word to a string: [{}]", words.join(", ")));
        }
        // Left in a place that PATH does not name.
        let places = [
            "/app/venv/bin",
            "/app/.venv/bin",
            "/venv/bin",
            "/opt/venv/bin",
            "/root/.local/bin",
            "/app",
            "/app/bin",
        ];
        let places = places.map(str::to_owned).into_iter().chain([
            join(&scope.cwd, "node_modules/.bin"),
            join(&scope.cwd, "venv/bin"),
            join(&scope.cwd, ".venv/bin"),
            scope.cwd.clone(),
        ]);
        if let Some(dir) = places.into_iter().find(|dir| self.view.file(&join(dir, name)).is_some()) {
            finding = finding
                .help(format!("it is in {dir}: set ENV PATH=\"{dir}:$PATH\", or name {}", join(&dir, name)));
        }
        if let Some(package) = self.left_behind(name) {
            finding.rule = "script-left-behind";
            finding.text = format!(
                "{name} is in no directory of PATH: its package is in {package}, its script was left behind{by}"
            );
            finding = finding.help(format!(
                "or start it as a module: [\"python\", \"-m\", \"{}\"]",
                name.replace('-', "_")
            ));
        }
        self.find(finding);
    }
}
