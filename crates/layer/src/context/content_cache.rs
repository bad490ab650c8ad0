//! What is known of files' contents without reading them.

use std::path::Path;

use dbuild_digest::ContentDigest;

use crate::TreePath;

/// What the file system says of a file. Two equal ones mean the same bytes, unless the file was
/// written within the clock's tick of when it was recorded.
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

/// A file that is asked for.
pub type AskedFile<'a> = (&'a TreePath, FileStat);

/// A file that was read.
pub type LearnedFile<'a> = (&'a TreePath, FileStat, ContentDigest);

/// Remembers content digests by stat data. Implementations guard against racy times: what was
/// recorded while its own mtime or ctime was still the present must not be answered.
///
/// Files come in the order of their paths, one at a time: a context has hundreds of thousands, and
/// what is known of them can be read along with them.
pub trait ContentIndex: Send + Sync {
    /// What is known of these files below `root`, in their order.
    fn get_many<'a>(
        &self,
        root: &Path,
        files: &mut dyn Iterator<Item = AskedFile<'a>>,
    ) -> Vec<Option<ContentDigest>>;

    /// Remembers what was read. The stat data was taken *before* the file was read.
    fn put_many<'a>(&self, root: &Path, files: &mut dyn Iterator<Item = LearnedFile<'a>>);
}

/// Knows nothing and remembers nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoContentIndex;

impl ContentIndex for NoContentIndex {
    fn get_many<'a>(
        &self,
        _root: &Path,
        files: &mut dyn Iterator<Item = AskedFile<'a>>,
    ) -> Vec<Option<ContentDigest>> {
        files.map(|_| None).collect()
    }

    fn put_many<'a>(&self, _root: &Path, _files: &mut dyn Iterator<Item = LearnedFile<'a>>) {}
}
