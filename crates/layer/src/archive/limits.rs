//! How large an archive may be.

/// Upper bounds on what is read from one archive.
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
