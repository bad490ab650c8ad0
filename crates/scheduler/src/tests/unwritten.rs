//! Layers that are packed from the context, and what becomes of them in later builds.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use dbuild_cache::{DEFAULT_STRATEGY, strategy};
use dbuild_digest::BlobDigest;
use dbuild_events::{Collector, Event, EventSink};
use dbuild_layer::LayerFiles;

use super::space::{Space, lowered};
use crate::{Built, CacheUse, UnwrittenPolicy};

const ALL: &str = "FROM scratch\nCOPY f0 f1 f2 /\n";

fn leaving() -> Space {
    Space::new().leaving(UnwrittenPolicy { paths: 0, bytes: 0 })
}

fn built(space: &Space, dockerfile: &str, events: Arc<dyn EventSink>) -> Built {
    space.built(lowered(dockerfile), strategy(DEFAULT_STRATEGY).unwrap(), CacheUse::All, events)
}

/// The build, and the steps that it executed, but for contexts.
fn build(space: &Space, dockerfile: &str) -> (Built, Vec<String>) {
    let events = Arc::new(Collector::default());
    let built = built(space, dockerfile, Arc::clone(&events) as _);
    let plan = lowered(dockerfile);
    let steps = events.events().into_iter().filter_map(|event| match event {
        Event::StepFinished { step, .. } => Some(plan.step(dbuild_plan::StepId(step)).text.clone()),
        _ => None,
    });
    let steps = steps.filter(|text| text.starts_with("COPY")).collect();
    (built, steps)
}

fn diff_ids(built: &Built) -> Vec<BlobDigest> {
    built.targets[0].layers.iter().map(|layer| layer.diff_id).collect()
}

fn last(dockerfile: &str) -> dbuild_plan::StepId {
    let plan = lowered(dockerfile);
    plan.stage(plan.targets()[0].stage).last.unwrap()
}

/// What a file of the target says, wherever it is.
fn read(built: &Built, dockerfile: &str, path: &str) -> Option<Vec<u8>> {
    built.stack_if_present(last(dockerfile))?.read_file(path, 100).unwrap()
}

/// Whether the files of the target's last layer are in the store.
fn is_written(built: &Built, dockerfile: &str) -> bool {
    let output = &built.results()[last(dockerfile).index()];
    output.files.own_layers().last().unwrap().snapshot.files() != LayerFiles::Absent
}

#[test]
fn what_the_image_alone_needs_is_not_written_and_is_the_same_layer() {
    let (leaving, writing) = (leaving(), Space::new().leaving(UnwrittenPolicy::default()));
    for number in 0..3 {
        let time = fs::metadata(leaving.file(number)).unwrap().modified().unwrap();
        fs::File::open(writing.file(number)).unwrap().set_modified(time).unwrap();
    }
    let (left, steps) = build(&leaving, ALL);
    let (written, _) = build(&writing, ALL);
    assert_eq!(steps.len(), 1);
    assert_eq!((is_written(&left, ALL), is_written(&written, ALL)), (false, true));
    assert_eq!(diff_ids(&left), diff_ids(&written));
    assert_eq!(read(&left, ALL, "f1"), Some(vec![0]));

    let (again, steps) = build(&leaving, ALL);
    assert!(steps.is_empty(), "{steps:?}");
    assert_eq!(diff_ids(&again), diff_ids(&left));
    assert_eq!(read(&again, ALL, "f1"), Some(vec![0]), "read from the context");
}

#[test]
fn how_much_is_left_is_counted_in_paths_or_in_bytes() {
    for (paths, bytes, written) in [(3, 9, false), (4, 9, true), (4, 3, false), (4, 4, true)] {
        let (built, _) = build(&Space::new().leaving(UnwrittenPolicy { paths, bytes }), ALL);
        assert_eq!(is_written(&built, ALL), written, "{paths} paths, {bytes} bytes");
    }
}

#[test]
fn a_layer_whose_blob_is_gone_is_packed_again_from_the_context() {
    let space = leaving();
    let text = "FROM scratch\nCOPY f0 f1 f2 /made/\n";
    let (first, _) = build(&space, text);
    let digest = first.targets[0].layers[0].digest;
    fs::remove_file(space.store.blob_path(&digest)).unwrap();
    // As after a check-out: the same bytes, and another time.
    space.write(1, 0);
    let (again, steps) = build(&space, text);
    assert!(steps.is_empty(), "{steps:?}");
    assert_eq!(again.targets[0].layers[0].digest, digest, "everything has its time of then");
    assert!(space.store.has_blob(&digest).is_some());
}

#[test]
fn a_later_build_that_needs_the_files_finds_the_step_done() {
    let mut space = leaving();
    let text = "FROM scratch\nCOPY f0 f1 f2 /made/\n";
    let (first, _) = build(&space, text);
    space.unwritten = None;
    let (second, steps) = build(&space, text);
    assert!(steps.is_empty(), "{steps:?}");
    assert!(is_written(&second, text));
    let snapshot = |built: &Built| built.results()[last(text).index()].files.own_layers()[0].snapshot.clone();
    assert_eq!(snapshot(&first).id, snapshot(&second).id);
    assert_eq!(fs::read(snapshot(&second).dir.unwrap().join("made/f2")).unwrap(), [0]);
    assert!(space.store.verify(false).unwrap().findings.is_empty());
}

#[test]
fn it_can_be_copied_from_in_the_same_build_and_later() {
    let space = leaving();
    let text = |file: &str| {
        format!("FROM scratch AS s\nCOPY f0 f1 f2 /s/\nFROM scratch\nCOPY --from=s /s/{file} /x\n")
    };
    space.write(2, 7);
    let (one, steps) = build(&space, &text("f1"));
    assert_eq!(steps.len(), 2);
    assert_eq!(read(&one, &text("f1"), "x"), Some(vec![0]));
    let (other, steps) = build(&space, &text("f2"));
    assert_eq!(steps, ["COPY --from=s /s/f2 /x"]);
    assert_eq!(read(&other, &text("f2"), "x"), Some(vec![7]));
    let source = other.results()[1..].iter().find_map(|output| output.files.own_layers().first());
    assert_ne!(source.unwrap().snapshot.files(), LayerFiles::Absent, "a step that needs it twice finds it");
    let (_, steps) = build(&space, &text("f0"));
    assert_eq!(steps, ["COPY --from=s /s/f0 /x"]);
}

/// Changes a file when the context has been walked, once.
struct Meddler {
    file: std::path::PathBuf,
    done: AtomicBool,
    notes: Mutex<Vec<String>>,
}

impl EventSink for Meddler {
    fn emit(&self, event: Event) {
        match event {
            Event::StepFinished { .. } if !self.done.swap(true, Ordering::Relaxed) => {
                fs::write(&self.file, [9]).unwrap();
            }
            Event::Note { text } => self.notes.lock().unwrap().push(text),
            _ => {}
        }
    }
}

#[test]
fn a_file_that_changes_before_it_is_packed_is_in_the_image_as_it_became() {
    let space = leaving();
    let meddler =
        Arc::new(Meddler { file: space.file(1), done: AtomicBool::new(false), notes: Mutex::default() });
    let first = built(&space, ALL, Arc::clone(&meddler) as _);
    assert_eq!(read(&first, ALL, "f1"), Some(vec![9]));
    assert_eq!(*meddler.notes.lock().unwrap(), ["/f1 changed while it was read: once more"]);
    let (second, steps) = build(&space, ALL);
    assert!(steps.is_empty(), "{steps:?}");
    assert_eq!(diff_ids(&second), diff_ids(&first));
}
