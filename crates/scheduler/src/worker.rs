//! Executes the steps of one build: the cache is asked, work that another thread or process does is
//! waited for, and only then is something done. What is done is published before it is reported.

use std::sync::Arc;
use std::time::Instant;

use dbuild_cache::{base_output, scratch_output};
use dbuild_digest::{StepKey, TreeDigest};
use dbuild_events::Event;
use dbuild_plan::{ContextStep, ImageStep, Step, StepId, StepKind};
use tokio::runtime::Handle;

use crate::Offer;
use crate::cache::lookup::{KeyedStep, StepCache};
use crate::cache::step_inputs::{StepIngredients, StepInputs};
use crate::error::StepError;
use crate::layers::filesystem::{Base, FileSystem, StepResult};
use crate::layers::pack::Packer;
use crate::layers::remote::RemoteLayers;
use crate::layers::unwritten::{StoredLayer, UnwrittenLayers};
use crate::request::Request;
use crate::retry::may_be_retried;
use crate::schedule::StepRunner;
use crate::schedule::cancel::Cancel;
use crate::steps::context::read_context;
use crate::steps::copy_not_found::explain_not_found;
use crate::steps::execute;
use crate::steps::executed::Executed;
use crate::steps::remote::{PinnedStep, pin};
use crate::steps::step_context::StepContext;

/// Runs steps; a clone runs those of the same build.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) context: Arc<StepContext>,
    pub(crate) unwritten: Arc<UnwrittenLayers>,
    pub(crate) remote: Arc<RemoteLayers>,
    pub(crate) packer: Option<Arc<Packer>>,
    cache: Arc<StepCache>,
    /// By step: how long what stands on it is expected to take.
    after_ms: Arc<Vec<u64>>,
}

impl StepRunner for Worker {
    type Output = StepResult;
    type Error = StepError;

    async fn run(
        &self,
        step: StepId,
        inputs: Vec<Arc<StepResult>>,
        cancel: Cancel,
    ) -> Result<StepResult, StepError> {
        if let Some(result) = self.at_once(step, &inputs, &cancel) {
            self.cache.note_outcome(step, &result);
            return Ok(result);
        }
        let worker = self.clone();
        // Files, SQLite and sandboxes block; only the order of work is asynchronous.
        let work = tokio::task::spawn_blocking(move || {
            let done = worker.run_step(step, &inputs, &cancel);
            match &done {
                Ok(result) => worker.cache.note_outcome(step, result),
                Err(error) => worker.report_failure(step, error, &cancel),
            }
            done
        });
        match work.await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(StepError::Stopped),
            },
        }
    }
}

impl Worker {
    pub(crate) fn new(request: Request, runtime: Handle, after_ms: Vec<u64>) -> Self {
        let context = Arc::new(StepContext::new(request, runtime));
        let remote = Arc::new(RemoteLayers::new(Arc::clone(&context)));
        let packer = context.request.pack.map(|options| {
            let (request, runtime) = (&context.request, context.runtime.clone());
            let (store, events) = (request.store.clone(), Arc::clone(&request.events));
            Arc::new(Packer::new(store, events, options, &request.plan, runtime, Arc::clone(&remote)))
        });
        let unwritten =
            Arc::new(UnwrittenLayers::new(Arc::clone(&context), packer.clone(), Arc::clone(&remote)));
        let cache =
            Arc::new(StepCache::new(Arc::clone(&context), Arc::clone(&unwritten), Arc::clone(&remote)));
        Self { context, unwritten, remote, packer, cache, after_ms: Arc::new(after_ms) }
    }

    /// Reports that a step failed, unless it was stopped, or the build begins again because of it.
    fn report_failure(&self, step: StepId, error: &StepError, cancel: &Cancel) {
        let request = &self.context.request;
        if cancel.is_canceled() || request.cancel.is_canceled() || may_be_retried(request, error) {
            return;
        }
        let step = if let StepError::OfImage(image, _) = error { *image } else { step };
        self.context.emit(Event::StepFailed { step: step.0, error: error.to_string() });
    }

