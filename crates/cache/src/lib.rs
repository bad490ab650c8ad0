//! Ingredients, keys, strategies, explanations and eviction policies. Pure: no file, clock or
//! database is touched here, and nothing here runs a step.
//!
//! A [`Strategy`] names the [`Ingredient`]s of a step; [`key_of`] feeds one walk over them to the
//! hasher and to the list that [`explain`] compares later, so what is explained cannot drift from
//! what is hashed. A [`Policy`] says which results are worth their bytes.

mod eviction;
mod explain;
mod ingredient;
mod inputs;
mod key;
mod strategies;
mod strategy;
#[cfg(test)]
mod tests;
mod words;

pub use eviction::{EntryStats, NoSuchPolicy, Policy, default_policy, policies, policy, victims};
pub use explain::{Change, Difference, TextWords, explain, similarity, similarity_beside, text_similarity};
pub use ingredient::{Ingredient, IngredientKind, IngredientList, Sink};
pub use inputs::{Inputs, SelectedPath, SelectedPaths, depends_on_parent, is_external};
pub use key::{
    base_output, definition, key_of, key_of_ingredients, output_after, scratch_output, standing_key,
    step_key, trace_key,
};
pub use strategies::changed_sources;
pub use strategy::{DEFAULT_STRATEGY, NoSuchStrategy, Strategy, UnknownInput, strategies, strategy};
pub use words::execution_version;
