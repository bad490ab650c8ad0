//! Why a step has no result in the cache: the nearest earlier record of it, and what differs.

use std::collections::HashSet;
use std::sync::OnceLock;

use dbuild_cache::{Difference, IngredientKind, IngredientList, Strategy, definition, explain};
use dbuild_digest::StepKey;
use dbuild_events::{InputCause, InputChange};
use dbuild_plan::{Plan, Step, StepId};
use dbuild_store::{EarlierRecords, RecordQuery, Store};
use dbuild_support::time::now_ms;

use crate::cache::lineage::{Comparison, Lineage, StepOutcomes};

/// What distinguishes a step from its nearest earlier record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons {
    /// When the earlier record was made, in milliseconds since 1970. `None`: there is none that is
    /// alike.
    pub earlier_ms: Option<u64>,
    /// What differs from it, in the order in which a reader wants it.
    pub differences: Vec<Difference>,
    /// The inputs that differ, and what that goes back to. Those that are `of` the step itself come
    /// first.
    pub inputs: Vec<InputChange>,
}

/// A step that has no result in the cache.
#[derive(Clone, Copy, Debug)]
pub struct CacheMiss<'a> {
    /// The step's number.
    pub id: StepId,
    /// The step.
    pub step: &'a Step,
    /// Its key.
    pub key: &'a StepKey,
    /// What the key was made of.
    pub ingredients: &'a dyn IngredientList,
}

/// Finds the earlier records of a plan's steps.
#[derive(Debug)]
pub struct Explainer {
    strategy: &'static str,
    /// The words of the steps.
    definitions: HashSet<StepKey>,
    before_ms: u64,
    /// Read when the first step asks: a build that finds everything in the cache reads none.
    earlier: OnceLock<EarlierRecords>,
}

impl Explainer {
    /// For the steps of this plan, as a build sees them that begins now.
    pub fn new(strategy: &dyn Strategy, plan: &Plan) -> Self {
        let definitions = plan.steps().map(|(_, step)| definition(step)).collect();
        Self { strategy: strategy.name(), definitions, before_ms: now_ms(), earlier: OnceLock::new() }
    }

    /// What distinguishes a step from the record that a reader would compare it with. `plan` is the
    /// one of [`Explainer::new`].
    pub fn reasons(
        &self,
        store: &Store,
        plan: &Plan,
        missed: &CacheMiss<'_>,
        outcomes: StepOutcomes<'_>,
    ) -> Reasons {
        let CacheMiss { id, step, key, ingredients } = *missed;
        let earlier = self.earlier.get_or_init(|| store.earlier_records(self.strategy, self.before_ms));
        let wanted = RecordQuery {
            key: Some(key),
            definition: &definition(step),
            text: &step.text,
            stage: &plan.stage(step.stage).name,
            ingredients,
            others: &self.definitions,
        };
        let Some(nearest) = store.nearest_record(earlier, &wanted) else { return Reasons::default() };
        let (record, before, after) = (&nearest.record, &nearest.ingredients, &nearest.others);
        let lineage = Lineage { store, plan, outcomes, definitions: &self.definitions };
        Reasons {
            earlier_ms: Some(record.created_ms),
            differences: explain(before, after),
            inputs: lineage.changes(&Comparison { id, step, record, before, after }),
        }
    }
}

/// Why a step runs whose record is outdated; `input` is the text of the step that has another
/// result.
pub fn outdated_words(input: &str) -> String {
    format!("its cached result was made from an earlier result of {input}")
}

impl Reasons {
    /// One line for each of the first `most` differences, and one for the rest.
    pub fn words(&self, most: usize) -> Vec<String> {
        if self.earlier_ms.is_none() {
            return vec!["nothing like it was built here before".to_owned()];
        }
        if self.differences.is_empty() {
            return vec!["its result was made by another version of dbuild".to_owned()];
        }
        let mut words: Vec<String> =
            self.differences.iter().take(most).map(|difference| self.word(difference)).collect();
        let rest = self.differences.len() - words.len();
        if rest > 0 {
            words.push(format!("and {rest} more"));
        }
        words
    }

    /// A difference in words: a parent by what it was, where that is known.
    fn word(&self, difference: &Difference) -> String {
        let parent = self.inputs.first().filter(|_| difference.kind == IngredientKind::Parent);
        match parent.map(|parent| &parent.cause) {
            Some(InputCause::Image(change)) => change.to_string(),
            Some(InputCause::Replaced { before }) => format!("what it stands on, which was {before}"),
            _ => difference.to_string(),
        }
    }
}
