//! Pulled layers.

use std::io::Read;
use std::path::Path;

use dbuild_digest::BlobDigest;

use crate::{ArchiveError, DiskForm, LayerError, Made, Stack};

/// How large an archive may be.
#[derive(Clone, Copy, Debug)]
pub struct UnpackLimits {
    /// Bytes of the uncompressed archive.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
}

impl Default for UnpackLimits {
    /// 1 TiB and 20 million entries: more than any image has, and an end.
    fn default() -> Self {
        Self { bytes: 1 << 40, entries: 20_000_000 }
    }
}

/// A layer that was read, and waits for the layers below it: hardlinks may lead into them, and so may symlinks
/// on the way to an entry.
#[derive(Debug)]
pub struct Unpacked {
    /// Of the uncompressed archive.
    pub diff_id: BlobDigest,
}

/// Reads a layer's tar (uncompressed; see [`decompress`]) to its end into a directory that is empty. Ok means: every file's
/// bytes are there; [`Unpacked::complete`] then puts them in their places.
pub fn unpack(
    reader: impl Read,
    out_dir: &Path,
    form: impl Into<DiskForm>,
    limits: &UnpackLimits,
) -> Result<Unpacked, LayerError> {
    let _ = (reader, form.into(), limits);
    Err(LayerError::io("read", out_dir)(rustix::io::Errno::NOSYS))
}

impl Unpacked {
    /// Finishes the layer on top of the layers below it, which must be complete.
    pub fn complete(self, lower: &Stack) -> Result<Made, LayerError> {
        let _ = lower;
        Err(LayerError::io("read", "")(rustix::io::Errno::NOSYS))
    }
}

/// Decompresses a stream, which is known by its first bytes: gzip, zstd, bzip2, xz, or none of them (taken as it is).
pub fn decompress<'a>(reader: impl Read + Send + 'a) -> Result<Box<dyn Read + Send + 'a>, ArchiveError> {
    Ok(Box::new(reader))
}
