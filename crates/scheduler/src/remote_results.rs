//! The port to caches that travel: results of steps on other machines.
//!
//! What is behind it opens connections; the scheduler asks for keys, takes indexes, and fetches
//! layers when somebody needs them. No trouble of a cache is an error of the build: whoever
//! implements the port reports it, once, and answers as if nothing were there.

use std::sync::Arc;

use async_trait::async_trait;
use dbuild_cache::Ingredient;
use dbuild_digest::StepKey;
use dbuild_layer::{LayerFiles, Tree};
use dbuild_plan::StepId;
use dbuild_store::{PackedLayer, Record, Snapshot};
use tokio::sync::watch;

use crate::BlobSourceError;

/// Finds the results of steps elsewhere, and takes those that are made here.
#[async_trait]
pub trait RemoteResults: Send + Sync {
    /// What is known of each of these keys, in their order. Each result is verified as far as that
    /// goes without its index and its layer.
    async fn look_up(&self, keys: &[StepKey]) -> Vec<Option<Arc<RemoteResult>>>;

    /// The index of a result's layer; its digest is that of the record.
    async fn index(&self, result: &RemoteResult) -> Result<Tree, BlobSourceError>;

    /// Brings the blob of a result's layer into the store: whole, and with its digest. `progress`
    /// hears the bytes so far.
    async fn fetch(
        &self,
        result: &RemoteResult,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), BlobSourceError>;

    /// Makes a result unknown for the rest of this build: its layer is missing or damaged.
    fn refuse(&self, key: &StepKey);

    /// Takes what a step gave, to publish it where that is worth it. Returns at once.
    fn offer(&self, offer: Offer);
}

/// A result that another machine made.
#[derive(Clone, Debug)]
pub struct RemoteResult {
    /// The record; it has no snapshot.
    pub record: Record,
    /// What its key is made of.
    pub ingredients: Vec<Ingredient>,
    /// The packed layer; `None` where it has no entries.
    pub layer: Option<PackedLayer>,
    /// The index can be fetched. Otherwise it is made from the layer.
    pub has_index: bool,
    /// The cache, as it may be shown.
    pub cache: String,
    /// The number of the cache among those that are asked.
    pub source: usize,
}

/// What a step of this build gave, for other machines.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The step.
    pub step: StepId,
    /// Its key; the store has its record.
    pub key: StepKey,
    /// Its layer.
    pub snapshot: Snapshot,
    /// Where the layer's files are.
    pub files: LayerFiles,
    /// The layer is part of the image, and is packed for it: becomes `Some` when it is. `None`: it
    /// is of the image as well where [`Offer::of_image`] says so, but nobody packs it.
    pub packing: Option<watch::Receiver<Option<PackedLayer>>>,
    /// A target has the layer.
    pub of_image: bool,
    /// How long what stands on the step is expected to take, in milliseconds, along the longest
    /// path. A COPY gives the same again wherever it is executed, and so costs nothing after it: 0.
    pub after_ms: u64,
}
