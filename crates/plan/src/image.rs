//! What a plan knows of images: the base that FROM names, its layers and history.

use std::fmt;
use std::str::FromStr;

use dbuild_digest::BlobDigest;
use serde::{Deserialize, Serialize};

use crate::ImageConfig;

/// An image that was found before lowering and is pinned by digest from then on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseImage {
    /// The reference in full: `docker.io/library/debian:12`.
    pub reference: String,
    /// The digest of the manifest (not of the index above it).
    pub digest: BlobDigest,
    /// What the image is for.
    pub platform: Platform,
    /// How it is started.
    pub config: ImageConfig,
    /// How it was made.
    pub history: Vec<HistoryEntry>,
    /// Its layers, lowest first.
    pub layers: Vec<LayerDescriptor>,
}

/// A layer of a base image: the blob as the registry has it, and what it unpacks to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerDescriptor {
    /// The blob.
    pub digest: BlobDigest,
    /// The blob's size in bytes.
    pub size: u64,
    /// The blob's media type.
    pub media_type: String,
    /// The digest of the uncompressed tar.
    pub diff_id: BlobDigest,
}

/// An entry of an image's history, as the OCI image configuration has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryEntry {
    /// RFC 3339. `None` in a plan: whoever exports the image knows the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who a base's history says made it; BuildKit and dbuild do not write it, not for MAINTAINER either.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The instruction made no layer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// An operating system and processor, in OCI's words, normalized (`x86_64` is `amd64`, `arm64/v8` is `arm64`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v7`, …
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub variant: Option<String>,
}

/// A text that is not a platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a platform: expected `os/architecture`, such as `linux/amd64` or `linux/arm/v7`")]
pub struct PlatformError(String);

impl Platform {
    /// The platform of the machine that this program was built for.
    pub fn host() -> Self {
        Self::normalized("linux", std::env::consts::ARCH, None)
    }

    /// A platform from its parts, in the spelling that OCI uses.
    pub fn normalized(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let lower = architecture.to_ascii_lowercase();
        let variant = variant.map(str::to_ascii_lowercase).filter(|variant| !variant.is_empty());
        let (architecture, variant) = match (lower.as_str(), variant.as_deref()) {
            ("x86_64" | "x86-64" | "amd64", Some("v1") | None) => ("amd64", None),
            ("x86_64" | "x86-64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", Some("8" | "v8" | "v8.0") | None) => ("arm64", None),
            ("aarch64" | "arm64", Some("9" | "9.0" | "v9.0")) => ("arm64", Some("v9")),
            ("aarch64", variant) => ("arm64", variant),
            ("i386" | "i486" | "i586" | "i686" | "x86", _) => ("386", None),
            ("armhf", _) => ("arm", Some("v7")),
            ("armel", _) => ("arm", Some("v6")),
            ("arm", None | Some("7")) => ("arm", Some("v7")),
            ("arm", Some("8")) => ("arm", Some("v8")),
            ("arm", Some("6")) => ("arm", Some("v6")),
            ("arm", Some("5")) => ("arm", Some("v5")),
            ("powerpc64le" | "powerpc64", _) => ("ppc64le", None),
            (other, variant) => (other, variant),
        };
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        Self { os, architecture: architecture.to_owned(), variant: variant.map(str::to_owned) }
    }
}

/// Architectures that can be named without an operating system.
const ARCHITECTURES: [&str; 12] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips64", "mips64le", "ppc64", "ppc64le", "riscv64", "s390x",
    "sparc64",
];

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// Reads `os/architecture[/variant]`, and `os` or `architecture` alone, where the other is this machine's.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = |part: &&str| {
            !part.is_empty()
                && part.len() < 64
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        };
        let parts: Vec<&str> = text.split('/').collect();
        let host = Self::host();
        match parts.as_slice() {
            parts if !parts.iter().all(valid) => Err(PlatformError(text.chars().take(80).collect())),
            [one] if one.eq_ignore_ascii_case("linux") => Ok(host),
            // One word alone must be known; `amd46` is no processor that somebody will build one day.
            [one] => {
                let platform = Self::normalized(&host.os, one, None);
                match ARCHITECTURES.contains(&platform.architecture.as_str()) {
                    true => Ok(platform),
                    false => Err(PlatformError(one.chars().take(80).collect())),
                }
            }
            [os, architecture] => Ok(Self::normalized(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::normalized(os, architecture, Some(variant))),
            _ => Err(PlatformError(text.chars().take(80).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Platform;

    #[test]
    fn platforms_are_normalized() {
        for (text, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AMD64/v2", "linux/amd64/v2"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("arm64", "linux/arm64"),
            ("linux/i686", "linux/386"),
            ("linux/i386/x", "linux/386"),
            ("linux/arm64/V8.0", "linux/arm64"),
            ("linux/arm64/9", "linux/arm64/v9"),
            ("linux/arm64/v8.2", "linux/arm64/v8.2"),
            ("linux/arm/8", "linux/arm/v8"),
            ("armhf", "linux/arm/v7"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/made-up", "linux/made-up"),
        ] {
            assert_eq!(text.parse::<Platform>().map(|p| p.to_string()), Ok(expected.to_owned()), "{text}");
        }
        for text in ["", "linux/", "/amd64", "a/b/c/d", "linux/amd 64", "amd46", "windows"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }
}
