//! A build from its beginning to its targets.

use std::path::PathBuf;
use std::sync::Arc;

use dbuild_cache::definition;
use dbuild_digest::{BlobDigest, StepKey};
use dbuild_events::{Event, EventSink, LayerInfo};
use dbuild_layer::{LayerError, Stack, TocInfo};
use dbuild_oci::{Platform, chain_ids};
use dbuild_plan::{Plan, StageId, Step, StepId, StepKind};
use dbuild_store::{PackedLayer, Store};
use tokio::runtime::Handle;

use crate::BlobSource;
use crate::error::{BuildError, StepError};
use crate::forecast::guess_ms;
use crate::layers::filesystem::{Base, FileSystem, StepResult};
use crate::layers::flatten::directories;
use crate::layers::pack::repack_base;
use crate::request::Request;
use crate::retry::{DedupEvents, forget_damaged};
use crate::schedule::cancel::Cancel;
use crate::schedule::{Stop, schedule};
use crate::steps::image::Bases;
use crate::summary::summarize;
use crate::worker::{Shared, Worker};

/// A build that is done: what its targets are made of. Holds whatever they need until it is dropped.
pub struct Built {
    shared: Arc<Shared>,
    outputs: Vec<Arc<StepResult>>,
    /// What was asked for, in the order of the plan's targets.
    pub targets: Vec<BuiltTarget>,
}

/// One target of a build.
#[derive(Debug)]
pub struct BuiltTarget {
    /// The stage.
    pub stage: StageId,
    /// What the image is for, as its papers say.
    pub platform: Platform,
    /// Its layers as they are exported, the base image's first; empty where the request asked for no packing.
    pub layers: Vec<PackedLayer>,
    /// The bytes of all its layers' files; 0 where the base image was never unpacked here.
    pub unpacked: u64,
    files: FileSystem,
    /// When each layer that a step made was made first, in milliseconds since 1970; `None` for the base image's.
    times: Vec<Option<u64>>,
}

/// Runs a build. Must be called on a tokio runtime with several threads.
///
/// A result of the cache whose files turn out to be damaged while they are copied or packed is forgotten, and the build is begun
/// again: what it has made is found, and what is missing is made. So it is once where a file that was not written
/// would have had to be (`lend.rs`).
pub async fn build(mut request: Request) -> Result<Built, BuildError> {
    request.events = DedupEvents::new(Arc::clone(&request.plan), request.events);
    // A disk that spoils everything must have an end.
    let mut left = request.plan.len();
    loop {
        let done = build_once(request.clone()).await;
        let Err(BuildError::Step(id, error)) = &done else { return done };
        if let Some(unwritten) = error.unwritten().filter(|_| request.unwritten.is_some()) {
            if let LayerError::Changed { .. } = unwritten {
                request.events.emit(Event::Note { text: format!("{unwritten}: once more") });
            }
            request.unwritten = None;
            continue;
        }
        let Some(damage) = error.damage() else { return done };
        if left == 0 || !forget_damaged(&request, damage) {
            request.events.emit(Event::StepFailed { step: id.0, error: error.to_string() });
            return done;
        }
        left -= 1;
    }
}

async fn build_once(request: Request) -> Result<Built, BuildError> {
    let runtime = Handle::current();
    let (plan, jobs, cancel) = (Arc::clone(&request.plan), request.jobs, request.cancel.clone());
    let events = Arc::clone(&request.events);
    let expected = expected_ms(&request.store, &plan);
    let paths = plan.longest_paths(|id| expected[id.index()]);
    let shared = Arc::new(Shared::new(request, runtime));
    for (index, stage) in plan.stages().iter().enumerate() {
        if stage.last.is_none() {
            let reason = "the target does not need it".to_owned();
            events.emit(Event::StageSkipped { stage: index as u32, reason });
        }
    }
    let worker = Arc::new(Worker { shared: Arc::clone(&shared) });
    let on_cancel = |id: StepId| events.emit(Event::StepCanceled { step: id.0 });
    let outputs =
        schedule(&plan, worker, paths, jobs, cancel, on_cancel).await.map_err(|stop| match stop {
            Stop::Failed(id, error) => BuildError::Step(id, error),
            Stop::Canceled => BuildError::Canceled,
        })?;
    let targets = finish(&shared, &plan, &outputs).await.map_err(|(id, error)| match error {
        StepError::Stopped => BuildError::Canceled,
        error => BuildError::Step(id, error),
    })?;
    tell_unused_images(&shared, &plan, &outputs);
    let telling = Arc::clone(&shared);
    let told = outputs.clone();
    let summaries =
        tokio::task::spawn_blocking(move || summarize(telling.plan(), &told, &telling.bases)).await;
    summaries.unwrap_or_default().into_iter().for_each(|event| events.emit(event));
    Ok(Built { shared, outputs, targets })
}

