//! No file of a crate depends on one that depends on it: read from `use` lines and paths in the
//! sources.
//!
//! A name that a crate's root passes on (`pub use`) counts as the file that defines it. Tests are
//! left out, and so is the arrow from a module's own file to its children that the `mod` line is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use dbuild_integration_tests::workspace;

/// The modules of one crate, by path (`copy::select`), with their sources.
struct Crate {
    modules: BTreeMap<String, String>,
    /// Names that the root and other `mod.rs` files pass on: `copy::CopyRequest` → `copy::request`.
    passed_on: BTreeMap<String, String>,
}

impl Crate {
    fn read(src: &Path) -> Self {
        let mut modules = BTreeMap::new();
        read_modules(src, src, &mut modules);
        let mut found = Self { modules, passed_on: BTreeMap::new() };
        for (module, text) in &found.modules.clone() {
            for path in use_paths(text, true) {
                let Some(absolute) = absolute(module, &path, &found.modules) else { continue };
                let name = absolute.rsplit("::").next().unwrap_or_default().to_owned();
                let from = if module.is_empty() { name } else { format!("{module}::{name}") };
                found.passed_on.insert(from, absolute);
            }
        }
        found
    }

    /// The module that defines what a path names.
    fn home(&self, path: &str) -> Option<String> {
        let mut path = path.to_owned();
        // A name that is passed on may be passed on again; a type's own functions follow it.
        for _ in 0..8 {
            let ends = path.match_indices("::").map(|(at, _)| at).chain([path.len()]);
            let passed_on = ends.filter_map(|end| Some((self.passed_on.get(&path[..end])?, end)));
            let Some((next, end)) = passed_on.filter(|(next, end)| **next != path[..*end]).last() else {
                break;
            };
            path = format!("{next}{}", &path[end..]);
        }
        let mut module = path.as_str();
        loop {
            if self.modules.contains_key(module) {
                return Some(module.to_owned());
            }
            module = module.rsplit_once("::")?.0;
        }
    }

    fn arrows(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (module, text) in &self.modules {
            // The root only declares and passes on.
            if module.is_empty() {
                continue;
            }
            let paths = use_paths(text, false).into_iter().chain(inline_paths(text));
            for path in paths {
                let target = absolute(module, &path, &self.modules).and_then(|path| self.home(&path));
                if let Some(target) = target.filter(|target| !target.is_empty() && target != module) {
                    arrows.entry(module.clone()).or_default().insert(target);
                }
            }
        }
        arrows
    }
}

fn read_modules(root: &Path, dir: &Path, found: &mut BTreeMap<String, String>) {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            read_modules(root, &path, found);
        } else if name.ends_with(".rs") && !matches!(&*name, "tests.rs" | "testing.rs") {
            let relative = path.strip_prefix(root).unwrap().with_extension("");
            let mut parts: Vec<String> =
                relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            if parts.last().is_some_and(|last| matches!(&**last, "mod" | "lib" | "main")) {
                parts.pop();
            }
            let text = std::fs::read_to_string(&path).unwrap();
            // Unit tests stand at the end of a file, and may use what they like.
            let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).fold(
                String::new(),
                |mut code, line| {
                    code.push_str(line);
                    code.push('\n');
                    code
                },
            );
            found.insert(parts.join("::"), code);
        }
    }
}

/// The paths of `use` items (of those that pass names on, or of the others), braces expanded.
fn use_paths(text: &str, passed_on: bool) -> Vec<String> {
    let mut paths = Vec::new();
    for (start, _) in text.match_indices("use ") {
        let line = text[..start].rsplit('\n').next().unwrap_or_default().trim();
        let is_item = matches!(line, "" | "pub" | "pub(crate)" | "pub(super)") || line.starts_with("pub(in ");
        if !is_item || line.starts_with("pub") != passed_on {
            continue;
        }
        let Some((tree, _)) = text[start + 4..].split_once(';') else { continue };
        let tree: String = tree.split_whitespace().collect::<Vec<_>>().join(" ");
        expand("", &tree, &mut paths);
    }
    paths
}

fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((head, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        let path = format!("{prefix}{path}");
        return paths.push(path.trim_end_matches("::self").to_owned());
    };
    let prefix = format!("{prefix}{head}");
    let inner = rest.strip_suffix('}').unwrap_or(rest);
    let (mut depth, mut from) = (0, 0);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inner[from..at].trim().is_empty() {
                    expand(&prefix, &inner[from..at], paths);
                }
                from = at + 1;
            }
            _ => {}
        }
    }
}

/// Paths that code spells out: `crate::copy::select(…)`.
fn inline_paths(text: &str) -> Vec<String> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let starts = text.match_indices("crate::").chain(text.match_indices("super::"));
    // The second `super` of `super::super` starts no path.
    let starts = starts.filter(|(start, _)| !text[..*start].ends_with(':'));
    let path = |(start, _): (usize, &str)| {
        let path = text[start..].split(|c| !is_path(c)).next().unwrap_or_default();
        path.trim_end_matches(':').to_owned()
    };
    starts.map(path).collect()
}

/// A path from the crate's root, of one that starts with `crate`, `super`, `self` or a module that
/// stands beside or below.
fn absolute(module: &str, path: &str, modules: &BTreeMap<String, String>) -> Option<String> {
    let mut at: Vec<&str> = module.split("::").filter(|part| !part.is_empty()).collect();
    let mut parts = path.split("::").peekable();
    match *parts.peek()? {
        "crate" => {
            at.clear();
            parts.next();
        }
        "self" => drop(parts.next()),
        "super" => {
            while parts.peek() == Some(&"super") {
                at.pop();
                parts.next();
            }
        }
        first => {
            let below = at.iter().copied().chain([first]).collect::<Vec<_>>().join("::");
            modules.get(&below)?;
        }
    }
    at.extend(parts);
    Some(at.join("::"))
}

/// Groups of modules that reach each other.
fn cycles(arrows: &BTreeMap<String, BTreeSet<String>>) -> Vec<BTreeSet<String>> {
    let reach = |from: &String| {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![from]);
        while let Some(module) = todo.pop() {
            for next in arrows.get(module).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    todo.push(next);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<String>> =
        arrows.keys().map(|from| (from, reach(from))).collect();
    let mut found: Vec<BTreeSet<String>> = Vec::new();
    for (from, all) in &reached {
        if !all.contains(*from) || found.iter().any(|cycle| cycle.contains(*from)) {
            continue;
        }
        let back = |to: &&String| reached.get(to).is_some_and(|from_there| from_there.contains(*from));
        found.push(all.iter().filter(back).cloned().collect());
    }
    found
}

#[test]
fn no_file_depends_on_one_that_depends_on_it() {
    let mut told = String::new();
    for entry in std::fs::read_dir(workspace().join("crates")).unwrap() {
        let dir = entry.unwrap().path();
        let name = dir.file_name().unwrap().to_string_lossy().into_owned();
        let arrows = Crate::read(&dir.join("src")).arrows();
        for cycle in cycles(&arrows) {
            told.push_str(&format!("{name}: {} files\n", cycle.len()));
            for (from, targets) in arrows.iter().filter(|(from, _)| cycle.contains(*from)) {
                let targets: Vec<&String> = targets.iter().filter(|to| cycle.contains(*to)).collect();
                told.push_str(&format!("    {from} -> {targets:?}\n"));
            }
        }
    }
    assert!(told.is_empty(), "cycles within crates:\n{told}");
}

#[test]
fn a_cycle_is_found() {
    let modules = [
        ("", "pub use copy::select::Selection;\n"),
        ("copy", "use crate::tree::Tree;\n"),
        ("copy::select", "use super::super::tree::{self, Tree};\n"),
        ("tree", "fn f() { crate::Selection::new() }\n"),
    ];
    let modules = modules.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    let passed_on = [("Selection".to_owned(), "copy::select::Selection".to_owned())].into();
    let cycles = cycles(&Crate { modules, passed_on }.arrows());
    assert_eq!(cycles, [BTreeSet::from(["copy::select".to_owned(), "tree".to_owned()])]);
}
