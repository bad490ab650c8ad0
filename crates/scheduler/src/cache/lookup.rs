//! The protocol of the cache: look up, lock, look up once more, explain, execute, publish.
//!
//! The second look finds what another thread or process has made meanwhile; with `--no-cache` too,
//! since that is not older than the step. Trouble with the cache costs time, never the build.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dbuild_cache::{Difference, definition, output_after, scratch_output, standing_key, step_key, trace_key};
use dbuild_digest::{StepKey, TreeDigest};
use dbuild_events::Event;
use dbuild_layer::Tree;
use dbuild_plan::{NetworkMode, RunStep, Step, StepId, StepKind};
use dbuild_sandbox::Trace;
use dbuild_store::{KeyLock, Record, Snapshot, StepTrace, StoreError};
use dbuild_support::time::now_ms;

use crate::cache::explain::{CacheMiss, Explainer, outdated_words};
use crate::cache::lineage::{StepOutcome, origins};
use crate::cache::step_inputs::{StepIngredients, StepInputs, outdated_input};
use crate::cache::traces::{answered, differing_read, unasked};
use crate::error::StepError;
use crate::layers::filesystem::{Base, FileSystem, StepResult};
use crate::layers::remote::RemoteLayers;
use crate::layers::unwritten::{StoredLayer, UnwrittenLayers};
use crate::schedule::cancel::Cancel;
use crate::steps::executed::Executed;
use crate::steps::step_context::StepContext;

/// Maximum number of differences of a step that are reported in words; each takes a line.
const MOST_REASONS: usize = 20;
/// Maximum number of differences kept per step.
const MOST_DIFFERENCES: usize = 100;

/// The cache as the steps of one build use it.
pub(crate) struct StepCache {
    context: Arc<StepContext>,
    unwritten: Arc<UnwrittenLayers>,
    remote: Arc<RemoteLayers>,
    explainer: Explainer,
    /// What became of the steps that are done.
    outcomes: Mutex<HashMap<StepId, StepOutcome>>,
    /// Keys whose results this build made: with `--no-cache` they may be used all the same.
    made_here: Mutex<HashSet<StepKey>>,
    /// Keys that a step of this build has tried to lock: waiting on one of them means waiting on
    /// that step.
    wanted_here: Mutex<HashSet<StepKey>>,
    trouble_reported: AtomicBool,
}

/// A step whose key is known.
pub(crate) struct KeyedStep {
    pub(crate) id: StepId,
    pub(crate) key: StepKey,
    /// The key with all that the step stands on.
    standing: StepKey,
    /// The inputs that are in the key by their own keys, and what they contain.
    made_from: Vec<(StepId, TreeDigest)>,
    /// What its parent contains.
    below: TreeDigest,
    files_below: FileSystem,
}

impl KeyedStep {
    /// What the step gives with this layer.
    pub(crate) fn result(self, layer: StoredLayer, cached: bool) -> StepResult {
        let StoredLayer { snapshot, layer, files } = layer;
        let Self { id, key, standing, below, files_below, made_from: _ } = self;
        let output = output_after(below, layer, snapshot.tree.is_empty());
        StepResult { key, standing, output, files: files_below.with(id, snapshot, files), cached }
    }
}

/// The right to make the result of a key. Where the cache cannot be used, everybody has it.
pub(crate) struct WorkLock {
    _lock: Option<KeyLock>,
    /// When it was asked for.
    asked_ms: u64,
}

impl StepCache {
    pub(crate) fn new(
        context: Arc<StepContext>,
        unwritten: Arc<UnwrittenLayers>,
        remote: Arc<RemoteLayers>,
    ) -> Self {
        let explainer = Explainer::new(context.request.strategy, context.plan());
        Self {
            context,
            unwritten,
            remote,
            explainer,
            outcomes: Mutex::default(),
            made_here: Mutex::default(),
            wanted_here: Mutex::default(),
            trouble_reported: AtomicBool::new(false),
        }
    }

