//! The files of a snapshot against its index: all of them thoroughly, or those that a failed
//! command may have met quickly.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};

use dbuild_digest::{ContentHasher, SnapshotId};
use dbuild_layer::{Entry, EntryKind, LayerError, LayerFiles, Mtime, Stack, Tree, TreePath};

use crate::Store;
use crate::snapshots::INDEX;

/// Maximum number of threads that look at the files of one snapshot.
const MOST_THREADS: usize = 8;
/// A thread is worth its start from this number of files on.
const SMALLEST_SHARE: usize = 1000;

/// How a file differs from what its index says.
pub(crate) enum Fault {
    Unreadable(io::Error),
    OtherKind,
    OtherSize { found: u64, expected: u64 },
    OtherContent,
}

impl Fault {
    /// In short.
    fn why(&self) -> &'static str {
        match self {
            Self::Unreadable(error) if error.kind() == io::ErrorKind::NotFound => "it is gone",
            Self::Unreadable(_) => "it cannot be read",
            Self::OtherKind => "it has another type",
            Self::OtherSize { .. } => "it has another size",
            Self::OtherContent => "its content changed",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "{error}"),
            Self::OtherKind => f.write_str("it is something else than its index says"),
            Self::OtherSize { found, expected } => write!(f, "it has {found} bytes, not {expected}"),
            Self::OtherContent => f.write_str(self.why()),
        }
    }
}

impl Store {
    /// The first damage to the files that a command stood on, if there is any. Every file is
    /// compared with its index by type and size. The content is compared of those whose times say
    /// that somebody wrote to them, and of those that the command executed: a disk that loses bits
    /// changes no time.
    ///
    /// `merged` are the directories that the stack was mounted from, where those are not all its
    /// own.
    pub fn damage_below(
        &self,
        stack: &Stack,
        merged: &[PathBuf],
        executed: &HashSet<TreePath>,
    ) -> Option<LayerError> {
        let mut known: HashSet<&Path> = HashSet::new();
        for layer in stack.layers() {
            if let LayerFiles::Snapshot(dir) = &layer.files
                && known.insert(dir)
                && let Some(damage) = find_damage(dir, &layer.tree, executed)
            {
                return Some(damage);
            }
        }
        merged.iter().filter(|dir| !known.contains(&***dir)).find_map(|dir| {
            let id: SnapshotId = dir.parent()?.file_name()?.to_str()?.parse().ok()?;
            find_damage(dir, &self.peek_snapshot(&id)?.tree, executed)
        })
    }
}

fn find_damage(dir: &Path, tree: &Tree, executed: &HashSet<TreePath>) -> Option<LayerError> {
    // The index was written when the files were complete.
    let made = dir.parent().and_then(|home| fs::metadata(home.join(INDEX)).ok());
    let made = made.map(|meta| (meta.mtime(), meta.mtime_nsec())).unwrap_or_default();
    let damage = |entry: &Entry, fault: &Fault| {
        Some(LayerError::Damaged { dir: dir.to_owned(), path: entry.path.clone(), why: fault.why() })
    };
    if tree.is_empty() {
        return None;
    }
    let look = &|entries: &[Entry]| -> Option<LayerError> {
        let mut suspects = Vec::new();
        for entry in entries {
            match compare(dir, tree, entry) {
                Err(fault) => return damage(entry, &fault),
                Ok(meta) if executed.contains(&entry.path) || is_suspect(entry, &meta, made) => {
                    suspects.push(entry);
                }
                Ok(_) => {}
            }
        }
        suspects.into_iter().find_map(|entry| damage(entry, &compare_content(dir, entry).err()?))
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let share = tree.entries().len().div_ceil(threads).max(SMALLEST_SHARE);
    std::thread::scope(|scope| {
        let looks: Vec<_> =
            tree.entries().chunks(share).map(|share| scope.spawn(move || look(share))).collect();
        let found = looks.into_iter().map(|look| look.join().unwrap_or_else(|panic| resume_unwind(panic)));
        found.fold(None, |first, damage| first.or(damage))
    })
}

/// Whether somebody may have written to a file since its index was written. Another name for it
/// changes its ctime, too, as copies that share a file do.
fn is_suspect(entry: &Entry, meta: &Metadata, made: (i64, i64)) -> bool {
    let Mtime { secs, nanos } = entry.mtime;
    let is_file = matches!(entry.kind, EntryKind::File { .. });
    let was_written = (meta.mtime(), meta.mtime_nsec()) != (secs, i64::from(nanos));
    let was_changed = meta.nlink() == 1 && (meta.ctime(), meta.ctime_nsec()) > made;
    is_file && (was_written || was_changed)
}

/// Compares what the file system says of a file with its index.
pub(crate) fn compare(root: &Path, tree: &Tree, entry: &Entry) -> Result<Metadata, Fault> {
    let path = place(root, entry);
    let meta = fs::symlink_metadata(&path).map_err(Fault::Unreadable)?;
    let kind = meta.file_type();
    let matches = match &tree.first_name(entry).kind {
        EntryKind::File { .. } => kind.is_file(),
        EntryKind::Dir { .. } => kind.is_dir(),
        EntryKind::Symlink { target } => {
            kind.is_symlink()
                && fs::read_link(&path).map_err(Fault::Unreadable)?.as_os_str().as_bytes() == &**target
        }
        // Devices may stand for themselves or, where they cannot be made, for something else.
        _ => true,
    };
    match &entry.kind {
        _ if !matches => Err(Fault::OtherKind),
        EntryKind::File { size, .. } if meta.len() != *size => {
            Err(Fault::OtherSize { found: meta.len(), expected: *size })
        }
        _ => Ok(meta),
    }
}

/// Compares the bytes of a regular file with its index.
pub(crate) fn compare_content(root: &Path, entry: &Entry) -> Result<(), Fault> {
    let EntryKind::File { content, .. } = &entry.kind else { return Ok(()) };
    let mut hasher = ContentHasher::default();
    let mut file = File::open(place(root, entry)).map_err(Fault::Unreadable)?;
    copy_into(&mut file, |bytes| hasher.update(bytes)).map_err(Fault::Unreadable)?;
    if hasher.finish() == *content { Ok(()) } else { Err(Fault::OtherContent) }
}

fn place(root: &Path, entry: &Entry) -> PathBuf {
    root.join(Path::new(std::ffi::OsStr::from_bytes(entry.path.as_bytes())))
}

pub(crate) fn copy_into(reader: &mut impl Read, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 18];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => take(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
