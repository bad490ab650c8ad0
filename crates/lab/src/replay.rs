//! A history, commit by commit: context, plan, what each step gives, and the keys under each
//! strategy. Then the caches.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use dbuild_cache::{Policy, Strategy};
use dbuild_frontend::{
    BuildArgs, Diagnostics, ImageRequest, Lowered, Resolved, Source, lower, needed, parse,
};
use dbuild_oci::Platform;
use dbuild_plan::BaseImage;
use dbuild_scheduler::{ContextDir, InStore};

use crate::LabError;
use crate::bound::{Value, most_saved};
use crate::caches::{Figures, Keeper, replay as in_cache};
use crate::context::{Blobs, Context, NoContext};
use crate::cost::Costs;
use crate::execute::{Execute, Stopped, write_out};
use crate::git::{Commit, Repository};
use crate::result::{BELADY, BOUND, CommitResult, Rebuilt, Replay, Row, UNLIMITED};
use crate::simulate::Simulated;
use crate::trace::{Trace, Tracer};
use crate::world::{Failed, trace_commit};

/// What is replayed.
#[derive(Debug)]
pub struct Options {
    /// The first commit; `None`: the first of the history.
    pub from: Option<String>,
    /// The last commit.
    pub to: String,
    /// The Dockerfile, relative to the context; `None`: by its usual names.
    pub file: Option<String>,
    /// What a build would be given.
    pub args: BuildArgs,
    /// Under which strategies.
    pub strategies: Vec<&'static dyn Strategy>,
    /// With which policies.
    pub policies: Vec<&'static dyn Policy>,
    /// In caches of how many bytes. One without a limit is there in any case. Empty: a quarter, a
    /// half and three quarters of what is stored without one.
    pub sizes: Vec<u64>,
}

/// How it becomes known what a step gives.
pub enum Mode<'a> {
    /// No step is executed.
    Simulate(&'a Costs),
    /// Every distinct step is executed once.
    Execute(&'a mut dyn Execute),
}

/// Finds base images. Each is asked for once in a replay, and pinned for all of it.
pub trait FindBase {
    /// The image of a reference, or why there is none.
    fn find(&mut self, request: &ImageRequest) -> Result<BaseImage, String>;
}

/// Replays a history. Nothing of the repository is touched.
pub fn replay(
    repository: &Repository,
    options: &Options,
    bases: &mut dyn FindBase,
    mut mode: Mode<'_>,
) -> Result<Replay, LabError> {
    let commits = repository.history(options.from.as_deref(), &options.to)?;
    let executed = matches!(mode, Mode::Execute(_));
    let mut walk = Walk {
        repository,
        options,
        bases: Pinned { find: bases, known: HashMap::new() },
        blobs: Blobs::new(repository.objects()?),
        tracers: options.strategies.iter().map(|strategy| Tracer::new(*strategy)).collect(),
        submodules: 0,
        without: 0,
    };
    let mut results = Vec::with_capacity(commits.len());
    for commit in &commits {
        let (rebuilt, skipped) = match walk.commit(commit, &mut mode)? {
            Ok(rebuilt) => (rebuilt, None),
            Err(reason) => (Vec::new(), Some(reason)),
        };
        let (id, subject) = (commit.id.clone(), commit.subject.clone());
        results.push(CommitResult { id, subject, merge: commit.parents > 1, skipped, rebuilt });
    }
    walk.finish(results, executed)
}

struct Walk<'a> {
    repository: &'a Repository,
    options: &'a Options,
    bases: Pinned<'a>,
    blobs: Blobs,
    tracers: Vec<Tracer>,
    /// The most that a commit has.
    submodules: usize,
    /// Commits without a Dockerfile.
    without: usize,
}

