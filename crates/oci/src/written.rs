//! Manifests and indexes as they are written: members in a fixed order, and those that are empty
//! left out, so that the same parts give the same bytes everywhere.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{Descriptor, MediaTypes};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenManifest<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: &'a Descriptor,
    layers: &'a [Descriptor],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenIndex<'a> {
    schema_version: u32,
    media_type: &'a str,
    manifests: &'a [Descriptor],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

/// The JSON of one image's manifest.
pub fn manifest_json(
    media_types: MediaTypes,
    config: &Descriptor,
    layers: &[Descriptor],
    annotations: &BTreeMap<String, String>,
) -> serde_json::Result<Vec<u8>> {
    let media_type = media_types.manifest();
    serde_json::to_vec(&WrittenManifest { schema_version: 2, media_type, config, layers, annotations })
}

/// The JSON of an index.
pub fn index_json(
    media_types: MediaTypes,
    manifests: &[Descriptor],
    annotations: &BTreeMap<String, String>,
) -> serde_json::Result<Vec<u8>> {
    let media_type = media_types.index();
    serde_json::to_vec(&WrittenIndex { schema_version: 2, media_type, manifests, annotations })
}
