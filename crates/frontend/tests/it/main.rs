//! The parser and the lowering on many files: mutated ones, and all of the corpus beside another
//! parser.

mod differential;
mod fuzz;
mod mutate;

use std::path::{Path, PathBuf};

/// Every Dockerfile and ignore file below `fixtures/`, with its path there, sorted.
fn corpus(wanted: &str) -> Vec<(String, String)> {
    fn visit(dir: &Path, wanted: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let is_ignore = name.ends_with(".dockerignore");
            match std::fs::symlink_metadata(&path).unwrap() {
                meta if meta.is_dir() => visit(&path, wanted, found),
                meta if meta.is_file()
                    && name.contains(wanted)
                    && (wanted == ".dockerignore" || !is_ignore) =>
                {
                    found.push(path);
                }
                _ => {}
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let mut found = Vec::new();
    visit(&root, wanted, &mut found);
    found.sort();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        (name, String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned())
    };
    found.into_iter().map(read).collect()
}
