//! `dbuild plan`: what a build would do, without doing it.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dbuild_cache::{IngredientKind, Strategy};
use dbuild_events::{Event, Stamped};
use dbuild_frontend::Lowered;
use dbuild_plan::{Plan, StepId, StepKind};
use dbuild_report::{Build, Cause, Labels};
use dbuild_scheduler::{
    CacheMiss, Canceller, Explainer, Forecast, Hit, InStore, Miss, Reasons, StepForecast, StepOutcome,
    Verdict, forecast, outdated_words, pinned_images,
};
use dbuild_store::Store;
use dbuild_support::units::{Bytes, Seconds};
use serde::Serialize;

use super::{print, print_json};
use crate::build::flags::{cache_use, default_jobs};
use crate::build::inputs::{self, Inputs};
use crate::build::prepare::{announce, prepare};
use crate::cli::{Global, PlanArgs};
use crate::error::Error;
use crate::progress::Notes;
use crate::session::Session;
use crate::signals::cancel_on_signal;

/// Maximum number of differences shown per step.
const MOST_REASONS: usize = 8;
/// Maximum number of causes shown per step.
const MOST_CAUSES: usize = 3;

/// What a build would do, for scripts.
#[derive(Debug, Serialize)]
struct Outlook {
    strategy: &'static str,
    steps: Vec<StepOutlook>,
    hits: usize,
    misses: usize,
    unknown: usize,
    /// How long the build will take if no unknown step runs, and if all of them do.
    expected_ms: [u64; 2],
    /// Steps that may run and have never run here: their time is a guess.
    guessed: usize,
}

#[derive(Debug, Serialize)]
struct StepOutlook {
    id: u32,
    label: String,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    state: State,
    reasons: Vec<String>,
    /// What the reasons go back to, of a step that will run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<Cause>,
    /// The step that must be done before this is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    on: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    expected_ms: u64,
    is_measured: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// A context: it is read every time.
    Read,
    Hit,
    Miss,
    Unknown,
    Fails,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Read => "READ",
            Self::Hit => "HIT",
            Self::Miss => "MISS",
            Self::Unknown => "UNKNOWN",
            Self::Fails => "FAILS",
        }
    }
}

/// Says what `dbuild build` with the same flags would do.
pub(crate) fn run(global: &Global, args: &PlanArgs) -> Result<(), Error> {
    let flags = &args.build;
    crate::build::flags::warn_of_ignored(flags)?;
    let strategy = dbuild_cache::strategy(&flags.strategy).map_err(Error::usage)?;
    let session = Session::open(global)?;
    let inputs = inputs::read(&session, flags)?;
    let touched = args.touch.iter().map(|file| touched(file, &inputs)).collect::<Result<Vec<_>, _>>()?;
    let (canceller, cancel) = Canceller::new();
    let lowered = session.runtime.block_on(async {
        let signals = tokio::spawn(cancel_on_signal(canceller));
        let (_, lowered) = prepare(&session, flags, &inputs, &Notes, cancel).await?;
        signals.abort();
        Ok::<_, Error>(lowered)
    })?;
    let mut knowledge = InStore::new(&session.store, &inputs.contexts)
        .with_traced_network(flags.traced_network.into())
        .touching(touched);
    let cache = cache_use(flags);
    let forecast = forecast(&lowered.plan, strategy, &cache, &mut knowledge);
    for file in knowledge.untaken() {
        crate::progress::say(&format!("note: no step takes {} from a context", file.display()));
    }
    let jobs = flags.jobs.unwrap_or_else(default_jobs);
    let expected = [false, true].map(|unknown| forecast.expected_ms(&lowered.plan, jobs, unknown));
    let outlook = OutlookWriter::new(&session.store, strategy, &lowered, &forecast, &inputs, cache.why_not())
        .all(expected);
    if args.json { print_json(&outlook) } else { print(&outlook.to_string()) }
}

/// A file of the command line as it stands below one of the contexts.
fn touched(file: &Path, inputs: &Inputs) -> Result<PathBuf, Error> {
    let absolute = |file: &Path| {
        // The file itself may be a symlink, which is what a context then holds.
        let (parent, name) = (file.parent()?, file.file_name()?);
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        Some(parent.canonicalize().ok()?.join(name))
    };
    let found = absolute(file).filter(|file| file.symlink_metadata().is_ok());
    let found = found.or_else(|| file.canonicalize().ok());
    let found = found.ok_or_else(|| Error::failed(format!("--touch {}: no such file", file.display())))?;
    if inputs.contexts.values().any(|context| found.starts_with(&context.root)) {
        return Ok(found);
    }
    Err(Error::failed(format!("--touch {}: it is in no context of this build", file.display()))
        .hint("name a file below the context, as it stands on this machine"))
}

