//! What is known of files' contents without reading them.

use std::path::Path;

use dbuild_digest::ContentDigest;

use crate::TreePath;

/// What the file system says of a file. Two equal ones mean the same bytes, unless the file was written within the
/// clock's tick of when it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileStat {
    /// The file system.
    pub dev: u64,
    /// The inode.
    pub ino: u64,
    /// In bytes.
    pub size: u64,
    /// Time of the last write, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Time of the last change of anything, in nanoseconds since 1970.
    pub ctime_ns: i64,
    /// Type and permissions, as `st_mode`.
    pub mode: u32,
}

/// Remembers content digests by stat data. Implementations guard against racy times: what was recorded
/// while its own mtime or ctime was still the present must not be answered.
pub trait ContentIndex: Send + Sync {
    /// What is known of these files below `root`, in their order.
    fn get_many(&self, root: &Path, files: &[(TreePath, FileStat)]) -> Vec<Option<ContentDigest>>;

    /// Remembers what was read. The stat data was taken *before* the file was read.
    fn put_many(&self, root: &Path, files: &[(TreePath, FileStat, ContentDigest)]);
}

/// Knows nothing and remembers nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoContentIndex;

impl ContentIndex for NoContentIndex {
    fn get_many(&self, _root: &Path, files: &[(TreePath, FileStat)]) -> Vec<Option<ContentDigest>> {
        vec![None; files.len()]
    }

    fn put_many(&self, _root: &Path, _files: &[(TreePath, FileStat, ContentDigest)]) {}
}