    fn run_step(
        &self,
        id: StepId,
        inputs: &[Arc<StepResult>],
        cancel: &Cancel,
    ) -> Result<StepResult, StepError> {
        if cancel.is_canceled() {
            return Err(StepError::Stopped);
        }
        let plan = self.context.plan();
        let step = plan.step(id);
        let results = inputs;
        let inputs = StepInputs::of_results(plan, step, &self.context.bases, results);
        match &step.kind {
            StepKind::Scratch => {
                let key = self.cache.key(step, &inputs)?;
                Ok(base_result(key, scratch_output(), Base::Empty, true))
            }
            StepKind::Image(image) => self.image_result(id, step, image, &inputs),
            StepKind::Context(context) => self.context_result(id, step, context, &inputs),
            StepKind::Fetch(_) | StepKind::Git(_) => {
                let PinnedStep { step, downloaded } = pin(&self.context, &self.cache, id, step, cancel)?;
                self.cached_or_executed((id, &step), results, &inputs, downloaded, cancel)
            }
            StepKind::Copy(_) | StepKind::Run(_) | StepKind::Workdir(_) => {
                self.cached_or_executed((id, step), results, &inputs, None, cancel)
            }
        }
    }

    fn image_result(
        &self,
        id: StepId,
        step: &Step,
        image: &ImageStep,
        inputs: &StepInputs<'_>,
    ) -> Result<StepResult, StepError> {
        let key = self.cache.key(step, inputs)?;
        let bases = &self.context.bases;
        // An image that is not here is pulled when a step needs its files, and shown then.
        if bases.is_present(&image.image) && bases.announce(id) {
            let (layer_bytes, files, snapshot) = (0, 0, None);
            self.context.emit(Event::StepCached { step: id.0, key, layer_bytes, files, snapshot });
        }
        let image = Arc::new(image.image.clone());
        if let Some(packer) = &self.packer {
            packer.add_base(id, &image);
        }
        let output = base_output(&image);
        Ok(base_result(key, output, Base::Image(id, image), true))
    }

    fn context_result(
        &self,
        id: StepId,
        step: &Step,
        context: &ContextStep,
        inputs: &StepInputs<'_>,
    ) -> Result<StepResult, StepError> {
        let began = Instant::now();
        self.context.emit(Event::StepStarted { step: id.0 });
        let (tree, root) = read_context(&self.context.request.contexts, context, self.context.store())?;
        let key = self.cache.key(step, inputs)?;
        let (files, output) = (tree.entries().len() as u64, tree.digest());
        let duration_ms = began.elapsed().as_millis() as u64;
        let (layer_bytes, snapshot) = (0, None);
        self.context.emit(Event::StepFinished { step: id.0, key, duration_ms, layer_bytes, files, snapshot });
        Ok(base_result(key, output, Base::Context(Arc::new(tree), root), false))
    }

