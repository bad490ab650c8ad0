//! What each strategy asks of a step's inputs: where a rebuild is cut off, and where it is not.

use dbuild_plan::{StepId, StepKind};

use super::fixture::{Answers, CONTEXT, PARENT, STAGE, answers, copy, key, run, step};
use crate::{SelectedPath, UnknownInput, changed_sources, standing_key};

/// For each strategy whether a change of the inputs changes the key of the step.
fn changed(kind: &StepKind, change: impl Fn(&mut Answers)) -> [bool; 3] {
    let mut inputs = answers();
    change(&mut inputs);
    ["linear", "content", "output"].map(|name| {
        let of = |inputs| key(name, &step(kind.clone()), inputs).unwrap().0;
        of(&inputs) != of(&answers())
    })
}

fn new_key(inputs: &mut Answers, of: StepId) {
    inputs.keys.insert(of, 99);
}

fn new_output(inputs: &mut Answers, of: StepId) {
    inputs.outputs.insert(of, 99);
}

fn other_file(inputs: &mut Answers, source: usize) {
    inputs.selected.insert(source, vec![SelectedPath::new("app", "file", 0o644, 0, 0, "eeee")]);
}

#[test]
fn parents_count_by_key_or_by_output() {
    for kind in [StepKind::Run(run()), StepKind::Copy(copy())] {
        let by_key = changed(&kind, |inputs| new_key(inputs, PARENT));
        assert_eq!(by_key, [true, true, false], "the parent ran again and gave the same");
        let by_output = changed(&kind, |inputs| new_output(inputs, PARENT));
        assert_eq!(by_output, [false, false, true], "the parent gave something else");
    }
}

#[test]
fn a_copy_from_a_stage_counts_by_key_or_by_what_is_selected() {
    let kind = StepKind::Copy(copy());
    assert_eq!(changed(&kind, |inputs| new_key(inputs, STAGE)), [true, false, false]);
    assert_eq!(changed(&kind, |inputs| new_output(inputs, STAGE)), [false; 3]);
    assert_eq!(changed(&kind, |inputs| other_file(inputs, 0)), [false, true, true]);
}

#[test]
fn a_context_counts_by_what_is_selected() {
    let kind = StepKind::Copy(copy());
    assert_eq!(changed(&kind, |inputs| new_key(inputs, CONTEXT)), [false; 3]);
    assert_eq!(changed(&kind, |inputs| new_output(inputs, CONTEXT)), [false; 3]);
    assert_eq!(changed(&kind, |inputs| other_file(inputs, 1)), [true; 3]);
    let mode = |inputs: &mut Answers| {
        inputs.selected.get_mut(&1).unwrap()[1] = SelectedPath::new("run.sh", "file", 0o755, 0, 0, "cccc");
    };
    assert_eq!(changed(&kind, mode), [true; 3]);
}

#[test]
fn mounts_count_as_copies_do_and_whole_stages_by_output() {
    let kind = StepKind::Run(run());
    assert_eq!(changed(&kind, |inputs| new_key(inputs, STAGE)), [true, false, false]);
    assert_eq!(changed(&kind, |inputs| new_output(inputs, STAGE)), [false, true, true]);
    assert_eq!(changed(&kind, |inputs| other_file(inputs, 0)), [false; 3], "nobody asks for its paths");
    assert_eq!(changed(&kind, |inputs| other_file(inputs, 1)), [true; 3], "the context");
    assert_eq!(changed(&kind, |inputs| other_file(inputs, 2)), [true; 3], "what a cache begins with");
}

#[test]
fn a_linked_copy_does_not_depend_on_its_parent() {
    let mut linked = copy();
    linked.link = true;
    let no_parent = |inputs: &mut Answers| {
        inputs.keys.insert(PARENT, 99);
        inputs.outputs.insert(PARENT, 99);
    };
    assert_eq!(changed(&StepKind::Copy(linked.clone()), no_parent), [true, false, false]);
    linked.chmod = Some("755".into());
    assert_eq!(changed(&StepKind::Copy(linked), no_parent), [true; 3]);
}

#[test]
fn what_is_not_known_is_named() {
    let kind = step(StepKind::Copy(copy()));
    let unknown = |name: &str, inputs: &Answers| key(name, &kind, inputs).unwrap_err();
    let mut inputs = answers();
    inputs.keys.clear();
    assert_eq!(unknown("content", &inputs), UnknownInput { input: PARENT });
    assert!(key("output", &kind, &inputs).is_ok());
    let mut inputs = answers();
    inputs.selected.remove(&0);
    assert_eq!(unknown("output", &inputs), UnknownInput { input: STAGE });
    assert!(key("linear", &kind, &inputs).is_ok());
}

#[test]
fn paths_do_not_slide_between_sources() {
    let kind = step(StepKind::Copy(copy()));
    for name in ["content", "output"] {
        let mut slid = answers();
        let moved = slid.selected.get_mut(&1).unwrap().remove(0);
        slid.selected.get_mut(&0).unwrap().push(moved);
        assert_ne!(key(name, &kind, &slid).unwrap().0, key(name, &kind, &answers()).unwrap().0);
    }
}

#[test]
fn the_sources_that_changed_are_found_in_the_ingredients() {
    // A RUN's mounts are keyed by target, whatever their order: the cache (2), the context (1), the
    // stage (0).
    let kind = step(StepKind::Run(run()));
    let changed = |name: &str, change: &dyn Fn(&mut Answers)| {
        let mut inputs = answers();
        change(&mut inputs);
        let [before, after] = [&answers(), &inputs].map(|inputs| key(name, &kind, inputs).unwrap().1);
        changed_sources(&kind, &before, &after)
    };
    for name in ["linear", "content", "output"] {
        assert_eq!(changed(name, &|_| {}), Vec::<usize>::new(), "{name}");
        assert_eq!(changed(name, &|inputs| other_file(inputs, 1)), [1], "{name}");
        assert_eq!(changed(name, &|inputs| other_file(inputs, 2)), [2], "{name}");
        let stage = changed(name, &|inputs| {
            new_key(inputs, STAGE);
            new_output(inputs, STAGE);
        });
        assert_eq!(stage, [0], "{name}");
    }
    let mut fewer = run();
    fewer.mounts.remove(0);
    let before = key("output", &step(StepKind::Run(fewer)), &answers()).unwrap().1;
    let after = key("output", &kind, &answers()).unwrap().1;
    assert_eq!(changed_sources(&kind, &before, &after), [2, 1, 0], "they are not comparable");
}

#[test]
fn who_stands_on_a_linked_copy_stands_on_what_is_below_it() {
    let [own, parent, other] = [1, 2, 3].map(|byte| dbuild_digest::StepKey::from_bytes([byte; 32]));
    let plain = step(StepKind::Copy(copy()));
    assert_eq!(standing_key(&plain, own, Some(parent)), Some(own), "its own key says it");
    let mut linked = copy();
    linked.link = true;
    let linked = step(StepKind::Copy(linked));
    let on = |below| standing_key(&linked, own, below);
    assert!(on(Some(parent)).is_some_and(|key| key != own && Some(key) != on(Some(other))));
    assert_ne!(on(Some(parent)), standing_key(&linked, other, Some(parent)));
    assert_eq!(on(None), None);
}
