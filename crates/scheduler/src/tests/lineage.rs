//! What an input that differs goes back to, through steps that were cached.

use dbuild_cache::{IngredientKind, strategies, strategy};
use dbuild_digest::StepKey;
use dbuild_events::{Event, InputCause, InputChange};
use dbuild_support::time::now_ms;

use super::space::{Space, lowered};
use crate::CacheUse;

/// A step that ran, as it was explained.
struct Explained {
    kinds: Vec<IngredientKind>,
    reasons: Vec<String>,
    inputs: Vec<InputChange>,
}

/// Builds, and gives the explanation of each step that ran, by its text.
fn build(
    space: &Space,
    dockerfile: &str,
    strategy: &'static dyn dbuild_cache::Strategy,
) -> Vec<(String, Explained)> {
    let plan = lowered(dockerfile);
    let texts: Vec<String> = plan.steps().map(|(_, step)| step.text.clone()).collect();
    let events = space.events_of(plan, strategy, CacheUse::All);
    // What is made in the millisecond in which a build begins is no earlier version of its steps.
    let ended = now_ms();
    while now_ms() == ended {
        std::hint::spin_loop();
    }
    let explained = events.into_iter().filter_map(|event| match event {
        Event::StepExplained { step, reasons, differences, mut inputs } => {
            // The context below a step that is reported adds nothing here.
            inputs.retain(|change| change.of == step || change.cause != InputCause::Outside);
            let kinds = differences.iter().map(|difference| difference.kind).collect();
            Some((texts[step as usize].clone(), Explained { kinds, reasons, inputs }))
        }
        _ => None,
    });
    explained.collect()
}

/// The only step that ran.
#[track_caller]
fn one(mut explained: Vec<(String, Explained)>, text: &str) -> Explained {
    assert_eq!(explained.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>(), [text]);
    explained.remove(0).1
}

/// The names of the differences of an input that was cached.
#[track_caller]
fn cached(change: &InputChange) -> Vec<String> {
    match &change.cause {
        InputCause::Cached { differences } => differences.iter().map(|one| one.name.clone()).collect(),
        other => panic!("{other:?}"),
    }
}

const THREE: &str = "FROM scratch\nCOPY f0 /a/\nCOPY f1 /b/\nCOPY f2 /c/\n";
const TWO: &str = "FROM scratch\nCOPY f0 /a/\nCOPY f1 /b/\n";

#[test]
fn a_step_that_was_cached_with_another_result_is_followed_to_the_file() {
    for strategy in strategies() {
        let space = Space::new();
        build(&space, THREE, *strategy);
        space.write(0, 1);
        // Somebody builds the first steps alone; then they are cached, and are not what the third
        // stood on.
        build(&space, TWO, *strategy);
        let last = one(build(&space, THREE, *strategy), "COPY f2 /c/");
        assert_eq!(last.kinds, [IngredientKind::Parent], "{strategy:?}");
        let [parent, below] = last.inputs.as_slice() else { panic!("{strategy:?}: {:?}", last.inputs) };
        assert_eq!(below.of, parent.step);
        assert!(cached(parent).iter().all(String::is_empty), "{strategy:?}: its own words are the same");
        assert_eq!(cached(below), ["f0"], "{strategy:?}");
        // The forecast of the same.
        space.write(0, 0);
        assert!(build(&space, THREE, *strategy).is_empty(), "{strategy:?}: an edit that is taken back");
    }
}

#[test]
fn a_record_that_is_gone_is_said_to_be_gone() {
    for strategy in strategies() {
        let space = Space::new();
        build(&space, THREE, *strategy);
        let first: Vec<StepKey> =
            space.store.record_entries().unwrap().into_iter().map(|entry| entry.record.key).collect();
        space.write(0, 1);
        build(&space, TWO, *strategy);
        // All that the first build made, but what the third step is compared with.
        let third = |key: &&StepKey| space.store.record_kept(key).unwrap().text != "COPY f2 /c/";
        for key in first.iter().filter(third) {
            assert!(space.store.forget_record(key).unwrap());
        }
        let last = one(build(&space, THREE, *strategy), "COPY f2 /c/");
        let [parent] = last.inputs.as_slice() else { panic!("{strategy:?}: {:?}", last.inputs) };
        assert_eq!(parent.cause, InputCause::Forgotten, "{strategy:?}");
    }
}

