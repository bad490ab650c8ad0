//! What a forecast says is what the build then does: over generated Dockerfiles and edits, for each
//! strategy, with a store. (RUN needs the binary: `integration-tests/tests/it/plan_holds.rs`.)

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::path::Path;

use dbuild_cache::strategies;
use dbuild_digest::StepKey;
use dbuild_plan::Plan;
use proptest::prelude::*;

use super::space::{Space, lowered};
use crate::{CacheUse, Forecast, UnwrittenPolicy, Verdict};

/// An instruction of a stage. Numbers choose files, destinations and stages.
#[derive(Clone, Debug)]
enum Instruction {
    Workdir(u8),
    Copy { file: u8, dest: u8, link: bool, chmod: bool },
    CopyFrom { stage: u8, path: u8, link: bool },
    Inline(u8),
}

/// A stage: whether it begins with the one before, and its instructions.
type Stages = Vec<(bool, Vec<Instruction>)>;

/// Something that happens between two builds.
#[derive(Clone, Debug)]
enum Edit {
    Nothing,
    File { file: u8, content: u8 },
    Mode { file: u8, executable: bool },
    Instruction { stage: u8, index: u8, new: Instruction },
    NoCache,
    NoCacheFilter(u8),
}

const FILES: u8 = super::space::FILES;

fn instruction() -> impl prop::strategy::Strategy<Value = Instruction> {
    prop_oneof![
        (0..3_u8).prop_map(Instruction::Workdir),
        (0..FILES, 0..3_u8, any::<bool>(), any::<bool>())
            .prop_map(|(file, dest, link, chmod)| Instruction::Copy { file, dest, link, chmod }),
        (any::<u8>(), 0..2_u8, any::<bool>()).prop_map(|(stage, path, link)| Instruction::CopyFrom {
            stage,
            path,
            link
        }),
        (0..3_u8).prop_map(Instruction::Inline),
    ]
}

fn edit() -> impl prop::strategy::Strategy<Value = Edit> {
    prop_oneof![
        1 => Just(Edit::Nothing),
        4 => (0..FILES, 0..3_u8).prop_map(|(file, content)| Edit::File { file, content }),
        1 => (0..FILES, any::<bool>()).prop_map(|(file, executable)| Edit::Mode { file, executable }),
        2 => (any::<u8>(), any::<u8>(), instruction())
            .prop_map(|(stage, index, new)| Edit::Instruction { stage, index, new }),
        1 => Just(Edit::NoCache),
        1 => any::<u8>().prop_map(Edit::NoCacheFilter),
    ]
}

fn dockerfile(stages: &Stages) -> String {
    let mut text = String::new();
    for (number, (on_previous, instructions)) in stages.iter().enumerate() {
        match number.checked_sub(1).filter(|_| *on_previous) {
            Some(previous) => writeln!(text, "FROM s{previous} AS s{number}").unwrap(),
            None => writeln!(text, "FROM scratch AS s{number}\nCOPY f0 f1 /base/").unwrap(),
        }
        for instruction in instructions {
            match instruction {
                Instruction::Workdir(dir) => writeln!(text, "WORKDIR /w{dir}").unwrap(),
                Instruction::Copy { file, dest, link, chmod } => {
                    let link = if *link { "--link " } else { "" };
                    let chmod = if *chmod { "--chmod=0755 " } else { "" };
                    writeln!(text, "COPY {link}{chmod}f{file} /d{dest}/f").unwrap();
                }
                Instruction::CopyFrom { stage, path, link } if number > 0 => {
                    let link = if *link { "--link " } else { "" };
                    let stage = usize::from(*stage) % number;
                    writeln!(text, "COPY {link}--from=s{stage} /base/f{path} /from/").unwrap();
                }
                Instruction::CopyFrom { path, .. } => writeln!(text, "COPY f{path} /base/").unwrap(),
                Instruction::Inline(number) => writeln!(text, "COPY <<E /inline\n{number}\nE").unwrap(),
            }
        }
    }
    // Whatever else there is, the target needs all stages.
    writeln!(text, "FROM scratch").unwrap();
    for number in 0..stages.len() {
        writeln!(text, "COPY --from=s{number} /base /all{number}").unwrap();
    }
    text
}

/// HIT was cached, MISS was executed. One of several steps with the same key does the work for all,
/// whichever comes first.
fn assert_holds(plan: &Plan, forecast: &Forecast, done: &BTreeMap<u32, bool>) {
    let mut by_key: HashMap<StepKey, Vec<u32>> = HashMap::new();
    for (id, _) in plan.steps() {
        if let Some(key) = forecast.steps[id.index()].key.filter(|_| done.contains_key(&id.0)) {
            by_key.entry(key).or_default().push(id.0);
        }
    }
    for steps in by_key.values() {
        let verdict = |id: &u32| &forecast.steps[*id as usize].verdict;
        let ran = steps.iter().filter(|id| done[*id]).count();
        let foretold =
            steps.iter().filter(|id| matches!(verdict(id), Verdict::Miss(_) | Verdict::Always)).count();
        assert_eq!(ran, foretold, "{steps:?}: {:?}", steps.iter().map(verdict).collect::<Vec<_>>());
    }
    for (id, step) in forecast.steps.iter().enumerate() {
        // Also where the key is not known, as after a miss with --no-cache.
        if let (Verdict::Miss(_), None) = (&step.verdict, &step.key) {
            assert!(done[&(id as u32)], "{id}: {step:?}");
        }
    }
}

fn check(mut stages: Stages, edits: &[Edit], leaves: bool) {
    let leave = if leaves { UnwrittenPolicy { paths: 0, bytes: 0 } } else { UnwrittenPolicy::default() };
    let space = Space::new().leaving(leave);
    for edit in std::iter::once(&Edit::Nothing).chain(edits) {
        let mut cache = CacheUse::All;
        match edit {
            Edit::Nothing => {}
            Edit::File { file, content } => space.write(*file, *content),
            Edit::Mode { file, executable } => {
                let mode = if *executable { 0o755 } else { 0o644 };
                set_mode(&space.file(*file), mode);
            }
            Edit::Instruction { stage, index, new } => {
                let count = stages.len();
                let (_, instructions) = &mut stages[usize::from(*stage) % count];
                let index = usize::from(*index) % instructions.len();
                instructions[index] = new.clone();
            }
            Edit::NoCache => cache = CacheUse::Nothing,
            Edit::NoCacheFilter(stage) => {
                cache = CacheUse::Except([format!("s{}", usize::from(*stage) % stages.len())].into());
            }
        }
        let text = dockerfile(&stages);
        for strategy in strategies() {
            let plan = lowered(&text);
            let forecast = space.forecast(&plan, *strategy, &cache);
            let done = space.build(plan.clone(), *strategy, cache.clone());
            assert_holds(&plan, &forecast, &done);
        }
    }
}

fn set_mode(path: &Path, mode: u32) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(path, mode).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_forecast_says_is_what_the_build_does(
        stages in prop::collection::vec((any::<bool>(), prop::collection::vec(instruction(), 1..5)), 1..4),
        edits in prop::collection::vec(edit(), 1..5),
        leaves in any::<bool>(),
    ) {
        check(stages, &edits, leaves);
    }
}

/// Two stages begin alike. With `--no-cache` it is not known what their first COPY will give, so
/// neither is the key of what follows it in either of them.
#[test]
fn what_runs_once_for_two_steps_is_not_known_from_its_old_record() {
    let stages = vec![(false, vec![Instruction::Workdir(2)]), (false, vec![Instruction::Workdir(2)])];
    check(stages, &[Edit::NoCache], false);
}
