//! Room for a collection on a full disk.
//!
//! Without a few blocks and inodes no process can make its directory in `tmp/`, and SQLite can
//! delete no row. So a store keeps some files that say nothing, in `reserve/`. `dbuild cache prune`
//! removes them where the file system has next to nothing left, before it opens the store; whoever
//! opens the store when there is space again makes them anew. Nothing depends on them: whoever is
//! killed in between leaves a store without a reserve.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use dbuild_support::io_context::IoContext as _;
use dbuild_support::lock;
use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::format::{RESERVE, RESERVE_BYTES};
use crate::gc::disk_usage::size_of;
use crate::publish::{create_new, remove_tree};
use crate::scratch::dead_scratch;
use crate::{Store, StoreError};

/// Each of them is an inode that a collection can have.
const FILES: u64 = 16;

impl Store {
    /// Gives the reserve of the store in a directory back to the file system, with what dead
    /// processes left in `tmp/`, if there is no space or no inode left. To be called before the
    /// store is opened, by who is going to collect.
    pub fn make_room(dir: &Path) -> Result<(), StoreError> {
        if !dir.join("format").exists() || has_free(dir, RESERVE_BYTES, FILES)? {
            return Ok(());
        }
        let lock_path = dir.join("lock");
        let lock = lock::open(&lock_path).on("lock", &lock_path)?;
        lock.lock().on("lock", &lock_path)?;
        let reserve = dir.join(RESERVE);
        remove_tree(&reserve).on("remove", &reserve)?;
        for (path, _lock) in dead_scratch(dir, None)? {
            remove_tree(&path).on("remove", &path)?;
        }
        Ok(())
    }

    /// Makes the reserve where there is none and space enough; whether it did. The store can do
    /// without.
    pub(crate) fn keep_reserve(&self) -> bool {
        let place = self.room(RESERVE);
        if place.exists() || !matches!(has_free(self.root(), 8 * RESERVE_BYTES, 8 * FILES), Ok(true)) {
            return false;
        }
        let draft = self.scratch_path();
        // Another process may have been faster.
        let made = fill(&draft).and_then(|()| fs::rename(&draft, &place));
        if let Err(error) = &made {
            let _ = remove_tree(&draft);
            tracing::debug!("no reserve is kept: {error}");
        }
        made.is_ok()
    }

    /// Removes the reserve, for a limit that leaves no room for it; the bytes on disk that it took.
    /// The next one who opens the store makes it anew.
    pub(crate) fn give_reserve_up(&self) -> Result<u64, StoreError> {
        let place = self.room(RESERVE);
        let size = size_of(&place);
        remove_tree(&place).on("remove", &place)?;
        Ok(size)
    }
}

fn fill(dir: &Path) -> std::io::Result<()> {
    DirBuilder::new().mode(0o700).create(dir)?;
    for number in 0..FILES {
        let file = create_new(&dir.join(number.to_string()))?;
        fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES / FILES)?;
    }
    Ok(())
}

/// Whether the file system has so much for everybody. One without a number of inodes has enough of
/// them.
fn has_free(dir: &Path, bytes: u64, inodes: u64) -> Result<bool, StoreError> {
    let stat = statvfs(dir).map_err(std::io::Error::from).on("read", dir)?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    Ok(free >= bytes && (stat.f_files == 0 || stat.f_favail >= inodes))
}
