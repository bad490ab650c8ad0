//! What the tests of this folder share: a store, a context, and builds that name no image and run
//! nothing.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use dbuild_cache::Strategy;
use dbuild_digest::BlobDigest;
use dbuild_events::{Collector, Event, EventSink};
use dbuild_frontend::{BuildArgs, Resolved, Source, lower, parse};
use dbuild_layer::{Ignore, OverlayFlavor, PackOptions};
use dbuild_plan::Plan;
use dbuild_store::{Incoming, Store};
use tokio::runtime::Runtime;

use crate::{
    BlobSource, BlobSourceError, Checkout, Download, Downloaded, FoundCommit, RemoteSource, Repository,
};
use crate::{
    Built, CacheUse, Cancel, Canceller, ContextDir, Forecast, InStore, Machine, Request, UnwrittenPolicy,
    build, forecast,
};

/// The context has so many files: `f0`, `f1`, …
pub(super) const FILES: u8 = 3;

/// No test here names an image.
struct NoBlobs;

#[async_trait::async_trait]
impl BlobSource for NoBlobs {
    async fn fetch(
        &self,
        reference: &str,
        _: &BlobDigest,
        _: u64,
        _: &str,
        _: Option<&Incoming>,
        _: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), BlobSourceError> {
        panic!("{reference} was asked for")
    }
}

#[async_trait::async_trait]
impl RemoteSource for NoBlobs {
    async fn download(
        &self,
        what: &Download<'_>,
        _: &std::fs::File,
        _: &(dyn Fn(u64, Option<u64>) + Send + Sync),
    ) -> Result<Downloaded, BlobSourceError> {
        panic!("{what:?} was asked for")
    }

    async fn find_commit(&self, what: &Repository<'_>) -> Result<FoundCommit, BlobSourceError> {
        panic!("{what:?} was asked for")
    }

    async fn check_out(
        &self,
        what: &Checkout<'_>,
        _: &std::path::Path,
        _: &(dyn for<'line> Fn(&'line str) + Send + Sync),
    ) -> Result<(), BlobSourceError> {
        panic!("{what:?} was asked for")
    }
}

/// A context of a few files, and a store.
pub(super) struct Space {
    dir: tempfile::TempDir,
    pub(super) store: Store,
    runtime: Runtime,
    contexts: BTreeMap<Option<String>, ContextDir>,
    /// Targets are packed, and what is left where it is.
    pub(super) unwritten: Option<UnwrittenPolicy>,
}

impl Space {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store"), OverlayFlavor::Trusted).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let root = dir.path().join("context");
        std::fs::create_dir(&root).unwrap();
        let contexts = BTreeMap::from([(None, ContextDir { root, ignore: Ignore::default() })]);
        let space = Self { dir, store, runtime, contexts, unwritten: None };
        (0..FILES).for_each(|file| space.write(file, 0));
        space
    }

    /// Builds leave files where they are.
    pub(super) fn leaving(self, unwritten: UnwrittenPolicy) -> Self {
        Self { unwritten: Some(unwritten), ..self }
    }

    pub(super) fn file(&self, number: u8) -> std::path::PathBuf {
        self.dir.path().join(format!("context/f{number}"))
    }

    pub(super) fn write(&self, file: u8, content: u8) {
        std::fs::write(self.file(file), [content]).unwrap();
    }

    pub(super) fn forecast(&self, plan: &Plan, strategy: &dyn Strategy, cache: &CacheUse) -> Forecast {
        forecast(plan, strategy, cache, &mut InStore::new(&self.store, &self.contexts))
    }

    /// For each step whether it was executed.
    pub(super) fn build(
        &self,
        plan: Plan,
        strategy: &'static dyn Strategy,
        cache: CacheUse,
    ) -> BTreeMap<u32, bool> {
        let events = self.events_of(plan, strategy, cache);
        let done = events.into_iter().filter_map(|event| match event {
            Event::StepCached { step, .. } => Some((step, false)),
            Event::StepFinished { step, .. } => Some((step, true)),
            _ => None,
        });
        done.collect()
    }

    /// What a build reports.
    pub(super) fn events_of(
        &self,
        plan: Plan,
        strategy: &'static dyn Strategy,
        cache: CacheUse,
    ) -> Vec<Event> {
        let events = Arc::new(Collector::default());
        self.built(plan, strategy, cache, Arc::clone(&events) as _);
        events.events()
    }

    pub(super) fn built(
        &self,
        plan: Plan,
        strategy: &'static dyn Strategy,
        cache: CacheUse,
        events: Arc<dyn EventSink>,
    ) -> Built {
        let (_canceller, cancel): (Canceller, Cancel) = Canceller::new();
        let request = Request {
            plan: Arc::new(plan),
            store: self.store.clone(),
            blobs: Arc::new(NoBlobs),
            remotes: Arc::new(NoBlobs),
            remote_results: None,
            events,
            contexts: self.contexts.clone(),
            strategy,
            traced_network: crate::TracedNetwork::default(),
            cache,
            jobs: NonZeroUsize::new(4).unwrap(),
            pack: self.unwritten.map(|_| PackOptions::default()),
            layers: None,
            unwritten: self.unwritten,
            repack_bases: false,
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            machine: Machine::default(),
            cancel,
        };
        self.runtime.block_on(build(request)).unwrap()
    }
}

/// The plan of a Dockerfile, with its last stage as the target.
pub(super) fn lowered(text: &str) -> Plan {
    let ast = parse(&Source::new("Dockerfile", text)).into_result().unwrap();
    lower(&ast, &BuildArgs::default(), &Resolved::default()).unwrap().plan
}
