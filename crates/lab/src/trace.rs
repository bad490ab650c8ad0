//! What a history asks of a cache under one strategy: for each commit the keys that are looked up.
//!
//! What a step gives does not depend on what a cache holds, so the keys do not either. A history is
//! planned once for each strategy, and every virtual cache replays the same trace.

use std::collections::{HashMap, HashSet};

use dbuild_cache::{Ingredient, IngredientKind, Strategy, definition, explain, similarity};
use dbuild_digest::{StepKey, TreeDigest};
use dbuild_plan::{Plan, StepKind};
use dbuild_scheduler::{Forecast, StepForecast};

use crate::result::Cause;

/// A key that is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Use {
    /// Numbers the keys of the trace.
    pub(crate) key: usize,
    /// Numbers its results. Several keys can lead to one: a store keeps it once.
    pub(crate) object: usize,
    /// What it takes to make it, in milliseconds.
    pub(crate) cost_ms: u64,
}

/// All that a history asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    /// For each commit that was replayed.
    pub(crate) commits: Vec<Vec<Use>>,
    /// The bytes of each result.
    pub(crate) sizes: Vec<u64>,
    pub(crate) keys: usize,
}

/// What a step of a commit gave, whichever strategy asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given {
    pub(crate) layer: TreeDigest,
    pub(crate) bytes: u64,
    pub(crate) ms: u64,
}

/// Makes the trace of one strategy, and says why steps run again.
pub(crate) struct Tracer {
    pub(crate) strategy: &'static dyn Strategy,
    pub(crate) trace: Trace,
    keys: HashMap<StepKey, usize>,
    objects: HashMap<(StepKey, TreeDigest), usize>,
    /// The steps of the commit before.
    before: Vec<Seen>,
}

/// A step of a commit, as its key was made.
struct Seen {
    stage: String,
    text: String,
    list: Vec<Ingredient>,
}

/// Less alike than this is another step.
const LEAST_SIMILARITY: u32 = 300;

impl Tracer {
    pub(crate) fn new(strategy: &'static dyn Strategy) -> Self {
        let (trace, keys, objects) = (Trace::default(), HashMap::new(), HashMap::new());
        Self { strategy, trace, keys, objects, before: Vec::new() }
    }

    /// Adds a commit. `given` is by step id.
    pub(crate) fn add(&mut self, plan: &Plan, forecast: Forecast, given: &[Option<Given>]) -> Vec<Cause> {
        let (mut uses, mut causes, mut now) = (Vec::new(), Vec::new(), Vec::new());
        let mut met: HashSet<StepKey> = HashSet::new();
        for ((id, step), known) in plan.steps().zip(forecast.steps) {
            let StepForecast { key: Some(key), ingredients, .. } = known else { continue };
            let is_kept = !matches!(step.kind, StepKind::Image(_) | StepKind::Context(_) | StepKind::Scratch);
            let seen = Seen {
                stage: plan.stage(step.stage).name.clone(),
                text: step.text.clone(),
                list: ingredients,
            };
            if let (true, Some(given)) = (is_kept, given[id.index()]) {
                let next = self.keys.len();
                let key_number = *self.keys.entry(key).or_insert(next);
                // Only one of two steps with the same key is executed; the other is not looked up.
                if met.insert(key) {
                    uses.push(self.used(key_number, (definition(step), given.layer), given));
                }
                if key_number == next {
                    causes.push(self.cause(&seen, given.ms));
                }
            }
            now.push(seen);
        }
        self.before = now;
        self.trace.keys = self.keys.len();
        self.trace.commits.push(uses);
        causes
    }

    fn used(&mut self, key: usize, object: (StepKey, TreeDigest), given: Given) -> Use {
        let next = self.objects.len();
        let object = *self.objects.entry(object).or_insert(next);
        if object == next {
            self.trace.sizes.push(given.bytes);
        }
        Use { key, object, cost_ms: given.ms }
    }

    /// Why a step runs: what differs from the step of the commit before that it is a version of.
    fn cause(&self, step: &Seen, ms: u64) -> Cause {
        let mut cause =
            Cause { stage: step.stage.clone(), step: step.text.clone(), ms, why: Vec::new(), follows: false };
        if self.before.is_empty() {
            cause.why.push("the first commit".to_owned());
            return cause;
        }
        let alike = |other: &&Seen| {
            let same_text = other.text == step.text;
            (other.stage == step.stage, same_text, similarity(&other.list, &step.list))
        };
        let nearest = self.before.iter().map(|other| (alike(&other), other)).max_by_key(|(alike, _)| *alike);
        let Some((_, earlier)) =
            nearest.filter(|((_, same_text, similar), _)| *same_text || *similar >= LEAST_SIMILARITY)
        else {
            cause.why.push("a new step".to_owned());
            return cause;
        };
        let inherited = |kind: IngredientKind| matches!(kind, IngredientKind::Parent | IngredientKind::Input);
        let differences = explain(&earlier.list, &step.list);
        // The parent is named where it stands, with its own cause.
        let (from_above, own): (Vec<_>, Vec<_>) =
            differences.into_iter().partition(|difference| inherited(difference.kind));
        cause.follows = own.is_empty() && !from_above.is_empty();
        let all = if own.is_empty() { from_above } else { own };
        cause.why = all.iter().map(ToString::to_string).collect();
        if cause.why.is_empty() {
            cause.why.push("it moved".to_owned());
        }
        cause
    }
}
