//! The files of the final stage, as a directory or a tar.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use dbuild_layer::{LayerError, Stack, TreePath, WriteOptions, write_tars};
use dbuild_oci::Platform;

use crate::ExportError;
use crate::error::Context;

/// Writes the files of each platform: in `dest` itself, or (`split`) each in
/// `dest/os_architecture`. A `dest` that does not exist yet appears whole; into one that does,
/// files are added. Gives notes on what could not be written.
pub(crate) fn write_directory(
    files: &[(Platform, Stack)],
    split: bool,
    dest: &Path,
    options: &WriteOptions,
) -> Result<Vec<String>, ExportError> {
    let exists = fs::symlink_metadata(dest).is_ok();
    let target = if exists { dest.to_owned() } else { beside(dest)? };
    let written = write_all(files, split, &target, options);
    if exists {
        return written;
    }
    let renamed = written.and_then(|notes| fs::rename(&target, dest).on("write", dest).map(|()| notes));
    if renamed.is_err() {
        let _ = dbuild_store::remove_tree(&target);
    }
    renamed
}

fn write_all(
    files: &[(Platform, Stack)],
    split: bool,
    dest: &Path,
    options: &WriteOptions,
) -> Result<Vec<String>, ExportError> {
    let mut notes = Vec::new();
    fs::create_dir_all(dest).on("make the directory", dest)?;
    for (platform, stack) in files {
        let dir = if split { dest.join(folder(platform)) } else { dest.to_owned() };
        notes.extend(stack.write_files(&dir, options).map_err(layer)?);
    }
    Ok(notes)
}

/// Writes the files of each platform as one tar: as they are, or (`split`) each in a directory
/// `os_architecture`.
pub(crate) fn write_tar(
    files: &[(Platform, Stack)],
    split: bool,
    clamp_mtime: Option<i64>,
    out: &mut dyn Write,
) -> Result<(), ExportError> {
    let part = |(platform, stack)| -> Result<(TreePath, &Stack), ExportError> {
        let dir: &Platform = platform;
        let dir = if split { TreePath::clean(folder(dir).as_bytes()) } else { Ok(TreePath::root()) };
        Ok((dir.map_err(|error| layer(dbuild_layer::ResolveError::from(error).into()))?, stack))
    };
    let parts = files.iter().map(|(platform, stack)| part((platform, stack)));
    write_tars(&parts.collect::<Result<Vec<_>, _>>()?, out, clamp_mtime).map_err(layer)
}

fn folder(platform: &Platform) -> String {
    platform.to_string().replace('/', "_")
}

/// A name that nobody else uses, in the same directory.
fn beside(dest: &Path) -> Result<PathBuf, ExportError> {
    let parent = dest.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).on("make the directory", parent)?;
    let name = dest.file_name().unwrap_or_default().to_string_lossy();
    let mut number = std::process::id();
    loop {
        let path = parent.join(format!(".{name}.{number}.tmp"));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                number = number.wrapping_add(1)
            }
            Err(error) => return Err(error).on("make the directory", &path),
        }
    }
}

fn layer(error: LayerError) -> ExportError {
    ExportError::Layer(error)
}
