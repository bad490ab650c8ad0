//! A layer while it is made: entries in memory, on top of a stack. Nothing is on disk before all is known.

use std::collections::HashMap;
use std::sync::Arc;

use crate::copy::sorted_nodes::Nodes;
use crate::tree::stack::{Step, resolve_with};
use crate::{Entry, EntryKind, Files, Mtime, ResolveError, Stack, Tree, TreePath};

/// See the module.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    parent: Option<&'a Stack>,
    nodes: Nodes,
    groups: u64,
}

/// One entry and where its bytes come from.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Hardlinks are `File`s with the same group.
    pub(crate) entry: Entry,
    pub(crate) bytes: Bytes,
    /// Files of one group become hardlinks of each other.
    pub(crate) group: Option<u64>,
}

/// Where a regular file's bytes come from.
#[derive(Clone, Debug)]
pub(crate) enum Bytes {
    /// It is no regular file.
    None,
    /// From another layer or a context.
    Layer {
        files: Arc<Files>,
        path: TreePath,
        /// The file there has the same mode, owner, time and attributes, and never changes.
        linkable: bool,
    },
    /// From memory.
    Inline(Arc<[u8]>),
    /// From the spool, under this number.
    Spool(u64),
}

impl<'a> Draft<'a> {
    pub(crate) fn new(parent: Option<&'a Stack>) -> Self {
        Self { parent, nodes: Nodes::default(), groups: 0 }
    }

    /// What the layer on its parent shows at exactly this path.
    pub(crate) fn look(&self, path: &TreePath) -> Option<&Entry> {
        if let Some(node) = self.nodes.get(path) {
            return Some(&node.entry).filter(|entry| entry.kind != EntryKind::Whiteout);
        }
        self.below(path)
    }

    /// The node that this layer itself has.
    pub(crate) fn own(&self, path: &TreePath) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// What the parent shows there, unless this layer hides it from above.
    fn below(&self, path: &TreePath) -> Option<&Entry> {
        // First, since a copy onto nothing asks this of each of its files.
        let found = self.parent?.lookup(path)?;
        let hides = |node: &Node| node.entry.kind != EntryKind::Dir { opaque: false };
        if path.ancestors().any(|above| self.nodes.get(&above).is_some_and(hides)) {
            return None;
        }
        Some(found.entry)
    }

    /// Follows a path with a directory as the root, as [`Stack::resolve`] does.
    pub(crate) fn resolve(
        &self,
        root: &TreePath,
        path: &[u8],
        follow_last: bool,
    ) -> Result<TreePath, ResolveError> {
        resolve_with(root, path, follow_last, |path| match self.look(path).map(|entry| &entry.kind) {
            None => Step::Missing,
            Some(EntryKind::Dir { .. }) => Step::Dir,
            Some(EntryKind::Symlink { target }) => Step::Link(target.clone()),
            Some(_) => Step::Other,
        })
    }

    /// Puts something at a path, whatever stands there: a directory merges with a directory, all else is replaced.
    /// Directories above that are missing are made as `implied` says.
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

    /// Brings all directories above a path into this layer: the parent's as they are, missing ones as `implied`
    /// says (its path does not matter). Answers those that were missing.
    pub(crate) fn make_parents(&mut self, path: &TreePath, implied: &Entry) {
        if self.nodes.has_directory_of(path) {
            return;
        }
        let mut missing: Vec<TreePath> = Vec::new();
        for above in path.ancestors() {
            // What this layer has, has its directories.
            if above.is_root() || self.nodes.contains(&above) {
                break;
            }
            missing.push(above);
        }
        for above in missing.into_iter().rev() {
            let entry = match self.below(&above).filter(|entry| entry.is_dir()) {
                Some(entry) => Entry { kind: EntryKind::Dir { opaque: false }, ..entry.clone() },
                None => Entry { path: above.clone(), ..implied.clone() },
            };
            self.nodes.put(Node { entry, bytes: Bytes::None, group: None });
        }
    }

    /// What the parent shows at a path, as a node of this layer: the same once more.
    pub(crate) fn copy_from_below(&self, path: &TreePath) -> Option<Node> {
        self.below(path)?;
        let found = self.parent?.lookup(path)?;
        let mut entry = found.entry.clone();
        let mut bytes = Bytes::None;
        if let Some(file) = found.file() {
            entry.kind = file.entry.kind.clone();
            let files = Arc::new(self.parent?.layers().get(found.layer)?.files.clone());
            let (files, path) = Files::origin(&files, &file.entry.path);
            let linkable = matches!(*files, Files::Snapshot(_));
            bytes = Bytes::Layer { files, path, linkable };
        }
        Some(Node { entry, bytes, group: None })
    }

    /// A number for a group of hardlinks that no other has.
    pub(crate) fn new_group(&mut self) -> u64 {
        self.groups += 1;
        self.groups
    }

    /// Makes a file one of a group of hardlinks.
    pub(crate) fn set_group(&mut self, path: &TreePath, group: u64) {
        if let Some(node) = self.nodes.get_mut(path) {
            node.group = Some(group);
        }
    }

    /// Changes a directory that this layer has.
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
                self.nodes.put(Node { entry, bytes: Bytes::None, group: None });
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
    pub(crate) fn finish(self) -> Vec<(Entry, Bytes)> {
        let mut first: HashMap<u64, TreePath> = HashMap::new();
        self.nodes
            .into_sorted()
            .into_iter()
            .map(|Node { mut entry, bytes, group }| match group.map(|group| first.entry(group)) {
                Some(std::collections::hash_map::Entry::Occupied(first)) => {
                    entry.kind = EntryKind::Hardlink { target: first.get().clone() };
                    (entry, Bytes::None)
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
