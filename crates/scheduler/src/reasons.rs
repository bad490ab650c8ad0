//! Why a step has no result in the cache: the nearest earlier record of it, and what differs.

use dbuild_cache::{Difference, Ingredient, Strategy, definition, explain};
use dbuild_digest::StepKey;
use dbuild_plan::Step;
use dbuild_store::{Store, Wanted};

/// What distinguishes a step from its nearest earlier record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons {
    /// When the earlier record was made, in milliseconds since 1970. `None`: there is none that is alike.
    pub earlier_ms: Option<u64>,
    /// What differs from it, in the order in which a reader wants it.
    pub differences: Vec<Difference>,
}

/// Finds the earlier record of a step that a reader would compare it with.
pub fn reasons(
    store: &Store,
    strategy: &dyn Strategy,
    step: &Step,
    key: &StepKey,
    ingredients: &[Ingredient],
) -> Reasons {
    let wanted = Wanted {
        strategy: strategy.name(),
        key: Some(key),
        definition: &definition(step),
        text: &step.text,
        ingredients,
        before_ms: None,
    };
    match store.nearest_record(&wanted) {
        Some(nearest) => Reasons {
            earlier_ms: Some(nearest.record.created_ms),
            differences: explain(&nearest.ingredients, ingredients),
        },
        None => Reasons::default(),
    }
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
        let mut words: Vec<String> = self.differences.iter().take(most).map(ToString::to_string).collect();
        let rest = self.differences.len() - words.len();
        if rest > 0 {
            words.push(format!("and {rest} more"));
        }
        words
    }
}
