//! A process's own directory below `tmp/`, and those that dead processes left.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use dbuild_support::io_context::IoContext as _;
use dbuild_support::lock;

use crate::StoreError;
use crate::ids::unique;
use crate::publish::remove_tree;

/// This process's directory below `tmp/`, locked for as long as it lives.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) dir: PathBuf,
    _lock: File,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is swept by the next one who opens the store.
        let _ = remove_tree(&self.dir);
    }
}

/// Makes this process's directory in `tmp/`; called while the store's lock is held, so nobody takes
/// it for a dead one.
pub(crate) fn make_scratch(root: &Path) -> Result<Scratch, StoreError> {
    let dir = root.join("tmp").join(unique());
    DirBuilder::new().mode(0o700).create(&dir).on("make", &dir)?;
    let lock = File::open(&dir).on("open", &dir)?;
    lock.lock().on("lock", &dir)?;
    Ok(Scratch { dir, _lock: lock })
}

/// What is in `tmp/` and belongs to no living process, locked so that nobody else removes it, too.
/// The store's lock is held.
pub(crate) fn dead_scratch(
    root: &Path,
    own: Option<&Path>,
) -> Result<Vec<(PathBuf, Option<File>)>, StoreError> {
    let tmp = root.join("tmp");
    let mut dead = Vec::new();
    for entry in fs::read_dir(&tmp).on("read", &tmp)? {
        let path = entry.on("read", &tmp)?.path();
        if Some(&*path) == own {
            continue;
        }
        let Ok(file) = File::open(&path) else { continue };
        if lock::try_lock(&file).unwrap_or(false) {
            dead.push((path, Some(file)));
        }
    }
    Ok(dead)
}
