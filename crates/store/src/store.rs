//! The store as its users hold it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use dbuild_digest::SnapshotId;
use dbuild_layer::{OverlayFlavor, Tree};
use dbuild_support::time::now_ms;

use crate::StoreError;
use crate::db::Db;
use crate::gc::last_used::{LastUsed, Use, Window};
use crate::ids::unique;
use crate::scratch::Scratch;

/// A store that is open. Clones share it; any number of threads may use them.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) root: PathBuf,
    pub(crate) flavor: OverlayFlavor,
    pub(crate) db: Arc<Db>,
    /// Names this boot of this machine.
    pub(crate) boot: String,
    pub(crate) scratch: Scratch,
    pub(crate) warnings: Mutex<Vec<String>>,
    /// Indexes that somebody holds.
    pub(crate) trees: Mutex<HashMap<SnapshotId, Weak<Tree>>>,
    /// When the first look-up began, by the roots of the content caches that were looked into and
    /// not written since.
    pub(crate) context_lookups: Mutex<HashMap<PathBuf, i64>>,
    pub(crate) last_used: Arc<LastUsed>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.last_used.flush(&self.db);
    }
}

impl Store {
    /// The directory of the store, absolute.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// How overlayfs marks things in the snapshots of this store.
    pub fn flavor(&self) -> OverlayFlavor {
        self.inner.flavor
    }

    /// What the user should be told about the store (it was damaged, and what was done about it),
    /// each text once.
    pub fn take_warnings(&self) -> Vec<String> {
        let mut warnings = self.inner.db.take_warnings();
        warnings.append(&mut self.inner.warnings.lock().unwrap_or_else(PoisonError::into_inner));
        warnings
    }

    /// A path below this process's directory in `tmp/` that does not exist; on the same file system
    /// as everything else of the store. What is left there goes with the process.
    pub fn scratch_path(&self) -> PathBuf {
        self.inner.scratch.dir.join(unique())
    }

    pub(crate) fn warn(&self, text: String) {
        tracing::warn!("{text}");
        let mut warnings = self.inner.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    pub(crate) fn room(&self, name: &str) -> PathBuf {
        self.inner.root.join(name)
    }

    /// The time for `last_used` of what is used now: never before the leases that protect it.
    pub(crate) fn stamp(&self) -> u64 {
        now_ms().max(self.lease_floor())
    }

    /// Whether something that was used last at `last_used_ms` must be noted as used again.
    pub(crate) fn touch_is_due(&self, last_used_ms: u64) -> bool {
        let now = now_ms();
        last_used_ms < self.lease_floor() || now.abs_diff(last_used_ms) > 60_000
    }

    fn lease_floor(&self) -> u64 {
        self.inner.last_used.leases().iter().map(|(since_ms, _)| *since_ms).max().unwrap_or(0)
    }

    /// Opens the window of a look-up; must come before it.
    pub(crate) fn window(&self) -> Result<Window, StoreError> {
        self.inner.last_used.window(&self.inner.db, || self.publishing())
    }

    /// Notes a use of what was found within a window.
    pub(crate) fn note(&self, used: &Use<'_>, window: &Window) {
        self.inner.last_used.note(&self.inner.db, used, self.stamp(), window);
    }

    /// Writes what was noted. Called before anybody reads uses or removes what is unused, and at
    /// the end of a build.
    pub fn flush_uses(&self) {
        self.inner.last_used.flush(&self.inner.db);
    }
}
