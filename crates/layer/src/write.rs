//! A stack as files or as one tar: the outputs `type=local` and `type=tar`.

use std::io::Write;
use std::path::Path;

use crate::{LayerError, Stack};

/// How files are written outside of the store.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteOptions {
    /// Files get the image's owners (which takes root); otherwise they are the caller's.
    pub owners: bool,
    /// Times after this many seconds since 1970 become it.
    pub clamp_mtime: Option<i64>,
}

impl Stack {
    /// Writes all files below a directory, which is made if it is missing. Existing files of the same path are replaced, others
    /// stay. Gives notes about what could not be written (device nodes without root).
    pub fn write_files(&self, dest: &Path, options: &WriteOptions) -> Result<Vec<String>, LayerError> {
        let _ = options;
        Err(LayerError::io("write", dest)(rustix::io::Errno::NOSYS))
    }

    /// Writes all files as one uncompressed tar, without whiteouts.
    pub fn write_tar(&self, out: impl Write, clamp_mtime: Option<i64>) -> Result<(), LayerError> {
        let _ = (out, clamp_mtime);
        Err(LayerError::Output(std::io::ErrorKind::Unsupported.into()))
    }
}
