//! Why a step has no result in the cache: the nearest earlier record of it, and what differs.

use std::collections::HashSet;

use dbuild_cache::{Difference, Ingredient, Strategy, definition, explain};
use dbuild_digest::StepKey;
use dbuild_plan::{Plan, Step};
use dbuild_store::{Store, Wanted};

use crate::worker::now_ms;

/// What distinguishes a step from its nearest earlier record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons {
    /// When the earlier record was made, in milliseconds since 1970. `None`: there is none that is alike.
    pub earlier_ms: Option<u64>,
    /// What differs from it, in the order in which a reader wants it.
    pub differences: Vec<Difference>,
}

/// Finds the earlier records of a plan's steps.
#[derive(Debug)]
pub struct Explainer {
    strategy: &'static str,
    /// The words of the steps.
    definitions: HashSet<StepKey>,
    before_ms: u64,
}

impl Explainer {
    /// For the steps of this plan, as a build sees them that begins now.
    pub fn new(strategy: &dyn Strategy, plan: &Plan) -> Self {
        let definitions = plan.steps().map(|(_, step)| definition(step)).collect();
        Self { strategy: strategy.name(), definitions, before_ms: now_ms() }
    }

    /// What distinguishes a step from the record that a reader would compare it with.
    pub fn reasons(&self, store: &Store, step: &Step, key: &StepKey, ingredients: &[Ingredient]) -> Reasons {
        let wanted = Wanted {
            strategy: self.strategy,
            key: Some(key),
            definition: &definition(step),
            text: &step.text,
            ingredients,
            before_ms: Some(self.before_ms),
            others: &self.definitions,
        };
        match store.nearest_record(&wanted) {
            Some(nearest) => Reasons {
                earlier_ms: Some(nearest.record.created_ms),
                differences: explain(&nearest.ingredients, ingredients),
            },
            None => Reasons::default(),
        }
    }
}

/// What is said of a step that may not take a result from the cache.
pub const NOT_ALLOWED: &str = "the cache may not be used for it (--no-cache)";

impl Reasons {
    /// One line for each of the first `most` differences, and one for the rest.
    pub fn words(&self, most: usize) -> Vec<String> {
        if self.earlier_ms.is_none() {
            return vec!["nothing like it was built here before".to_owned()];
        }
        if self.differences.is_empty() {
            return vec!["its result was made by another version of dbuild".to_owned()];
        }
        let mut words: Vec<String> = self.differences.iter().take(most).map(ToString::to_string).collect();
        let rest = self.differences.len() - words.len();
        if rest > 0 {
            words.push(format!("and {rest} more"));
        }
        words
    }
}