struct OutlookWriter<'a> {
    store: &'a Store,
    strategy: &'static dyn Strategy,
    lowered: &'a Lowered,
    forecast: &'a Forecast,
    /// What is said of a step that may not take a result from the cache.
    not_allowed: &'static str,
    labels: Labels,
    /// Why each step that has no result differs from its earlier version.
    missed: BTreeMap<StepId, Reasons>,
    /// The build as its journal would have it, up to where it would run anything: so both are
    /// explained in the same words.
    build: Build,
}

impl<'a> OutlookWriter<'a> {
    fn new(
        store: &'a Store,
        strategy: &'static dyn Strategy,
        lowered: &'a Lowered,
        forecast: &'a Forecast,
        inputs: &Inputs,
        not_allowed: &'static str,
    ) -> Self {
        let missed = missed(store, strategy, &lowered.plan, forecast);
        // Nothing is built: the event only carries the names.
        let build = "plan".parse().unwrap_or_else(|never: std::convert::Infallible| match never {});
        let mut events = vec![announce(build, lowered, &inputs.source, strategy)];
        let mut labels = Labels::default();
        labels.learn(&events[0]);
        events.extend(pinned_images(&lowered.plan));
        for (id, _) in lowered.plan.steps() {
            events.extend(foretold(
                &lowered.plan,
                (id, &forecast.steps[id.index()]),
                missed.get(&id),
                not_allowed,
            ));
        }
        let events: Vec<Stamped> = events.into_iter().map(|event| Stamped { at_ms: 0, event }).collect();
        Self { store, strategy, lowered, forecast, not_allowed, labels, missed, build: Build::of(&events) }
    }

    fn all(&self, expected_ms: [u64; 2]) -> Outlook {
        let plan = &self.lowered.plan;
        let shown = plan.steps().filter(|(_, step)| !matches!(step.kind, StepKind::Scratch));
        let steps: Vec<StepOutlook> = shown.map(|(id, _)| self.step(id)).collect();
        let count = |state| steps.iter().filter(|step| step.state == state).count();
        let may_run = |step: &&StepOutlook| matches!(step.state, State::Miss | State::Unknown);
        let guessed =
            steps.iter().filter(may_run).filter(|step| !step.is_measured && step.expected_ms > 1).count();
        Outlook {
            strategy: self.strategy.name(),
            hits: count(State::Hit),
            misses: count(State::Miss),
            unknown: count(State::Unknown),
            steps,
            expected_ms,
            guessed,
        }
    }

    fn step(&self, id: StepId) -> StepOutlook {
        let (step, labels) = (&self.forecast.steps[id.index()], &self.labels);
        let (mut on, mut causes) = (None, Vec::new());
        let (state, reasons) = match &step.verdict {
            Verdict::Always => (State::Read, Vec::new()),
            Verdict::Hit(Hit::Recorded | Hit::Present) => (State::Hit, Vec::new()),
            Verdict::Hit(Hit::SameAs(other)) => {
                (State::Hit, vec![format!("{} does the same work", labels.full(other.0))])
            }
            Verdict::Miss(miss) => {
                causes = self.build.step(id.0).map(|step| self.build.why(step).causes).unwrap_or_default();
                (State::Miss, self.why(id, *miss, &causes))
            }
            Verdict::Unknown(other) if *other == id => (State::Unknown, vec![self.when_needed(id)]),
            Verdict::Unknown(other) => {
                on = Some(other.0);
                (State::Unknown, vec![format!("it depends on what {} will give", labels.full(other.0))])
            }
            Verdict::Fails(error) => (State::Fails, vec![error.to_string()]),
        };
        StepOutlook {
            id: id.0,
            label: labels.bracket(id.0),
            text: labels.text(id.0).to_owned(),
            line: labels.step(id.0).and_then(|info| info.line),
            state,
            reasons,
            causes,
            on,
            key: step.key.map(|key| key.to_string()),
            expected_ms: step.duration_ms,
            is_measured: step.is_measured,
        }
    }

    fn why(&self, id: StepId, miss: Miss, causes: &[Cause]) -> Vec<String> {
        match miss {
            Miss::NotAllowed => vec![self.not_allowed.to_owned()],
            Miss::Outdated(input) => vec![outdated_words(self.labels.text(input.0))],
            Miss::Pulled => {
                let image = causes.iter().find_map(|cause| cause.image.as_ref());
                let pull = format!("{}: a step needs its files", self.pull(id));
                image.map(ToString::to_string).into_iter().chain([pull]).collect()
            }
            Miss::NoRecord => {
                self.missed.get(&id).map(|why| self.differences(why, causes)).unwrap_or_default()
            }
        }
    }

