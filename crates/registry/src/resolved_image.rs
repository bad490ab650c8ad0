//! An image that is pinned by digest.

use dbuild_digest::BlobDigest;
use dbuild_oci::{ConfigFacts, Descriptor, Manifest, Platform};

use crate::error::Problem;
use crate::manifest::known_layer;

/// An image, pinned. Its manifest and config are in the store; its layers are fetched when a step
/// needs them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedImage {
    /// The reference in full: `docker.io/library/debian:12`. Blobs are fetched under this name.
    pub reference: String,
    /// The digest of the manifest (not of the index above it).
    pub digest: BlobDigest,
    /// The media type of the manifest.
    pub media_type: String,
    /// The digest that the tag names: of the index, or of the manifest where there is none.
    pub top: BlobDigest,
    /// What the config says that the image is for. Differs from what was asked for where an image
    /// has one variant only.
    pub platform: Platform,
    /// The descriptor of the config.
    pub config_descriptor: Descriptor,
    /// The config: the JSON text that has the digest, verified.
    pub config: Vec<u8>,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// The digests of the uncompressed layers, in the same order and number.
    pub diff_ids: Vec<BlobDigest>,
    /// A line for the user, if the image is not what a registry has just confirmed although one
    /// should have been asked.
    pub from_cache: Option<String>,
}

pub(crate) fn image(
    reference: String,
    top: BlobDigest,
    digest: BlobDigest,
    manifest: Manifest,
    config: Vec<u8>,
    wanted: &Platform,
) -> Result<ResolvedImage, Problem> {
    manifest.layers.iter().try_for_each(known_layer)?;
    let facts = ConfigFacts::parse(&config, manifest.layers.len())?;
    let mut platform = facts.platform;
    if platform.architecture.is_empty() {
        platform.architecture.clone_from(&wanted.architecture);
    }
    Ok(ResolvedImage {
        reference,
        digest,
        media_type: manifest.media_type,
        top,
        platform,
        config_descriptor: manifest.config,
        config,
        layers: manifest.layers,
        diff_ids: facts.diff_ids,
        from_cache: None,
    })
}
