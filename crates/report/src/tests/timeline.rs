use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};

use crate::reader::tests::{Made, journal};
use crate::{Build, State};

/// A table: each step with its inputs, and when it began and ended.
fn check(steps: &[Made<'_>], critical_path: &[u32], held: &[(u32, u32)]) {
    let build = Build::of(&journal(steps));
    let way: Vec<u32> = build.steps.iter().filter(|step| step.critical).map(|step| step.id).collect();
    assert_eq!(way, critical_path, "the critical path of {steps:?}");
    let all = build.steps.iter().filter_map(|step| Some((step.id, step.held_by?)));
    assert_eq!(all.collect::<Vec<_>>(), held, "what was held by what in {steps:?}");
}

#[test]
fn the_critical_path_goes_over_inputs() {
    // Two lanes and a step that takes from both: the slower lane decides.
    check(&[("a", &[], 0, 100), ("b", &[], 0, 300), ("c", &[0, 1], 301, 310)], &[1, 2], &[]);
    // A diamond whose arms are equally long: one of them is named.
    check(
        &[("a", &[], 0, 10), ("b", &[0], 10, 50), ("c", &[0], 10, 50), ("d", &[1, 2], 50, 60)],
        &[0, 2, 3],
        &[],
    );
    // What ends last decides, not what stands last.
    check(&[("a", &[], 0, 500), ("b", &[], 0, 100)], &[0], &[]);
    check(&[], &[], &[]);
}

#[test]
fn the_critical_path_goes_over_slots_too() {
    // One place: b could begin when a was done, though it takes nothing from it.
    check(&[("a", &[], 0, 1000), ("b", &[], 1001, 1100), ("c", &[0, 1], 1101, 1110)], &[0, 1, 2], &[(1, 0)]);
    // Two places: d gets that of b, which ended first; a is not in the way.
    check(
        &[("a", &[], 0, 900), ("b", &[], 0, 500), ("c", &[], 500, 1500), ("d", &[], 901, 1000)],
        &[1, 2],
        &[(2, 1), (3, 0)],
    );
    // A gap in which nothing ended is nobody's fault.
    check(&[("a", &[], 0, 100), ("b", &[0], 400, 500)], &[0, 1], &[]);
}

#[test]
fn a_step_that_another_did_waits_for_it() {
    let mut events = journal(&[("a", &[], 0, 700), ("b", &[], 0, 1)]);
    let done = events
        .iter()
        .position(|stamped| matches!(stamped.event, dbuild_events::Event::StepFinished { step: 0, .. }));
    let key = match &events[done.unwrap()].event {
        dbuild_events::Event::StepFinished { key, .. } => *key,
        _ => unreachable!(),
    };
    // The second never began: it waited for the first to do the same work.
    events.retain(|stamped| {
        use dbuild_events::Event::{StepFinished, StepStarted};
        !matches!(stamped.event, StepStarted { step: 1 } | StepFinished { step: 1, .. })
    });
    let at_ms = events[0].at_ms + 701;
    let event = dbuild_events::Event::StepCached { step: 1, key, layer_bytes: 0, files: 0, snapshot: None };
    events.push(dbuild_events::Stamped { at_ms, event });
    let build = Build::of(&events);
    let twin = build.step(1).unwrap();
    assert_eq!((twin.state, twin.held_by), (State::Cached, Some(0)));
    assert!(build.steps.iter().all(|step| step.critical));
}

/// The journal of `FROM`, `WORKDIR`, `RUN` on each other, of which the image is told at these
/// moments.
fn on_an_image(image: &[(u64, dbuild_events::Event)]) -> Build {
    let mut events = journal(&[("FROM", &[], 0, 0), ("WORKDIR", &[0], 10, 20), ("RUN", &[1], 120, 900)]);
    if let dbuild_events::Event::BuildStarted { steps, .. } = &mut events[0].event {
        steps[0].kind = "image".to_owned();
    }
    let at = events[0].at_ms;
    events.drain(1..3);
    events.extend(
        image.iter().map(|(ms, event)| dbuild_events::Stamped { at_ms: at + ms, event: event.clone() }),
    );
    events.sort_by_key(|stamped| stamped.at_ms);
    Build::of(&events)
}

#[test]
fn an_image_comes_before_its_users_whenever_it_is_told_of() {
    use dbuild_events::Event::{StepCached, StepFinished, StepStarted};
    let key = dbuild_digest::StepKey::from_bytes([9; 32]);
    let order = |build: &Build| build.in_order().iter().map(|step| step.id).collect::<Vec<_>>();
    // It was there: the build says so at its end.
    let cached = StepCached { step: 0, key, layer_bytes: 0, files: 0, snapshot: None };
    let build = on_an_image(&[(901, cached)]);
    assert_eq!(order(&build), [0, 1, 2]);
    assert_eq!(build.steps[0].ended_ms, Some(10), "it was there when WORKDIR began");
    assert!(build.steps.iter().all(|step| step.critical), "the RUN decides, and it stands on the others");
    // RUN needed its files, and they were brought while it ran: nothing waited for a place.
    let done =
        |duration_ms| StepFinished { step: 0, key, duration_ms, layer_bytes: 1, files: 1, snapshot: None };
    let build = on_an_image(&[(121, StepStarted { step: 0 }), (500, done(379))]);
    assert_eq!(order(&build), [0, 1, 2]);
    assert_eq!((build.steps[0].queued_ms, build.steps[0].held_by), (0, Some(1)));
    assert!(build.steps.iter().all(|step| step.critical));
    // Nothing needed its files but the export: that came after everything.
    let build = on_an_image(&[(905, StepStarted { step: 0 }), (1500, done(595))]);
    assert_eq!((build.steps[0].held_by, build.steps[0].waited_for), (Some(2), None));
    assert!(build.steps.iter().all(|step| step.critical));
}

/// A build as the scheduler runs it, with so many places: each step is its inputs (numbers below
/// its own) and its length.
fn run(steps: &[(Vec<u32>, u64)], places: usize) -> Vec<(u64, u64)> {
    let mut times: Vec<Option<(u64, u64)>> = vec![None; steps.len()];
    let mut now = 0;
    loop {
        let is_done =
            |times: &[Option<(u64, u64)>], id: u32| times[id as usize].is_some_and(|(_, end)| end <= now);
        for id in 0..steps.len() {
            let running = times.iter().flatten().filter(|(_, end)| *end > now).count();
            let is_ready = steps[id].0.iter().all(|input| is_done(&times, *input));
            if times[id].is_none() && is_ready && running < places {
                times[id] = Some((now, now + steps[id].1));
            }
        }
        match times.iter().flatten().map(|(_, end)| *end).filter(|end| *end > now).min() {
            Some(end) => now = end,
            None => return times.into_iter().flatten().collect(),
        }
    }
}

fn build_of(steps: &[(Vec<u32>, u64)], times: &[(u64, u64)]) -> Build {
    let made: Vec<Made<'_>> = steps
        .iter()
        .zip(times)
        .map(|((inputs, _), (began, end))| ("x", inputs.as_slice(), *began, *end))
        .collect();
    Build::of(&journal(&made))
}

fn plans() -> impl Strategy<Value = Vec<(Vec<u32>, u64)>> {
    proptest::collection::vec((proptest::collection::vec(any::<u32>(), 0..3), 1u64..20), 1..14).prop_map(
        |steps| {
            let one = |(at, (inputs, length)): (usize, (Vec<u32>, u64))| {
                let below = |input: u32| (at > 0).then(|| input % at as u32);
                let inputs: std::collections::BTreeSet<u32> = inputs.into_iter().filter_map(below).collect();
                (inputs.into_iter().collect(), length * 100)
            };
            steps.into_iter().enumerate().map(one).collect()
        },
    )
}

proptest! {
    /// From the beginning to the end of the build, whatever the number of slots, some step of the
    /// critical path runs.
    #[test]
    fn the_critical_path_has_no_gap(steps in plans(), slots in 1usize..4) {
        let times = run(&steps, slots);
        let build = build_of(&steps, &times);
        let mut way: Vec<(u64, u64)> =
            build.steps.iter().filter(|step| step.critical).map(|step| times[step.id as usize]).collect();
        way.sort_unstable();
        prop_assert_eq!(way[0].0, 0);
        prop_assert!(way.windows(2).all(|pair| pair[0].1 == pair[1].0), "{:?} of {:?}", way, times);
        prop_assert_eq!(way.last().map(|(_, end)| *end), times.iter().map(|(_, end)| *end).max());
    }

    /// With a slot for each step, a step beside the critical path could have taken no time, and the
    /// build as long as before.
    #[test]
    fn what_is_beside_the_critical_path_does_not_matter(steps in plans()) {
        let length = |steps: &[(Vec<u32>, u64)]| run(steps, usize::MAX).iter().map(|(_, end)| *end).max();
        let build = build_of(&steps, &run(&steps, usize::MAX));
        for beside in build.steps.iter().filter(|step| !step.critical) {
            let mut faster = steps.clone();
            faster[beside.id as usize].1 = 0;
            prop_assert_eq!(length(&faster), length(&steps), "step {} of {:?}", beside.id, steps);
        }
    }
}
