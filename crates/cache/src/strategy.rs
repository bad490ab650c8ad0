//! The trait of cache strategies, and how one is found by its name.

use dbuild_plan::{Step, StepId};

use crate::strategies::{BUILT_IN, OPT_IN};
use crate::{Inputs, Sink};

/// Decides what identifies a step.
///
/// A strategy gets a step and its inputs' identities and names the ingredients of the key. It never
/// sees files, clocks or the store. What it must keep:
///
/// - two steps that could give different results (times aside) differ in an ingredient;
/// - the walk is a function of its arguments: the same ones give the same ingredients in the same
///   order;
/// - [`Strategy::version`] grows whenever the walk changes.
///
/// What a command really read is no ingredient: a key must be there before it runs. A strategy can
/// ask for it beside the key ([`Strategy::is_traced`]).
pub trait Strategy: Send + Sync {
    /// The word for `--strategy`.
    fn name(&self) -> &'static str;

    /// The version of the walk; part of every key.
    fn version(&self) -> u32;

    /// Walks the step's ingredients. Stops at the first input that is not known.
    fn ingredients(&self, step: &Step, inputs: &dyn Inputs, sink: &mut dyn Sink) -> Result<(), UnknownInput>;

    /// Whether what a RUN reads is recorded, and a RUN whose key is not known may have the result
    /// of an earlier one that would read the same.
    fn is_traced(&self) -> bool {
        false
    }
}

impl std::fmt::Debug for dyn Strategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Strategy({})", self.name())
    }
}

/// The key depends on something that is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it depends on what step {} will give", input.0)]
pub struct UnknownInput {
    /// The input that must be done first.
    pub input: StepId,
}

/// A name that is no strategy's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no cache strategy `{name}`{hint}: choose one of {known}")]
pub struct NoSuchStrategy {
    name: String,
    hint: String,
    known: String,
}

/// The strategy that is used when none is named.
pub const DEFAULT_STRATEGY: &str = "output";

/// The strategies that a build can be simulated with, since they ask for nothing but inputs; the
/// default is the last. Beside them `traced` is known by its name. A new one is a file in `strategies/` and two lines in
/// `strategies/mod.rs`.
pub fn strategies() -> &'static [&'static dyn Strategy] {
    BUILT_IN
}

/// The strategy of a name.
pub fn strategy(name: &str) -> Result<&'static dyn Strategy, NoSuchStrategy> {
    let all = || strategies().iter().chain(OPT_IN).copied();
    all().find(|strategy| strategy.name() == name).ok_or_else(|| {
        let names: Vec<&str> = all().map(|strategy| strategy.name()).collect();
        NoSuchStrategy { name: shortened(name), hint: did_you_mean(name, &names), known: names.join(", ") }
    })
}

/// ` (did you mean `x`?)` where a known name is near, else nothing.
pub(crate) fn did_you_mean(name: &str, known: &[&str]) -> String {
    if name.len() > 64 {
        return String::new();
    }
    let name = name.to_ascii_lowercase();
    let nearest = known.iter().map(|known| (edits(&name, known), *known)).min();
    match nearest {
        Some((distance, known))
            if distance <= 1 + known.len() / 4 || (name.len() > 2 && known.starts_with(&name)) =>
        {
            format!(" (did you mean `{known}`?)")
        }
        _ => String::new(),
    }
}

pub(crate) fn shortened(name: &str) -> String {
    name.chars().take(64).collect()
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
