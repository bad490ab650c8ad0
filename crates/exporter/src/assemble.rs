//! Config, manifest and index of an image, from its parts.
//!
//! What is written depends on the parts alone: members in a fixed order, maps sorted, no time but
//! the one that was given, so the same parts have the same digest everywhere.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use dbuild_digest::BlobDigest;
use dbuild_oci::{Descriptor, HistoryEntry, ImageConfig, MediaTypes, Platform, index_json, manifest_json};
use dbuild_store::{PackedLayer, Store};
use dbuild_support::time::rfc3339_of;
use serde::{Deserialize, Serialize};

use crate::ExportError;
use crate::image::Image;

/// All that one platform's image is made of.
#[derive(Clone, Debug)]
pub struct ImageParts {
    /// What it is for.
    pub platform: Platform,
    /// The config of the base image (its JSON), for what dbuild does not know of. `None` for
    /// scratch.
    pub base_config: Option<Vec<u8>>,
    /// How it is started.
    pub config: ImageConfig,
    /// How it was made; entries without a time get `created`.
    pub history: Vec<HistoryEntry>,
    /// The layers, lowest first, those of the base included. Their blobs are in the store.
    pub layers: Vec<PackedLayer>,
    /// When it was made, as RFC 3339 has it. `None` leaves the time out.
    pub created: Option<String>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// OCI's media types, or Docker's.
    pub media_types: MediaTypes,
}

/// A history in which every entry has a time, and the time of the image, which is that of the last
/// entry.
///
/// `layers` are the times at which this build's layers were made, in milliseconds since 1970,
/// `None` for those of the base. An entry without a layer has the time of the one before it. So an
/// image that adds no layer is as old as its base, whose config is `base`: it counts where the
/// base's history says nothing. `epoch` is the time of all that is new, in seconds:
/// SOURCE_DATE_EPOCH.
pub fn dated(
    history: &[HistoryEntry],
    layers: &[Option<u64>],
    base: Option<&[u8]>,
    epoch: Option<u64>,
) -> (Vec<HistoryEntry>, Option<String>) {
    let base: Base = base.and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default();
    let at = |since: Duration| rfc3339_of(SystemTime::UNIX_EPOCH + since);
    let epoch = epoch.map(|seconds| at(Duration::from_secs(seconds)));
    let mut history = history.to_vec();
    let mut times = layers.iter().map(|time| time.map(|ms| at(Duration::from_millis(ms))));
    let mut now = base.created;
    for entry in &mut history {
        let made = if entry.empty_layer { None } else { times.next().flatten() };
        if let (Some(epoch), None) = (&epoch, &entry.created) {
            entry.created = Some(epoch.clone());
        }
        now = entry.created.clone().or(made).or(now);
        entry.created.clone_from(&now);
    }
    // On scratch nothing is older than the first layer.
    let first = history.iter().find_map(|entry| entry.created.clone());
    for entry in history.iter_mut().take_while(|entry| entry.created.is_none()) {
        entry.created.clone_from(&first);
    }
    let created = history.last().map_or_else(|| now.or(epoch), |last| last.created.clone());
    (history, created)
}

/// Writes config and manifest of one platform's image into the store.
pub fn assemble(store: &Store, parts: &ImageParts) -> Result<Image, ExportError> {
    check(store, parts)?;
    let config = put(store, &json(&config(parts)?)?)?;
    let layers: Vec<Descriptor> = parts
        .layers
        .iter()
        .map(|layer| Descriptor {
            // Docker's manifests have none.
            annotations: match parts.media_types {
                MediaTypes::Oci => layer.annotations.clone(),
                MediaTypes::Docker => BTreeMap::new(),
            },
            ..Descriptor::new(parts.media_types.layer(&layer.media_type), layer.digest, layer.size)
        })
        .collect();
    let config_descriptor = Descriptor::new(parts.media_types.config(), config.0, config.1);
    let manifest = manifest_json(parts.media_types, &config_descriptor, &layers, &parts.annotations);
    let (digest, size) = put(store, &manifest.map_err(unwritten)?)?;
    Ok(Image {
        digest,
        size,
        media_type: parts.media_types.manifest().to_owned(),
        platform: Some(parts.platform.clone()),
        config: Some(config.0),
        annotations: BTreeMap::new(),
    })
}

