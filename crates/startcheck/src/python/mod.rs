//! Python: its library, its packages, and the modules that a script imports whatever happens.

mod imports;
mod interpreter;
mod library;
mod modules;

use dbuild_events::StartSeverity;
use interpreter::{Call, Interpreter, InterpreterSearch};
use modules::ImportWalk;

use crate::analysis::{Analysis, Scope};
use crate::image_files::{base_name, join, parent};
use crate::verdict::{Finding, Need};

/// Servers whose first argument names a module and what is in it: `app:app`.
const SERVERS: [&str; 4] = ["uvicorn", "gunicorn", "hypercorn", "daphne"];

/// Whether a program's name is that of an interpreter.
pub(crate) fn is_python(name: &str) -> bool {
    match name.strip_prefix("python") {
        Some(version) => version.chars().all(|c| c.is_ascii_digit() || c == '.'),
        None => false,
    }
}

/// What an interpreter is to run.
enum Words {
    Module(String, Vec<String>),
    Code(String),
    Script(String, Vec<String>),
    /// Standard input.
    Nothing,
}

/// Reads the words after `python`; `None` where it runs nothing of the image.
fn read_words(words: &[String]) -> Option<(Call, Words)> {
    let mut call = Call::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(letters) = word.strip_prefix('-') else {
            return Some((call, Words::Script(word.clone(), words.cloned().collect())));
        };
        if letters == "-check-hash-based-pycs" {
            words.next();
            continue;
        }
        if letters.is_empty() {
            break;
        }
        // `--help` and its like end at once.
        if letters.starts_with('-') {
            return None;
        }
        for (at, letter) in letters.char_indices() {
            let rest = &letters[at + letter.len_utf8()..];
            let mut value = || match rest {
                "" => words.next().cloned(),
                rest => Some(rest.to_owned()),
            };
            match letter {
                'c' => return Some((call, Words::Code(value()?))),
                'm' => return Some((call, Words::Module(value()?, words.cloned().collect()))),
                'W' | 'X' => {
                    value()?;
                    break;
                }
                'V' | 'h' | '?' => return None,
                'E' => call.no_env = true,
                'I' => (call.no_env, call.safe_path) = (true, true),
                'P' => call.safe_path = true,
                'S' => call.no_site = true,
                _ => {}
            }
        }
    }
    Some((call, Words::Nothing))
}