    /// `downloaded` is the step's result where it had to be fetched before the step could be keyed,
    /// and when that began.
    fn cached_or_executed(
        &self,
        (id, step): (StepId, &Step),
        results: &[Arc<StepResult>],
        inputs: &StepInputs<'_>,
        downloaded: Option<(Executed, Instant)>,
        cancel: &Cancel,
    ) -> Result<StepResult, StepError> {
        let (context, cache) = (&*self.context, &*self.cache);
        let keyed = cache.keyed(id, step, inputs);
        let keyed = keyed.map_err(|error| explain_not_found(context, step, inputs.failed_source(), error))?;
        if let Some(hit) = cache.look_up(&keyed, step, inputs) {
            return Ok(self.found(keyed, hit));
        }
        // Another thread or process may be at the same work; then its result is ours, with
        // --no-cache too.
        let lock = cache.lock(&keyed.key, step, cancel)?;
        if let Some(hit) = cache.look_up_locked(&lock, &keyed, step, inputs) {
            return Ok(self.found(keyed, hit));
        }
        if let Some(hit) = cache.import(&keyed, step, inputs) {
            return Ok(self.found(keyed, hit));
        }
        let ingredients = StepIngredients { strategy: context.request.strategy, step, inputs };
        match cache.look_up_traced(&keyed, step, inputs, &ingredients) {
            Ok(hit) => return Ok(self.found(keyed, hit)),
            Err(deciding) => cache.explain(step, &keyed, &ingredients, deciding),
        }
        let (executed, began) = match downloaded {
            Some(downloaded) => downloaded,
            None => {
                context.emit(Event::StepStarted { step: id.0 });
                let results = self.remote.with_files(step, results)?;
                // What a step costs is not what it takes to fetch what it stands on.
                let began = Instant::now();
                let inputs = StepInputs::of_results(context.plan(), step, &context.bases, &results);
                let stays_unwritten = |selections: &[_]| self.unwritten.stays_unwritten(id, selections);
                (execute(context, (id, step), &inputs, &stays_unwritten, cancel)?, began)
            }
        };
        let duration_ms = began.elapsed().as_millis() as u64;
        let (files, layer_bytes) = (executed.tree.entries().len() as u64, executed.tree.unpacked_size());
        let made = cache.publish(&keyed, inputs, &ingredients, executed, duration_ms)?;
        drop(lock);
        let (key, snapshot) = (keyed.key, Some(made.snapshot.id.clone()));
        context.emit(Event::StepFinished { step: id.0, key, duration_ms, layer_bytes, files, snapshot });
        Ok(self.finished(keyed, made, false))
    }

    /// What a step gives, if that takes no more than a look into the store: then it is not worth a
    /// thread. Files are not looked into here, since they may have to be pulled.
    fn at_once(&self, id: StepId, inputs: &[Arc<StepResult>], cancel: &Cancel) -> Option<StepResult> {
        let plan = self.context.plan();
        let step = plan.step(id);
        match &step.kind {
            StepKind::Scratch | StepKind::Image(_) => return self.run_step(id, &[], cancel).ok(),
            StepKind::Workdir(_) => {}
            StepKind::Run(run) if run.mounts.is_empty() => {}
            _ => return None,
        }
        // What follows a step that ran is seldom there, and a miss would be keyed twice.
        if !inputs.iter().all(|input| input.cached) {
            return None;
        }
        let inputs = StepInputs::of_results(plan, step, &self.context.bases, inputs);
        let keyed = self.cache.keyed(id, step, &inputs).ok()?;
        let hit = self.cache.look_up(&keyed, step, &inputs)?;
        Some(self.found(keyed, hit))
    }

    /// A result of the store is the step's.
    fn found(&self, keyed: KeyedStep, hit: StoredLayer) -> StepResult {
        let snapshot = &hit.snapshot;
        self.context.emit(Event::StepCached {
            step: keyed.id.0,
            key: keyed.key,
            layer_bytes: snapshot.size,
            files: snapshot.tree.entries().len() as u64,
            snapshot: Some(snapshot.id.clone()),
        });
        self.finished(keyed, hit, true)
    }

    fn finished(&self, keyed: KeyedStep, layer: StoredLayer, cached: bool) -> StepResult {
        if let Some(packer) = &self.packer {
            packer.add_layer(keyed.id, &layer.snapshot, &layer.files);
        }
        if let Some(remote) = &self.context.request.remote_results {
            let packer = self.packer.as_ref();
            remote.offer(Offer {
                step: keyed.id,
                key: keyed.key,
                snapshot: layer.snapshot.clone(),
                files: layer.files.clone(),
                packing: packer.and_then(|packer| packer.awaited_layer(keyed.id)),
                of_image: packer.is_some_and(|packer| packer.is_wanted(keyed.id)),
                after_ms: match &self.context.plan().step(keyed.id).kind {
                    StepKind::Copy(_) | StepKind::Workdir(_) => 0,
                    _ => self.after_ms.get(keyed.id.index()).copied().unwrap_or(0),
                },
            });
        }
        keyed.result(layer, cached)
    }
}

/// What a step gives that stands on no other one.
fn base_result(key: StepKey, output: TreeDigest, base: Base, cached: bool) -> StepResult {
    StepResult { key, standing: key, output, files: FileSystem::new(base), cached }
}
