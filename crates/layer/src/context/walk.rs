//! Build contexts.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use dbuild_digest::ContentDigest;
use dbuild_support::io_context::IoContext as _;
use rustix::fs::FileType;

use crate::context::ignore::MatchedPatterns;
use crate::context::path_filter::{PathFilter, Position};
use crate::disk::hash::hash_bytes;
use crate::disk::{self, Listed, Root, Stat};
use crate::{ContentIndex, Entry, EntryKind, FileStat, Ignore, LayerError, Tree, TreePath};

/// Indexes a directory as a build context. Owners are 0:0, extended attributes are dropped, sockets
/// are empty files, devices are left out, FIFOs are never opened, and no symlink is followed. Files
/// that are hard links of each other stay so.
///
/// `wanted` are the sources that will be selected, relative and possibly with wildcards: nothing
/// else is read or in the tree, but what lies on the way to them. Where a source leads through
/// symlinks, so does the walk: each selects from this tree what it would select from that of the
/// whole context.
pub fn walk_context(
    root: &Path,
    ignore: &Ignore,
    wanted: Option<&[String]>,
    index: &dyn ContentIndex,
) -> Result<Tree, LayerError> {
    let root = Root::open(root, true)?;
    let filter = match wanted {
        Some(sources) => PathFilter::new(&root, ignore, sources)?,
        None => PathFilter::everything(),
    };
    let mut walked = collect(&root, ignore, &filter)?;
    link_groups(&mut walked);
    hash(&root, &mut walked, index)?;
    Ok(Tree::from_entries(walked.found.into_iter().map(|found| found.entry).collect())?)
}

/// A path and what is to be remembered of its stat data until its content is known. There is one
/// for each path of a context.
struct ContextEntry {
    entry: Entry,
    ino: u64,
    ctime_ns: i64,
    /// Where in the list of file systems its own stands.
    file_system: u32,
    /// A regular file with several names.
    has_links: bool,
}

/// Everything that was found, in the order of the paths.
#[derive(Default)]
struct WalkResult {
    found: Vec<ContextEntry>,
    file_systems: Vec<u64>,
}

impl WalkResult {
    fn note(&mut self, entry: Entry, stat: &Stat) -> ContextEntry {
        let FileStat { dev, ino, ctime_ns, .. } = stat.file_stat();
        let known = self.file_systems.iter().rposition(|known| *known == dev);
        let place = known.unwrap_or_else(|| {
            self.file_systems.push(dev);
            self.file_systems.len() - 1
        });
        ContextEntry {
            entry,
            ino,
            ctime_ns,
            file_system: u32::try_from(place).unwrap_or(u32::MAX),
            has_links: stat.kind == FileType::RegularFile && stat.nlink > 1,
        }
    }

    /// The stat data of a regular file with content.
    fn file_stat(&self, at: usize) -> Option<FileStat> {
        let ContextEntry { entry, ino, ctime_ns, file_system, .. } = self.found.get(at)?;
        let EntryKind::File { size: size @ 1.., .. } = entry.kind else { return None };
        Some(FileStat {
            dev: *self.file_systems.get(*file_system as usize)?,
            ino: *ino,
            size,
            mtime_ns: disk::nanoseconds(entry.mtime),
            ctime_ns: *ctime_ns,
            mode: FileType::RegularFile.as_raw_mode() | entry.mode,
        })
    }
}

/// A directory on the way.
struct Dir<'f> {
    matched: MatchedPatterns,
    position: Position<'f>,
    /// Its entry, as long as it is not part of the tree because it is ignored.
    pending: Option<ContextEntry>,
    /// What was not looked at yet of what is in it.
    left: std::vec::IntoIter<Listed>,
    path: TreePath,
}

