//! Policies, Belady's rule and the bound, against histories whose optimum is known: worked out by
//! hand, or by trying all.

use dbuild_cache::{policies, policy};
use proptest::prelude::*;

use crate::bound::{Value, most_saved};
use crate::caches::{Figures, Keeper, replay};
use crate::trace::{Trace, Use};

/// A trace in which every key has one result. `sizes` and costs are by key.
fn trace(commits: &[&[usize]], sizes: &[u64], costs: &[u64]) -> Trace {
    let used = |key: &usize| Use { key: *key, object: *key, cost_ms: costs[*key] };
    Trace {
        commits: commits.iter().map(|commit| commit.iter().map(used).collect()).collect(),
        sizes: sizes.to_vec(),
        keys: costs.len(),
    }
}

fn bound(trace: &Trace, size: u64, value: Value) -> f64 {
    most_saved(trace, size, value, 0.0)
}

fn saved(trace: &Trace, figures: Figures) -> u64 {
    trace.commits.iter().flatten().map(|one| one.cost_ms).sum::<u64>() - figures.rebuilt_ms
}

/// The most that can be saved, by trying everything that can be kept after each commit.
fn optimum(trace: &Trace, size: u64, commit: usize, kept: u32) -> u64 {
    let Some(uses) = trace.commits.get(commit) else { return 0 };
    let now: u64 = uses.iter().filter(|one| kept & 1 << one.object != 0).map(|one| one.cost_ms).sum();
    let there = uses.iter().fold(kept, |there, one| there | 1 << one.object);
    let fits = |set: u32| {
        let bytes = |object: usize| if set & 1 << object != 0 { trace.sizes[object] } else { 0 };
        (0..trace.sizes.len()).map(bytes).sum::<u64>() <= size
    };
    let subsets = (0..1 << trace.sizes.len()).filter(|set| set & !there == 0 && fits(*set));
    now + subsets.map(|set| optimum(trace, size, commit + 1, set)).max().unwrap_or(0)
}

#[test]
fn of_equal_results_beladys_rule_is_the_optimum() {
    // Three results of one size and cost, room for two: 0 1 2 0 1 2 0. The rule keeps 0 and 1 after
    // 2 came (saves 0, 1), then 0 is kept and 1 goes for 2... by hand: hits at the second 0, the
    // second 1, and the third 0.
    let trace = trace(&[&[0], &[1], &[2], &[0], &[1], &[2], &[0]], &[1, 1, 1], &[10, 10, 10]);
    let belady = replay(&trace, Keeper::Foresight, Some(2));
    assert_eq!((belady.hits, saved(&trace, belady)), (3, 30));
    assert_eq!(optimum(&trace, 2, 0, 0), 30);
    assert!((30.0..30.9).contains(&bound(&trace, 2, Value::Time)), "{}", bound(&trace, 2, Value::Time));
    // Least recently used throws away what is needed next, each time.
    assert_eq!(replay(&trace, Keeper::By(policy("lru").unwrap()), Some(2)).hits, 0);
}

#[test]
fn of_unequal_results_it_is_not() {
    // A cheap one is needed soon, a dear one later, and there is room for one: the rule keeps the
    // cheap one.
    let trace = trace(&[&[0, 1], &[0], &[1]], &[1, 1], &[1, 100]);
    let belady = replay(&trace, Keeper::Foresight, Some(1));
    assert_eq!(saved(&trace, belady), 1);
    assert_eq!(saved(&trace, replay(&trace, Keeper::By(policy("gdsf").unwrap()), Some(1))), 100);
    assert_eq!(optimum(&trace, 1, 0, 0), 100);
    assert!((100.0..101.0).contains(&bound(&trace, 1, Value::Time)), "{}", bound(&trace, 1, Value::Time));
}

#[test]
fn a_result_that_two_keys_lead_to_is_kept_once() {
    let one = |key| Use { key, object: 0, cost_ms: 5 };
    let trace = Trace { commits: vec![vec![one(0), one(1)], vec![one(0), one(1)]], sizes: vec![10], keys: 2 };
    let figures = replay(&trace, Keeper::All, None);
    assert_eq!((figures.hits, figures.misses, figures.stored), (2, 2, 10));
    assert_eq!(bound(&trace, 10, Value::Time), 10.0);
    assert_eq!(bound(&trace, 9, Value::Time), 0.0);
    // When it goes, both keys lead nowhere, although the first makes it anew.
    let gone = replay(&trace, Keeper::By(policy("lru").unwrap()), Some(9));
    assert_eq!((gone.hits, gone.misses, gone.again, gone.evictions, gone.stored), (0, 4, 2, 2, 0));
}

#[test]
fn what_a_commit_uses_is_kept_until_it_is_built() {
    // Both are larger than the cache together; each is found within its commit, and one of them
    // goes after it.
    let trace = trace(&[&[0, 1], &[0, 1]], &[6, 6], &[1, 1]);
    let lru = replay(&trace, Keeper::By(policy("lru").unwrap()), Some(6));
    assert_eq!((lru.hits, lru.misses, lru.again, lru.stored, lru.peak, lru.evictions), (1, 3, 1, 6, 6, 2));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn nothing_beats_the_bound(
        commits in prop::collection::vec(prop::collection::vec(0_usize..4, 1..4), 1..6),
        sizes in prop::collection::vec(0_u64..5, 4),
        costs in prop::collection::vec(0_u64..50, 4),
        size in 0_u64..10,
    ) {
        let commits: Vec<Vec<usize>> = commits.into_iter().map(|mut commit| { commit.sort_unstable(); commit.dedup(); commit }).collect();
        let commits: Vec<&[usize]> = commits.iter().map(Vec::as_slice).collect();
        let trace = trace(&commits, &sizes, &costs);
        let best = optimum(&trace, size, 0, 0);
        let bound = bound(&trace, size, Value::Time);
        prop_assert!(best as f64 <= bound + 1e-6, "{best} > {bound}");
        for policy in policies() {
            let figures = replay(&trace, Keeper::By(*policy), Some(size));
            prop_assert!(saved(&trace, figures) <= best, "{policy:?}");
            prop_assert!(figures.stored <= size && figures.peak <= size);
        }
        prop_assert!(saved(&trace, replay(&trace, Keeper::Foresight, Some(size))) <= best);
        let unlimited = replay(&trace, Keeper::All, None);
        prop_assert!(best <= saved(&trace, unlimited));
    }
}
