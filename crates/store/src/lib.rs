//! What dbuild keeps on disk, safe against crashes: blobs, snapshots, records, names, the journal.
//!
//! The [`Store`] is an OCI image layout (`oci-layout`, `index.json`, `blobs/`) with rooms beside it
//! that only dbuild knows: `snapshots/`, `dbuild.db`, `indexes/`, `mounts/`, `tmp/`, `leases/`,
//! `locks/`, `reserve/`, `format`. Any number of processes and threads use one store at the same
//! time. Start reading at `publish.rs`.
//!
//! This crate knows nothing of registries, of how steps are run, and of what the terminal shows. It
//! is synchronous; callers on an async runtime use blocking threads.

mod blobs;
mod builds;
mod cache_mounts;
mod compare;
mod content_cache;
mod db;
mod error;
mod format;
mod gc;
mod ids;
mod images;
mod locks;
mod open;
mod publish;
mod records;
mod scratch;
mod snapshots;
mod store;

pub use blobs::gzip_blocks::GzipBlockIndex;
pub use blobs::incoming::{Incoming, IncomingBlob, IncomingReader};
pub use blobs::packed_layers::{PackKey, PackedLayer};
pub use blobs::{BlobReader, BlobWriter};
pub use builds::journal::{BuildInfo, BuildSummary, JournalWriter};
pub use cache_mounts::{CacheMount, CacheMountEntry};
pub use error::StoreError;
pub use format::FORMAT;
pub use gc::after_build::{AfterBuildLimits, AfterBuildReport};
pub use gc::disk_usage::{DiskUsage, UsageEntry, UsageKind};
pub use gc::leases::Lease;
pub use gc::verify::{Finding, VerifyReport};
pub use gc::{PULL_BYTES_PER_MS, PruneOptions, PruneReport};
pub use images::ImageEntry;
pub use images::downloads::{KnownDownload, Validators};
pub use images::resolved_references::ResolvedReference;
pub use locks::KeyLock;
pub use publish::{Replacement, remove_tree, replace_file};
pub use records::nearest::{EarlierRecords, NearestRecord, RecordQuery};
pub use records::traces::{Answer, AnsweredPath, StepTrace};
pub use records::{Record, RecordEntry};
pub use snapshots::{Snapshot, SnapshotDraft};
pub use store::Store;

#[cfg(test)]
mod tests;
