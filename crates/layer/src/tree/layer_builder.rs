//! A layer while it is made: entries in memory, on top of a stack. Nothing is on disk before all is
//! known.

use std::collections::HashMap;
use std::sync::Arc;

use crate::tree::layer_files::ByteSource;
use crate::tree::resolve::{PathComponent, resolve_with};
use crate::tree::sorted_nodes::{Node, SortedNodes};
use crate::{Entry, EntryKind, LayerFiles, Mtime, ResolveError, Stack, StackEntry, Tree, TreePath};

/// See the module.
#[derive(Debug)]
pub(crate) struct LayerBuilder<'a> {
    parent: Option<&'a Stack>,
    nodes: SortedNodes,
    groups: u64,
}

impl<'a> LayerBuilder<'a> {
    pub(crate) fn new(parent: Option<&'a Stack>) -> Self {
        Self { parent, nodes: SortedNodes::default(), groups: 0 }
    }

    /// What the layer on its parent shows at exactly this path.
    pub(crate) fn look(&self, path: &TreePath) -> Option<&Entry> {
        match self.nodes.get(path) {
            Some(node) => Some(&node.entry).filter(|entry| entry.kind != EntryKind::Whiteout),
            None => self.below(path),
        }
    }

    /// The kind of what [`LayerBuilder::look`] finds; never a hardlink.
    pub(crate) fn look_kind(&self, path: &TreePath) -> Option<&EntryKind> {
        match self.nodes.get(path) {
            Some(node) => Some(&node.entry.kind).filter(|kind| **kind != EntryKind::Whiteout),
            None => self.found_below(path).map(|found| found.kind()),
        }
    }

    /// The node that this layer itself has.
    pub(crate) fn own(&self, path: &TreePath) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// What the parent shows there, unless this layer hides it from above.
    fn below(&self, path: &TreePath) -> Option<&Entry> {
        self.found_below(path).map(|found| found.entry)
    }

