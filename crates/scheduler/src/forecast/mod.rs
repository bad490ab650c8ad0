//! What a build would do, without doing it: for each step whether its result is known, and why.
//!
//! The walk goes over the steps in the order of the plan. Each is keyed as a build keys it (the
//! same strategy, the same [`StepInputs`]), with what is known of its inputs. A step whose key
//! leads to a record is a hit, and what it gives is known; one that has none will run, and what it
//! gives is not known; one whose key depends on that is unknown.
//!
//! What is known comes from a [`Knowledge`]: the store and the contexts as they are
//! ([`crate::InStore`]), or a simulation, which also says what a step that runs would give, so that
//! nothing stays unknown.

pub(crate) mod in_store;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use dbuild_cache::{
    Difference, Ingredient, Strategy, base_output, definition, depends_on_parent, key_of, output_after,
    scratch_output, standing_key, trace_key,
};
use dbuild_digest::{StepKey, TreeDigest};
use dbuild_plan::{BaseImage, ContextStep, MountKind, Plan, Step, StepId, StepKind};

use crate::cache::step_inputs::{InputReader, InputState, StepInputs, outdated_input};
use crate::error::StepError;
use crate::request::CacheUse;
use crate::steps::remote::pinned_without_asking;

/// What a forecast may know. It finds out all that can be found out without executing a step.
pub trait Knowledge: InputReader {
    /// The file system of `FROM scratch`.
    fn scratch(&mut self) -> Self::Files;

    /// An image's file system, and whether its files are here.
    fn image(&mut self, id: StepId, image: &BaseImage) -> (Self::Files, bool);

    /// What a context contains.
    fn context(&mut self, context: &ContextStep) -> Result<(TreeDigest, Self::Files), StepError>;

    /// What a key led to.
    fn record(&mut self, lookup: &Lookup<'_, Self::Files>) -> Option<KnownResult<Self::Files>>;

    /// What a step that runs will give. Only a simulation can say.
    fn executed(&mut self, _lookup: &Lookup<'_, Self::Files>) -> Option<KnownResult<Self::Files>> {
        None
    }

    /// The result of an earlier run of a RUN that would read the same; `step` is what its traces are
    /// kept under ([`dbuild_cache::trace_key`]).
    fn traced(&mut self, _lookup: &Lookup<'_, Self::Files>, _step: &StepKey) -> TracedResult<Self::Files> {
        TracedResult::Different(None)
    }

    /// A step with what its words mean now in it: the digest of a file, the commit of a branch.
    /// `None`: a server must be asked.
    fn pinned<'s>(&self, step: &'s Step) -> Option<Cow<'s, Step>> {
        pinned_without_asking(step)
    }

    /// How many milliseconds steps of this definition ([`dbuild_cache::definition`]) take, by
    /// experience.
    fn took_ms(&self, definition: &StepKey) -> Option<u64>;
}

/// What the traces of a step say.
#[derive(Debug)]
pub enum TracedResult<F> {
    /// All that one of them read is the same.
    Same(KnownResult<F>),
    /// None of them; with what the longest one read that is not the same, if there is one.
    Different(Option<Difference>),
    /// The file system below is not known.
    Unknown,
}

/// A step that is looked up.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'a, F> {
    /// The plan.
    pub plan: &'a Plan,
    /// The step.
    pub id: StepId,
    /// Its key.
    pub key: StepKey,
    /// What the key was made of.
    pub ingredients: &'a [Ingredient],
    /// The file system below it, if it is known.
    pub below: Option<&'a F>,
    /// What the file system below contains, if that is known.
    pub output_below: Option<TreeDigest>,
}