/// Puts together what the targets are made of.
async fn finish(
    shared: &Arc<Shared>,
    plan: &Plan,
    outputs: &[Arc<StepResult>],
) -> Result<Vec<BuiltTarget>, (StepId, StepError)> {
    if let (Some(packer), Some(hear)) = (&shared.packer, &shared.request.layers) {
        let last = plan.targets().first().and_then(|target| plan.stage(target.stage).last);
        let files = last.and_then(|last| outputs.get(last.index())).map(|output| &output.files);
        let steps = files.into_iter().flat_map(|files| files.own_layers()).map(|layer| layer.step);
        // Whoever hears of one needs those below it.
        steps.map_while(|step| packer.awaited(step)).for_each(|layer| hear(layer));
    }
    let packed = match &shared.packer {
        Some(packer) => packer.finish().await?,
        None => Default::default(),
    };
    if let Some(packer) = &shared.packer {
        for (id, image) in packer.bases() {
            let shared = Arc::clone(shared);
            let work = tokio::task::spawn_blocking(move || shared.bases.ensure_blobs(id, &image));
            work.await.unwrap_or(Err(StepError::Stopped)).map_err(|error| (id, error))?;
        }
    }
    let mut targets = Vec::new();
    for target in plan.targets() {
        let last = plan.stage(target.stage).last.unwrap_or(StepId(0));
        let internal = || (last, StepError::Internal("a target has no result"));
        let files = outputs.get(last.index()).ok_or_else(internal)?.files.clone();
        let mut layers = Vec::new();
        if shared.packer.is_some() {
            layers = base_layers(shared, &files).await.map_err(|error| (last, error))?;
            for own in files.own_layers() {
                // Two platforms can share a step, so a layer is not taken out of the table.
                let layer = packed.get(&own.step).ok_or_else(internal)?;
                layers.push(layer.clone());
            }
        }
        if shared.packer.is_some() {
            let chains = chain_ids(layers.iter().map(|layer| layer.diff_id));
            link_chains(shared.store(), &files, &chains);
            let layers = layer_infos(&files, &layers, &chains);
            shared.emit(Event::ImageAssembled { stage: target.stage.0, layers });
        }
        let base_layers = files.image().map_or(0, |image| image.layers.len());
        let own_times = files.own_layers().iter().map(|layer| Some(layer.snapshot.created_ms));
        let times = std::iter::repeat_n(None, base_layers).chain(own_times).collect();
        targets.push(BuiltTarget {
            stage: target.stage,
            platform: target.platform.clone(),
            layers,
            unpacked: unpacked(shared, &files),
            files,
            times,
        });
    }
    Ok(targets)
}

/// The layers of a target's base image, as they are exported.
async fn base_layers(shared: &Arc<Shared>, files: &FileSystem) -> Result<Vec<PackedLayer>, StepError> {
    let Some(image) = files.image() else { return Ok(Vec::new()) };
    let annotations = shared.store().layer_annotations(&image.digest);
    let layers = image.layers.iter().map(|layer| {
        // All else that a base says of its layers is of its own making.
        let mut annotations = annotations.get(&layer.digest).cloned().unwrap_or_default();
        annotations.retain(|key, _| [TocInfo::DIGEST, TocInfo::SIZE].contains(&key.as_str()));
        PackedLayer {
            diff_id: layer.diff_id,
            digest: layer.digest,
            size: layer.size,
            media_type: layer.media_type.clone(),
            annotations,
        }
    });
    let layers: Vec<PackedLayer> = layers.collect();
    let options = shared.request.pack.filter(|_| shared.request.repack_bases);
    let (Some(options), store) = (options, shared.store().clone()) else { return Ok(layers) };
    let work = tokio::task::spawn_blocking(move || repack_base(&store, &layers, &options));
    work.await.unwrap_or(Err(StepError::Stopped))
}

/// Lets whoever starts from this image, or starts it, find its layers unpacked.
fn link_chains(store: &Store, files: &FileSystem, chains: &[BlobDigest]) {
    let own = files.own_layers();
    let below = chains.len() - own.len();
    let links: Vec<_> =
        chains.iter().skip(below).zip(own).map(|(chain, layer)| (chain, &layer.snapshot.id)).collect();
    if let Err(error) = store.link_chains(&links) {
        // They will only be unpacked again.
        tracing::warn!("link the layers of an image: {error}");
    }
}

/// The layers of a target as the journal has them.
fn layer_infos(files: &FileSystem, layers: &[PackedLayer], chains: &[BlobDigest]) -> Vec<LayerInfo> {
    let of_base = layers.len() - files.own_layers().len();
    let steps =
        std::iter::repeat_n(None, of_base).chain(files.own_layers().iter().map(|layer| Some(layer.step.0)));
    let infos = layers.iter().zip(chains).zip(steps).map(|((layer, chain), step)| LayerInfo {
        digest: layer.digest,
        size: layer.size,
        chain: *chain,
        step,
    });
    infos.collect()
}

