//! Layers whose files are not written, since packing them is all that the build needs them for.
//!
//! The layer of a COPY from the context of which the image alone has a use is packed straight from the context
//! ([`dbuild_layer::copy_unwritten`]); the store keeps its index and its blob. Which those are is seen from the plan ([`Needs`]). A later
//! build may need more: then the same is decided once more, by the same COPY from the same files, and lent or written
//! ([`Shared::usable`]), and the step is a hit all the same.
//!
//! Two things are seen only on the way: that a file changed between the walk of the context and the packing, and that a COPY that
//! must be carried out takes from a layer of the cache that has no files. Then the build begins again, with every file
//! written (`build.rs`); what it has done is found.

use std::sync::Arc;

use dbuild_digest::TreeDigest;
use dbuild_layer::{
    CopyRequest, LayerError, LayerFiles, Selection, Stack, StackLayer, Tree, UnpackLimits, UnwrittenLayer,
    copy_unwritten, decompress, unpack,
};
use dbuild_plan::{CopyStep, MountKind, Plan, Step, StepId, StepKind};
use dbuild_store::{Snapshot, Store, StoreError};

use crate::cache::step_inputs::StepInputs;
use crate::error::StepError;
use crate::layers::filesystem::StepResult;
use crate::request::Request;
use crate::worker::{Content, Executed, Shared};

/// What the steps of a plan need of each other's layers.
pub(crate) struct Needs {
    /// By step: its layer must be on disk.
    on_disk: Vec<bool>,
}

/// A result of the cache as this build can use it.
pub(crate) struct Usable {
    pub(crate) snapshot: Snapshot,
    pub(crate) layer: TreeDigest,
    pub(crate) files: LayerFiles,
}

impl Needs {
    pub(crate) fn of(request: &Request) -> Self {
        let plan = &*request.plan;
        let everything = request.unwritten.is_none() || request.pack.is_none();
        let mut on_disk = vec![everything; plan.len()];
        for below in plan.steps().flat_map(|(_, step)| on_disk_for(step)) {
            mark(plan, below, &mut on_disk);
        }
        Self { on_disk }
    }
}

/// Marks a step and those that it stands on. What is marked has its chain marked.
fn mark(plan: &Plan, last: StepId, marks: &mut [bool]) {
    let mut at = Some(last);
    while let Some(id) = at {
        if std::mem::replace(&mut marks[id.index()], true) {
            return;
        }
        at = plan.step(id).parent();
    }
}

/// The file systems that must be on disk while a step is carried out.
fn on_disk_for(step: &Step) -> Vec<StepId> {
    match &step.kind {
        StepKind::Run(run) => {
            let mounted = run.mounts.iter().filter_map(|mount| match &mount.kind {
                MountKind::Bind { from, .. } | MountKind::Cache { from: Some(from), .. } => Some(*from),
                _ => None,
            });
            mounted.chain([run.parent]).collect()
        }
        // Names are looked up in files.
        StepKind::Copy(copy) if copy.chown.as_deref().is_some_and(has_names) => vec![copy.parent],
        StepKind::Workdir(workdir) if has_names(&workdir.user) => vec![workdir.parent],
        _ => Vec::new(),
    }
}

fn has_names(owner: &str) -> bool {
    !owner.bytes().all(|byte| byte.is_ascii_digit() || byte == b':')
}

/// A snapshot with its files. Those that were never written are unpacked from the layer's blob; `below` is what the layer
/// stands on.
pub fn snapshot_with_files(store: &Store, snapshot: Snapshot, below: &Stack) -> Result<Snapshot, StepError> {
    if snapshot.dir.is_some() {
        return Ok(snapshot);
    }
    let gone = || {
        let text = "the files of a COPY were in the image alone, and that is gone: build again";
        StepError::Needs(text.to_owned())
    };
    let packed = store.packed_in_any_form(&snapshot.id).ok_or_else(gone)?;
    let draft = store.new_snapshot()?;
    let tar = decompress(store.open_blob(&packed.digest)?).map_err(LayerError::from)?;
    let unpacked = unpack(tar, &draft.fs_dir(), store.flavor(), &UnpackLimits::default())?;
    let made = unpacked.complete_as(below, Some(&snapshot.tree))?;
    if made.tree.digest() != snapshot.tree.digest() {
        return Err(gone());
    }
    Ok(store.give_files(snapshot, draft)?)
}

impl Shared {
    /// Whether the files of a COPY stay where they are.
    pub(crate) fn leaves(&self, id: StepId, selections: &[Arc<Selection>]) -> bool {
        let Some(leave) = self.request.unwritten.filter(|_| !self.needs.on_disk[id.index()]) else {
            return false;
        };
        let paths: usize = selections.iter().map(|selection| selection.len()).sum();
        let bytes = || selections.iter().map(|selection| selection.size()).sum::<u64>();
        selections.iter().all(|selection| selection.is_of_contexts())
            && (paths >= leave.paths || bytes() >= leave.bytes)
    }

