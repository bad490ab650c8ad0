//! Forecasts with a simulated knowledge: every step gives what a rule says.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use dbuild_cache::{SelectedPath, SelectedPaths, strategy};
use dbuild_digest::{BlobDigest, StepKey, TreeDigest};
use dbuild_frontend::{BuildArgs, Resolved, Source as Text, lower, needed, parse};
use dbuild_oci::{ImageConfig, Platform};
use dbuild_plan::{BaseImage, ContextStep, LayerDescriptor, Plan, Step, StepId};

use crate::{
    CacheUse, Forecast, Hit, InputReader, Knowledge, KnownResult, Lookup, Miss, Source, StepError, Verdict,
    forecast,
};

/// Knows what a test gave it. Files are known by what they contain.
struct Simulated {
    records: HashMap<StepKey, TreeDigest>,
    /// What a step that runs gives, by its text.
    gives: Option<fn(&str) -> String>,
    /// What is in the context.
    context: &'static str,
    images_are_here: bool,
    /// What records were made from, where the keys do not say it.
    made_from: HashMap<StepKey, Vec<TreeDigest>>,
}

impl Simulated {
    fn new() -> Self {
        Self {
            records: HashMap::new(),
            gives: None,
            context: "v1",
            images_are_here: true,
            made_from: HashMap::new(),
        }
    }

    /// Everything that runs gives something of its own.
    fn executing() -> Self {
        Self { gives: Some(str::to_owned), ..Self::new() }
    }
}

fn tree(text: &str) -> TreeDigest {
    TreeDigest::from_bytes(*BlobDigest::of(text.as_bytes()).as_bytes())
}

fn gave(layer: TreeDigest, below: Option<&String>) -> KnownResult<String> {
    let files = below.map(|below| format!("{below}+{layer}"));
    KnownResult { layer, layer_is_empty: false, files, made_from: Vec::new(), duration_ms: 1000 }
}

impl InputReader for Simulated {
    type Files = String;
    type Selection = String;

    fn select(&self, source: &Source<'_>, files: &String) -> Result<Option<String>, StepError> {
        let is_image = matches!(source.plan.step(source.from).kind, dbuild_plan::StepKind::Image(_));
        // A step that takes a file of a stage takes one that its last step made.
        let top = files.rsplit('+').next().unwrap_or_default();
        Ok((self.images_are_here || !is_image).then(|| top.to_owned()))
    }

    fn paths(&self, selection: String) -> SelectedPaths {
        let path = SelectedPath::new("path", "file", 0o644, 0, 0, &tree(&selection).to_string());
        Box::new(std::iter::once(path))
    }
}

impl Knowledge for Simulated {
    fn scratch(&mut self) -> String {
        String::new()
    }

    fn image(&mut self, _: StepId, image: &BaseImage) -> (String, bool) {
        (image.reference.clone(), self.images_are_here)
    }

    fn context(&mut self, _: &ContextStep) -> Result<(TreeDigest, String), StepError> {
        Ok((tree(self.context), self.context.to_owned()))
    }

    fn record(&mut self, asked: &Lookup<'_, String>) -> Option<KnownResult<String>> {
        let made_from = self.made_from.get(&asked.key).cloned().unwrap_or_default();
        self.records.get(&asked.key).map(|layer| KnownResult { made_from, ..gave(*layer, asked.below) })
    }

    fn executed(&mut self, asked: &Lookup<'_, String>) -> Option<KnownResult<String>> {
        let layer = tree(&self.gives?(&asked.plan.step(asked.id).text));
        self.records.insert(asked.key, layer);
        Some(gave(layer, asked.below))
    }

    fn took_ms(&self, _: &StepKey) -> Option<u64> {
        None
    }
}

fn plan(dockerfile: &str) -> Plan {
    let ast = parse(&Text::new("Dockerfile", dockerfile)).into_result().unwrap();
    let (args, mut resolved) = (BuildArgs::default(), Resolved::default());
    for request in needed(&ast, &args, &resolved).unwrap() {
        let blob = |text: &str| BlobDigest::of(text.as_bytes());
        let layer = LayerDescriptor {
            digest: blob("layer.gz"),
            size: 40_000_000,
            media_type: String::new(),
            diff_id: blob("layer"),
        };
        let image = BaseImage {
            reference: request.reference.clone(),
            digest: blob("manifest"),
            platform: Platform::host(),
            config: ImageConfig::default(),
            history: Vec::new(),
            layers: vec![layer],
        };
        resolved.insert(&request, image);
    }
    lower(&ast, &args, &resolved).unwrap().plan
}

