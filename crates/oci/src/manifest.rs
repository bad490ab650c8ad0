//! Manifests, indexes and configs: read with suspicion, since they come from somebody else.

use dbuild_digest::BlobDigest;
use dbuild_support::escape::one_line;
use oci_spec::image::{ImageIndex, ImageManifest};
use serde::Deserialize;

use crate::media_type::{DOCKER_CONFIG, DOCKER_MANIFEST, OCI_CONFIG, OCI_MANIFEST};
use crate::{Descriptor, ManifestError, Platform};

/// What the bytes of a manifest are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// An index of several images, by platform.
    Index(Vec<Descriptor>),
    /// One image.
    Image(Manifest),
}

/// The manifest of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The manifest's own media type; where it states none, that of its config's family.
    pub media_type: String,
    /// The config.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
}

/// The members of an image's config without which its layers cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFacts {
    /// What the image is for. The architecture is empty where the config states none.
    pub platform: Platform,
    /// The digests of the layers' uncompressed tars, lowest first.
    pub diff_ids: Vec<BlobDigest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Reads a manifest or index from its JSON.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let head: Head = serde_json::from_slice(bytes).map_err(|error| ManifestError::broken(&error))?;
        if head.schema_version == Some(1) {
            return Err(ManifestError::Unsupported(
                "the image has a manifest of Docker's schema 1, which was given up in 2019 and carries no \
                 digests of its layers' contents; push the image again with a current tool"
                    .to_owned(),
            ));
        }
        let is_index = head.manifests.is_some();
        if is_index && (head.layers.is_some() || head.config.is_some()) {
            // Two readers could see two different images in it.
            return Err(ManifestError::broken(&"it is an index and an image at the same time"));
        }
        if is_index {
            return index(bytes).map(Self::Index);
        }
        if head.layers.is_none() || head.config.is_none() {
            let media_type = one_line(&head.media_type.unwrap_or_else(|| "of no known type".to_owned()));
            return Err(ManifestError::Unsupported(format!(
                "what it has under this name is not an image ({media_type})"
            )));
        }
        image(bytes, head.media_type).map(Self::Image)
    }
}

fn index(bytes: &[u8]) -> Result<Vec<Descriptor>, ManifestError> {
    let index: ImageIndex = serde_json::from_slice(bytes).map_err(|error| ManifestError::broken(&error))?;
    index.manifests().iter().map(Descriptor::try_from).collect()
}

fn image(bytes: &[u8], media_type: Option<String>) -> Result<Manifest, ManifestError> {
    let manifest: ImageManifest =
        serde_json::from_slice(bytes).map_err(|error| ManifestError::broken(&error))?;
    let config = Descriptor::try_from(manifest.config())?;
    // Early manifests do not say what they are; their configs do.
    let family = match config.media_type.as_str() {
        OCI_CONFIG => OCI_MANIFEST,
        DOCKER_CONFIG => DOCKER_MANIFEST,
        other => {
            let media_type = one_line(other);
            return Err(ManifestError::Unsupported(format!(
                "it is an artifact ({media_type}), not an image"
            )));
        }
    };
    let layers = manifest.layers().iter().map(Descriptor::try_from).collect::<Result<_, _>>()?;
    Ok(Manifest { media_type: media_type.unwrap_or_else(|| family.to_owned()), config, layers })
}

impl ConfigFacts {
    /// Reads the config of an image whose manifest has this number of layers.
    pub fn parse(bytes: &[u8], layers: usize) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Config {
            os: Option<String>,
            architecture: Option<String>,
            variant: Option<String>,
            rootfs: RootFs,
        }
        #[derive(Deserialize)]
        struct RootFs {
            #[serde(default)]
            diff_ids: Option<Vec<BlobDigest>>,
        }
        let config: Config = serde_json::from_slice(bytes).map_err(|error| {
            ManifestError::Malformed(format!("its config is broken: {}", one_line(&error.to_string())))
        })?;
        let diff_ids = config.rootfs.diff_ids.unwrap_or_default();
        if diff_ids.len() != layers {
            return Err(ManifestError::Malformed(format!(
                "its manifest has {layers} layers, but its config has {}",
                diff_ids.len()
            )));
        }
        let platform = Platform {
            os: config.os.filter(|os| !os.is_empty()).unwrap_or_else(|| "linux".to_owned()),
            architecture: config.architecture.unwrap_or_default(),
            variant: config.variant.filter(|variant| !variant.is_empty()),
        };
        Ok(Self { platform, diff_ids })
    }
}

#[cfg(test)]
mod tests {
    use super::{ConfigFacts, Document};
    use crate::Platform;
    use dbuild_digest::BlobDigest;

    #[test]
    fn what_is_no_image_is_told() {
        let error = |text: &str| Document::parse(text.as_bytes()).unwrap_err().to_string();
        let digest = BlobDigest::of(b"");
        insta::assert_snapshot!(error("{\"schemaVersion\":1}"), @"the image has a manifest of Docker's schema 1, which was given up in 2019 and carries no digests of its layers' contents; push the image again with a current tool");
        insta::assert_snapshot!(error("{\"schemaVersion\":2,\"mediaType\":\"a/b\"}"), @"what it has under this name is not an image (a/b)");
        insta::assert_snapshot!(error("<html>"), @"its manifest is broken: expected value at line 1 column 1");
        insta::assert_snapshot!(error("{\"schemaVersion\":2,\"manifests\":[],\"layers\":[]}"), @"its manifest is broken: it is an index and an image at the same time");
        let chart = format!(
            r#"{{"schemaVersion":2,"layers":[],"config":{{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"{digest}","size":0}}}}"#
        );
        insta::assert_snapshot!(error(&chart), @"it is an artifact (application/vnd.cncf.helm.config.v1+json), not an image");
    }

    #[test]
    fn a_config_has_one_diff_id_for_each_layer() {
        let facts = ConfigFacts::parse(
            br#"{"architecture":"arm","variant":"v7","rootfs":{"type":"layers","diff_ids":null}}"#,
            0,
        )
        .unwrap();
        assert_eq!(facts.platform, "linux/arm/v7".parse::<Platform>().unwrap());
        let error = ConfigFacts::parse(br#"{"rootfs":{"diff_ids":[]}}"#, 2).unwrap_err();
        insta::assert_snapshot!(error, @"its manifest has 2 layers, but its config has 0");
    }
}
