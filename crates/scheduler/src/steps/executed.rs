//! What the execution of a step gives, before it is published.

use std::sync::Arc;

use dbuild_layer::{Tree, UnwrittenLayer};
use dbuild_sandbox::Trace;
use dbuild_store::SnapshotDraft;

/// The layer that a step made.
pub(crate) struct Executed {
    pub(crate) content: Content,
    pub(crate) tree: Arc<Tree>,
    /// The result is what was asked for, but not what the key says: a file changed while it was
    /// copied.
    pub(crate) unkeyed: bool,
    /// What its command asked for, where that is recorded.
    pub(crate) trace: Option<Trace>,
}

/// The files of a layer that a step made.
pub(crate) enum Content {
    /// They are on disk.
    Written(SnapshotDraft),
    /// They are where they are copied from, and packed from there.
    Unwritten(Arc<UnwrittenLayer>),
}

impl Executed {
    pub(crate) fn written(draft: SnapshotDraft, tree: Tree) -> Self {
        Self { content: Content::Written(draft), tree: Arc::new(tree), unkeyed: false, trace: None }
    }

    pub(crate) fn unwritten(files: UnwrittenLayer) -> Self {
        let tree = Arc::clone(files.tree());
        Self { content: Content::Unwritten(Arc::new(files)), tree, unkeyed: false, trace: None }
    }
}
