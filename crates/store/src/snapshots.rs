//! Snapshots: layers unpacked for overlayfs, each with its index.
//!
//! `snapshots/<id>/fs` is the layer's directory and `snapshots/<id>/index` its [`Tree`], checksummed. Ids are never
//! used twice, so a row, a directory and an index that belong to different snapshots cannot meet.

use std::fmt;
use std::fs::{self, DirBuilder};
use std::io;
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
use crate::uses::Used;
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
            Ok(tree) => Some(self.loaded(id, tree, created_ms)),
            Err(error) => {
                if is_damage(&error) {
                    self.warn(format!("a snapshot is dropped: {error}"));
                    self.drop_snapshot(id);
                } else {
                    self.warn(format!("a snapshot is not used: {error}"));
                }
                None
            }
        }
    }

    /// A snapshot as [`Store::snapshot`] would find it. This is no use of it, and one that is damaged is left alone.
    pub(crate) fn peek_snapshot(&self, id: &SnapshotId) -> Option<Snapshot> {
        let created_ms = self.inner.db.read(|db| {
            db.prepare_cached("SELECT created_ms FROM snapshots WHERE id=?1")?
                .query_row([&id.0], |row| row.get(0).map(uint))
                .optional()
        });
        let created_ms = created_ms.ok().flatten()?;
        Some(self.loaded(id, self.load_tree(id).ok()?, created_ms))
    }

    fn loaded(&self, id: &SnapshotId, tree: Arc<Tree>, created_ms: u64) -> Snapshot {
        let (dir, size) = (self.snapshot_dir(id).join("fs"), tree.unpacked_size());
        Snapshot { id: id.clone(), dir, tree, size, created_ms }
    }

    /// The snapshot of an image's layer, by the chain id of the layer and all below it: unpacked from a blob, or made by
    /// a step here.
    pub fn base_snapshot(&self, chain_id: &BlobDigest) -> Option<Snapshot> {
        let row = self.inner.db.read(|db| {
            db.prepare_cached("SELECT snapshot, seal FROM chains WHERE chain=?1")?
                .query_row([chain_id.as_bytes()], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?))
                })
                .optional()
        });
        let (id, sealed) = row.ok().flatten()?;
        if sealed != chain_seal(&id, chain_id) {
            self.warn("a damaged row about a layer is dropped; the layer is unpacked again".to_owned());
            let _ = self
                .inner
                .db
                .write(|db| db.execute("DELETE FROM chains WHERE chain=?1", [chain_id.as_bytes()]));
            return None;
        }
        self.snapshot(&SnapshotId(id))
    }

    /// Makes the snapshot of a step the one of a chain id, so that an image that was built here need not be unpacked to
    /// be built on. A chain that has a snapshot keeps it.
    pub fn link_chain(&self, chain_id: &BlobDigest, id: &SnapshotId) -> Result<(), StoreError> {
        self.link_chains(&[(chain_id, id)])
    }

    /// [`Store::link_chain`] for each of these.
    pub fn link_chains(&self, links: &[(&BlobDigest, &SnapshotId)]) -> Result<(), StoreError> {
        // Of a build that found everything nothing is to be written.
        let missing = self.inner.db.read(|db| {
            let mut known = db.prepare_cached("SELECT 1 FROM chains WHERE chain=?1")?;
            links.iter().try_fold(false, |missing, (chain, _)| {
                Ok::<_, rusqlite::Error>(missing || !known.exists([chain.as_bytes()])?)
            })
        })?;
        if !missing {
            return Ok(());
        }
        self.inner.db.write(|db| {
            for (chain, id) in links {
                let there = db.prepare_cached("SELECT 1 FROM snapshots WHERE id=?1")?.exists([&id.0])?;
                if there && chain_of(db, chain)?.is_none() {
                    put_chain(db, chain, &id.0)?;
                }
            }
            Ok(())
        })
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
        })?;
        self.inner.db.sync()
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

    /// Forgets the snapshot with this directory, whose files were found damaged, and all that leads to it; false where it is
    /// none. Whoever uses it keeps its files: they are an orphan now, which the next collection removes.
    pub fn forget_snapshot(&self, dir: &Path) -> Result<bool, StoreError> {
        let home = dir.parent().filter(|home| home.parent() == Some(&*self.room("snapshots")));
        let Some(id) = home.and_then(|home| home.file_name()?.to_str()) else { return Ok(false) };
        self.inner.db.write(|db| delete_snapshot_rows(db, id)).map(|forgotten| forgotten > 0)
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
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(trash),
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
        let window = self.window().ok()?;
        let times = self.inner.db.read(|db| {
            db.prepare_cached("SELECT last_used_ms, created_ms FROM snapshots WHERE id=?1")?
                .query_row([&id.0], |row| Ok((uint(row.get(0)?), uint(row.get(1)?))))
                .optional()
        });
        let (last_used, created) = times.ok().flatten()?;
        if self.touch_is_due(last_used) {
            self.note(&Used::Snapshot(id), &window);
        }
        Some(created)
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
        let now = self.stamp();
        let mut inserted = self.insert_snapshot(&id, on_disk, now, chain, false);
        drop(guard);
        // Another process was faster with the same base layer.
        if let Ok(Some(other)) = &inserted {
            if let Some(snapshot) = self.snapshot(other) {
                let _ = remove_tree(&dir);
                return Ok(snapshot);
            }
            // But not with a whole one.
            inserted = self.insert_snapshot(&id, on_disk, now, chain, true);
        }
        if let Err(error) = inserted {
            let _ = remove_tree(&dir);
            return Err(error);
        }
        let size = tree.unpacked_size();
        let tree = Arc::new(tree);
        self.remember_tree(&id, &tree);
        Ok(Snapshot { dir: dir.join("fs"), id, tree, size, created_ms: now })
    }

    /// Writes a snapshot's row. If its chain has another snapshot, that one's id is the result and nothing is written,
    /// unless it is to be replaced.
    fn insert_snapshot(
        &self,
        id: &SnapshotId,
        size: u64,
        now_ms: u64,
        chain: Option<&BlobDigest>,
        replace: bool,
    ) -> Result<Option<SnapshotId>, StoreError> {
        self.inner.db.write(|db| {
            if let Some(chain) = chain {
                if let Some(other) = chain_of(db, chain)?.filter(|_| !replace) {
                    return Ok(Some(SnapshotId(other)));
                }
                put_chain(db, chain, &id.0)?;
            }
            db.prepare_cached(
                "INSERT OR REPLACE INTO snapshots (id, size, boot, created_ms, last_used_ms, clock) \
                 VALUES (?1, ?2, ?3, ?4, ?4, (SELECT coalesce(max(value), 0.0) FROM meta WHERE key='clock'))",
            )?
            .execute((&id.0, int(size), &self.inner.boot, int(now_ms)))?;
            read_back(db, "SELECT 1 FROM snapshots WHERE id=?1", [&id.0])?;
            Ok(None)
        })
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
        // Whenever it would grow: so that many that are held are not looked through each time.
        if trees.len() == trees.capacity() {
            trees.retain(|_, tree| tree.strong_count() > 0);
        }
        trees.insert(id.clone(), Arc::downgrade(tree));
    }
}