fn ask(plan: &Plan, name: &str, cache: &CacheUse, knowledge: &mut Simulated) -> Forecast {
    forecast(plan, strategy(name).unwrap(), cache, knowledge)
}

/// One word a step that could run, in order.
fn words(plan: &Plan, forecast: &Forecast) -> Vec<String> {
    let shown = |step: &Step, verdict: &Verdict| {
        let word = match verdict {
            Verdict::Always => return None,
            Verdict::Hit(Hit::Present) => return None,
            Verdict::Hit(Hit::Recorded) => "hit".to_owned(),
            Verdict::Hit(Hit::SameAs(other)) => format!("same as {}", plan.step(*other).text),
            Verdict::Miss(Miss::NoRecord) => "miss".to_owned(),
            Verdict::Miss(Miss::NotAllowed) => "not allowed".to_owned(),
            Verdict::Miss(Miss::Outdated(_)) => "outdated".to_owned(),
            Verdict::Miss(Miss::Pulled) => "pulled".to_owned(),
            Verdict::Unknown(on) => format!("unknown: {}", plan.step(*on).text),
            Verdict::Fails(error) => format!("fails: {error}"),
        };
        Some(format!("{}: {word}", step.text))
    };
    plan.steps().filter_map(|(id, step)| shown(step, &forecast.steps[id.index()].verdict)).collect()
}

const CHAIN: &str = "FROM base\nRUN one\nRUN two\nRUN three\n";
const STAGES: &str =
    "FROM base AS build\nCOPY src /src\nRUN make\nFROM base\nRUN setup\nCOPY --from=build /app /app\n";

#[test]
fn what_follows_a_miss_is_unknown_where_the_strategy_wants_to_know_it() {
    let plan = plan(CHAIN);
    let of = |name| words(&plan, &ask(&plan, name, &CacheUse::All, &mut Simulated::new()));
    assert_eq!(of("output"), ["RUN one: miss", "RUN two: unknown: RUN one", "RUN three: unknown: RUN one"]);
    // The keys of these need no results.
    for name in ["linear", "content"] {
        assert_eq!(of(name), ["RUN one: miss", "RUN two: miss", "RUN three: miss"], "{name}");
    }
}

#[test]
fn a_copy_from_a_stage_waits_for_it_and_what_stands_beside_does_not() {
    let plan = plan(STAGES);
    let of = |name| words(&plan, &ask(&plan, name, &CacheUse::All, &mut Simulated::new()));
    let copy = "COPY --from=build /app /app";
    let first = ["COPY src /src: miss"];
    let expected = |make: &str, last: String| {
        [&first[..], &[&format!("RUN make: {make}"), "RUN setup: miss", &last]].concat().join("\n")
    };
    assert_eq!(of("linear").join("\n"), expected("miss", format!("{copy}: miss")));
    assert_eq!(of("content").join("\n"), expected("miss", format!("{copy}: unknown: RUN make")));
    let unknown = "unknown: COPY src /src";
    // Of two steps that it waits for, the parent is asked first.
    assert_eq!(of("output").join("\n"), expected(unknown, format!("{copy}: unknown: RUN setup")));
}

