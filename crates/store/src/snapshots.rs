//! Snapshots: layers unpacked for overlayfs, each with its index.
//!
//! `snapshots/<id>/fs` is the layer's directory and `snapshots/<id>/index` its [`Tree`],
//! checksummed. Ids are never used twice, so a row, a directory and an index that belong to
//! different snapshots cannot meet.
//!
//! Of a layer whose files nobody needed but to pack them there is `snapshots/<id>/index-alone`
//! instead. It becomes `index` when the files come ([`Store::give_files`]), and after them.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use dbuild_digest::{BlobDigest, SnapshotId};
use dbuild_layer::{EntryKind, LayerFiles, StackLayer, Tree};
use dbuild_support::io_context::{IoContext as _, IoError};
use rusqlite::{OptionalExtension as _, Transaction};

use crate::db::{int, read_back, seal, uint};
use crate::gc::last_used::Use;
use crate::ids::unique;
use crate::publish::{Durability, publish, remove_tree};
use crate::{Store, StoreError};

/// The file of a snapshot's index.
pub(crate) const INDEX: &str = "index";
/// The same where there are no files.
pub(crate) const ALONE: &str = "index-alone";

/// A layer that is unpacked in the store. Nobody writes to it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its name.
    pub id: SnapshotId,
    /// Its files, in overlay form; `None` if they were never written.
    pub dir: Option<PathBuf>,
    /// Its index.
    pub tree: Arc<Tree>,
    /// The bytes of its files.
    pub size: u64,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
}

impl Snapshot {
    /// Where its files are.
    pub fn files(&self) -> LayerFiles {
        self.dir.clone().map_or(LayerFiles::Absent, LayerFiles::Snapshot)
    }

    /// As a layer of a stack.
    pub fn layer(&self) -> StackLayer {
        StackLayer { tree: Arc::clone(&self.tree), files: self.files() }
    }
}

/// A snapshot to be. Dropped, it leaves nothing.
#[derive(Debug)]
pub struct SnapshotDraft {
    dir: PathBuf,
}

impl SnapshotDraft {
    /// The empty directory (0755) that the layer's files go to; also the `upperdir` of an overlay
    /// mount.
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
    pub fn publish_snapshot(
        &self,
        draft: SnapshotDraft,
        tree: impl Into<Arc<Tree>>,
    ) -> Result<Snapshot, StoreError> {
        self.publish_any(draft, tree.into(), true, None)
    }

    /// Publishes a layer whose files are not written: its index alone.
    pub fn publish_index(&self, tree: Arc<Tree>) -> Result<Snapshot, StoreError> {
        self.publish_any(self.new_snapshot()?, tree, false, None)
    }

    /// Gives a snapshot that has none its files.
    pub fn give_files(&self, snapshot: Snapshot, draft: SnapshotDraft) -> Result<Snapshot, StoreError> {
        let home = self.snapshot_dir(&snapshot.id);
        let on_disk = size_on_disk(&snapshot.tree);
        let _guard = self.publishing()?;
        // What a crash may tear, it must not leave believed.
        self.inner.db.write(|db| {
            db.prepare_cached("UPDATE snapshots SET boot=?2, size=?3 WHERE id=?1")?.execute((
                snapshot.id.as_str(),
                &self.inner.boot,
                int(on_disk),
            ))
        })?;
        let dir = home.join("fs");
        match publish(&draft.fs_dir(), &dir, Durability::Later) {
            // Another process was faster.
            Err(_) if dir.is_dir() => {}
            published => published?,
        }
        match publish(&home.join(ALONE), &home.join(INDEX), Durability::Later) {
            Err(_) if home.join(INDEX).is_file() => {}
            published => published?,
        }
        Ok(Snapshot { dir: Some(dir), ..snapshot })
    }

    /// Publishes a layer of a base image. `chain_id` names it with all that is below it. If another
    /// process was faster, that one's snapshot is the result.
    pub fn publish_base_snapshot(
        &self,
        draft: SnapshotDraft,
        chain_id: &BlobDigest,
        tree: Tree,
    ) -> Result<Snapshot, StoreError> {
        if let Some(snapshot) = self.base_snapshot(chain_id).filter(|snapshot| snapshot.dir.is_some()) {
            return Ok(snapshot);
        }
        self.publish_any(draft, Arc::new(tree), true, Some(chain_id))
    }