/// Deletes a snapshot's row and all that leads to it; the number of snapshots that were deleted.
pub(crate) fn delete_snapshot_rows(db: &Transaction<'_>, id: &str) -> rusqlite::Result<usize> {
    db.prepare_cached("DELETE FROM records WHERE snapshot=?1")?.execute([id])?;
    db.prepare_cached("DELETE FROM packed WHERE snapshot=?1")?.execute([id])?;
    db.prepare_cached("DELETE FROM chains WHERE snapshot=?1")?.execute([id])?;
    db.prepare_cached("DELETE FROM snapshots WHERE id=?1")?.execute([id])
}

pub(crate) fn touch_snapshot(db: &Transaction<'_>, id: &str, now: i64) -> rusqlite::Result<usize> {
    db.prepare_cached("UPDATE snapshots SET last_used_ms=?2 WHERE id=?1")?.execute((id, now))
}

/// The snapshot that a chain has, whether it is whole or not.
fn chain_of(db: &Transaction<'_>, chain: &BlobDigest) -> rusqlite::Result<Option<String>> {
    db.prepare_cached("SELECT s.id FROM chains c JOIN snapshots s ON s.id=c.snapshot WHERE c.chain=?1")?
        .query_row([chain.as_bytes()], |row| row.get(0))
        .optional()
}

fn put_chain(db: &Transaction<'_>, chain: &BlobDigest, id: &str) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO chains (chain, snapshot, seal) VALUES (?1, ?2, ?3)")?
        .execute((chain.as_bytes(), id, chain_seal(id, chain)))
        .map(drop)
}

fn chain_seal(id: &str, chain: &BlobDigest) -> Vec<u8> {
    seal("chains", &[chain.as_bytes()], id.as_bytes())
}

