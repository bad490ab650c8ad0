//! Layers on top of each other, seen as one file system without mounting anything.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use dbuild_digest::ContentDigest;
use dbuild_support::io_context::IoContext as _;

use crate::tree::resolve::{PathComponent, resolve_with};
use crate::{Entry, EntryKind, LayerError, LayerFiles, ResolveError, Tree, TreePath};

static PLAIN_ROOT: LazyLock<Entry> = LazyLock::new(|| Entry::new_dir(TreePath::root()));

/// One layer of a [`Stack`].
#[derive(Clone, Debug)]
pub struct StackLayer {
    /// Its index.
    pub tree: Arc<Tree>,
    /// Its files.
    pub files: LayerFiles,
}

/// Layers stacked as one file system, the lowest first. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Stack {
    layers: Vec<StackLayer>,
}

/// What a [`Stack`] shows at a path.
#[derive(Clone, Copy, Debug)]
pub struct StackEntry<'a> {
    /// The entry; never a whiteout.
    pub entry: &'a Entry,
    /// The layer that it is in, counted from the lowest. 0 for a root that no layer says anything
    /// about.
    pub layer: usize,
    /// The layer's index, and where in it the entry is.
    tree: Option<(&'a Tree, usize)>,
}

/// Where a path leads.
#[derive(Clone, Debug)]
pub struct ResolvedPath<'a> {
    /// The path without symlinks. Components that do not exist are kept as written.
    pub path: TreePath,
    /// What stands there, if anything does.
    pub found: Option<StackEntry<'a>>,
}

impl Stack {
    /// Stacks layers, the lowest first.
    pub fn new(layers: Vec<StackLayer>) -> Self {
        Self { layers }
    }

    /// The layers, the lowest first.
    pub fn layers(&self) -> &[StackLayer] {
        &self.layers
    }

    /// This stack with one more layer on top.
    pub fn with(&self, layer: StackLayer) -> Self {
        let mut layers = self.layers.clone();
        layers.push(layer);
        Self { layers }
    }

    /// What stands at exactly this path; a symlink on the way hides what is below it, as it does on
    /// disk.
    pub fn lookup(&self, path: &TreePath) -> Option<StackEntry<'_>> {
        for (layer, StackLayer { tree, .. }) in self.layers.iter().enumerate().rev() {
            if let Ok(at) = tree.position(path) {
                return StackEntry::at(tree, layer, at)
                    .filter(|found| found.entry.kind != EntryKind::Whiteout);
            }
            if hides_below(tree, path) {
                return None;
            }
        }
        path.is_root().then(StackEntry::plain_root)
    }

    /// Follows a path as the kernel would with this stack as the root: absolute or relative to the
    /// root, `..` stops at the root, symlinks never lead out. `follow_last` says whether a symlink
    /// at the end is followed. What does not exist is no error (a dangling link leads to where it
    /// points).
    pub fn resolve(
        &self,
        path: impl AsRef<[u8]>,
        follow_last: bool,
    ) -> Result<ResolvedPath<'_>, ResolveError> {
        self.resolve_below(&TreePath::root(), path.as_ref(), follow_last)
    }

    /// As [`Stack::resolve`], with a directory of the stack as the root.
    pub(crate) fn resolve_below(
        &self,
        root: &TreePath,
        path: &[u8],
        follow_last: bool,
    ) -> Result<ResolvedPath<'_>, ResolveError> {
        let path = resolve_with(root, path, follow_last, |path| {
            self.lookup(path).map_or(PathComponent::Missing, |found| match found.kind() {
                EntryKind::Dir { .. } => PathComponent::Dir,
                EntryKind::Symlink { target } => PathComponent::Link(target.clone()),
                _ => PathComponent::Other,
            })
        })?;
        let found = self.lookup(&path);
        Ok(ResolvedPath { path, found })
    }

    /// What a directory holds, by name; nothing if it is no directory.
    pub fn read_dir(&self, path: &TreePath) -> Vec<StackEntry<'_>> {
        if !self.lookup(path).is_some_and(|found| found.entry.is_dir()) {
            return Vec::new();
        }
        let mut names: BTreeSet<&TreePath> = BTreeSet::new();
        for StackLayer { tree, .. } in &self.layers {
            let mut rest = tree.subtree(path);
            if rest.first().is_some_and(|entry| entry.path == *path) {
                rest = &rest[1..];
            }
            while let Some(child) = rest.first() {
                names.insert(&child.path);
                rest = &rest[rest.partition_point(|entry| entry.path.starts_with(&child.path))..];
            }
        }
        names.into_iter().filter_map(|path| self.lookup(path)).collect()
    }

    /// Everything at and below a path, in order, as the stack shows it. The root is included only
    /// if a layer has an entry for it.
    pub fn walk(&self, prefix: &TreePath) -> Vec<StackEntry<'_>> {
        let mut result = Vec::new();
        if !prefix.is_root() && self.lookup(prefix).is_none() {
            return result;
        }
        // From the top: how far each layer has been read.
        let mut rests: Vec<(usize, &Tree, Range<usize>)> = Vec::new();
        for (layer, StackLayer { tree, .. }) in self.layers.iter().enumerate().rev() {
            rests.push((layer, tree, tree.range(prefix)));
            if hides_below(tree, prefix) {
                break;
            }
        }
        let next = |rests: &[(usize, &Tree, Range<usize>)]| {
            let firsts = rests.iter().filter_map(|(_, tree, rest)| tree.entries()[rest.clone()].first());
            firsts.map(|entry| &entry.path).min().cloned()
        };
        while let Some(path) = next(&rests) {
            let mut hidden = false;
            let mut seen = false;
            for (layer, tree, rest) in &mut rests {
                let entries = &tree.entries()[rest.clone()];
                if hidden {
                    rest.start +=
                        entries.partition_point(|entry| entry.path < path || entry.path.starts_with(&path));
                    continue;
                }
                let Some(entry) = entries.first().filter(|entry| entry.path == path) else { continue };
                if !seen && entry.kind != EntryKind::Whiteout {
                    result.extend(StackEntry::at(tree, *layer, rest.start));
                }
                rest.start += 1;
                seen = true;
                hidden = entry.kind != EntryKind::Dir { opaque: false };
            }
        }
        result
    }

    /// Opens a regular file that was found here. Symlinks are never followed.
    pub fn open(&self, found: &StackEntry<'_>) -> Result<File, LayerError> {
        let path = &found.file().map_or(found.entry, |file| file.entry).path;
        match self.layers.get(found.layer).map(|layer| layer.files.open()).transpose()?.flatten() {
            Some(opened) => {
                let (root, path) = opened.at(path)?;
                Ok(root.open_file(path)?.0)
            }
            None => Err(LayerError::NotUnpacked { path: path.clone() }),
        }
    }

    /// The bytes of a regular file at a path, symlinks followed within the stack; `None` if there
    /// is no such file or it has more than `limit` bytes.
    pub fn read_file(&self, path: impl AsRef<[u8]>, limit: u64) -> Result<Option<Vec<u8>>, LayerError> {
        let resolved = match self.resolve(path, true) {
            Ok(resolved) => resolved,
            Err(_) => return Ok(None),
        };
        let Some(found) = resolved.found else { return Ok(None) };
        let Some(file) = found.file().filter(|file| file.size <= limit) else { return Ok(None) };
        let mut bytes = Vec::with_capacity(file.size as usize);
        let opened = self.open(&found)?;
        opened.take(limit.saturating_add(1)).read_to_end(&mut bytes).on("read", resolved.path.as_path())?;
        Ok((bytes.len() as u64 <= limit).then_some(bytes))
    }
}

