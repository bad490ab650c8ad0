//! What an image holds: files, packages, and what an attacker would be glad of.

use std::collections::BTreeSet;

use dbuild_layer::{EntryKind, Stack, StackEntry, TreePath};
use dbuild_store::Store;
use dbuild_support::units::Bytes;
use serde::Serialize;

use crate::Build;

/// What is in an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Inventory {
    /// Regular files, each name counted.
    pub files: usize,
    /// Their bytes, hard links counted once.
    pub bytes: u64,
    /// Packages that the databases in it name.
    pub packages: Packages,
    /// Programs that run as their owner or group, by path.
    pub setuid: Vec<String>,
    /// Shells, by path.
    pub shells: Vec<String>,
    /// Compilers and linkers, by path.
    pub compilers: Vec<String>,
}

/// How many packages each database has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Packages {
    /// Debian's.
    pub dpkg: usize,
    /// Alpine's.
    pub apk: usize,
    /// Python distributions.
    pub pip: usize,
    /// Node modules.
    pub npm: usize,
}

const SHELLS: [&str; 9] = ["sh", "ash", "bash", "busybox", "dash", "fish", "ksh", "toybox", "zsh"];
const COMPILERS: [&str; 14] =
    ["as", "c++", "cc", "clang", "cl", "g++", "gcc", "go", "javac", "ld", "make", "rustc", "tcc", "tsc"];
/// A database of packages that is larger is not read.
const LONGEST: u64 = 64 << 20;

/// The files of the image that a build made, if all of its layers are unpacked in the store.
pub fn image_files(build: &Build, store: &Store) -> Option<Stack> {
    let image = build.images.first()?;
    let layers = image.layers.iter().map(|layer| Some(store.base_snapshot(&layer.chain)?.layer()));
    layers.collect::<Option<Vec<_>>>().map(Stack::new)
}

impl Inventory {
    /// Looks through the files of an image.
    pub fn of(stack: &Stack) -> Self {
        let mut inventory = Self::default();
        let mut pip = BTreeSet::new();
        for found in stack.walk(&TreePath::root()) {
            inventory.count(&found);
            let path = found.entry.path.to_string();
            if let Some(package) = python_package(&path) {
                pip.insert(package.to_owned());
            }
            inventory.packages.npm += usize::from(is_node_module(&path));
        }
        inventory.packages.pip = pip.len();
        inventory.packages.dpkg = lines(stack, "var/lib/dpkg/status", "Status: install ok installed");
        // Distroless images have a file for each package.
        inventory.packages.dpkg += stack
            .read_dir(&TreePath::from_bytes(b"var/lib/dpkg/status.d").unwrap_or_default())
            .iter()
            .filter(|found| !found.entry.path.as_bytes().ends_with(b".md5sums"))
            .count();
        inventory.packages.apk =
            lines(stack, "lib/apk/db/installed", "P:") + lines(stack, "usr/lib/apk/db/installed", "P:");
        inventory
    }

    fn count(&mut self, found: &StackEntry<'_>) {
        let entry = found.entry;
        let name = entry.path.file_name().map(String::from_utf8_lossy).unwrap_or_default();
        let path = entry.path.to_string();
        let is_link = matches!(found.kind(), EntryKind::Symlink { .. });
        if let Some(file) = found.file() {
            self.files += 1;
            // The other names of a hard link bring no bytes.
            self.bytes += if matches!(entry.kind, EntryKind::File { .. }) { file.size } else { 0 };
            if entry.mode & 0o6000 != 0 && entry.mode & 0o111 != 0 {
                self.setuid.push(path.clone());
            }
        }
        let can_run = is_link || (found.file().is_some() && entry.mode & 0o111 != 0);
        let in_bin =
            path.rsplit_once('/').is_some_and(|(dir, _)| dir.ends_with("/bin") || dir.ends_with("/sbin"));
        if can_run && in_bin && SHELLS.contains(&&*name) {
            self.shells.push(path);
        } else if can_run && in_bin && is_compiler(&name) {
            self.compilers.push(path);
        }
    }

    /// The rows of a table: a name and a value.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let named = |paths: &[String]| match paths {
            [] => "0".to_owned(),
            paths => {
                let names: BTreeSet<&str> =
                    paths.iter().map(|path| path.rsplit('/').next().unwrap_or_default()).collect();
                let more = if names.len() > 4 { ", …" } else { "" };
                let names: Vec<&str> = names.into_iter().take(4).collect();
                format!("{} ({}{more})", paths.len(), names.join(", "))
            }
        };
        let Packages { dpkg, apk, pip, npm } = self.packages;
        let of = [(dpkg, "dpkg"), (apk, "apk"), (pip, "pip"), (npm, "npm")];
        let each: Vec<String> = of
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, kind)| format!("{count} {kind}"))
            .collect();
        let packages = if each.is_empty() { "0".to_owned() } else { each.join(", ") };
        vec![
            ("files", format!("{}, {}", self.files, Bytes(self.bytes))),
            ("packages", packages),
            ("setuid", named(&self.setuid)),
            ("shells", named(&self.shells)),
            ("compilers", named(&self.compilers)),
        ]
    }
}

/// The lines of a file that begin so.
fn lines(stack: &Stack, path: &str, start: &str) -> usize {
    let bytes = stack.read_file(path, LONGEST).ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&bytes).lines().filter(|line| line.starts_with(start)).count()
}

/// `…/site-packages/flask-3.0.dist-info/METADATA` is one package.
fn python_package(path: &str) -> Option<&str> {
    let (dir, file) = path.rsplit_once('/')?;
    let is_package = (dir.ends_with(".dist-info") && file == "METADATA")
        || (dir.ends_with(".egg-info") && file == "PKG-INFO");
    is_package.then_some(dir)
}

/// `…/node_modules/NAME/package.json`, or `…/node_modules/@SCOPE/NAME/package.json`.
fn is_node_module(path: &str) -> bool {
    let parts: Vec<&str> = path.rsplit('/').take(4).collect();
    match parts.as_slice() {
        ["package.json", name, "node_modules", ..] => !name.starts_with('@'),
        ["package.json", _, scope, "node_modules"] => scope.starts_with('@'),
        _ => false,
    }
}

/// `gcc`, `gcc-12`, `x86_64-linux-gnu-gcc-12`, `clang++`.
fn is_compiler(name: &str) -> bool {
    let base = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.').trim_end_matches('-');
    let last = base.rsplit("-gnu-").next().unwrap_or(base).rsplit("-musl-").next().unwrap_or(base);
    COMPILERS.contains(&last) || last == "clang++"
}

#[cfg(test)]
mod tests {
    use super::{is_compiler, is_node_module, python_package};

    #[test]
    fn what_counts() {
        for name in
            ["gcc", "gcc-12", "x86_64-linux-gnu-gcc-12", "clang++", "ld", "go", "aarch64-linux-musl-ld"]
        {
            assert!(is_compiler(name), "{name}");
        }
        for name in ["gccgo-helper", "mold-trap", "google", "ldd", "asciidoc", "cp", "-gnu-"] {
            assert!(!is_compiler(name), "{name}");
        }
        assert!(is_node_module("/app/node_modules/express/package.json"));
        assert!(is_node_module("/app/node_modules/@types/node/package.json"));
        assert!(!is_node_module("/app/package.json"));
        assert!(!is_node_module("/app/node_modules/express/lib/package.json"));
        let metadata = "/usr/lib/python3/site-packages/flask-3.0.dist-info/METADATA";
        assert_eq!(python_package(metadata), metadata.strip_suffix("/METADATA"));
        assert_eq!(python_package("/usr/share/METADATA"), None);
    }
}