/// Depth first and by name: so paths come in their order.
fn collect(root: &Root, ignore: &Ignore, filter: &PathFilter) -> Result<WalkResult, LayerError> {
    let mut walked = WalkResult::default();
    let open = |path: TreePath, matched, position, pending| {
        let left = sorted(root, &path)?.into_iter();
        Ok::<_, LayerError>(Dir { matched, position, pending, left, path })
    };
    let mut dirs = vec![open(TreePath::root(), MatchedPatterns::default(), filter.start(), None)?];
    while let Some(dir) = dirs.last_mut() {
        let Some((name, stat)) = dir.left.next() else {
            // Of a directory that was not walked as a whole, what is not ignored in it may not have
            // been met.
            let is_unknown = dir.pending.is_some() && !dir.position.is_whole();
            if is_unknown && holds_anything(root, ignore, &dir.path, &dir.matched)? {
                walked.found.extend(dirs.iter_mut().filter_map(|dir| dir.pending.take()));
            }
            dirs.pop();
            continue;
        };
        let Some(position) = dir.position.below(&name) else { continue };
        let path = dir.path.child(&name).map_err(crate::ResolveError::from)?;
        let (ignored, matched) = match ignore.is_empty() {
            true => (false, MatchedPatterns::default()),
            false => ignore.matches_below(&path, &dir.matched),
        };
        let is_dir = stat.kind == FileType::Directory;
        if ignored && !(is_dir && ignore.may_reinclude_below(&path)) {
            continue;
        }
        let Some(entry) = entry_of(root, path.clone(), &stat)? else { continue };
        let found = walked.note(entry, &stat);
        let pending = match ignored {
            true => Some(found),
            false => {
                // Directories that are ignored appear as soon as something in them does.
                walked.found.extend(dirs.iter_mut().filter_map(|dir| dir.pending.take()));
                walked.found.push(found);
                None
            }
        };
        if is_dir {
            dirs.push(open(path, matched, position, pending)?);
        }
    }
    Ok(walked)
}

fn sorted(root: &Root, dir: &TreePath) -> Result<Vec<Listed>, LayerError> {
    let mut listed = root.list(dir)?;
    listed.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Ok(listed)
}

/// Whether an ignored directory appears in the tree of the whole context: something below it is not
/// ignored.
pub(crate) fn holds_anything(
    root: &Root,
    ignore: &Ignore,
    dir: &TreePath,
    matched: &MatchedPatterns,
) -> Result<bool, LayerError> {
    let mut dirs = vec![(dir.clone(), matched.clone())];
    while let Some((dir, above)) = dirs.pop() {
        for (name, stat) in root.list(&dir)? {
            let path = dir.child(&name).map_err(crate::ResolveError::from)?;
            let (ignored, matched) = ignore.matches_below(&path, &above);
            if !ignored && !is_left_out(stat.kind) {
                return Ok(true);
            }
            if stat.kind == FileType::Directory && ignore.may_reinclude_below(&path) {
                dirs.push((path, matched));
            }
        }
    }
    Ok(false)
}

/// Devices are no part of a context.
pub(crate) fn is_left_out(kind: FileType) -> bool {
    let kinds =
        [FileType::RegularFile, FileType::Directory, FileType::Symlink, FileType::Fifo, FileType::Socket];
    !kinds.contains(&kind)
}

fn entry_of(root: &Root, path: TreePath, stat: &Stat) -> Result<Option<Entry>, LayerError> {
    let empty = || EntryKind::File { size: 0, content: ContentDigest::of(b"") };
    let kind = match stat.kind {
        FileType::RegularFile => EntryKind::File { size: stat.size, content: ContentDigest::of(b"") },
        FileType::Directory => EntryKind::Dir { opaque: false },
        FileType::Symlink => EntryKind::Symlink { target: root.read_link(&path)? },
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => empty(),
        _ => return Ok(None),
    };
    let mode = if stat.kind == FileType::Symlink { 0o777 } else { stat.mode };
    Ok(Some(Entry { kind, mode, mtime: stat.mtime, ..Entry::new_dir(path) }))
}

