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
mod compare;
mod contexts;
mod db;
mod diff_ids;
mod downloads;
mod error;
mod event;
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
mod origin;
mod packed;
mod publish;
mod records;
mod references;
mod repair;
mod reserve;
mod setting;
mod snapshots;
mod source;
mod store;
#[cfg(test)]
mod tests;
mod upkeep;
mod usage;
mod uses;
mod verify;

/// Trees of snapshots, for whoever reads the store without making layers.
pub use dbuild_layer::{Entry, EntryKind, Files, Found, Stack, StackLayer, Tree, TreePath};

pub use blobs::{BlobReader, BlobWriter};
pub use collect::{PULL_BYTES_PER_MS, PruneOptions, Pruned};
pub use downloads::KnownDownload;
pub use error::StoreError;
pub use event::{
    BuildId, Collector, Event, EventSink, Fanout, LayerInfo, LogStream, NoEvents, Outcome, StageInfo,
    Stamped, StartFinding, StepInfo,
};
pub use images::ImageEntry;
pub use incoming::{Awaited, Incoming, IncomingReader};
pub use journal::{BuildInfo, BuildSummary, JournalWriter};
pub use leases::Lease;
pub use locks::KeyLock;
pub use members::MemberIndex;
pub use mounts::{CacheMount, CacheMountEntry, Sharing};
pub use nearest::{Earlier, Nearest, Wanted};
pub use origin::{ImageChange, ImageId, InputCause, InputChange, Origin};
pub use packed::{PackKey, PackedLayer};
pub use publish::{Replacement, remove_tree, replace_file};
pub use records::{Record, RecordEntry};
pub use references::ResolvedReference;
pub use setting::{MountInfo, MountType, Setting};
pub use snapshots::{Snapshot, SnapshotDraft, SnapshotId};
pub use source::{
    BlobSource, BlobSourceError, Checkout, Credential, Download, Downloaded, FoundCommit, RemoteSource,
    Repository, Validators,
};
pub use store::{FORMAT, Store};
pub use upkeep::{Upkeep, UpkeepLimits};
pub use usage::{DiskUsage, UsageEntry, UsageKind};
pub use verify::{Finding, VerifyReport};

pub use oci_spec::image::Descriptor;
