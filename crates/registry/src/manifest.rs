//! Manifests, indexes and configs: read with suspicion, since they come from somebody else.

use std::fmt;

use dbuild_digest::BlobDigest;
use oci_spec::image::{ImageIndex, ImageManifest, Platform as OciPlatform};
use serde::Deserialize;

use crate::error::{Problem, one_line};

/// What a registry is asked for, best first.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

const CONFIG_TYPES: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

const MANIFEST_TYPES: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];

/// An operating system and processor in OCI's words, as `plan::Platform` has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v7`, …
    pub variant: Option<String>,
}

/// Names a blob: its digest, its size in bytes and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobDescriptor {
    /// The digest of the bytes.
    pub digest: BlobDigest,
    /// Their number.
    pub size: u64,
    /// What they are.
    pub media_type: String,
}

/// What a manifest's address led to.
#[derive(Debug)]
pub(crate) enum Document {
    Index(Vec<Variant>),
    Image(Manifest),
}

/// One entry of an index.
#[derive(Debug)]
pub(crate) struct Variant {
    pub descriptor: BlobDescriptor,
    pub platform: Option<Platform>,
}

#[derive(Debug)]
pub(crate) struct Manifest {
    pub media_type: String,
    pub config: BlobDescriptor,
    pub layers: Vec<BlobDescriptor>,
}

/// What is read of an image's config here; the rest is others' business.
#[derive(Debug)]
pub(crate) struct ConfigFacts {
    pub platform: Platform,
    pub diff_ids: Vec<BlobDigest>,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl Document {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Head {
            schema_version: Option<u64>,
            media_type: Option<String>,
            manifests: Option<serde::de::IgnoredAny>,
            layers: Option<serde::de::IgnoredAny>,
            config: Option<serde::de::IgnoredAny>,
        }
        let broken = |error: &dyn fmt::Display| {
            Problem::Malformed(format!("its manifest is broken: {}", one_line(&error.to_string())))
        };
        let head: Head = serde_json::from_slice(bytes).map_err(|error| broken(&error))?;
        if head.schema_version == Some(1) {
            return Err(Problem::Unsupported(
                "the image has a manifest of Docker's schema 1, which was given up in 2019 and carries no digests of its \
                 layers' contents; push the image again with a current tool"
                    .to_owned(),
            ));
        }
        let is_index = head.manifests.is_some();
        if is_index && (head.layers.is_some() || head.config.is_some()) {
            // Two readers could see two different images in it.
            return Err(broken(&"it is an index and an image at the same time"));
        }
        if is_index {
            let index: ImageIndex = serde_json::from_slice(bytes).map_err(|error| broken(&error))?;
            let variant = |entry: &oci_spec::image::Descriptor| {
                let platform = entry.platform().as_ref().map(Platform::of);
                Ok(Variant { descriptor: descriptor(entry)?, platform })
            };
            return Ok(Self::Index(index.manifests().iter().map(variant).collect::<Result<_, _>>()?));
        }
        if head.layers.is_none() || head.config.is_none() {
            let media_type = one_line(&head.media_type.unwrap_or_else(|| "of no known type".to_owned()));
            return Err(Problem::Unsupported(format!(
                "what it has under this name is not an image ({media_type})"
            )));
        }
        let manifest: ImageManifest = serde_json::from_slice(bytes).map_err(|error| broken(&error))?;
        let config = descriptor(manifest.config())?;
        if !CONFIG_TYPES.contains(&config.media_type.as_str()) {
            let media_type = one_line(&config.media_type);
            return Err(Problem::Unsupported(format!("it is an artifact ({media_type}), not an image")));
        }
        let layers = manifest.layers().iter().map(descriptor).collect::<Result<_, _>>()?;
        // Early manifests do not say what they are; their configs do.
        let family = |oci, docker| if config.media_type == CONFIG_TYPES[1] { docker } else { oci };
        let media_type =
            head.media_type.unwrap_or_else(|| family(MANIFEST_TYPES[0], MANIFEST_TYPES[1]).to_owned());
        Ok(Self::Image(Manifest { media_type, config, layers }))
    }
}

fn descriptor(found: &oci_spec::image::Descriptor) -> Result<BlobDescriptor, Problem> {
    let digest = found
        .digest()
        .to_string()
        .parse()
        .map_err(|e| Problem::Malformed(format!("its manifest is broken: {e}")))?;
    Ok(BlobDescriptor { digest, size: found.size(), media_type: found.media_type().to_string() })
}