#[test]
fn lines_that_are_added_moved_and_deleted_are_no_edits_of_others() {
    let dockerfile = |lines: &[&str]| {
        format!("FROM scratch\n{}\n", lines.iter().map(|line| format!("COPY {line}\n")).collect::<String>())
    };
    let (a, b, c) = ("f0 /x/a", "f1 /x/b", "f2 /x/c");
    let before = |explained: &[(String, Explained)], text: &str| {
        let (_, explained) = explained.iter().find(|(step, _)| step == text).expect("it ran");
        match &explained.inputs.first().map(|change| &change.cause) {
            Some(InputCause::Replaced { before }) => before.clone(),
            other => panic!("{text}: {other:?}"),
        }
    };
    for strategy in strategies() {
        let space = Space::new();
        build(&space, &dockerfile(&[a, c]), *strategy);
        let added = build(&space, &dockerfile(&[a, b, c]), *strategy);
        assert_eq!(before(&added, "COPY f2 /x/c"), "COPY f0 /x/a", "{strategy:?}");
        let moved = build(&space, &dockerfile(&[b, a, c]), *strategy);
        assert_eq!(before(&moved, "COPY f1 /x/b"), "COPY f0 /x/a", "{strategy:?}");
        assert_eq!(before(&moved, "COPY f0 /x/a"), "FROM scratch", "{strategy:?}");
        // `b` is gone, and what it stood on is there.
        let space = Space::new();
        build(&space, &dockerfile(&[a, b, c]), *strategy);
        let deleted = build(&space, &dockerfile(&[a, c]), *strategy);
        assert_eq!(before(&deleted, "COPY f2 /x/c"), "COPY f1 /x/b", "{strategy:?}");
    }
}

#[test]
fn a_stage_that_was_cached_with_another_result_is_followed_too() {
    let stage = "FROM scratch AS build\nCOPY f0 /a\nCOPY f1 /b\n";
    let dockerfile = format!("{stage}FROM scratch\nCOPY f2 /own\nCOPY --from=build /a /b /from/\n");
    for strategy in strategies() {
        let space = Space::new();
        build(&space, &dockerfile, *strategy);
        space.write(0, 1);
        build(&space, stage, *strategy);
        let copy = one(build(&space, &dockerfile, *strategy), "COPY --from=build /a /b /from/");
        let [source, below] = copy.inputs.as_slice() else { panic!("{strategy:?}: {:?}", copy.inputs) };
        assert_eq!((below.of, cached(below)), (source.step, vec!["f0".to_owned()]), "{strategy:?}");
    }
}

#[test]
fn below_a_linked_copy_the_way_goes_on() {
    let head = "FROM scratch\nCOPY f0 /a\nCOPY --link f1 /b\n";
    let dockerfile = format!("{head}COPY f2 /c\n");
    for strategy in strategies() {
        let space = Space::new();
        build(&space, &dockerfile, *strategy);
        space.write(0, 1);
        build(&space, head, *strategy);
        let last = one(build(&space, &dockerfile, *strategy), "COPY f2 /c");
        let names: Vec<String> = last.inputs.iter().flat_map(cached).collect();
        assert!(
            names.contains(&"f0".to_owned()) && last.inputs.len() == 2,
            "{strategy:?}: {:?}",
            last.inputs
        );
    }
}

#[test]
fn what_ran_is_left_to_its_own_explanation() {
    let space = Space::new();
    let output = strategy("output").unwrap();
    build(&space, THREE, output);
    space.write(1, 1);
    let explained = build(&space, THREE, output);
    let texts: Vec<&str> = explained.iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(texts, ["COPY f1 /b/", "COPY f2 /c/"]);
    let [outside] = explained[0].1.inputs.as_slice() else { panic!("{:?}", explained[0].1.inputs) };
    assert_eq!(
        (&outside.cause, &explained[0].1.reasons),
        (&InputCause::Outside, &vec!["f1: content".to_owned()])
    );
    let [parent] = explained[1].1.inputs.as_slice() else { panic!("{:?}", explained[1].1.inputs) };
    assert_eq!((&parent.cause, &explained[1].1.reasons), (&InputCause::Ran, &vec!["the parent".to_owned()]));
}

#[test]
fn a_parent_that_does_not_count_any_more_is_no_other_parent() {
    let dockerfile = |link: &str| format!("FROM scratch\nCOPY f0 /a\nCOPY {link}f1 /b\n");
    for strategy in strategies() {
        let space = Space::new();
        build(&space, &dockerfile(""), *strategy);
        let linked = one(build(&space, &dockerfile("--link "), *strategy), "COPY --link f1 /b");
        assert!(linked.kinds.contains(&IngredientKind::Flag), "{strategy:?}: {:?}", linked.reasons);
        assert_eq!(linked.inputs, [], "{strategy:?}");
    }
}
