//! What an input that differs goes back to: through steps that were cached, with results that
//! differ from those that the earlier version of a step stood on.
//!
//! A step that runs is explained by itself. A step that is cached is not, though it can be the
//! reason why the next one runs: somebody took an edit back, or another branch was built in
//! between. Both results are known, then: the one that the build uses by its key, and the one that
//! the earlier version stood on by the origins that its record keeps ([`dbuild_events::Origin`]).
//! Their ingredients are compared, and so on down to what comes from outside. A record that is gone
//! ends the way, and nothing is guessed.

use std::collections::{HashMap, HashSet, VecDeque};

use dbuild_cache::{
    Ingredient, IngredientKind, changed_sources, definition, depends_on_parent, explain, is_external,
    text_similarity,
};
use dbuild_digest::{StepKey, TreeDigest};
use dbuild_events::{ImageChange, ImageId, InputCause, InputChange, Origin};
use dbuild_plan::{Plan, Step, StepId, StepKind};
use dbuild_store::{Record, Store};

/// What becomes of a step, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub struct StepOutcome {
    /// Its key.
    pub key: StepKey,
    /// What it contains.
    pub output: Option<TreeDigest>,
    /// It is executed.
    pub runs: bool,
}

/// Outcomes by step; `None`: nothing is known yet.
pub type StepOutcomes<'a> = &'a dyn Fn(StepId) -> Option<StepOutcome>;

/// Maximum number of differences of a cached step that are reported.
const MOST_DIFFERENCES: usize = 20;
/// Maximum number of Dockerfile lines that are searched for the one that stood below a deleted
/// line.
const MOST_DELETED: usize = 32;
/// Maximum number of `COPY --link` below each other that are remembered.
const MOST_LINKED: usize = 16;
/// Texts that share fewer words, in thousandths, are not one instruction before and after an edit.
const LEAST_SIMILARITY: u32 = 500;

/// Where the inputs of a step come from, for its record.
pub(crate) fn origins(plan: &Plan, step: &Step, outcomes: StepOutcomes<'_>) -> Vec<Origin> {
    let inputs = step.parent().into_iter().chain(step.sources());
    inputs.map(|input| origin(plan, input, outcomes, MOST_LINKED)).collect::<Option<_>>().unwrap_or_default()
}

fn origin(plan: &Plan, id: StepId, outcomes: StepOutcomes<'_>, most: usize) -> Option<Origin> {
    let step = plan.step(id);
    Some(match &step.kind {
        StepKind::Scratch => Origin::Scratch,
        StepKind::Image(image) => Origin::Image(image_id(&image.image)),
        kind if is_external(kind) => Origin::Outside,
        StepKind::Copy(copy) if !depends_on_parent(copy) && most > 0 => Origin::Linked {
            key: outcomes(id)?.key,
            below: Box::new(origin(plan, copy.parent, outcomes, most - 1)?),
        },
        _ => Origin::Step(outcomes(id)?.key),
    })
}

fn image_id(image: &dbuild_plan::BaseImage) -> ImageId {
    ImageId { reference: image.reference.clone(), digest: image.digest }
}

/// A step that is compared with its earlier version.
#[derive(Clone, Copy)]
pub(crate) struct Comparison<'a> {
    pub(crate) id: StepId,
    pub(crate) step: &'a Step,
    pub(crate) record: &'a Record,
    pub(crate) before: &'a [Ingredient],
    pub(crate) after: &'a [Ingredient],
}

/// Looks for the inputs of one step that differ.
pub(crate) struct Lineage<'a> {
    pub(crate) store: &'a Store,
    pub(crate) plan: &'a Plan,
    pub(crate) outcomes: StepOutcomes<'a>,
    /// The words of the plan's steps.
    pub(crate) definitions: &'a HashSet<StepKey>,
}

/// An input that is to be compared, and of which step it is one.
struct PendingInput {
    of: StepId,
    id: StepId,
    before: Option<Origin>,
}