/// What a step gave.
#[derive(Clone, Debug)]
pub struct KnownResult<F> {
    /// The digest of its layer.
    pub layer: TreeDigest,
    /// The layer has no entries.
    pub layer_is_empty: bool,
    /// The file system with the layer. `None`: what is below it is not known.
    pub files: Option<F>,
    /// What the inputs contained that the key names by their keys
    /// ([`dbuild_store::Record::made_from`]); empty where that is not known, or does not matter.
    pub made_from: Vec<TreeDigest>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// What will become of each step of a plan.
#[derive(Debug)]
pub struct Forecast {
    /// In the order of the step ids.
    pub steps: Vec<StepForecast>,
}

/// What will become of a step.
#[derive(Debug)]
pub struct StepForecast {
    /// Whether it will run.
    pub verdict: Verdict,
    /// Its key, as far as it is known.
    pub key: Option<StepKey>,
    /// What the key is made of; empty where it is not known.
    pub ingredients: Vec<Ingredient>,
    /// What an earlier run of it read that is not the same now, if that is why it runs.
    pub read: Option<Difference>,
    /// What the step contains, as far as that is known.
    pub output: Option<TreeDigest>,
    /// How many milliseconds it takes, or took, to execute.
    pub duration_ms: u64,
    /// The duration was measured here; else it is a guess by the kind of step.
    pub is_measured: bool,
}

/// Whether a step will run.
#[derive(Debug)]
pub enum Verdict {
    /// It is done every time: a context is read.
    Always,
    /// Its result is known.
    Hit(Hit),
    /// It will run.
    Miss(Miss),
    /// It may run or not: its key depends on what this step will give.
    Unknown(StepId),
    /// It cannot be done.
    Fails(StepError),
}

/// Why a step will not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hit {
    /// There is a record of it.
    Recorded,
    /// There is nothing to be done: it is empty, or here.
    Present,
    /// This step does the same work, and one of them does it for both.
    SameAs(StepId),
}

/// Why a step will run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// There is no record of it.
    NoRecord,
    /// Its record may not be used: `--no-cache`.
    NotAllowed,
    /// Its record was made from an earlier result of this step, under the same key.
    Outdated(StepId),
    /// An image that is not here, and whose files a step needs.
    Pulled,
}

/// Says what would become of each step of a plan, and executes none.
pub fn forecast<K: Knowledge>(
    plan: &Plan,
    strategy: &dyn Strategy,
    cache: &CacheUse,
    knowledge: &mut K,
) -> Forecast {
    let mut definitions: HashMap<StepKey, usize> = HashMap::new();
    for (_, step) in plan.steps() {
        *definitions.entry(definition(step)).or_default() += 1;
    }
    let mut walk = Walk {
        plan,
        strategy,
        cache,
        knowledge,
        definitions,
        running: HashMap::new(),
        absent: HashSet::new(),
        given: Vec::with_capacity(plan.len()),
        pending: Vec::with_capacity(plan.len()),
    };
    let mut steps: Vec<StepForecast> = plan.steps().map(|(id, step)| walk.step(id, step)).collect();
    let absent = std::mem::take(&mut walk.absent);
    pull(plan, &absent, &mut steps);
    Forecast { steps }
}

struct Walk<'a, K: Knowledge> {
    plan: &'a Plan,
    strategy: &'a dyn Strategy,
    cache: &'a CacheUse,
    knowledge: &'a mut K,
    /// How many steps of the plan have these words.
    definitions: HashMap<StepKey, usize>,
    /// The keys of the steps that will run.
    running: HashMap<StepKey, RunningStep>,
    /// Images whose files are not here.
    absent: HashSet<StepId>,
    /// What is known of each step so far.
    given: Vec<InputState<K::Files>>,
    /// For each step so far the one that must run before all is known of it.
    pending: Vec<Option<StepId>>,
}

/// What is known of a step besides its key.
struct KnownStep<F> {
    verdict: Verdict,
    read: Option<Difference>,
    output: Option<TreeDigest>,
    files: Option<F>,
    duration_ms: Option<u64>,
    pending: Option<StepId>,
}

impl<F> KnownStep<F> {
    fn all(verdict: Verdict, output: TreeDigest, files: F) -> Self {
        Self {
            verdict,
            read: None,
            output: Some(output),
            files: Some(files),
            duration_ms: None,
            pending: None,
        }
    }

    fn nothing(verdict: Verdict, pending: StepId) -> Self {
        Self { verdict, read: None, output: None, files: None, duration_ms: None, pending: Some(pending) }
    }
}

