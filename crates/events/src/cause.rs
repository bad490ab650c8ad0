//! What a result stood on when it was made, and how that differs from what a later version of its
//! step stands on.
//!
//! A record's ingredients say that the parent is another one, by a key or a digest. Which result
//! that was cannot be found by it where a parent counts by what it contains (several results
//! contain the same), and images have no records at all. So a record keeps, besides, where its
//! inputs came from. That is no part of any key.

use std::fmt;

use dbuild_cache::Difference;
use dbuild_digest::{BlobDigest, StepKey};
use serde::{Deserialize, Serialize};

/// An image as it was pinned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageId {
    /// Its name in full.
    pub reference: String,
    /// The digest of its manifest.
    pub digest: BlobDigest,
}

/// What a step stood on, or took from, when its result was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Another step, by its key.
    Step(StepKey),
    /// A step whose key does not depend on what was below it (`COPY --link`), and what that was.
    Linked {
        /// The step's key.
        key: StepKey,
        /// What was below.
        below: Box<Origin>,
    },
    /// An image.
    Image(ImageId),
    /// Nothing: `FROM scratch`.
    Scratch,
    /// Files from outside. What was taken of them is among the ingredients.
    Outside,
}

/// An input of a step that is another one than the step's earlier version had. Steps are those of
/// the build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputChange {
    /// The step whose input it is: the one that is explained, or an input of that which was cached.
    pub of: u32,
    /// The input.
    pub step: u32,
    /// Why it is another one.
    #[serde(flatten)]
    pub cause: InputCause,
}

/// Why an input is another one than the earlier version had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum InputCause {
    /// It was carried out in this build, which says why.
    Ran,
    /// It comes from outside: the paths among the differences say what is new.
    Outside,
    /// It was an image and is one.
    Image(ImageChange),
    /// Another step has taken its place.
    Replaced {
        /// What the earlier version stood on or took from: an instruction.
        before: String,
    },
    /// The same step with another result, which this build found in its cache.
    Cached {
        /// What differs between the keys of both results. What that says of inputs is told by
        /// changes that are `of` this one.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        differences: Vec<Difference>,
    },
    /// Another result, and what the earlier one was made of is not known any more.
    Forgotten,
}

/// An image in the place of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageChange {
    /// The earlier one.
    pub before: ImageId,
    /// The one that it is now.
    pub after: ImageId,
}

impl fmt::Display for ImageChange {
    /// A clause, with short digests.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { before, after } = self;
        let short = |image: &ImageId| format!("sha256:{}", image.digest.short());
        let (old, new) = (short(before), short(after));
        if before.reference == after.reference {
            return write!(f, "{} is another image now: {old} → {new}", after.reference);
        }
        write!(f, "the image changed from {} ({old}) to {} ({new})", before.reference, after.reference)
    }
}
