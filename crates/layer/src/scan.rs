//! What a RUN wrote.

use std::path::Path;

use crate::{DiskForm, LayerError, Stack, Tree};

/// Gives an empty upper directory the mode, owner and time that the root of the lower layers has, so that a mount shows it.
pub fn prepare_upper(upper: &Path, lower: &Stack, form: impl Into<DiskForm>) -> Result<(), LayerError> {
    let _ = (lower, form.into());
    Err(LayerError::io("write", upper)(rustix::io::Errno::NOSYS))
}

/// Indexes an overlayfs upper directory after a RUN. What is the same as in `lower` is removed from it.
pub fn scan_upper(upper: &Path, lower: &Stack, form: impl Into<DiskForm>) -> Result<Tree, LayerError> {
    let _ = (lower, form.into());
    Err(LayerError::io("read", upper)(rustix::io::Errno::NOSYS))
}
