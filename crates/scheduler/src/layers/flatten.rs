//! Stacks that overlayfs cannot mount as they are: those that hold a build context, and those that
//! are too deep. What they show is put into one snapshot, once; files are hardlinked from the
//! layers that have them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use dbuild_digest::{Framed, StepKey};
use dbuild_layer::{CopyRequest, LayerFiles, SelectOptions, Source, Stack, StackLayer, copy, select};
use dbuild_store::{Record, Snapshot, Store};
use dbuild_support::time::now_ms;

use crate::error::StepError;
use crate::layers::filesystem::stack_of_one;

/// Deeper stacks are made shallow. Linux mounts 500 layers since 6.7, and before as many as fit a
/// page of paths.
const DEEPEST: usize = 128;
/// Number of the lowest layers that become one. The layers above are left to grow, so that a chain
/// of RUNs merges once in as many steps.
const MERGED: usize = 97;

/// The directories of a stack, lowest first, for overlayfs. Layers without entries add nothing.
pub(crate) fn directories(store: &Store, stack: &Stack) -> Result<Vec<PathBuf>, StepError> {
    let mut layers = without_repetitions(stack);
    while layers.len() > DEEPEST {
        let above = layers.split_off(MERGED);
        let mut framed = Framed::new("merged-layers", 2);
        for layer in &layers {
            framed.bytes(layer.tree.digest().as_bytes());
            // Two layers with one digest can have different times, which a command sees.
            if let LayerFiles::Snapshot(dir) = &layer.files {
                let id = dir.parent().and_then(Path::file_name).unwrap_or_default();
                framed.bytes(id.as_encoded_bytes());
            }
        }
        let key = StepKey::from_bytes(framed.finish());
        let text = "the lowest layers of a deep stack";
        let merged = merged_layer(store, key, text, &Stack::new(layers))?;
        layers = stack_of_one(&merged).layers().to_vec();
        layers.extend(above);
    }
    let directory = |layer: StackLayer| match layer.files {
        LayerFiles::Snapshot(dir) => Ok(dir),
        LayerFiles::Absent | LayerFiles::Live(_) | LayerFiles::Unwritten(_) => {
            Err(StepError::Internal("a layer without files was to be mounted"))
        }
    };
    layers.into_iter().map(directory).collect()
}

/// The layers that have entries, each snapshot once: an instruction that stands in a stage twice
/// gives the same layer twice, and overlayfs takes no directory twice. All that the lower one shows
/// or hides, the upper one does again.
fn without_repetitions(stack: &Stack) -> Vec<StackLayer> {
    let mut met: HashSet<&Path> = HashSet::new();
    let from_the_top = stack.layers().iter().rev().filter(|layer| !layer.tree.is_empty());
    let mut layers: Vec<StackLayer> = from_the_top
        .filter(|layer| match &layer.files {
            LayerFiles::Snapshot(dir) => met.insert(dir),
            LayerFiles::Absent | LayerFiles::Live(_) | LayerFiles::Unwritten(_) => true,
        })
        .cloned()
        .collect();
    layers.reverse();
    layers
}

/// What a stack shows as one snapshot, which is found again by `key`.
pub(crate) fn merged_layer(
    store: &Store,
    key: StepKey,
    text: &str,
    stack: &Stack,
) -> Result<Snapshot, StepError> {
    let _lock = store.lock_key(&key)?;
    if let Some(record) = store.record(&key)
        && let Some(id) = &record.snapshot
        && let Some(snapshot) = store.snapshot(id)
    {
        return Ok(snapshot);
    }
    let failed = |error| StepError::Copy { error, from: None };
    let all = select(stack, "/.", &SelectOptions::default()).map_err(failed)?;
    let sources = vec![Source::Selected { selection: &all, unpack: false }];
    let request = CopyRequest::new(sources, "/");
    let draft = store.new_snapshot()?;
    let made = copy(&request, &draft.fs_dir(), store.flavor()).map_err(failed)?;
    let layer = made.tree.digest();
    let snapshot = store.publish_snapshot(draft, made.tree)?;
    // A file of a context that changed meanwhile: good for this time only.
    if made.changed.is_empty() {
        let now = now_ms();
        let record = Record {
            key,
            strategy: "mount".to_owned(),
            definition: key,
            text: text.to_owned(),
            output: layer,
            layer,
            layer_is_empty: snapshot.tree.is_empty(),
            snapshot: Some(snapshot.id.clone()),
            stage: String::new(),
            inputs: Vec::new(),
            made_from: Vec::new(),
            duration_ms: 0,
            created_ms: now,
            hits: 0,
            last_used_ms: now,
        };
        store.put_record(&record, &[])?;
    }
    Ok(snapshot)
}
