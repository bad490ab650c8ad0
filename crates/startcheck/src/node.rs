//! Node.js: the file that it is to run, npm's scripts, and the packages that are loaded whatever
//! happens.

use std::collections::{BTreeSet, VecDeque};

use dbuild_events::StartSeverity;

use crate::analysis::{Analysis, Scope};
use crate::image_files::{base_name, join, parent};
use crate::verdict::{Finding, Need};

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

/// Words of a file that can change how modules are found.
const CHANGES: [&str; 12] = [
    "_resolveFilename",
    "_load",
    "_extensions",
    "require.extensions",
    "require.cache",
    "module-alias",
    "app-module-path",
    "NODE_PATH",
    "proxyquire",
    "globalPaths",
    "module.register",
    "module.paths",
];
/// Options of node itself that do the same.
const HOOKS: [&str; 9] = [
    "-r",
    "--require",
    "--import",
    "--loader",
    "--experimental-loader",
    "--preserve-symlinks",
    "--preserve-symlinks-main",
    "--experimental-specifier-resolution",
    "-C",
];

/// How modules are found.
struct Resolution {
    /// Directories that are searched for every `require`.
    global: Vec<String>,
    /// Something can change that.
    is_open: bool,
}

impl Analysis<'_> {
    /// `node …`; `program` is its path without links.
    pub(crate) fn run_node(&mut self, program: &str, words: &[String], scope: &Scope) {
        let options = self.env.get("NODE_OPTIONS").cloned().unwrap_or_default();
        let hooks = |option: &str| HOOKS.iter().any(|hook| option.split('=').next() == Some(hook));
        let mut resolution = Resolution {
            global: self.node_global(program, scope),
            is_open: options.split_whitespace().any(hooks),
        };
        let mut words = words.iter();
        let mut option = None;
        while let Some(word) = words.next() {
            match word.as_str() {
                "-e" | "--eval" | "-p" | "--print" | "-pe" | "-i" | "--interactive" | "--test" | "--run"
                | "inspect" | "debug" | "-" | "-v" | "--version" | "-h" | "--help" => return,
                "--" => option = None,
                word if word.starts_with('-') => {
                    resolution.is_open |= hooks(word);
                    option = Some(word);
                    if WITH_VALUE.contains(&word) {
                        words.next();
                        option = None;
                    }
                }
                script => {
                    // Whether an option takes the next word is known of the usual ones.
                    if let Some(option) = option.filter(|option| !option.contains('='))
                        && self.node_file(&join(&scope.cwd, script)).is_none()
                    {
                        return self
                            .unknown(format!("what node is to run: `{script}` can belong to {option}"));
                    }
                    let rest: Vec<String> = words.cloned().collect();
                    return self.run_node_script(script, &rest, &resolution, scope);
                }
            }
        }
    }

    /// NODE_PATH, and what node searches of itself.
    fn node_global(&self, program: &str, scope: &Scope) -> Vec<String> {
        let named = self.env.get("NODE_PATH").cloned().unwrap_or_default();
        let named = named.split(':').filter(|dir| !dir.is_empty()).map(|dir| join(&scope.cwd, dir));
        let home = self.env.get("HOME").map_or("/", String::as_str);
        let own = [
            join(home, ".node_modules"),
            join(home, ".node_libraries"),
            join(parent(parent(program)), "lib/node"),
        ];
        // Debian's own looks where its packages are.
        let debian = ["/usr/share/nodejs", "/usr/lib/nodejs"].map(str::to_owned);
        let multiarch = self.view.names("/usr/lib").into_iter().filter(|name| name.contains("-linux-gnu"));
        let multiarch = multiarch.map(|name| format!("/usr/lib/{name}/nodejs"));
        named.chain(own).chain(debian).chain(multiarch).collect()
    }

    fn run_node_script(&mut self, script: &str, words: &[String], resolution: &Resolution, scope: &Scope) {
        let path = join(&scope.cwd, script);
        let Some(file) = self.node_file(&path) else {
            self.readable_script(script, "node", scope);
            return;
        };
        match base_name(&file) {
            "npm-cli.js" | "yarn.js" | "pnpm.cjs" => self.run_npm(words, resolution, base_name(&file), scope),
            _ if file.contains("/node_modules/") => {}
            _ => self.node_imports(&file, resolution, scope),
        }
    }

    /// `npm start`, `npm run NAME`, and what is like it.
    fn run_npm(&mut self, words: &[String], resolution: &Resolution, program: &str, scope: &Scope) {
        let manager = program.split(['-', '.']).next().unwrap_or("npm").to_owned();
        let plain: Vec<&str> =
            words.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
        let elsewhere = ["--prefix", "-C", "--cwd", "--dir", "-w", "--workspace", "--workspaces", "-ws"];
        let named = words.iter().any(|word| elsewhere.contains(&word.split('=').next().unwrap_or_default()));
        let settings = ["npm_config_prefix", "npm_config_local_prefix", "npm_config_workspace"];
        if named || self.env.keys().any(|key| settings.contains(&key.to_ascii_lowercase().as_str())) {
            return self.unknown(format!("what {manager} starts in another directory"));
        }
        let is_optional = words.iter().any(|word| word == "--if-present");
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
                Finding::new("file-missing", scope.worst, text).at(path.clone()).need(Need::Path(path)),
            );
        };
        let manifest = join(dir, "package.json");
        let Some(text) = self.view.text(&manifest, MAX_SOURCE) else {
            return self.unread(&manifest);
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
        let before = self.env.insert("PATH".to_owned(), scope.path.clone());
        let mut scope = scope;
        if let Some(line) = json["scripts"][format!("pre{name}")].as_str() {
            self.run_line(line, &scope);
            // It may make what the script itself needs.
            scope.worst = scope.worst.min(StartSeverity::MayFail);
        }
        let has_server = name == "start" && self.view.file(&join(dir, "server.js")).is_some();
        match json["scripts"][name].as_str() {
            Some(line) => self.run_line(line, &scope),
            None if has_server => self.run_node_script("server.js", &[], resolution, &scope),
            None if is_optional => {}
            None => {
                let text = format!("{manifest} has no script `{name}`, which `{said}` starts");
                self.find(Finding::new("script-missing", scope.worst, text).at(manifest));
            }
        }
        before.into_iter().for_each(|path| drop(self.env.insert("PATH".to_owned(), path)));
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

    fn node_imports(&mut self, entry: &str, resolution: &Resolution, scope: &Scope) {
        if ancestors(parent(entry)).any(|dir| self.view.file(&join(dir, ".pnp.cjs")).is_some()) {
            return;
        }
        let mut open = VecDeque::from([entry.to_owned()]);
        let mut seen = BTreeSet::new();
        let (mut missing, mut is_open) = (Vec::new(), resolution.is_open);
        while let Some(path) = open.pop_front() {
            if seen.len() >= MAX_FILES || !seen.insert(path.clone()) {
                continue;
            }
            let Some(text) = self.view.text(&path, MAX_SOURCE) else {
                self.unread(&path);
                continue;
            };
            is_open |= CHANGES.iter().any(|word| text.contains(word));
            for module in loaded(&text) {
                let module = module.strip_prefix("node:").unwrap_or(&module).to_owned();
                // What is loaded for what it does to others.
                is_open |= ["register", "hook", "alias", "preload"].iter().any(|word| module.contains(word));
                if module.starts_with('.') {
                    match self.node_file(&join(parent(&path), &module)) {
                        Some(file) if file.ends_with("js") && !file.contains("/node_modules/") => {
                            open.push_back(file)
                        }
                        Some(_) => {}
                        None => {
                            let text = format!("{path} loads {module}, which is not beside it");
                            self.find(
                                Finding::new("module-missing", scope.worst.min(StartSeverity::MayFail), text)
                                    .at(path.clone()),
                            );
                        }
                    }
                } else if let Some(package) = package(&module) {
                    missing.push((path.clone(), package.to_owned()));
                }
            }
        }
        let worst = if is_open { scope.worst.min(StartSeverity::MayFail) } else { scope.worst };
        let scope = Scope { worst, ..scope.clone() };
        for (by, package) in missing {
            self.node_package(&by, &package, resolution, &scope);
        }
    }

    fn node_package(&mut self, by: &str, package: &str, resolution: &Resolution, scope: &Scope) {
        let mut places: Vec<String> = ancestors(parent(by)).map(|dir| join(dir, "node_modules")).collect();
        places.extend(resolution.global.iter().cloned());
        let is_there = |dir: &String| {
            let path = join(dir, package);
            self.view.walk(&path).is_ok() || self.node_file(&path).is_some()
        };
        if places.iter().any(is_there) || self.is_own_package(by, package) {
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
        let finding = Finding::new("module-missing", scope.worst, text).at(by).need(Need::Path(wants));
        self.find(
            finding.help("install the packages that run time needs in this stage (RUN npm ci --omit=dev)"),
        );
    }

    /// A package can load itself by its own name.
    fn is_own_package(&self, by: &str, package: &str) -> bool {
        let manifest = ancestors(parent(by)).map(|dir| join(dir, "package.json"));
        let text = manifest.filter_map(|path| self.view.text(&path, MAX_SOURCE)).next().unwrap_or_default();
        let json = serde_json::from_str::<serde_json::Value>(&text).unwrap_or_default();
        json["name"] == package && !json["exports"].is_null()
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
    let mut has_ended = false;
    for statement in margin(text) {
        let line = statement.text.as_str();
        let starts = |words: &[&str]| words.iter().any(|word| line.starts_with(word));
        has_ended |= starts(&["process.exit(", "process.abort(", "return", "throw ", "process.kill("]);
        // After `if (x)` a bare call belongs to that; a declaration cannot stand there.
        let is_call = line.starts_with("require(") && !statement.is_governed;
        if starts(&["const ", "let ", "var "]) || is_call {
            if !has_ended && !line.contains("=>") && !line.contains("function") {
                all.extend(quoted_after(line, "require(").filter(|_| is_certain(line)));
            }
        } else if starts(&["import \"", "import '"]) {
            all.extend(quoted_after(line, "import "));
        } else if starts(&["import ", "export "])
            && !starts(&[
                "import(",
                "import type ",
                "export type ",
                "export const ",
                "export let ",
                "export var ",
            ])
        {
            all.extend(quoted_after(line, " from "));
        }
    }
    all
}

/// A statement at the margin of a file.
#[derive(Debug, Default)]
struct Statement {
    text: String,
    /// What stands before it can decide whether it is run: `if (x)`, `else`.
    is_governed: bool,
}

/// The statements at the margin, without comments; what is in braces is left out, but for those of
/// a declaration.
fn margin(text: &str) -> Vec<Statement> {
    let mut all: Vec<Statement> = Vec::new();
    let (mut statement, mut depth) = (Statement::default(), 0_usize);
    let mut before = ' ';
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let is_plain =
            ["import", "export", "const", "let", "var"].iter().any(|word| statement.text.starts_with(word));
        let mut used = c.len_utf8();
        let was_at_margin = depth == 0;
        let mut put = "";
        match c {
            '/' if rest.starts_with("//") => used = rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => used = rest.find("*/").map_or(rest.len(), |end| end + 2),
            '/' if !(before.is_alphanumeric()
                || matches!(before, ')' | ']' | '}' | '_' | '$' | '"' | '\'')) =>
            {
                used = regex_length(rest);
            }
            '"' | '\'' => {
                used = string_length(rest, c);
                // Only the names of modules matter.
                let names = ["require(", "from", "import"];
                let text = statement.text.trim_end();
                put = if names.iter().any(|word| text.ends_with(word)) { &rest[..used] } else { "''" };
            }
            '`' => used = string_length(rest, c),
            '(' | '[' | '{' => {
                put = &rest[..used];
                depth += 1;
            }
            ')' | ']' | '}' => {
                put = &rest[..used];
                depth = depth.saturating_sub(1);
            }
            '\n' | ';' if depth == 0 => {}
            _ => put = &rest[..used],
        }
        let ends = depth == 0 && (matches!(c, '\n' | ';') || c == '}' && !is_plain);
        if was_at_margin || depth == 0 || is_plain || statement.text.starts_with("require(") {
            if statement.text.is_empty() {
                put = put.trim_start();
                let last = all.last().map_or("", |last| last.text.trim_end());
                statement.is_governed = last.ends_with(')') && !last.contains(';') || last.ends_with("else");
            }
            statement.text.push_str(put);
        }
        if ends && !statement.text.is_empty() {
            if c == ';' {
                statement.text.push(';');
            }
            all.push(std::mem::take(&mut statement));
        }
        if !c.is_whitespace() {
            before = rest[..used].chars().next_back().unwrap_or(c);
        }
        rest = &rest[used..];
    }
    all.push(statement);
    all
}

/// The length of the string or template that a text begins with.
fn string_length(text: &str, quote: char) -> usize {
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '\n' if quote != '`' => return at,
            '$' if quote == '`' && text[at + 1..].starts_with('{') => {
                // A template in a template: rare, and what follows is then taken for text.
                let mut depth = 0_usize;
                for (_, c) in chars.by_ref() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth <= 1 => break,
                        '}' => depth -= 1,
                        _ => {}
                    }
                }
            }
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of the regular expression that a text begins with; of a lone slash, its own.
fn regex_length(text: &str) -> usize {
    let line = &text[..text.find('\n').unwrap_or(text.len())];
    let (mut escaped, mut in_class) = (false, false);
    for (at, c) in line.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => in_class = true,
            ']' => in_class = false,
            '/' if !in_class => return at + 1,
            _ => {}
        }
    }
    1
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
    fn what_is_not_surely_loaded() {
        for (text, expected) in [
            ("const a = require('a')\nconst b = require('b')\nrequire('c')\n", &["a", "b"][..]),
            ("if (x)\nrequire('a');\nelse\nrequire('b');\n", &[]),
            ("f(() => {\nrequire('a');\n});\nrequire('b');\n", &["b"]),
            ("const a = 1;\nprocess.exit(0);\nconst b = require('b');\n", &[]),
            (
                "const a = 'x \\\nrequire(\"a\") \\\n';\nconst r = /['\"`]/;\nconst b = require('b');\n",
                &["b"],
            ),
            ("const a = `${`x`}`;\nconst {\n  b,\n} = require('b');\n", &["b"]),
        ] {
            assert_eq!(loaded(text), expected, "{text}");
        }
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
