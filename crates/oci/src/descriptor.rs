//! Descriptors: how manifests and indexes name blobs.

use std::collections::BTreeMap;

use dbuild_digest::BlobDigest;
use serde::Serialize;

use crate::{ManifestError, Platform};

/// Names a blob: what it is, its digest and its size. Members are written in this order, and those
/// that are empty are left out, so equal descriptors are equal bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The blob's media type.
    pub media_type: String,
    /// The digest of its bytes.
    pub digest: BlobDigest,
    /// Its size in bytes.
    pub size: u64,
    /// Further facts, by key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The platform of an image that an index names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

impl Descriptor {
    /// A descriptor without annotations and platform.
    pub fn new(media_type: impl Into<String>, digest: BlobDigest, size: u64) -> Self {
        Self { media_type: media_type.into(), digest, size, annotations: BTreeMap::new(), platform: None }
    }
}

impl TryFrom<&oci_spec::image::Descriptor> for Descriptor {
    type Error = ManifestError;

    /// Fails with a digest that is no sha256.
    fn try_from(found: &oci_spec::image::Descriptor) -> Result<Self, ManifestError> {
        let digest = found.digest().to_string().parse();
        Ok(Self {
            media_type: found.media_type().to_string(),
            digest: digest.map_err(|error| ManifestError::broken(&error))?,
            size: found.size(),
            annotations: found.annotations().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect(),
            platform: found.platform().as_ref().map(Platform::from),
        })
    }
}
