//! Caches that travel: what steps gave, for other machines.
//!
//! A [`RemoteCache`] finds, publishes, lists and prunes [`RemoteRecord`]s. Each is an OCI artifact
//! of its own, found by its key (`docs/reference/remote-cache.md` is the specification); a
//! registry, a directory or a bucket keeps them, behind one small trait (`places/`). The folder
//! `format/` is what is written, and reads it with suspicion: whoever can write a cache writes into
//! others' images, so everything that is read is verified, bounded, and where the user wants it
//! signed. Whatever is wrong with a record makes it a miss with a reason ([`Refusal`]), never an
//! error of the build.
//!
//! It opens no connection itself: `registry` does. It does not know what a build is, when something
//! is worth to be published, or how a layer is unpacked.

mod cache;
mod catalogue;
mod error;
mod finish;
pub mod format;
mod hit;
mod inline;
mod known_records;
mod location;
mod look_up;
mod places;
mod prune;
mod publish;
#[cfg(test)]
mod tests;

pub use cache::{CacheOptions, RemoteCache};
pub use error::{ErrorKind, Refusal, RemoteCacheError};
pub use format::FORMAT;
pub use format::inline::InlineRecords;
pub use format::record::{NewRecord, RemoteRecord};
pub use format::signature::{KeyError, KeyPairText, PublicKey, SigningKey, new_key_pair};
pub use hit::{Answer, RemoteHit};
pub use inline::{inline_records, read_inline};
pub use location::{Location, S3Location};

pub use prune::{PruneReport, PruneRequest, RemoteEntry};
pub use publish::{Publication, Published};
