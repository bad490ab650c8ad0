//! Carries out one step: the cache is asked, work that another thread or process does is waited for, and only then is
//! something done. What is done is kept before it is told.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use dbuild_cache::{base_output, definition, output_after, scratch_output, standing_key, step_key};
use dbuild_digest::{StepKey, TreeDigest};
use dbuild_events::Event;
use dbuild_layer::{Tree, UnwrittenLayer, walk_context};
use dbuild_plan::{ContextStep, Plan, Step, StepId, StepKind};
use dbuild_store::{Record, Snapshot, SnapshotDraft, Store, StoreError};
use dbuild_support::time::now_ms;
use tokio::runtime::Handle;

use crate::cache::explain::{CacheMiss, Explainer, outdated_words};
use crate::cache::lineage::{StepOutcome, origins};
use crate::cache::step_inputs::{StepIngredients, StepInputs, outdated_input};
use crate::error::StepError;
use crate::layers::filesystem::{Base, FileSystem, StepResult};
use crate::layers::pack::Packer;
use crate::layers::unwritten::{Needs, Usable};
use crate::request::Request;
use crate::schedule::Run;
use crate::schedule::cancel::Cancel;
use crate::steps::image::Bases;
use crate::steps::remote::Pinned;

/// Carries out the steps of one build.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
}

/// What all steps of a build share.
pub(crate) struct Shared {
    pub(crate) request: Request,
    pub(crate) bases: Bases,
    pub(crate) packer: Option<Packer>,
    pub(crate) needs: Needs,
    pub(crate) runtime: Handle,
    explainer: Explainer,
    /// What became of the steps that are done.
    outcomes: Mutex<HashMap<StepId, StepOutcome>>,
    /// Keys whose results this build made: with `--no-cache` they may be used all the same.
    made_here: Mutex<HashSet<StepKey>>,
    /// Keys that a step of this build has tried to lock: whoever waits for one of them waits for that step.
    wanted_here: Mutex<HashSet<StepKey>>,
    trouble_told: AtomicBool,
    /// The cache mounts that a step which may not use the cache has begun anew: the next one of this build takes them as
    /// they are.
    mounts_begun_anew: Mutex<HashSet<String>>,
    /// See [`Shared::mount_points`].
    pub(crate) points: OnceLock<Option<PathBuf>>,
}

/// What a step made, before it is published.
pub(crate) struct Executed {
    pub(crate) content: Content,
    pub(crate) tree: Arc<Tree>,
    /// The result is what was asked for, but not what the key says: a file changed while it was copied.
    pub(crate) unkeyed: bool,
}

impl Executed {
    pub(crate) fn written(draft: SnapshotDraft, tree: Tree) -> Self {
        Self { content: Content::Written(draft), tree: Arc::new(tree), unkeyed: false }
    }
}

/// Where the files are that a step made.
pub(crate) enum Content {
    /// On disk.
    Written(SnapshotDraft),
    /// Where they are copied from.
    Borrowed(Arc<UnwrittenLayer>),
}

/// A step whose key is known.
struct Keyed {
    id: StepId,
    key: StepKey,
    /// The key with all that the step stands on.
    standing: StepKey,
    /// The inputs that are in the key by their own keys, and what they contain.
    made_from: Vec<(StepId, TreeDigest)>,
    /// What its parent contains.
    below: TreeDigest,
    files_below: FileSystem,
}

/// So many differences of a step are told in words; each takes a line.
const MOST_REASONS: usize = 20;
/// So many differences of a step are kept.
const MOST_DIFFERENCES: usize = 100;

impl Run for Worker {
    type Output = StepResult;
    type Error = StepError;

