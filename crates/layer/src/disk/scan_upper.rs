//! What a RUN wrote: an overlayfs upper directory as an index.

use std::collections::HashMap;
use std::path::Path;

use dbuild_digest::ContentDigest;
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use crate::disk::hash::hash_bytes;
use crate::disk::{self, Root, Stat};
use crate::tree::unwritten::Opened;
use crate::{
    DiskForm, Entry, EntryKind, Found, LayerError, OverlayFlavor, Ownership, Stack, Tree, TreePath, Xattrs,
};

/// Gives an empty upper directory the mode, owner and time that the root of the lower layers has, so that a mount
/// shows it.
pub fn prepare_upper(upper: &Path, lower: &Stack, form: impl Into<DiskForm>) -> Result<(), LayerError> {
    let entry = root_of(lower);
    let root = Root::open(upper, false)?;
    disk::set_meta(root.fd(), &entry, form.into()).map_err(LayerError::io("set the metadata of", upper))?;
    Ok(())
}

/// Indexes an overlayfs upper directory after a RUN, when nothing is mounted on it any more. What is the same
/// as in `lower` (a file that was opened for writing and not changed, a directory in which nothing is left, a whiteout of
/// nothing) is removed from it, and so are sockets, which no layer can hold.
///
/// Of extended attributes only `security.capability` is kept. The root of the file system is not part of the layer (as in
/// BuildKit): a RUN that changes its mode changes it for itself.
///
/// With [`Ownership::BestEffort`] an owner on disk may stand for another: a file that lies below with an owner that the
/// disk could not have, and that was copied up with the same owner on disk, keeps the owner of the lower layer's index.
pub fn scan_upper(upper: &Path, lower: &Stack, form: impl Into<DiskForm>) -> Result<Tree, LayerError> {
    let form = form.into();
    let scan = Scan { root: Root::open(upper, false)?, lower, form, lower_roots: open_all(lower, form)? };
    let mut found = scan.collect()?;
    found.sort_unstable_by(|a, b| a.entry.path.cmp(&b.entry.path));
    scan.read_files(&mut found)?;
    let kept = scan.prune(found)?;
    disk::set_meta(scan.root.fd(), &root_of(lower), form)
        .map_err(LayerError::io("set the metadata of", upper))?;
    let mut entries: Vec<Entry> = kept.into_iter().map(|found| found.entry).collect();
    fix_groups(&mut entries);
    Ok(Tree::from_entries(entries)?)
}

fn root_of(lower: &Stack) -> Entry {
    let root = TreePath::root();
    lower.lookup(&root).map_or_else(|| Entry::new_dir(root.clone()), |found| found.entry.clone())
}

/// The lower directories, to ask what the disk says; only best effort needs them.
fn open_all(lower: &Stack, form: DiskForm) -> Result<Vec<Option<Root>>, LayerError> {
    let root = |opened| match opened {
        Some(Opened::Dir(root)) => Some(root),
        // What is not on disk cannot be below a mount.
        Some(Opened::Borrowed(..)) | None => None,
    };
    match form.ownership {
        Ownership::Exact => Ok(Vec::new()),
        Ownership::BestEffort => lower.layers().iter().map(|layer| layer.files.open().map(root)).collect(),
    }
}

struct Scan<'a> {
    root: Root,
    lower: &'a Stack,
    form: DiskForm,
    lower_roots: Vec<Option<Root>>,
}

struct InUpper {
    entry: Entry,
    stat: Stat,
}

/// What reading a file or directory gave.
struct Read {
    content: Option<(u64, ContentDigest)>,
    xattrs: Xattrs,
    opaque: bool,
    copied_up: bool,
}

