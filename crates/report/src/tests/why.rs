//! The words of each cause, and how the way down to it is told.

use dbuild_cache::{Change, Difference, IngredientKind};
use dbuild_digest::{BlobDigest, StepKey};
use dbuild_events::{Event, ImageChange, ImageId, InputCause, InputChange, StageInfo, Stamped, StepInfo};

use crate::Build;

const IMAGE: u32 = 0;
const CONTEXT: u32 = 1;
const COPY: u32 = 2;
const RUN: u32 = 3;

fn difference(kind: IngredientKind, name: &str, before: &str, after: &str) -> Difference {
    let change = Change::Changed { before: before.to_owned(), after: after.to_owned() };
    Difference { kind, name: name.to_owned(), change }
}

fn parent() -> Difference {
    difference(IngredientKind::Parent, "", "a", "b")
}

fn file() -> Difference {
    difference(IngredientKind::Path, "src/app", "file 0644 0:0 a", "file 0644 0:0 b")
}

fn image_change(before: &str, after: &str) -> ImageChange {
    let image = |name: &str, content: &[u8]| ImageId {
        reference: format!("docker.io/library/{name}"),
        digest: BlobDigest::of(content),
    };
    ImageChange { before: image(before, b"before"), after: image(after, b"after") }
}

/// A step, what differs, and for each input that is another one whose it is, which it is, and why.
type Explained = (u32, Vec<Difference>, Vec<(u32, u32, InputCause)>);

/// `FROM node:20`, `COPY src /src`, `RUN make`: in this state each, and explained by this.
fn build(cached: &[u32], explained: &[Explained]) -> Build {
    let step = |id: u32, kind: &str, text: &str, inputs: &[u32]| StepInfo {
        id,
        stage: 0,
        text: text.to_owned(),
        line: (kind != "context").then_some(id + 1),
        last_line: None,
        inputs: inputs.to_vec(),
        kind: kind.to_owned(),
        setting: None,
    };
    let mut events = vec![Event::BuildStarted {
        build: "b".parse().unwrap(),
        targets: vec!["app".to_owned()],
        stages: vec![StageInfo { name: "app".to_owned(), reached: true, ..StageInfo::default() }],
        steps: vec![
            step(IMAGE, "image", "FROM node:20", &[]),
            step(CONTEXT, "context", "load build context", &[]),
            step(COPY, "copy", "COPY src /src", &[IMAGE, CONTEXT]),
            step(RUN, "run", "RUN make", &[COPY]),
        ],
        strategy: "output".to_owned(),
    }];
    for (step, differences, inputs) in explained {
        if *step == IMAGE {
            // It has no key that could be explained.
            events.push(Event::StepStarted { step: IMAGE });
            continue;
        }
        let inputs =
            inputs.iter().map(|(of, step, cause)| InputChange { of: *of, step: *step, cause: cause.clone() });
        events.push(Event::StepExplained {
            step: *step,
            reasons: match differences.as_slice() {
                [] => vec!["nothing like it was built here before".to_owned()],
                some => some.iter().map(ToString::to_string).collect(),
            },
            differences: differences.clone(),
            inputs: inputs.collect(),
        });
        events.push(Event::StepStarted { step: *step });
    }
    let key = StepKey::from_bytes([1; 32]);
    events.extend(cached.iter().map(|step| Event::StepCached {
        step: *step,
        key,
        layer_bytes: 0,
        files: 0,
        snapshot: None,
    }));
    let stamped: Vec<Stamped> = events.into_iter().map(|event| Stamped { at_ms: 1, event }).collect();
    Build::of(&stamped)
}

fn text(build: &Build, step: u32) -> String {
    build.why(build.step(step).unwrap()).text(build)
}