impl ConfigFacts {
    /// Reads the config of an image with so many layers.
    pub(crate) fn parse(bytes: &[u8], layers: usize) -> Result<Self, Problem> {
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
            Problem::Malformed(format!("its config is broken: {}", one_line(&error.to_string())))
        })?;
        let diff_ids = config.rootfs.diff_ids.unwrap_or_default();
        if diff_ids.len() != layers {
            return Err(Problem::Malformed(format!(
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

impl Platform {
    fn of(found: &OciPlatform) -> Self {
        let variant = found.variant().clone().filter(|variant| !variant.is_empty());
        Self { os: found.os().to_string(), architecture: found.architecture().to_string(), variant }
    }

    /// Which level of its architecture a variant is: what runs `v7` also runs `v6`. Spelled-out defaults
    /// (`arm64/v8`, `amd64/v1`, `arm/v7`) are the same as none.
    fn level(&self) -> Option<u32> {
        let variant = self.variant.as_deref().map(|variant| variant.trim_start_matches('v'));
        match (self.architecture.as_str(), variant) {
            ("arm", None) => Some(7),
            ("arm64", None) => Some(8),
            ("amd64", None) => Some(1),
            (_, Some(level)) => level.parse().ok(),
            (_, None) => Some(0),
        }
    }

    /// How well something for `other` runs where this is asked for; `None` if it does not.
    fn suits(&self, other: &Self) -> Option<u32> {
        if self.os != other.os || self.architecture != other.architecture {
            return None;
        }
        match (self.level(), other.level()) {
            (Some(ours), Some(theirs)) => (theirs <= ours).then_some(theirs),
            _ => (self.variant == other.variant).then_some(0),
        }
    }
}

/// The variant of an index for a platform: the highest level that it can run, the first of equals.
pub(crate) fn select<'a>(variants: &'a [Variant], wanted: &Platform) -> Result<&'a BlobDescriptor, Problem> {
    let mut best: Option<(u32, &Variant)> = None;
    for variant in variants {
        let level = variant.platform.as_ref().and_then(|platform| wanted.suits(platform));
        if let Some(level) = level.filter(|level| best.is_none_or(|(best, _)| *level > best)) {
            best = Some((level, variant));
        }
    }
    match (best, variants) {
        (Some((_, variant)), _) => Ok(&variant.descriptor),
        // An index of one image does not always say for what it is; its config does.
        (None, [Variant { descriptor, platform: None }]) => Ok(descriptor),
        _ => {
            let named = |variant: &Variant| variant.platform.as_ref().map(ToString::to_string);
            // Attestations stand in indexes as images for `unknown/unknown`.
            let mut available: Vec<String> = variants
                .iter()
                .filter_map(named)
                .filter(|name| !name.starts_with("unknown"))
                .map(|n| one_line(&n))
                .collect();
            available.dedup();
            available.truncate(40);
            Err(Problem::NoPlatform { wanted: wanted.to_string(), available })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BlobDescriptor, ConfigFacts, Document, Platform, Variant, select};
    use dbuild_digest::BlobDigest;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        Platform { os: parts.next().unwrap(), architecture: parts.next().unwrap(), variant: parts.next() }
    }

    fn index(platforms: &[&str]) -> Vec<Variant> {
        let variant = |text: &&str| Variant {
            descriptor: BlobDescriptor {
                digest: BlobDigest::of(text.as_bytes()),
                size: 1,
                media_type: (*text).to_owned(),
            },
            platform: (!text.is_empty()).then(|| platform(text)),
        };
        platforms.iter().map(variant).collect()
    }

    fn selected(platforms: &[&str], wanted: &str) -> String {
        match select(&index(platforms), &platform(wanted)) {
            Ok(descriptor) => descriptor.media_type.clone(),
            Err(problem) => problem.to_string(),
        }
    }

    #[test]
    fn the_best_variant_is_selected() {
        let debian = ["linux/amd64", "linux/arm/v5", "linux/arm/v7", "linux/arm64/v8", "unknown/unknown"];
        assert_eq!(selected(&debian, "linux/amd64"), "linux/amd64");
        assert_eq!(selected(&debian, "linux/arm64"), "linux/arm64/v8");
        assert_eq!(selected(&debian, "linux/arm/v7"), "linux/arm/v7");
        assert_eq!(selected(&debian, "linux/arm/v6"), "linux/arm/v5");
        assert_eq!(selected(&["linux/amd64", "linux/amd64/v3"], "linux/amd64"), "linux/amd64");
        assert_eq!(selected(&["linux/amd64", "linux/amd64/v3"], "linux/amd64/v4"), "linux/amd64/v3");
        assert_eq!(selected(&[""], "linux/amd64"), "", "an index of one that says nothing");
        insta::assert_snapshot!(selected(&debian, "linux/s390x"), @"there is no image for linux/s390x; it has linux/amd64, linux/arm/v5, linux/arm/v7, linux/arm64/v8");
        insta::assert_snapshot!(selected(&[], "linux/s390x"), @"there is no image for linux/s390x; it has none at all");
    }

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
        assert_eq!(facts.platform, platform("linux/arm/v7"));
        let error = ConfigFacts::parse(br#"{"rootfs":{"diff_ids":[]}}"#, 2).unwrap_err();
        insta::assert_snapshot!(error, @"its manifest has 2 layers, but its config has 0");
    }
}