/// Files with one inode are hard links of the first.
fn link_groups(walked: &mut WalkResult) {
    let mut first: HashMap<(u32, u64), TreePath> = HashMap::new();
    for ContextEntry { entry, file_system, ino, .. } in
        walked.found.iter_mut().filter(|found| found.has_links)
    {
        match first.entry((*file_system, *ino)) {
            std::collections::hash_map::Entry::Occupied(first) => {
                entry.kind = EntryKind::Hardlink { target: first.get().clone() };
            }
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(entry.path.clone());
            }
        }
    }
}

/// Number of files that are read before what was read of them is noted.
const ROUND: usize = 4096;

fn hash(root: &Root, walked: &mut WalkResult, index: &dyn ContentIndex) -> Result<(), LayerError> {
    let unknown = take_known(root, walked, index);
    let mut learned: Vec<usize> = Vec::new();
    // Files that were other ones when they were read than when they were found.
    let mut others: HashMap<usize, FileStat> = HashMap::new();
    let mut gone = HashSet::new();
    for round in unknown.chunks(ROUND) {
        let read = disk::parallel(round, |at| read_file(root, &walked.found[*at].entry.path))?;
        for (at, read) in round.iter().zip(read) {
            let Some((before, size, content, stable)) = read else {
                gone.insert(walked.found[*at].entry.path.clone());
                continue;
            };
            if stable {
                learned.push(*at);
                if walked.file_stat(*at) != Some(before) {
                    others.insert(*at, before);
                }
            }
            walked.found[*at].entry.kind = EntryKind::File { size, content };
        }
    }
    let mut files = learned.iter().filter_map(|at| {
        let Entry { path, kind: EntryKind::File { content, .. }, .. } = &walked.found[*at].entry else {
            return None;
        };
        Some((path, others.get(at).copied().or_else(|| walked.file_stat(*at))?, *content))
    });
    index.put_many(root.path(), &mut files);
    if !gone.is_empty() {
        // As if they had never been there, with the names that were linked to them.
        let is_gone = |entry: &Entry| match &entry.kind {
            EntryKind::Hardlink { target } => gone.contains(target),
            _ => gone.contains(&entry.path),
        };
        walked.found.retain(|found| !is_gone(&found.entry));
    }
    Ok(())
}

/// Takes over what is known of contents. Answers where the files stand of which nothing is.
fn take_known(root: &Root, walked: &mut WalkResult, index: &dyn ContentIndex) -> Vec<usize> {
    let mut asked =
        (0..walked.found.len()).filter_map(|at| Some((&walked.found[at].entry.path, walked.file_stat(at)?)));
    let mut known = index.get_many(root.path(), &mut asked).into_iter();
    let mut unknown = Vec::new();
    for (at, ContextEntry { entry, .. }) in walked.found.iter_mut().enumerate() {
        let EntryKind::File { size: 1.., content } = &mut entry.kind else { continue };
        match known.next().flatten() {
            Some(digest) => *content = digest,
            None => unknown.push(at),
        }
    }
    unknown
}

/// The file's stat data before it was read, its size and digest, and whether it stayed the same
/// meanwhile. `None` if it is gone.
fn read_file(
    root: &Root,
    path: &TreePath,
) -> Result<Option<(FileStat, u64, ContentDigest, bool)>, LayerError> {
    let (file, before) = match root.open_file(path) {
        Ok(opened) => opened,
        Err(error) if error.io_error().is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let (size, content) = hash_bytes(&file, before.size, None).on("read", root.full(path))?;
    let after = disk::stat_fd(&file).on("stat", root.full(path))?;
    let stable = after.file_stat() == before.file_stat() && size == before.size;
    Ok(Some((before.file_stat(), size, content, stable)))
}

#[cfg(test)]
#[path = "tests/walk.rs"]
mod tests;