    /// The value, or nothing and a warning, which is given once.
    pub(crate) fn or_warn_once<T>(&self, result: Result<Option<T>, StoreError>) -> Option<T> {
        result.unwrap_or_else(|error| {
            if !self.trouble_reported.swap(true, Ordering::Relaxed) {
                self.context.emit(Event::warning(format!("the cache cannot be used: {error}")));
            }
            None
        })
    }

    pub(crate) fn key(&self, step: &Step, inputs: &StepInputs<'_>) -> Result<StepKey, StepError> {
        step_key(self.context.request.strategy, step, inputs).map_err(|_| {
            inputs.take_error().unwrap_or(StepError::Internal("an input of a step is not known"))
        })
    }

    pub(crate) fn keyed(
        &self,
        id: StepId,
        step: &Step,
        inputs: &StepInputs<'_>,
    ) -> Result<KeyedStep, StepError> {
        let key = self.key(step, inputs)?;
        let (below, files_below) = match step.parent() {
            Some(parent) => (inputs.output_of(parent)?, inputs.files_of(parent)?.clone()),
            None => (scratch_output(), FileSystem::new(Base::Empty)),
        };
        let parent = step.parent().and_then(|parent| inputs.state(parent).ok()?.key);
        let standing =
            standing_key(step, key, parent).ok_or(StepError::Internal("a parent without a key"))?;
        let made_from = inputs.known_by_key();
        let made_from = made_from.map_err(|_| StepError::Internal("an input of a step is not done"))?;
        Ok(KeyedStep { id, key, standing, made_from, below, files_below })
    }

    /// The result of a step that this build may use, with its files as far as it needs them.
    pub(crate) fn look_up(
        &self,
        keyed: &KeyedStep,
        step: &Step,
        inputs: &StepInputs<'_>,
    ) -> Option<StoredLayer> {
        let hit = self.find(keyed, step)?;
        self.unwritten.usable(keyed.id, step, inputs, &keyed.key, hit)
    }

    /// The result of a step that another machine made.
    pub(crate) fn import(
        &self,
        keyed: &KeyedStep,
        step: &Step,
        inputs: &StepInputs<'_>,
    ) -> Option<StoredLayer> {
        if !self.context.may_use_cache(step) {
            return None;
        }
        let &KeyedStep { id, ref key, ref made_from, ref files_below, .. } = keyed;
        let hit = self.remote.import((id, step), key, made_from, files_below)?;
        self.unwritten.usable(id, step, inputs, key, hit)
    }

    /// The same under the lock: what was made since somebody began to wait for it is used in any
    /// case.
    pub(crate) fn look_up_locked(
        &self,
        lock: &WorkLock,
        keyed: &KeyedStep,
        step: &Step,
        inputs: &StepInputs<'_>,
    ) -> Option<StoredLayer> {
        let made_since = || self.made_since(&keyed.key, &keyed.made_from, lock.asked_ms);
        let hit = self.find(keyed, step).or_else(made_since)?;
        self.unwritten.usable(keyed.id, step, inputs, &keyed.key, hit)
    }

    /// Whether there is a result for a step that has no inputs.
    pub(crate) fn is_known(&self, step: &Step, key: &StepKey) -> bool {
        self.may_use(step, key) && self.made_since(key, &[], 0).is_some()
    }

