//! The files of an image of the store, for commands that start it.

use std::path::PathBuf;
use std::sync::Arc;

use dbuild_events::EventSink;
use dbuild_layer::Stack;
use dbuild_plan::{BaseImage, StepId};
use dbuild_store::Store;
use tokio::runtime::Handle;

use crate::BlobSource;
use crate::error::StepError;
use crate::layers::filesystem::{Base, FileSystem};
use crate::layers::flatten::directories;
use crate::schedule::cancel::Cancel;
use crate::steps::image::Bases;

/// The files of an image, which is pulled and unpacked where that has not been done.
pub async fn image_files(
    store: &Store,
    blobs: Arc<dyn BlobSource>,
    events: Arc<dyn EventSink>,
    image: BaseImage,
    cancel: Cancel,
) -> Result<ImageFiles, StepError> {
    let bases = Bases::new(store.clone(), blobs, events, Handle::current(), cancel);
    let store = store.clone();
    let work = tokio::task::spawn_blocking(move || {
        let stack = FileSystem::new(Base::Image(StepId(0), Arc::new(image))).stack(&bases)?;
        ImageFiles::new(&store, stack)
    });
    work.await.unwrap_or(Err(StepError::Stopped))
}

/// See [`image_files`].
#[derive(Debug)]
pub struct ImageFiles {
    /// The image's layers as one file system.
    pub stack: Stack,
    /// The directories of the layers that hold anything, lowest first.
    pub directories: Vec<PathBuf>,
}

impl ImageFiles {
    /// The files of a stack whose layers are all unpacked.
    pub fn new(store: &Store, stack: Stack) -> Result<Self, StepError> {
        let directories = directories(store, &stack)?;
        Ok(Self { stack, directories })
    }
}
