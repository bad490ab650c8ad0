//! The Dockerfile and its ignore file: where they lie, and their text.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use dbuild_exporter::is_pipe;
use dbuild_frontend::Source;
use dbuild_layer::{Ignore, IgnoreError, is_utf16};

use crate::error::Error;
use crate::pipes::{self, LARGEST, read_once, say_if_typed};

/// The text, and where it lies if it lies in a file. `written` is the context `root` as the user
/// names it.
pub(crate) fn dockerfile(
    written: &Path,
    root: &Path,
    file: Option<&Path>,
) -> Result<(Source, Option<PathBuf>), Error> {
    if let Some(file) = file.filter(|file| *file == Path::new("-") || is_pipe(file)) {
        if file == Path::new("-") {
            say_if_typed("the Dockerfile");
        }
        let shown = file.to_string_lossy().into_owned();
        let what = if shown == "-" { "the Dockerfile from standard input" } else { &shown };
        let bytes = read_once(file).map_err(|error| pipes::cannot_read(what, error))?;
        return Ok((source_of(&shown, &bytes)?, None));
    }
    let (path, shown) = match file {
        Some(path) => {
            let path = in_lower_case(path).unwrap_or_else(|| path.to_owned());
            (path.clone(), path.to_string_lossy().into_owned())
        }
        None => {
            let name = default_dockerfile(root).unwrap_or("Dockerfile");
            (root.join(name), written.join(name).to_string_lossy().into_owned())
        }
    };
    let shown = shown.strip_prefix("./").unwrap_or(&shown).to_owned();
    match read_small(&path) {
        Ok(bytes) => Ok((source_of(&shown, &bytes)?, Some(path))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let elsewhere = find_dockerfiles(root);
            let error = Error::failed(format!("there is no Dockerfile at {shown}"));
            Err(match elsewhere.as_slice() {
                [] => error.hint("name it with `-f FILE`"),
                found => error.hint(format!("there is {}; name it with `-f FILE`", found.join(", "))),
            })
        }
        Err(error) => Err(Error::failed(format!("cannot read {shown}: {error}"))),
    }
}

/// The Dockerfile of a directory where none is named.
pub(crate) fn default_dockerfile(dir: &Path) -> Option<&'static str> {
    ["Dockerfile", "dockerfile", "Containerfile"].into_iter().find(|name| dir.join(name).exists())
}

/// The file `dockerfile` beside a `Dockerfile` that is not there, as BuildKit reads it.
fn in_lower_case(path: &Path) -> Option<PathBuf> {
    let is_missing = path.file_name().is_some_and(|name| name == "Dockerfile") && !path.exists();
    Some(path.with_file_name("dockerfile")).filter(|path| is_missing && path.exists())
}

/// A Dockerfile's text.
pub(crate) fn source_of(name: &str, bytes: &[u8]) -> Result<Source, Error> {
    if is_utf16(bytes) {
        return Err(Error::failed(format!("{name} is written in UTF-16, and Dockerfiles are UTF-8"))
            .hint("save it as UTF-8"));
    }
    Ok(Source::from_bytes(name, bytes))
}

fn find_dockerfiles(context: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(context).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.to_ascii_lowercase().contains("dockerfile") && !name.ends_with(".dockerignore"))
        .collect();
    names.sort();
    names.truncate(3);
    names
}

/// `NAME.dockerignore` beside the Dockerfile, else `.dockerignore` in the context.
pub(crate) fn ignore_file(context: &Path, dockerfile: Option<&Path>) -> Result<Ignore, Error> {
    let own = dockerfile.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    for path in own.into_iter().chain([context.join(".dockerignore")]) {
        match read_small(&path) {
            Ok(bytes) => {
                let ignore = Ignore::parse(&bytes).map_err(|error| bad_ignore_file(&path, &error))?;
                let name = path.file_name().unwrap_or(path.as_os_str());
                return Ok(ignore.of_file(name.to_string_lossy()));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::failed(format!("cannot read {}: {error}", path.display()))),
        }
    }
    Ok(Ignore::default())
}

fn bad_ignore_file(path: &Path, error: &IgnoreError) -> Error {
    match error {
        IgnoreError::Pattern { line, error } => Error::failed(format!("{}:{line}: {error}", path.display())),
        IgnoreError::Utf16 => Error::failed(format!("{}: {error}", path.display())).hint("save it as UTF-8"),
    }
}

/// Reads a regular file; a FIFO or a device is not waited for.
pub(crate) fn read_small(path: &Path) -> std::io::Result<Vec<u8>> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = File::options().read(true).custom_flags(nonblocking).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(std::io::Error::other(if meta.is_dir() {
            "it is a directory"
        } else {
            "it is not a regular file"
        }));
    }
    if meta.len() > LARGEST {
        return Err(std::io::Error::other(format!(
            "it has {} bytes, and no more than {LARGEST} are read",
            meta.len()
        )));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}
