//! An image or index of the store, and the descriptors that name it.

use std::collections::BTreeMap;

use dbuild_digest::BlobDigest;
use dbuild_oci::{Descriptor, Platform};
use oci_spec::image;

use crate::ExportError;
use crate::annotations::{FULL_NAME, REF_NAME};

/// An image or index whose blobs are in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The manifest or index.
    pub digest: BlobDigest,
    /// Its size in bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: String,
    /// What it is for; `None` for an index.
    pub platform: Option<Platform>,
    /// The config; `None` for an index.
    pub config: Option<BlobDigest>,
    /// Annotations that its descriptor gets.
    pub annotations: BTreeMap<String, String>,
}

impl Image {
    /// The descriptor that names it, as dbuild writes it.
    pub(crate) fn written_descriptor(&self) -> Descriptor {
        Descriptor {
            annotations: self.annotations.clone(),
            platform: self.platform.clone(),
            ..Descriptor::new(&self.media_type, self.digest, self.size)
        }
    }

    /// The image that a descriptor of the store names.
    pub fn of(descriptor: &image::Descriptor) -> Result<Self, ExportError> {
        Ok(Self {
            digest: digest_of(descriptor)?,
            size: descriptor.size(),
            media_type: descriptor.media_type().to_string(),
            platform: descriptor.platform().as_ref().map(|platform| {
                let (os, architecture) = (platform.os().to_string(), platform.architecture().to_string());
                Platform::normalized(&os, &architecture, platform.variant().as_deref())
            }),
            config: None,
            // Names and origins are the store's business; an image that is written out gets those
            // that are asked for.
            annotations: descriptor
                .annotations()
                .iter()
                .flatten()
                .filter(|(key, _)| {
                    ![FULL_NAME, REF_NAME].contains(&key.as_str()) && !key.starts_with("dbuild.")
                })
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
        })
    }

    /// The descriptor that names it in the store.
    pub fn descriptor(&self) -> Result<image::Descriptor, ExportError> {
        let json = serde_json::to_value(self.written_descriptor());
        json.and_then(serde_json::from_value).map_err(|error| {
            ExportError::Unsupported(format!("{} cannot be described: {error}", self.digest))
        })
    }
}

pub(crate) fn digest_of(descriptor: &image::Descriptor) -> Result<BlobDigest, ExportError> {
    let text = descriptor.digest().to_string();
    text.parse().map_err(|error| ExportError::Unsupported(format!("the image cannot be read: {error}")))
}
