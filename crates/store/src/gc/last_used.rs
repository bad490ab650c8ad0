//! Notes of what is used, gathered.
//!
//! A build that finds everything in the cache would write two rows for each step, each in a
//! transaction of its own. Here the uses are gathered and written together, at the latest
//! [`PATIENCE`] after the first of them.
//!
//! A collector must not remove what is used and not noted yet. So the first use opens a *window*:
//! `publish.lock`, held shared, which a collector holds alone while it removes. It is opened before
//! the row is looked at and closed when the notes are written, so whatever a look-up found is there
//! until its use is in the database; after that the collector sees that the row has changed since
//! it was chosen. A process that is killed loses its last notes, and with them its need for what
//! they protect.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dbuild_digest::{BlobDigest, SnapshotId, StepKey};
use rusqlite::Transaction;

use crate::StoreError;
use crate::db::{Db, int};

/// The longest that a use waits to be written.
const PATIENCE: Duration = Duration::from_millis(20);
/// More uses than this are not gathered.
const BATCH: usize = 4096;

/// Keeps collectors away until the use that it belongs to is written.
pub(crate) type Window = Arc<File>;

/// The uses that were not written yet.
#[derive(Debug, Default)]
pub(crate) struct LastUsed {
    gathered: Mutex<PendingUses>,
    /// Waiting for a flush means waiting for one that is under way, too.
    flushing: Mutex<()>,
    /// The leases of this store: when each began, in milliseconds since 1970, and its file.
    leases: Mutex<Vec<(u64, PathBuf)>>,
}

#[derive(Debug, Default)]
struct PendingUses {
    /// How often each record was hit; 0 for one that was only looked at.
    records: HashMap<StepKey, u64>,
    snapshots: HashSet<SnapshotId>,
    blobs: HashSet<BlobDigest>,
    /// The last one is open to further uses.
    windows: Vec<Window>,
    /// When the last use was, not before the leases that protect it.
    now_ms: u64,
    /// A thread waits to write.
    awaited: bool,
}

impl PendingUses {
    fn len(&self) -> usize {
        self.records.len() + self.snapshots.len() + self.blobs.len()
    }

    fn write(&self, db: &Transaction<'_>) -> rusqlite::Result<()> {
        let now = int(self.now_ms);
        let mut hit = db.prepare_cached(
            "UPDATE snapshots SET hits=hits+?2, last_used_ms=?3, \
             clock=(SELECT coalesce(max(value), 0.0) FROM meta WHERE key='clock') \
             WHERE id=(SELECT snapshot FROM records WHERE key=?1)",
        )?;
        let mut record =
            db.prepare_cached("UPDATE records SET hits=hits+?2, last_used_ms=?3 WHERE key=?1")?;
        for (key, hits) in &self.records {
            record.execute((key.as_bytes(), int(*hits), now))?;
            if *hits > 0 {
                hit.execute((key.as_bytes(), int(*hits), now))?;
            }
        }
        self.snapshots.iter().try_for_each(|id| touch_snapshot(db, id.as_str(), now).map(drop))?;
        let mut blob = db.prepare_cached("UPDATE blobs SET last_used_ms=?2 WHERE digest=?1")?;
        self.blobs.iter().try_for_each(|digest| blob.execute((digest.as_bytes(), now)).map(drop))
    }
}

/// What was used.
pub(crate) enum Use<'a> {
    Record(&'a StepKey),
    /// It is counted, too.
    Hit(&'a StepKey),
    Snapshot(&'a SnapshotId),
    Blob(&'a BlobDigest),
}

impl LastUsed {
    fn lock(&self) -> MutexGuard<'_, PendingUses> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what was gathered in one transaction, and closes the windows.
    pub(crate) fn flush(&self, db: &Db) {
        let _flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let gathered = std::mem::take(&mut *self.lock());
        if gathered.len() > 0
            && let Err(error) = db.write(|db| gathered.write(db))
        {
            tracing::debug!("uses are not noted: {error}");
            self.protect_everything();
        }
    }

    pub(crate) fn leases(&self) -> MutexGuard<'_, Vec<(u64, PathBuf)>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the leases protect whatever there is, until they end: a lease that says nothing does.
    /// It needs no space.
    pub(crate) fn protect_everything(&self) {
        for (_, path) in self.leases().iter() {
            let emptied = File::options().write(true).open(path).and_then(|file| file.set_len(0));
            if let Err(error) = emptied {
                tracing::debug!("a lease is not emptied: {error}");
            }
        }
    }

    /// The window of a look-up; must come before it. `open` opens one where none is open.
    pub(crate) fn window(
        self: &Arc<Self>,
        db: &Arc<Db>,
        open: impl FnOnce() -> Result<File, StoreError>,
    ) -> Result<Window, StoreError> {
        if let Some(open) = self.lock().windows.last() {
            return Ok(Arc::clone(open));
        }
        let opened = Arc::new(open()?);
        let mut gathered = self.lock();
        gathered.windows.push(Arc::clone(&opened));
        self.write_later(&mut gathered, db);
        Ok(opened)
    }

    /// Notes a use of what was found within a window.
    pub(crate) fn note(self: &Arc<Self>, db: &Arc<Db>, used: &Use<'_>, now_ms: u64, window: &Window) {
        let mut gathered = self.lock();
        gathered.now_ms = now_ms;
        match used {
            Use::Record(key) => drop(gathered.records.entry(**key).or_default()),
            Use::Hit(key) => *gathered.records.entry(**key).or_default() += 1,
            Use::Snapshot(id) => drop(gathered.snapshots.insert((*id).clone())),
            Use::Blob(digest) => drop(gathered.blobs.insert(**digest)),
        }
        // It may have been closed since, for everybody else's uses.
        if !gathered.windows.iter().any(|open| Arc::ptr_eq(open, window)) {
            gathered.windows.insert(0, Arc::clone(window));
        }
        self.write_later(&mut gathered, db);
        if gathered.len() >= BATCH {
            drop(gathered);
            self.flush(db);
        }
    }

    /// Sees to it that somebody writes soon.
    fn write_later(self: &Arc<Self>, gathered: &mut PendingUses, db: &Arc<Db>) {
        if gathered.awaited {
            return;
        }
        let (uses, db) = (Arc::downgrade(self), Arc::downgrade(db));
        let thread = std::thread::Builder::new().name("uses".to_owned()).spawn(move || {
            std::thread::sleep(PATIENCE);
            if let (Some(uses), Some(db)) = (uses.upgrade(), db.upgrade()) {
                uses.flush(&db);
            }
        });
        gathered.awaited = thread.is_ok();
    }
}

/// Notes in a transaction that a snapshot was used.
pub(crate) fn touch_snapshot(db: &Transaction<'_>, id: &str, now: i64) -> rusqlite::Result<usize> {
    db.prepare_cached("UPDATE snapshots SET last_used_ms=?2 WHERE id=?1")?.execute((id, now))
}
