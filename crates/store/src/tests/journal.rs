use std::time::{Duration, Instant};

use dbuild_cache::{Change, Difference, IngredientKind};
use dbuild_digest::BlobDigest;
use dbuild_events::{
    BuildId, Event, EventSink as _, ImageChange, ImageId, InputCause, InputChange, LayerInfo, LogStream,
    Outcome, StageInfo, Stamped, StepInfo,
};

use super::{Space, key};
use crate::BuildInfo;

fn info() -> BuildInfo {
    BuildInfo {
        dockerfile: "Dockerfile".into(),
        context: ".".into(),
        strategy: "output".into(),
        ..BuildInfo::default()
    }
}

fn log(text: &str) -> Event {
    Event::StepLog { step: 1, stream: LogStream::Stdout, text: text.to_owned() }
}

/// One of each cause.
fn input_changes() -> Vec<InputChange> {
    let image = |name: &str| ImageId { reference: name.to_owned(), digest: BlobDigest::of(name.as_bytes()) };
    let difference = Difference {
        kind: IngredientKind::Path,
        name: "app.py".into(),
        change: Change::Added { after: "file".into() },
    };
    let causes = [
        InputCause::Ran,
        InputCause::Outside,
        InputCause::Image(ImageChange { before: image("a"), after: image("b") }),
        InputCause::Replaced { before: "RUN make".into() },
        InputCause::Cached { differences: vec![difference] },
        InputCause::Forgotten,
    ];
    causes
        .into_iter()
        .enumerate()
        .map(|(step, cause)| InputChange { of: 9, step: step as u32, cause })
        .collect()
}

/// One of each.
fn all(build: &BuildId) -> Vec<Event> {
    let digest = BlobDigest::of(b"");
    let layer = LayerInfo { digest, size: 9, chain: digest, step: Some(1) };
    vec![
        Event::BuildStarted {
            build: build.clone(),
            targets: vec!["app".into()],
            stages: vec![StageInfo { name: "app".into(), reached: true, ..StageInfo::default() }],
            steps: vec![StepInfo { text: "RUN make".into(), line: Some(3), ..StepInfo::default() }],
            strategy: "output".into(),
        },
        Event::DockerfileRead { name: "Dockerfile".into(), text: "FROM busybox\n".into() },
        Event::ImagePinned { step: 0, reference: "docker.io/library/busybox".into(), digest, layers: vec![] },
        Event::ImageAssembled { stage: 0, layers: vec![layer] },
        Event::StepStarted { step: 1 },
        Event::StepCached { step: 0, key: key(1), layer_bytes: 2, files: 1, snapshot: None },
        log("hello\n"),
        Event::StepExplained {
            step: 1,
            reasons: vec!["ARG VERSION 1.2 → 1.3".into()],
            differences: vec![Difference {
                kind: IngredientKind::Argument,
                name: "VERSION".into(),
                change: Change::Changed { before: "1.2".into(), after: "1.3".into() },
            }],
            inputs: input_changes(),
        },
        Event::StepFinished {
            step: 1,
            key: key(2),
            duration_ms: 5,
            layer_bytes: 6,
            files: 7,
            snapshot: None,
        },
        Event::StepFailed { step: 2, error: "exit 1".into() },
        Event::StageSkipped { stage: 3, reason: "not needed".into() },
        Event::StepCanceled { step: 4 },
        Event::LayerPacked { step: 1, digest, size: 9 },
        Event::warning("careful"),
        Event::Note { text: "by the way".into() },
        Event::ExportStarted { output: "type=image".into() },
        Event::ExportFinished {
            output: "type=image".into(),
            names: vec!["app".into()],
            digest: Some(digest),
            size: 1,
            unpacked: 9,
        },
        Event::StageSummary {
            stage: 0,
            made_bytes: 3,
            shipped_bytes: 2,
            left_bytes: 1,
            base_bytes: 4,
            cached: 1,
            steps: 2,
        },
        Event::BuildFinished { outcome: Outcome::Failed, duration_ms: 12 },
    ]
}

#[test]
fn a_build_is_kept_as_its_events() {
    let space = Space::new();
    let store = space.open();
    let build = store.begin_build(&info()).unwrap();
    let journal = store.journal(&build).unwrap();
    all(&build).into_iter().for_each(|event| journal.emit(event));
    journal.emit(Event::StepProgress { step: 1, what: "bytes".into(), current: 1, total: None });
    drop(journal);
    let store = space.open();
    let events: Vec<Event> = store.events(&build).unwrap().into_iter().map(|stamped| stamped.event).collect();
    assert_eq!(events, all(&build));
    let summary = store.build(None).unwrap();
    assert_eq!((summary.id, summary.outcome, summary.info), (build, Some(Outcome::Failed), info()));
    assert!(summary.finished_ms >= Some(summary.started_ms));
}