/// The images that the steps of a plan stand for, as the journal has them.
pub fn pinned_images(plan: &Plan) -> Vec<Event> {
    let images = plan.steps().filter_map(|(id, step)| match &step.kind {
        StepKind::Image(image) => Some((id, &image.image)),
        _ => None,
    });
    let events = images.map(|(id, image)| {
        let chains = chain_ids(image.layers.iter().map(|layer| layer.diff_id));
        let layers = image.layers.iter().zip(chains).map(|(layer, chain)| LayerInfo {
            digest: layer.digest,
            size: layer.size,
            chain,
            step: None,
        });
        let layers = layers.collect();
        Event::ImagePinned { step: id.0, reference: image.reference.clone(), digest: image.digest, layers }
    });
    events.collect()
}

fn unpacked(shared: &Shared, files: &FileSystem) -> u64 {
    let base = files.image().map(|image| shared.bases.if_present(image).unwrap_or_default());
    let is_known = base
        .as_ref()
        .is_none_or(|trees| files.image().is_some_and(|image| image.layers.len() == trees.len()));
    let own = files.own_layers().iter().map(|layer| layer.snapshot.tree.unpacked_size());
    let below = base.iter().flatten().map(|tree| tree.unpacked_size());
    if is_known { own.chain(below).sum() } else { 0 }
}

/// Images whose files nobody needed were never shown.
fn tell_unused_images(shared: &Shared, plan: &Plan, outputs: &[Arc<StepResult>]) {
    for ((id, step), output) in plan.steps().zip(outputs) {
        if matches!(step.kind, StepKind::Image(_)) && shared.bases.announce(id) {
            shared.emit(Event::StepCached {
                step: id.0,
                key: output.key,
                layer_bytes: 0,
                files: 0,
                snapshot: None,
            });
        }
    }
}

/// How long each step will take, from what it took before, else from experience with its kind.
fn expected_ms(store: &Store, plan: &Plan) -> Vec<u64> {
    let takes_time =
        |step: &Step| matches!(step.kind, StepKind::Run(_) | StepKind::Fetch(_) | StepKind::Git(_));
    let asked: Vec<StepKey> =
        plan.steps().filter(|(_, step)| takes_time(step)).map(|(_, step)| definition(step)).collect();
    let mut known = store.expected_durations(&asked).into_iter();
    let expected = plan.steps().map(|(_, step)| {
        let known = if takes_time(step) { known.next().flatten() } else { None };
        known.map_or_else(|| guess_ms(&step.kind), |known| known.as_millis() as u64)
    });
    expected.collect()
}

impl Built {
    /// The files of a target as one file system, unpacked.
    pub fn stack(&self, target: &BuiltTarget) -> Result<Stack, StepError> {
        target.files.stack(&self.shared.bases)
    }

    /// The file system that a step gave, if that needs nothing to be pulled or unpacked.
    pub fn stack_if_present(&self, step: StepId) -> Option<Stack> {
        let files = &self.outputs.get(step.index())?.files;
        let present = files.image().is_none_or(|image| self.shared.bases.is_present(image));
        if present { self.shared.readable(&self.outputs, step) } else { None }
    }

    /// After an export that found a result damaged: the request of a build that makes it again. `None` where that would not
    /// help.
    pub fn again(&self, damage: &LayerError) -> Option<Request> {
        forget_damaged(&self.shared.request, damage).then(|| self.shared.request.clone())
    }

    /// What the steps gave, in the order of their ids.
    pub fn outputs(&self) -> &[Arc<StepResult>] {
        &self.outputs
    }
}

impl BuiltTarget {
    /// When each layer was made first, in milliseconds since 1970, lowest first; `None` for those of the base image.
    pub fn layer_times(&self) -> &[Option<u64>] {
        &self.times
    }
}

impl std::fmt::Debug for Built {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Built").field("targets", &self.targets).finish_non_exhaustive()
    }
}

/// The files of an image of the store, unpacked: for commands that start one.
pub async fn image_files(
    store: &Store,
    blobs: Arc<dyn BlobSource>,
    events: Arc<dyn EventSink>,
    image: dbuild_plan::BaseImage,
    cancel: Cancel,
) -> Result<ImageFiles, StepError> {
    let bases = Bases::new(store.clone(), blobs, events, Handle::current(), cancel);
    let store = store.clone();
    let work = tokio::task::spawn_blocking(move || {
        let stack = FileSystem::new(Base::Image(StepId(0), Arc::new(image))).stack(&bases)?;
        ImageFiles::new(&store, stack)
    });
    work.await.unwrap_or(Err(StepError::Stopped))
}

/// See [`image_files`].
#[derive(Debug)]
pub struct ImageFiles {
    /// The image's layers as one file system.
    pub stack: Stack,
    /// The directories of the layers that hold anything, lowest first.
    pub directories: Vec<PathBuf>,
}

impl ImageFiles {
    /// The files of a stack whose layers are all unpacked.
    pub fn new(store: &Store, stack: Stack) -> Result<Self, StepError> {
        let directories = directories(store, &stack)?;
        Ok(Self { stack, directories })
    }
}
