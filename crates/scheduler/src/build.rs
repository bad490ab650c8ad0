//! A build from its beginning to its targets.

use std::collections::HashMap;
use std::sync::Arc;

use dbuild_cache::definition;
use dbuild_digest::StepKey;
use dbuild_events::Event;
use dbuild_layer::{LayerError, Stack, TocInfo};
use dbuild_oci::{Platform, chain_ids};
use dbuild_plan::{Plan, StageId, Step, StepId, StepKind};
use dbuild_store::{PackedLayer, Store};
use tokio::runtime::Handle;

use crate::error::{BuildError, StepError};
use crate::forecast::guess_ms;
use crate::layers::chain_id::{layer_infos, link_chains};
use crate::layers::filesystem::{FileSystem, StepResult};
use crate::layers::pack::{Packer, repack_base};
use crate::request::Request;
use crate::retry::Retry;
use crate::schedule::{Stop, schedule};
use crate::steps::image::Bases;
use crate::steps::step_context::StepContext;
use crate::summary::summarize;
use crate::worker::Worker;

/// A build that is done: what its targets are made of. Holds all that they need until it is
/// dropped.
pub struct Built {
    worker: Arc<Worker>,
    results: Vec<Arc<StepResult>>,
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
    /// Its layers as they are exported, the base image's first; empty where the request asked for
    /// no packing.
    pub layers: Vec<PackedLayer>,
    /// The bytes of all its layers' files; 0 where the base image was never unpacked here.
    pub unpacked: u64,
    files: FileSystem,
    /// When each layer that a step made was made first, in milliseconds since 1970; `None` for the
    /// base image's.
    times: Vec<Option<u64>>,
}

/// Runs a build. Must be called on a tokio runtime with several threads.
pub async fn build(request: Request) -> Result<Built, BuildError> {
    Attempts::new(request).run().await
}

/// The attempts at one build, which begins again where that helps: see `retry.rs`.
pub struct Attempts(Retry);

impl Attempts {
    /// None yet.
    pub fn new(request: Request) -> Self {
        Self(Retry::new(request))
    }

    /// Runs the build, and again as long as what made it fail can be mended. Must be called on a
    /// tokio runtime with several threads.
    pub async fn run(&mut self) -> Result<Built, BuildError> {
        loop {
            let done = run_once(self.0.request()).await;
            match &done {
                Err(BuildError::Step(id, error)) if self.0.mend(*id, error) => {}
                _ => return done,
            }
        }
    }

    /// Forgets a result that was found damaged while it was exported. `false`: running the build
    /// again would not help.
    pub fn forget_damaged(&mut self, damage: &LayerError) -> bool {
        self.0.forget_damaged(damage)
    }
}

async fn run_once(request: Request) -> Result<Built, BuildError> {
    let runtime = Handle::current();
    let (plan, jobs, cancel) = (Arc::clone(&request.plan), request.jobs, request.cancel.clone());
    let events = Arc::clone(&request.events);
    let expected = expected_ms(&request.store, &plan);
    let paths = plan.longest_paths(|id| expected[id.index()]);
    for (index, stage) in plan.stages().iter().enumerate() {
        if stage.last.is_none() {
            let reason = "the target does not need it".to_owned();
            events.emit(Event::StageSkipped { stage: index as u32, reason });
        }
    }
    let after_ms = paths.iter().zip(&expected).map(|(path, own)| path.saturating_sub(*own)).collect();
    let worker = Arc::new(Worker::new(request, runtime, after_ms));
    let on_cancel = |id: StepId| events.emit(Event::StepCanceled { step: id.0 });
    let results = schedule(&plan, Arc::clone(&worker), paths, jobs, cancel, on_cancel).await;
    let results = results.map_err(|stop| match stop {
        Stop::Failed(id, error) => BuildError::Step(id, error),
        Stop::Canceled => BuildError::Canceled,
    })?;
    let targets = finish(&worker, &plan, &results).await.map_err(|(id, error)| match error {
        StepError::Stopped => BuildError::Canceled,
        error => BuildError::Step(id, error),
    })?;
    let context = Arc::clone(&worker.context);
    report_unused_images(&context, &results);
    let summarized = results.clone();
    let summaries =
        tokio::task::spawn_blocking(move || summarize(context.plan(), &summarized, &context.bases)).await;
    summaries.unwrap_or_default().into_iter().for_each(|event| events.emit(event));
    Ok(Built { worker, results, targets })
}