    fn found_below(&self, path: &TreePath) -> Option<StackEntry<'_>> {
        // First, since a copy onto nothing asks this of each of its files.
        let found = self.parent?.lookup(path)?;
        let hides = |node: &Node| node.entry.kind != EntryKind::Dir { opaque: false };
        if path.ancestors().any(|above| self.nodes.get(&above).is_some_and(hides)) {
            return None;
        }
        Some(found)
    }

    /// Follows a path with a directory as the root, as [`Stack::resolve`] does.
    pub(crate) fn resolve(
        &self,
        root: &TreePath,
        path: &[u8],
        follow_last: bool,
    ) -> Result<TreePath, ResolveError> {
        resolve_with(root, path, follow_last, |path| match self.look_kind(path) {
            None => PathComponent::Missing,
            Some(EntryKind::Dir { .. }) => PathComponent::Dir,
            Some(EntryKind::Symlink { target }) => PathComponent::Link(target.clone()),
            Some(_) => PathComponent::Other,
        })
    }

    /// Puts something at a path, whatever stands there: a directory merges with a directory, all
    /// else is replaced. Directories above that are missing are made as `implied` says.
    pub(crate) fn put(&mut self, mut node: Node, implied: &Entry) {
        let path = node.entry.path.clone();
        self.make_parents(&path, implied);
        if let EntryKind::Dir { opaque } = &mut node.entry.kind {
            *opaque |= match self.nodes.get(&path).map(|node| &node.entry.kind) {
                Some(EntryKind::Dir { opaque }) => *opaque,
                // What this layer had removed or replaced must not come back with the directory.
                Some(_) => self.below(&path).is_some_and(Entry::is_dir),
                None => false,
            };
        } else {
            self.drop_below(&path);
        }
        self.nodes.put(node);
    }

    /// Brings all directories above a path into this layer: the parent's as they are, missing ones
    /// as `implied` says (its path does not matter). Answers those that were missing.
    pub(crate) fn make_parents(&mut self, path: &TreePath, implied: &Entry) {
        if self.nodes.has_directory_of(path) {
            return;
        }
        let mut missing: Vec<(TreePath, bool)> = Vec::new();
        for above in path.ancestors() {
            let own = self.nodes.get(&above).map(|node| node.entry.kind == EntryKind::Whiteout);
            // What this layer has, has its directories. A directory takes the place of a whiteout.
            match own {
                _ if above.is_root() => break,
                Some(false) => break,
                Some(true) => missing.push((above, true)),
                None => missing.push((above, false)),
            }
        }
        for (above, was_hidden) in missing.into_iter().rev() {
            let below = self.below(&above).filter(|entry| entry.is_dir());
            let entry = match below {
                Some(entry) if !was_hidden => {
                    Entry { kind: EntryKind::Dir { opaque: false }, ..entry.clone() }
                }
                below => {
                    let kind = EntryKind::Dir { opaque: below.is_some() };
                    Entry { path: above.clone(), kind, ..implied.clone() }
                }
            };
            self.nodes.put(Node { entry, bytes: ByteSource::None, group: None });
        }
    }

    /// What the parent shows at a path, as a node of this layer: the same once more.
    pub(crate) fn copy_from_below(&self, path: &TreePath) -> Option<Node> {
        let found = self.found_below(path)?;
        let mut entry = Entry { kind: found.kind().clone(), ..found.entry.clone() };
        if let EntryKind::Dir { opaque } = &mut entry.kind {
            *opaque = false;
        }
        let mut bytes = ByteSource::None;
        if let Some(file) = found.file() {
            let files = Arc::new(self.parent?.layers().get(found.layer)?.files.clone());
            let (files, path) = LayerFiles::origin(&files, &file.entry.path);
            let linkable = matches!(*files, LayerFiles::Snapshot(_));
            bytes = ByteSource::Layer { files, path, linkable };
        }
        Some(Node { entry, bytes, group: None })
    }

    /// A number for a group of hardlinks that no other has.
    pub(crate) fn new_group(&mut self) -> u64 {
        self.groups += 1;
        self.groups
    }

    /// Makes a node one of a group of hardlinks.
    pub(crate) fn set_group(&mut self, path: &TreePath, group: u64) {
        if let Some(node) = self.nodes.get_mut(path) {
            node.group = Some(group);
        }
    }

    /// Gives all names of a group the metadata of one.
    pub(crate) fn set_meta_of_group(&mut self, group: u64, meta: &Entry) {
        for node in self.nodes.iter_mut().filter(|node| node.group == Some(group)) {
            let Entry { path: _, kind: _, mode, uid, gid, mtime, xattrs } = meta.clone();
            let entry = &mut node.entry;
            (entry.mode, entry.uid, entry.gid, entry.mtime, entry.xattrs) = (mode, uid, gid, mtime, xattrs);
            // A file that is linked from elsewhere has the metadata that it has there.
            if let ByteSource::Layer { linkable, .. } = &mut node.bytes {
                *linkable = false;
            }
        }
    }

    /// Changes an entry that this layer has.
    pub(crate) fn change(&mut self, path: &TreePath, change: impl FnOnce(&mut Entry)) {
        if let Some(node) = self.nodes.get_mut(path) {
            change(&mut node.entry);
        }
    }

    /// Gives entries the times that they have in another layer.
    pub(crate) fn take_times(&mut self, other: &Tree) {
        for node in self.nodes.iter_mut() {
            if let Some(known) = other.get(&node.entry.path) {
                node.entry.mtime = known.mtime;
            }
        }
    }

    /// Hides a path of the parent. What this layer itself has there stays.
    pub(crate) fn hide(&mut self, path: &TreePath) {
        let below_is_dir = self.below(path).map(Entry::is_dir);
        match (self.nodes.get_mut(path).map(|node| &mut node.entry.kind), below_is_dir) {
            (Some(EntryKind::Dir { opaque }), Some(true)) => *opaque = true,
            (None, Some(_)) => {
                self.make_parents(path, &Entry::new_dir(TreePath::root()));
                let entry = Entry::new_whiteout(path.clone());
                self.nodes.put(Node { entry, bytes: ByteSource::None, group: None });
            }
            _ => {}
        }
    }

    /// Hides all that the parent has in a directory.
    pub(crate) fn hide_contents(&mut self, path: &TreePath, implied: &Entry) {
        let Ok(inside) = path.child(b"x") else { return };
        self.make_parents(&inside, implied);
        if let Some(EntryKind::Dir { opaque }) = self.nodes.get_mut(path).map(|node| &mut node.entry.kind) {
            *opaque = true;
        }
    }

    fn drop_below(&mut self, path: &TreePath) {
        if !self.nodes.get(path).is_some_and(|node| node.entry.is_dir()) {
            return;
        }
        self.nodes.remove_tree(path);
    }

    /// The entries in order, groups made hardlinks.
    pub(crate) fn finish(self) -> Vec<(Entry, ByteSource)> {
        let mut first: HashMap<u64, TreePath> = HashMap::new();
        self.nodes
            .into_sorted()
            .into_iter()
            .map(|Node { mut entry, bytes, group }| match group.map(|group| first.entry(group)) {
                Some(std::collections::hash_map::Entry::Occupied(first)) => {
                    entry.kind = EntryKind::Hardlink { target: first.get().clone() };
                    (entry, ByteSource::None)
                }
                Some(std::collections::hash_map::Entry::Vacant(vacant)) => {
                    vacant.insert(entry.path.clone());
                    (entry, bytes)
                }
                None => (entry, bytes),
            })
            .collect()
    }
}

/// The time, for what is made without a time of its own.
pub(crate) fn now() -> Mtime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Mtime { secs: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: since.subsec_nanos() }
}
