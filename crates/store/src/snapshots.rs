//! Snapshots: layers unpacked for overlayfs, each with its index.
//!
//! `snapshots/<id>/fs` is the layer's directory and `snapshots/<id>/index` its [`Tree`], checksummed. Ids are never
//! used twice, so a row, a directory and an index that belong to different snapshots cannot meet.

use std::fmt;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, PoisonError};

use dbuild_digest::BlobDigest;
use dbuild_layer::{EntryKind, Tree};
use rusqlite::{OptionalExtension as _, Transaction};
use serde::{Deserialize, Serialize};

use crate::db::{int, read_back, seal, uint};
use crate::error::Context;
use crate::publish::{Durability, publish, remove_tree};
use crate::store::unique;
use crate::{Store, StoreError};

/// Names a snapshot in one store: letters and digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SnapshotId(pub(crate) String);

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SnapshotId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a text can be an id, and so a file name.
    fn is_valid(text: &str) -> bool {
        !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
    }
}

impl FromStr for SnapshotId {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let id = text.chars().take(80).collect::<String>();
        let reason = "not a snapshot's id".to_owned();
        if Self::is_valid(text) { Ok(Self(id)) } else { Err(StoreError::Damaged { path: id.into(), reason }) }
    }
}

/// A layer that is unpacked in the store. Nobody writes to it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its name.
    pub id: SnapshotId,
    /// Its files, in overlay form.
    pub dir: PathBuf,
    /// Its index.
    pub tree: Arc<Tree>,
    /// The bytes of its files.
    pub size: u64,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
}

/// A snapshot to be. Dropped, it leaves nothing.
#[derive(Debug)]
pub struct SnapshotDraft {
    dir: PathBuf,
}

impl SnapshotDraft {
    /// The empty directory (0755) that the layer's files go to; also the `upperdir` of an overlay mount.
    pub fn fs_dir(&self) -> PathBuf {
        self.dir.join("fs")
    }

    /// The empty `workdir` of an overlay mount.
    pub fn work_dir(&self) -> PathBuf {
        self.dir.join("work")
    }
}

impl Drop for SnapshotDraft {
    fn drop(&mut self) {
        let _ = remove_tree(&self.dir);
    }
}

impl Store {
    /// Begins a snapshot.
    pub fn new_snapshot(&self) -> Result<SnapshotDraft, StoreError> {
        let draft = SnapshotDraft { dir: self.scratch_path() };
        let open = || fs::Permissions::from_mode(0o755);
        for dir in [draft.dir.clone(), draft.fs_dir(), draft.work_dir()] {
            DirBuilder::new().mode(0o755).create(&dir).on("make", &dir)?;
        }
        // Whatever the umask is: this becomes the mode of `/`.
        fs::set_permissions(draft.fs_dir(), open()).on("make", &draft.dir)?;
        Ok(draft)
    }

    /// Publishes the layer that a step made.
    pub fn publish_snapshot(&self, draft: SnapshotDraft, tree: Tree) -> Result<Snapshot, StoreError> {
        self.publish_any(draft, tree, None)
    }

    /// Publishes a layer of a base image. `chain_id` names it with all that is below it. If another process was faster, that
    /// one's snapshot is the result.
    pub fn publish_base_snapshot(
        &self,
        draft: SnapshotDraft,
        chain_id: &BlobDigest,
        tree: Tree,
    ) -> Result<Snapshot, StoreError> {
        if let Some(snapshot) = self.base_snapshot(chain_id) {
            return Ok(snapshot);
        }
        self.publish_any(draft, tree, Some(chain_id))
    }

    /// A snapshot by its id. One whose index or directory is missing or damaged is dropped, with the records that
    /// led to it.
    pub fn snapshot(&self, id: &SnapshotId) -> Option<Snapshot> {
        let created_ms = self.use_snapshot(id)?;
        match self.load_tree(id) {
            Ok(tree) => {
                let size = tree.unpacked_size();
                Some(Snapshot {
                    id: id.clone(),
                    dir: self.snapshot_dir(id).join("fs"),
                    tree,
                    size,
                    created_ms,
                })
            }
            Err(error) => {
                self.warn(format!("a snapshot is dropped: {error}"));
                self.drop_snapshot(id);
                None
            }
        }
    }

