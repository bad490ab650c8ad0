//! Layers whose files are not written, since the build needs them only to be packed.
//!
//! The layer of a COPY from the context which the image alone uses is packed straight from the
//! context ([`dbuild_layer::borrow`]); the store keeps its index and its blob. Which layers those
//! are is seen from the plan. A later build may need more: then the same COPY is decided once more
//! from the same files, and its files are read from where they are, or written
//! ([`UnwrittenLayers::usable`]); the step is a hit all the same.
//!
//! Two things are seen only on the way: that a file changed between the walk of the context and the
//! packing, and that a COPY that must be executed takes from a layer of the cache that has no
//! files. Then the build begins again, with every file written (`retry.rs`); what it has done is
//! found.

use std::sync::Arc;

use dbuild_digest::{StepKey, TreeDigest};
use dbuild_layer::{
    CopyRequest, LayerError, LayerFiles, Selection, Stack, StackLayer, Tree, UnpackLimits, UnwrittenLayer,
    copy_unwritten, decompress, unpack,
};
use dbuild_plan::{CopyStep, MountKind, Plan, Step, StepId, StepKind};
use dbuild_store::{Snapshot, Store, StoreError};

use crate::cache::step_inputs::StepInputs;
use crate::error::StepError;
use crate::layers::filesystem::StepResult;
use crate::layers::owner_names::has_names;
use crate::layers::pack::Packer;
use crate::layers::remote::RemoteLayers;
use crate::request::Request;
use crate::steps::copy::{with_copy_request, write_copy};
use crate::steps::executed::{Content, Executed};
use crate::steps::step_context::StepContext;

/// The layers of a build that need not be written, and what makes them usable.
pub(crate) struct UnwrittenLayers {
    context: Arc<StepContext>,
    packer: Option<Arc<Packer>>,
    remote: Arc<RemoteLayers>,
    /// By step: its layer must be on disk.
    on_disk: Vec<bool>,
}

/// A layer of the store as this build uses it.
pub(crate) struct StoredLayer {
    pub(crate) snapshot: Snapshot,
    pub(crate) layer: TreeDigest,
    /// Where its files are: in the snapshot, or where they are copied from.
    pub(crate) files: LayerFiles,
}

