//! Values of flags that say how a step is run, and what stands on an image.

use dbuild_exporter::{Annotation, AnnotationLevel};

use crate::error::Error;

/// `--ulimit NAME=SOFT[:HARD]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ulimit {
    pub(crate) name: String,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

impl std::str::FromStr for Ulimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error =
            || "expected NAME=SOFT[:HARD], such as nofile=1024:4096; -1 is without a limit".to_owned();
        let (name, limits) = text.split_once('=').ok_or_else(error)?;
        if !dbuild_sandbox::Ulimit::NAMES.contains(&name) {
            return Err(format!(
                "there is no limit `{name}`: choose one of {}",
                dbuild_sandbox::Ulimit::NAMES.join(", ")
            ));
        }
        let number = |text: &str| match text {
            "-1" => Ok(u64::MAX),
            text => text.parse().map_err(|_| error()),
        };
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let (soft, hard) = (number(soft)?, number(hard)?);
        if soft > hard {
            return Err("the soft limit is above the hard one".to_owned());
        }
        Ok(Self { name: name.to_owned(), soft, hard })
    }
}

/// `--annotation [LEVEL[,LEVEL]…:]KEY=VALUE`; without a level the manifest's.
pub(crate) fn annotations(text: &str) -> Result<Vec<Annotation>, Error> {
    let wrong = || {
        Error::usage(format!("`--annotation {text}`: expected [LEVEL:]KEY=VALUE"))
            .hint("a level is manifest, index, manifest-descriptor or index-descriptor")
    };
    let (left, value) = text.split_once('=').ok_or_else(wrong)?;
    let (levels, key) = left.split_once(':').unwrap_or(("manifest", left));
    if key.is_empty() {
        return Err(wrong());
    }
    let annotations = levels.split(',').map(|level| {
        let level = match level {
            "manifest" => AnnotationLevel::Manifest,
            "manifest-descriptor" => AnnotationLevel::ManifestDescriptor,
            "index" => AnnotationLevel::Index,
            "index-descriptor" => AnnotationLevel::IndexDescriptor,
            _ => return Err(wrong()),
        };
        Ok(Annotation { level, key: key.to_owned(), value: value.to_owned() })
    });
    annotations.collect()
}

/// A size as Docker reads that of memory: `k`, `m` and `g` are powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemorySize(pub(crate) u64);

impl std::str::FromStr for MemorySize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || "expected a size such as 64m or 1g".to_owned();
        let lower = text.to_ascii_lowercase();
        let digits = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
        let number: u64 = lower[..digits].parse().map_err(|_| error())?;
        let shift = match lower[digits..].trim() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(error()),
        };
        number.checked_mul(1 << shift).map(Self).ok_or_else(error)
    }
}

#[cfg(test)]
mod tests {
    use super::{MemorySize, Ulimit, annotations};

    #[test]
    fn annotations_have_levels() {
        let found = annotations("index,manifest:k=v=w").unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[1].key.as_str(), found[1].value.as_str()), ("k", "v=w"));
        assert_eq!(annotations("a.b=").unwrap().len(), 1);
        for wrong in ["", "k", "=v", "image:k=v", "index:=v"] {
            assert!(annotations(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ulimits() {
        let of = |name: &str, soft, hard| Ok(Ulimit { name: name.to_owned(), soft, hard });
        assert_eq!("nofile=1024:4096".parse(), of("nofile", 1024, 4096));
        assert_eq!("nproc=7".parse(), of("nproc", 7, 7));
        assert_eq!("core=0:-1".parse(), of("core", 0, u64::MAX));
        for wrong in ["", "nofile", "nofile=", "nofile=x", "nofile=2:1", "files=1"] {
            assert!(wrong.parse::<Ulimit>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn memory() {
        for (text, bytes) in [("64", 64), ("64m", 64 << 20), ("1G", 1 << 30), ("2kb", 2048)] {
            assert_eq!(text.parse(), Ok(MemorySize(bytes)), "{text}");
        }
        for wrong in ["", "m", "1x", "-1"] {
            assert!(wrong.parse::<MemorySize>().is_err(), "{wrong}");
        }
    }
}
