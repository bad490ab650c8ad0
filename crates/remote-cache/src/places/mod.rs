//! Places that keep artifacts: the one trait behind which a registry, a directory and a bucket look
//! the same. It knows nothing of records.

pub(crate) mod directory;
pub(crate) mod registry;
#[cfg(feature = "s3")]
pub(crate) mod s3;

use std::fmt;

use async_trait::async_trait;
use dbuild_digest::BlobDigest;
use dbuild_oci::Descriptor;
use dbuild_store::{Incoming, Store};

use crate::RemoteCacheError;

pub(crate) type Result<T> = std::result::Result<T, RemoteCacheError>;
pub(crate) type Progress<'a> = &'a (dyn Fn(u64) + Send + Sync);

/// A tag of ours, as a place lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagEntry {
    pub tag: String,
    /// When the manifest was written, in milliseconds since 1970, where the place knows.
    pub modified_ms: Option<u64>,
}

/// What a sweep of blobs removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    pub blobs: u64,
    pub bytes: u64,
}

/// A lease: as long as it is held, no blob is swept. Dropped without [`Lease::end`], it ends as
/// soon as the place can see that.
#[async_trait]
pub(crate) trait Lease: Send + Sync {
    /// Ends it now.
    async fn end(self: Box<Self>);
}

/// A lease that ends when it is dropped.
pub(crate) struct HeldLease<T>(pub T);

#[async_trait]
impl<T: Send + Sync> Lease for HeldLease<T> {
    async fn end(self: Box<Self>) {}
}

/// Keeps manifests by tag and blobs by digest.
///
/// What is published in the order blobs, manifest is found whole, or not at all. Bytes of blobs are
/// verified by the place; those of manifests by the caller.
#[async_trait]
pub(crate) trait Place: fmt::Debug + Send + Sync {
    /// As it may be shown.
    fn shown(&self) -> String;

    /// Whether a request costs a round trip, so that a catalogue saves time.
    fn is_remote(&self) -> bool;

    /// The tags that begin with a text, at most so many.
    async fn tags(&self, prefix: &str, most: usize) -> Result<Vec<TagEntry>>;

    /// A manifest by its tag; `None` where there is none.
    async fn manifest(&self, tag: &str) -> Result<Option<Vec<u8>>>;

    /// Stores a manifest under a tag; the one before is forgotten.
    async fn put_manifest(&self, tag: &str, bytes: Vec<u8>) -> Result<()>;

    /// Removes manifests by tag. The digests are those of their bytes.
    async fn remove_manifests(&self, manifests: &[(String, BlobDigest)]) -> Result<()>;

    /// The bytes of a blob that is small enough for the memory.
    async fn blob(&self, blob: &Descriptor) -> Result<Vec<u8>>;

    /// Stores bytes as a blob, if it is not there; whether they were sent.
    async fn put_blob(&self, blob: &Descriptor, bytes: Vec<u8>) -> Result<bool>;

    /// Brings a blob into the store.
    async fn fetch(
        &self,
        blob: &Descriptor,
        store: &Store,
        incoming: Option<&Incoming>,
        progress: Progress<'_>,
    ) -> Result<()>;

    /// Sends a blob of the store, if it is not there; the bytes that were sent. `images` are names
    /// of images of the same registry that may have it.
    async fn push(
        &self,
        blob: &Descriptor,
        store: &Store,
        images: &[String],
        progress: Progress<'_>,
    ) -> Result<u64>;

    /// Notes that a manifest was of use, where the place keeps such notes.
    async fn touch(&self, _tag: &str) {}

    /// Says that something is being published. Fails while somebody sweeps.
    async fn lease(&self) -> Result<Box<dyn Lease>>;

    /// Removes the blobs that no manifest names. `None`: it was not done, since somebody publishes,
    /// or the place does that itself.
    async fn sweep(&self) -> Result<Option<Swept>>;
}
