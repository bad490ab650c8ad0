//! What one entry of an archive does to a layer.

use crate::{Entry, TreePath};

/// One entry of an archive.
#[derive(Debug)]
pub(crate) enum ArchiveOperation {
    /// An entry of its own; with the number of its bytes in the spool.
    Put(Entry, Option<u64>),
    /// One more name for what is at `target`. The entry says its path, and the metadata that all
    /// names have from now on; its kind says nothing.
    Link { entry: Entry, target: TreePath },
    /// `.wh.x`: `x` of lower layers is hidden.
    Hide(TreePath),
    /// `.wh..wh..opq`: all that lower layers have in a directory is hidden.
    HideContents(TreePath),
}
