//! Runs a plan: order, cache policy, single flight, and the execution of each kind of step.
//!
//! [`build`] takes a [`Request`] and gives what the targets are made of. Read `schedule/mod.rs`
//! first (the order of work), then `worker.rs` (one step from key to record). This crate opens no
//! connection: layers that are missing come from the [`BlobSource`] of the request, what a URL
//! names from its [`crate::RemoteSource`], results of other machines from its [`RemoteResults`].

mod build;
mod cache;
mod error;
mod forecast;
mod layers;
mod remote_results;
mod request;
mod retry;
mod schedule;
mod sources;
mod steps;
mod summary;
#[cfg(test)]
mod tests;
mod worker;

pub use build::{Attempts, Built, BuiltTarget, build};
pub use cache::explain::{CacheMiss, Explainer, Reasons, outdated_words};
pub use cache::lineage::{StepOutcome, StepOutcomes};
pub use cache::step_inputs::{InputReader, Source};
pub use error::{BuildError, StepError};
pub use forecast::in_store::InStore;
pub use forecast::{
    Forecast, Hit, Knowledge, KnownResult, Lookup, Miss, StepForecast, TracedResult, Verdict, forecast,
};
pub use layers::chain_id::pinned_images;
pub use layers::filesystem::{FileSystem, OwnLayer, StepResult};
pub use layers::image_files::{ImageFiles, image_files};
pub use layers::pack::pack_layer;
pub use layers::unwritten::snapshot_with_files;
pub use remote_results::{Offer, RemoteResult, RemoteResults};
pub use request::{
    CacheUse, ContextDir, LayerListener, Machine, Request, Secret, SecretValue, TracedNetwork,
    UnwrittenPolicy,
};
pub use schedule::cancel::{Cancel, Canceller};
pub use sources::{
    BlobSource, BlobSourceError, Checkout, Credential, Download, Downloaded, FoundCommit, RemoteSource,
    Repository,
};
pub use steps::run::mounts::{Mounted, Mounter};
pub use steps::run::{ensure_workdir, hosts_file};