impl Walk<'_> {
    /// What each strategy rebuilds at a commit, or why it is skipped.
    fn commit(
        &mut self,
        commit: &Commit,
        mode: &mut Mode<'_>,
    ) -> Result<Result<Vec<Rebuilt>, String>, LabError> {
        let file = self.options.file.as_deref();
        let context = match self.blobs.context(commit, self.repository.prefix(), file)? {
            Ok(context) => context,
            Err(NoContext::NoDockerfile) => {
                self.without += 1;
                return Ok(Err(format!("it has no file {}", file.unwrap_or("Dockerfile"))));
            }
            Err(NoContext::Bad(problem)) => return Ok(Err(problem)),
        };
        self.submodules = self.submodules.max(context.submodules);
        let lowered = match self.lowered(&context.dockerfile) {
            Ok(lowered) => lowered,
            Err(problem) => return Ok(Err(problem)),
        };
        let traced = match mode {
            Mode::Simulate(costs) => {
                let world = Simulated::new(&context.tree, &mut self.blobs, costs);
                trace_commit(&lowered.plan, world, &mut self.tracers)
            }
            Mode::Execute(execute) => match self.executed(context, &lowered, *execute)? {
                Ok(contexts) => {
                    let world = InStore::new(execute.store(), &contexts.1);
                    trace_commit(&lowered.plan, world, &mut self.tracers)
                }
                Err(problem) => return Ok(Err(problem)),
            },
        };
        Ok(traced.map_err(|Failed(problem)| problem))
    }

    /// Builds a commit. The directory of its context lives as long as what is returned.
    #[expect(clippy::type_complexity, reason = "a directory and its name, used in one place")]
    fn executed(
        &mut self,
        context: Context,
        lowered: &Lowered,
        execute: &mut dyn Execute,
    ) -> Result<Result<(tempfile::TempDir, BTreeMap<Option<String>, ContextDir>), String>, LabError> {
        let path = execute.store().scratch_path();
        let failed = |error| LabError::Checkout { path: path.clone(), error };
        std::fs::create_dir_all(&path).map_err(failed)?;
        let dir = tempfile::tempdir_in(&path).map_err(failed)?;
        write_out(&context, &self.blobs, dir.path())?;
        let root = ContextDir { root: dir.path().to_owned(), ignore: context.ignore };
        let contexts: BTreeMap<_, _> = [(None, root)].into();
        match execute.build(Arc::new(lowered.plan.clone()), contexts.clone()) {
            Ok(()) => Ok(Ok((dir, contexts))),
            Err(Stopped::Failed(problem)) => Ok(Err(problem)),
            Err(Stopped::Interrupted) => Err(LabError::Interrupted),
        }
    }

    fn lowered(&mut self, source: &Source) -> Result<Lowered, String> {
        let bad = |errors: Diagnostics| first_of(&errors, source);
        let args = &self.options.args;
        let ast = parse(source).into_result().map_err(bad)?;
        let mut resolved = Resolved::default();
        loop {
            let requests = needed(&ast, args, &resolved).map_err(bad)?;
            if requests.is_empty() {
                return lower(&ast, args, &resolved).map_err(bad);
            }
            for request in requests {
                let image = self.bases.image(&request).map_err(|problem| {
                    format!("{}:{}: {problem}", source.name, source.line_of(request.span.start))
                })?;
                resolved.insert(&request, image);
            }
        }
    }

    fn finish(self, commits: Vec<CommitResult>, executed: bool) -> Result<Replay, LabError> {
        let replayed = commits.iter().filter(|commit| commit.skipped.is_none()).count();
        if self.without == commits.len() {
            let file = self.options.file.clone().unwrap_or_else(|| "Dockerfile".to_owned());
            return Err(LabError::NoDockerfile { commits: commits.len(), file });
        }
        if let (0, Some(last)) = (replayed, commits.iter().rev().find_map(|commit| commit.skipped.clone())) {
            return Err(LabError::NothingReplayed { commits: commits.len(), last });
        }
        let sizes = match self.options.sizes.as_slice() {
            [] => self.usual_sizes(),
            sizes => sizes.to_vec(),
        };
        let mut rows = Vec::new();
        for tracer in &self.tracers {
            rows.extend(rows_of(tracer.strategy.name(), &tracer.trace, &self.options.policies, &sizes));
        }
        let repository = self.repository.dir().display().to_string();
        let notes = self.notes(&commits);
        Ok(Replay { repository, executed, commits, rows, notes })
    }

    /// Parts of the most that a strategy stores without a limit, in two digits.
    fn usual_sizes(&self) -> Vec<u64> {
        let stored = self.tracers.iter().map(|tracer| tracer.trace.sizes.iter().sum::<u64>());
        let most = stored.max().unwrap_or(0);
        let digits = |size: u64| {
            let unit = 10_u64.pow(size.max(1).ilog10().saturating_sub(1));
            size.div_ceil(unit) * unit
        };
        let mut sizes: Vec<u64> =
            [1, 2, 3].into_iter().map(|part| digits((most * part / 4).max(1))).collect();
        sizes.dedup();
        sizes
    }

    fn notes(&self, commits: &[CommitResult]) -> Vec<String> {
        let mut notes = Vec::new();
        if self.repository.is_shallow() {
            notes.push(
                "the repository is shallow: its history begins where it was cut (`git fetch --unshallow` gets the rest)"
                    .to_owned(),
            );
        }
        if self.repository.is_dirty() {
            notes.push("the work tree has changes that are not committed: only commits count".to_owned());
        }
        let merges = commits.iter().filter(|commit| commit.merge).count();
        if merges > 0 {
            let plural = if merges == 1 { "1 merge is" } else { &format!("{merges} merges are") };
            notes.push(format!("{plural} replayed as one change each, along first parents"));
        }
        if self.submodules > 0 {
            notes.push("submodules are not part of a commit's files: they are left out".to_owned());
        }
        notes
    }
}

