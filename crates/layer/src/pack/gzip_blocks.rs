//! Compressed bytes that were written before and are not compressed again.
//!
//! A gzip file is a row of members, and each member depends on the bytes that it holds and on the
//! level alone (see `gzip.rs`). So the layer of a COPY of which one file changed is for the most
//! part made of members that an earlier layer has. Members begin where files do (see `pack.rs`), so
//! that what comes before a file does not move the borders after it for long.

use dbuild_digest::ContentDigest;

/// Where members are kept. Asked from several threads.
pub trait GzipBlocks: Sync {
    /// The member that holds the bytes with this digest, compressed at this level. Who answers
    /// vouches for the answer: it goes into the layer as it is.
    fn find(&self, content: &ContentDigest, level: u32) -> Option<Vec<u8>>;

    /// A member was written.
    fn written(&self, member: &WrittenGzipBlock<'_>);
}

/// A member of a layer that was packed.
#[derive(Clone, Copy, Debug)]
pub struct WrittenGzipBlock<'a> {
    /// Digest of the bytes that it holds.
    pub content: ContentDigest,
    /// The level that they were compressed at.
    pub level: u32,
    /// Where it begins in the layer's blob, in bytes.
    pub start: u64,
    /// The member.
    pub bytes: &'a [u8],
}

/// Nothing was written before, and nothing is kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoGzipBlocks;

impl GzipBlocks for NoGzipBlocks {
    fn find(&self, _: &ContentDigest, _: u32) -> Option<Vec<u8>> {
        None
    }

    fn written(&self, _: &WrittenGzipBlock<'_>) {}
}