    /// The snapshot of a base image's layer.
    pub fn base_snapshot(&self, chain_id: &BlobDigest) -> Option<Snapshot> {
        let row = self.inner.db.read(|db| {
            db.prepare_cached("SELECT id, seal FROM snapshots WHERE chain=?1")?
                .query_row([chain_id.as_bytes()], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?))
                })
                .optional()
        });
        let (id, sealed) = row.ok().flatten()?;
        if sealed != snapshot_seal(&id, Some(chain_id)) {
            self.drop_snapshot(&SnapshotId(id));
            return None;
        }
        self.snapshot(&SnapshotId(id))
    }

    /// Makes everything that was published so far survive a crash of the machine: one `syncfs`. Called at the end of a build.
    pub fn make_durable(&self) -> Result<(), StoreError> {
        let (snapshots, blobs) = self.inner.db.read(|db| {
            let mut snapshots = db.prepare_cached("SELECT rowid FROM snapshots WHERE boot IS NOT NULL")?;
            let snapshots: Vec<i64> = snapshots.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            let mut blobs = db.prepare_cached("SELECT rowid FROM blobs WHERE boot IS NOT NULL")?;
            let blobs: Vec<i64> = blobs.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            Ok((snapshots, blobs))
        })?;
        if snapshots.is_empty() && blobs.is_empty() {
            return Ok(());
        }
        let root = fs::File::open(self.root()).on("open", self.root())?;
        rustix::fs::syncfs(&root).on("sync", self.root())?;
        // The rows were read before the sync, so their files were complete when it began.
        self.inner.db.write(|db| {
            let mut one = db.prepare_cached("UPDATE snapshots SET boot=NULL WHERE rowid=?1")?;
            snapshots.iter().try_for_each(|row| one.execute([row]).map(drop))?;
            let mut one = db.prepare_cached("UPDATE blobs SET boot=NULL WHERE rowid=?1")?;
            blobs.iter().try_for_each(|row| one.execute([row]).map(drop))
        })
    }

    /// Forgets what was published in another boot and not made durable; gives the files to remove. Of blobs only the rows
    /// go: a blob without one is hashed before it is believed, and is usually whole.
    pub(crate) fn forget_torn(&self) -> Result<Vec<PathBuf>, StoreError> {
        let boot = &self.inner.boot;
        let (snapshots, blobs) = self.inner.db.read(|db| {
            let mut snapshots =
                db.prepare_cached("SELECT id FROM snapshots WHERE boot IS NOT NULL AND boot<>?1")?;
            let snapshots: Vec<String> =
                snapshots.query_map([boot], |row| row.get(0))?.collect::<Result<_, _>>()?;
            let mut blobs = db.prepare_cached("SELECT 1 FROM blobs WHERE boot IS NOT NULL AND boot<>?1")?;
            Ok((snapshots, blobs.exists([boot])?))
        })?;
        if snapshots.is_empty() && !blobs {
            return Ok(Vec::new());
        }
        self.inner.db.write(|db| {
            snapshots.iter().try_for_each(|id| delete_snapshot_rows(db, id).map(drop))?;
            db.execute("DELETE FROM blobs WHERE boot IS NOT NULL AND boot<>?1", [boot]).map(drop)
        })?;
        let valid = snapshots.into_iter().filter(|id| SnapshotId::is_valid(id));
        valid.map(|id| self.to_trash(&self.snapshot_dir(&SnapshotId(id)))).collect()
    }

    /// Drops a snapshot, its records and what is known of its packed forms.
    pub(crate) fn drop_snapshot(&self, id: &SnapshotId) {
        let _ = self.inner.db.write(|db| delete_snapshot_rows(db, &id.0));
        if SnapshotId::is_valid(&id.0)
            && let Ok(trash) = self.to_trash(&self.snapshot_dir(id))
        {
            let _ = remove_tree(&trash);
        }
    }

    /// Moves a file or directory out of everybody's sight; the result is removed sooner or later in any case.
    pub(crate) fn to_trash(&self, path: &Path) -> Result<PathBuf, StoreError> {
        let trash = self.scratch_path();
        match fs::rename(path, &trash) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(trash),
            other => other.on("remove", path).map(|()| trash),
        }
    }

    pub(crate) fn snapshot_dir(&self, id: &SnapshotId) -> PathBuf {
        self.room("snapshots").join(&id.0)
    }

    /// Held while something is renamed into place and its row is written, so that a collector takes neither for
    /// an orphan. Collectors hold it exclusively.
    pub(crate) fn publishing(&self) -> Result<fs::File, StoreError> {
        let path = self.room("publish.lock");
        let file = crate::locks::open_lock_file(&path)?;
        file.lock_shared().on("lock", &path)?;
        Ok(file)
    }

    /// Checks that a snapshot is there and notes its use. Gives the time at which it was made.
    pub(crate) fn use_snapshot(&self, id: &SnapshotId) -> Option<u64> {
        let times = self.inner.db.read(|db| {
            db.prepare_cached("SELECT last_used_ms, created_ms FROM snapshots WHERE id=?1")?
                .query_row([&id.0], |row| Ok((uint(row.get(0)?), uint(row.get(1)?))))
                .optional()
        });
        let (last_used, created) = times.ok().flatten()?;
        if !self.touch_is_due(last_used) {
            return Some(created);
        }
        let now = int(self.stamp());
        let touched = self.inner.db.write(|db| touch_snapshot(db, &id.0, now));
        touched.is_ok_and(|rows| rows > 0).then_some(created)
    }

    fn publish_any(
        &self,
        draft: SnapshotDraft,
        tree: Tree,
        chain: Option<&BlobDigest>,
    ) -> Result<Snapshot, StoreError> {
        let work = draft.work_dir();
        remove_tree(&work).on("remove", &work)?;
        let index = draft.dir.join("index");
        let encoded = tree.encode();
        fs::write(&index, &encoded).on("write", &index)?;
        let id = SnapshotId(unique());
        let dir = self.snapshot_dir(&id);
        let on_disk = size_on_disk(&tree) + encoded.len() as u64;
        let guard = self.publishing()?;
        publish(&draft.dir, &dir, Durability::Later)?;
        let now = int(self.stamp());
        let inserted = self.inner.db.write(|db| {
            let rows = db
                .prepare_cached(
                "INSERT OR IGNORE INTO snapshots (id, chain, size, boot, created_ms, last_used_ms, clock, seal) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?5, (SELECT coalesce(max(value), 0.0) FROM meta WHERE key='clock'), ?6)",
            )?
            .execute((
                &id.0,
                chain.map(|chain| chain.as_bytes()),
                int(on_disk),
                &self.inner.boot,
                now,
                snapshot_seal(&id.0, chain),
            ))?;
            if rows > 0 {
                read_back(db, "SELECT 1 FROM snapshots WHERE id=?1", [&id.0])?;
            }
            Ok(rows)
        });
        drop(guard);
        if !matches!(inserted, Ok(1)) {
            let _ = remove_tree(&dir);
        }
        // Another process was faster with the same base layer.
        if inserted? == 0
            && let Some(snapshot) = chain.and_then(|chain| self.base_snapshot(chain))
        {
            return Ok(snapshot);
        }
        let size = tree.unpacked_size();
        let tree = Arc::new(tree);
        self.remember_tree(&id, &tree);
        Ok(Snapshot { dir: dir.join("fs"), id, tree, size, created_ms: uint(now) })
    }

    fn load_tree(&self, id: &SnapshotId) -> Result<Arc<Tree>, StoreError> {
        let dir = self.snapshot_dir(id);
        fs::metadata(dir.join("fs")).on("read", &dir)?;
        let path = dir.join("index");
        let held = {
            let trees = self.inner.trees.lock().unwrap_or_else(PoisonError::into_inner);
            trees.get(id).and_then(std::sync::Weak::upgrade)
        };
        if let Some(tree) = held {
            return Ok(tree);
        }
        let bytes = fs::read(&path).on("read", &path)?;
        let tree = Tree::decode(&bytes)
            .map_err(|error| StoreError::Damaged { path: path.clone(), reason: error.to_string() })?;
        let tree = Arc::new(tree);
        self.remember_tree(id, &tree);
        Ok(tree)
    }

    /// Readers share an index for as long as one of them holds it.
    fn remember_tree(&self, id: &SnapshotId, tree: &Arc<Tree>) {
        let mut trees = self.inner.trees.lock().unwrap_or_else(PoisonError::into_inner);
        if trees.len() > 1024 {
            trees.retain(|_, tree| tree.strong_count() > 0);
        }
        trees.insert(id.clone(), Arc::downgrade(tree));
    }
}

