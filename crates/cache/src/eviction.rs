//! Which results are worth their bytes: eviction policies as pure functions.

use crate::strategy::{did_you_mean, shortened};

/// What is known of one result that could be evicted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EntryStats {
    /// Bytes that it takes.
    pub size: u64,
    /// Milliseconds that it took to make.
    pub cost_ms: u64,
    /// How often it was used after it was made.
    pub hits: u64,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// When it was used last (or made), in milliseconds since 1970.
    pub last_used_ms: u64,
    /// The cache's clock when it was used last: the highest priority that was evicted until then.
    /// Policies that age use it; it starts at 0.
    pub clock: f64,
}

/// Ranks results. Those of the lowest priority go first.
pub trait Policy: Send + Sync {
    /// The word for `--policy`.
    fn name(&self) -> &'static str;

    /// The priority of a result: finite, and larger for what is more worth keeping.
    fn priority(&self, entry: &EntryStats) -> f64;
}

impl std::fmt::Debug for dyn Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Policy({})", self.name())
    }
}

/// A name that is no policy's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no eviction policy `{name}`{hint}: choose one of lru, lfu, gdsf")]
pub struct NoSuchPolicy {
    name: String,
    hint: String,
}

/// The policy that is used when none is named: the one that comes nearest to what is possible on
/// the histories of `fixtures/lab`. A test of the laboratory compares them;
/// `docs/guide/laboratory.md` shows the figures.
pub fn default_policy() -> &'static dyn Policy {
    &Gdsf
}

/// All policies.
pub fn policies() -> &'static [&'static dyn Policy] {
    &[&Lru, &Lfu, &Gdsf]
}

/// The policy of a name.
pub fn policy(name: &str) -> Result<&'static dyn Policy, NoSuchPolicy> {
    let found = policies().iter().copied().find(|policy| policy.name() == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = policies().iter().map(|policy| policy.name()).collect();
        NoSuchPolicy { name: shortened(name), hint: did_you_mean(name, &names) }
    })
}

/// The positions of the entries to evict, in order, until at least `excess` bytes are gone (or
/// nothing is left), and the cache's clock afterwards. Ties go by age, then by position.
pub fn victims(policy: &dyn Policy, entries: &[EntryStats], excess: u64, clock: f64) -> (Vec<usize>, f64) {
    let mut order: Vec<(f64, u64, usize)> = entries
        .iter()
        .enumerate()
        .map(|(index, entry)| (policy.priority(entry), entry.last_used_ms, index))
        .collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let (mut gone, mut clock, mut chosen) = (0_u64, clock, Vec::new());
    for (priority, _, index) in order {
        if gone >= excess {
            break;
        }
        gone = gone.saturating_add(entries[index].size);
        clock = clock.max(priority);
        chosen.push(index);
    }
    (chosen, clock)
}

/// Least recently used.
struct Lru;

impl Policy for Lru {
    fn name(&self) -> &'static str {
        "lru"
    }

    fn priority(&self, entry: &EntryStats) -> f64 {
        entry.last_used_ms as f64
    }
}

/// Least frequently used.
struct Lfu;

impl Policy for Lfu {
    fn name(&self) -> &'static str {
        "lfu"
    }

    fn priority(&self, entry: &EntryStats) -> f64 {
        entry.hits as f64
    }
}

/// Greedy-dual size frequency: milliseconds that it saves per kilobyte and use, aged by the clock.
struct Gdsf;

impl Policy for Gdsf {
    fn name(&self) -> &'static str {
        "gdsf"
    }

    fn priority(&self, entry: &EntryStats) -> f64 {
        let uses = entry.hits.saturating_add(1) as f64;
        let kilobytes = (entry.size.max(1) as f64) / 1024.0;
        // A result that took no measurable time still saves something.
        entry.clock + uses * entry.cost_ms.max(1) as f64 / kilobytes
    }
}

#[cfg(test)]
mod tests {
    use super::{EntryStats, policies, policy, victims};

    fn entry(size: u64, cost_ms: u64, hits: u64, last_used_ms: u64) -> EntryStats {
        EntryStats { size, cost_ms, hits, created_ms: 0, last_used_ms, clock: 0.0 }
    }

    fn order(name: &str, entries: &[EntryStats]) -> Vec<usize> {
        victims(policy(name).unwrap(), entries, u64::MAX, 0.0).0
    }

    #[test]
    fn each_policy_has_its_own_order() {
        // Old and costly; large and cheap; young, small, never used again.
        let entries =
            [entry(1 << 20, 60_000, 3, 10), entry(1 << 30, 1_000, 9, 20), entry(1 << 20, 1_000, 0, 30)];
        assert_eq!(order("lru", &entries), [0, 1, 2]);
        assert_eq!(order("lfu", &entries), [2, 0, 1]);
        assert_eq!(order("gdsf", &entries), [1, 2, 0]);
    }

    #[test]
    fn no_more_goes_than_must() {
        let entries = [entry(10, 1, 0, 1), entry(10, 1, 0, 2), entry(10, 1, 0, 3)];
        for policy in policies() {
            assert_eq!(victims(*policy, &entries, 0, 0.0).0, Vec::<usize>::new(), "{policy:?}");
            assert_eq!(victims(*policy, &entries, 11, 0.0).0, [0, 1], "{policy:?}");
        }
    }

    #[test]
    fn the_clock_ages_what_was_valuable_long_ago() {
        let lots = EntryStats { clock: 0.0, ..entry(1024, 50, 1, 1) };
        let now = EntryStats { clock: 200.0, ..entry(1024, 10, 0, 2) };
        let (chosen, clock) = victims(policy("gdsf").unwrap(), &[lots, now], 1, 200.0);
        assert_eq!((chosen, clock), (vec![0], 200.0));
        assert!(victims(policy("gdsf").unwrap(), &[now], 1, 200.0).1 > 200.0);
    }

    #[test]
    fn a_wrong_name_is_told() {
        assert_eq!(
            policy("lur").unwrap_err().to_string(),
            "there is no eviction policy `lur`: choose one of lru, lfu, gdsf"
        );
        assert!(policy("gdfs").is_err());
    }
}
