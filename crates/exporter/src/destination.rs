//! Where outputs go: a file that appears whole, or stdout.

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Read, Seek, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dbuild_store::{Replacement, StoreError};
use dbuild_support::io_context::IoError;

use crate::error::Context;
use crate::user_file::{Place, make_parent, place};
use crate::{Destination, ExportError, Waiting};

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

/// Writes one file: under another name beside its place, renamed when it is whole; or into what is
/// there, if that is no regular file. Gives the number of bytes.
pub(crate) fn write_file(
    destination: &Destination,
    waiting: &Waiting,
    write: impl FnOnce(&mut dyn Write) -> Result<(), ExportError>,
) -> Result<u64, ExportError> {
    match destination {
        Destination::Stdout => {
            let stdout = io::stdout();
            no_terminal(&stdout)?;
            stream(stdout.lock(), Path::new("stdout"), write)
        }
        Destination::Path(path) => match place(path, waiting)? {
            Place::Into(file, path) => {
                no_terminal(&file)?;
                stream(file, &path, write)
            }
            Place::File(file) => {
                make_parent(&file)?;
                let mut out = FileWriter::new(Output::new(&file).on("read", &file)?);
                write(&mut out)?;
                out.finish()
            }
        },
    }
}

fn no_terminal(out: &impl IsTerminal) -> Result<(), ExportError> {
    if !out.is_terminal() {
        return Ok(());
    }
    let problem = "an archive is not written to a terminal: redirect stdout, or name a file with `dest=FILE`";
    Err(ExportError::Unsupported(problem.to_owned()))
}

/// A file that is written, and appears when it is whole.
pub(crate) struct FileWriter {
    out: Counted<BufWriter<Output>>,
    /// It is no longer wanted.
    is_unwanted: Option<Arc<AtomicBool>>,
}

impl FileWriter {
    fn new(output: Output) -> Self {
        Self { out: Counted { out: BufWriter::with_capacity(BUFFER, output), bytes: 0 }, is_unwanted: None }
    }

    /// Begins a file that is likely to be wanted, and that nobody sees until it is finished. `None`
    /// where that is not possible.
    pub(crate) fn begin(destination: &Destination, is_unwanted: Arc<AtomicBool>) -> Option<Self> {
        let Destination::Path(path) = destination else { return None };
        // A FIFO would be waited for.
        if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
            return None;
        }
        let Place::File(place) = place(path, &Waiting::default()).ok()? else { return None };
        let mut output = Output::new(&place).ok()?;
        output.is_unnamed = true;
        if output.old.is_none() {
            output.new_file().ok()?;
        }
        Some(Self { is_unwanted: Some(is_unwanted), ..Self::new(output) })
    }

    /// No step runs any more: from now on the file is written like any other.
    pub(crate) fn take_over(&mut self) {
        self.is_unwanted = None;
        // A file system that has no files without names may still be met, where the old file was
        // the same so far.
        self.out.out.get_mut().is_unnamed = false;
    }

    /// How many bytes were written.
    pub(crate) fn position(&self) -> u64 {
        self.out.bytes
    }

    /// Takes the place of an old file even if it is the same so far, so that
    /// [`FileWriter::write_over`] can be.
    pub(crate) fn replace(&mut self) -> io::Result<()> {
        self.out.flush()?;
        let output = self.out.out.get_mut();
        if output.new.is_none() { output.new_file() } else { Ok(()) }
    }

    /// Writes over what was written since [`FileWriter::replace`].
    pub(crate) fn write_over(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.out.flush()?;
        let output = self.out.out.get_ref();
        output.new.as_ref().ok_or(io::ErrorKind::NotFound)?.write_over(at, bytes)
    }

    /// Gives the number of bytes.
    pub(crate) fn finish(mut self) -> Result<u64, ExportError> {
        let place = self.out.out.get_ref().place.clone();
        self.out.flush().on("write", &place)?;
        let Self { out: Counted { out, bytes }, .. } = self;
        let output = out.into_inner().map_err(io::IntoInnerError::into_error).on("write", &place)?;
        output.finish()?;
        Ok(bytes)
    }
}

