//! A file that begins with a shebang: its interpreter is what is started.

use crate::analysis::{Analysis, Scope};
use crate::image_files::base_name;
use crate::verdict::{Finding, Need};

impl Analysis<'_> {
    /// Starts the interpreter that the first line names.
    pub(crate) fn start_script(&mut self, head: &[u8], named: &str, argv: &[String], scope: &Scope) {
        let line = head[2..].split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line).into_owned();
        let is_crlf = line.ends_with('\r');
        let line = line.trim_matches([' ', '\t', '\r']);
        let (interpreter, argument) = match line.split_once([' ', '\t']) {
            Some((interpreter, argument)) => (interpreter, Some(argument.trim())),
            None => (line, None),
        };
        if is_crlf && (argument.is_none() || base_name(interpreter) == "env") {
            let text = format!(
                "{named} has Windows line ends: its interpreter is read as `{line}\\r`, which is not there"
            );
            let finding = Finding::new("crlf", scope.worst, text).at(named);
            self.find(finding.help("save it with Unix line ends (in .gitattributes: *.sh text eol=lf), or RUN sed -i 's/\\r$//' on it"));
            return;
        }
        let mut scope =
            Scope { by: Some(format!("the shebang of {named}")), depth: scope.depth + 1, ..scope.clone() };
        scope.by_shell = false;
        let rest = std::iter::once(named.to_owned()).chain(argv.iter().skip(1).cloned());
        if base_name(interpreter) == "env" {
            let Some(argument) = argument else { return };
            if self.find_program(interpreter, &scope).is_none() {
                return;
            }
            // Linux hands it over as one word.
            let words: Vec<String> = std::iter::once(argument.to_owned()).chain(rest).collect();
            return self.run_env(&words, &scope);
        }
        let words: Vec<String> =
            std::iter::once(interpreter.to_owned()).chain(argument.map(str::to_owned)).chain(rest).collect();
        if interpreter.starts_with('/')
            && self.view.file(interpreter).is_none()
            && base_name(interpreter).starts_with("python")
        {
            return self.python_of_script_missing(interpreter, named, &scope);
        }
        self.run(&words, &scope);
    }

    /// A script of an environment or of another python, whose interpreter stayed where it was
    /// built.
    fn python_of_script_missing(&mut self, interpreter: &str, script: &str, scope: &Scope) {
        let text = format!("{script} is to be run by {interpreter}, which is not in the image");
        let mut finding = Finding::new("interpreter-missing", scope.worst, text)
            .at(script)
            .need(Need::Path(interpreter.to_owned()));
        let other = self.in_path("python3", scope).or_else(|| self.in_path("python", scope));
        if let Some(other) = other {
            let real = self.view.file(&other).map_or(other.clone(), |place| place.path);
            finding = finding.help(format!(
                "the image has {real}: install the package with it, or build with the same image"
            ));
        }
        self.find(finding);
    }
}