impl<K: Knowledge> Walk<'_, K> {
    fn step(&mut self, id: StepId, step: &Step) -> StepForecast {
        // What a server has to be asked for is known when it was asked, in a build.
        let keyed = self.knowledge.pinned(step).map_or(Err(NoKey::Unknown(id)), |pinned| self.key(&pinned));
        let (key, ingredients, known) = match keyed {
            Ok(parts) => {
                let known = self.known(id, step, &parts);
                (Some(parts.key), parts.ingredients, known)
            }
            Err(NoKey::Unknown(input)) => {
                let on = self.pending.get(input.index()).copied().flatten().unwrap_or(input);
                (None, Vec::new(), KnownStep::nothing(self.without_key(step, on), id))
            }
            Err(NoKey::Failed(error)) => (None, Vec::new(), KnownStep::nothing(Verdict::Fails(*error), id)),
        };
        let pending = match known.verdict {
            Verdict::Unknown(on) => Some(on),
            _ => known.pending,
        };
        let parent = step.parent().and_then(|parent| self.given[parent.index()].key);
        let standing = key.and_then(|key| standing_key(step, key, parent));
        self.given.push(InputState { key: standing, output: known.output, files: known.files });
        self.pending.push(pending);
        let measured = known.duration_ms.or_else(|| self.knowledge.took_ms(&definition(step)));
        // A key does not say which result it leads to where its inputs have results that differ
        // from earlier ones.
        let is_open = matches!(known.verdict, Verdict::Unknown(_)) && step.makes_layer();
        StepForecast {
            verdict: known.verdict,
            key: key.filter(|_| !is_open),
            ingredients,
            read: known.read,
            output: known.output,
            duration_ms: measured.unwrap_or_else(|| guess_ms(&step.kind)),
            is_measured: measured.is_some(),
        }
    }

    fn key(&self, step: &Step) -> Result<StepKeyParts, NoKey> {
        let given = step.inputs().iter().map(|input| self.given[input.index()].clone()).collect();
        let inputs = StepInputs::new(self.plan, step, &*self.knowledge, given);
        let (key, ingredients) =
            key_of(self.strategy, step, &inputs).map_err(|unknown| match inputs.take_error() {
                Some(error) => NoKey::Failed(Box::new(error)),
                None => NoKey::Unknown(unknown.input),
            })?;
        let is_traced = self.strategy.is_traced() && matches!(step.kind, StepKind::Run(_));
        let trace = is_traced.then(|| trace_key(step, &inputs).ok()).flatten();
        Ok(StepKeyParts { key, ingredients, made_from: inputs.known_by_key(), trace })
    }

    fn known(&mut self, id: StepId, step: &Step, parts: &StepKeyParts) -> KnownStep<K::Files> {
        match &step.kind {
            StepKind::Scratch => {
                KnownStep::all(Verdict::Hit(Hit::Present), scratch_output(), self.knowledge.scratch())
            }
            StepKind::Image(image) => {
                let (files, is_here) = self.knowledge.image(id, &image.image);
                let output = base_output(&image.image);
                if is_here {
                    return KnownStep::all(Verdict::Hit(Hit::Present), output, files);
                }
                self.absent.insert(id);
                // Its output is known all the same; a step that looks into its files has to wait.
                KnownStep { pending: Some(id), ..KnownStep::all(Verdict::Unknown(id), output, files) }
            }
            StepKind::Context(context) => match self.knowledge.context(context) {
                Ok((output, files)) => KnownStep::all(Verdict::Always, output, files),
                Err(error) => KnownStep::nothing(Verdict::Fails(error), id),
            },
            StepKind::Fetch(_)
            | StepKind::Git(_)
            | StepKind::Copy(_)
            | StepKind::Run(_)
            | StepKind::Workdir(_) => self.looked_up(id, step, parts),
        }
    }

    fn looked_up(&mut self, id: StepId, step: &Step, parts: &StepKeyParts) -> KnownStep<K::Files> {
        let StepKeyParts { key, ingredients, made_from, trace } = parts;
        let key = *key;
        let parent = step.parent();
        let given = parent.map(|parent| &self.given[parent.index()]);
        let scratch = parent.is_none().then(|| self.knowledge.scratch());
        let output_below = given.map_or(Some(scratch_output()), |given| given.output);
        let lookup = Lookup {
            plan: self.plan,
            id,
            key,
            ingredients,
            below: given.map_or(scratch.as_ref(), |given| given.files.as_ref()),
            output_below,
        };
        let allowed = self.cache.allows(self.plan, step);
        let running = self.running.get(&key).copied();
        let same = running.map(|running| running.step);
        // A step that runs replaces its record; what the old one says is not what the build will
        // have.
        let may_know = running.map_or(allowed, |running| running.is_known);
        let recorded = if may_know { self.knowledge.record(&lookup) } else { None };
        let waits_for = parent.and_then(|parent| self.pending[parent.index()]);
        let mut outdated = None;
        if let Some(result) = recorded {
            match is_made_from(&result, made_from) {
                Age::Current => {
                    let verdict = Verdict::Hit(same.map_or(Hit::Recorded, Hit::SameAs));
                    return known_after(verdict, result, output_below, waits_for);
                }
                Age::Outdated(input) => outdated = Some(input),
                Age::Unknown(input) => {
                    let on = self.pending[input.index()].unwrap_or(input);
                    return KnownStep::nothing(Verdict::Unknown(on), on);
                }
            }
        }
        if let Some(same) = same {
            return KnownStep::nothing(Verdict::Hit(Hit::SameAs(same)), same);
        }
        let mut read = None;
        if let Some(trace) = trace.as_ref().filter(|_| allowed) {
            match self.knowledge.traced(&lookup, trace) {
                TracedResult::Same(result) => {
                    return known_after(Verdict::Hit(Hit::Recorded), result, output_below, waits_for);
                }
                TracedResult::Unknown => {
                    let on = waits_for.or(parent).unwrap_or(id);
                    return KnownStep::nothing(Verdict::Unknown(on), on);
                }
                TracedResult::Different(difference) => read = difference,
            }
        }
        let miss = Verdict::Miss(match outdated {
            _ if !allowed => Miss::NotAllowed,
            Some(input) => Miss::Outdated(input),
            None => Miss::NoRecord,
        });
        let executed = self.knowledge.executed(&lookup);
        self.running.insert(key, RunningStep { step: id, is_known: executed.is_some() });
        match executed {
            Some(result) => known_after(miss, result, output_below, waits_for),
            None => KnownStep { read, ..KnownStep::nothing(miss, id) },
        }
    }

    /// A step whose key is not known runs in any case if it may not take a result from the cache,
    /// unless another step of the plan turns out to be the same.
    fn without_key(&self, step: &Step, on: StepId) -> Verdict {
        let is_alone = self.definitions.get(&definition(step)).is_none_or(|count| *count < 2);
        let runs = !self.cache.allows(self.plan, step) && is_alone;
        if runs { Verdict::Miss(Miss::NotAllowed) } else { Verdict::Unknown(on) }
    }
}

