//! The files of an image as the analysis is given them.

/// The files of an image. An implementation follows no links: that is done here.
pub trait Files {
    /// What stands at exactly this absolute path; `/` is the root.
    fn lookup(&self, path: &str) -> Option<Node>;

    /// The names in a directory, sorted.
    fn names(&self, dir: &str) -> Vec<String>;

    /// At most `len` bytes of a regular file from `offset` on; fewer at its end. `None` where its
    /// content is not available: then what depends on them is unknown.
    fn read(&self, path: &str, offset: u64, len: usize) -> Option<Vec<u8>>;
}

/// One path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file of so many bytes.
    File(u64),
    /// A directory.
    Dir,
    /// A symbolic link with this text.
    Link(String),
    /// A device, a pipe.
    Other,
}

impl Node {
    pub(crate) fn is_dir(&self) -> bool {
        self.kind == NodeKind::Dir
    }

    pub(crate) fn is_file(&self) -> bool {
        matches!(self.kind, NodeKind::File(_))
    }
}

/// A path below a directory; an absolute one stays.
pub(crate) fn join(dir: &str, path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", dir.trim_end_matches('/')) }
}

/// The last name of a path.
pub(crate) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The directory of an absolute path.
pub(crate) fn parent(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(end) => &path[..end],
    }
}