    /// The result of an earlier run of the same words that would read the same on this parent. Its
    /// layer is laid on the parent, and is the result of the key from now on. If there is none,
    /// what the longest trace read that is not as it was.
    pub(crate) fn look_up_traced(
        &self,
        keyed: &KeyedStep,
        step: &Step,
        inputs: &StepInputs<'_>,
        ingredients: &StepIngredients<'_>,
    ) -> Result<StoredLayer, Option<Difference>> {
        let request = &self.context.request;
        let StepKind::Run(run) = &step.kind else { return Err(None) };
        if !request.strategy.is_traced() || !self.context.may_use_cache(step) {
            return Err(None);
        }
        let Ok(trace_key) = trace_key(step, inputs) else { return Err(None) };
        let store = self.context.store();
        let traces = self.or_warn_once(store.traces(&trace_key).map(Some)).unwrap_or_default();
        if traces.is_empty() {
            return Err(None);
        }
        let Ok(parent) = inputs.stack_of(run.parent) else { return Err(None) };
        let mut deciding = None;
        for trace in traces {
            if let Some(read) = differing_read(&trace, &parent, request.traced_network) {
                deciding = deciding.or(Some(read));
                continue;
            }
            let Some(record) = store.record(&trace.record) else { continue };
            let Some(snapshot) = record.snapshot.as_ref().and_then(|id| store.snapshot(id)) else { continue };
            let hit = self.unwritten.usable(keyed.id, step, inputs, &record.key, (snapshot, record.layer));
            let Some(layer) = hit else { continue };
            store.record_hit(&trace.record);
            let network = if trace.network { "; it used the network then" } else { "" };
            let text = format!(
                "{} is not run again, since none of the {} paths that it asked for has changed{network}",
                step.text,
                trace.paths.len()
            );
            self.context.emit(Event::Note { text });
            self.record(keyed, step, &layer, ingredients, record.duration_ms);
            let (before, trace) = (trace.record, StepTrace { record: keyed.key, ..trace });
            self.or_warn_once(store.put_trace(&trace_key, &trace, Some(&before)).map(Some));
            return Ok(layer);
        }
        Err(deciding)
    }

    /// Keeps what the command of a result asked of its parent.
    fn record_trace(
        &self,
        keyed: &KeyedStep,
        (step, run): (&Step, &RunStep),
        inputs: &StepInputs<'_>,
        trace: Trace,
        layer: &Tree,
    ) {
        let (Ok(trace_key), Ok(parent)) = (trace_key(step, inputs), inputs.stack_of(run.parent)) else {
            return;
        };
        let network = trace.network && run.network != NetworkMode::None;
        let paths = answered(trace, run, &parent);
        if let Some(path) = unasked(layer, &paths) {
            let text = format!("{} is not traced: how it made {path} was not seen", step.text);
            return self.context.emit(Event::Note { text });
        }
        let trace = StepTrace { record: keyed.key, network, paths };
        self.or_warn_once(self.context.store().put_trace(&trace_key, &trace, None).map(Some));
    }

    /// Waits until nobody else, here or in another process, makes the result of this key.
    pub(crate) fn lock(&self, key: &StepKey, step: &Step, cancel: &Cancel) -> Result<WorkLock, StepError> {
        let asked_ms = now_ms();
        let store = self.context.store();
        // Both at once: else a step of this build that comes second could get the lock first, and
        // the first one would blame another build.
        let (first_here, lock) = {
            let mut wanted_here = self.wanted_here.lock().unwrap_or_else(PoisonError::into_inner);
            (wanted_here.insert(*key), self.or_warn_once(store.try_lock_key(key)))
        };
        let lock = match lock {
            Some(lock) => Some(lock),
            None => {
                if first_here {
                    let text = format!("waiting for another build that runs this step: {}", step.text);
                    self.context.emit(Event::Note { text });
                }
                self.or_warn_once(store.lock_key_unless(key, &|| cancel.is_canceled()))
            }
        };
        if cancel.is_canceled() {
            return Err(StepError::Stopped);
        }
        Ok(WorkLock { _lock: lock, asked_ms })
    }

    /// Reports why a step is executed.
    /// `deciding` is what it read that is not as it was.
    pub(crate) fn explain(
        &self,
        step: &Step,
        keyed: &KeyedStep,
        ingredients: &StepIngredients<'_>,
        deciding: Option<Difference>,
    ) {
        let (id, key, context) = (keyed.id, &keyed.key, &self.context);
        let outdated = || {
            let record = context.store().record_kept(key)?;
            outdated_input(&keyed.made_from, &record.made_from)
        };
        let (reasons, mut differences, inputs) = if !self.may_use(step, key) {
            (vec![context.request.cache.why_not().to_owned()], Vec::new(), Vec::new())
        } else if let Some(input) = outdated() {
            (vec![outdated_words(&context.plan().step(input).text)], Vec::new(), Vec::new())
        } else if let Some(read) = deciding {
            (vec![read.to_string()], vec![read], Vec::new())
        } else {
            let miss = CacheMiss { id, step, key, ingredients };
            let outcomes = |id| self.outcome(id);
            let why = self.explainer.reasons(context.store(), context.plan(), &miss, &outcomes);
            (why.words(MOST_REASONS), why.differences, why.inputs)
        };
        differences.truncate(MOST_DIFFERENCES);
        context.emit(Event::StepExplained { step: id.0, reasons, differences, inputs });
    }

