//! What a replay gives.

use serde::Serialize;

/// A history under strategies, policies and sizes.
#[derive(Clone, Debug, Serialize)]
pub struct Replay {
    /// The repository, as it was named.
    pub repository: String,
    /// Whether steps were executed; else they were simulated.
    pub executed: bool,
    /// The commits, the oldest first, those that were skipped included.
    pub commits: Vec<CommitResult>,
    /// One for each strategy, policy and size.
    pub rows: Vec<Row>,
    /// What there is to know about the history.
    pub notes: Vec<String>,
}

/// A commit of the history.
#[derive(Clone, Debug, Serialize)]
pub struct CommitResult {
    /// Its id in full.
    pub id: String,
    /// The first line of its message.
    pub subject: String,
    /// It has more than one parent.
    pub merge: bool,
    /// Why it was not replayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// What each strategy makes of it, with no limit to the cache.
    pub rebuilt: Vec<Rebuilt>,
}

/// What a strategy rebuilds at a commit when nothing is ever evicted.
#[derive(Clone, Debug, Serialize)]
pub struct Rebuilt {
    /// The strategy.
    pub strategy: &'static str,
    /// The steps that run, in their order.
    pub steps: Vec<Cause>,
}

/// A step that runs, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// Its stage.
    pub stage: String,
    /// The instruction.
    pub step: String,
    /// What it takes, in milliseconds.
    pub ms: u64,
    /// What differs from the commit before, in words.
    pub why: Vec<String>,
    /// Nothing of its own: it runs because a step that it is built on did.
    pub follows: bool,
}

/// What came of a history in one cache.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The strategy.
    pub strategy: &'static str,
    /// A policy, `belady`, `bound`, or `unlimited`.
    pub policy: &'static str,
    /// The most bytes that are kept; `None`: no limit.
    pub size: Option<u64>,
    /// Steps that were found.
    pub hits: u64,
    /// Steps that ran.
    pub misses: u64,
    /// Of those, the ones that had run before and were evicted. Not known of a bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub again: Option<u64>,
    /// Hits of all look-ups, from 0 to 1.
    pub hit_rate: f64,
    /// What the steps that ran took, one after the other.
    pub rebuilt_ms: u64,
    /// Bytes kept after the last commit. Not known of a bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored: Option<u64>,
    /// The most bytes kept after any commit. Not known of a bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak: Option<u64>,
    /// Results that were evicted. Not known of a bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evictions: Option<u64>,
}

/// The row of a cache without a limit.
pub const UNLIMITED: &str = "unlimited";
/// The row of Belady's rule.
pub const BELADY: &str = "belady";
/// The row of the true bound.
pub const BOUND: &str = "bound";

impl Replay {
    /// The commits that were replayed.
    pub fn replayed(&self) -> impl Iterator<Item = &CommitResult> {
        self.commits.iter().filter(|commit| commit.skipped.is_none())
    }

    /// The names of the strategies, in order.
    pub fn strategies(&self) -> Vec<&'static str> {
        self.in_order(|row| row.strategy)
    }

    /// The names of the policies, in order, with `belady` and `bound` and without `unlimited`.
    pub fn policies(&self) -> Vec<&'static str> {
        let mut all = self.in_order(|row| row.policy);
        all.retain(|policy| *policy != UNLIMITED);
        all
    }

    /// The sizes, in order; `None` is last.
    pub fn sizes(&self) -> Vec<Option<u64>> {
        self.in_order(|row| row.size)
    }

    /// A row.
    pub fn row(&self, strategy: &str, policy: &str, size: Option<u64>) -> Option<&Row> {
        let policy = if size.is_none() { UNLIMITED } else { policy };
        self.rows.iter().find(|row| row.strategy == strategy && row.policy == policy && row.size == size)
    }

    fn in_order<T: PartialEq>(&self, of: impl Fn(&Row) -> T) -> Vec<T> {
        let mut all = Vec::new();
        for row in &self.rows {
            let one = of(row);
            if !all.contains(&one) {
                all.push(one);
            }
        }
        all
    }
}
