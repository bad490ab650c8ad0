//! The index of one layer.

pub(crate) mod encoding;
pub(crate) mod layer_builder;
pub(crate) mod layer_files;
pub(crate) mod path;
pub(crate) mod resolve;
pub(crate) mod sorted_nodes;
pub(crate) mod stack;

use std::ops::Range;
use std::sync::OnceLock;

use dbuild_digest::{ContentDigest, Framed, TreeDigest};

use crate::TreePath;

/// A point in time, as files have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mtime {
    /// Seconds since 1970, negative before.
    pub secs: i64,
    /// Nanoseconds on top, below 10⁹.
    pub nanos: u32,
}

/// Extended attributes, sorted by name.
pub type Xattrs = Vec<(Box<[u8]>, Box<[u8]>)>;

/// One path of a layer and everything about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub path: TreePath,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky: `0o7777` at most. Of a symlink `0o777`.
    pub mode: u32,
    /// The owner as the image has it, whatever the id of the file on disk is.
    pub uid: u32,
    /// The group as the image has it.
    pub gid: u32,
    /// When it was changed. Part of the layer, never of a digest of this crate.
    pub mtime: Mtime,
    /// Extended attributes, sorted by name, overlayfs' own excluded.
    pub xattrs: Xattrs,
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file, and the first path of a group of hardlinks.
    File {
        /// In bytes.
        size: u64,
        /// Digest of its bytes.
        content: ContentDigest,
    },
    /// One more name of something in the same layer that is no directory. Its mode, owner, time and
    /// attributes repeat the target's.
    Hardlink {
        /// The first path of the group, in order; it has the kind of the group.
        target: TreePath,
    },
    /// A directory.
    Dir {
        /// What lower layers have in it is hidden.
        opaque: bool,
    },
    /// A symbolic link.
    Symlink {
        /// Its text.
        target: Box<[u8]>,
    },
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// What lower layers have at this path is hidden. Mode, owner, time and attributes are zero.
    Whiteout,
}

/// Entries that make no tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A path stands twice.
    #[error("{0} stands twice in a layer's index")]
    Twice(TreePath),
    /// The directory of a path is missing, or is no directory.
    #[error("{0} has no directory above it in a layer's index")]
    NoParent(TreePath),
    /// A hardlink whose target is missing, comes after it, or cannot have several names.
    #[error("{0} is a hard link to nothing before it in a layer's index")]
    NoTarget(TreePath),
    /// A mode, time or kind that cannot be.
    #[error("{0} has impossible metadata in a layer's index")]
    Impossible(TreePath),
    /// An encoded index that was cut or changed.
    #[error("a layer's index is damaged ({0})")]
    Damaged(&'static str),
    /// An encoded index of another version.
    #[error("a layer's index has the format {0}, which this dbuild does not know")]
    Version(u8),
}

/// The index of one layer (or of a build context): its entries, sorted, each path once, every
/// path's directories included. An entry for the root is there only if the layer says something
/// about the root.
#[derive(Debug, Default)]
pub struct Tree {
    entries: Vec<Entry>,
    digest: OnceLock<TreeDigest>,
}

impl Tree {
    /// The tree of these entries, in any order.
    pub fn from_entries(mut entries: Vec<Entry>) -> Result<Self, TreeError> {
        // What was collected in place has the room of what it was collected from.
        entries.shrink_to_fit();
        if !entries.is_sorted_by(|a, b| a.path < b.path) {
            entries.sort_by(|a, b| a.path.cmp(&b.path));
        }
        let tree = Self { entries, digest: OnceLock::new() };
        tree.check()?;
        Ok(tree)
    }

    /// All entries, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// One entry.
    pub fn get(&self, path: &TreePath) -> Option<&Entry> {
        self.position(path).ok().map(|index| &self.entries[index])
    }

    /// The entry of a path and all below it, in order; all entries for the root.
    pub fn subtree(&self, path: &TreePath) -> &[Entry] {
        &self.entries[self.range(path)]
    }

    /// Where [`Tree::subtree`] lies among the entries.
    pub(crate) fn range(&self, path: &TreePath) -> Range<usize> {
        let start = self.entries.partition_point(|entry| entry.path < *path);
        let length = self.entries[start..].partition_point(|entry| entry.path.starts_with(path));
        start..start + length
    }

    /// The first name of what an entry is: itself, or what its hardlink leads to.
    pub fn first_name<'a>(&'a self, entry: &'a Entry) -> &'a Entry {
        match &entry.kind {
            EntryKind::Hardlink { target } => self.get(target).unwrap_or(entry),
            _ => entry,
        }
    }

