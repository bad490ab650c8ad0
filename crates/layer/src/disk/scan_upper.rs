//! What a RUN wrote: an overlayfs upper directory as an index.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use dbuild_digest::ContentDigest;
use dbuild_support::io_context::{IoContext as _, IoError};
use rustix::fs::{AtFlags, FileType, Gid, Uid};
use rustix::io::Errno;

use crate::disk::hash::hash_bytes;
use crate::disk::{self, Root, Stat};
use crate::tree::layer_files::OpenedFiles;
use crate::{
    Entry, EntryKind, LayerError, OverlayFlavor, OverlayFormat, Ownership, Stack, StackEntry, Tree, TreePath,
    Xattrs,
};

/// Gives an empty upper directory the mode, owner and time that the root of the lower layers has,
/// so that a mount shows it.
pub fn prepare_upper(upper: &Path, lower: &Stack, form: impl Into<OverlayFormat>) -> Result<(), LayerError> {
    let entry = root_of(lower);
    let root = Root::open(upper, false)?;
    disk::set_meta(root.fd(), &entry, form.into()).on("set the metadata of", upper)?;
    Ok(())
}

/// Indexes an overlayfs upper directory after a RUN, when nothing is mounted on it any more. What
/// is the same as in `lower` (a file that was opened for writing and not changed, a directory in
/// which nothing is left, a whiteout of nothing) is removed from it. Sockets, which no layer can
/// hold, become whiteouts.
///
/// Of extended attributes only `security.capability` is kept. The root of the file system is not
/// part of the layer (as in BuildKit): a RUN that changes its mode changes it for itself, but its
/// owner, which the index then has, holds for the steps after it.
///
/// With [`Ownership::BestEffort`] an owner on disk may stand for another: a file that lies below
/// with an owner that the disk could not have, and that was copied up with the same owner on disk,
/// keeps the owner of the lower layer's index.
pub fn scan_upper(upper: &Path, lower: &Stack, form: impl Into<OverlayFormat>) -> Result<Tree, LayerError> {
    let form = form.into();
    let scan = Scan { root: Root::open(upper, false)?, lower, form, lower_roots: open_all(lower, form)? };
    let (mut found, sockets) = scan.collect()?;
    found.sort_unstable_by(|a, b| a.entry.path.cmp(&b.entry.path));
    scan.read_files(&mut found)?;
    let kept = scan.prune(found, sockets)?;
    let root = scan.root().on("set the metadata of", upper)?;
    let mut entries: Vec<Entry> = kept.into_iter().map(|found| found.entry).collect();
    fix_groups(&mut entries);
    entries.extend(root);
    Ok(Tree::from_entries(entries)?)
}

fn root_of(lower: &Stack) -> Entry {
    let root = TreePath::root();
    lower.lookup(&root).map_or_else(|| Entry::new_dir(root.clone()), |found| found.entry.clone())
}

/// The lower directories, to ask what the disk says; only best effort needs them.
fn open_all(lower: &Stack, form: OverlayFormat) -> Result<Vec<Option<Root>>, LayerError> {
    let root = |opened| match opened {
        Some(OpenedFiles::Dir(root)) => Some(root),
        // What is not on disk cannot be below a mount.
        Some(OpenedFiles::Unwritten(..)) | None => None,
    };
    match form.ownership {
        Ownership::Exact => Ok(Vec::new()),
        Ownership::BestEffort => lower.layers().iter().map(|layer| layer.files.open().map(root)).collect(),
    }
}

struct Scan<'a> {
    root: Root,
    lower: &'a Stack,
    form: OverlayFormat,
    lower_roots: Vec<Option<Root>>,
}

struct InUpper {
    entry: Entry,
    stat: Stat,
    /// A directory above it in the upper directory hides all that lower layers have here.
    hidden: bool,
}

impl InUpper {
    /// Whether it has several names. Whiteouts share one inode, which says nothing.
    fn is_linked(&self) -> bool {
        self.stat.nlink > 1 && !self.entry.is_dir() && self.entry.kind != EntryKind::Whiteout
    }
}

/// What reading a file or directory gave.
struct UpperEntry {
    content: Option<(u64, ContentDigest)>,
    xattrs: Xattrs,
    opaque: bool,
    copied_up: bool,
}

