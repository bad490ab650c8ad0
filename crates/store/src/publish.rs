//! How anything comes to be in the store: whole, or not at all.
//!
//! Everything is made below `tmp/` (the same file system), complete, and then renamed to its place;
//! referents come before references (blob before index, snapshot before record). What is in its
//! place is therefore whole *for every process of this boot*, whoever is killed and when.
//!
//! What a crash of the machine (power, kernel) may lose is another matter, and differs by
//! [`Durability`]:
//!
//! - [`Durability::Now`]: the file is fsynced before the rename and its directory after it. When
//!   the call has returned, the file is there and whole after a crash. `index.json`, `format` and
//!   outputs are written so, and every blob that a tag refers to has been brought to this state
//!   before the tag is written.
//! - [`Durability::Later`]: nothing is synced. After a crash the file may be missing, empty or torn
//!   although the rename was seen. Snapshots and most blobs are published so. Their rows in the
//!   database carry the id of the boot in which they were made until [`crate::Store::make_durable`]
//!   (one `syncfs`, at the end of a build) has cleared it; a store that is opened in another boot
//!   drops every row that still carries one, with its files.
//!
//! So a crash may cost the results of the builds that were running, and never gives a wrong one.
//! The database (SQLite, WAL, `synchronous=NORMAL`) may lose its last transactions in a crash, but
//! is never torn.

use std::fs::{self, File};
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use dbuild_support::io_context::IoContext as _;
use rustix::fs::{Advice, AtFlags, CWD, FallocateFlags, Mode, OFlags};

use crate::StoreError;

/// When a file that is published must survive a crash of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// When the call returns.
    Now,
    /// When `make_durable` has run.
    Later,
}

/// Moves a finished file or directory from `tmp/` to its place. A file that is there is replaced.
pub(crate) fn publish(temp: &Path, place: &Path, durability: Durability) -> Result<(), StoreError> {
    if durability == Durability::Now {
        File::open(temp).and_then(|file| file.sync_all()).on("sync", temp)?;
    }
    fs::rename(temp, place).on("write", place)?;
    if durability == Durability::Now {
        sync_dir(parent(place))?;
    }
    Ok(())
}

/// Writes a small file through `temp`, which must be on the same file system and not exist.
pub(crate) fn publish_bytes(
    temp: &Path,
    place: &Path,
    bytes: &[u8],
    durability: Durability,
) -> Result<(), StoreError> {
    let written = create_new(temp).and_then(|mut file| file.write_all(bytes));
    let published =
        written.on("write", place).map_err(StoreError::from).and_then(|()| publish(temp, place, durability));
    if published.is_err() {
        // The error that counts is the first one.
        let _ = fs::remove_file(temp);
    }
    published
}

/// Writes a file outside of the store so that it is there whole or as it was before: a temporary
/// file beside it, fsync, rename. A symbolic link in its place is replaced, not followed; what a
/// user names goes through `dbuild_exporter::write_result`, which follows it first.
pub fn replace_file(
    place: &Path,
    write: impl FnOnce(&mut Replacement) -> io::Result<()>,
) -> Result<(), StoreError> {
    let mut replacement = Replacement::begin(place)?;
    write(&mut replacement).on("write", place)?;
    replacement.publish()
}

/// A file that will take the place of another; dropped before it is published, it leaves nothing.
#[derive(Debug)]
pub struct Replacement {
    place: PathBuf,
    temp: PathBuf,
    /// The file has no name yet, not even a temporary one.
    is_unnamed: bool,
    file: File,
    behind: WriteBehind,
}

impl Replacement {
    /// Makes the temporary file beside the place.
    pub fn begin(place: &Path) -> Result<Self, StoreError> {
        let temp = beside(place);
        let file = File::options().write(true).read(true).create_new(true).open(&temp).on("write", place)?;
        let behind = WriteBehind::default();
        keep_access(&file, place);
        Ok(Self { place: place.to_owned(), temp, is_unnamed: false, file, behind })
    }

    /// The same without a name, so that nobody sees it before it is published, and nothing is left
    /// whoever is killed. Fails where the file system cannot do that.
    pub fn begin_unnamed(place: &Path) -> Result<Self, StoreError> {
        let (flags, mode) = (OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC, Mode::from_raw_mode(0o666));
        let file =
            rustix::fs::open(parent(place), flags, mode).map_err(io::Error::from).on("write", place)?;
        let (temp, behind, file) = (beside(place), WriteBehind::default(), File::from(file));
        keep_access(&file, place);
        Ok(Self { place: place.to_owned(), temp, is_unnamed: true, file, behind })
    }

