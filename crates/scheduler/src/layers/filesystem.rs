//! What a step gives to the steps after it.

use std::path::PathBuf;
use std::sync::Arc;

use dbuild_digest::{StepKey, TreeDigest};
use dbuild_layer::{LayerFiles, Stack, StackLayer, Tree};
use dbuild_plan::{BaseImage, StepId};
use dbuild_store::{Snapshot, Store};

use crate::error::StepError;
use crate::steps::image::{Bases, present};

/// A step that is done.
#[derive(Clone, Debug)]
pub struct StepResult {
    /// Its key under the build's strategy.
    pub key: StepKey,
    /// The same with all that it stands on: see [`dbuild_cache::standing_key`].
    pub standing: StepKey,
    /// What its file system contains, as [`dbuild_cache::Inputs::output`] means it.
    pub output: TreeDigest,
    /// Its file system.
    pub files: FileSystem,
    /// It was not executed.
    pub cached: bool,
}

/// A file system as a build knows it: by its layers' indexes. Files are unpacked only when somebody
/// asks.
#[derive(Clone, Debug)]
pub struct FileSystem {
    base: Base,
    /// Shared with the file systems of the steps above.
    layers: Vec<Arc<OwnLayer>>,
}

/// A layer's snapshot with its files, where it is to have them.
type ChangeLayer<'a> = dyn Fn(&Snapshot, &LayerFiles, &Stack) -> Result<Option<Snapshot>, StepError> + 'a;

/// What a file system begins with.
#[derive(Clone, Debug)]
pub(crate) enum Base {
    /// Nothing.
    Empty,
    /// An image, by the step that names it.
    Image(StepId, Arc<BaseImage>),
    /// A directory of the user's.
    Context(Arc<Tree>, PathBuf),
}

/// A layer that a step of the build made.
#[derive(Clone, Debug)]
pub struct OwnLayer {
    /// The step.
    pub step: StepId,
    /// The layer.
    pub snapshot: Snapshot,
    /// Where its files are: the snapshot's, or those of a context that it was copied from.
    files: LayerFiles,
}

impl OwnLayer {
    fn layer(&self) -> StackLayer {
        StackLayer { tree: Arc::clone(&self.snapshot.tree), files: self.files.clone() }
    }
}

impl FileSystem {
    pub(crate) fn new(base: Base) -> Self {
        Self { base, layers: Vec::new() }
    }

    pub(crate) fn with(&self, step: StepId, snapshot: Snapshot, files: LayerFiles) -> Self {
        let mut next = self.clone();
        next.layers.push(Arc::new(OwnLayer { step, snapshot, files }));
        next
    }

    /// The image that it begins with, if it begins with one.
    pub fn image(&self) -> Option<&BaseImage> {
        match &self.base {
            Base::Image(_, image) => Some(image),
            Base::Empty | Base::Context(..) => None,
        }
    }

    /// The layers that steps of this build made, lowest first.
    pub fn own_layers(&self) -> &[Arc<OwnLayer>] {
        &self.layers
    }

    /// All layers as one file system. Pulls and unpacks the base image where that has not been
    /// done.
    pub(crate) fn stack(&self, bases: &Bases) -> Result<Stack, StepError> {
        let base = match &self.base {
            Base::Image(step, image) => bases.layers(*step, image)?,
            Base::Empty | Base::Context(..) => Arc::default(),
        };
        Ok(self.stack_on(&base))
    }

    /// The same with other snapshots for some of its layers. `change` is given a layer, where its
    /// files are, and what it stands on. `None`: nothing changes.
    pub(crate) fn map_layers(
        &self,
        bases: &Bases,
        change: &ChangeLayer<'_>,
    ) -> Result<Option<Self>, StepError> {
        if self.layers.iter().all(|layer| layer.files != LayerFiles::Absent) {
            return Ok(None);
        }
        let mut below = Self { base: self.base.clone(), layers: Vec::new() }.stack(bases)?;
        let (mut layers, mut is_changed) = (Vec::new(), false);
        for layer in &self.layers {
            let layer = match change(&layer.snapshot, &layer.files, &below)? {
                None => Arc::clone(layer),
                Some(snapshot) => {
                    is_changed = true;
                    let files = snapshot.files();
                    Arc::new(OwnLayer { step: layer.step, snapshot, files })
                }
            };
            below = below.with(layer.layer());
            layers.push(layer);
        }
        Ok(is_changed.then(|| Self { base: self.base.clone(), layers }))
    }

    /// All layers as one file system, if that takes no pulling and unpacking.
    pub(crate) fn stack_if_present(&self, store: &Store) -> Option<Stack> {
        let base = match &self.base {
            Base::Image(_, image) => present(store, image)?,
            Base::Empty | Base::Context(..) => Vec::new(),
        };
        Some(self.stack_on(&base))
    }

    /// `base` are the layers of the image that it begins with.
    fn stack_on(&self, base: &[Snapshot]) -> Stack {
        let mut layers: Vec<StackLayer> = base.iter().map(Snapshot::layer).collect();
        if let Base::Context(tree, root) = &self.base {
            layers.push(StackLayer { tree: Arc::clone(tree), files: LayerFiles::Live(root.clone()) });
        }
        layers.extend(self.layers.iter().map(|layer| layer.layer()));
        Stack::new(layers)
    }
}

/// One snapshot as a file system.
pub(crate) fn stack_of_one(snapshot: &Snapshot) -> Stack {
    Stack::new(vec![snapshot.layer()])
}