/// Writes the index of several platforms' images into the store, in the order given.
pub fn assemble_index(
    store: &Store,
    images: &[Image],
    annotations: &BTreeMap<String, String>,
    media_types: MediaTypes,
) -> Result<Image, ExportError> {
    let manifests: Vec<Descriptor> = images.iter().map(Image::written_descriptor).collect();
    let index = index_json(media_types, &manifests, annotations).map_err(unwritten)?;
    let (digest, size) = put(store, &index)?;
    let media_type = media_types.index().to_owned();
    Ok(Image { digest, size, media_type, platform: None, config: None, annotations: BTreeMap::new() })
}

/// Refuses what no runtime would accept where it is made.
fn check(store: &Store, parts: &ImageParts) -> Result<(), ExportError> {
    let inconsistent =
        |problem: String| ExportError::Inconsistent { platform: parts.platform.to_string(), problem };
    let entries = parts.history.iter().filter(|entry| !entry.empty_layer).count();
    // Some bases come without any history; then there is nothing to compare.
    if entries != parts.layers.len() && !parts.history.is_empty() {
        return Err(inconsistent(format!("{} layers, but a history of {entries}", parts.layers.len())));
    }
    for layer in &parts.layers {
        if store.has_blob(&layer.digest) != Some(layer.size) {
            return Err(inconsistent(format!("the layer {} is not in the store", layer.digest)));
        }
    }
    Ok(())
}

fn config(parts: &ImageParts) -> Result<Config<'_>, ExportError> {
    let base: Base = match &parts.base_config {
        Some(bytes) => serde_json::from_slice(bytes).map_err(|error| ExportError::Inconsistent {
            platform: parts.platform.to_string(),
            problem: format!("the config of the base image cannot be read: {error}"),
        })?,
        None => Base::default(),
    };
    let created = parts.created.clone();
    let history: Vec<HistoryEntry> = parts
        .history
        .iter()
        .map(|entry| HistoryEntry {
            created: entry.created.clone().or_else(|| created.clone()),
            ..entry.clone()
        })
        .collect();
    Ok(Config {
        architecture: &parts.platform.architecture,
        author: parts.config.author.clone().or(base.author),
        config: &parts.config,
        created,
        history,
        os: &parts.platform.os,
        os_features: base.os_features,
        os_version: base.os_version,
        rootfs: RootFs { diff_ids: parts.layers.iter().map(|layer| layer.diff_id).collect(), kind: "layers" },
        variant: parts.platform.variant.as_deref(),
    })
}

/// Of the base's own members only these speak of the files that are inherited; others (`container`,
/// `id`, …) are leftovers of how the base was made.
#[derive(Default, Deserialize)]
struct Base {
    author: Option<String>,
    created: Option<String>,
    #[serde(rename = "os.features")]
    os_features: Option<Vec<String>>,
    #[serde(rename = "os.version")]
    os_version: Option<String>,
}

/// An image's config as it is written. The order of the members is part of the digest.
#[derive(Serialize)]
struct Config<'a> {
    architecture: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<String>,
    config: &'a ImageConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    history: Vec<HistoryEntry>,
    os: &'a str,
    #[serde(rename = "os.features", skip_serializing_if = "Option::is_none")]
    os_features: Option<Vec<String>>,
    #[serde(rename = "os.version", skip_serializing_if = "Option::is_none")]
    os_version: Option<String>,
    rootfs: RootFs,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'a str>,
}

#[derive(Serialize)]
struct RootFs {
    diff_ids: Vec<BlobDigest>,
    #[serde(rename = "type")]
    kind: &'static str,
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, ExportError> {
    serde_json::to_vec(value).map_err(unwritten)
}

fn unwritten(error: serde_json::Error) -> ExportError {
    ExportError::Inconsistent { platform: "this build".to_owned(), problem: error.to_string() }
}

fn put(store: &Store, bytes: &[u8]) -> Result<(BlobDigest, u64), ExportError> {
    Ok(store.put_blob(bytes)?)
}

/// A manifest for a config and layers that came without one.
pub(crate) fn put_manifest(
    store: &Store,
    config: (BlobDigest, u64),
    layers: &[Descriptor],
) -> Result<(BlobDigest, u64), ExportError> {
    let types = MediaTypes::Oci;
    let config = Descriptor::new(types.config(), config.0, config.1);
    put(store, &manifest_json(types, &config, layers, &BTreeMap::new()).map_err(unwritten)?)
}
