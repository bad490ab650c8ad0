//! What a plan knows of images: the base that FROM names, and its layers.

use dbuild_digest::BlobDigest;
use dbuild_oci::{HistoryEntry, ImageConfig, Platform};
use serde::{Deserialize, Serialize};

/// An image that was found before lowering and is pinned by digest from then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseImage {
    /// The reference in full: `docker.io/library/debian:12`.
    pub reference: String,
    /// The digest of the manifest (not of the index above it).
    pub digest: BlobDigest,
    /// What the image is for.
    pub platform: Platform,
    /// How it is started.
    pub config: ImageConfig,
    /// How it was made.
    pub history: Vec<HistoryEntry>,
    /// Its layers, lowest first.
    pub layers: Vec<LayerDescriptor>,
}

/// A layer of a base image: the blob as the registry has it, and what it unpacks to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerDescriptor {
    /// The blob.
    pub digest: BlobDigest,
    /// The blob's size in bytes.
    pub size: u64,
    /// The blob's media type.
    pub media_type: String,
    /// The digest of the uncompressed tar.
    pub diff_id: BlobDigest,
}
