//! Typed digests and framed hashing.
//!
//! Two digest worlds exist in dbuild and do not convert into each other: [`BlobDigest`] is sha256
//! and names bytes as OCI does; [`StepKey`], [`TreeDigest`] and [`ContentDigest`] are blake3 and
//! name what dbuild alone decides. Nothing is hashed without a frame: see [`Framed`].

mod framed;
mod id;
mod snapshot_id;

pub use framed::Framed;
pub use id::{
    BlobDigest, BlobHasher, ContentDigest, ContentHasher, ContentPart, ParseDigestError, StepKey, TreeDigest,
};
pub use snapshot_id::SnapshotId;
