//! The rules of the house that the compiler does not check.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use dbuild_integration_tests::{run, workspace};

/// The table of `docs/internals/architecture.md`: which crate may depend on which. An edge that is
/// not here is a change of the design, to be argued there.
const TABLE: [(&str, &[&str]); 18] = [
    ("support", &[]),
    ("digest", &[]),
    ("oci", &["support", "digest"]),
    ("plan", &["digest", "oci"]),
    ("frontend", &["support", "digest", "oci", "plan"]),
    ("cache", &["digest", "plan"]),
    ("layer", &["support", "digest"]),
    ("events", &["support", "digest", "plan", "cache"]),
    ("store", &["support", "digest", "plan", "cache", "layer", "events"]),
    ("sandbox", &[]),
    ("scheduler", &["support", "digest", "oci", "plan", "cache", "layer", "events", "store", "sandbox"]),
    ("registry", &["support", "digest", "oci", "store", "scheduler"]),
    ("remote-cache", &["support", "digest", "oci", "cache", "layer", "events", "store", "registry"]),
    ("exporter", &["support", "digest", "oci", "layer", "store", "registry"]),
    ("startcheck", &["support", "oci", "events"]),
    ("report", &["support", "digest", "oci", "cache", "layer", "events", "store"]),
    ("lab", &["support", "digest", "oci", "plan", "frontend", "cache", "layer", "store", "scheduler"]),
    (
        "dbuild",
        &[
            "support",
            "digest",
            "oci",
            "plan",
            "frontend",
            "cache",
            "layer",
            "events",
            "store",
            "sandbox",
            "scheduler",
            "registry",
            "remote-cache",
            "exporter",
            "startcheck",
            "report",
            "lab",
        ],
    ),
];

/// External crates that only one of ours may name.
const PRIVATE: [(&str, &str); 4] =
    [("reqwest", "registry"), ("object_store", "registry"), ("petgraph", "plan"), ("rusqlite", "store")];

/// The longest that a source file may be, in lines.
const LONGEST: usize = 600;

struct Package {
    folder: String,
    manifest: toml::Table,
}

fn packages() -> Vec<Package> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(workspace().join("crates")).unwrap() {
        let dir = entry.unwrap().path();
        let text = std::fs::read_to_string(dir.join("Cargo.toml")).unwrap();
        let folder = dir.file_name().unwrap().to_string_lossy().into_owned();
        found.push(Package { folder, manifest: toml::from_str(&text).unwrap() });
    }
    assert!(found.len() > 5, "the crates were found");
    found
}

/// The names in `[dependencies]` and `[build-dependencies]`, those for one target only included.
/// What only tests need is no arrow between crates.
fn dependencies(manifest: &toml::Table) -> BTreeSet<String> {
    let mut tables = vec![manifest];
    if let Some(targets) = manifest.get("target").and_then(toml::Value::as_table) {
        tables.extend(targets.values().filter_map(toml::Value::as_table));
    }
    let mut names = BTreeSet::new();
    for table in tables {
        for section in ["dependencies", "build-dependencies"] {
            let section = table.get(section).and_then(toml::Value::as_table);
            names.extend(section.into_iter().flat_map(|section| section.keys().cloned()));
        }
    }
    names
}

/// Every Rust file of the workspace, with its text.
fn sources() -> Vec<(PathBuf, String)> {
    fn visit(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                visit(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(workspace()).unwrap().to_owned(), text));
            }
        }
    }
    let mut found = Vec::new();
    for dir in ["crates", "integration-tests"] {
        visit(&workspace().join(dir), &mut found);
    }
    assert!(found.len() > 20, "the sources were found");
    found
}

/// Every document of the project, with its text.
fn documents() -> Vec<(PathBuf, String)> {
    fn visit(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(workspace()).unwrap().to_owned(), text));
            }
        }
    }
    let mut found = Vec::new();
    visit(&workspace().join("docs"), &mut found);
    for name in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        found.push((name.into(), std::fs::read_to_string(workspace().join(name)).unwrap()));
    }
    assert!(found.len() > 20, "the documents were found");
    found
}