/// Deletes a snapshot's row and all that leads to it; the number of snapshots that were deleted.
pub(crate) fn delete_snapshot_rows(db: &Transaction<'_>, id: &str) -> rusqlite::Result<usize> {
    db.prepare_cached("DELETE FROM records WHERE snapshot=?1")?.execute([id])?;
    db.prepare_cached("DELETE FROM packed WHERE snapshot=?1")?.execute([id])?;
    db.prepare_cached("DELETE FROM snapshots WHERE id=?1")?.execute([id])
}

pub(crate) fn touch_snapshot(db: &Transaction<'_>, id: &str, now: i64) -> rusqlite::Result<usize> {
    db.prepare_cached("UPDATE snapshots SET last_used_ms=?2 WHERE id=?1")?.execute((id, now))
}

fn snapshot_seal(id: &str, chain: Option<&BlobDigest>) -> Vec<u8> {
    let chain = chain.map_or(&[][..], |chain| chain.as_bytes().as_slice());
    seal("snapshots", &[id.as_bytes(), chain], b"")
}

/// What the files of a layer take in blocks of 4 KiB; hardlinks into other snapshots are counted as if they were copies.
fn size_on_disk(tree: &Tree) -> u64 {
    let blocks = |size: u64| size.div_ceil(4096) * 4096;
    let entries = tree.entries().iter().map(|entry| match &entry.kind {
        EntryKind::File { size, .. } => blocks(*size),
        EntryKind::Dir { .. } => 4096,
        _ => 0,
    });
    // The snapshot's own two directories.
    entries.sum::<u64>() + 2 * 4096
}