/// Whether a snapshot is gone or broken, rather than out of reach for now (as without file descriptors).
fn is_damage(error: &StoreError) -> bool {
    match error {
        StoreError::Damaged { .. } => true,
        StoreError::Io { source, .. } => {
            matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
                // The disk cannot read it.
                || source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
        }
        _ => false,
    }
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::{fs, io};

    use dbuild_digest::{BlobDigest, ContentDigest};
    use dbuild_layer::{Entry, EntryKind, OverlayFlavor, Tree, TreePath};

    use super::{Snapshot, SnapshotDraft, is_damage};
    use crate::{PruneOptions, Store, StoreError, UsageKind};

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store"), OverlayFlavor::Trusted).unwrap();
        (dir, store)
    }

    fn chain(text: &str) -> BlobDigest {
        BlobDigest::of(text.as_bytes())
    }

    /// A layer with one file.
    fn draft(store: &Store, content: &str) -> (SnapshotDraft, Tree) {
        let draft = store.new_snapshot().unwrap();
        fs::write(draft.fs_dir().join("file"), content).unwrap();
        let kind =
            EntryKind::File { size: content.len() as u64, content: ContentDigest::of(content.as_bytes()) };
        let path = TreePath::from_bytes(b"file").unwrap();
        let entry = Entry { kind, mode: 0o644, ..Entry::new_dir(path) };
        (draft, Tree::from_entries(vec![entry]).unwrap())
    }

    fn made(store: &Store, content: &str) -> Snapshot {
        let (draft, tree) = draft(store, content);
        store.publish_snapshot(draft, tree).unwrap()
    }

    #[test]
    fn what_a_step_made_serves_the_chains_that_are_linked_to_it() {
        let (_dir, store) = store();
        let snapshot = made(&store, "a");
        assert!(store.base_snapshot(&chain("1")).is_none());
        store.link_chain(&chain("1"), &snapshot.id).unwrap();
        store.link_chain(&chain("2"), &snapshot.id).unwrap();
        for name in ["1", "2"] {
            assert_eq!(store.base_snapshot(&chain(name)).unwrap().id, snapshot.id);
        }
        // The first result stays.
        store.link_chain(&chain("1"), &made(&store, "b").id).unwrap();
        assert_eq!(store.base_snapshot(&chain("1")).unwrap().id, snapshot.id);
    }

    #[test]
    fn of_two_that_unpack_the_same_layer_one_stays() {
        let (_dir, store) = store();
        let (one, other) = (draft(&store, "a"), draft(&store, "a"));
        let first = store.publish_any(one.0, one.1, Some(&chain("1"))).unwrap();
        let second = store.publish_any(other.0, other.1, Some(&chain("1"))).unwrap();
        assert_eq!(first.id, second.id);
        assert_eq!(fs::read_dir(store.room("snapshots")).unwrap().count(), 1);
    }

    #[test]
    fn a_layer_that_was_damaged_is_replaced_by_the_next_one() {
        let (_dir, store) = store();
        let (one, other) = (draft(&store, "a"), draft(&store, "a"));
        let first = store.publish_any(one.0, one.1, Some(&chain("1"))).unwrap();
        let index = store.snapshot_dir(&first.id).join("index");
        fs::remove_dir_all(&first.dir).unwrap();
        fs::write(index, "nonsense").unwrap();
        let second = store.publish_any(other.0, other.1, Some(&chain("1"))).unwrap();
        assert_ne!(first.id, second.id);
        assert!(second.dir.join("file").exists());
        assert_eq!(store.base_snapshot(&chain("1")).unwrap().id, second.id);
    }

    #[test]
    fn a_damaged_row_of_a_chain_is_a_miss() {
        let (_dir, store) = store();
        let (wrong, right) = (made(&store, "wrong"), made(&store, "right"));
        store.link_chain(&chain("1"), &right.id).unwrap();
        store.inner.db.write(|db| db.execute("UPDATE chains SET snapshot=?1", [wrong.id.as_str()])).unwrap();
        assert!(store.base_snapshot(&chain("1")).is_none());
        assert!(store.snapshot(&wrong.id).is_some(), "the snapshot itself is not to blame");
        assert_eq!(store.take_warnings().len(), 1);
    }

    #[test]
    fn only_what_is_broken_is_dropped() {
        let failed = |kind: io::ErrorKind| {
            is_damage(&StoreError::Io { action: "read", path: PathBuf::from("index"), source: kind.into() })
        };
        assert!(failed(io::ErrorKind::NotFound));
        assert!(!failed(io::ErrorKind::PermissionDenied) && !failed(io::ErrorKind::OutOfMemory));
        let no_descriptors = io::Error::from(rustix::io::Errno::MFILE);
        assert!(!is_damage(&StoreError::Io { action: "read", path: PathBuf::new(), source: no_descriptors }));
    }

    #[test]
    fn a_collected_snapshot_leaves_no_chain() {
        let (_dir, store) = store();
        let snapshot = made(&store, "a");
        store.link_chain(&chain("1"), &snapshot.id).unwrap();
        assert_eq!(store.disk_usage().unwrap().entries[0].kind, UsageKind::BaseSnapshot);
        let pruned = store.prune(&PruneOptions { all: true, ..PruneOptions::default() }).unwrap();
        assert_eq!(pruned.snapshots, 1);
        assert!(store.base_snapshot(&chain("1")).is_none());
        let left = store.inner.db.read(|db| db.prepare("SELECT 1 FROM chains")?.exists([]));
        assert!(!left.unwrap());
    }
}