    async fn run(
        &self,
        step: StepId,
        inputs: Vec<Arc<StepResult>>,
        cancel: Cancel,
    ) -> Result<StepResult, StepError> {
        let shared = Arc::clone(&self.shared);
        if let Some(output) = shared.at_once(step, &inputs, &cancel) {
            shared.record_outcome(step, &output);
            return Ok(output);
        }
        // Files, SQLite and sandboxes block; only the order of work is asynchronous.
        let work = tokio::task::spawn_blocking(move || {
            let done = shared.carry_out(step, inputs, &cancel);
            if let Ok(output) = &done {
                shared.record_outcome(step, output);
            }
            if let Err(error) = &done
                && !cancel.is_canceled()
                && !shared.request.cancel.is_canceled()
                // Neither is a failure yet.
                && error.damage().is_none()
                && (shared.request.unwritten.is_none() || error.unwritten().is_none())
            {
                let step = if let StepError::OfImage(image, _) = error { *image } else { step };
                shared.emit(Event::StepFailed { step: step.0, error: error.to_string() });
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

impl Shared {
    pub(crate) fn new(request: Request, runtime: Handle) -> Self {
        let bases = Bases::new(
            request.store.clone(),
            Arc::clone(&request.blobs),
            Arc::clone(&request.events),
            runtime.clone(),
            request.cancel.clone(),
        );
        let packer = request.pack.map(|options| {
            Packer::new(
                request.store.clone(),
                Arc::clone(&request.events),
                options,
                &request.plan,
                runtime.clone(),
            )
        });
        let explainer = Explainer::new(request.strategy, &request.plan);
        let needs = Needs::of(&request);
        Self {
            explainer,
            outcomes: Mutex::default(),
            request,
            needs,
            bases,
            packer,
            runtime,
            made_here: Mutex::default(),
            wanted_here: Mutex::default(),
            trouble_told: AtomicBool::new(false),
            mounts_begun_anew: Mutex::default(),
            points: OnceLock::new(),
        }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.request.store
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.request.plan
    }

    pub(crate) fn emit(&self, event: Event) {
        self.request.events.emit(event);
    }

    /// Trouble with the cache costs time, never the build: it is said once, and the step runs.
    pub(crate) fn or_trouble<T>(&self, result: Result<Option<T>, StoreError>) -> Option<T> {
        result.unwrap_or_else(|error| {
            if !self.trouble_told.swap(true, Ordering::Relaxed) {
                self.emit(Event::warning(format!("the cache cannot be used: {error}")));
            }
            None
        })
    }

    fn carry_out(
        &self,
        id: StepId,
        outputs: Vec<Arc<StepResult>>,
        cancel: &Cancel,
    ) -> Result<StepResult, StepError> {
        if cancel.is_canceled() {
            return Err(StepError::Stopped);
        }
        let step = self.plan().step(id);
        let inputs = StepInputs::of_outputs(self.plan(), step, &self.bases, &outputs);
        match &step.kind {
            StepKind::Scratch => {
                let key = self.key(step, &inputs)?;
                Ok(StepResult {
                    key,
                    standing: key,
                    output: scratch_output(),
                    files: FileSystem::new(Base::Empty),
                    cached: true,
                })
            }
            StepKind::Image(image) => {
                let key = self.key(step, &inputs)?;
                // An image that is not here is brought when a step needs its files, and shown then.
                if self.bases.is_present(&image.image) && self.bases.announce(id) {
                    self.emit(Event::StepCached {
                        step: id.0,
                        key,
                        layer_bytes: 0,
                        files: 0,
                        snapshot: None,
                    });
                }
                let image = Arc::new(image.image.clone());
                if let Some(packer) = &self.packer {
                    packer.base(self, id, &image);
                }
                let output = base_output(&image);
                Ok(StepResult {
                    key,
                    standing: key,
                    output,
                    files: FileSystem::new(Base::Image(id, image)),
                    cached: true,
                })
            }
            StepKind::Context(context) => self.context(id, step, context, &inputs),
            StepKind::Fetch(_) | StepKind::Git(_) => {
                let Pinned { step, brought } = self.pin(id, step, cancel)?;
                self.cached_or_executed(id, &step, &inputs, brought, cancel)
            }
            StepKind::Copy(_) | StepKind::Run(_) | StepKind::Workdir(_) => {
                self.cached_or_executed(id, step, &inputs, None, cancel)
            }
        }
    }

    pub(crate) fn key(&self, step: &Step, inputs: &StepInputs<'_>) -> Result<StepKey, StepError> {
        step_key(self.request.strategy, step, inputs).map_err(|_| {
            inputs.take_error().unwrap_or(StepError::Internal("an input of a step is not known"))
        })
    }

    fn context(
        &self,
        id: StepId,
        step: &Step,
        context: &ContextStep,
        inputs: &StepInputs<'_>,
    ) -> Result<StepResult, StepError> {
        let began = Instant::now();
        self.emit(Event::StepStarted { step: id.0 });
        let dir = self.request.contexts.get(&context.name);
        let dir = dir.ok_or(StepError::Internal("a context has no directory"))?;
        let tree = walk_context(&dir.root, &dir.ignore, context.wanted.as_deref(), self.store())
            .map_err(|error| StepError::Context { root: dir.root.clone(), error })?;
        let key = self.key(step, inputs)?;
        let (files, output) = (tree.entries().len() as u64, tree.digest());
        let duration_ms = began.elapsed().as_millis() as u64;
        self.emit(Event::StepFinished {
            step: id.0,
            key,
            duration_ms,
            layer_bytes: 0,
            files,
            snapshot: None,
        });
        let files = FileSystem::new(Base::Context(Arc::new(tree), dir.root.clone()));
        Ok(StepResult { key, standing: key, output, files, cached: false })
    }

    /// `brought` is the step's result where it had to be brought before the step could be keyed, and when that began.
    fn cached_or_executed(
        &self,
        id: StepId,
        step: &Step,
        inputs: &StepInputs<'_>,
        brought: Option<(Executed, Instant)>,
        cancel: &Cancel,
    ) -> Result<StepResult, StepError> {
        let keyed = self.keyed(id, step, inputs).map_err(|error| self.explain_missing(step, error))?;
        let key = keyed.key;
        let usable = |hit| self.usable(id, step, inputs, hit);
        if let Some(hit) = self.look_up(step, &keyed).and_then(usable) {
            return Ok(self.found(keyed, hit));
        }
        // Another thread or process may be at the same work; then its result is ours, with --no-cache too.
        let asked_ms = now_ms();
        let first_here = self.wanted_here.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        let lock = match self.or_trouble(self.store().try_lock_key(&key)) {
            Some(lock) => Some(lock),
            None => {
                if first_here {
                    self.emit(Event::Note {
                        text: format!("waiting for another build that is at it: {}", step.text),
                    });
                }
                self.or_trouble(self.store().lock_key_unless(&key, &|| cancel.is_canceled()))
            }
        };
        if cancel.is_canceled() {
            return Err(StepError::Stopped);
        }
        let known = self.look_up(step, &keyed).or_else(|| self.made_since(&key, &keyed.made_from, asked_ms));
        if let Some(hit) = known.and_then(usable) {
            return Ok(self.found(keyed, hit));
        }
        let ingredients = StepIngredients { strategy: self.request.strategy, step, inputs };
        self.explain(step, &keyed, &ingredients);
        let (executed, began) = match brought {
            Some(brought) => brought,
            None => {
                self.emit(Event::StepStarted { step: id.0 });
                let began = Instant::now();
                (self.execute(id, step, inputs, cancel)?, began)
            }
        };
        let duration_ms = began.elapsed().as_millis() as u64;
        let (files, layer_bytes) = (executed.tree.entries().len() as u64, executed.tree.unpacked_size());
        let made = self.keep(&keyed, inputs, &ingredients, executed, duration_ms)?;
        drop(lock);
        let snapshot = Some(made.snapshot.id.clone());
        self.emit(Event::StepFinished { step: id.0, key, duration_ms, layer_bytes, files, snapshot });
        Ok(self.finished(keyed, made, false))
    }

    /// What a step gives, if that takes no more than a look into the store: then it is not worth a thread. Files are
    /// not looked into here, since they may have to be brought.
    fn at_once(&self, id: StepId, outputs: &[Arc<StepResult>], cancel: &Cancel) -> Option<StepResult> {
        let step = self.plan().step(id);
        match &step.kind {
            StepKind::Scratch | StepKind::Image(_) => return self.carry_out(id, Vec::new(), cancel).ok(),
            StepKind::Workdir(_) => {}
            StepKind::Run(run) if run.mounts.is_empty() => {}
            _ => return None,
        }
        // What follows a step that ran is seldom there, and a miss would be keyed twice.
        if !outputs.iter().all(|output| output.cached) {
            return None;
        }
        let inputs = StepInputs::of_outputs(self.plan(), step, &self.bases, outputs);
        let keyed = self.keyed(id, step, &inputs).ok()?;
        let hit = self.look_up(step, &keyed).and_then(|hit| self.usable(id, step, &inputs, hit))?;
        Some(self.found(keyed, hit))
    }

    fn keyed(&self, id: StepId, step: &Step, inputs: &StepInputs<'_>) -> Result<Keyed, StepError> {
        let key = self.key(step, inputs)?;
        let (below, files_below) = match step.parent() {
            Some(parent) => (inputs.output_of(parent)?, inputs.files_of(parent)?.clone()),
            None => (scratch_output(), FileSystem::new(Base::Empty)),
        };
        let parent = step.parent().and_then(|parent| inputs.given(parent).ok()?.key);
        let standing =
            standing_key(step, key, parent).ok_or(StepError::Internal("a parent without a key"))?;
        let made_from = inputs.known_by_key();
        let made_from = made_from.map_err(|_| StepError::Internal("an input of a step is not done"))?;
        Ok(Keyed { id, key, standing, made_from, below, files_below })
    }

    /// A result of the store is the step's.
    fn found(&self, keyed: Keyed, hit: Usable) -> StepResult {
        let snapshot = &hit.snapshot;
        self.emit(Event::StepCached {
            step: keyed.id.0,
            key: keyed.key,
            layer_bytes: snapshot.size,
            files: snapshot.tree.entries().len() as u64,
            snapshot: Some(snapshot.id.clone()),
        });
        self.finished(keyed, hit, true)
    }

    fn finished(&self, keyed: Keyed, result: Usable, cached: bool) -> StepResult {
        let Usable { snapshot, layer, files } = result;
        let Keyed { id, key, standing, below, files_below, made_from: _ } = keyed;
        if let Some(packer) = &self.packer {
            packer.layer(id, &snapshot, &files);
        }
        let output = output_after(below, layer, snapshot.tree.is_empty());
        StepResult { key, standing, output, files: files_below.with(id, snapshot, files), cached }
    }

    /// Tells why a step is carried out.
    fn explain(&self, step: &Step, keyed: &Keyed, ingredients: &StepIngredients<'_>) {
        let (id, key) = (keyed.id, &keyed.key);
        let outdated = || {
            self.store()
                .record_kept(key)
                .and_then(|record| outdated_input(&keyed.made_from, &record.made_from))
        };
        let (reasons, mut differences, inputs) = if !self.may_use_cache(step, key) {
            (vec![self.request.cache.why_not().to_owned()], Vec::new(), Vec::new())
        } else if let Some(input) = outdated() {
            (vec![outdated_words(&self.plan().step(input).text)], Vec::new(), Vec::new())
        } else {
            let missed = CacheMiss { id, step, key, ingredients };
            let why = self.explainer.reasons(self.store(), self.plan(), &missed, &|id| self.outcome(id));
            (why.words(MOST_REASONS), why.differences, why.inputs)
        };
        differences.truncate(MOST_DIFFERENCES);
        self.emit(Event::StepExplained { step: id.0, reasons, differences, inputs });
    }

    fn record_outcome(&self, id: StepId, output: &StepResult) {
        let outcome = StepOutcome { key: output.key, output: Some(output.output), runs: !output.cached };
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).insert(id, outcome);
    }

    fn outcome(&self, id: StepId) -> Option<StepOutcome> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }

    /// Whether a step begins a cache mount anew: once in a build, for the first step that may not use the cache.
    pub(crate) fn begins_anew(&self, id: StepId, mount: &str) -> bool {
        let mut begun = self.mounts_begun_anew.lock().unwrap_or_else(PoisonError::into_inner);
        !self.request.cache.allows(self.plan(), self.plan().step(id)) && begun.insert(mount.to_owned())
    }

    fn may_use_cache(&self, step: &Step, key: &StepKey) -> bool {
        self.request.cache.allows(self.plan(), step)
            || self.made_here.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    /// Whether there is a result for a step that has no inputs.
    pub(crate) fn is_known(&self, step: &Step, key: &StepKey) -> bool {
        self.may_use_cache(step, key) && self.made_since(key, &[], 0).is_some()
    }

    fn look_up(&self, step: &Step, keyed: &Keyed) -> Option<(Snapshot, TreeDigest)> {
        self.may_use_cache(step, &keyed.key)
            .then(|| self.made_since(&keyed.key, &keyed.made_from, 0))
            .flatten()
    }

    /// A result that is not older than `since_ms`, and that was made from what the inputs contain now.
    fn made_since(
        &self,
        key: &StepKey,
        made_from: &[(StepId, TreeDigest)],
        since_ms: u64,
    ) -> Option<(Snapshot, TreeDigest)> {
        let is_good = |record: &Record| {
            record.created_ms >= since_ms && outdated_input(made_from, &record.made_from).is_none()
        };
        let record = self.store().record(key).filter(is_good)?;
        let snapshot = self.store().snapshot(record.snapshot.as_ref()?)?;
        self.store().record_hit(key);
        Some((snapshot, record.layer))
    }

    /// Publishes what a step made, snapshot before record. Where the same instruction has given the same tree before,
    /// the first result stays, so that an image does not change without a reason.
    fn keep(
        &self,
        keyed: &Keyed,
        inputs: &StepInputs<'_>,
        ingredients: &StepIngredients<'_>,
        executed: Executed,
        duration_ms: u64,
    ) -> Result<Usable, StepError> {
        let &Keyed { id, key, below, .. } = keyed;
        let Executed { content, tree, unkeyed } = executed;
        // As the plan has it: what it takes is expected of the next build's, whatever a branch names then.
        let step = self.plan().step(id);
        let (layer, definition) = (tree.digest(), definition(step));
        let is_empty = tree.is_empty();
        let known = self.store().known_result(&definition, &layer).and_then(|id| self.store().snapshot(&id));
        let known = known.and_then(|known| self.with_its_times(step, inputs, known, &content));
        let (snapshot, files) = self.publish(known, content, tree)?;
        if !unkeyed {
            let now = now_ms();
            let record = Record {
                key,
                strategy: self.request.strategy.name().to_owned(),
                definition,
                text: step.text.clone(),
                output: output_after(below, layer, is_empty),
                layer,
                layer_is_empty: is_empty,
                snapshot: Some(snapshot.id.clone()),
                stage: self.plan().stage(step.stage).name.clone(),
                inputs: origins(self.plan(), step, &|id| self.outcome(id)),
                made_from: keyed.made_from.iter().map(|(_, output)| *output).collect(),
                duration_ms,
                created_ms: now,
                hits: 0,
                last_used_ms: now,
            };
            self.or_trouble(self.store().put_record(&record, ingredients).map(Some));
            self.made_here.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        }
        Ok(Usable { snapshot, layer, files })
    }

    fn execute(
        &self,
        id: StepId,
        step: &Step,
        inputs: &StepInputs<'_>,
        cancel: &Cancel,
    ) -> Result<Executed, StepError> {
        match &step.kind {
            StepKind::Copy(copy) => self.copy(id, copy, inputs),
            StepKind::Run(run) => self.run_command(id, run, inputs, cancel),
            StepKind::Workdir(workdir) => self.workdir(workdir, inputs),
            StepKind::Fetch(fetch) => self.fetch(id, fetch, cancel),
            StepKind::Git(git) => self.check_out(id, git, cancel),
            StepKind::Image(_) | StepKind::Scratch | StepKind::Context(_) => {
                Err(StepError::Internal("a step that has no layer was to be executed"))
            }
        }
    }
}