/// A regular file that was found, itself or through its hardlink.
#[derive(Clone, Copy, Debug)]
pub struct StackFile<'a> {
    /// The first path of its group.
    pub entry: &'a Entry,
    /// In bytes.
    pub size: u64,
    /// Digest of its bytes.
    pub content: ContentDigest,
}

impl<'a> StackEntry<'a> {
    /// The entry of a layer at this place of its index.
    pub(crate) fn at(tree: &'a Tree, layer: usize, at: usize) -> Option<Self> {
        Some(Self { entry: tree.entries().get(at)?, layer, tree: Some((tree, at)) })
    }

    /// A root that no layer says anything about.
    pub(crate) fn plain_root() -> Self {
        Self { entry: &PLAIN_ROOT, layer: 0, tree: None }
    }

    /// The first name of what stands here. Two finds of one layer with the same first name are hard
    /// links of each other.
    pub fn first_name(&self) -> &'a Entry {
        self.tree.map_or(self.entry, |(tree, _)| tree.first_name(self.entry))
    }

    /// What stands here; never a hardlink, but what it leads to.
    pub fn kind(&self) -> &'a EntryKind {
        &self.first_name().kind
    }

    /// Where in the layer's index the entry is; `None` for a root that is in none.
    pub(crate) fn index(&self) -> Option<usize> {
        self.tree.map(|(_, at)| at)
    }

    /// The file that stands here, if it is one.
    pub fn file(&self) -> Option<StackFile<'a>> {
        let file = self.first_name();
        match file.kind {
            EntryKind::File { size, content } => Some(StackFile { entry: file, size, content }),
            _ => None,
        }
    }
}

/// Whether a layer keeps lower layers from showing anything at a path, because of what is above
/// that path.
fn hides_below(tree: &Tree, path: &TreePath) -> bool {
    let hides = |entry: &Entry| entry.kind != EntryKind::Dir { opaque: false };
    path.ancestors().any(|above| tree.get(&above).is_some_and(hides))
}

#[cfg(test)]
#[path = "tests/stack.rs"]
mod tests;
