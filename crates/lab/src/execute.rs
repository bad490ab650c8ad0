//! Steps that are executed: each commit is built once into a store, under the strategy `output`,
//! and what its steps gave is read from there. A step whose result the store has is not executed
//! again, whichever commit it belongs to.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;

use dbuild_layer::EntryKind;
use dbuild_plan::Plan;
use dbuild_scheduler::{ContextDir, FileSystem, InStore, KnownResult};
use dbuild_store::Store;

use crate::LabError;
use crate::context::{Blobs, Context};
use crate::world::World;

/// Builds a plan into a store.
pub trait Execute {
    /// The store.
    fn store(&self) -> &Store;

    /// Carries out what the store does not have, under the strategy `output`.
    fn build(
        &mut self,
        plan: Arc<Plan>,
        contexts: BTreeMap<Option<String>, ContextDir>,
    ) -> Result<(), Stopped>;
}

/// Why a build gave nothing.
#[derive(Debug)]
pub enum Stopped {
    /// A step failed: which, and why.
    Failed(String),
    /// The user stopped it.
    Interrupted,
}

impl World for InStore<'_> {
    fn bytes(&self, gave: &KnownResult<FileSystem>) -> u64 {
        let layer = gave.files.as_ref().and_then(|files| files.own_layers().last());
        layer.map_or(0, |layer| layer.snapshot.tree.unpacked_size())
    }
}

/// Writes a commit's context to an empty directory. What is ignored is not written.
pub(crate) fn write_out(context: &Context, blobs: &Blobs, dir: &Path) -> Result<(), LabError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| LabError::Checkout { path, error }
    };
    let entries = context.tree.entries();
    for directory in entries.iter().filter(|entry| entry.is_dir()) {
        let path = dir.join(directory.path.as_path());
        DirBuilder::new().recursive(true).mode(directory.mode).create(&path).map_err(failed(&path))?;
    }
    for (at, oid) in &context.blobs {
        let path = dir.join(at.as_path());
        let Some(entry) = context.tree.get(at) else { continue };
        match &entry.kind {
            EntryKind::Symlink { target } => {
                symlink(std::ffi::OsStr::from_bytes(target), &path).map_err(failed(&path))?;
            }
            _ => {
                let bytes = blobs.bytes(*oid)?;
                let mut options = OpenOptions::new();
                let file = options.write(true).create_new(true).mode(entry.mode).open(&path);
                file.and_then(|mut file| {
                    file.write_all(&bytes)?;
                    // The mode of a commit is no matter of this process's umask.
                    file.set_permissions(fs::Permissions::from_mode(entry.mode))
                })
                .map_err(failed(&path))?;
            }
        }
    }
    Ok(())
}
