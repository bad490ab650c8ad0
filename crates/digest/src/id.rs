//! The four digest types. Debug names the type, Display is what people and files see, parsing
//! validates.

use std::fmt;
use std::io::IoSlice;
use std::str::FromStr;

use blake3::hazmat::{ChainingValue, HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::Digest as _;

/// A text that is not a digest of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a digest: expected {expected}")]
pub struct ParseDigestError {
    text: String,
    expected: &'static str,
}

impl ParseDigestError {
    pub(crate) fn new(text: &str, expected: &'static str) -> Self {
        // The text may come from a hostile registry: what is echoed is bounded.
        Self { text: text.chars().take(80).collect(), expected }
    }
}

macro_rules! digest_type {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps 32 bytes that a hash of this kind gave.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The raw 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The 64 hexadecimal digits, without a prefix.
            pub fn hex(&self) -> String {
                hex(&self.0)
            }

            /// The first 12 hexadecimal digits: enough for people, not for files.
            pub fn short(&self) -> String {
                hex(&self.0[..6])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseDigestError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.strip_prefix($prefix)
                    .and_then(unhex)
                    .map(Self)
                    .ok_or_else(|| ParseDigestError::new(text, $expected))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

digest_type!(
    /// Names bytes as OCI does: sha256, written `sha256:` and 64 lower-case hexadecimal digits.
    BlobDigest, "sha256:", "`sha256:` and 64 lower-case hexadecimal digits"
);
digest_type!(
    /// The key of a step: the digest of its ingredients under one strategy (blake3).
    StepKey, "", "64 lower-case hexadecimal digits"
);
digest_type!(
    /// What a tree, or the chain of layers below and with a step, contains: paths, types, modes,
    /// owners, extended attributes and contents, but no times (blake3).
    TreeDigest, "", "64 lower-case hexadecimal digits"
);
digest_type!(
    /// The bytes of one regular file (plain blake3, so that `b3sum` gives the same).
    ContentDigest, "", "64 lower-case hexadecimal digits"
);

impl BlobDigest {
    /// The digest of bytes that are in memory.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = BlobHasher::default();
        hasher.update(bytes);
        hasher.finish()
    }
}

impl ContentDigest {
    /// The digest of bytes that are in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The digest of the bytes of which these are all the parts, in order. `None` for fewer than
    /// two, which are no tree.
    pub fn of_parts(parts: &[ContentPart]) -> Option<Self> {
        let (left, right) = (parts.len() > 1).then(|| ContentPart::split(parts))?;
        let root = merge_subtrees_root(&ContentPart::subtree(left), &ContentPart::subtree(right), Mode::Hash);
        Some(Self(*root.as_bytes()))
    }
}

/// Hashes a stream of bytes into a [`BlobDigest`].
#[derive(Clone, Default)]
pub struct BlobHasher(sha2::Sha256);

impl BlobHasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds the first `count` bytes of several slices: those that a vectored write has written.
    pub fn update_vectored(&mut self, slices: &[IoSlice<'_>], count: usize) {
        let mut left = count;
        for slice in slices {
            let count = left.min(slice.len());
            self.update(&slice[..count]);
            left -= count;
        }
    }

    /// The digest of all bytes that were added.
    pub fn finish(self) -> BlobDigest {
        BlobDigest(self.0.finalize().into())
    }
}

impl fmt::Debug for BlobHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlobHasher")
    }
}

/// Hashes a stream of bytes into a [`ContentDigest`].
#[derive(Clone, Debug, Default)]
pub struct ContentHasher(blake3::Hasher);

impl ContentHasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes that were added.
    pub fn finish(&self) -> ContentDigest {
        ContentDigest(*self.0.finalize().as_bytes())
    }
}

/// A part of a large input, which was hashed without the others: a subtree of blake3.
#[derive(Clone, Copy, Debug)]
pub struct ContentPart(ChainingValue);

impl ContentPart {
    /// The length of each part but the last one, which can have less.
    pub const LENGTH: usize = 512 << 10;

    /// Hashes the part of this number, from 0.
    pub fn of(number: u64, bytes: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        Self(hasher.set_input_offset(number * Self::LENGTH as u64).update(bytes).finalize_non_root())
    }

    /// What stands over several parts.
    fn subtree(parts: &[Self]) -> ChainingValue {
        if let [part] = parts {
            return part.0;
        }
        let (left, right) = Self::split(parts);
        merge_subtrees_non_root(&Self::subtree(left), &Self::subtree(right), Mode::Hash)
    }

    /// To the left stand the most that are a power of two, and not all.
    fn split(parts: &[Self]) -> (&[Self], &[Self]) {
        parts.split_at(parts.len().next_power_of_two() / 2)
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|nibble| char::from(DIGITS[usize::from(nibble)]))
        .collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    // Upper case is refused: OCI has one spelling, and file names are made from it.
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let text: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::{BlobDigest, ContentDigest, ContentPart, StepKey};

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn display_and_parsing_agree() {
        let digest = BlobDigest::of(b"");
        assert_eq!(digest.to_string(), EMPTY);
        assert_eq!(EMPTY.parse(), Ok(digest));
        assert_eq!(format!("{digest:?}"), "BlobDigest(e3b0c44298fc)");
        assert_eq!(serde_json::to_string(&digest).ok(), Some(format!("\"{EMPTY}\"")));
    }

    #[test]
    fn what_is_not_a_digest_is_refused() {
        for text in [
            "",
            "sha256:",
            &EMPTY[7..],
            &EMPTY[..70],
            &EMPTY.to_uppercase(),
            &format!("{EMPTY}0"),
            "sha512:00",
        ] {
            assert!(text.parse::<BlobDigest>().is_err(), "{text}");
        }
        assert!(EMPTY.parse::<StepKey>().is_err(), "the two worlds do not convert");
        let error = "x".repeat(10_000).parse::<BlobDigest>().map_err(|error| error.to_string());
        assert!(error.is_err_and(|text| text.len() < 200));
    }

    #[test]
    fn content_is_plain_blake3() {
        assert_eq!(
            ContentDigest::of(b"").to_string(),
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
    }

    #[test]
    fn parts_have_the_digest_of_the_whole() {
        let bytes: Vec<u8> = (0..ContentPart::LENGTH * 9 + 1).map(|at| (at % 251) as u8).collect();
        let of_parts = |bytes: &[u8]| {
            let parts = (0..).zip(bytes.chunks(ContentPart::LENGTH));
            ContentDigest::of_parts(
                &parts.map(|(number, bytes)| ContentPart::of(number, bytes)).collect::<Vec<_>>(),
            )
        };
        for count in 2..=9 {
            for length in [
                count * ContentPart::LENGTH,
                count * ContentPart::LENGTH + 1,
                count * ContentPart::LENGTH - 1500,
            ] {
                assert_eq!(of_parts(&bytes[..length]), Some(ContentDigest::of(&bytes[..length])), "{length}");
            }
        }
        assert_eq!(of_parts(&bytes[..ContentPart::LENGTH]), None);
        assert_eq!(of_parts(b""), None);
    }
}
