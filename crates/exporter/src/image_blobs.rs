//! What an image in the store consists of.

use std::collections::HashSet;

use dbuild_digest::BlobDigest;
use dbuild_store::{Store, StoreError};
use oci_spec::image::{ImageIndex, ImageManifest};

use crate::ExportError;
use crate::image::{Image, digest_of};

/// Manifests and indexes are small; what is larger is none.
const MAX_MANIFEST: u64 = 4 << 20;

/// All blobs of an image or index.
#[derive(Debug)]
pub(crate) struct ImageBlobs {
    /// The image, or those of the index.
    pub images: Vec<OneImage>,
    /// Every blob once, the top one included, those that are named before those that name them.
    pub blobs: Vec<(BlobDigest, u64)>,
}

/// One platform's image.
#[derive(Debug)]
pub(crate) struct OneImage {
    pub digest: BlobDigest,
    pub manifest: ImageManifest,
    pub config: BlobDigest,
    pub layers: Vec<BlobDigest>,
}

impl ImageBlobs {
    /// Reads the manifests of an image. Variants of an index whose manifest is not in the store are
    /// left out: after a pull of one platform the store has the index and one of its manifests.
    pub(crate) fn read(store: &Store, image: &Image) -> Result<Self, ExportError> {
        let mut contents = Self { images: Vec::new(), blobs: Vec::new() };
        let bytes = store.read_blob(&image.digest, MAX_MANIFEST)?;
        match parse(&bytes).map_err(|problem| broken(&image.digest, problem))? {
            Document::Index(index) => {
                for descriptor in index.manifests() {
                    let digest = digest_of(descriptor)?;
                    match store.read_blob(&digest, MAX_MANIFEST) {
                        Err(StoreError::NoSuchBlob { .. }) => continue,
                        Err(error) => return Err(error.into()),
                        Ok(bytes) => contents.add(digest, &bytes)?,
                    }
                }
                if contents.images.is_empty() {
                    return Err(broken(&image.digest, "none of its images is in the store".to_owned()));
                }
                contents.blobs.push((image.digest, image.size));
            }
            Document::Image(_) => {
                contents.add(image.digest, &bytes)?;
            }
        }
        let mut seen = HashSet::new();
        contents.blobs.retain(|(digest, _)| seen.insert(*digest));
        Ok(contents)
    }

    fn add(&mut self, digest: BlobDigest, bytes: &[u8]) -> Result<(), ExportError> {
        let Document::Image(manifest) = parse(bytes).map_err(|problem| broken(&digest, problem))? else {
            return Err(broken(&digest, "an index of indexes".to_owned()));
        };
        let mut layers = Vec::new();
        for layer in manifest.layers() {
            layers.push(digest_of(layer)?);
            self.blobs.push((digest_of(layer)?, layer.size()));
        }
        let config = digest_of(manifest.config())?;
        self.blobs.push((config, manifest.config().size()));
        self.blobs.push((digest, bytes.len() as u64));
        self.images.push(OneImage { digest, manifest: *manifest, config, layers });
        Ok(())
    }
}

/// What a manifest's JSON is.
pub(crate) enum Document {
    Index(Box<ImageIndex>),
    Image(Box<ImageManifest>),
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Document, String> {
    #[derive(serde::Deserialize)]
    struct Head {
        manifests: Option<serde::de::IgnoredAny>,
    }
    let words = |error: serde_json::Error| format!("not a manifest: {error}");
    let head: Head = serde_json::from_slice(bytes).map_err(words)?;
    match head.manifests {
        Some(_) => serde_json::from_slice(bytes).map(|index| Document::Index(Box::new(index))).map_err(words),
        None => serde_json::from_slice(bytes).map(|image| Document::Image(Box::new(image))).map_err(words),
    }
}

fn broken(digest: &BlobDigest, problem: String) -> ExportError {
    ExportError::Unsupported(format!("the image {digest} cannot be read: {problem}"))
}
