//! Puts the lessons into the program: the texts of `docs/guide/lessons/` and the projects of
//! `fixtures/lessons/`.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

fn main() -> io::Result<()> {
    // Asked when it runs: a checkout that was moved keeps this program, compiled, in its target
    // directory.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    let root = here.join("../..").canonicalize()?;
    let (texts, projects) = (root.join("docs/guide/lessons"), root.join("fixtures/lessons"));
    let mut code = String::from("&[\n");
    for dir in sorted(&projects)? {
        let slug = name(&dir);
        let text = texts.join(format!("{slug}.md"));
        _ = writeln!(code, "Lesson {{ slug: {slug:?}, text: include_str!({text:?}), files: &[");
        for file in files(&dir)? {
            let relative = name_below(&file, &dir);
            _ = writeln!(code, "({relative:?}, include_bytes!({file:?})),");
        }
        code.push_str("] },\n");
    }
    code.push_str("]\n");
    let out = std::env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    fs::write(out.join("lessons.rs"), code)?;
    let mut stdout = io::stdout();
    writeln!(stdout, "cargo::rerun-if-changed={}", texts.display())?;
    writeln!(stdout, "cargo::rerun-if-changed={}", projects.display())
}

fn sorted(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// All files below a directory.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in sorted(dir)? {
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn name_below(path: &Path, dir: &Path) -> String {
    path.strip_prefix(dir).unwrap_or(path).to_string_lossy().into_owned()
}
