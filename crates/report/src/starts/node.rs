//! Node.js: the file that it is to run, npm's scripts, and the packages that are loaded whatever happens.

use std::collections::{BTreeSet, VecDeque};

use super::check::Check;
use super::files::{base_name, join, parent};
use super::program::Scope;
use super::{Finding, Severity, Want};

const MAX_SOURCE: usize = 512 << 10;
const MAX_FILES: usize = 100;
/// Options that take the next word.
const WITH_VALUE: [&str; 8] =
    ["-r", "--require", "--import", "--loader", "--experimental-loader", "--env-file", "-C", "--conditions"];
/// Node's own modules.
const BUILT_IN: &str = "assert async_hooks buffer child_process cluster console constants crypto dgram \
    diagnostics_channel dns domain events fs http http2 https inspector module net os path perf_hooks process punycode \
    querystring readline repl sqlite stream string_decoder sys test timers tls trace_events tty url util v8 vm wasi \
    worker_threads zlib";

impl Check<'_> {
    /// `node …`.
    pub(super) fn run_node(&mut self, words: &[String], scope: &Scope) {
        let mut scope = scope.clone();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "-e" | "--eval" | "-p" | "--print" | "-i" | "--interactive" | "--test" | "--run" => return,
                option if WITH_VALUE.contains(&option) => {
                    // It can change how modules are found.
                    scope.worst = scope.worst.min(Severity::MayFail);
                    words.next();
                }
                option if option.starts_with('-') => {}
                script => {
                    let rest: Vec<String> = words.cloned().collect();
                    return self.run_node_script(script, &rest, &scope);
                }
            }
        }
    }

    fn run_node_script(&mut self, script: &str, words: &[String], scope: &Scope) {
        let path = join(&scope.cwd, script);
        let Some(file) = self.node_file(&path) else {
            self.script_there(script, "node", scope);
            return;
        };
        match base_name(&file) {
            "npm-cli.js" | "yarn.js" | "pnpm.cjs" => self.run_npm(words, base_name(&file), scope),
            _ if file.contains("/node_modules/") => {}
            _ => self.node_imports(&file, scope),
        }
    }

    /// `npm start`, `npm run NAME`, and what is like it.
    fn run_npm(&mut self, words: &[String], program: &str, scope: &Scope) {
        let manager = program.split(['-', '.']).next().unwrap_or("npm").to_owned();
        let plain: Vec<&str> =
            words.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
        if words
            .iter()
            .any(|word| matches!(word.as_str(), "--prefix" | "-C" | "--cwd" | "--dir" | "-w" | "--workspace"))
        {
            return self.unknown(format!("what {manager} starts in another directory"));
        }
        let name = match plain[..] {
            ["run" | "run-script", name, ..] => name,
            [name @ ("start" | "test"), ..] => name,
            [name, ..] if manager != "npm" => name,
            _ => return,
        };
        let said = format!("{manager} {}", plain.join(" "));
        let Some(dir) =
            ancestors(&scope.cwd).find(|dir| self.view.file(&join(dir, "package.json")).is_some())
        else {
            let path = join(&scope.cwd, "package.json");
            let text = format!("{said} needs {path}, which is not in the image");
            return self.find(
                Finding::new("file-missing", scope.worst, text).at(path.clone()).wants(Want::Path(path)),
            );
        };
        let manifest = join(dir, "package.json");
        let Some(text) = self.view.text(&manifest, MAX_SOURCE) else {
            return self.unknown(format!("{manifest}: its bytes are not at hand"));
        };
        let Ok(json) = serde_json::from_str::<serde_json::Value>(&text) else {
            let text = format!("{said} reads {manifest}, which is no JSON");
            return self.find(Finding::new("damaged", scope.worst, text).at(manifest));
        };
        let scope = Scope {
            cwd: dir.to_owned(),
            path: format!("{}:{}", join(dir, "node_modules/.bin"), scope.path),
            by: Some(format!("`{said}`")),
            depth: scope.depth + 1,
            ..scope.clone()
        };
        match json["scripts"][name].as_str() {
            Some(line) => {
                let before = self.env.insert("PATH".to_owned(), scope.path.clone());
                self.run_line(line, &scope);
                before.into_iter().for_each(|path| drop(self.env.insert("PATH".to_owned(), path)));
            }
            None if name == "start" && self.view.file(&join(dir, "server.js")).is_some() => {
                self.run_node_script("server.js", &[], &scope);
            }
            None => {
                let text = format!("{manifest} has no script `{name}`, which `{said}` starts");
                self.find(Finding::new("script-missing", scope.worst, text).at(manifest));
            }
        }
    }

    /// The file that a path means: itself, with an ending, or a directory's.
    fn node_file(&self, path: &str) -> Option<String> {
        let file = |path: &str| self.view.file(path).map(|place| place.path);
        let with = |path: &str| {
            [".js", ".cjs", ".mjs", ".json", ".node"]
                .iter()
                .find_map(|ending| file(&format!("{path}{ending}")))
        };
        if let Some(found) = file(path).or_else(|| with(path)) {
            return Some(found);
        }
        let dir = self.view.dir(path)?;
        let manifest = self.view.text(&join(&dir, "package.json"), MAX_SOURCE).unwrap_or_default();
        let main = serde_json::from_str::<serde_json::Value>(&manifest)
            .ok()
            .and_then(|json| Some(json["main"].as_str()?.to_owned()));
        let main = main.and_then(|main| file(&join(&dir, &main)).or_else(|| with(&join(&dir, &main))));
        main.or_else(|| with(&join(&dir, "index")))
    }

    fn node_imports(&mut self, entry: &str, scope: &Scope) {
        if ancestors(parent(entry)).any(|dir| self.view.file(&join(dir, ".pnp.cjs")).is_some()) {
            return;
        }
        let mut open = VecDeque::from([entry.to_owned()]);
        let mut seen = BTreeSet::new();
        while let Some(path) = open.pop_front() {
            if seen.len() >= MAX_FILES || !seen.insert(path.clone()) {
                continue;
            }
            let Some(text) = self.view.text(&path, MAX_SOURCE) else {
                self.unknown(format!("{path}: its bytes are not at hand"));
                continue;
            };
            for module in loaded(&text) {
                let module = module.strip_prefix("node:").unwrap_or(&module).to_owned();
                if module.starts_with('.') {
                    match self.node_file(&join(parent(&path), &module)) {
                        Some(file) if file.ends_with("js") && !file.contains("/node_modules/") => {
                            open.push_back(file)
                        }
                        Some(_) => {}
                        None => {
                            let text = format!("{path} loads {module}, which is not beside it");
                            self.find(
                                Finding::new("module-missing", scope.worst.min(Severity::MayFail), text)
                                    .at(path.clone()),
                            );
                        }
                    }
                } else if let Some(package) = package(&module) {
                    self.node_package(&path, package, scope);
                }
            }
        }
    }

    fn node_package(&mut self, by: &str, package: &str, scope: &Scope) {
        let told = self.env.get("NODE_PATH").cloned().unwrap_or_default();
        let told = told.split(':').filter(|dir| !dir.is_empty()).map(str::to_owned);
        let mut places: Vec<String> = ancestors(parent(by)).map(|dir| join(dir, "node_modules")).collect();
        places.extend(told);
        if places.iter().any(|dir| self.view.walk(&join(dir, package)).is_ok()) {
            return;
        }
        let there = places.iter().find(|dir| self.view.dir(dir).is_some());
        let root = ancestors(parent(by))
            .find(|dir| self.view.file(&join(dir, "package.json")).is_some())
            .unwrap_or(scope.cwd.as_str());
        let (text, wants) = match there {
            Some(dir) => (format!("{by} loads {package}, which is not in {dir}"), join(dir, package)),
            None => {
                (format!("{by} loads {package}, and there is no node_modules"), join(root, "node_modules"))
            }
        };
        let finding = Finding::new("module-missing", scope.worst, text).at(by).wants(Want::Path(wants));
        self.find(
            finding.help("install the packages that run time needs in this stage (RUN npm ci --omit=dev)"),
        );
    }
}

