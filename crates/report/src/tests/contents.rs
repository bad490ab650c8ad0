use std::collections::HashMap;
use std::sync::Arc;

use dbuild_digest::{BlobDigest, ContentDigest, SnapshotId, StepKey};
use dbuild_events::{Event, LayerInfo, StageInfo, Stamped, StepInfo};
use dbuild_layer::{Entry, EntryKind, Tree, TreePath};

use super::{Contents, NoTrees, Operation, Totals, Trees};
use crate::{Build, State};

fn at(path: &str) -> TreePath {
    TreePath::from_bytes(path.as_bytes()).unwrap()
}

fn file(path: &str, bytes: &str) -> Entry {
    let kind = EntryKind::File { size: bytes.len() as u64, content: ContentDigest::of(bytes.as_bytes()) };
    Entry { kind, mode: 0o644, ..Entry::new_dir(at(path)) }
}

fn dir(path: &str) -> Entry {
    Entry::new_dir(at(path))
}

fn chain() -> BlobDigest {
    BlobDigest::of(b"base")
}

/// Layers by the names of their snapshots; `base` is the image's.
pub(crate) struct Known(HashMap<&'static str, Vec<Entry>>);

impl Known {
    /// Gives the only entry of a layer another path.
    pub(crate) fn rename(&mut self, layer: &str, path: &str) {
        self.0.get_mut(layer).unwrap()[0].path = at(path);
    }
}

impl Trees for Known {
    fn of_snapshot(&self, id: &SnapshotId) -> Option<Arc<Tree>> {
        self.0.get(id.as_str()).map(|entries| Arc::new(Tree::from_entries(entries.clone()).unwrap()))
    }

    fn of_chain(&self, digest: &BlobDigest) -> Option<Arc<Tree>> {
        (*digest == chain()).then(|| self.of_snapshot(&"base".parse().unwrap())).flatten()
    }
}

/// `FROM base AS make`, two RUN steps, and `FROM scratch` that copies one of their files.
fn events() -> Vec<Event> {
    let stage = |id, name: &str| StageInfo {
        id,
        index: id,
        name: name.to_owned(),
        reached: true,
        ..StageInfo::default()
    };
    let step = |id, stage, kind: &str, text: &str, inputs: &[u32]| StepInfo {
        id,
        stage,
        text: text.to_owned(),
        inputs: inputs.to_vec(),
        kind: kind.to_owned(),
        ..StepInfo::default()
    };
    let made = |step: u32, name: &str| Event::StepFinished {
        step,
        key: StepKey::from_bytes([1; 32]),
        duration_ms: 1,
        layer_bytes: 0,
        files: 0,
        snapshot: Some(name.parse().unwrap()),
    };
    let digest = chain();
    let layers = vec![LayerInfo { digest, size: 1, chain: digest, step: None }];
    vec![
        Event::BuildStarted {
            build: "0b".parse().unwrap(),
            targets: vec!["app".to_owned()],
            stages: vec![stage(0, "make"), stage(1, "app")],
            steps: vec![
                step(0, 0, "image", "FROM base", &[]),
                step(1, 0, "run", "RUN one", &[0]),
                step(2, 0, "run", "RUN two", &[1]),
                step(3, 1, "scratch", "FROM scratch", &[]),
                step(4, 1, "copy", "COPY --from=make /out/app /app", &[3, 2]),
            ],
            strategy: "output".to_owned(),
        },
        Event::ImagePinned { step: 0, reference: "base".to_owned(), digest, layers },
        made(1, "one"),
        made(2, "two"),
        made(4, "copy"),
    ]
}

pub(crate) fn build() -> Build {
    let events: Vec<Stamped> = events().into_iter().map(|event| Stamped { at_ms: 5, event }).collect();
    Build::of(&events)
}

pub(crate) fn known() -> Known {
    let whiteout = |path: &str| Entry::new_whiteout(at(path));
    let opaque = Entry { kind: EntryKind::Dir { opaque: true }, ..dir("lib") };
    Known(HashMap::from([
        (
            "base",
            vec![dir("bin"), file("bin/sh", "shell"), dir("lib"), file("lib/a", "aa"), file("lib/b", "bb")],
        ),
        (
            "one",
            vec![
                dir("bin"),
                file("bin/sh", "SHELL!"),
                dir("out"),
                file("out/app", "program"),
                file("out/log", "noise"),
            ],
        ),
        ("two", vec![opaque, file("lib/b", "bb"), dir("out"), whiteout("out/log")]),
        ("copy", vec![file("app", "program")]),
    ]))
}

fn told(contents: &Contents, step: u32) -> Vec<(String, Operation, bool)> {
    let changes = &contents.step(step).unwrap().changes;
    changes.iter().map(|change| (change.path.clone(), change.operation, change.shipped)).collect()
}

#[test]
fn what_each_step_added_changed_and_removed() {
    use Operation::{Added, Changed, Removed};
    let contents = Contents::of(&build(), &known());
    let all = |list: &[(&str, Operation, bool)]| {
        list.iter()
            .map(|(path, operation, shipped)| ((*path).to_owned(), *operation, *shipped))
            .collect::<Vec<_>>()
    };
    assert_eq!(told(&contents, 0).len(), 5);
    let one = [
        ("/bin/sh", Changed, false),
        ("/out", Added, false),
        ("/out/app", Added, true),
        ("/out/log", Added, false),
    ];
    assert_eq!(told(&contents, 1), all(&one), "a directory that did not change is not told of");
    // `lib` was made anew: what is not in the layer is gone.
    let two = [
        ("/lib", Changed, false),
        ("/lib/a", Removed, false),
        ("/lib/b", Changed, false),
        ("/out/log", Removed, false),
    ];
    assert_eq!(told(&contents, 2), all(&two));
    assert_eq!(told(&contents, 4), all(&[("/app", Added, true)]));
}

#[test]
fn bytes_are_made_shipped_and_hidden() {
    let contents = Contents::of(&build(), &known());
    let bytes = |step| {
        let step = contents.step(step).unwrap();
        (step.made, step.shipped, step.hidden)
    };
    assert_eq!(bytes(0), (9, 0, 0));
    assert_eq!(bytes(1), (18, 7, 5), "the program is in the image under another name");
    assert_eq!(bytes(2), (2, 0, 9));
    assert_eq!(bytes(4), (7, 7, 0), "all of the last stage is in the image");
    let largest: Vec<(String, u64, bool)> =
        contents.largest(3).into_iter().map(|path| (path.path, path.size, path.shipped)).collect();
    assert_eq!(
        largest,
        [("/app".to_owned(), 7, true), ("/out/app".to_owned(), 7, true), ("/bin/sh".to_owned(), 6, false)]
    );
}

#[test]
fn totals_count_each_content_once() {
    let mut build = build();
    build.steps[0].state = State::Cached;
    let totals = Contents::of(&build, &known()).totals(&build).unwrap();
    // The base's shell, aa and bb; then SHELL!, program and noise. The copy brings nothing new.
    assert_eq!(totals, Totals { base: 9, made: 18, shipped: 7, left: 20 });
    let mut known = known();
    known.0.remove("one");
    assert_eq!(Contents::of(&build, &known).totals(&build), None);
}

#[test]
fn a_layer_that_is_gone_takes_those_above_it_along() {
    let mut known = known();
    known.0.remove("one");
    let contents = Contents::of(&build(), &known);
    assert!(contents.step(0).is_some() && contents.step(4).is_some());
    assert!(contents.step(1).is_none() && contents.step(2).is_none(), "nobody knows what was there before");
    assert!(Contents::of(&build(), &NoTrees).step(1).is_none());
}