    /// The step's own differences, then what those of its inputs go back to.
    fn differences(&self, why: &Reasons, causes: &[Cause]) -> Vec<String> {
        let of_input = |kind: IngredientKind| matches!(kind, IngredientKind::Parent | IngredientKind::Input);
        let own = why.differences.iter().filter(|difference| !of_input(difference.kind)).cloned().collect();
        let own = Reasons { differences: own, ..why.clone() };
        let only_inputs = own.differences.is_empty() && !why.differences.is_empty();
        let words = if only_inputs { Vec::new() } else { own.words(MOST_REASONS) };
        // What a step sees itself has just been reported, and what several steps below see is
        // reported once.
        let (here, below): (Vec<&Cause>, Vec<&Cause>) =
            causes.iter().partition(|cause| cause.way.len() == 1 && !only_inputs);
        let mut reported: HashSet<&str> = here.iter().map(|cause| cause.what.as_str()).collect();
        let below = below.into_iter().filter(|cause| reported.insert(cause.what.as_str()));
        let mut below: Vec<String> = below.map(|cause| self.build.clause(cause)).collect();
        let rest = below.len().saturating_sub(MOST_CAUSES);
        below.truncate(MOST_CAUSES);
        below.extend((rest > 0).then(|| format!("and {rest} more")));
        words.into_iter().chain(below).collect()
    }

    /// What a build does for a step whose words alone do not tell.
    fn when_needed(&self, id: StepId) -> String {
        match &self.lowered.plan.step(id).kind {
            StepKind::Git(_) => "the repository is asked what its reference names".to_owned(),
            StepKind::Fetch(_) => "the server is asked whether the file has changed".to_owned(),
            _ => format!("{} if a step needs its files", self.pull(id)),
        }
    }

    /// What has to be done for an image that is not here.
    fn pull(&self, id: StepId) -> String {
        let StepKind::Image(image) = &self.lowered.plan.step(id).kind else { return String::new() };
        let missing = image.image.layers.iter().filter(|layer| self.store.has_blob(&layer.digest).is_none());
        match missing.map(|layer| layer.size).sum::<u64>() {
            0 => "it is unpacked".to_owned(),
            bytes => format!("{} are pulled", Bytes(bytes)),
        }
    }
}

/// Why the steps that have no result differ from their earlier versions.
fn missed(
    store: &Store,
    strategy: &dyn Strategy,
    plan: &Plan,
    forecast: &Forecast,
) -> BTreeMap<StepId, Reasons> {
    let explainer = Explainer::new(strategy, plan);
    let fates = |id: StepId| {
        let StepForecast { key, output, verdict, .. } = &forecast.steps[id.index()];
        let runs = matches!(verdict, Verdict::Miss(_) | Verdict::Unknown(_));
        Some(StepOutcome { key: (*key)?, output: *output, runs })
    };
    let steps = plan.steps().filter_map(|(id, step)| {
        let StepForecast {
            verdict: Verdict::Miss(Miss::NoRecord), key: Some(key), ingredients, read, ..
        } = &forecast.steps[id.index()]
        else {
            return None;
        };
        if let Some(read) = read {
            let differences = vec![read.clone()];
            return Some((id, Reasons { earlier_ms: Some(0), differences, inputs: Vec::new() }));
        }
        let missed = CacheMiss { id, step, key, ingredients };
        Some((id, explainer.reasons(store, plan, &missed, &fates)))
    });
    steps.collect()
}

/// The first events of a step, if it is as the forecast says.
fn foretold(
    plan: &Plan,
    (id, forecast): (StepId, &StepForecast),
    missed: Option<&Reasons>,
    not_allowed: &str,
) -> Vec<Event> {
    let step = id.0;
    match (&forecast.verdict, forecast.key) {
        (Verdict::Hit(_), Some(key)) => {
            vec![Event::StepCached { step, key, layer_bytes: 0, files: 0, snapshot: None }]
        }
        (Verdict::Miss(miss), _) => {
            let why = missed.cloned().unwrap_or_default();
            let reasons = match miss {
                Miss::NotAllowed => vec![not_allowed.to_owned()],
                Miss::Outdated(input) => vec![outdated_words(&plan.step(*input).text)],
                Miss::NoRecord => why.words(MOST_REASONS),
                // It has no key that could be explained.
                Miss::Pulled => return vec![Event::StepStarted { step }],
            };
            let (differences, inputs) = (why.differences, why.inputs);
            vec![Event::StepExplained { step, reasons, differences, inputs }, Event::StepStarted { step }]
        }
        _ => Vec::new(),
    }
}

impl std::fmt::Display for Outlook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for step in &self.steps {
            writeln!(f, "{:8} {} {}", step.state.word(), step.label, step.text)?;
            for reason in &step.reasons {
                writeln!(f, "{:11}{reason}", "")?;
            }
        }
        let seconds = |ms| Seconds(Duration::from_millis(ms));
        let [least, most] = self.expected_ms;
        write!(
            f,
            "{} hit, {} run, {} unknown; expected time: {}",
            self.hits,
            self.misses,
            self.unknown,
            seconds(least)
        )?;
        if most > least {
            write!(f, ", {} if all that is unknown runs", seconds(most))?;
        }
        match self.guessed {
            0 => Ok(()),
            1 => write!(f, "\n1 step has never run here: its time is a guess"),
            count => write!(f, "\n{count} steps have never run here: their times are guesses"),
        }
    }
}