/// A directory and those above it.
fn ancestors(dir: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(dir), |dir| (*dir != "/").then(|| parent(dir)))
}

/// The package that a module's name begins with; nothing for what is no package.
fn package(module: &str) -> Option<&str> {
    let parts = if module.starts_with('@') { 2 } else { 1 };
    let end = module.match_indices('/').nth(parts - 1).map_or(module.len(), |(at, _)| at);
    let package = &module[..end];
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@' | '/');
    let named =
        package.chars().all(fine) && package.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '@');
    let whole =
        !package.starts_with('@') || package.len() > 1 && package.contains('/') && !package.starts_with("@/");
    let own = BUILT_IN.split_ascii_whitespace().any(|name| name == package);
    (named && whole && !own).then_some(package)
}

/// What a file loads at its margin: `require("x")` in a statement of its own, `import … from "x"`.
fn loaded(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let (mut comment, mut template, mut tried) = (false, false, false);
    for line in text.lines() {
        // What is tried may be missing, at the margin too.
        if tried {
            tried = !line.starts_with('}');
            continue;
        }
        if line.starts_with("try {") || line.starts_with("try{") {
            tried = !line.trim_end().ends_with('}');
            continue;
        }
        if comment {
            comment = !line.contains("*/");
            continue;
        }
        let was_template = template;
        template ^= line.matches('`').count() % 2 == 1;
        if was_template {
            continue;
        }
        if line.starts_with("/*") {
            comment = !line.contains("*/");
            continue;
        }
        let starts = |words: &[&str]| words.iter().any(|word| line.starts_with(word));
        if starts(&["const ", "let ", "var ", "require("])
            && !line.contains("=>")
            && !line.contains("function")
        {
            all.extend(quoted_after(line, "require(").filter(|_| is_certain(line)));
        } else if starts(&["import \"", "import '"]) {
            all.extend(quoted_after(line, "import "));
        } else if starts(&["import ", "export ", "} from "])
            && !line.starts_with("import(")
            && !line.starts_with("import type ")
        {
            all.extend(quoted_after(line, " from "));
        }
    }
    all
}