    /// A snapshot by its id. One whose index or directory is missing or damaged is dropped, with
    /// the records that led to it.
    pub fn snapshot(&self, id: &SnapshotId) -> Option<Snapshot> {
        let created_ms = self.use_snapshot(id)?;
        match self.load_tree(id) {
            Ok((tree, has_files)) => Some(self.loaded(id, tree, has_files, created_ms)),
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

    /// A snapshot as [`Store::snapshot`] would find it. This is no use of it, and one that is
    /// damaged is left alone.
    pub(crate) fn peek_snapshot(&self, id: &SnapshotId) -> Option<Snapshot> {
        let created_ms = self.inner.db.read(|db| {
            db.prepare_cached("SELECT created_ms FROM snapshots WHERE id=?1")?
                .query_row([id.as_str()], |row| row.get(0).map(uint))
                .optional()
        });
        let created_ms = created_ms.ok().flatten()?;
        let (tree, has_files) = self.load_tree(id).ok()?;
        Some(self.loaded(id, tree, has_files, created_ms))
    }

    fn loaded(&self, id: &SnapshotId, tree: Arc<Tree>, has_files: bool, created_ms: u64) -> Snapshot {
        let size = tree.unpacked_size();
        let dir = has_files.then(|| self.snapshot_dir(id).join("fs"));
        Snapshot { id: id.clone(), dir, tree, size, created_ms }
    }

    /// The snapshot of an image's layer, by the chain id of the layer and all below it: unpacked
    /// from a blob, or made by a step here.
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
        self.snapshot(&SnapshotId::from_text(id))
    }

    /// Makes the snapshot of a step the one of a chain id, so that an image that was built here
    /// need not be unpacked to be built on. A chain that has a snapshot keeps it.
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
                let there =
                    db.prepare_cached("SELECT 1 FROM snapshots WHERE id=?1")?.exists([id.as_str()])?;
                if there && chain_of(db, chain)?.is_none() {
                    put_chain(db, chain, id.as_str())?;
                }
            }
            Ok(())
        })
    }

    /// Makes everything that was published so far survive a crash of the machine: one `syncfs`.
    /// Called at the end of a build.
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

    /// Forgets what was published in another boot and not made durable; gives the files to remove.
    /// Of blobs only the rows go: a blob without one is hashed before it is believed, and is
    /// usually whole.
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
        let valid = snapshots.into_iter().filter(|id| id.parse::<SnapshotId>().is_ok());
        valid.map(|id| self.to_trash(&self.snapshot_dir(&SnapshotId::from_text(id)))).collect()
    }

    /// Forgets the snapshot with this directory, whose files were found damaged, and all that leads
    /// to it; false where it is none. Whoever uses it keeps its files: they are an orphan now,
    /// which the next collection removes.
    pub fn forget_snapshot(&self, dir: &Path) -> Result<bool, StoreError> {
        let home = dir.parent().filter(|home| home.parent() == Some(&*self.room("snapshots")));
        let Some(id) = home.and_then(|home| home.file_name()?.to_str()) else { return Ok(false) };
        self.inner.db.write(|db| delete_snapshot_rows(db, id)).map(|forgotten| forgotten > 0)
    }

    /// Drops a snapshot, its records and what is known of its packed forms.
    pub(crate) fn drop_snapshot(&self, id: &SnapshotId) {
        let _ = self.inner.db.write(|db| delete_snapshot_rows(db, id.as_str()));
        if id.is_file_name()
            && let Ok(trash) = self.to_trash(&self.snapshot_dir(id))
        {
            let _ = remove_tree(&trash);
        }
    }

    /// Moves a file or directory out of everybody's sight; the result is removed sooner or later in
    /// any case.
    pub(crate) fn to_trash(&self, path: &Path) -> Result<PathBuf, StoreError> {
        let trash = self.scratch_path();
        match fs::rename(path, &trash) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(trash),
            other => {
                other.on("remove", path)?;
                Ok(trash)
            }
        }
    }

    pub(crate) fn snapshot_dir(&self, id: &SnapshotId) -> PathBuf {
        self.room("snapshots").join(id.as_str())
    }

    /// Held while something is renamed into place and its row is written, so that a collector takes
    /// neither for an orphan. Collectors hold it exclusively.
    pub(crate) fn publishing(&self) -> Result<fs::File, StoreError> {
        let path = self.room("publish.lock");
        let file = dbuild_support::lock::open(&path).on("lock", &path)?;
        file.lock_shared().on("lock", &path)?;
        Ok(file)
    }

    /// Checks that a snapshot is there and notes its use. Gives the time at which it was made.
    pub(crate) fn use_snapshot(&self, id: &SnapshotId) -> Option<u64> {
        let window = self.window().ok()?;
        let times = self.inner.db.read(|db| {
            db.prepare_cached("SELECT last_used_ms, created_ms FROM snapshots WHERE id=?1")?
                .query_row([id.as_str()], |row| Ok((uint(row.get(0)?), uint(row.get(1)?))))
                .optional()
        });
        let (last_used, created) = times.ok().flatten()?;
        if self.touch_is_due(last_used) {
            self.note(&Use::Snapshot(id), &window);
        }
        Some(created)
    }

    fn publish_any(
        &self,
        draft: SnapshotDraft,
        tree: Arc<Tree>,
        has_files: bool,
        chain: Option<&BlobDigest>,
    ) -> Result<Snapshot, StoreError> {
        let work = draft.work_dir();
        remove_tree(&work).on("remove", &work)?;
        if !has_files {
            remove_tree(&draft.fs_dir()).on("remove", &work)?;
        }
        let index = draft.dir.join(if has_files { INDEX } else { ALONE });
        let encoded = tree.encode();
        fs::write(&index, &encoded).on("write", &index)?;
        let id = SnapshotId::from_text(unique());
        let dir = self.snapshot_dir(&id);
        let on_disk = if has_files { size_on_disk(&tree) } else { 4096 } + encoded.len() as u64;
        let guard = self.publishing()?;
        publish(&draft.dir, &dir, Durability::Later)?;
        let now = self.stamp();
        let mut inserted = self.insert_snapshot(&id, on_disk, now, chain, false);
        drop(guard);
        // Another process was faster with the same base layer.
        if let Ok(Some(other)) = &inserted {
            if let Some(snapshot) = self.snapshot(other).filter(|snapshot| snapshot.dir.is_some()) {
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
        self.remember_tree(&id, &tree);
        let dir = has_files.then(|| dir.join("fs"));
        Ok(Snapshot { dir, id, tree, size, created_ms: now })
    }

    /// Writes a snapshot's row. If its chain has another snapshot, that one's id is the result and
    /// nothing is written, unless it is to be replaced.
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
                    return Ok(Some(SnapshotId::from_text(other)));
                }
                put_chain(db, chain, id.as_str())?;
            }
            db.prepare_cached(
                "INSERT OR REPLACE INTO snapshots (id, size, boot, created_ms, last_used_ms, clock) \
                 VALUES (?1, ?2, ?3, ?4, ?4, (SELECT coalesce(max(value), 0.0) FROM meta WHERE key='clock'))",
            )?
            .execute((id.as_str(), int(size), &self.inner.boot, int(now_ms)))?;
            read_back(db, "SELECT 1 FROM snapshots WHERE id=?1", [id.as_str()])?;
            Ok(None)
        })
    }

    /// Whether there is an index, which need not be whole.
    pub(crate) fn has_index(&self, id: &SnapshotId) -> bool {
        let dir = self.snapshot_dir(id);
        dir.join(INDEX).exists() || dir.join(ALONE).exists()
    }

    /// A snapshot's index, and whether its files are there.
    fn load_tree(&self, id: &SnapshotId) -> Result<(Arc<Tree>, bool), StoreError> {
        let dir = self.snapshot_dir(id);
        // `index` comes after the files, so whoever sees it sees them.
        let (path, has_files) = match fs::exists(dir.join(INDEX)).on("read", &dir)? {
            false if dir.join(ALONE).exists() => (dir.join(ALONE), false),
            _ => (dir.join(INDEX), true),
        };
        if has_files {
            fs::metadata(dir.join("fs")).on("read", &dir)?;
        }
        let held = {
            let trees = self.inner.trees.lock().unwrap_or_else(PoisonError::into_inner);
            trees.get(id).and_then(std::sync::Weak::upgrade)
        };
        if let Some(tree) = held {
            return Ok((tree, has_files));
        }
        let bytes = match fs::read(&path) {
            // The files came just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !has_files => return self.load_tree(id),
            bytes => bytes.on("read", &path)?,
        };
        let tree = Tree::decode(&bytes)
            .map_err(|error| StoreError::Damaged { path: path.clone(), reason: error.to_string() })?;
        let tree = Arc::new(tree);
        self.remember_tree(id, &tree);
        Ok((tree, has_files))
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

/// Whether a snapshot is gone or broken, rather than out of reach for now (as without file
/// descriptors).
pub(crate) fn is_damage(error: &StoreError) -> bool {
    match error {
        StoreError::Damaged { .. } => true,
        StoreError::Io(IoError { source, .. }) => {
            matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
                // The disk cannot read it.
                || source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
        }
        _ => false,
    }
}

/// What the files of a layer take in blocks of 4 KiB; hardlinks into other snapshots are counted as
/// if they were copies.
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