    /// Publishes what a step made, snapshot before record. Where the same instruction has given the
    /// same tree before, the first result stays, so that an image does not change without a reason.
    pub(crate) fn publish(
        &self,
        keyed: &KeyedStep,
        inputs: &StepInputs<'_>,
        ingredients: &StepIngredients<'_>,
        executed: Executed,
        duration_ms: u64,
    ) -> Result<StoredLayer, StepError> {
        let Executed { content, tree, unkeyed, trace } = executed;
        let store = self.context.store();
        // As the plan has it: what it takes is expected of the next build's, whatever a branch
        // names then.
        let step = self.context.plan().step(keyed.id);
        let layer = tree.digest();
        let first = store.known_result(&definition(step), &layer).and_then(|id| store.snapshot(&id));
        let first = first.and_then(|first| self.unwritten.with_its_times(step, inputs, first, &content));
        let (snapshot, files) = self.unwritten.publish(first, content, tree)?;
        let layer = StoredLayer { snapshot, layer, files };
        if !unkeyed {
            self.record(keyed, step, &layer, ingredients, duration_ms);
            if let (Some(trace), StepKind::Run(run)) = (trace, &step.kind) {
                self.record_trace(keyed, (step, run), inputs, trace, &layer.snapshot.tree);
            }
        }
        Ok(layer)
    }

    fn record(
        &self,
        keyed: &KeyedStep,
        step: &Step,
        made: &StoredLayer,
        ingredients: &StepIngredients<'_>,
        duration_ms: u64,
    ) {
        let &KeyedStep { key, below, .. } = keyed;
        let plan = self.context.plan();
        let layer_is_empty = made.snapshot.tree.is_empty();
        let now = now_ms();
        let record = Record {
            key,
            strategy: self.context.request.strategy.name().to_owned(),
            definition: definition(step),
            text: step.text.clone(),
            output: output_after(below, made.layer, layer_is_empty),
            layer: made.layer,
            layer_is_empty,
            snapshot: Some(made.snapshot.id.clone()),
            stage: plan.stage(step.stage).name.clone(),
            inputs: origins(plan, step, &|id| self.outcome(id)),
            made_from: keyed.made_from.iter().map(|(_, output)| *output).collect(),
            duration_ms,
            created_ms: now,
            hits: 0,
            last_used_ms: now,
        };
        self.or_warn_once(self.context.store().put_record(&record, ingredients).map(Some));
        self.made_here.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
    }

    /// Notes what became of a step, for the explanations of those after it.
    pub(crate) fn note_outcome(&self, id: StepId, result: &StepResult) {
        let outcome = StepOutcome { key: result.key, output: Some(result.output), runs: !result.cached };
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).insert(id, outcome);
    }

    fn outcome(&self, id: StepId) -> Option<StepOutcome> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }

    fn may_use(&self, step: &Step, key: &StepKey) -> bool {
        self.context.may_use_cache(step)
            || self.made_here.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    fn find(&self, keyed: &KeyedStep, step: &Step) -> Option<(Snapshot, TreeDigest)> {
        self.may_use(step, &keyed.key).then(|| self.made_since(&keyed.key, &keyed.made_from, 0)).flatten()
    }

    /// A result that is not older than `since_ms`, and that was made from what the inputs contain
    /// now.
    fn made_since(
        &self,
        key: &StepKey,
        made_from: &[(StepId, TreeDigest)],
        since_ms: u64,
    ) -> Option<(Snapshot, TreeDigest)> {
        let is_good = |record: &Record| {
            record.created_ms >= since_ms && outdated_input(made_from, &record.made_from).is_none()
        };
        let store = self.context.store();
        let record = store.record(key).filter(is_good)?;
        let snapshot = store.snapshot(record.snapshot.as_ref()?)?;
        store.record_hit(key);
        Some((snapshot, record.layer))
    }
}
