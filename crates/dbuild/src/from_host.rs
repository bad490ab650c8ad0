//! Takes programs of this machine, with the shared libraries that their ELF headers name, into a
//! directory that can be copied into an image: a base where no registry can be reached.
//!
//! What lies on the way to a file is taken as it is: where `/bin` is a link to `usr/bin`, the
//! directory has that link too. Nothing is run (`ldd` would run the program's own interpreter).

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};

use dbuild_startcheck::Elf;
use dbuild_support::resolve_links::KERNEL_MAX_LINKS;

/// What a small multi-stage project needs: a shell and the tools that its scripts call.
pub(crate) const DEFAULT_PROGRAMS: &[&str] = &[
    "sh", "awk", "basename", "cat", "chmod", "cp", "cut", "date", "dd", "dirname", "du", "echo", "env",
    "expr", "false", "find", "grep", "gzip", "head", "id", "ln", "ls", "mkdir", "mv", "printf", "pwd", "rm",
    "sed", "seq", "sleep", "sort", "tail", "tar", "test", "touch", "tr", "true", "uname", "uniq", "wc",
];

/// Why a program could not be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FromHostError {
    /// It is in no directory of PATH.
    #[error("`{0}` is in no directory of PATH")]
    NotFound(String),
    /// There is no shell, without which the image is of no use.
    #[error("none of the programs {0} was found in PATH")]
    NoPrograms(String),
    /// It names a library that is nowhere.
    #[error("{program} needs {library}, which is in none of the library directories")]
    NoLibrary { program: PathBuf, library: String },
    /// The path's links form a cycle.
    #[error("{0}: too many symbolic links")]
    LinkLoop(PathBuf),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// Fills `dest` with the programs. Those of [`DEFAULT_PROGRAMS`] are taken where they exist; any
/// that is asked for by name or path must exist. Returns how many were taken.
pub(crate) fn collect(dest: &Path, programs: &[String]) -> Result<usize, FromHostError> {
    let mut taker = Taker { dest: dest.to_owned(), taken: BTreeSet::new(), library_dirs: library_dirs() };
    let search: Vec<PathBuf> = std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect())
        .unwrap_or_default();
    let search = [search, ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(PathBuf::from).to_vec()].concat();
    let mut count = 0;
    if programs.is_empty() {
        for name in DEFAULT_PROGRAMS {
            if let Some(path) = find(name, &search) {
                taker.take_program(&path)?;
                count += 1;
            }
        }
        if count == 0 {
            return Err(FromHostError::NoPrograms(DEFAULT_PROGRAMS.join(", ")));
        }
    }
    for name in programs {
        let path = find(name, &search).ok_or_else(|| FromHostError::NotFound(name.clone()))?;
        taker.take_program(&path)?;
        count += 1;
    }
    // Scripts say `/bin/sh`, also where the shell was found as /usr/bin/sh.
    for link in ["/bin", "/sbin", "/lib", "/lib64"].map(Path::new) {
        if fs::symlink_metadata(link).is_ok_and(|meta| meta.is_symlink()) {
            taker.take(link)?;
        }
    }
    taker.write_frame()?;
    Ok(count)
}

fn find(name: &str, search: &[PathBuf]) -> Option<PathBuf> {
    let executable = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(executable).and_then(|path| std::path::absolute(path).ok());
    }
    search.iter().map(|dir| dir.join(name)).find(executable)
}

struct Taker {
    dest: PathBuf,
    /// Absolute paths that are in `dest` already.
    taken: BTreeSet<PathBuf>,
    library_dirs: Vec<PathBuf>,
}

impl Taker {
    fn take_program(&mut self, path: &Path) -> Result<(), FromHostError> {
        let mut open = vec![path.to_owned()];
        while let Some(path) = open.pop() {
            let Some(real) = self.take(&path)? else { continue };
            open.extend(self.needed_by(&real)?);
        }
        Ok(())
    }

