use dbuild_digest::StepKey;
use dbuild_events::{Event, LogStream, Outcome, StageInfo, Stamped, StepInfo};

use super::plain;
use crate::{Build, State};

/// Two stages that do not need each other, and one that copies from both.
pub(crate) fn events() -> Vec<Stamped> {
    let stage = |id, name: &str| StageInfo {
        id,
        index: id,
        name: name.to_owned(),
        reached: name != "unneeded",
        ..StageInfo::default()
    };
    let step = |id, stage, kind: &str, text: &str, inputs: &[u32]| StepInfo {
        id,
        stage,
        text: text.to_owned(),
        line: Some(id + 1),
        last_line: Some(id + 1),
        inputs: inputs.to_vec(),
        kind: kind.to_owned(),
        ..StepInfo::default()
    };
    let key = StepKey::from_bytes([7; 32]);
    let done = |step, duration_ms, layer_bytes| Event::StepFinished {
        step,
        key,
        duration_ms,
        layer_bytes,
        files: 1,
        snapshot: None,
    };
    let log = |text: &str| Event::StepLog { step: 1, stream: LogStream::Stdout, text: text.to_owned() };
    let events = [
        (
            1000,
            Event::BuildStarted {
                build: "0b".parse().unwrap(),
                targets: vec!["app".to_owned()],
                stages: vec![stage(0, "left"), stage(1, "right"), stage(2, "unneeded"), stage(3, "app")],
                steps: vec![
                    step(0, 0, "image", "FROM busybox", &[]),
                    step(1, 0, "run", "RUN sleep 1", &[0]),
                    step(2, 1, "run", "RUN sleep 3", &[0]),
                    step(3, 3, "scratch", "FROM scratch", &[]),
                    step(4, 3, "copy", "COPY --from=left /a /a", &[3, 1]),
                    step(5, 3, "copy", "COPY --from=right /b /b", &[4, 2]),
                ],
                strategy: "output".to_owned(),
            },
        ),
        (1001, Event::StageSkipped { stage: 2, reason: "the target does not need it".to_owned() }),
        (1002, Event::StepCached { step: 0, key, layer_bytes: 0, files: 0, snapshot: None }),
        (1010, Event::StepStarted { step: 1 }),
        (1012, Event::StepStarted { step: 2 }),
        (1500, log("10%\r50%")),
        (1600, log("\r100%\n\x1b[31mred\x1b[0m\nopen")),
        (2010, done(1, 1000, 10)),
        (2020, Event::StepStarted { step: 4 }),
        (2030, done(4, 10, 10)),
        (4012, done(2, 3000, 20)),
        (4013, Event::StepStarted { step: 5 }),
        (4020, done(5, 7, 20)),
        (4025, Event::BuildFinished { outcome: Outcome::Done, duration_ms: 3025 }),
    ];
    events.into_iter().map(|(at_ms, event)| Stamped { at_ms, event }).collect()
}

/// A step for a journal made by hand: its words, its inputs, when it began and ended.
pub(crate) type Made<'a> = (&'a str, &'a [u32], u64, u64);

/// The journal of a build of one stage that consists of these RUN steps; all of them have different
/// keys.
pub(crate) fn journal(steps: &[Made<'_>]) -> Vec<Stamped> {
    let info = |(id, (text, inputs, _, _)): (usize, &Made<'_>)| StepInfo {
        id: id as u32,
        text: (*text).to_owned(),
        inputs: inputs.to_vec(),
        kind: "run".to_owned(),
        ..StepInfo::default()
    };
    let started = Event::BuildStarted {
        build: "0c".parse().unwrap(),
        targets: vec!["app".to_owned()],
        stages: vec![StageInfo { name: "app".to_owned(), reached: true, ..StageInfo::default() }],
        steps: steps.iter().enumerate().map(info).collect(),
        strategy: "output".to_owned(),
    };
    let mut events = vec![Stamped { at_ms: 1000, event: started }];
    for (id, (_, _, began, ended)) in steps.iter().enumerate() {
        let (step, duration_ms) = (id as u32, ended - began);
        let key = StepKey::from_bytes([id as u8; 32]);
        let done = Event::StepFinished { step, key, duration_ms, layer_bytes: 0, files: 0, snapshot: None };
        events.push(Stamped { at_ms: 1000 + began, event: Event::StepStarted { step } });
        events.push(Stamped { at_ms: 1000 + ended, event: done });
    }
    events.sort_by_key(|stamped| stamped.at_ms);
    events
}

#[test]
fn what_waited_for_what() {
    let build = Build::of(&events());
    let critical: Vec<u32> = build.steps.iter().filter(|step| step.critical).map(|step| step.id).collect();
    assert_eq!(critical, [0, 2, 5], "the sleep of 3 s decides");
    let step = build.step(5).unwrap();
    assert_eq!((step.waited_for, step.queued_ms, step.started_ms), (Some(2), 1, Some(3013)));
    assert_eq!(build.step(4).unwrap().waited_for, Some(1));
    let order: Vec<u32> = build.in_order().iter().map(|step| step.id).collect();
    assert_eq!(order, [0, 1, 4, 2, 5], "as they were done; scratch is not told of");
    assert_eq!(build.cached(), (1, 5));
    assert_eq!(build.duration_ms, 3025);
    let chain: Vec<u32> = build.chain(5).iter().map(|step| step.id).collect();
    assert_eq!(chain, [5, 4, 3]);
    assert_eq!(build.stages[2].skipped.as_deref(), Some("the target does not need it"));
}

#[test]
fn a_log_is_what_a_terminal_would_show() {
    let build = Build::of(&events());
    let lines: Vec<(u64, &str)> =
        build.step(1).unwrap().log.iter().map(|line| (line.at_ms, line.text.as_str())).collect();
    assert_eq!(lines, [(500, "100%"), (600, "red"), (600, "open")]);
    assert_eq!(plain("\x1b]0;title\x07a\x1b]8;;x\x1b\\b\x1b(\x08c\td"), "abc\td");
    assert_eq!(plain("\x1b[38;5;1m"), "");
}

#[test]
fn a_journal_that_was_cut_is_told_as_far_as_it_goes() {
    let mut cut = events();
    cut.truncate(6);
    let build = Build::of(&cut);
    assert_eq!((build.outcome, build.duration_ms), (None, 500));
    assert_eq!(build.step(1).unwrap().state, State::Running);
    assert_eq!(build.step(5).unwrap().state, State::Waiting);
    assert_eq!(build.step(1).unwrap().log.len(), 1);
    assert!(Build::of(&[]).steps.is_empty());
}
