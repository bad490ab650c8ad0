//! The manifests of artifacts: strict about what they are, tolerant of members that are not ours.

use std::collections::BTreeMap;

use dbuild_digest::{BlobDigest, StepKey};
use dbuild_oci::Descriptor;
use dbuild_oci::media_type::{OCI_MANIFEST, layer_compression};
use serde::{Deserialize, Serialize};

use crate::Refusal;
use crate::format::{
    CATALOGUE, CATALOGUE_ARTIFACT, CATALOGUE_LIMIT, CONFIG_LIMIT, EMPTY_CONFIG, INDEX, INDEX_LIMIT, KEY,
    RECORD_ARTIFACT, RECORD_CONFIG,
};

/// The bytes of [`EMPTY_CONFIG`].
pub(crate) const EMPTY: &[u8] = b"{}";

/// The manifest of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordManifest {
    /// The record.
    pub config: Descriptor,
    /// The index of the layer.
    pub index: Descriptor,
    /// The packed layer; `None` where the layer has no entries.
    pub layer: Option<Descriptor>,
    /// Signatures, the key, and what others added.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    schema_version: u32,
    media_type: &'static str,
    artifact_type: &'static str,
    config: &'a Descriptor,
    layers: Vec<&'a Descriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Read {
    schema_version: u32,
    #[serde(default)]
    artifact_type: Option<String>,
    config: ReadDescriptor,
    #[serde(default)]
    layers: Vec<ReadDescriptor>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadDescriptor {
    media_type: String,
    digest: BlobDigest,
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl From<ReadDescriptor> for Descriptor {
    fn from(read: ReadDescriptor) -> Self {
        let ReadDescriptor { media_type, digest, size, annotations } = read;
        Self { annotations, ..Self::new(media_type, digest, size) }
    }
}

impl RecordManifest {
    /// The manifest of an unsigned record.
    pub(crate) fn new(
        key: &StepKey,
        config: Descriptor,
        index: Descriptor,
        layer: Option<Descriptor>,
    ) -> Self {
        let annotations = BTreeMap::from([(KEY.to_owned(), key.hex())]);
        Self { config, index, layer, annotations }
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        let layers = std::iter::once(&self.index).chain(&self.layer).collect();
        written(RECORD_ARTIFACT, &self.config, layers, &self.annotations)
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let read = read(bytes, RECORD_ARTIFACT)?;
        let mut layers = read.layers.into_iter().map(Descriptor::from);
        let config = Descriptor::from(read.config);
        let (Some(index), layer, None) = (layers.next(), layers.next(), layers.next()) else {
            return Err(Refusal::Damaged("the manifest"));
        };
        let is_layer = |layer: &Descriptor| {
            // Of all that a manifest may name, an image's layer alone can be unpacked.
            // What is signed is made of lines, so a media type must be one.
            layer_compression(&layer.media_type).is_some()
                && layer.media_type.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if config.media_type != RECORD_CONFIG || index.media_type != INDEX || !layer.iter().all(is_layer) {
            return Err(Refusal::Damaged("the manifest"));
        }
        if config.size > CONFIG_LIMIT || index.size > INDEX_LIMIT {
            return Err(Refusal::TooLarge("the record"));
        }
        Ok(Self { config, index, layer, annotations: read.annotations })
    }

    /// All blobs that it names.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        [&self.config, &self.index].into_iter().chain(&self.layer)
    }
}

/// The manifest of a catalogue with this blob.
pub(crate) fn catalogue_manifest(blob: &Descriptor) -> Vec<u8> {
    written(CATALOGUE_ARTIFACT, &empty_config(), vec![blob], &BTreeMap::new())
}

/// The blob of a catalogue, of its manifest.
pub(crate) fn catalogue_blob(bytes: &[u8]) -> Result<Descriptor, Refusal> {
    let mut layers = read(bytes, CATALOGUE_ARTIFACT)?.layers.into_iter().map(Descriptor::from);
    match (layers.next(), layers.next()) {
        (Some(blob), None) if blob.media_type == CATALOGUE && blob.size <= CATALOGUE_LIMIT => Ok(blob),
        _ => Err(Refusal::Damaged("the catalogue")),
    }
}

/// The config of an artifact without one.
pub(crate) fn empty_config() -> Descriptor {
    Descriptor::new(EMPTY_CONFIG, BlobDigest::of(EMPTY), EMPTY.len() as u64)
}

fn written(
    artifact_type: &'static str,
    config: &Descriptor,
    layers: Vec<&Descriptor>,
    annotations: &BTreeMap<String, String>,
) -> Vec<u8> {
    let manifest =
        Written { schema_version: 2, media_type: OCI_MANIFEST, artifact_type, config, layers, annotations };
    // Of texts and numbers alone: cannot fail.
    serde_json::to_vec(&manifest).unwrap_or_default()
}

fn read(bytes: &[u8], artifact_type: &'static str) -> Result<Read, Refusal> {
    let read: Read = serde_json::from_slice(bytes).map_err(|_| Refusal::Damaged("the manifest"))?;
    if read.schema_version != 2 || read.artifact_type.as_deref() != Some(artifact_type) {
        return Err(Refusal::NoRecord);
    }
    Ok(read)
}