impl Analysis<'_> {
    /// `python …`: `named` is the path by which it is called, which says in which environment it
    /// is.
    pub(crate) fn run_python(&mut self, named: &str, words: &[String], scope: &Scope) {
        let Some((mut call, program)) = read_words(words) else { return };
        call.cwd.clone_from(&scope.cwd);
        if !call.no_env && self.env.get("PYTHONSAFEPATH").is_some_and(|value| !value.is_empty()) {
            call.safe_path = true;
        }
        let python = match Interpreter::at(&self.view, named, &self.env, &call) {
            InterpreterSearch::Interpreter(python) => python,
            InterpreterSearch::Unknown(why) => return self.unknown(why),
            InterpreterSearch::Unread(what) => return self.unread(&what),
            InterpreterSearch::NoLibrary(want) => {
                let path = match &want {
                    Need::PythonLibrary(lib) => format!("{lib}/python3.*"),
                    Need::Path(path) | Need::Program(path) | Need::Library(path) | Need::Module(path, _) => {
                        path.clone()
                    }
                };
                let text = format!("{named} has no library: {path} is not in the image");
                return self.find(Finding::new("module-missing", scope.worst, text).at(named).need(want));
            }
        };
        self.environment(&python, scope);
        if let Some(archive) = &python.opaque {
            self.unknown(format!("which modules are in {archive}"));
        }
        let own = |dir: &str| (!call.safe_path).then(|| dir.to_owned());
        match program {
            Words::Module(module, rest) => {
                ImportWalk::new(self, &python, own(&scope.cwd), scope).module(&module);
                self.run_server(&python, &module, &rest, scope);
            }
            Words::Code(code) => {
                ImportWalk::new(self, &python, own(&scope.cwd), scope).text("the command", &code)
            }
            Words::Nothing => {}
            Words::Script(script, rest) => self.run_python_script(&python, &call, &script, &rest, scope),
        }
    }

    /// An environment that was made for another python.
    fn environment(&mut self, python: &Interpreter, scope: &Scope) {
        let Some(environment) = &python.environment else { return };
        let lib = join(environment, "lib");
        let versions: Vec<String> =
            self.view.names(&lib).into_iter().filter(|name| name.starts_with("python3.")).collect();
        let real = self.view.dir(&lib).unwrap_or_else(|| lib.clone());
        let used = python.sites.iter().any(|site| site.starts_with(&real));
        if !versions.is_empty() && !used {
            let text = format!(
                "the environment {environment} is of {}, and its python is now {}",
                versions.join(", "),
                python.version
            );
            let finding = Finding::new("wrong-python", scope.worst.min(StartSeverity::MayFail), text).at(lib);
            self.find(finding.help("make it and start it with the same version of python"));
        }
    }

    fn run_python_script(
        &mut self,
        python: &Interpreter,
        call: &Call,
        script: &str,
        words: &[String],
        scope: &Scope,
    ) {
        let Some(path) = self.readable_script(script, "python", scope) else { return };
        let Ok(place) = self.view.walk(&path) else { return };
        if place.node.is_dir() {
            let main = join(&place.path, "__main__.py");
            // The directory is what is run, and always searched.
            ImportWalk::new(self, python, Some(place.path.clone()), scope).file(&main);
            return;
        }
        let dir = (!call.safe_path).then(|| parent(&place.path).to_owned());
        ImportWalk::new(self, python, dir, scope).file(&place.path);
        self.run_server(python, base_name(&path), words, scope);
    }

    /// The module that a server is asked to serve.
    fn run_server(&mut self, python: &Interpreter, name: &str, words: &[String], scope: &Scope) {
        let elsewhere = ["--chdir", "--app-dir", "--pythonpath", "-c", "--config"];
        let is_configured = words.iter().any(|word| elsewhere.iter().any(|flag| word.starts_with(flag)));
        // The same in variables, and in files that are read unasked.
        let prefix = format!("{}_", name.to_ascii_uppercase());
        let is_configured =
            is_configured || self.env.keys().any(|key| key.starts_with(&prefix) && key != "FLASK_APP");
        let files = ["gunicorn.conf.py", ".flaskenv", ".env"].map(|file| join(&scope.cwd, file));
        if is_configured || files.iter().any(|file| self.view.file(file).is_some()) {
            return;
        }
        let identifier = |text: &str| text.starts_with(|c: char| c.is_alphabetic() || c == '_');
        let named = if SERVERS.contains(&name) {
            let mut named = words.iter().filter_map(|word| word.split_once(':'));
            named
                .find(|(module, what)| {
                    identifier(module) && identifier(what) && *module != "unix" && !module.contains('/')
                })
                .map(|(module, _)| module.to_owned())
        } else if name == "flask"
            && words.first().is_some_and(|word| word == "run")
            && !self.env.contains_key("FLASK_APP")
        {
            let served = ["wsgi.py", "app.py"]
                .into_iter()
                .find(|file| self.view.file(&join(&scope.cwd, file)).is_some());
            if served.is_none() && self.view.dir(&join(&scope.cwd, "app")).is_none() {
                let text =
                    format!("flask run looks for app.py or wsgi.py in {}, which has neither", scope.cwd);
                let finding = Finding::new("file-missing", scope.worst.min(StartSeverity::MayFail), text);
                self.find(
                    finding.at(scope.cwd.clone()).help("name it: ENV FLASK_APP=…, or flask --app … run"),
                );
            }
            served.map(|file| file.trim_end_matches(".py").to_owned())
        } else {
            None
        };
        if let Some(module) = named {
            ImportWalk::new(self, python, Some(scope.cwd.clone()), scope).imported(name, &module);
        }
    }

    /// The directory of packages that has an installed package with such a script.
    pub(crate) fn left_behind(&self, script: &str) -> Option<String> {
        let module = script.replace('-', "_");
        let sites = ["/usr/local/lib", "/usr/lib", "/app/venv/lib", "/venv/lib", "/opt/venv/lib"]
            .into_iter()
            .flat_map(|lib| {
                let pythons = self.view.names(lib).into_iter().filter(|name| name.starts_with("python3"));
                pythons
                    .flat_map(|python| {
                        ["site-packages", "dist-packages"].map(|site| format!("{lib}/{python}/{site}"))
                    })
                    .collect::<Vec<_>>()
            });
        let mut sites = sites.into_iter().filter_map(|site| self.view.dir(&site));
        sites.find(|site| {
            let there = self.view.dir(&join(site, &module)).is_some()
                || self.view.file(&join(site, &format!("{module}.py"))).is_some();
            there
                && self.view.names(site).iter().any(|name| {
                    name.to_ascii_lowercase().starts_with(&format!("{}-", module.to_ascii_lowercase()))
                        && (name.ends_with(".dist-info") || name.ends_with(".egg-info"))
                })
        })
    }
}