/// A step that will run.
#[derive(Clone, Copy)]
struct RunningStep {
    step: StepId,
    /// Whether it is known what it will give, as a simulation does.
    is_known: bool,
}

/// A step's key, and what it was made of.
struct StepKeyParts {
    key: StepKey,
    ingredients: Vec<Ingredient>,
    made_from: MadeFrom,
    /// What its traces are kept under.
    trace: Option<StepKey>,
}

/// The inputs that a key names by their keys, and what they contain; or one of which that is not
/// known yet.
type MadeFrom = Result<Vec<(StepId, TreeDigest)>, StepId>;

/// Whether a record was made from what the inputs contain now.
enum Age {
    Current,
    /// This input contains something else.
    Outdated(StepId),
    /// It is not known what this input will contain.
    Unknown(StepId),
}

fn is_made_from<F>(result: &KnownResult<F>, now: &MadeFrom) -> Age {
    if result.made_from.is_empty() {
        return Age::Current;
    }
    match now {
        Err(input) => Age::Unknown(*input),
        Ok(now) => outdated_input(now, &result.made_from).map_or(Age::Current, Age::Outdated),
    }
}

enum NoKey {
    Unknown(StepId),
    Failed(Box<StepError>),
}

fn known_after<F>(
    verdict: Verdict,
    result: KnownResult<F>,
    output_below: Option<TreeDigest>,
    waits_for: Option<StepId>,
) -> KnownStep<F> {
    let output = output_below.map(|below| output_after(below, result.layer, result.layer_is_empty));
    let pending = waits_for.filter(|_| output.is_none() || result.files.is_none());
    KnownStep {
        verdict,
        read: None,
        output,
        files: result.files,
        duration_ms: Some(result.duration_ms),
        pending,
    }
}