    /// A result of the cache, with its files as far as this build needs them. `None`: they cannot be had, so that the step must be
    /// carried out.
    pub(crate) fn usable(
        &self,
        id: StepId,
        step: &Step,
        inputs: &StepInputs<'_>,
        (snapshot, layer): (Snapshot, TreeDigest),
    ) -> Option<Usable> {
        if let LayerFiles::Snapshot(_) = snapshot.files() {
            let files = snapshot.files();
            return Some(Usable { snapshot, layer, files });
        }
        let StepKind::Copy(copy) = &step.kind else { return None };
        if self.needs.on_disk[id.index()] {
            let snapshot = self.write(copy, inputs, snapshot).ok()?;
            let files = snapshot.files();
            return Some(Usable { snapshot, layer, files });
        }
        let is_packed = self.packer.as_ref().is_none_or(|packer| packer.is_done(id, &snapshot.id));
        let files = match is_packed {
            true => LayerFiles::Absent,
            false => LayerFiles::Unwritten(self.lend(copy, inputs, &snapshot.tree).ok()?),
        };
        Some(Usable { snapshot, layer, files })
    }

    /// What a COPY gave once more, not written.
    fn lend(
        &self,
        copy: &CopyStep,
        inputs: &StepInputs<'_>,
        tree: &Arc<Tree>,
    ) -> Result<Arc<UnwrittenLayer>, StepError> {
        let borrowed = self.copying(copy, inputs, |request, _| {
            let request = CopyRequest { known: Some(tree), ..request };
            copy_unwritten(&request).map_err(|error| StepError::Copy { error, from: None })
        })?;
        // On another parent it can be another layer.
        let same = borrowed.filter(|borrowed| borrowed.tree().digest() == tree.digest());
        same.map(Arc::new).ok_or(StepError::Internal("a layer is not what it was"))
    }

    /// What a COPY gave once more, written.
    fn write(
        &self,
        copy: &CopyStep,
        inputs: &StepInputs<'_>,
        snapshot: Snapshot,
    ) -> Result<Snapshot, StepError> {
        let tree = Arc::clone(&snapshot.tree);
        let executed = self.copying(copy, inputs, |request, _| {
            self.copied(&CopyRequest { known: Some(&tree), ..request })
        })?;
        match executed {
            Executed { content: Content::Written(draft), tree, unkeyed: false }
                if tree.digest() == snapshot.tree.digest() =>
            {
                Ok(self.store().give_files(snapshot, draft)?)
            }
            _ => Err(StepError::Internal("a layer is not what it was")),
        }
    }

    /// The first result of a COPY as it can be kept beside what was made now. If its files were never written and those made now
    /// were, they are written once more, with the times that its index says: what was made now has the times of now.
    pub(crate) fn with_its_times(
        &self,
        step: &Step,
        inputs: &StepInputs<'_>,
        known: Snapshot,
        made: &Content,
    ) -> Option<Snapshot> {
        match (&step.kind, made) {
            (StepKind::Copy(copy), Content::Written(_)) if known.dir.is_none() => {
                self.write(copy, inputs, known).ok()
            }
            _ => Some(known),
        }
    }

    /// The file system of a step that is done, with files that were not written read from where they are.
    pub(crate) fn readable(&self, outputs: &[Arc<StepResult>], id: StepId) -> Option<Stack> {
        let files = &outputs.get(id.index())?.files;
        let mut layers = files.stack(&self.bases).ok()?.layers().to_vec();
        let first = layers.len() - files.own_layers().len();
        for (layer, own) in layers[first..].iter_mut().zip(files.own_layers()) {
            let step = self.plan().step(own.step);
            if layer.files == LayerFiles::Absent
                && let StepKind::Copy(copy) = &step.kind
            {
                let given = step.inputs().into_iter().map(|input| outputs.get(input.index()).cloned());
                let given = given.collect::<Option<Vec<_>>>()?;
                // Nothing is pulled for it.
                let image = |output: &Arc<StepResult>| {
                    output.files.image().is_none_or(|image| self.bases.is_present(image))
                };
                if !given.iter().all(image) {
                    continue;
                }
                let inputs = StepInputs::of_outputs(self.plan(), step, &self.bases, &given);
                if let Ok(borrowed) = self.lend(copy, &inputs, &layer.tree) {
                    *layer =
                        StackLayer { tree: Arc::clone(&layer.tree), files: LayerFiles::Unwritten(borrowed) };
                }
            }
        }
        Some(Stack::new(layers))
    }

    /// What a step made is put into the store, the first result of its words and content if there is one.
    pub(crate) fn publish(
        &self,
        known: Option<Snapshot>,
        content: Content,
        tree: Arc<Tree>,
    ) -> Result<(Snapshot, LayerFiles), StoreError> {
        let snapshot = match (known, content) {
            (Some(known), Content::Written(draft)) if known.dir.is_none() => {
                self.store().give_files(known, draft)?
            }
            (Some(known), Content::Borrowed(borrowed)) if known.dir.is_none() => {
                return Ok((known, LayerFiles::Unwritten(borrowed)));
            }
            (Some(known), _) => known,
            (None, Content::Written(draft)) => self.store().publish_snapshot(draft, tree)?,
            (None, Content::Borrowed(borrowed)) => {
                return Ok((self.store().publish_index(tree)?, LayerFiles::Unwritten(borrowed)));
            }
        };
        let files = snapshot.files();
        Ok((snapshot, files))
    }
}
