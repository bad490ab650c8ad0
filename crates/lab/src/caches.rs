//! Virtual caches: a trace, a policy and a size, and what comes of them.
//!
//! The model is dbuild's store. Every step of a commit is looked up by its key. What a commit uses
//! is leased, so nothing goes while it is built; after it, results go until the size is kept. A
//! result that goes takes all keys with it that lead to it. The bytes of base images, contexts and
//! packed layers are not counted.

use dbuild_cache::{EntryStats, Policy, victims};

use crate::trace::Trace;

/// What decides what goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keeper {
    /// Nothing goes.
    All,
    /// A policy.
    By(&'static dyn Policy),
    /// Belady's rule: what is needed last, or never, goes first.
    Foresight,
}

/// What came of a trace in one cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    /// Misses of keys that were known once, and went.
    pub(crate) again: u64,
    pub(crate) rebuilt_ms: u64,
    /// After the last commit.
    pub(crate) stored: u64,
    /// The most after any commit.
    pub(crate) peak: u64,
    pub(crate) evictions: u64,
}

struct Cache<'a> {
    trace: &'a Trace,
    keeper: Keeper,
    size: Option<u64>,
    /// What is there, by object.
    present: Vec<Option<EntryStats>>,
    /// How often each object has come. A key leads to it only since it was recorded.
    comings: Vec<u32>,
    /// By key: the coming of its object that it leads to.
    leads_to: Vec<u32>,
    /// By object: the commits that use it, the last first. Only foresight looks.
    uses: Vec<Vec<usize>>,
    stored: u64,
    clock: f64,
    figures: Figures,
}

/// Replays a trace in a cache of this size (`None`: no limit).
pub(crate) fn replay(trace: &Trace, keeper: Keeper, size: Option<u64>) -> Figures {
    let objects = trace.sizes.len();
    let mut uses = vec![Vec::new(); if matches!(keeper, Keeper::Foresight) { objects } else { 0 }];
    if !uses.is_empty() {
        for (commit, asked) in trace.commits.iter().enumerate().rev() {
            asked.iter().for_each(|one| uses[one.object].push(commit));
        }
    }
    let mut cache = Cache {
        trace,
        keeper,
        size: size.filter(|_| !matches!(keeper, Keeper::All)),
        present: vec![None; objects],
        comings: vec![0; objects],
        leads_to: vec![0; trace.keys],
        uses,
        stored: 0,
        clock: 0.0,
        figures: Figures::default(),
    };
    for commit in 0..trace.commits.len() {
        cache.build(commit);
        cache.collect(commit);
    }
    cache.figures.stored = cache.stored;
    cache.figures
}

impl Cache<'_> {
    fn build(&mut self, commit: usize) {
        for (order, one) in self.trace.commits[commit].iter().enumerate() {
            // Times are the order of use: a history has no others.
            let now = (commit as u64) << 20 | order as u64;
            let coming = self.comings[one.object];
            let is_hit = self.present[one.object].is_some() && self.leads_to[one.key] == coming;
            let size = self.trace.sizes[one.object];
            let was_known = self.leads_to[one.key] > 0;
            let entry = self.present[one.object].get_or_insert_with(|| {
                self.stored += size;
                self.comings[one.object] += 1;
                EntryStats {
                    size,
                    cost_ms: one.cost_ms,
                    hits: 0,
                    created_ms: now,
                    last_used_ms: now,
                    clock: self.clock,
                }
            });
            entry.last_used_ms = now;
            entry.clock = self.clock;
            if is_hit {
                entry.hits += 1;
                self.figures.hits += 1;
                continue;
            }
            self.leads_to[one.key] = self.comings[one.object];
            self.figures.misses += 1;
            self.figures.again += u64::from(was_known);
            self.figures.rebuilt_ms += one.cost_ms;
        }
    }

    fn collect(&mut self, commit: usize) {
        let excess = self.size.map_or(0, |size| self.stored.saturating_sub(size));
        if excess > 0 {
            for object in self.chosen(commit, excess) {
                self.present[object] = None;
                self.stored -= self.trace.sizes[object];
                self.figures.evictions += 1;
            }
        }
        self.figures.peak = self.figures.peak.max(self.stored);
    }

    fn chosen(&mut self, commit: usize, excess: u64) -> Vec<usize> {
        let there: Vec<(usize, EntryStats)> =
            self.present.iter().enumerate().filter_map(|(object, entry)| Some((object, (*entry)?))).collect();
        match self.keeper {
            Keeper::All => Vec::new(),
            Keeper::By(policy) => {
                let entries: Vec<EntryStats> = there.iter().map(|(_, entry)| *entry).collect();
                let (chosen, clock) = victims(policy, &entries, excess, self.clock);
                self.clock = clock;
                chosen.into_iter().map(|position| there[position].0).collect()
            }
            Keeper::Foresight => self.needed_last(commit, there, excess),
        }
    }

    fn needed_last(&mut self, commit: usize, there: Vec<(usize, EntryStats)>, excess: u64) -> Vec<usize> {
        let mut order: Vec<(usize, u64, usize)> = Vec::with_capacity(there.len());
        for (object, entry) in there {
            let uses = &mut self.uses[object];
            while uses.last().is_some_and(|at| *at <= commit) {
                uses.pop();
            }
            order.push((uses.last().copied().unwrap_or(usize::MAX), entry.size, object));
        }
        order.sort_unstable_by(|a, b| b.cmp(a));
        let mut gone = 0;
        let enough = order.into_iter().take_while(|(_, size, _)| {
            let more = gone < excess;
            gone += size;
            more
        });
        enough.map(|(.., object)| object).collect()
    }
}