/// Whether a line loads what it names whatever happens: nothing before it decides or catches.
fn is_certain(line: &str) -> bool {
    let before = line.find("require(").map_or("", |at| &line[..at]);
    !["try", "if (", "if(", "?", "&&", "||", "catch"].iter().any(|word| before.contains(word))
}

fn quoted_after(line: &str, before: &str) -> Option<String> {
    let rest = line[line.find(before)? + before.len()..].trim_start();
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let inside = &rest[1..];
    Some(inside[..inside.find(quote)?].to_owned())
}

#[cfg(test)]
mod tests {
    use super::{loaded, package};

    #[test]
    fn what_is_loaded_at_the_margin() {
        let text = "const a = require('a');\nif (x) {\n  require('b');\n}\nimport c from \"c\";\nimport {\n  d,\n} from 'd';\n\
                    import './e.js';\n/*\nconst f = require('f');\n*/\nconst g = () => require('g');\nvar h = __importDefault(require(\"h\"));\n\
                    const i = `\nimport j from 'j';\n`;\nconst k = await import('k');\n\
                    let l; try { l = require('l') } catch {}\nconst m = x ? require('m') : 0;\nconst n = global.n || require('n');\n\
                    try {\nrequire('o');\n} catch {}\ntry { require('p') } catch {}\nconst q = require('q');\n";
        assert_eq!(loaded(text), ["a", "c", "d", "./e.js", "h", "q"]);
    }

    #[test]
    fn packages() {
        for (module, expected) in [
            ("express", Some("express")),
            ("lodash/fp", Some("lodash")),
            ("@scope/name/part", Some("@scope/name")),
            ("@/alias", None),
            ("#inside", None),
            ("fs/promises", None),
            ("https://x", None),
        ] {
            assert_eq!(package(module), expected, "{module}");
        }
    }
}