#[test]
fn through_a_step_that_was_cached() {
    let below = InputCause::Cached { differences: vec![file()] };
    let inputs = vec![(RUN, COPY, below), (COPY, CONTEXT, InputCause::Outside)];
    let build = build(&[IMAGE, COPY], &[(RUN, vec![parent()], inputs)]);
    insta::assert_snapshot!(text(&build, RUN), @"
    [app 3/3] RUN make ran again because src/app changed (content), via COPY src /src at line 3, which was CACHED from another build
      what differs: the parent
      goes back to: src/app changed (content) -> [app 2/3] COPY src /src (CACHED) -> [app 3/3] RUN make
    ");
}

#[test]
fn through_a_step_that_ran() {
    let copied = (COPY, vec![file()], vec![(COPY, CONTEXT, InputCause::Outside)]);
    let ran = (RUN, vec![parent()], vec![(RUN, COPY, InputCause::Ran)]);
    let build = build(&[IMAGE], &[copied, ran]);
    insta::assert_snapshot!(text(&build, RUN), @"
    [app 3/3] RUN make ran again because src/app changed (content), via COPY src /src at line 3
      what differs: the parent
      goes back to: src/app changed (content) -> [app 2/3] COPY src /src -> [app 3/3] RUN make
    ");
}

#[test]
fn an_image_is_named_with_both_digests() {
    let change = image_change("node:20", "node:20");
    let cached = InputCause::Cached { differences: vec![parent()] };
    let inputs = vec![(RUN, COPY, cached), (COPY, IMAGE, InputCause::Image(change.clone()))];
    let moved = build(&[COPY], &[(IMAGE, vec![], vec![]), (RUN, vec![parent()], inputs)]);
    insta::assert_snapshot!(text(&moved, RUN), @"
    [app 3/3] RUN make ran again because docker.io/library/node:20 is another image now: sha256:6db7d803e74f → sha256:f39592393ef0, via FROM node:20 at line 1
      what differs: the parent
      goes back to: docker.io/library/node:20 is another image now: sha256:6db7d803e74f → sha256:f39592393ef0 -> [app 1/3] FROM node:20 -> [app 2/3] COPY src /src (CACHED) -> [app 3/3] RUN make
    ");
    let why = moved.why(moved.step(RUN).unwrap());
    assert_eq!(why.causes[0].image.as_ref(), Some(&change), "in full");
    insta::assert_snapshot!(text(&moved, IMAGE), @"[app 1/3] FROM node:20 was pulled because docker.io/library/node:20 is another image now: sha256:6db7d803e74f → sha256:f39592393ef0");

    let inputs = vec![(COPY, IMAGE, InputCause::Image(image_change("node:18", "node:20")))];
    let renamed = build(&[], &[(COPY, vec![parent()], inputs)]);
    insta::assert_snapshot!(renamed.why(renamed.step(COPY).unwrap()).sentence, @"[app 2/3] COPY src /src ran again because the image changed from docker.io/library/node:18 (sha256:6db7d803e74f) to docker.io/library/node:20 (sha256:f39592393ef0), via FROM node:20 at line 1");
}

#[test]
fn an_image_that_nobody_compares_was_not_here() {
    let build = build(&[], &[(IMAGE, vec![], vec![])]);
    insta::assert_snapshot!(text(&build, IMAGE), @"[app 1/3] FROM node:20 was pulled because a step needed its files, and they were not here");
}

#[test]
fn a_line_that_was_added_moved_or_deleted() {
    let replaced = |before: &str| InputCause::Replaced { before: before.to_owned() };
    let own = build(&[IMAGE], &[(RUN, vec![parent()], vec![(RUN, COPY, replaced("RUN npm ci"))])]);
    insta::assert_snapshot!(text(&own, RUN), @"
    [app 3/3] RUN make ran again because it now follows COPY src /src instead of RUN npm ci
      what differs: the parent
    ");
    let cached = InputCause::Cached { differences: vec![parent()] };
    let inputs = vec![(RUN, COPY, cached), (COPY, IMAGE, replaced("WORKDIR /src"))];
    let below = build(&[IMAGE, COPY], &[(RUN, vec![parent()], inputs)]);
    insta::assert_snapshot!(text(&below, RUN), @"
    [app 3/3] RUN make ran again because COPY src /src (line 3) now follows FROM node:20 instead of WORKDIR /src
      what differs: the parent
      goes back to: COPY src /src (line 3) now follows FROM node:20 instead of WORKDIR /src -> [app 2/3] COPY src /src (CACHED) -> [app 3/3] RUN make
    ");
}

#[test]
fn what_is_not_known_any_more_is_not_guessed() {
    let inputs = vec![(RUN, COPY, InputCause::Forgotten)];
    let gone = build(&[IMAGE, COPY], &[(RUN, vec![parent()], inputs)]);
    insta::assert_snapshot!(text(&gone, RUN), @"
    [app 3/3] RUN make ran again because COPY src /src (line 3) is another result than before, and what that was made of is not known any more
      what differs: the parent
      goes back to: COPY src /src (line 3) is another result than before, and what that was made of is not known any more -> [app 2/3] COPY src /src (CACHED) -> [app 3/3] RUN make
    ");
    let inputs = vec![(COPY, IMAGE, InputCause::Forgotten)];
    let image = build(&[IMAGE], &[(COPY, vec![parent()], inputs)]);
    insta::assert_snapshot!(image.why(image.step(COPY).unwrap()).sentence, @"[app 2/3] COPY src /src ran again because FROM node:20 is another image, and which one it was is not known any more");
    // As earlier versions wrote it.
    let old = build(&[IMAGE, COPY], &[(RUN, vec![parent()], vec![])]);
    insta::assert_snapshot!(old.why(old.step(RUN).unwrap()).sentence, @"[app 3/3] RUN make ran again because it stands on another step than before: [app 2/3] COPY src /src");
}

#[test]
fn a_step_below_that_is_new_is_named() {
    let inputs = vec![(RUN, COPY, InputCause::Ran)];
    let build = build(&[IMAGE], &[(COPY, vec![], vec![]), (RUN, vec![parent()], inputs)]);
    insta::assert_snapshot!(build.why(build.step(RUN).unwrap()).sentence, @"[app 3/3] RUN make ran again because nothing like COPY src /src (line 3) was built here before");
}

#[test]
fn what_two_steps_see_is_said_once_and_own_words_come_first() {
    let argument = difference(IngredientKind::Argument, "V", "1", "2");
    let copied = (COPY, vec![argument.clone(), file()], vec![(COPY, CONTEXT, InputCause::Outside)]);
    let ran = (RUN, vec![parent(), argument], vec![(RUN, COPY, InputCause::Ran)]);
    let build = build(&[IMAGE], &[copied, ran]);
    insta::assert_snapshot!(build.why(build.step(RUN).unwrap()).sentence, @"[app 3/3] RUN make ran again because ARG V changed: 1 → 2, and because src/app changed (content), via COPY src /src at line 3");
}

#[test]
fn a_value_that_is_new_or_gone() {
    let change = |kind, name: &str, change| Difference { kind, name: name.to_owned(), change };
    let differences = vec![
        change(IngredientKind::Variable, "A", Change::Added { after: "1".to_owned() }),
        change(IngredientKind::Argument, "B", Change::Removed { before: "2".to_owned() }),
        change(IngredientKind::Flag, "--link", Change::Added { after: String::new() }),
        // It does not count with the flag: that is no other parent.
        change(IngredientKind::Parent, "", Change::Removed { before: "a".to_owned() }),
    ];
    let build = build(&[IMAGE], &[(COPY, differences, vec![])]);
    insta::assert_snapshot!(text(&build, COPY), @"
    [app 2/3] COPY src /src ran again because ENV A is new (1), and because ARG B is gone (it was 2), and because the flag --link is new
      what differs: ENV A: new, 1
                    ARG B: gone, was 2
                    the flag --link: new
                    what is below does not count any more
    ");
}
