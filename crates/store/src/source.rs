//! Where blobs come from that the store does not have.

use async_trait::async_trait;
use dbuild_digest::BlobDigest;

/// Why a blob could not be fetched: any error whose text is complete (it names the reference and what to try).
pub type BlobSourceError = Box<dyn std::error::Error + Send + Sync>;

/// Brings blobs into the store: a registry, usually.
#[async_trait]
pub trait BlobSource: Send + Sync {
    /// Fetches one blob of an image. `Ok` means that the blob is whole, verified and in the store. `progress` is told
    /// how many bytes have arrived so far.
    async fn fetch(
        &self,
        reference: &str,
        digest: &BlobDigest,
        size: u64,
        media_type: &str,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), BlobSourceError>;
}