/// By step, whether its layer must be on disk.
fn must_be_on_disk(request: &Request) -> Vec<bool> {
    let plan = &*request.plan;
    let everything = request.unwritten.is_none() || request.pack.is_none();
    let mut on_disk = vec![everything; plan.len()];
    for below in plan.steps().flat_map(|(_, step)| on_disk_for(step)) {
        mark(plan, below, &mut on_disk);
    }
    on_disk
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

/// The file systems that must be on disk while a step is executed.
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

/// A snapshot with its files. Those that were never written are unpacked from the layer's blob;
/// `below` is what the layer stands on.
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

impl UnwrittenLayers {
    pub(crate) fn new(
        context: Arc<StepContext>,
        packer: Option<Arc<Packer>>,
        remote: Arc<RemoteLayers>,
    ) -> Self {
        let on_disk = must_be_on_disk(&context.request);
        Self { context, packer, remote, on_disk }
    }

    /// Whether the files of a COPY stay where they are.
    pub(crate) fn stays_unwritten(&self, id: StepId, selections: &[Arc<Selection>]) -> bool {
        let Some(policy) = self.context.request.unwritten.filter(|_| !self.on_disk[id.index()]) else {
            return false;
        };
        let paths: usize = selections.iter().map(|selection| selection.len()).sum();
        let bytes = || selections.iter().map(|selection| selection.size()).sum::<u64>();
        selections.iter().all(|selection| selection.is_of_contexts())
            && (paths >= policy.paths || bytes() >= policy.bytes)
    }

    /// A result of the cache, with its files as far as this build needs them. `None`: they are
    /// gone, so that the step must be executed.
    pub(crate) fn usable(
        &self,
        id: StepId,
        step: &Step,
        inputs: &StepInputs<'_>,
        key: &StepKey,
        (snapshot, layer): (Snapshot, TreeDigest),
    ) -> Option<StoredLayer> {
        // What another machine made comes when somebody needs it.
        let is_remote = || self.remote.is_remote(&snapshot.id);
        if matches!(snapshot.files(), LayerFiles::Snapshot(_)) || is_remote() {
            let files = snapshot.files();
            return Some(StoredLayer { snapshot, layer, files });
        }
        let StepKind::Copy(copy) = &step.kind else {
            let is_here = self.remote.is_fetched(id, key, &snapshot.id);
            return is_here.then_some(StoredLayer { snapshot, layer, files: LayerFiles::Absent });
        };
        if self.on_disk[id.index()] {
            let snapshot = self.write(copy, inputs, snapshot).ok()?;
            let files = snapshot.files();
            return Some(StoredLayer { snapshot, layer, files });
        }
        let is_packed = self.packer.as_ref().is_none_or(|packer| packer.is_done(id, &snapshot.id));
        let files = match is_packed {
            true => LayerFiles::Absent,
            false => LayerFiles::Unwritten(self.locate(copy, inputs, &snapshot.tree).ok()?),
        };
        Some(StoredLayer { snapshot, layer, files })
    }

    /// What a COPY gave once more, with its files where they are copied from.
    fn locate(
        &self,
        copy: &CopyStep,
        inputs: &StepInputs<'_>,
        tree: &Arc<Tree>,
    ) -> Result<Arc<UnwrittenLayer>, StepError> {
        let located = with_copy_request(copy, inputs, |request, _| {
            let request = CopyRequest { known: Some(tree), ..request };
            copy_unwritten(&request).map_err(|error| StepError::Copy { error, from: None })
        })?;
        // On another parent it can be another layer.
        let same = located.filter(|located| located.tree().digest() == tree.digest());
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
        let executed = with_copy_request(copy, inputs, |request, _| {
            write_copy(&self.context, &CopyRequest { known: Some(&tree), ..request })
        })?;
        match executed {
            Executed { content: Content::Written(draft), tree, unkeyed: false, .. }
                if tree.digest() == snapshot.tree.digest() =>
            {
                Ok(self.context.store().give_files(snapshot, draft)?)
            }
            _ => Err(StepError::Internal("a layer is not what it was")),
        }
    }

    /// The first result of a COPY as it can be kept beside what was made now. If its files were
    /// never written and those made now were, they are written once more, with the times that its
    /// index says: what was made now has the times of now.
    pub(crate) fn with_its_times(
        &self,
        step: &Step,
        inputs: &StepInputs<'_>,
        first: Snapshot,
        made: &Content,
    ) -> Option<Snapshot> {
        match (&step.kind, made) {
            (StepKind::Copy(copy), Content::Written(_)) if first.dir.is_none() => {
                self.write(copy, inputs, first).ok()
            }
            _ => Some(first),
        }
    }

    /// The file system of a step that is done, with files that were not written read from where
    /// they are.
    pub(crate) fn readable(&self, results: &[Arc<StepResult>], id: StepId) -> Option<Stack> {
        let files = &results.get(id.index())?.files;
        let mut layers = files.stack(&self.context.bases).ok()?.layers().to_vec();
        let first = layers.len() - files.own_layers().len();
        for (layer, own) in layers[first..].iter_mut().zip(files.own_layers()) {
            let step = self.context.plan().step(own.step);
            if layer.files == LayerFiles::Absent
                && let StepKind::Copy(copy) = &step.kind
                && let Some(located) = self.locate_again(step, copy, results, &layer.tree)?
            {
                *layer = StackLayer { tree: Arc::clone(&layer.tree), files: LayerFiles::Unwritten(located) };
            }
        }
        Some(Stack::new(layers))
    }

    /// The files of a COPY that is done, where they are copied from. The outer `None`: an input has
    /// no result.
    fn locate_again(
        &self,
        step: &Step,
        copy: &CopyStep,
        results: &[Arc<StepResult>],
        tree: &Arc<Tree>,
    ) -> Option<Option<Arc<UnwrittenLayer>>> {
        let StepContext { bases, .. } = &*self.context;
        let inputs = step.inputs().into_iter().map(|input| results.get(input.index()).cloned());
        let inputs = inputs.collect::<Option<Vec<_>>>()?;
        // Nothing is pulled for it.
        let is_present =
            |result: &Arc<StepResult>| result.files.image().is_none_or(|image| bases.is_present(image));
        if !inputs.iter().all(is_present) {
            return Some(None);
        }
        let inputs = StepInputs::of_results(self.context.plan(), step, bases, &inputs);
        Some(self.locate(copy, &inputs, tree).ok())
    }

    /// Puts what a step made into the store. `first` is the first result of its words and content,
    /// if there is one.
    pub(crate) fn publish(
        &self,
        first: Option<Snapshot>,
        content: Content,
        tree: Arc<Tree>,
    ) -> Result<(Snapshot, LayerFiles), StoreError> {
        let store = self.context.store();
        let snapshot = match (first, content) {
            (Some(first), Content::Written(draft)) if first.dir.is_none() => {
                store.give_files(first, draft)?
            }
            (Some(first), Content::Unwritten(files)) if first.dir.is_none() => {
                return Ok((first, LayerFiles::Unwritten(files)));
            }
            (Some(first), _) => first,
            (None, Content::Written(draft)) => store.publish_snapshot(draft, tree)?,
            (None, Content::Unwritten(files)) => {
                return Ok((store.publish_index(tree)?, LayerFiles::Unwritten(files)));
            }
        };
        let files = snapshot.files();
        Ok((snapshot, files))
    }
}
