//! Build contexts.

use std::collections::HashMap;
use std::path::Path;

use dbuild_digest::ContentDigest;
use rustix::fs::FileType;

use crate::disk::{self, Root, Stat};
use crate::ignore::Matched;
use crate::wanted::{State, Wanted};
use crate::{ContentIndex, Entry, EntryKind, FileStat, Ignore, LayerError, Tree, TreePath};

/// Indexes a directory as a build context. Owners are 0:0, extended attributes are dropped, sockets are empty files,
/// devices are left out, FIFOs are never opened, and no symlink is followed. Files that are hard links of each other stay so.
///
/// `wanted` are the paths that will be selected, relative and possibly with wildcards: nothing else is read or in the
/// tree, but the directories above what was found. Where a wanted path leads through symlinks, so does the walk.
pub fn walk_context(
    root: &Path,
    ignore: &Ignore,
    wanted: Option<&[String]>,
    index: &dyn ContentIndex,
) -> Result<Tree, LayerError> {
    let root = Root::open(root, true)?;
    let mut wanted = Wanted::new(wanted);
    let mut found = collect(&root, ignore, &mut wanted)?;
    // Each round may find symlinks that lead to more; a chain of them is bounded as any other.
    for _ in 0..64 {
        if !wanted.has_grown() {
            break;
        }
        found = collect(&root, ignore, &mut wanted)?;
    }
    found.sort_unstable_by(|(a, _), (b, _)| a.path.cmp(&b.path));
    link_groups(&mut found);
    hash(&root, &mut found, index)?;
    Ok(Tree::from_entries(found.into_iter().map(|(entry, _)| entry).collect())?)
}

/// A directory on the way.
struct Dir {
    parent: Option<usize>,
    matched: Matched,
    states: Vec<State>,
    /// Its entry, as long as it is not part of the tree: because it is ignored, or only led through.
    pending: Option<(Entry, Stat)>,
}

fn collect(root: &Root, ignore: &Ignore, wanted: &mut Wanted) -> Result<Vec<(Entry, Stat)>, LayerError> {
    let mut found = Vec::new();
    let top = Dir { parent: None, matched: Matched::default(), states: wanted.start(), pending: None };
    let mut dirs = vec![top];
    let mut todo = vec![(0, TreePath::root())];
    while let Some((dir, dir_path)) = todo.pop() {
        for (name, stat) in root.list(&dir_path)? {
            let Some((states, selected)) = wanted.step(&dirs[dir].states, &name) else { continue };
            let path = dir_path.child(&name).map_err(crate::ResolveError::from)?;
            let (ignored, matched) = match ignore.is_empty() {
                true => (false, Matched::default()),
                false => ignore.matches_below(&path, &dirs[dir].matched),
            };
            let is_dir = stat.kind == FileType::Directory;
            if ignored && !(is_dir && ignore.may_reinclude_below(&path)) {
                continue;
            }
            let Some(entry) = entry_of(root, path.clone(), &stat)? else { continue };
            let leads_on = !states.contains(&State::All);
            if let (EntryKind::Symlink { target }, false) = (&entry.kind, wanted.is_all()) {
                wanted.follow(&dir_path, target, &states, selected);
            } else if leads_on && !is_dir {
                continue;
            }
            // Nor is a directory part of the tree that only leads to wanted paths, unless there is one.
            let waits = is_dir && (ignored || leads_on);
            let pending = match waits {
                true => Some((entry, stat)),
                false => {
                    take_pending(&mut dirs, Some(dir), &mut found);
                    found.push((entry, stat));
                    None
                }
            };
            if !is_dir {
                continue;
            }
            dirs.push(Dir { parent: Some(dir), matched, states, pending });
            todo.push((dirs.len() - 1, path));
        }
    }
    Ok(found)
}

/// Directories that wait appear as soon as something in them does.
fn take_pending(dirs: &mut [Dir], mut dir: Option<usize>, found: &mut Vec<(Entry, Stat)>) {
    while let Some(index) = dir {
        match dirs[index].pending.take() {
            Some(pending) => found.push(pending),
            None => return,
        }
        dir = dirs[index].parent;
    }
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
fn link_groups(found: &mut [(Entry, Stat)]) {
    let mut first: HashMap<((u32, u32), u64), TreePath> = HashMap::new();
    for (entry, stat) in found {
        if stat.kind != FileType::RegularFile || stat.nlink < 2 {
            continue;
        }
        match first.entry((stat.dev, stat.ino)) {
            std::collections::hash_map::Entry::Occupied(first) => {
                entry.kind = EntryKind::Hardlink { target: first.get().clone() };
            }
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(entry.path.clone());
            }
        }
    }
}

fn hash(root: &Root, found: &mut Vec<(Entry, Stat)>, index: &dyn ContentIndex) -> Result<(), LayerError> {
    let is_file = |entry: &Entry| matches!(entry.kind, EntryKind::File { size, .. } if size > 0);
    let files: Vec<usize> = (0..found.len()).filter(|at| is_file(&found[*at].0)).collect();
    let asked: Vec<(TreePath, FileStat)> =
        files.iter().map(|at| (found[*at].0.path.clone(), found[*at].1.file_stat())).collect();
    let known = index.get_many(root.path(), &asked);
    let mut unknown = Vec::new();
    for (position, at) in files.iter().enumerate() {
        match known.get(position).copied().flatten() {
            Some(digest) => {
                if let EntryKind::File { content, .. } = &mut found[*at].0.kind {
                    *content = digest;
                }
            }
            None => unknown.push((*at, &asked[position].0)),
        }
    }
    let read = disk::parallel(&unknown, |(_, path)| read_file(root, path))?;
    let mut learned = Vec::new();
    let mut gone = Vec::new();
    for ((at, path), read) in unknown.iter().zip(read) {
        let Some((before, size, content, stable)) = read else {
            gone.push((*path).clone());
            continue;
        };
        found[*at].0.kind = EntryKind::File { size, content };
        if stable {
            learned.push(((*path).clone(), before, content));
        }
    }
    if !gone.is_empty() {
        // As if they had never been there, with the names that were linked to them.
        let is_gone = |entry: &Entry| match &entry.kind {
            EntryKind::Hardlink { target } => gone.contains(target),
            _ => gone.contains(&entry.path),
        };
        found.retain(|(entry, _)| !is_gone(entry));
    }
    index.put_many(root.path(), &learned);
    Ok(())
}

/// The file's stat data before it was read, its size and digest, and whether it stayed the same meanwhile. `None` if it
/// is gone.
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
    let (size, content) =
        disk::hash_bytes(&file, before.size, None).map_err(LayerError::std("read", root.full(path)))?;
    let after = disk::stat_fd(&file).map_err(LayerError::io("stat", root.full(path)))?;
    let stable = after.file_stat() == before.file_stat() && size == before.size;
    Ok(Some((before.file_stat(), size, content, stable)))
}

#[cfg(test)]
#[path = "tests/walk.rs"]
mod tests;
