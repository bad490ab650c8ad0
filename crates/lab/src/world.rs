//! The steps of one commit: what each gives, found out once, and then their keys under every
//! strategy.

use std::borrow::Cow;
use std::collections::HashMap;

use dbuild_cache::{DEFAULT_STRATEGY, NoSuchStrategy, SelectedPaths, strategy};
use dbuild_digest::{StepKey, TreeDigest};
use dbuild_plan::{BaseImage, ContextStep, Plan, Step, StepId};
use dbuild_scheduler::{
    CacheUse, InputReader, Knowledge, KnownResult, Lookup, Source, StepError, Verdict, forecast,
};

use crate::result::Rebuilt;
use crate::trace::{Given, Tracer};

/// The results of a commit's steps, by simulation or because they were executed.
pub(crate) trait World: Knowledge {
    /// The bytes of the layer that a step gave.
    fn bytes(&self, gave: &KnownResult<Self::Files>) -> u64;
}

/// A step of a commit that gives nothing.
pub(crate) struct Failed(pub(crate) String);

/// Adds a commit to the traces, and says what each strategy rebuilds at it.
pub(crate) fn trace_commit<W: World>(
    plan: &Plan,
    mut world: W,
    tracers: &mut [Tracer],
) -> Result<Vec<Rebuilt>, Failed> {
    let unknown = |error: NoSuchStrategy| Failed(error.to_string());
    let mut gave = vec![None; plan.len()];
    let answers = Answers::Found { by_key: HashMap::new(), gave: &mut gave };
    let mut found = Answering { world: &mut world, answers };
    let carried = forecast(plan, strategy(DEFAULT_STRATEGY).map_err(unknown)?, &CacheUse::All, &mut found);
    for ((_, step), known) in plan.steps().zip(&carried.steps) {
        match &known.verdict {
            Verdict::Fails(error) => return Err(Failed(format!("{}: {error}", step.text))),
            Verdict::Unknown(on) => {
                let on = &plan.step(*on).text;
                return Err(Failed(format!(
                    "{on}: what it gives is not known: pin it (`--checksum`, or a commit)"
                )));
            }
            _ => {}
        }
    }
    let given: Vec<Option<Given>> = gave
        .iter()
        .map(|gave| {
            let gave = gave.as_ref()?;
            Some(Given { layer: gave.layer, bytes: world.bytes(gave), ms: gave.duration_ms })
        })
        .collect();
    let rebuilt = tracers.iter_mut().map(|tracer| {
        let mut answering = Answering { world: &mut world, answers: Answers::Known(&gave) };
        let known = forecast(plan, tracer.strategy, &CacheUse::All, &mut answering);
        Rebuilt { strategy: tracer.strategy.name(), steps: tracer.add(plan, known, &given) }
    });
    Ok(rebuilt.collect())
}

/// A world that tells what each step gave, whatever it is asked under.
struct Answering<'a, W: World> {
    world: &'a mut W,
    answers: Answers<'a, W::Files>,
}

/// Where the answers about steps come from.
enum Answers<'a, F> {
    /// The world is asked once for each key, and its answers are kept by step.
    Found { by_key: HashMap<StepKey, KnownResult<F>>, gave: &'a mut [Option<KnownResult<F>>] },
    /// They are known by step.
    Known(&'a [Option<KnownResult<F>>]),
}

impl<W: World> Knowledge for Answering<'_, W> {
    fn scratch(&mut self) -> W::Files {
        self.world.scratch()
    }

    fn image(&mut self, id: StepId, image: &BaseImage) -> (W::Files, bool) {
        (self.world.image(id, image).0, true)
    }

    fn context(&mut self, context: &ContextStep) -> Result<(TreeDigest, W::Files), StepError> {
        self.world.context(context)
    }

    fn record(&mut self, asked: &Lookup<'_, W::Files>) -> Option<KnownResult<W::Files>> {
        match &mut self.answers {
            Answers::Known(gave) => gave[asked.id.index()].clone(),
            Answers::Found { by_key, gave } => {
                let known = match by_key.get(&asked.key) {
                    Some(known) => Some(known.clone()),
                    None => self.world.record(asked).or_else(|| self.world.executed(asked)),
                };
                if let Some(known) = &known {
                    by_key.insert(asked.key, known.clone());
                }
                gave[asked.id.index()].clone_from(&known);
                known
            }
        }
    }

    fn pinned<'s>(&self, step: &'s Step) -> Option<Cow<'s, Step>> {
        self.world.pinned(step)
    }

    fn took_ms(&self, _: &StepKey) -> Option<u64> {
        None
    }
}

impl<W: World> InputReader for Answering<'_, W> {
    type Files = W::Files;
    type Selection = W::Selection;

    fn select(&self, source: &Source<'_>, files: &W::Files) -> Result<Option<W::Selection>, StepError> {
        self.world.select(source, files)
    }

    fn paths(&self, selection: W::Selection) -> SelectedPaths {
        self.world.paths(selection)
    }
}
