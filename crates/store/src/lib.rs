//! Crash-safe local state: blobs, snapshots, records, tags, the journal and its events, collection.
//!
//! The [`Store`] is an OCI image layout (`oci-layout`, `index.json`, `blobs/`) with rooms beside it that only dbuild
//! knows: `snapshots/`, `dbuild.db`, `indexes/`, `mounts/`, `tmp/`, `leases/`, `locks/`, `reserve/`, `format`. Any number of
//! processes and threads use one store at the same time. Start reading at `publish.rs`.
//!
//! This crate knows nothing of registries, of how steps are run, and of what the terminal shows. It is synchronous;
//! callers on an async runtime use blocking threads.
mod apart;
mod blobs;
mod chunks;
mod collect;
mod contexts;
mod db;
mod downloads;
mod error;
mod hashed;
mod images;
mod incoming;
mod journal;
mod leases;
mod locks;
mod members;
mod memos;
mod mounts;
mod nearest;
mod packed;
mod publish;
mod records;
mod references;
mod reserve;
mod snapshots;
mod store;
#[cfg(test)]
mod tests;
mod upkeep;
mod usage;
mod uses;
mod verify;

pub use blobs::{BlobReader, BlobWriter};
pub use collect::{PULL_BYTES_PER_MS, PruneOptions, Pruned};
pub use downloads::{KnownDownload, Validators};
pub use error::StoreError;
pub use images::ImageEntry;
pub use incoming::{Awaited, Incoming, IncomingReader};
pub use journal::{BuildInfo, BuildSummary, JournalWriter};
pub use leases::Lease;
pub use locks::KeyLock;
pub use members::MemberIndex;
pub use mounts::{CacheMount, CacheMountEntry};
pub use nearest::{Earlier, Nearest, Wanted};
pub use packed::{PackKey, PackedLayer};
pub use publish::{Replacement, remove_tree, replace_file};
pub use records::{Record, RecordEntry};
pub use references::ResolvedReference;
pub use snapshots::{Snapshot, SnapshotDraft};
pub use store::{FORMAT, Store};
pub use upkeep::{Upkeep, UpkeepLimits};
pub use usage::{DiskUsage, UsageEntry, UsageKind};
pub use verify::{Finding, VerifyReport};

pub use oci_spec::image::Descriptor;