/// The first error, with its place.
fn first_of(errors: &Diagnostics, source: &Source) -> String {
    let Some(first) = errors.0.first() else { return errors.to_string() };
    match first.line(source) {
        Some(line) => format!("{}:{line}: {}", source.name, first.message),
        None => first.message.clone(),
    }
}

/// The images of a replay: one answer for each reference and platform, from first to last.
struct Pinned<'a> {
    find: &'a mut dyn FindBase,
    known: HashMap<(String, Platform), Result<BaseImage, String>>,
}

impl Pinned<'_> {
    fn image(&mut self, request: &ImageRequest) -> Result<BaseImage, String> {
        let key = (request.reference.clone(), request.platform.clone());
        self.known.entry(key).or_insert_with(|| self.find.find(request)).clone()
    }
}

/// A strategy in every cache.
fn rows_of(
    strategy: &'static str,
    trace: &Trace,
    policies: &[&'static dyn Policy],
    sizes: &[u64],
) -> Vec<Row> {
    let row = |policy, size, figures: Figures| Row {
        strategy,
        policy,
        size,
        hits: figures.hits,
        misses: figures.misses,
        again: Some(figures.again),
        hit_rate: rate(figures.hits, figures.misses),
        rebuilt_ms: figures.rebuilt_ms,
        stored: Some(figures.stored),
        peak: Some(figures.peak),
        evictions: Some(figures.evictions),
    };
    let mut rows = Vec::new();
    for size in sizes.iter().copied() {
        for policy in policies {
            rows.push(row(policy.name(), Some(size), in_cache(trace, Keeper::By(*policy), Some(size))));
        }
        let foresight = in_cache(trace, Keeper::Foresight, Some(size));
        rows.push(row(BELADY, Some(size), foresight));
        rows.push(bound(strategy, trace, size, foresight));
    }
    rows.push(row(UNLIMITED, None, in_cache(trace, Keeper::All, None)));
    rows
}

fn bound(strategy: &'static str, trace: &Trace, size: u64, reached: Figures) -> Row {
    let all = trace.commits.iter().flatten();
    let total_ms: u64 = all.clone().map(|one| one.cost_ms).sum();
    let lookups = all.count() as u64;
    let saved_ms = most_saved(trace, size, Value::Time, (total_ms - reached.rebuilt_ms) as f64);
    // Whole hits: a part of one is none. A little is added for what arithmetic loses.
    let hits = (most_saved(trace, size, Value::Hits, reached.hits as f64) + 1e-6).floor() as u64;
    let hits = hits.min(lookups);
    Row {
        strategy,
        policy: BOUND,
        size: Some(size),
        hits,
        misses: lookups - hits,
        again: None,
        hit_rate: rate(hits, lookups - hits),
        // Whole milliseconds, too.
        rebuilt_ms: (total_ms as f64 - saved_ms - 1e-3).max(0.0).ceil() as u64,
        stored: None,
        peak: None,
        evictions: None,
    }
}

fn rate(hits: u64, misses: u64) -> f64 {
    hits as f64 / (hits + misses).max(1) as f64
}
