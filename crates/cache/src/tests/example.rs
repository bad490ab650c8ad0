//! The worked example of `docs/concepts/cache-key.md` is what is compiled here, and does what the
//! document says.

use dbuild_plan::{StepId, StepKind};

use super::fixture::{Answers, CONTEXT, PARENT, STAGE, answers, copy, run, step};
use crate::strategies::whole::WholeStrategy;
use crate::{SelectedPath, Strategy, key_of, strategies};

const DOCUMENT: &str = include_str!("../../../../docs/concepts/cache-key.md");
const COMPILED: &str = include_str!("whole.rs");
const LIST: &str = include_str!("../strategies/mod.rs");

#[test]
fn the_document_shows_the_file_that_is_compiled() {
    let (_, section) = DOCUMENT.split_once("## How to add a strategy\n").unwrap();
    let blocks: Vec<&str> =
        section.split("```rust\n").skip(1).map(|block| block.split_once("```").unwrap().0).collect();
    let [file, lines] = blocks.as_slice() else { panic!("a file and its lines, not {blocks:?}") };
    assert_eq!(*file, COMPILED);
    assert_eq!(lines.lines().count(), 2);
    for line in lines.lines() {
        // The lines have the form of those that are there.
        let there = line.replace("whole", "output").replace("Whole", "Output");
        let has = |line: &str| LIST.lines().any(|listed| listed == line);
        assert!(has(&there) && !has(line), "{line}");
    }
}

fn new_key(inputs: &mut Answers, of: StepId) {
    inputs.keys.insert(of, 99);
}

fn new_output(inputs: &mut Answers, of: StepId) {
    inputs.outputs.insert(of, 99);
}

/// Whether a change of the inputs changes the key.
fn changed(kind: &StepKind, change: impl Fn(&mut Answers)) -> bool {
    let mut inputs = answers();
    change(&mut inputs);
    let of = |inputs: &Answers| key_of(&WholeStrategy, &step(kind.clone()), inputs).unwrap().0;
    of(&inputs) != of(&answers())
}

#[test]
fn it_takes_every_source_stage_as_a_whole() {
    for kind in [StepKind::Copy(copy()), StepKind::Run(run())] {
        for input in [PARENT, STAGE] {
            assert!(!changed(&kind, |inputs| new_key(inputs, input)), "it ran and gave the same");
            assert!(changed(&kind, |inputs| new_output(inputs, input)));
        }
        assert!(!changed(&kind, |inputs| drop(inputs.selected.remove(&0))), "no paths of a stage");
        assert!(!changed(&kind, |inputs| new_output(inputs, CONTEXT)));
        let file = || vec![SelectedPath::new("main.py", "file", 0o644, 0, 0, "eeee")];
        assert!(changed(&kind, |inputs| drop(inputs.selected.insert(1, file()))), "the context's do");
    }
    let names: Vec<&str> = strategies().iter().map(|strategy| strategy.name()).collect();
    assert!(!names.contains(&WholeStrategy.name()), "it is an example");
}