#[test]
fn crates_depend_on_each_other_as_designed() {
    let table: BTreeMap<&str, &[&str]> = TABLE.into_iter().collect();
    for package in packages() {
        let folder = package.folder.as_str();
        let name = package.manifest["package"]["name"].as_str().unwrap();
        let expected = if folder == "dbuild" { "dbuild".to_owned() } else { format!("dbuild-{folder}") };
        assert_eq!(name, expected, "the package in crates/{folder}");
        let allowed = table.get(folder).unwrap_or_else(|| panic!("crates/{folder} is not in the table"));
        for dependency in dependencies(&package.manifest) {
            let Some(ours) = dependency.strip_prefix("dbuild-") else { continue };
            assert!(allowed.contains(&ours), "crates/{folder} must not depend on {dependency}");
        }
    }
}

#[test]
fn no_crate_passes_on_the_names_of_another() {
    for (path, text) in sources() {
        let passed_on = text.lines().find(|line| {
            let line = line.trim_start();
            line.starts_with("pub use dbuild_") || line.starts_with("pub(crate) use dbuild_")
        });
        assert!(passed_on.is_none(), "{}: `{}`", path.display(), passed_on.unwrap_or_default());
    }
}

/// Documents and comments name files as `layer/src/copy/mod.rs`, and tests as
/// `layer/tests/it/alone.rs`.
#[test]
fn files_that_are_named_exist() {
    let is_path = |c: char| c.is_ascii_alphanumeric() || "_/.-".contains(c);
    let mut gone = Vec::new();
    for (path, text) in sources().into_iter().chain(documents()) {
        for word in text.split(|c| !is_path(c)).filter(|word| word.ends_with(".rs")) {
            let mut parts = word.split('/');
            let folder = parts.next().filter(|folder| !folder.starts_with('.')).unwrap_or_default();
            let is_named = !folder.is_empty()
                && matches!(parts.next(), Some("src" | "tests" | "benches"))
                && workspace().join("crates").join(folder).is_dir();
            if is_named && !workspace().join("crates").join(word).exists() {
                gone.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert!(gone.is_empty(), "files that are named and not there:\n{}", gone.join("\n"));
}

#[test]
fn links_of_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for (path, text) in documents() {
        let dir = path.parent().unwrap_or(Path::new(""));
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.contains(' ') {
                continue;
            }
            if !workspace().join(dir).join(target).exists() {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn some_crates_are_known_to_one_of_ours_only() {
    for package in packages() {
        let names = dependencies(&package.manifest);
        for (external, owner) in PRIVATE {
            let named = names.contains(external);
            assert!(
                !named || package.folder == owner,
                "only {owner} may use {external}, not {}",
                package.folder
            );
        }
    }
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    for package in packages() {
        let lints = package.manifest.get("lints").and_then(|lints| lints.get("workspace"));
        assert_eq!(lints.and_then(toml::Value::as_bool), Some(true), "crates/{}", package.folder);
    }
}

#[test]
fn unsafe_code_is_in_the_sandbox_only() {
    for (path, text) in sources() {
        if path.starts_with("crates/sandbox") || path.ends_with("it/house.rs") {
            continue;
        }
        for word in ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "allow(unsafe", "expect(unsafe"]
        {
            let found = text.lines().any(|line| line.contains(word) && !line.trim_start().starts_with("//"));
            assert!(!found, "{} has `{word}`", path.display());
        }
    }
}

#[test]
fn files_are_short_enough_to_be_read() {
    let long: Vec<String> = sources()
        .iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LONGEST)
        .map(|(path, lines)| format!("{} has {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "more than {LONGEST} lines:\n{}", long.join("\n"));
}

/// The widest that comments and documents may be, in characters; tables and code may be wider.
const WIDEST: usize = 100;

#[test]
fn comments_and_documents_are_wrapped() {
    let mut wide = Vec::new();
    for (path, text) in sources() {
        let comments = text.lines().filter(|line| {
            let text = line.trim_start().trim_start_matches(['/', '!']).trim_start();
            line.trim_start().starts_with("//") && !text.starts_with('|') && text.contains(' ')
        });
        wide.extend(
            comments.filter(|line| line.chars().count() > WIDEST).map(|line| (path.clone(), line.to_owned())),
        );
    }
    for (path, text) in documents() {
        let mut is_code = false;
        for line in text.lines() {
            is_code ^= line.trim_start().starts_with("```");
            let is_free =
                is_code || line.starts_with("    ") || line.trim_start().starts_with(['|', '!', '<', '#']);
            if !is_free && line.trim().contains(' ') && line.chars().count() > WIDEST {
                wide.push((path.clone(), line.to_owned()));
            }
        }
    }
    let shown: Vec<String> = wide.iter().map(|(path, line)| format!("{}: {line}", path.display())).collect();
    assert!(wide.is_empty(), "wider than {WIDEST}:\n{}", shown.join("\n"));
}

#[test]
fn no_test_is_switched_off_or_sleeps() {
    for (path, text) in sources() {
        if path.ends_with("it/house.rs") {
            continue;
        }
        assert!(!text.contains("#[ignore"), "{} has a test that is switched off", path.display());
        let in_tests = path.components().any(|part| part.as_os_str() == "tests");
        assert!(!in_tests || !text.contains("thread::sleep"), "{} sleeps in a test", path.display());
    }
}

/// What `cargo deny check bans licenses sources` would say, read from the same `deny.toml`.
#[test]
fn dependencies_are_such_as_deny_toml_allows() {
    let rules: toml::Table =
        toml::from_str(&std::fs::read_to_string(workspace().join("deny.toml")).unwrap()).unwrap();
    let words = |value: &toml::Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let allowed = words(&rules["licenses"]["allow"]);
    let banned: Vec<&str> = rules["bans"]["deny"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule["crate"].as_str().unwrap())
        .collect();

    for package in resolved_packages() {
        let name = package["name"].as_str().unwrap();
        assert!(!banned.contains(&name), "{name} is banned by deny.toml");
        match package["source"].as_str() {
            None => continue,
            Some(source) => assert!(source.starts_with("registry+"), "{name} comes from {source}"),
        }
        let license = package["license"].as_str().unwrap_or("");
        assert!(
            is_allowed(license, &allowed),
            "the licence of {name} is not allowed by deny.toml: `{license}`"
        );
    }
}

/// The packages that a build for this machine takes, as cargo resolves them.
fn resolved_packages() -> Vec<serde_json::Value> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &target]);
    let metadata = run(cargo.current_dir(workspace())).expect_ok().json();
    let resolved: BTreeSet<&str> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["id"].as_str().unwrap())
        .collect();
    let packages = metadata["packages"].as_array().unwrap();
    packages.iter().filter(|package| resolved.contains(package["id"].as_str().unwrap())).cloned().collect()
}

/// Of `A OR B` one must be allowed, of `A AND B` both; AND binds more tightly, and `/` is an old
/// way to write OR.
fn is_allowed(license: &str, allowed: &[String]) -> bool {
    let license = license.replace('/', " OR ");
    match license.trim() {
        text if text.starts_with('(') && text.ends_with(')') && !text[1..].contains('(') => {
            is_allowed(&text[1..text.len() - 1], allowed)
        }
        text if text.contains('(') => {
            let (open, close) = (text.find('(').unwrap(), text.rfind(')').unwrap());
            let inner = if is_allowed(&text[open + 1..close], allowed) { &allowed[0] } else { "not-allowed" };
            is_allowed(&format!("{}{inner}{}", &text[..open], &text[close + 1..]), allowed)
        }
        text => text
            .split(" OR ")
            .any(|all| all.split(" AND ").all(|one| allowed.iter().any(|allowed| allowed == one.trim()))),
    }
}

#[test]
fn licence_expressions_are_read() {
    let allowed = ["MIT".to_owned(), "ISC".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()];
    for yes in [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT AND ISC",
        "GPL-3.0/MIT",
        "(MIT OR X) AND ISC",
        "Apache-2.0 WITH LLVM-exception OR X",
    ] {
        assert!(is_allowed(yes, &allowed), "{yes}");
    }
    for no in ["", "GPL-3.0", "MIT AND GPL-3.0", "(X OR Y) AND MIT"] {
        assert!(!is_allowed(no, &allowed), "{no}");
    }
}
