//! Compressed bytes that were written before and are not compressed again.
//!
//! A gzip layer is made of blocks, and each depends on the bytes that it holds, on the level and on
//! its form alone (see `gzip.rs`). So the layer of a COPY of which one file changed is for the most
//! part made of blocks that an earlier layer has. Blocks begin where files do (see `mod.rs`), so
//! what comes before a file does not move the borders after it for long.

use dbuild_digest::ContentDigest;

/// How a block is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GzipBlockForm {
    /// As a part of the layer's only gzip member: deflate blocks that end at a byte, none of which
    /// is marked as the last.
    Part,
    /// As a gzip member of its own, which is what eStargz is made of.
    Member,
}

/// Where blocks are kept. Asked from several threads.
pub trait GzipBlocks: Sync {
    /// The block that holds the bytes with this digest, compressed at this level and in this form.
    /// An implementation vouches for its answer: the bytes go into the layer as they are.
    fn find(&self, content: &ContentDigest, level: u32, form: GzipBlockForm) -> Option<Vec<u8>>;

    /// Notes a block that was written.
    fn written(&self, block: &WrittenGzipBlock<'_>);
}

/// A block of a layer that was packed.
#[derive(Clone, Copy, Debug)]
pub struct WrittenGzipBlock<'a> {
    /// Digest of the bytes that it holds.
    pub content: ContentDigest,
    /// The level that they were compressed at.
    pub level: u32,
    /// How it is written.
    pub form: GzipBlockForm,
    /// Where it begins in the layer's blob, in bytes.
    pub start: u64,
    /// The compressed bytes.
    pub bytes: &'a [u8],
}

/// An index that finds nothing and keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoGzipBlocks;

impl GzipBlocks for NoGzipBlocks {
    fn find(&self, _: &ContentDigest, _: u32, _: GzipBlockForm) -> Option<Vec<u8>> {
        None
    }

    fn written(&self, _: &WrittenGzipBlock<'_>) {}
}
