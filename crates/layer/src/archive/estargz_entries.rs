//! The entries that eStargz adds to a tar, which are no part of the layer.

use crate::archive::operation::ArchiveOperation;

/// The table of contents, in the root.
pub(crate) const TOC: &str = "stargz.index.json";
/// The entry that says that there is nothing to fetch in advance, and the one that says how far
/// that goes.
pub(crate) const LANDMARKS: [&str; 2] = [".no.prefetch.landmark", ".prefetch.landmark"];

/// Leaves the table and the landmarks of an eStargz layer out of what it is made of: they are no
/// files of the image, and who reads the layer file by file does not show them either. Of other
/// layers nothing is left out.
pub(crate) fn leave_out(operations: &mut Vec<ArchiveOperation>) {
    let path_is = |operation: &ArchiveOperation, own: &str| match operation {
        ArchiveOperation::Put(entry, Some(_)) => entry.path.as_bytes() == own.as_bytes(),
        _ => false,
    };
    let is_landmark = |operation: &ArchiveOperation| LANDMARKS.into_iter().any(|own| path_is(operation, own));
    if operations.last().is_some_and(|last| path_is(last, TOC)) && operations.iter().any(is_landmark) {
        operations.retain(|operation| !path_is(operation, TOC) && !is_landmark(operation));
    }
}
