//! Where a result goes.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dbuild_store::{StoreError, replace_file};
use dbuild_support::io_context::IoError;
use dbuild_support::resolve_links::KERNEL_MAX_LINKS;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Waiting;
use super::descriptor::{duplicate, is_magic_link, own_descriptor};
use super::waiting::TURN;
use crate::ExportError;
use crate::error::Context;

/// What a path leads to, once its links were followed.
#[derive(Debug)]
pub(crate) enum Place {
    /// A regular file, or nothing yet: a new file takes this name.
    File(PathBuf),
    /// Anything else, open for writing: it is never replaced.
    Into(File, PathBuf),
}

/// Writes the whole of a small result: an image's id, metadata, a report.
pub fn write_result(path: &Path, bytes: &[u8], waiting: &Waiting) -> Result<(), ExportError> {
    match place(path, waiting)? {
        Place::File(file) => {
            make_parent(&file)?;
            replace_file(&file, |new| new.write_all(bytes)).map_err(|error| match error {
                StoreError::Io(IoError { source, .. }) => ExportError::from_io(source, "write", path),
                error => error.into(),
            })
        }
        Place::Into(mut file, _) => file.write_all(bytes).and_then(|()| file.flush()).on("write", path),
    }
}

/// The directory of a file that is about to be made.
pub(crate) fn make_parent(file: &Path) -> Result<(), ExportError> {
    match file.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => fs::create_dir_all(parent).on("make the directory", parent),
        None => Ok(()),
    }
}

/// Finds out where a result goes that is to be written to `path`; for a FIFO, once somebody reads
/// it.
pub(crate) fn place(path: &Path, waiting: &Waiting) -> Result<Place, ExportError> {
    let mut at = path.to_owned();
    for _ in 0..KERNEL_MAX_LINKS {
        if let Some(number) = own_descriptor(&at) {
            let file = duplicate(number).or_else(|_| open(&at)).on("write", path)?;
            return into_file(file, path);
        }
        let meta = match fs::symlink_metadata(&at) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Place::File(at)),
            Err(error) => return Err(error).on("write", path),
        };
        let is_magic = meta.is_symlink() && is_magic_link(&at);
        if meta.is_symlink() && !is_magic {
            let target = fs::read_link(&at).on("read the link", &at)?;
            at = at.parent().unwrap_or(Path::new("")).join(target);
            continue;
        }
        let kind = if is_magic { fs::metadata(&at).on("write", path)?.file_type() } else { meta.file_type() };
        return if kind.is_file() && !is_magic {
            Ok(Place::File(at))
        } else if kind.is_socket() {
            let problem = format!("{} is a socket, which cannot be written to: name a file", path.display());
            Err(ExportError::Unsupported(problem))
        } else if kind.is_dir() {
            Err(io::Error::from(io::ErrorKind::IsADirectory)).on("write the file", path)
        } else if kind.is_fifo() {
            open_fifo(&at, path, waiting).map(|file| Place::Into(file, path.to_owned()))
        } else {
            into_file(open(&at).on("write", path)?, path)
        };
    }
    Err(io::Error::from(Errno::LOOP)).on("write", path)
}

fn into_file(file: File, path: &Path) -> Result<Place, ExportError> {
    if file.metadata().on("write", path)?.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory)).on("write the file", path);
    }
    Ok(Place::Into(file, path.to_owned()))
}

/// A device, or what another process has open; of a regular file there, nothing is cut off.
fn open(path: &Path) -> io::Result<File> {
    File::options().append(true).custom_flags(OFlags::NOCTTY.bits().cast_signed()).open(path)
}

/// A FIFO that nobody reads cannot be opened: its reader is waited for.
fn open_fifo(fifo: &Path, shown: &Path, waiting: &Waiting) -> Result<File, ExportError> {
    let began = Instant::now();
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = loop {
        match File::options().write(true).custom_flags(flags).open(fifo) {
            Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
                waiting
                    .turn(began, &format!("the reader of the pipe {}", shown.display()))
                    .on("write", shown)?;
                std::thread::sleep(TURN.min(Duration::from_millis(50)));
            }
            other => break other.on("write", shown)?,
        }
    };
    // From now on a reader that is slow is waited for by the kernel.
    let flags = rustix::fs::fcntl_getfl(&file).map_err(io::Error::from).on("write", shown)?;
    rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK).map_err(io::Error::from).on("write", shown)?;
    Ok(file)
}
