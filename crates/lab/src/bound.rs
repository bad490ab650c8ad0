//! What no policy can beat.
//!
//! Where all results have one size and one cost, Belady's rule (what is needed last goes first) is
//! the optimum. Here they differ, and then the optimum is NP-hard to find: choosing what to keep is
//! a knapsack at every commit. So the laboratory gives two figures. `belady` is the rule itself
//! ([`crate::caches::Keeper::Foresight`]): a cache that knows the future, which a real policy can
//! in odd cases even beat. `bound` is here: a true bound, which nothing beats and perhaps nothing
//! reaches.
//!
//! Between two uses of a result lies a *gap*: who keeps the result all through it saves its cost at
//! the second use. After every commit the gaps that are kept must fit into the cache. Lagrange's
//! relaxation puts a price on a byte after each commit instead; then every gap decides for itself,
//! and for any prices whatever
//!
//! ```text
//! saved ≤ size · Σ price + Σ over gaps of max(0, cost − bytes · Σ of the prices along the gap)
//! ```
//!
//! Some prices are searched that make the right side small. A gap whose result is larger than the
//! cache is never kept. Where two keys lead to one result, the gap is that between two uses of the
//! result by any key, which only loosens the bound.

use std::collections::BTreeMap;

use crate::trace::Trace;

/// What is best saved: milliseconds or misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Time,
    Hits,
}

/// A result that would have to be kept after these commits to save something.
#[derive(Clone, Copy, Debug)]
struct Gap {
    /// The commit after which it is kept first.
    from: usize,
    /// The commit before which it is needed.
    to: usize,
    bytes: f64,
    saves: f64,
}

/// Rounds of the search. More make the bound a little better.
const ROUNDS: usize = 150;

/// The most that a cache of this size can save. `reached` is what one is known to save: it guides
/// the search, and nothing else.
pub(crate) fn most_saved(trace: &Trace, size: u64, value: Value, reached: f64) -> f64 {
    let mut free = 0.0;
    let mut gaps = gaps(trace, value);
    gaps.retain(|gap| {
        if gap.bytes == 0.0 {
            free += gap.saves;
        }
        gap.bytes > 0.0 && gap.bytes <= size as f64
    });
    let times = trace.commits.len();
    let size = size as f64;
    let flat = |price: f64| {
        let gain = |gap: &Gap| (gap.saves - gap.bytes * price * (gap.to - gap.from) as f64).max(0.0);
        size * price * times as f64 + gaps.iter().map(gain).sum::<f64>()
    };
    let highest = gaps.iter().map(|gap| gap.saves / gap.bytes).fold(0.0, f64::max);
    let price = lowest(flat, highest);
    let mut prices = vec![price; times];
    let mut best = flat(price).min(flat(0.0));
    for _ in 0..ROUNDS {
        let (now, slopes) = dual(&gaps, size, &prices);
        best = best.min(now);
        let steepness: f64 = slopes.iter().map(|slope| slope * slope).sum();
        let above = now - (reached - free);
        if steepness <= 0.0 || above <= 0.0 {
            break;
        }
        // Polyak's step. What was reached lies below the optimum, so half of it is taken.
        let step = 0.5 * above / steepness;
        for (price, slope) in prices.iter_mut().zip(&slopes) {
            *price = (*price - step * slope).max(0.0);
        }
    }
    best + free
}

/// The right side for these prices, and how it changes with each.
fn dual(gaps: &[Gap], size: f64, prices: &[f64]) -> (f64, Vec<f64>) {
    let mut sums = Vec::with_capacity(prices.len() + 1);
    sums.push(0.0);
    for price in prices {
        sums.push(sums[sums.len() - 1] + price);
    }
    let mut kept = vec![0.0; prices.len() + 1];
    let mut total = size * sums[prices.len()];
    for gap in gaps {
        let gain = gap.saves - gap.bytes * (sums[gap.to] - sums[gap.from]);
        if gain > 0.0 {
            total += gain;
            kept[gap.from] += gap.bytes;
            kept[gap.to] -= gap.bytes;
        }
    }
    let mut held = 0.0;
    let slopes = kept[..prices.len()].iter().map(|change| {
        held += change;
        size - held
    });
    (total, slopes.collect())
}

/// Where a convex function is lowest between 0 and `highest`, nearly.
fn lowest(of: impl Fn(f64) -> f64, highest: f64) -> f64 {
    let (mut low, mut high) = (0.0, highest);
    for _ in 0..60 {
        let third = (high - low) / 3.0;
        if of(low + third) <= of(high - third) {
            high -= third;
        } else {
            low += third;
        }
    }
    (low + high) / 2.0
}

fn gaps(trace: &Trace, value: Value) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let mut used_at: Vec<Option<usize>> = vec![None; trace.sizes.len()];
    let mut is_known = vec![false; trace.keys];
    for (commit, uses) in trace.commits.iter().enumerate() {
        // Several keys of one commit can lead to one result, whose bytes are kept once.
        let mut saved: BTreeMap<usize, f64> = BTreeMap::new();
        for one in uses {
            if is_known[one.key] {
                *saved.entry(one.object).or_default() += match value {
                    Value::Time => one.cost_ms as f64,
                    Value::Hits => 1.0,
                };
            }
            is_known[one.key] = true;
        }
        for (object, saves) in saved {
            let from = used_at[object].unwrap_or(commit);
            gaps.push(Gap { from, to: commit, bytes: trace.sizes[object] as f64, saves });
        }
        uses.iter().for_each(|one| used_at[one.object] = Some(commit));
    }
    gaps
}