impl Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_unwanted.as_ref().is_some_and(|unwanted| unwanted.load(Ordering::Relaxed)) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A file that is written anew as soon as it turns out to differ from the one in its place: what a
/// build that changed nothing writes is there already.
struct Output {
    place: PathBuf,
    old: Option<File>,
    /// Number of bytes that are those of the old file.
    same: u64,
    new: Option<Replacement>,
    /// The new file has no name before it is whole.
    is_unnamed: bool,
    buffer: Vec<u8>,
}

impl Output {
    fn new(place: &Path) -> io::Result<Self> {
        let old = match File::open(place) {
            Ok(old) => Some(old),
            // What cannot be read can be replaced all the same.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
            Err(error) => return Err(error),
        };
        Ok(Self { place: place.to_owned(), old, same: 0, new: None, is_unnamed: false, buffer: Vec::new() })
    }

    /// Whether the old file goes on with these bytes.
    fn goes_on_with(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let Some(old) = &mut self.old else { return Ok(false) };
        self.buffer.resize(bytes.len(), 0);
        match old.read_exact(&mut self.buffer) {
            Ok(()) => Ok(self.buffer == bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The file that takes the place of the old one; what is the same is taken from there.
    fn new_file(&mut self) -> io::Result<()> {
        let begun = match self.is_unnamed {
            true => Replacement::begin_unnamed(&self.place),
            false => Replacement::begin(&self.place),
        };
        let mut new = begun.map_err(|error| match error {
            StoreError::Io(IoError { source, .. }) => source,
            error => io::Error::other(error),
        })?;
        if let Some(mut old) = self.old.take() {
            old.rewind()?;
            if io::copy(&mut old.take(self.same), &mut new)? < self.same {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.new = Some(new);
        Ok(())
    }

    fn finish(mut self) -> Result<(), ExportError> {
        let place = self.place.clone();
        if let Some(old) = &self.old {
            let meta = old.metadata().on("read", &place)?;
            // Somebody may have removed or replaced it meanwhile.
            let is_there =
                fs::metadata(&place).is_ok_and(|now| (now.dev(), now.ino()) == (meta.dev(), meta.ino()));
            if is_there && meta.len() == self.same {
                return old.sync_all().on("sync", &place);
            }
        }
        if self.new.is_none() {
            self.new_file().on("write", &place)?;
        }
        self.new.map_or(Ok(()), Replacement::publish).map_err(ExportError::from)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.new.is_none() {
            if self.goes_on_with(bytes)? {
                self.same += bytes.len() as u64;
                return Ok(bytes.len());
            }
            self.new_file()?;
        }
        match &mut self.new {
            Some(new) => new.write(bytes),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::write_file;
    use crate::{Destination, ExportError, Waiting};

    fn to(path: &Path, bytes: &[u8]) -> Result<u64, ExportError> {
        write_file(&Destination::Path(path.to_owned()), &Waiting::default(), |out| {
            out.write_all(bytes).map_err(|error| ExportError::from_io(error, "write", path))
        })
    }

    #[test]
    fn a_failed_output_leaves_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.tar");
        assert_eq!(to(&path, b"one").unwrap(), 3);
        let failed = write_file(&Destination::Path(path.clone()), &Waiting::default(), |out| {
            out.write_all(b"half").unwrap();
            Err(ExportError::Unsupported("no".to_owned()))
        });
        assert_eq!(failed.unwrap_err().to_string(), "no");
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "and nothing beside it");
    }

    #[test]
    fn what_is_there_already_is_not_written_again() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.tar");
        let inode = || fs::metadata(&path).unwrap().ino();
        to(&path, b"").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
        for (bytes, is_kept) in [
            (&b"one two"[..], false),
            (b"one two", true),
            (b"one", false),
            (b"one two", false),
            (b"one 222", false),
            (b"", false),
            (b"", true),
        ] {
            let before = fs::File::open(&path).unwrap();
            assert_eq!(to(&path, bytes).unwrap(), bytes.len() as u64);
            assert_eq!(fs::read(&path).unwrap(), bytes);
            assert_eq!(inode() == before.metadata().unwrap().ino(), is_kept, "{bytes:?}");
        }
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
