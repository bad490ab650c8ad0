//! A stack as files: the output `type=local`.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use dbuild_support::io_context::{IoContext as _, IoError};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::disk::{self, Root};
use crate::tree::layer_files::OpenedFiles;
use crate::{
    Entry, EntryKind, LayerError, OverlayFlavor, OverlayFormat, Ownership, Stack, StackEntry, TreePath,
};

/// How files are written outside of the store.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteOptions {
    /// Files get the image's owners (which takes root); otherwise they are the caller's.
    pub owners: bool,
    /// Times after this many seconds since 1970 become it.
    pub clamp_mtime: Option<i64>,
}

/// The name under which a file is written before it takes its place.
const TEMPORARY: &str = ".dbuild-writing";

impl Stack {
    /// Writes all files below a directory, which is made if it is missing. Each file is written
    /// beside its place and then renamed; what is there and in the way is replaced (but a directory
    /// that is not empty is an error), all else stays. No symlink below the directory is followed.
    /// Gives notes about what could not be written (device nodes without root).
    pub fn write_files(&self, dest: &Path, options: &WriteOptions) -> Result<Vec<String>, LayerError> {
        std::fs::create_dir_all(dest).on("create", dest)?;
        let mut writer = Writer {
            root: Root::open(dest, false)?,
            sources: self.layers().iter().map(|layer| layer.files.open()).collect::<Result<_, _>>()?,
            options,
            first: HashMap::new(),
            notes: Vec::new(),
        };
        let all = self.walk(&TreePath::root());
        for found in &all {
            if !found.entry.path.is_root() {
                writer.write(found)?;
            }
        }
        for found in all.iter().rev().filter(|found| found.entry.is_dir() && !found.entry.path.is_root()) {
            let fd = writer.root.open_dir(&found.entry.path)?;
            writer.finish(&fd, found.entry)?;
        }
        Ok(writer.notes)
    }
}

struct Writer<'a> {
    root: Root,
    sources: Vec<Option<OpenedFiles>>,
    options: &'a WriteOptions,
    /// Where the first name of each thing that is no directory was written.
    first: HashMap<(usize, TreePath), TreePath>,
    notes: Vec<String>,
}

impl Writer<'_> {
    fn write(&mut self, found: &StackEntry<'_>) -> Result<(), LayerError> {
        let entry = found.entry;
        let Some((parent, name)) = entry.path.split() else { return Ok(()) };
        let parent = TreePath::from_bytes(parent).map_err(crate::ResolveError::from)?;
        let dir = self.root.open_dir(&parent)?;
        let full = self.root.full(&entry.path);
        let failed = |errno: Errno| LayerError::from(IoError::new("write", &full, errno));
        if entry.is_dir() {
            return make_dir(&dir, name).map_err(failed);
        }
        self.clear(&dir, name).map_err(failed)?;
        let key = (found.layer, found.first_name().path.clone());
        if let Some(first) = self.first.get(&key) {
            rustix::fs::linkat(self.root.fd(), first.as_path(), &dir, TEMPORARY, AtFlags::empty())
                .map_err(failed)?;
            return rustix::fs::renameat(&dir, TEMPORARY, &dir, name).map_err(failed);
        }
        let kind = found.kind();
        match kind {
            EntryKind::File { .. } => self.file(&dir, found)?,
            EntryKind::Symlink { target } => {
                rustix::fs::symlinkat(&**target, &dir, TEMPORARY).map_err(failed)?;
            }
            EntryKind::Fifo => self.node(&dir, FileType::Fifo, (0, 0)).map_err(failed)?,
            EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
                let kind = match kind {
                    EntryKind::CharDevice { .. } => FileType::CharacterDevice,
                    _ => FileType::BlockDevice,
                };
                match self.node(&dir, kind, (*major, *minor)) {
                    Err(Errno::PERM) => {
                        let path = &entry.path;
                        self.notes.push(format!("{path} was left out: only root can make device nodes"));
                        return Ok(());
                    }
                    other => other.map_err(failed)?,
                }
            }
            EntryKind::Dir { .. } | EntryKind::Hardlink { .. } | EntryKind::Whiteout => return Ok(()),
        }
        if !matches!(kind, EntryKind::File { .. }) {
            let as_first = Entry { kind: kind.clone(), ..entry.clone() };
            self.finish_at(&dir, &as_first).map_err(failed)?;
        }
        rustix::fs::renameat(&dir, TEMPORARY, &dir, name).map_err(failed)?;
        self.first.insert(key, entry.path.clone());
        Ok(())
    }

    fn node(&self, dir: &OwnedFd, kind: FileType, (major, minor): (u32, u32)) -> Result<(), Errno> {
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(dir, TEMPORARY, kind, Mode::RUSR | Mode::WUSR, device)
    }

    /// Makes room for the temporary file, and removes an empty directory where the image has none.
    fn clear(&self, dir: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
        match rustix::fs::unlinkat(dir, TEMPORARY, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn file(&mut self, dir: &OwnedFd, found: &StackEntry<'_>) -> Result<(), LayerError> {
        let full = self.root.full(&found.entry.path);
        let Some(file) = found.file() else { return Ok(()) };
        let source = self.sources.get(found.layer).and_then(Option::as_ref);
        let source = source.ok_or(LayerError::NotUnpacked { path: file.entry.path.clone() })?;
        let (source, path) = source.at(&file.entry.path)?;
        let (from, stat) = source.open_file(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = rustix::fs::openat(dir, TEMPORARY, flags, Mode::RUSR | Mode::WUSR)
            .map(std::fs::File::from)
            .on("write", &full)?;
        let copied = disk::copy_bytes(&from, &stat, &to).on("write", &full)?;
        if copied != file.size || stat.size != file.size {
            return Err(source.damaged(&file.entry.path, "it has another size"));
        }
        self.finish(&to, found.entry)
    }

    fn finish(&mut self, fd: impl AsFd, entry: &Entry) -> Result<(), LayerError> {
        let missing = disk::set_meta(fd, &self.outside(entry), FORM)
            .on("set the metadata of", self.root.full(&entry.path))?;
        if let Some(what) = missing {
            self.notes.push(format!("{} could not be given {what} there", entry.path));
        }
        Ok(())
    }

    fn finish_at(&self, dir: &OwnedFd, entry: &Entry) -> Result<(), Errno> {
        let path = TreePath::from_bytes(TEMPORARY.as_bytes()).unwrap_or_default();
        disk::set_meta_at(dir, &Entry { path, ..self.outside(entry) }, FORM)
    }

    /// The entry as it is outside of the store.
    fn outside(&self, entry: &Entry) -> Entry {
        let mut entry = entry.clone();
        if !self.options.owners {
            (entry.uid, entry.gid) = disk::own_ids();
        }
        if let Some(clamp) = self.options.clamp_mtime.filter(|clamp| entry.mtime.secs >= *clamp) {
            entry.mtime = crate::Mtime { secs: clamp, nanos: 0 };
        }
        entry
    }
}

/// Owners that only root could give are left as they are.
const FORM: OverlayFormat =
    OverlayFormat { flavor: OverlayFlavor::Trusted, ownership: Ownership::BestEffort };

/// Makes a directory; what is no directory is replaced.
fn make_dir(dir: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::mkdirat(dir, name, Mode::RWXU) {
        Err(Errno::EXIST) => {}
        other => return other,
    }
    // With O_NOFOLLOW a symlink is no directory.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(_) => Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => {
            rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
            rustix::fs::mkdirat(dir, name, Mode::RWXU)
        }
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
#[path = "tests/export.rs"]
mod tests;