    /// Copies the file at an absolute path and every link on the way to it. Returns the file's real
    /// path, or nothing where it had been taken before.
    fn take(&mut self, path: &Path) -> Result<Option<PathBuf>, FromHostError> {
        let mut rest: Vec<OsString> = components(path);
        let mut real = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == ".." {
                real.pop();
                continue;
            }
            real.push(&name);
            let meta = fs::symlink_metadata(&real).map_err(at(&real))?;
            let first_time = self.taken.insert(real.clone());
            let copy = self.dest.join(real.strip_prefix("/").unwrap_or(&real));
            if meta.is_symlink() {
                links += 1;
                if links > KERNEL_MAX_LINKS {
                    return Err(FromHostError::LinkLoop(path.to_owned()));
                }
                let target = fs::read_link(&real).map_err(at(&real))?;
                if first_time {
                    symlink(&target, &copy).map_err(at(&copy))?;
                }
                real.pop();
                if target.is_absolute() {
                    real = PathBuf::from("/");
                }
                rest.extend(components(&target));
            } else if meta.is_dir() {
                if first_time {
                    fs::create_dir(&copy).map_err(at(&copy))?;
                }
            } else if first_time {
                fs::copy(&real, &copy).map_err(at(&real))?;
                return Ok(Some(real));
            }
        }
        Ok(None)
    }

    /// What an ELF file names: its interpreter and its libraries, as absolute paths.
    fn needed_by(&self, program: &Path) -> Result<Vec<PathBuf>, FromHostError> {
        let bytes = fs::read(program).map_err(at(program))?;
        if let Some(interpreter) = shebang(&bytes) {
            return Ok(vec![interpreter]);
        }
        // A script without a shebang, or a library of another kind, needs nothing that we could
        // know.
        let Ok(elf) = Elf::parse(&bytes) else { return Ok(Vec::new()) };
        let mut needed: Vec<PathBuf> = elf.interpreter.map(PathBuf::from).into_iter().collect();
        let origin = program.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
        let own_dirs = elf.runpath.iter().chain(&elf.rpath);
        let own_dirs: Vec<PathBuf> = own_dirs
            .map(|dir| PathBuf::from(dir.replace("$ORIGIN", &origin).replace("${ORIGIN}", &origin)))
            .collect();
        for library in elf.needed {
            // The dynamic loader is also named as a library by some; it stands where the header
            // says.
            if needed.first().and_then(|path| path.file_name()) == Some(OsStr::new(&library)) {
                continue;
            }
            let found =
                own_dirs.iter().chain(&self.library_dirs).map(|dir| dir.join(&library)).find(|path| {
                    // A directory of another architecture can hold a library of the same name.
                    fs::read(path)
                        .is_ok_and(|bytes| Elf::parse(&bytes).is_ok_and(|found| found.machine == elf.machine))
                });
            needed.push(
                found.ok_or_else(|| FromHostError::NoLibrary { program: program.to_owned(), library })?,
            );
        }
        Ok(needed)
    }

    /// What every image needs beside programs: a user table, and directories that programs take for
    /// granted.
    fn write_frame(&self) -> Result<(), FromHostError> {
        for (dir, mode) in
            [("etc", 0o755), ("root", 0o700), ("tmp", 0o1777), ("var", 0o755), ("var/tmp", 0o1777)]
        {
            let path = self.dest.join(dir);
            fs::create_dir_all(&path).map_err(at(&path))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(at(&path))?;
        }
        for (file, text) in [
            (
                "etc/passwd",
                "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
            ),
            ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
        ] {
            let path = self.dest.join(file);
            fs::write(&path, text).map_err(at(&path))?;
        }
        Ok(())
    }
}

/// The names of a path, last first.
fn components(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut names: Vec<OsString> = names.collect();
    names.reverse();
    names
}

fn shebang(bytes: &[u8]) -> Option<PathBuf> {
    let line = bytes.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    line.split_whitespace().next().filter(|path| path.starts_with('/')).map(PathBuf::from)
}

/// Where the dynamic loader looks: what its configuration lists, then its defaults.
fn library_dirs() -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    read_loader_config(Path::new("/etc/ld.so.conf"), &mut dirs, 0);
    let musl =
        fs::read_dir("/etc").into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-musl-"))
                && path.extension() == Some(OsStr::new("path"))
        });
    for file in musl {
        let text = fs::read_to_string(file).unwrap_or_default();
        dirs.extend(text.split([':', '\n']).filter(|dir| dir.starts_with('/')).map(PathBuf::from));
    }
    dirs.extend(["/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib"].map(PathBuf::from));
    dirs
}

fn read_loader_config(file: &Path, dirs: &mut Vec<PathBuf>, depth: usize) {
    let Ok(text) = fs::read_to_string(file) else { return };
    for line in text.lines().map(str::trim) {
        if let Some(pattern) = line.strip_prefix("include").map(str::trim) {
            // The only pattern in use is a directory's `*.conf`.
            let Some(dir) = pattern.strip_suffix("/*.conf").filter(|_| depth < 4) else { continue };
            let files = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
            let mut files: Vec<PathBuf> =
                files.filter(|path| path.extension() == Some(OsStr::new("conf"))).collect();
            files.sort();
            files.iter().for_each(|file| read_loader_config(file, dirs, depth + 1));
        } else if line.starts_with('/') {
            dirs.push(PathBuf::from(line));
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> FromHostError + use<> {
    let path = path.to_owned();
    move |source| FromHostError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::{FromHostError, collect};

    /// The strongest proof that nothing is missing: the shell starts with no other root than this
    /// one. (Needs root for chroot; the demo's own test shows the same through the binary.)
    #[test]
    fn a_shell_comes_with_all_that_it_needs() {
        let dir = tempfile::tempdir().unwrap();
        let count = collect(dir.path(), &["sh".to_owned(), "ls".to_owned()]).unwrap();
        assert_eq!(count, 2);
        assert!(dir.path().join("bin/sh").exists());
        let output = Command::new("unshare")
            .arg("-r")
            .arg("chroot")
            .arg(dir.path())
            .args(["/bin/sh", "-c", "ls /etc"])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "group\npasswd\n",
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    #[test]
    fn a_program_that_is_asked_for_must_exist() {
        let dir = tempfile::tempdir().unwrap();
        let error = collect(dir.path(), &["no-such-program".to_owned()]).unwrap_err();
        assert!(matches!(error, FromHostError::NotFound(name) if name == "no-such-program"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
