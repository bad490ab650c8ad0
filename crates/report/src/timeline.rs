//! What waited for what, and which steps the length of the build depends on.

use crate::{Build, State, Step};

/// Maximum time, in milliseconds, that looking a step up takes: a longer gap between its last input
/// and its start is waiting for a slot.
const LOOKUP: u64 = 20;

/// Fills in what follows from the times of a build's steps.
pub(crate) fn complete(build: &mut Build) {
    place_known_images(build);
    for index in 0..build.steps.len() {
        let step = &build.steps[index];
        let Some(began) = step.started_ms.or(step.ended_ms) else { continue };
        let ends = step.inputs.iter().filter_map(|input| Some((build.step(*input)?.ended_ms?, *input)));
        // An image is brought when a step needs it, so an input can end after its user began.
        let last = ends.map(|(end, input)| (end.min(began), input)).max();
        let ready = last.map_or(0, |(end, _)| end);
        let is_held = began - ready > LOOKUP;
        let held_by = if is_held { held_by(build, step, ready, began) } else { None };
        let step = &mut build.steps[index];
        step.waited_for = last.map(|(_, input)| input);
        step.held_by = held_by;
        if step.started_ms.is_some() && step.kind != "image" {
            step.queued_ms = began - ready;
        }
    }
    mark_critical_path(build);
}

/// Places images that did not have to be pulled: their event comes when they are first looked up,
/// at the latest at the end of the build. Such an image was there when the first of its users was
/// done, and comes before that one.
fn place_known_images(build: &mut Build) {
    for index in 0..build.steps.len() {
        let step = &build.steps[index];
        if step.kind != "image" || step.started_ms.is_some() {
            continue;
        }
        let users = build.steps.iter().filter(|user| user.inputs.contains(&step.id));
        let used = users.filter_map(|user| user.started_ms.or(user.ended_ms)).min();
        let ended = step.ended_ms.zip(used).map(|(ended, used)| ended.min(used)).or(step.ended_ms);
        build.steps[index].ended_ms = ended;
    }
}

/// What a step waited for between two moments. One that was executed waited for a slot, which the
/// step that ended last gave up; one whose result was known waited for the step that made it, which
/// has its key.
fn held_by(build: &Build, step: &Step, ready: u64, began: u64) -> Option<u32> {
    let is_cached = step.started_ms.is_none();
    let others = build.steps.iter().filter(|other| other.id != step.id && other.started_ms.is_some());
    let fit = others.filter(|other| match step.kind.as_str() {
        // An image begins when a step needs it, whatever slots are free: one that stands on it.
        "image" => build.chain(other.id).iter().any(|below| below.id == step.id),
        _ => !is_cached || (other.key.is_some() && other.key == step.key),
    });
    let ends = fit.filter_map(|other| other.ended_ms.map(|end| (end, other.id)));
    ends.filter(|(end, _)| (ready + 1..=began).contains(end)).max().map(|(_, id)| id)
}

/// From the step that was done last back to what it waited for: a slot, or else its last input.
fn mark_critical_path(build: &mut Build) {
    let ended = |state| matches!(state, State::Done | State::Cached | State::Failed);
    let last = build.steps.iter().filter(|step| ended(step.state));
    let mut next = last.max_by_key(|step| (step.ended_ms, step.id)).map(|step| step.id);
    while let Some(id) = next {
        let Some(step) = build.steps.iter_mut().find(|step| step.id == id && !step.critical) else { break };
        step.critical = true;
        next = step.held_by.or(step.waited_for);
    }
}

#[cfg(test)]
#[path = "tests/timeline.rs"]
mod tests;