    /// The file that an entry is, itself or through its hardlink.
    pub fn file_of<'a>(&'a self, entry: &'a Entry) -> Option<&'a Entry> {
        Some(self.first_name(entry)).filter(|first| matches!(first.kind, EntryKind::File { .. }))
    }

    /// The digest of everything but times. Two layers with the same digest do the same to what is
    /// below them.
    pub fn digest(&self) -> TreeDigest {
        *self.digest.get_or_init(|| {
            let mut framed = Framed::new("dbuild tree", 1);
            framed.u64(self.entries.len() as u64);
            for entry in &self.entries {
                framed.bytes(entry.path.as_bytes());
                entry.hash_into(&mut framed);
            }
            TreeDigest::from_bytes(framed.finish())
        })
    }

    /// Whether there is no entry at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bytes of all regular files, hardlinks counted once.
    pub fn unpacked_size(&self) -> u64 {
        self.entries
            .iter()
            .map(|entry| if let EntryKind::File { size, .. } = entry.kind { size } else { 0 })
            .sum()
    }

    pub(crate) fn position(&self, path: &TreePath) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.path.cmp(path))
    }

    /// One pass: order, directories above, hardlinks, ranges.
    fn check(&self) -> Result<(), TreeError> {
        let mut directories: Vec<&TreePath> = Vec::new();
        let mut before: Option<&TreePath> = None;
        for entry in &self.entries {
            if before.is_some_and(|before| *before == entry.path) {
                return Err(TreeError::Twice(entry.path.clone()));
            }
            before = Some(&entry.path);
            while directories.last().is_some_and(|dir| !entry.path.starts_with(dir)) {
                directories.pop();
            }
            let parent = entry.path.split().map(|(parent, _)| parent);
            let has_parent = match parent {
                None | Some([]) => true,
                Some(parent) => directories.last().is_some_and(|dir| dir.as_bytes() == parent),
            };
            if !has_parent {
                return Err(TreeError::NoParent(entry.path.clone()));
            }
            match &entry.kind {
                EntryKind::Dir { .. } => directories.push(&entry.path),
                EntryKind::Hardlink { target } => {
                    let first = self.get(target).filter(|first| first.kind.can_be_linked());
                    if *target >= entry.path || first.is_none() {
                        return Err(TreeError::NoTarget(entry.path.clone()));
                    }
                }
                _ if entry.path.is_root() => return Err(TreeError::Impossible(entry.path.clone())),
                _ => {}
            }
            if entry.mode > 0o7777 || entry.mtime.nanos > 999_999_999 {
                return Err(TreeError::Impossible(entry.path.clone()));
            }
        }
        Ok(())
    }
}

impl Clone for Tree {
    fn clone(&self) -> Self {
        Self { entries: self.entries.clone(), digest: self.digest.clone() }
    }
}

impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Eq for Tree {}

impl Entry {
    /// A directory as it is made where nothing says more: 0755, owned by root, at the epoch.
    pub fn new_dir(path: TreePath) -> Self {
        Self {
            path,
            kind: EntryKind::Dir { opaque: false },
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Mtime::default(),
            xattrs: Vec::new(),
        }
    }

    /// The entry that hides a path of lower layers.
    pub fn new_whiteout(path: TreePath) -> Self {
        Self { kind: EntryKind::Whiteout, mode: 0, ..Self::new_dir(path) }
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        matches!(self.kind, EntryKind::Dir { .. })
    }

    /// Whether both are the same but for their path and time. A hardlink is not the same as its
    /// file.
    pub fn same_but_path_and_time(&self, other: &Entry) -> bool {
        let Self { path: _, kind, mode, uid, gid, mtime: _, xattrs } = self;
        (kind, mode, uid, gid, xattrs) == (&other.kind, &other.mode, &other.uid, &other.gid, &other.xattrs)
    }

    /// Adds everything but path and time to a hash: tag, kind, mode, owner, extended attributes.
    pub(crate) fn hash_into(&self, framed: &mut Framed) {
        let Self { path: _, kind, mode, uid, gid, mtime: _, xattrs } = self;
        framed.u64(u64::from(kind.tag()));
        match kind {
            EntryKind::File { size, content } => framed.u64(*size).bytes(content.as_bytes()),
            EntryKind::Hardlink { target } => framed.bytes(target.as_bytes()),
            EntryKind::Dir { opaque } => framed.bool(*opaque),
            EntryKind::Symlink { target } => framed.bytes(target),
            EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
                framed.u64(u64::from(*major)).u64(u64::from(*minor))
            }
            EntryKind::Fifo | EntryKind::Whiteout => framed,
        };
        framed.u64(u64::from(*mode)).u64(u64::from(*uid)).u64(u64::from(*gid)).u64(xattrs.len() as u64);
        for (name, value) in xattrs {
            framed.bytes(name).bytes(value);
        }
    }
}