impl Scan<'_> {
    fn collect(&self) -> Result<Vec<InUpper>, LayerError> {
        let mut found = Vec::new();
        let mut todo = vec![TreePath::root()];
        while let Some(dir) = todo.pop() {
            for (name, stat) in self.root.list(&dir)? {
                let path = dir.child(&name).map_err(crate::ResolveError::from)?;
                let (major, minor) = stat.rdev;
                let kind = match stat.kind {
                    FileType::RegularFile => {
                        EntryKind::File { size: stat.size, content: ContentDigest::of(b"") }
                    }
                    FileType::Directory => EntryKind::Dir { opaque: false },
                    FileType::Symlink => EntryKind::Symlink { target: self.root.read_link(&path)? },
                    FileType::Fifo => EntryKind::Fifo,
                    FileType::CharacterDevice if stat.rdev == (0, 0) => EntryKind::Whiteout,
                    FileType::CharacterDevice => EntryKind::CharDevice { major, minor },
                    FileType::BlockDevice => EntryKind::BlockDevice { major, minor },
                    _ => {
                        self.remove(&path, AtFlags::empty())?;
                        continue;
                    }
                };
                if stat.kind == FileType::Directory {
                    todo.push(path.clone());
                }
                let entry = match kind {
                    EntryKind::Whiteout => Entry::new_whiteout(path),
                    kind => Entry {
                        mode: if stat.kind == FileType::Symlink { 0o777 } else { stat.mode },
                        uid: stat.uid,
                        gid: stat.gid,
                        mtime: stat.mtime,
                        kind,
                        ..Entry::new_dir(path)
                    },
                };
                found.push(InUpper { entry, stat });
            }
        }
        Ok(found)
    }

    /// Fills in contents, attributes, opaqueness, hardlinks and owners.
    fn read_files(&self, found: &mut [InUpper]) -> Result<(), LayerError> {
        let mut first: HashMap<u64, TreePath> = HashMap::new();
        for InUpper { entry, stat } in found.iter_mut() {
            if stat.kind == FileType::RegularFile && stat.nlink > 1 {
                match first.get(&stat.ino) {
                    Some(target) => entry.kind = EntryKind::Hardlink { target: target.clone() },
                    None => drop(first.insert(stat.ino, entry.path.clone())),
                }
            }
        }
        let read = disk::parallel(found, |one| self.read(one))?;
        let mut attributes: HashMap<TreePath, (u64, Xattrs)> = HashMap::new();
        for (InUpper { entry, stat }, read) in found.iter_mut().zip(read) {
            match &mut entry.kind {
                EntryKind::File { size, content } => {
                    if let Some(read) = read.content {
                        (*size, *content) = read;
                    }
                    entry.xattrs = read.xattrs;
                    if stat.nlink > 1 && !entry.xattrs.is_empty() {
                        attributes.insert(entry.path.clone(), (stat.ino, entry.xattrs.clone()));
                    }
                }
                EntryKind::Hardlink { target } => {
                    entry.xattrs =
                        attributes.get(target).map(|(_, xattrs)| xattrs.clone()).unwrap_or_default();
                }
                EntryKind::Dir { opaque } => {
                    // New directories are marked too, which means nothing where nothing is below.
                    *opaque = read.opaque
                        && self.lower.lookup(&entry.path).is_some_and(|found| found.entry.is_dir());
                    entry.xattrs = read.xattrs;
                }
                _ => {}
            }
            if self.form.ownership == Ownership::BestEffort {
                self.recover_owner(entry, stat, read.copied_up)?;
            }
        }
        Ok(())
    }

    fn read(&self, one: &InUpper) -> Result<Read, LayerError> {
        let mut read = Read { content: None, xattrs: Vec::new(), opaque: false, copied_up: false };
        let path = &one.entry.path;
        let failed = |errno: Errno| LayerError::io("read", self.root.full(path))(errno);
        let flavor = self.form.flavor;
        match one.entry.kind {
            EntryKind::File { .. } => {
                let (file, stat) = self.root.open_file(path)?;
                read.content = Some(
                    hash_bytes(&file, stat.size, None)
                        .map_err(LayerError::std("read", self.root.full(path)))?,
                );
                read.xattrs = disk::kept_xattrs(&file).map_err(failed)?;
                read.copied_up = self.is_copied_up(&file).map_err(failed)?;
            }
            EntryKind::Dir { .. } => {
                let dir = self.root.open_dir(path)?;
                let opaque = disk::get_xattr(&dir, flavor.opaque()).map_err(failed)?;
                // `x` marks a directory that merely holds whiteouts of another form.
                read.opaque = opaque.is_some_and(|value| *value == *b"y");
                read.xattrs = disk::kept_xattrs(&dir).map_err(failed)?;
                read.copied_up = self.is_copied_up(&dir).map_err(failed)?;
                let redirect = format!("{}redirect", flavor.prefix());
                if disk::get_xattr(&dir, &redirect).map_err(failed)?.is_some() {
                    return Err(LayerError::Io {
                        what: "index",
                        path: self.root.full(path),
                        error: std::io::Error::other(
                            "overlayfs renamed it by redirection; mount with redirect_dir=off",
                        ),
                    });
                }
            }
            // Symlinks and the like have no attributes of ours; what is known of them is their owner on disk.
            _ => read.copied_up = true,
        }
        Ok(read)
    }

    fn is_copied_up(&self, fd: impl std::os::fd::AsFd) -> Result<bool, Errno> {
        match self.form.ownership {
            Ownership::Exact => Ok(false),
            Ownership::BestEffort => Ok(disk::get_xattr(fd, self.form.flavor.origin())?.is_some()),
        }
    }

    /// See [`scan_upper`]: the owner that the disk could not have.
    fn recover_owner(&self, entry: &mut Entry, stat: &Stat, copied_up: bool) -> Result<(), LayerError> {
        let Some(found) = self.lower.lookup(&entry.path).filter(|_| copied_up) else { return Ok(()) };
        let below = found.entry;
        let same_kind = match entry.kind {
            EntryKind::File { .. } | EntryKind::Hardlink { .. } => found.file().is_some(),
            _ => entry.kind.tag() == below.kind.tag(),
        };
        if !same_kind || (below.uid, below.gid) == (stat.uid, stat.gid) {
            return Ok(());
        }
        let Some(Some(root)) = self.lower_roots.get(found.layer) else { return Ok(()) };
        match root.stat(&below.path) {
            Ok(disk) if (disk.uid, disk.gid) == (stat.uid, stat.gid) => {
                (entry.uid, entry.gid) = (below.uid, below.gid);
            }
            _ => {}
        }
        Ok(())
    }

    /// Removes from disk, and from the list, what says nothing. From the bottom up, so that a directory is looked at
    /// when all in it was.
    fn prune(&self, found: Vec<InUpper>) -> Result<Vec<InUpper>, LayerError> {
        let mut kept: Vec<InUpper> = Vec::with_capacity(found.len());
        for one in found.into_iter().rev() {
            let path = &one.entry.path;
            // Entries come last to first, so what is kept of a directory was kept just before it.
            let holds_something = kept.last().is_some_and(|last| last.entry.path.starts_with(path));
            let below = self.lower.lookup(path);
            let says_nothing = match (&one.entry.kind, &below) {
                (EntryKind::Whiteout, None) => true,
                (EntryKind::Whiteout, Some(_)) => false,
                (EntryKind::Dir { .. }, Some(below)) => {
                    !holds_something && one.entry.same_but_path_and_time(&plain_dir(below.entry))
                }
                // One name of several cannot be told apart by itself: they are kept together.
                (EntryKind::Hardlink { .. }, _) => false,
                (EntryKind::File { .. }, _) if one.stat.nlink > 1 => false,
                (_, Some(below)) => is_same(&one.entry, below),
                (_, None) => false,
            };
            if says_nothing {
                let flags = if one.entry.is_dir() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
                self.remove(path, flags)?;
                continue;
            }
            if one.entry.kind == (EntryKind::Dir { opaque: false }) {
                self.unmark(path)?;
            }
            kept.push(one);
        }
        kept.reverse();
        Ok(kept)
    }

    /// The disk says what the index says: a directory that hides nothing is not marked.
    fn unmark(&self, path: &TreePath) -> Result<(), LayerError> {
        let dir = self.root.open_dir(path)?;
        match rustix::fs::fremovexattr(&dir, self.form.flavor.opaque()) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
            Err(errno) => Err(LayerError::io("unmark", self.root.full(path))(errno)),
        }
    }

    fn remove(&self, path: &TreePath, flags: AtFlags) -> Result<(), LayerError> {
        rustix::fs::unlinkat(self.root.fd(), path.as_path(), flags)
            .map_err(LayerError::io("remove", self.root.full(path)))
    }
}