#[test]
fn builds_are_named_in_their_order() {
    let space = Space::new();
    let store = space.open();
    let ids: Vec<BuildId> = (0..20).map(|_| store.begin_build(&info()).unwrap()).collect();
    assert!(ids.is_sorted() && ids.windows(2).all(|pair| pair[0] != pair[1]));
    assert_eq!(ids[0].as_str().len(), 10);
    let listed: Vec<BuildId> = store.builds(3).unwrap().into_iter().map(|build| build.id).collect();
    assert_eq!(listed, [ids[19].clone(), ids[18].clone(), ids[17].clone()]);
    assert_eq!(store.build(Some(ids[4].as_str())).unwrap().id, ids[4]);
    assert!(store.build(Some("zzz")).unwrap_err().to_string().contains("no build `zzz`"));
    assert_eq!(store.builds(1).unwrap()[0].outcome, None, "nobody said how it ended");
}

#[test]
fn what_was_flushed_is_read_by_others_while_the_build_runs() {
    let space = Space::new();
    let store = space.open();
    let build = store.begin_build(&info()).unwrap();
    let journal = store.journal(&build).unwrap();
    journal.emit(log("one"));
    journal.flush();
    assert_eq!(space.open().events(&build).unwrap().len(), 1);
    journal.emit(log("two"));
    drop(journal);
    assert_eq!(store.events(&build).unwrap().len(), 2);
}

#[test]
fn events_of_many_threads_are_kept_each_in_the_order_of_its_thread() {
    const THREADS: u32 = 8;
    const EACH: u32 = 1000;
    let space = Space::new();
    let store = space.open();
    let build = store.begin_build(&info()).unwrap();
    let journal = store.journal(&build).unwrap();
    // Far more than are gathered before emitters wait.
    std::thread::scope(|scope| {
        for step in 0..THREADS {
            let journal = &journal;
            scope.spawn(move || {
                for number in 0..EACH {
                    let text = number.to_string();
                    journal.emit(Event::StepLog { step, stream: LogStream::Stdout, text });
                    if number % 100 == 99 {
                        journal.flush();
                    }
                }
            });
        }
    });
    // Nothing is left to wait for.
    journal.flush();
    assert_eq!(store.events(&build).unwrap().len(), (THREADS * EACH) as usize);
    drop(journal);
    let mut next = [0; THREADS as usize];
    for stamped in store.events(&build).unwrap() {
        let Event::StepLog { step, text, .. } = stamped.event else { panic!("nothing else was emitted") };
        assert_eq!(text, next[step as usize].to_string());
        next[step as usize] += 1;
    }
    assert_eq!(next, [EACH; THREADS as usize]);
}

#[test]
fn an_event_waits_no_longer_than_the_patience() {
    let space = Space::new();
    let store = space.open();
    let build = store.begin_build(&info()).unwrap();
    let journal = store.journal(&build).unwrap();
    journal.emit(log("one"));
    let start = Instant::now();
    while store.events(&build).unwrap().is_empty() {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "nobody asked for it, and it must be written all the same"
        );
        std::thread::yield_now();
    }
    drop(journal);
}

#[test]
fn the_json_is_stable_and_a_newer_event_is_read() {
    let stamped = Stamped { at_ms: 5, event: log("x\n") };
    let json = serde_json::to_string(&stamped).unwrap();
    assert_eq!(json, r#"{"at_ms":5,"event":"step_log","step":1,"stream":"stdout","text":"x\n"}"#);
    assert_eq!(serde_json::from_str::<Stamped>(&json).unwrap(), stamped);
    let newer = r#"{"at_ms":6,"event":"step_dreamt","step":1,"of":["sheep"]}"#;
    assert_eq!(serde_json::from_str::<Stamped>(newer).unwrap().event, Event::Unknown);
}

#[test]
fn a_flood_of_output_is_cut_and_slows_nobody_down_for_long() {
    let space = Space::new();
    let store = space.open();
    let build = store.begin_build(&info()).unwrap();
    let journal = store.journal(&build).unwrap();
    let start = Instant::now();
    let line = "x".repeat(1 << 20);
    (0..40).for_each(|_| journal.emit(log(&line)));
    journal.emit(Event::BuildFinished { outcome: Outcome::Done, duration_ms: 0 });
    drop(journal);
    assert!(start.elapsed() < Duration::from_secs(20));
    let events = store.events(&build).unwrap();
    assert_eq!(events.len(), 18, "16 MiB, one word about the rest, and the end");
    assert!(matches!(&events[16].event, Event::StepLog { text, .. } if text.contains("is not kept")));
}