impl EntryKind {
    /// Whether it can be the first of several names.
    pub(crate) const fn can_be_linked(&self) -> bool {
        !matches!(self, Self::Dir { .. } | Self::Hardlink { .. } | Self::Whiteout)
    }

    /// The number of the kind, in digests and in encoded indexes.
    pub(crate) const fn tag(&self) -> u8 {
        match self {
            Self::File { .. } => 0,
            Self::Hardlink { .. } => 1,
            Self::Dir { .. } => 2,
            Self::Symlink { .. } => 3,
            Self::Fifo => 4,
            Self::CharDevice { .. } => 5,
            Self::BlockDevice { .. } => 6,
            Self::Whiteout => 7,
        }
    }
}

#[cfg(test)]
mod tests {
    use dbuild_digest::ContentDigest;

    use super::{Entry, EntryKind, Mtime, Tree, TreeError};
    use crate::TreePath;

    fn at(path: &str) -> TreePath {
        TreePath::from_bytes(path.as_bytes()).unwrap()
    }

    fn file(path: &str, bytes: &[u8]) -> Entry {
        let kind = EntryKind::File { size: bytes.len() as u64, content: ContentDigest::of(bytes) };
        Entry { kind, mode: 0o644, ..Entry::new_dir(at(path)) }
    }

    fn link(path: &str, target: &str) -> Entry {
        Entry { kind: EntryKind::Hardlink { target: at(target) }, ..file(path, b"") }
    }

    fn tree(entries: &[Entry]) -> Result<Tree, TreeError> {
        Tree::from_entries(entries.to_vec())
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let dir = Entry::new_dir(at("d"));
        assert_eq!(tree(&[file("a", b""), file("a", b"")]), Err(TreeError::Twice(at("a"))));
        assert_eq!(tree(&[file("d/a", b"")]), Err(TreeError::NoParent(at("d/a"))));
        assert_eq!(tree(&[file("a", b""), file("a/b", b"")]), Err(TreeError::NoParent(at("a/b"))));
        assert_eq!(tree(&[link("b", "a")]), Err(TreeError::NoTarget(at("b"))));
        assert_eq!(tree(&[link("b", "d"), dir.clone()]), Err(TreeError::NoTarget(at("b"))));
        assert_eq!(tree(&[file("b", b""), link("a", "b")]), Err(TreeError::NoTarget(at("a"))));
        assert_eq!(tree(&[Entry { mode: 0o10000, ..dir.clone() }]), Err(TreeError::Impossible(at("d"))));
        assert_eq!(tree(&[Entry::new_whiteout(at(""))]), Err(TreeError::Impossible(at(""))));
        assert!(tree(&[file("d/a", b""), dir, link("d/b", "d/a")]).is_ok());
    }

    #[test]
    fn every_part_but_time_is_in_the_digest() {
        let base = tree(&[file("a", b"x")]).unwrap();
        let digest = |change: fn(&mut Entry)| {
            let mut entry = file("a", b"x");
            change(&mut entry);
            tree(&[entry]).unwrap().digest()
        };
        assert_eq!(digest(|entry| entry.mtime = Mtime { secs: -5, nanos: 3 }), base.digest());
        let changes: [fn(&mut Entry); 7] = [
            |entry| entry.path = at("b"),
            |entry| entry.mode = 0o600,
            |entry| entry.uid = 1,
            |entry| entry.gid = 1,
            |entry| entry.xattrs = vec![((*b"n").into(), (*b"v").into())],
            |entry| entry.kind = EntryKind::Fifo,
            |entry| entry.kind = file("a", b"y").kind,
        ];
        for change in changes {
            assert_ne!(digest(change), base.digest());
        }
        let opaque = |opaque| Entry { kind: EntryKind::Dir { opaque }, ..Entry::new_dir(at("d")) };
        assert_ne!(tree(&[opaque(true)]).unwrap().digest(), tree(&[opaque(false)]).unwrap().digest());
    }

    #[test]
    fn subtrees_and_sizes() {
        let tree = tree(&[
            Entry::new_dir(at("d")),
            file("d/a", b"12"),
            link("d/b", "d/a"),
            file("d-e", b"345"),
            Entry::new_dir(at("c")),
        ])
        .unwrap();
        let paths: Vec<String> = tree.subtree(&at("d")).iter().map(|entry| entry.path.to_string()).collect();
        assert_eq!(paths, ["/d", "/d/a", "/d/b"]);
        assert_eq!(tree.subtree(&at("")).len(), 5);
        assert!(tree.subtree(&at("x")).is_empty());
        assert_eq!(tree.unpacked_size(), 5);
        assert_eq!(tree.file_of(&tree.entries()[3]), tree.get(&at("d/a")));
    }
}
