//! Where outputs go: a file that appears whole, or stdout.

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use crate::error::Context;
use crate::{Destination, ExportError};

const BUFFER: usize = 256 << 10;

/// Counts what goes through.
struct Counted<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes one file: under another name beside its place, renamed when it is whole. Gives the number of bytes.
pub(crate) fn write_file(
    destination: &Destination,
    write: impl FnOnce(&mut dyn Write) -> Result<(), ExportError>,
) -> Result<u64, ExportError> {
    match destination {
        Destination::Stdout => {
            let stdout = io::stdout();
            if stdout.is_terminal() {
                return Err(ExportError::Unsupported(
                    "an archive is not written to a terminal: redirect stdout, or name a file with `dest=FILE`".to_owned(),
                ));
            }
            stream(stdout.lock(), Path::new("stdout"), write)
        }
        Destination::Path(path) => {
            let place = followed(path);
            match fs::metadata(&place) {
                Ok(meta) if meta.is_dir() => {
                    let source = io::Error::from(io::ErrorKind::IsADirectory);
                    return Err(ExportError::Io { action: "write the file", path: place, source });
                }
                // A pipe or device is written through, not replaced.
                Ok(meta) if !meta.is_file() => {
                    let file = File::options().write(true).open(&place).on("write", &place)?;
                    return stream(file, &place, write);
                }
                _ => {}
            }
            if let Some(parent) = place.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                fs::create_dir_all(parent).on("make the directory", parent)?;
            }
            let mut bytes = 0;
            let mut failure = None;
            let replaced = dbuild_store::replace_file(&place, |file| match stream(file, &place, write) {
                Ok(count) => {
                    bytes = count;
                    Ok(())
                }
                Err(error) => {
                    // It comes back as what it is, below.
                    failure = Some(error);
                    Err(io::Error::other("given up"))
                }
            });
            match (failure, replaced) {
                (Some(error), _) => Err(error),
                (None, replaced) => replaced.map(|()| bytes).map_err(ExportError::from),
            }
        }
    }
}

fn stream(
    out: impl Write,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), ExportError>,
) -> Result<u64, ExportError> {
    let mut out = Counted { out: BufWriter::with_capacity(BUFFER, out), bytes: 0 };
    write(&mut out)?;
    out.flush().on("write", path)?;
    Ok(out.bytes)
}

/// Where a symbolic link leads, so that the link stays and its target is replaced.
fn followed(path: &Path) -> PathBuf {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::write_file;
    use crate::{Destination, ExportError};

    fn to(path: &Path, bytes: &[u8]) -> Result<u64, ExportError> {
        write_file(&Destination::Path(path.to_owned()), |out| {
            out.write_all(bytes).map_err(|error| ExportError::from_io(error, "write", path))
        })
    }

    #[test]
    fn a_failed_output_leaves_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.tar");
        assert_eq!(to(&path, b"one").unwrap(), 3);
        let failed = write_file(&Destination::Path(path.clone()), |out| {
            out.write_all(b"half").unwrap();
            Err(ExportError::Unsupported("no".to_owned()))
        });
        assert_eq!(failed.unwrap_err().to_string(), "no");
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "and nothing beside it");
    }

    #[test]
    fn links_are_followed_and_directories_made() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("a/b/file"), dir.path().join("link"));
        to(&file, b"one").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        to(&link, b"two").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(to(Path::new("/dev/null"), b"x").unwrap(), 1);
        let error =
            to(dir.path(), b"x").unwrap_err().to_string().replace(&dir.path().display().to_string(), "DIR");
        insta::assert_snapshot!(error, @"cannot write the file DIR: is a directory (`dest` names the wrong kind of file)");
    }
}
