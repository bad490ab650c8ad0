//! What waited for what, and which steps the length of the build depends on.

use crate::{Build, State};

/// Fills in what follows from the times of a build's steps.
pub(crate) fn complete(build: &mut Build) {
    for index in 0..build.steps.len() {
        let step = &build.steps[index];
        let Some(began) = step.started_ms.or(step.ended_ms) else { continue };
        let ends = step.inputs.iter().filter_map(|input| Some((build.step(*input)?.ended_ms?, *input)));
        // An image is brought when a step needs it, so an input can end after its user began.
        let last = ends.map(|(end, input)| (end.min(began), input)).max();
        let step = &mut build.steps[index];
        step.waited_for = last.map(|(_, input)| input);
        if step.started_ms.is_some() {
            step.queued_ms = began - last.map_or(0, |(end, _)| end);
        }
    }
    let ended = |state| matches!(state, State::Done | State::Cached | State::Failed);
    let last = build.steps.iter().filter(|step| ended(step.state));
    let mut next = last.max_by_key(|step| (step.ended_ms, step.id)).map(|step| step.id);
    while let Some(id) = next {
        let Some(step) = build.steps.iter_mut().find(|step| step.id == id && !step.critical) else { break };
        step.critical = true;
        next = step.waited_for;
    }
}
