//! What became of each stage's bytes: made, shipped, left behind.
//!
//! A file counts as shipped when the image holds its bytes, wherever they stand there: so a file
//! that went through two COPY steps under two names is still known.

use std::collections::HashSet;
use std::sync::Arc;

use dbuild_digest::ContentDigest;
use dbuild_events::Event;
use dbuild_layer::{EntryKind, Tree};
use dbuild_plan::{Plan, StageId, StepId};

use crate::layers::filesystem::StepResult;
use crate::steps::image::Bases;

/// One [`Event::StageSummary`] for each stage that was reached.
pub(crate) fn summarize(plan: &Plan, outputs: &[Arc<StepResult>], bases: &Bases) -> Vec<Event> {
    let mut shipped_files: HashSet<ContentDigest> = HashSet::new();
    let mut shipped_stages: HashSet<StageId> = HashSet::new();
    let lasts: Vec<StepId> =
        plan.targets().iter().filter_map(|target| plan.stage(target.stage).last).collect();
    for last in &lasts {
        shipped_stages.extend(plan.chain(*last).iter().map(|id| plan.step(*id).stage));
        for tree in trees(&outputs[last.index()], bases) {
            shipped_files.extend(contents(&tree).map(|(content, _)| content));
        }
    }
    let mut events = Vec::new();
    for (index, stage) in plan.stages().iter().enumerate() {
        let id = StageId(index as u32);
        let Some(last) = stage.last else { continue };
        let steps = plan.chain(last);
        let own: Vec<StepId> = steps.into_iter().filter(|step| plan.step(*step).stage == id).collect();
        let (mut made, mut shipped, mut cached) = (0, 0, 0);
        for step in &own {
            let output = &outputs[step.index()];
            cached += u32::from(output.cached);
            let Some(layer) = output.files.own_layers().iter().find(|layer| layer.step == *step) else {
                continue;
            };
            made += layer.snapshot.tree.unpacked_size();
            shipped += shipped_bytes(&layer.snapshot.tree, &shipped_files, shipped_stages.contains(&id));
        }
        let mut base_bytes = 0;
        // A stage that begins with an image counts all of it; one that begins with a stage counts
        // what that stage did not make.
        if stage.base_stage.is_none() {
            for tree in base_trees(&outputs[last.index()], bases) {
                base_bytes += tree.unpacked_size();
                shipped += shipped_bytes(&tree, &shipped_files, shipped_stages.contains(&id));
            }
        }
        events.push(Event::StageSummary {
            stage: id.0,
            base_bytes,
            made_bytes: made,
            shipped_bytes: shipped,
            left_bytes: (base_bytes + made).saturating_sub(shipped),
            cached,
            steps: own.len() as u32,
        });
    }
    events
}

/// All of a stage that the image is built on is in the image.
fn shipped_bytes(tree: &Tree, shipped: &HashSet<ContentDigest>, whole: bool) -> u64 {
    if whole {
        return tree.unpacked_size();
    }
    contents(tree).filter(|(content, _)| shipped.contains(content)).map(|(_, size)| size).sum()
}

fn contents(tree: &Tree) -> impl Iterator<Item = (ContentDigest, u64)> {
    tree.entries().iter().filter_map(|entry| match &entry.kind {
        EntryKind::File { size, content } if *size > 0 => Some((*content, *size)),
        _ => None,
    })
}

fn trees(output: &StepResult, bases: &Bases) -> Vec<Arc<Tree>> {
    let own = output.files.own_layers().iter().map(|layer| Arc::clone(&layer.snapshot.tree));
    base_trees(output, bases).into_iter().chain(own).collect()
}

/// The layers of the base image, where they were unpacked: nothing is pulled for a figure.
fn base_trees(output: &StepResult, bases: &Bases) -> Vec<Arc<Tree>> {
    output.files.image().and_then(|image| bases.if_present(image)).unwrap_or_default()
}