    /// Writes over what was written before.
    pub fn write_over(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    /// Syncs the file and moves it to its place.
    pub fn publish(self) -> Result<(), StoreError> {
        self.behind.finish(&self.file).on("write", &self.place)?;
        if self.is_unnamed {
            // No link takes the place of a file that is there: under a temporary name first.
            let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            let linked = rustix::fs::linkat(CWD, own, CWD, &self.temp, AtFlags::SYMLINK_FOLLOW);
            linked.map_err(io::Error::from).on("write", &self.place)?;
        }
        publish(&self.temp, &self.place, Durability::Now)
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.behind.wrote(&self.file, written);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        // After it was published there is nothing of that name.
        let _ = fs::remove_file(&self.temp);
    }
}

/// What makes appending to a large file cheap. The disk begins with what was written while more is
/// written, so that syncing does not wait for all of it; and room is reserved ahead in large
/// pieces, so that the file system need not find some for each block.
#[derive(Debug, Default)]
pub(crate) struct WriteBehind {
    written: u64,
    begun: u64,
    /// There is room for so many bytes. `u64::MAX`: none is asked for any more.
    reserved: u64,
}

impl WriteBehind {
    /// The disk is told each time that so much is new: little enough that it is at work on a small
    /// archive, too, before its end.
    const PIECE: u64 = 1 << 20;
    /// From this size on room is reserved, so much at a time.
    const RESERVE: u64 = 16 << 20;

    /// Notes that this number of bytes was appended to the file.
    pub(crate) fn wrote(&mut self, file: &File, count: usize) {
        self.written += count as u64;
        let new = self.written - self.begun;
        if new >= Self::PIECE {
            // Linux begins to write what is dirty, and drops from memory what is clean: in what is
            // new, nothing.
            let _ = rustix::fs::fadvise(file, self.begun, NonZeroU64::new(new), Advice::DontNeed);
            self.begun = self.written;
        }
        if self.written >= Self::RESERVE && self.reserved < self.written + Self::RESERVE / 4 {
            self.reserve(file);
        }
    }

    fn reserve(&mut self, file: &File) {
        let from = self.reserved.max(self.written);
        // The size of the file stays what was written. What cannot do this, or has little room
        // left, goes on without.
        let reserved = rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, from, Self::RESERVE);
        self.reserved = if reserved.is_ok() { from + Self::RESERVE } else { u64::MAX };
    }

    /// The file is whole: what was reserved and not needed is given back.
    pub(crate) fn finish(&self, file: &File) -> io::Result<()> {
        if self.reserved > 0 { file.set_len(self.written) } else { Ok(()) }
    }
}

/// Gives a new file the permissions of the one that it replaces, and its owner where that is
/// allowed: they were chosen by whoever made that file, and writing into it would have kept them.
fn keep_access(file: &File, place: &Path) {
    let Some(old) = fs::symlink_metadata(place).ok().filter(fs::Metadata::is_file) else { return };
    let mine = file.metadata().is_ok_and(|new| (new.uid(), new.gid()) == (old.uid(), old.gid()));
    let owned = mine || std::os::unix::fs::fchown(file, Some(old.uid()), Some(old.gid())).is_ok();
    // Rights of another group are not given to the own one.
    let mode = old.mode() & if owned { 0o777 } else { 0o707 };
    // It is opened once more to be synced.
    let _ = file.set_permissions(fs::Permissions::from_mode(mode | 0o400));
}

/// A name beside a place for what is not whole yet.
fn beside(place: &Path) -> PathBuf {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    place.with_file_name(format!(".{name}.{}.tmp", crate::ids::unique()))
}

/// The directory that a place is in; of a bare name, the current one.
fn parent(place: &Path) -> &Path {
    place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes renames in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    Ok(File::open(dir).and_then(|dir| dir.sync_all()).on("sync", dir)?)
}

/// A new file, private to its owner.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Removes a file or a whole tree, also one that holds directories without permissions (as
/// overlayfs leaves them below its work directory). What is not there is fine.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_directories(path)?;
            fs::remove_dir_all(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The same for as long as there is time; whether all of it is gone. Fails where [`remove_tree`]
/// knows what to do.
pub(crate) fn remove_tree_while(path: &Path, in_time: &dyn Fn() -> bool) -> io::Result<bool> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return fs::remove_file(path).map(|()| true);
    }
    for entry in fs::read_dir(path)? {
        if !in_time() || !remove_tree_while(&entry?.path(), in_time)? {
            return Ok(false);
        }
    }
    fs::remove_dir(path).map(|()| true)
}

fn open_directories(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_directories(&entry.path())?;
        }
    }
    Ok(())
}