impl Lineage<'_> {
    /// The inputs that differ from those of the earlier version, and theirs where they were cached.
    /// Each step is looked into once.
    pub(crate) fn changes(&self, compared: &Comparison<'_>) -> Vec<InputChange> {
        let mut waiting: VecDeque<PendingInput> = self.changed_inputs(compared).into();
        let mut met: HashMap<StepId, InputCause> = HashMap::new();
        let mut changes = Vec::new();
        while let Some(PendingInput { of, id, before }) = waiting.pop_front() {
            let cause = match met.get(&id) {
                Some(cause) => cause.clone(),
                None => {
                    let (cause, next) = self.cause(id, before.as_ref());
                    waiting.extend(next);
                    met.insert(id, cause.clone());
                    cause
                }
            };
            changes.push(InputChange { of: of.0, step: id.0, cause });
        }
        changes
    }

    /// The inputs of a step whose part of its key differs.
    fn changed_inputs(&self, compared: &Comparison<'_>) -> Vec<PendingInput> {
        let Comparison { id: of, step, record, before, after } = *compared;
        let parent_of = |list: &[Ingredient]| {
            list.iter().find(|one| one.kind == IngredientKind::Parent).map(|one| one.value.clone())
        };
        let mut others = Vec::new();
        let (below, now) = (parent_of(before), parent_of(after));
        // With `--link`, or without it any more, the parent counts otherwise; which one it is has
        // nothing to do with that.
        let is_other = below.is_some() && now.is_some() && below != now;
        if let Some(id) = step.parent().filter(|_| is_other) {
            others.push(PendingInput { of, id, before: record.inputs.first().cloned() });
        }
        let sources = step.sources();
        let has_same_sources = record.inputs.len() == sources.len() + 1;
        for index in changed_sources(step, before, after) {
            let (id, before) = (sources[index], record.inputs.get(index + 1).filter(|_| has_same_sources));
            if others.iter().all(|other: &PendingInput| other.id != id) {
                others.push(PendingInput { of, id, before: before.cloned() });
            }
        }
        others
    }

    /// Why an input differs, and its own inputs that must be looked at.
    fn cause(&self, id: StepId, before: Option<&Origin>) -> (InputCause, Vec<PendingInput>) {
        let step = self.plan.step(id);
        let alone = |cause| (cause, Vec::new());
        let replaced = |before: &str| alone(InputCause::Replaced { before: before.to_owned() });
        match (&step.kind, before) {
            (kind, None | Some(Origin::Outside)) if is_external(kind) => alone(InputCause::Outside),
            (_, None) => alone(self.ran_or_forgotten(id)),
            (_, Some(Origin::Outside)) => replaced("files from outside of the build"),
            (_, Some(Origin::Scratch)) => replaced("FROM scratch"),
            (StepKind::Image(image), Some(Origin::Image(before))) => {
                let change = ImageChange { before: before.clone(), after: image_id(&image.image) };
                alone(InputCause::Image(change))
            }
            (_, Some(Origin::Image(before))) => replaced(&format!("FROM {}", before.reference)),
            (_, Some(Origin::Step(key))) => self.cause_of_step(id, step, key, None),
            (_, Some(Origin::Linked { key, below })) => self.cause_of_step(id, step, key, Some(below)),
        }
    }

    fn cause_of_step(
        &self,
        id: StepId,
        step: &Step,
        key: &StepKey,
        below: Option<&Origin>,
    ) -> (InputCause, Vec<PendingInput>) {
        let Some(record) = self.store.record_kept(key) else {
            return (self.ran_or_forgotten(id), Vec::new());
        };
        if !self.is_version(id, step, &record) {
            return (InputCause::Replaced { before: record.text }, Vec::new());
        }
        let Some(outcome) = (self.outcomes)(id).filter(|outcome| !outcome.runs) else {
            return (InputCause::Ran, Vec::new());
        };
        let lists = (self.store.ingredients(key), self.store.ingredients(&outcome.key));
        let (Some(before), Some(after)) = lists else { return (InputCause::Forgotten, Vec::new()) };
        let compared = Comparison { id, step, record: &record, before: &before, after: &after };
        let mut next = self.changed_inputs(&compared);
        if let (Some(parent), Some(below)) = (step.parent(), below)
            && next.iter().all(|other| other.id != parent)
            && self.is_other(parent, below)
        {
            next.push(PendingInput { of: id, id: parent, before: Some(below.clone()) });
        }
        let mut differences = explain(&before, &after);
        differences.truncate(MOST_DIFFERENCES);
        (InputCause::Cached { differences }, next)
    }

    fn ran_or_forgotten(&self, id: StepId) -> InputCause {
        let known = (self.outcomes)(id).filter(|outcome| !outcome.runs);
        if known.is_some() { InputCause::Forgotten } else { InputCause::Ran }
    }

    /// Whether a record is an earlier result of this step, and not of one that was moved, added or
    /// deleted.
    fn is_version(&self, id: StepId, step: &Step, record: &Record) -> bool {
        let definition = definition(step);
        if record.definition == definition {
            return true;
        }
        let word = |text: &str| text.split_whitespace().next().map(str::to_owned);
        let is_alike = word(&record.text) == word(&step.text)
            && text_similarity(&record.text, &step.text) >= LEAST_SIMILARITY;
        let is_moved = self.definitions.contains(&record.definition);
        // The same text with other words behind it (an argument, a here-document) is no line that
        // was deleted.
        is_alike && !is_moved && (record.text == step.text || !self.stood_on(id, record))
    }

    /// Whether a record was made on what a step gives now: lines between them were deleted.
    fn stood_on(&self, id: StepId, record: &Record) -> bool {
        let Some(StepOutcome { key, .. }) = (self.outcomes)(id) else { return false };
        let mut below = record.inputs.first().cloned();
        for _ in 0..MOST_DELETED {
            let (Some(Origin::Step(next)) | Some(Origin::Linked { key: next, .. })) = below else {
                return false;
            };
            if next == key {
                return true;
            }
            below = self.store.record_kept(&next).and_then(|record| record.inputs.first().cloned());
        }
        false
    }

    /// Whether what is below a `COPY --link` contains something else than before.
    fn is_other(&self, id: StepId, before: &Origin) -> bool {
        match (before, &self.plan.step(id).kind) {
            (Origin::Scratch, kind) => !matches!(kind, StepKind::Scratch),
            (Origin::Image(before), StepKind::Image(image)) => *before != image_id(&image.image),
            (Origin::Image(_) | Origin::Outside, _) => true,
            (Origin::Linked { key, below }, _) => {
                (self.outcomes)(id).is_none_or(|outcome| outcome.key != *key)
                    || self.plan.step(id).parent().is_none_or(|parent| self.is_other(parent, below))
            }
            (Origin::Step(key), _) => (self.outcomes)(id).is_none_or(|outcome| {
                let output = || self.store.record_kept(key).map(|record| record.output);
                outcome.key != *key && (outcome.output.is_none() || outcome.output != output())
            }),
        }
    }
}
