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
                Ok::<_, Problem>(Variant { descriptor: descriptor(entry)?, platform })
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

/// Refuses a layer whose media type nobody here knows: what it means for the files is not known either. Layers that are not
/// to be distributed are layers like any other.
pub(crate) fn known_layer(layer: &BlobDescriptor) -> Result<(), Problem> {
    const TARS: [&str; 4] = [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    ];
    let media_type = layer.media_type.as_str();
    let compression = TARS.iter().find_map(|tar| media_type.strip_prefix(tar));
    if matches!(compression, Some("" | ".gzip" | "+gzip" | ".zstd" | "+zstd")) {
        return Ok(());
    }
    let media_type = one_line(media_type);
    Err(Problem::Unsupported(format!(
        "its layer {} is of the unknown media type `{media_type}`",
        layer.digest
    )))
}

impl Platform {
    fn of(found: &OciPlatform) -> Self {
        let variant = found.variant().clone().filter(|variant| !variant.is_empty());
        Self { os: found.os().to_string(), architecture: found.architecture().to_string(), variant }
    }

    /// The same in one spelling, as containerd has it: what is spelled-out default of an architecture is left out, but for
    /// `arm/v7`.
    fn normalized(&self) -> Self {
        let lower = |text: &str| text.to_ascii_lowercase();
        let variant = self.variant.as_deref().map(lower).unwrap_or_default();
        let (architecture, variant) = match (lower(&self.architecture).as_str(), variant.as_str()) {
            ("i386", _) => ("386".to_owned(), ""),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64".to_owned(), ""),
            ("x86_64" | "x86-64", variant) => ("amd64".to_owned(), variant),
            ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64".to_owned(), ""),
            ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64".to_owned(), "v9"),
            ("aarch64", variant) => ("arm64".to_owned(), variant),
            ("armhf", _) | ("arm", "" | "7") => ("arm".to_owned(), "v7"),
            ("armel", _) | ("arm", "6") => ("arm".to_owned(), "v6"),
            ("arm", "5") => ("arm".to_owned(), "v5"),
            ("arm", "8") => ("arm".to_owned(), "v8"),
            (other, variant) => (other.to_owned(), variant),
        };
        let variant = Some(variant.to_owned()).filter(|variant| !variant.is_empty());
        Self { os: lower(&self.os), architecture, variant }
    }

    /// What runs where this is asked for, the best first: lower levels of the same architecture, and the 32-bit
    /// programs of a 64-bit one.
    fn accepted(&self) -> Vec<Self> {
        let own = self.normalized();
        let of = |architecture: &str, variant: Option<String>| {
            let platform = Self { os: own.os.clone(), architecture: architecture.to_owned(), variant };
            platform.normalized()
        };
        let level =
            own.variant.as_deref().and_then(|variant| variant.trim_start_matches('v').parse::<u32>().ok());
        let down = |architecture: &str, from: u32, to: u32| -> Vec<Self> {
            (to..=from.min(99)).rev().map(|level| of(architecture, Some(format!("v{level}")))).collect()
        };
        let mut accepted = match own.architecture.as_str() {
            "amd64" => down("amd64", level.unwrap_or(1), 1).into_iter().chain([of("386", None)]).collect(),
            "arm" => down("arm", level.unwrap_or(7), 5),
            "arm64" => arm64_variants(own.variant.as_deref().unwrap_or("v8"))
                .into_iter()
                .map(|variant| of("arm64", Some(variant)))
                .chain(down("arm", 8, 5))
                .collect(),
            _ => Vec::new(),
        };
        accepted.insert(0, own);
        accepted
    }
}

/// `v8.2` runs `v8.1` and `v8`; `v9.x` runs lower ones, and `v8.5` and what is five above `x`.
fn arm64_variants(variant: &str) -> Vec<String> {
    let number = variant.trim_start_matches('v');
    let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
    let (Ok(major), Ok(minor)) = (major.parse::<u32>(), minor.parse::<u32>()) else {
        return Vec::new();
    };
    let named = |major: u32, from: u32| {
        (0..=from.min(9)).rev().map(move |minor| match minor {
            0 => format!("v{major}"),
            minor => format!("v{major}.{minor}"),
        })
    };
    match major {
        8 => named(8, minor).collect(),
        9 => named(9, minor).chain(named(8, minor + 5)).collect(),
        _ => Vec::new(),
    }
}

/// The variant of an index for a platform: the best that runs there, the first of equals.
pub(crate) fn select<'a>(variants: &'a [Variant], wanted: &Platform) -> Result<&'a BlobDescriptor, Problem> {
    let accepted = wanted.accepted();
    let rank = |variant: &Variant| {
        let platform = variant.platform.as_ref()?.normalized();
        accepted.iter().position(|accepted| *accepted == platform)
    };
    let ranked = variants.iter().filter_map(|variant| Some((rank(variant)?, variant)));
    let best = ranked.min_by_key(|(rank, _)| *rank);
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
        for (wanted, found) in [
            ("linux/arm64/v9", "linux/arm64/v8.4"),
            ("linux/arm64/v8.3", "linux/arm64"),
            ("linux/arm64", "linux/arm64"),
            ("linux/arm/v8", "linux/arm"),
            ("linux/x86_64", "linux/i386"),
            ("linux/amd64/v3", "linux/i386"),
        ] {
            let some = ["linux/arm64/v8.4", "linux/arm64", "linux/arm/v6", "linux/arm", "linux/i386"];
            assert_eq!(selected(&some, wanted), found, "{wanted}");
        }
        assert_eq!(selected(&["linux/arm/v6"], "linux/arm64"), "linux/arm/v6");
        assert_eq!(selected(&["linux/riscv64", "linux/s390x/z16"], "linux/s390x/z16"), "linux/s390x/z16");
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
