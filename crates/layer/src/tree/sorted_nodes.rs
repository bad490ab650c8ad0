//! The nodes of a draft by their paths. Copies come in the order of their paths, and there is one
//! for each file of a context: those are appended to one list, which becomes the layer's index
//! where it stands. The rest goes into a map beside it.

use std::collections::{BTreeMap, HashSet};

use crate::tree::layer_files::ByteSource;
use crate::{Entry, TreePath};

/// One entry and where its bytes come from.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Never a `Hardlink`: those are nodes of the same kind with the same group.
    pub(crate) entry: Entry,
    pub(crate) bytes: ByteSource,
    /// Nodes of one group become hardlinks of each other.
    pub(crate) group: Option<u64>,
}

/// See the module. A path stands in one of both at most.
#[derive(Debug, Default)]
pub(crate) struct SortedNodes {
    /// Sorted.
    appended: Vec<Node>,
    /// Places in that list whose nodes were removed.
    removed: HashSet<usize>,
    /// What came later than a path after it. Boxed: a map that is filled in order is half empty.
    inserted: BTreeMap<TreePath, Box<Node>>,
}

impl SortedNodes {
    pub(crate) fn get(&self, path: &TreePath) -> Option<&Node> {
        match self.appended(path) {
            Some(at) => self.appended.get(at),
            None => self.inserted.get(path).map(|node| &**node),
        }
    }

    pub(crate) fn get_mut(&mut self, path: &TreePath) -> Option<&mut Node> {
        match self.appended(path) {
            Some(at) => self.appended.get_mut(at),
            None => self.inserted.get_mut(path).map(|node| &mut **node),
        }
    }

    /// Whether the last one that was appended lies in the same directory: then all directories
    /// above are here.
    pub(crate) fn has_directory_of<'a>(&'a self, path: &'a TreePath) -> bool {
        let last = self.appended.last().filter(|_| !self.removed.contains(&(self.appended.len() - 1)));
        let directory_of = |path: &'a TreePath| path.split().map(|(directory, _)| directory);
        last.and_then(|last| directory_of(&last.entry.path))
            .is_some_and(|last| directory_of(path) == Some(last))
    }

    /// Puts a node where its path says; one that is there is replaced.
    pub(crate) fn put(&mut self, node: Node) {
        let path = &node.entry.path;
        if let Some(there) = self.get_mut(path) {
            *there = node;
        } else if self.appended.last().is_none_or(|last| last.entry.path < *path) {
            self.appended.push(node);
        } else {
            self.inserted.insert(path.clone(), Box::new(node));
        }
    }

    /// Removes a path and all that is below it.
    pub(crate) fn remove_tree(&mut self, path: &TreePath) {
        let start = self.appended.partition_point(|node| node.entry.path < *path);
        let length = self.appended[start..].partition_point(|node| node.entry.path.starts_with(path));
        self.removed.extend(start..start + length);
        let below = self.inserted.range(path..).map(|(at, _)| at).take_while(|at| at.starts_with(path));
        for at in below.cloned().collect::<Vec<_>>() {
            self.inserted.remove(&at);
        }
    }

    /// All nodes, in no order.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        let inserted = self.inserted.values_mut().map(|node| &mut **node);
        self.appended.iter_mut().chain(inserted)
    }

    /// All nodes, in order. What was only appended stays where it is.
    pub(crate) fn into_sorted(self) -> Vec<Node> {
        let Self { mut appended, removed, inserted } = self;
        if !removed.is_empty() {
            let mut at = 0..;
            appended.retain(|_| at.next().is_none_or(|at| !removed.contains(&at)));
        }
        if !inserted.is_empty() {
            appended.extend(inserted.into_values().map(|node| *node));
            appended.sort_by(|a, b| a.entry.path.cmp(&b.entry.path));
        }
        appended
    }

    fn appended(&self, path: &TreePath) -> Option<usize> {
        // Most paths that are asked for come next.
        if self.appended.last().is_none_or(|last| last.entry.path < *path) {
            return None;
        }
        let at = self.appended.binary_search_by(|node| node.entry.path.cmp(path)).ok()?;
        (!self.removed.contains(&at)).then_some(at)
    }
}

#[cfg(test)]
#[path = "tests/sorted_nodes.rs"]
mod tests;