#[test]
fn a_simulation_knows_all_and_then_everything_is_a_hit() {
    for name in ["linear", "content", "output"] {
        let (plan, mut knowledge) = (plan(STAGES), Simulated::executing());
        let first = ask(&plan, name, &CacheUse::All, &mut knowledge);
        assert!(words(&plan, &first).iter().all(|word| word.ends_with(": miss")), "{name}");
        assert!(first.steps.iter().all(|step| step.key.is_some() && step.output.is_some()), "{name}");
        let second = ask(&plan, name, &CacheUse::All, &mut knowledge);
        assert!(words(&plan, &second).iter().all(|word| word.ends_with(": hit")), "{name}");
        assert_eq!(
            first.steps.iter().map(|step| step.key).collect::<Vec<_>>(),
            second.steps.iter().map(|step| step.key).collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_result_that_did_not_change_cuts_the_rebuild_off() {
    for (name, copied) in [("linear", "miss"), ("content", "hit"), ("output", "hit")] {
        let (plan, mut knowledge) = (plan(STAGES), Simulated::executing());
        ask(&plan, name, &CacheUse::All, &mut knowledge);
        // A comment in the source: another COPY, the same program.
        knowledge.context = "v2";
        knowledge.gives = Some(|text| if text.starts_with("COPY src") { "v2".into() } else { text.into() });
        assert_eq!(
            words(&plan, &ask(&plan, name, &CacheUse::All, &mut knowledge)),
            [
                "COPY src /src: miss",
                "RUN make: miss",
                "RUN setup: hit",
                &format!("COPY --from=build /app /app: {copied}")
            ],
            "{name}"
        );
    }
}

#[test]
fn what_may_not_be_taken_from_the_cache_runs_once() {
    let plan =
        plan("FROM base AS a\nRUN same\nRUN a\nFROM base AS b\nRUN same\nRUN b\nCOPY --from=a /x /x\n");
    let mut knowledge = Simulated::executing();
    ask(&plan, "output", &CacheUse::All, &mut knowledge);
    knowledge.gives = None;
    let all = ask(&plan, "output", &CacheUse::Nothing, &mut knowledge);
    assert_eq!(
        words(&plan, &all),
        [
            "RUN same: not allowed",
            "RUN a: not allowed",
            "RUN same: same as RUN same",
            "RUN b: not allowed",
            "COPY --from=a /x /x: not allowed"
        ]
    );
    let one = ask(&plan, "output", &CacheUse::Except(["b".to_owned()].into()), &mut knowledge);
    assert_eq!(
        words(&plan, &one),
        [
            "RUN same: hit",
            "RUN a: hit",
            "RUN same: not allowed",
            "RUN b: not allowed",
            "COPY --from=a /x /x: not allowed"
        ]
    );
}

/// Where a key says what a parent was made of, it does not say which of two results that gave.
#[test]
fn what_was_made_from_an_earlier_result_is_outdated() {
    let plan = plan("FROM base AS a\nRUN a\nFROM a\nRUN b\nRUN c\n");
    for name in ["linear", "content"] {
        let mut knowledge = Simulated::executing();
        let first = ask(&plan, name, &CacheUse::All, &mut knowledge);
        knowledge.gives = None;
        let key = |at: usize| first.steps[at].key.unwrap();
        for at in [2, 3] {
            knowledge.made_from.insert(key(at), vec![first.steps[at - 1].output.unwrap()]);
        }
        let told = |knowledge: &mut Simulated, cache: &CacheUse| {
            words(&plan, &ask(&plan, name, cache, knowledge)).join(", ")
        };
        assert_eq!(told(&mut knowledge, &CacheUse::All), "RUN a: hit, RUN b: hit, RUN c: hit");
        let only_a = CacheUse::Except(["a".to_owned()].into());
        assert_eq!(
            told(&mut knowledge, &only_a),
            "RUN a: not allowed, RUN b: unknown: RUN a, RUN c: unknown: RUN a"
        );
        knowledge.records.insert(key(1), tree("another"));
        assert_eq!(
            told(&mut knowledge, &CacheUse::All),
            "RUN a: hit, RUN b: outdated, RUN c: unknown: RUN b"
        );
        knowledge.made_from.clear();
        assert_eq!(
            told(&mut knowledge, &CacheUse::All),
            "RUN a: hit, RUN b: hit, RUN c: hit",
            "{name}: records of earlier versions are believed"
        );
    }
}

#[test]
fn an_image_is_pulled_for_those_who_need_its_files() {
    let plan = plan(STAGES);
    let mut knowledge = Simulated { images_are_here: false, ..Simulated::executing() };
    let first = ask(&plan, "output", &CacheUse::All, &mut knowledge);
    assert_eq!(words(&plan, &first)[0], "FROM base: pulled");
    assert_eq!(words(&plan, &first)[3], "FROM base: same as FROM base");
    assert_eq!(first.steps[0].duration_ms, 2000);
    let again = ask(&plan, "output", &CacheUse::All, &mut knowledge);
    assert_eq!(words(&plan, &again)[0], "FROM base: unknown: FROM base");
}

#[test]
fn the_expected_time_is_that_of_a_schedule() {
    let (plan, mut knowledge) = (plan(STAGES), Simulated::new());
    let jobs = |count| NonZeroUsize::new(count).unwrap();
    let forecast = ask(&plan, "output", &CacheUse::All, &mut knowledge);
    // A COPY takes 100 ms, a RUN 5 s, by guess.
    assert!(forecast.steps.iter().all(|step| !step.is_measured));
    assert_eq!(forecast.expected_ms(&plan, jobs(8), false), 5000);
    assert_eq!(forecast.expected_ms(&plan, jobs(8), true), 5200);
    assert_eq!(forecast.expected_ms(&plan, jobs(1), true), 10_200);
}
