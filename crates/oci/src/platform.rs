//! Platforms: what an image is for, and which images run where.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An operating system and processor, in OCI's words. [`Platform::normalized`] and parsing give one
/// spelling (`x86_64` is `amd64`, `arm64/v8` is `arm64`).
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

    /// Platforms whose images run where this one is asked for, the best first: lower levels of the
    /// same architecture, and the 32-bit programs of a 64-bit one.
    pub fn runnable(&self) -> Vec<Self> {
        let own = Self::normalized(&self.os, &self.architecture, self.variant.as_deref());
        let of =
            |architecture: &str, variant: String| Self::normalized(&own.os, architecture, Some(&variant));
        let level =
            own.variant.as_deref().and_then(|variant| variant.trim_start_matches('v').parse::<u32>().ok());
        let down = |architecture: &str, from: u32, to: u32| -> Vec<Self> {
            (to..=from.min(99)).rev().map(|level| of(architecture, format!("v{level}"))).collect()
        };
        let mut runnable = match own.architecture.as_str() {
            "amd64" => {
                let i386 = Self::normalized(&own.os, "386", None);
                down("amd64", level.unwrap_or(1), 1).into_iter().chain([i386]).collect()
            }
            "arm" => down("arm", level.unwrap_or(7), 5),
            "arm64" => arm64_variants(own.variant.as_deref().unwrap_or("v8"))
                .into_iter()
                .map(|variant| of("arm64", variant))
                .chain(down("arm", 8, 5))
                .collect(),
            _ => Vec::new(),
        };
        runnable.insert(0, own);
        runnable
    }

    /// The position of the platform that runs best where this one is asked for; the first of
    /// equals. `None`: none of them runs there.
    pub fn best_of<'a>(&self, offered: impl IntoIterator<Item = Option<&'a Self>>) -> Option<usize> {
        let runnable = self.runnable();
        let rank = |platform: &Self| {
            let platform =
                Self::normalized(&platform.os, &platform.architecture, platform.variant.as_deref());
            runnable.iter().position(|runs| *runs == platform)
        };
        let ranked =
            offered.into_iter().enumerate().filter_map(|(at, platform)| Some((rank(platform?)?, at)));
        ranked.min().map(|(_, at)| at)
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

impl From<&oci_spec::image::Platform> for Platform {
    /// The platform as it is spelled; see [`Platform::normalized`].
    fn from(found: &oci_spec::image::Platform) -> Self {
        let variant = found.variant().clone().filter(|variant| !variant.is_empty());
        Self { os: found.os().to_string(), architecture: found.architecture().to_string(), variant }
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

    /// Reads `os/architecture[/variant]`, and `os` or `architecture` alone, where the other is this
    /// machine's.
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
            // One word alone must be known; `amd46` is no processor that somebody will build one
            // day.
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

    fn best(offered: &[&str], wanted: &str) -> Option<String> {
        let spelled = |text: &&str| {
            let mut parts = text.split('/').map(str::to_owned);
            let mut part = || parts.next().unwrap_or_default();
            Platform { os: part(), architecture: part(), variant: Some(part()).filter(|v| !v.is_empty()) }
        };
        let offered: Vec<Platform> = offered.iter().map(spelled).collect();
        let wanted = spelled(&wanted);
        wanted.best_of(offered.iter().map(Some)).map(|at| offered[at].to_string())
    }

    #[test]
    fn the_best_that_runs_is_taken() {
        let debian = ["linux/amd64", "linux/arm/v5", "linux/arm/v7", "linux/arm64/v8", "unknown/unknown"];
        let levels = ["linux/amd64", "linux/amd64/v3"];
        let some = ["linux/arm64/v8.4", "linux/arm64", "linux/arm/v6", "linux/arm", "linux/i386"];
        for (offered, wanted, found) in [
            (&debian[..], "linux/amd64", Some("linux/amd64")),
            (&debian[..], "linux/arm64", Some("linux/arm64/v8")),
            (&debian[..], "linux/arm/v7", Some("linux/arm/v7")),
            (&debian[..], "linux/arm/v6", Some("linux/arm/v5")),
            (&debian[..], "linux/s390x", None),
            (&levels[..], "linux/amd64", Some("linux/amd64")),
            (&levels[..], "linux/amd64/v4", Some("linux/amd64/v3")),
            (&some[..], "linux/arm64/v9", Some("linux/arm64/v8.4")),
            (&some[..], "linux/arm64/v8.3", Some("linux/arm64")),
            (&some[..], "linux/arm/v8", Some("linux/arm")),
            (&some[..], "linux/x86_64", Some("linux/i386")),
            (&some[..], "linux/amd64/v3", Some("linux/i386")),
            (&["linux/arm/v6"], "linux/arm64", Some("linux/arm/v6")),
            (&["linux/riscv64", "linux/s390x/z16"], "linux/s390x/z16", Some("linux/s390x/z16")),
        ] {
            assert_eq!(best(offered, wanted).as_deref(), found, "{wanted}");
        }
        let wanted = Platform::normalized("linux", "amd64", None);
        assert_eq!(wanted.best_of([None, Some(&wanted), Some(&wanted)]), Some(1), "the first of equals");
    }

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