/// Puts together what the targets are made of.
async fn finish(
    worker: &Worker,
    plan: &Plan,
    results: &[Arc<StepResult>],
) -> Result<Vec<BuiltTarget>, (StepId, StepError)> {
    let packed = match &worker.packer {
        Some(packer) => packed_layers(worker, packer, results).await?,
        None => HashMap::new(),
    };
    let mut targets = Vec::new();
    for target in plan.targets() {
        let last = plan.stage(target.stage).last.unwrap_or(StepId(0));
        let internal = || (last, StepError::Internal("a target has no result"));
        let mut files = results.get(last.index()).ok_or_else(internal)?.files.clone();
        if worker.packer.is_none() {
            // The output reads files.
            let (remote, of_target) = (Arc::clone(&worker.remote), files.clone());
            let written = tokio::task::spawn_blocking(move || remote.written(&of_target)).await;
            let written = written.unwrap_or(Err(StepError::Stopped)).map_err(|error| (last, error))?;
            files = written.unwrap_or(files);
        }
        let mut layers = Vec::new();
        if worker.packer.is_some() {
            layers = base_layers(&worker.context, &files).await.map_err(|error| (last, error))?;
            for own in files.own_layers() {
                // Two platforms can share a step, so a layer is not taken out of the table.
                layers.push(packed.get(&own.step).ok_or_else(internal)?.clone());
            }
            let chains = chain_ids(layers.iter().map(|layer| layer.diff_id));
            link_chains(worker.context.store(), &files, &chains);
            let layers = layer_infos(&files, &layers, &chains);
            worker.context.emit(Event::ImageAssembled { stage: target.stage.0, layers });
        }
        let base_layers = files.image().map_or(0, |image| image.layers.len());
        let own_times = files.own_layers().iter().map(|layer| Some(layer.snapshot.created_ms));
        let times = std::iter::repeat_n(None, base_layers).chain(own_times).collect();
        targets.push(BuiltTarget {
            stage: target.stage,
            platform: target.platform.clone(),
            layers,
            unpacked: unpacked(&worker.context.bases, &files),
            files,
            times,
        });
    }
    Ok(targets)
}

/// The packed layers of the targets by their steps, once all are there, and the blobs of the base
/// images too. The request's listener hears of the first target's before.
async fn packed_layers(
    worker: &Worker,
    packer: &Packer,
    results: &[Arc<StepResult>],
) -> Result<HashMap<StepId, PackedLayer>, (StepId, StepError)> {
    let plan = worker.context.plan();
    if let Some(hear) = &worker.context.request.layers {
        let last = plan.targets().first().and_then(|target| plan.stage(target.stage).last);
        let files = last.and_then(|last| results.get(last.index())).map(|result| &result.files);
        let steps = files.into_iter().flat_map(|files| files.own_layers()).map(|layer| layer.step);
        // One layer is of use only with those below it.
        steps.map_while(|step| packer.awaited(step)).for_each(|layer| hear(layer));
    }
    let packed = packer.finish().await?;
    for (id, image) in packer.bases() {
        let context = Arc::clone(&worker.context);
        let work = tokio::task::spawn_blocking(move || context.bases.ensure_blobs(id, &image));
        work.await.unwrap_or(Err(StepError::Stopped)).map_err(|error| (id, error))?;
    }
    Ok(packed)
}

/// The layers of a target's base image, as they are exported.
async fn base_layers(context: &StepContext, files: &FileSystem) -> Result<Vec<PackedLayer>, StepError> {
    let Some(image) = files.image() else { return Ok(Vec::new()) };
    let annotations = context.store().layer_annotations(&image.digest);
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
    let options = context.request.pack.filter(|_| context.request.repack_bases);
    let (Some(options), store) = (options, context.store().clone()) else { return Ok(layers) };
    let work = tokio::task::spawn_blocking(move || repack_base(&store, &layers, &options));
    work.await.unwrap_or(Err(StepError::Stopped))
}

/// The bytes of a target's files; 0 where its base image was never unpacked here.
fn unpacked(bases: &Bases, files: &FileSystem) -> u64 {
    let base = files.image().map(|image| bases.if_present(image).unwrap_or_default());
    let is_known = base
        .as_ref()
        .is_none_or(|trees| files.image().is_some_and(|image| image.layers.len() == trees.len()));
    let own = files.own_layers().iter().map(|layer| layer.snapshot.tree.unpacked_size());
    let below = base.iter().flatten().map(|tree| tree.unpacked_size());
    if is_known { own.chain(below).sum() } else { 0 }
}

/// Images whose files nobody needed were never shown.
fn report_unused_images(context: &StepContext, results: &[Arc<StepResult>]) {
    for ((id, step), result) in context.plan().steps().zip(results) {
        if matches!(step.kind, StepKind::Image(_)) && context.bases.announce(id) {
            context.emit(Event::StepCached {
                step: id.0,
                key: result.key,
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
        target.files.stack(&self.worker.context.bases)
    }

    /// The file system that a step gave, if that needs nothing to be pulled or unpacked.
    pub fn stack_if_present(&self, step: StepId) -> Option<Stack> {
        let files = &self.results.get(step.index())?.files;
        let bases = &self.worker.context.bases;
        let present = files.image().is_none_or(|image| bases.is_present(image));
        if present { self.worker.unwritten.readable(&self.results, step) } else { None }
    }

    /// What the steps gave, in the order of their ids.
    pub fn results(&self) -> &[Arc<StepResult>] {
        &self.results
    }
}

impl BuiltTarget {
    /// When each layer was made first, in milliseconds since 1970, lowest first; `None` for those
    /// of the base image.
    pub fn layer_times(&self) -> &[Option<u64>] {
        &self.times
    }
}

impl std::fmt::Debug for Built {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Built").field("targets", &self.targets).finish_non_exhaustive()
    }
}
