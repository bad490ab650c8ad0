//! What is known of an image, for `dbuild inspect`.

use dbuild_store::Store;
use serde::Serialize;
use serde_json::Value;

use crate::image_blobs::ImageBlobs;
use crate::{ExportError, Image};

/// An image or index of the store.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspected {
    /// The digest of the manifest or index.
    pub digest: String,
    /// Its media type.
    pub media_type: String,
    /// The image of each platform.
    pub images: Vec<InspectedImage>,
}

/// One platform's image.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InspectedImage {
    /// The digest of the manifest.
    pub digest: String,
    /// The digest of the config, which Docker calls the image's id.
    pub id: String,
    /// Bytes of all layers, as they are stored.
    pub layers_size: u64,
    /// The manifest.
    pub manifest: Value,
    /// The config with history and diff_ids.
    pub config: Value,
}

/// Reads an image's manifests and configs.
pub fn inspect(store: &Store, image: &Image) -> Result<Inspected, ExportError> {
    let json = |bytes: &[u8]| {
        serde_json::from_slice::<Value>(bytes).map_err(|error| {
            ExportError::Unsupported(format!("the image {} is broken: {error}", image.digest))
        })
    };
    let images = ImageBlobs::read(store, image)?
        .images
        .iter()
        .map(|one| {
            Ok(InspectedImage {
                digest: one.digest.to_string(),
                id: one.config.to_string(),
                layers_size: one.manifest.layers().iter().map(|layer| layer.size()).sum(),
                manifest: json(&store.read_blob(&one.digest, u64::MAX)?)?,
                config: json(&store.read_blob(&one.config, 16 << 20)?)?,
            })
        })
        .collect::<Result<_, ExportError>>()?;
    Ok(Inspected { digest: image.digest.to_string(), media_type: image.media_type.clone(), images })
}