/// An image that is not here is pulled when a step that runs needs its files.
fn pull(plan: &Plan, absent: &HashSet<StepId>, steps: &mut [StepForecast]) {
    if absent.is_empty() {
        return;
    }
    let runs = |id: StepId| matches!(steps[id.index()].verdict, Verdict::Miss(_));
    let needed: Vec<StepId> = plan
        .steps()
        .filter(|(id, _)| runs(*id))
        .flat_map(|(_, step)| looks_into(step))
        .map(|input| plan.chain(input)[0])
        .filter(|first| absent.contains(first))
        .collect();
    for image in needed {
        if matches!(steps[image.index()].verdict, Verdict::Unknown(_)) {
            // Stages that begin with the same image need it once.
            let key = steps[image.index()].key;
            let same = absent.iter().filter(|other| **other != image && steps[other.index()].key == key);
            for other in same.collect::<Vec<_>>() {
                steps[other.index()].verdict = Verdict::Hit(Hit::SameAs(image));
            }
            steps[image.index()].verdict = Verdict::Miss(Miss::Pulled);
        }
    }
    for id in absent {
        if let StepKind::Image(image) = &plan.step(*id).kind {
            let bytes: u64 = image.image.layers.iter().map(|layer| layer.size).sum();
            steps[id.index()].duration_ms = bytes / dbuild_store::PULL_BYTES_PER_MS;
        }
    }
}

/// The inputs whose files a step needs when it is executed.
fn looks_into(step: &Step) -> Vec<StepId> {
    match &step.kind {
        StepKind::Copy(copy) => {
            step.parent().filter(|_| depends_on_parent(copy)).into_iter().chain(step.sources()).collect()
        }
        StepKind::Run(run) => {
            let binds = run.mounts.iter().filter_map(|mount| match &mount.kind {
                MountKind::Bind { from, .. } => Some(*from),
                // What a cache mount begins with is looked at when it is new.
                _ => None,
            });
            binds.chain([run.parent]).collect()
        }
        _ => step.parent().into_iter().collect(),
    }
}

/// How long a step of a kind takes where nothing better is known.
pub(crate) fn guess_ms(kind: &StepKind) -> u64 {
    match kind {
        StepKind::Run(_) => 5_000,
        StepKind::Fetch(_) | StepKind::Git(_) => 2_000,
        StepKind::Image(_) => 1_000,
        StepKind::Context(_) | StepKind::Copy(_) => 100,
        StepKind::Scratch | StepKind::Workdir(_) => 1,
    }
}

impl Forecast {
    /// Whether a step will run, if what is unknown does (or does not).
    fn runs(&self, id: StepId, unknown: bool) -> bool {
        match self.steps[id.index()].verdict {
            Verdict::Miss(_) => true,
            Verdict::Unknown(_) => unknown,
            // That contexts are read belongs to every build, and nobody measured it.
            Verdict::Always | Verdict::Hit(_) | Verdict::Fails(_) => false,
        }
    }

    /// How many milliseconds the build will take with so many steps at a time, if what is unknown
    /// runs (or does not). The steps are taken in the order in which a build takes them.
    pub fn expected_ms(&self, plan: &Plan, jobs: std::num::NonZeroUsize, unknown: bool) -> u64 {
        let cost = |id: StepId| if self.runs(id, unknown) { self.steps[id.index()].duration_ms } else { 0 };
        crate::schedule::makespan(plan, cost, jobs)
    }
}