fn plain_dir(entry: &Entry) -> Entry {
    match entry.kind {
        EntryKind::Dir { .. } => Entry { kind: EntryKind::Dir { opaque: false }, ..entry.clone() },
        _ => entry.clone(),
    }
}

fn is_same(entry: &Entry, below: &Found<'_>) -> bool {
    let mut below_entry = below.entry.clone();
    if let Some(file) = below.file() {
        below_entry.kind = file.entry.kind.clone();
    }
    // Other attributes of a base image do not reach new layers, and do not make a file another.
    below_entry.xattrs.retain(|(name, _)| **name == *disk::CAPABILITY.as_bytes());
    entry.mtime == below_entry.mtime && entry.same_but_path_and_time(&below_entry)
}

/// Owners and attributes of a group are those of its file.
fn fix_groups(entries: &mut [Entry]) {
    let mut files: HashMap<TreePath, (u32, u32)> = HashMap::new();
    for entry in entries.iter() {
        if let EntryKind::Hardlink { target } = &entry.kind {
            files.insert(target.clone(), (0, 0));
        }
    }
    for entry in entries.iter_mut() {
        match &entry.kind {
            EntryKind::File { .. } => {
                if let Some(owner) = files.get_mut(&entry.path) {
                    *owner = (entry.uid, entry.gid);
                }
            }
            EntryKind::Hardlink { target } => {
                if let Some(owner) = files.get(target) {
                    (entry.uid, entry.gid) = *owner;
                }
            }
            _ => {}
        }
    }
}

impl OverlayFlavor {
    /// The prefix of overlayfs' attributes.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.",
            Self::User => "user.overlay.",
        }
    }
}

#[cfg(test)]
#[path = "tests/scan_upper.rs"]
mod tests;
