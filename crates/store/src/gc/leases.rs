//! What a running build uses is not collected.
//!
//! A lease is a file in `leases/` that says when it began and is locked for as long as its holder
//! lives. Whatever is looked up or put while a lease is held gets a `last_used` that is not before
//! the lease's beginning, in the same transaction as the look-up. A collector reads the beginning
//! of every living lease, and leaves alone what was used since the oldest of them.
//!
//! The race: a build may begin, and find a result, after the collector has read the leases and
//! chosen that result. Then the result's `last_used` has changed, and the collector, which deletes
//! in one transaction and only rows whose `last_used` is still what it saw, skips it. If the
//! deletion comes first, the look-up finds nothing: a miss. A lease begins a millisecond after its
//! making, so that "changed" is true even within one tick of the clock.
//!
//! A use that cannot be written (the disk is full) would protect nothing. Then the lease is made
//! empty, which takes no space, before the window of the use is closed: such a lease protects
//! everything. The collector reads the leases once more when no window is open (see `uses.rs`).

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use dbuild_support::io_context::IoContext as _;
use dbuild_support::lock;
use dbuild_support::time::now_ms;

use crate::ids::unique;
use crate::publish::create_new;
use crate::{Store, StoreError};

/// Protects what its store handle (and the handle's clones) uses, until it is dropped.
#[derive(Debug)]
pub struct Lease {
    store: Store,
    path: PathBuf,
    _file: File,
}

impl Store {
    /// Begins a lease.
    pub fn lease(&self) -> Result<Lease, StoreError> {
        let since_ms = now_ms() + 1;
        let temp = self.scratch_path();
        let path = self.room("leases").join(unique());
        let mut file = create_new(&temp).on("write", &temp)?;
        file.write_all(since_ms.to_string().as_bytes()).on("write", &temp)?;
        file.lock().on("lock", &temp)?;
        // Locked before it can be seen.
        fs::rename(&temp, &path).on("write", &path)?;
        self.inner.last_used.leases().push((since_ms, path.clone()));
        Ok(Lease { store: self.clone(), path, _file: file })
    }

    /// When the oldest living lease began; `u64::MAX` when there is none. Files of the dead are
    /// removed.
    pub(crate) fn oldest_lease_ms(&self) -> Result<u64, StoreError> {
        let dir = self.room("leases");
        let mut oldest = u64::MAX;
        for entry in fs::read_dir(&dir).on("read", &dir)? {
            let path = entry.on("read", &dir)?.path();
            let Ok(file) = File::open(&path) else { continue };
            if lock::try_lock(&file).on("lock", &path)? {
                let _ = fs::remove_file(&path);
                continue;
            }
            // What cannot be read protects everything.
            let since = fs::read_to_string(&path).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
            oldest = oldest.min(since);
        }
        Ok(oldest)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.store.inner.last_used.leases().retain(|(_, path)| *path != self.path);
        let _ = fs::remove_file(&self.path);
    }
}