impl Scan<'_> {
    /// Everything in the upper directory, in no order, and the directories from which sockets were
    /// removed.
    fn collect(&self) -> Result<(Vec<InUpper>, HashSet<TreePath>), LayerError> {
        let mut found = Vec::new();
        let mut sockets = HashSet::new();
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
                        sockets.insert(dir.clone());
                        // What it took the place of must not come back.
                        if self.lower.lookup(&path).is_none() {
                            continue;
                        }
                        self.hide(&path)?;
                        EntryKind::Whiteout
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
                found.push(InUpper { entry, stat, hidden: false });
            }
        }
        Ok((found, sockets))
    }

    /// What lower layers show at a path of the upper directory.
    fn below(&self, one: &InUpper) -> Option<StackEntry<'_>> {
        if one.hidden { None } else { self.lower.lookup(&one.entry.path) }
    }

    /// Fills in contents, attributes, opaqueness, hardlinks and owners.
    fn read_files(&self, found: &mut [InUpper]) -> Result<(), LayerError> {
        let mut first: HashMap<u64, TreePath> = HashMap::new();
        for one in found.iter_mut().filter(|one| one.is_linked()) {
            match first.get(&one.stat.ino) {
                Some(target) => one.entry.kind = EntryKind::Hardlink { target: target.clone() },
                None => drop(first.insert(one.stat.ino, one.entry.path.clone())),
            }
        }
        let read = disk::parallel(found, |one| self.read(one))?;
        mark_hidden(found, &read);
        let mut attributes: HashMap<TreePath, (u64, Xattrs)> = HashMap::new();
        for (one, read) in found.iter_mut().zip(read) {
            let below = self.below(one);
            let InUpper { entry, stat, .. } = one;
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
                    *opaque = read.opaque && below.is_some_and(|found| found.entry.is_dir());
                    entry.xattrs = read.xattrs;
                }
                _ => {}
            }
            if self.form.ownership == Ownership::BestEffort {
                self.recover_owner(entry, stat, below.filter(|_| read.copied_up))?;
            }
        }
        Ok(())
    }

    fn read(&self, one: &InUpper) -> Result<UpperEntry, LayerError> {
        let mut read = UpperEntry { content: None, xattrs: Vec::new(), opaque: false, copied_up: false };
        let path = &one.entry.path;
        let failed = |errno: Errno| LayerError::from(IoError::new("read", self.root.full(path), errno));
        let flavor = self.form.flavor;
        match one.entry.kind {
            EntryKind::File { .. } => {
                let (file, stat) = self.root.open_file(path)?;
                read.content = Some(hash_bytes(&file, stat.size, None).on("read", self.root.full(path))?);
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
                    return Err(IoError::new(
                        "index",
                        self.root.full(path),
                        std::io::Error::other(
                            "overlayfs renamed it by redirection; mount with redirect_dir=off",
                        ),
                    )
                    .into());
                }
            }
            // Symlinks and the like have no attributes of ours; what is known of them is their
            // owner on disk.
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
    fn recover_owner(
        &self,
        entry: &mut Entry,
        stat: &Stat,
        copied_up: Option<StackEntry<'_>>,
    ) -> Result<(), LayerError> {
        let Some(found) = copied_up else { return Ok(()) };
        let below = found.entry;
        // Another name takes the owner of the first, see `fix_groups`.
        if entry.kind.tag() != found.kind().tag() || (below.uid, below.gid) == (stat.uid, stat.gid) {
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

    /// Removes from disk, and from the list, what says nothing. From the bottom up, so that a
    /// directory is looked at when all in it was. The directories that stay keep their times, also
    /// those in `touched`, from which something was removed before.
    fn prune(&self, found: Vec<InUpper>, mut touched: HashSet<TreePath>) -> Result<Vec<InUpper>, LayerError> {
        let mut kept: Vec<InUpper> = Vec::with_capacity(found.len());
        for one in found.into_iter().rev() {
            let path = &one.entry.path;
            // Entries come last to first, so what is kept of a directory was kept just before it.
            let holds_something = kept.last().is_some_and(|last| last.entry.path.starts_with(path));
            let says_nothing = match (&one.entry.kind, self.below(&one)) {
                (EntryKind::Whiteout, below) => below.is_none(),
                (EntryKind::Dir { .. }, Some(below)) => !holds_something && is_same(&one.entry, &below),
                // One name of several cannot be told apart by itself: they are kept together.
                _ if one.is_linked() => false,
                (_, Some(below)) => is_same(&one.entry, &below),
                (_, None) => false,
            };
            if says_nothing {
                let flags = if one.entry.is_dir() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
                self.remove(path, flags)?;
                touched.extend(path.parent());
                continue;
            }
            if touched.contains(path) {
                self.restore_time(&one.entry)?;
            }
            if one.entry.kind == (EntryKind::Dir { opaque: false }) {
                self.unmark(path)?;
            }
            kept.push(one);
        }
        kept.reverse();
        Ok(kept)
    }

    /// Gives a directory the time that the RUN left it with.
    fn restore_time(&self, entry: &Entry) -> Result<(), LayerError> {
        let dir = self.root.open_dir(&entry.path)?;
        rustix::fs::futimens(&dir, &disk::times(entry.mtime))
            .on("set the time of", self.root.full(&entry.path))
            .map_err(LayerError::from)
    }

    /// Gives the root mode and time of the lower layers' once more, and an entry if the RUN gave it
    /// another owner.
    fn root(&self) -> Result<Option<Entry>, Errno> {
        let lower = root_of(self.lower);
        let stat = disk::stat_fd(self.root.fd())?;
        let ids = |(uid, gid)| (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        let (uid, gid) = ids((lower.uid, lower.gid));
        // What `prepare_upper` could give it: all others are the RUN's doing.
        let prepared = match rustix::fs::fchown(self.root.fd(), uid, gid) {
            Ok(()) => (lower.uid, lower.gid),
            Err(Errno::INVAL | Errno::PERM) if self.form.ownership == Ownership::BestEffort => {
                disk::own_ids()
            }
            Err(errno) => return Err(errno),
        };
        disk::set_meta(self.root.fd(), &lower, self.form)?;
        if (stat.uid, stat.gid) == prepared {
            return Ok(None);
        }
        let (uid, gid) = ids((stat.uid, stat.gid));
        rustix::fs::fchown(self.root.fd(), uid, gid)?;
        // Changing the owner takes bits of the mode away.
        disk::set_meta(self.root.fd(), &Entry { uid: stat.uid, gid: stat.gid, ..lower.clone() }, self.form)?;
        Ok(Some(Entry { kind: EntryKind::Dir { opaque: false }, uid: stat.uid, gid: stat.gid, ..lower }))
    }

    /// The disk says what the index says: a directory that hides nothing is not marked.
    fn unmark(&self, path: &TreePath) -> Result<(), LayerError> {
        let dir = self.root.open_dir(path)?;
        match rustix::fs::fremovexattr(&dir, self.form.flavor.opaque()) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
            Err(errno) => Err(LayerError::from(IoError::new("unmark", self.root.full(path), errno))),
        }
    }

    fn hide(&self, path: &TreePath) -> Result<(), LayerError> {
        let (kind, mode) = (FileType::CharacterDevice, rustix::fs::Mode::empty());
        rustix::fs::mknodat(self.root.fd(), path.as_path(), kind, mode, 0)
            .on("hide", self.root.full(path))
            .map_err(LayerError::from)
    }

    fn remove(&self, path: &TreePath, flags: AtFlags) -> Result<(), LayerError> {
        rustix::fs::unlinkat(self.root.fd(), path.as_path(), flags)
            .on("remove", self.root.full(path))
            .map_err(LayerError::from)
    }
}

/// Marks what is hidden, in the order of paths, by what was read of the directories above.
fn mark_hidden(found: &mut [InUpper], read: &[UpperEntry]) {
    let mut opaque: Option<TreePath> = None;
    for (one, read) in found.iter_mut().zip(read) {
        match &opaque {
            Some(above) if one.entry.path.starts_with(above) => one.hidden = true,
            _ if read.opaque => opaque = Some(one.entry.path.clone()),
            _ => {}
        }
    }
}

fn is_same(entry: &Entry, below: &StackEntry<'_>) -> bool {
    let mut below_entry = Entry { kind: below.kind().clone(), ..below.entry.clone() };
    if let EntryKind::Dir { opaque } = &mut below_entry.kind {
        *opaque = false;
    }
    // Other attributes of a base image do not reach new layers, and do not make a file another.
    below_entry.xattrs.retain(|(name, _)| **name == *disk::CAPABILITY.as_bytes());
    entry.mtime == below_entry.mtime && entry.same_but_path_and_time(&below_entry)
}

/// The owner of a group is that of its first name.
fn fix_groups(entries: &mut [Entry]) {
    let mut firsts: HashMap<TreePath, (u32, u32)> = HashMap::new();
    for entry in entries.iter() {
        if let EntryKind::Hardlink { target } = &entry.kind {
            firsts.insert(target.clone(), (0, 0));
        }
    }
    for entry in entries.iter_mut() {
        match &entry.kind {
            EntryKind::Hardlink { target } => {
                if let Some(owner) = firsts.get(target) {
                    (entry.uid, entry.gid) = *owner;
                }
            }
            _ => {
                if let Some(owner) = firsts.get_mut(&entry.path) {
                    *owner = (entry.uid, entry.gid);
                }
            }
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
