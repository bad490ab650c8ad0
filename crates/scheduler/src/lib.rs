//! Runs a plan: order, cache policy, single flight, and the execution of each kind of step.
//!
//! [`build`] takes a [`Request`] and gives what the targets are made of. Read `schedule.rs` first (the order of
//! work), then `worker.rs` (one step from key to record). This crate opens no connection: layers that are
//! missing come from the [`BlobSource`] of the request, what a URL names from its
//! [`crate::RemoteSource`].

mod again;
mod agent;
mod base;
mod build;
mod cancel;
mod command;
mod describe;
mod error;
mod files;
mod flat;
mod forecast;
mod in_store;
mod keys;
mod lend;
mod lineage;
mod missing;
mod mounts;
mod output;
mod pack;
mod pull;
mod reasons;
mod remote;
mod request;
mod run_damage;
mod schedule;
mod sources;
mod summary;
#[cfg(test)]
mod tests;
mod worker;

pub use build::{Built, BuiltTarget, ImageFiles, build, image_files, pinned_images};
pub use cancel::{Cancel, Canceller};
pub use command::{enterable, hosts_file};
pub use error::{BuildError, StepError};
pub use forecast::{Asked, Forecast, Gave, Hit, Knowledge, Miss, StepForecast, Verdict, forecast};
pub use in_store::InStore;
pub use keys::{Select, Source};
pub use lend::with_files;
pub use lineage::{Fate, Fates};
pub use mounts::{Mounted, Mounter};
pub use output::{FileSystem, Output, OwnLayer};
pub use pack::pack_key;
pub use reasons::{Explainer, Missed, Reasons, outdated_words};
pub use request::{CacheUse, ContextDir, LayerListener, Leave, Machine, Request, Secret, SecretValue};
pub use sources::{
    BlobSource, BlobSourceError, Checkout, Credential, Download, Downloaded, FoundCommit, RemoteSource,
    Repository,
};
