//! What the store takes on disk.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use dbuild_digest::BlobDigest;
use dbuild_support::io_context::IoContext as _;
use serde::{Deserialize, Serialize};

use crate::db::uint;
use crate::{Store, StoreError};

/// What kind of thing takes the space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageKind {
    /// The blobs of an image that has a name.
    Image,
    /// A blob that no name refers to: a packed layer, a base image's layer, a manifest.
    Blob,
    /// The layer of a step.
    Snapshot,
    /// A layer of a base image.
    BaseSnapshot,
    /// The directory of a cache mount.
    CacheMount,
    /// Everything else: the database, the indexes of contexts, what is being made.
    Other,
}

/// Something that takes space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageEntry {
    /// What it is.
    pub kind: UsageKind,
    /// Which one: a digest, a snapshot's id, a cache mount's id.
    pub id: String,
    /// What people call it: the instruction, the image's name.
    pub text: String,
    /// Bytes on disk. Files that several entries share are counted in the first of them.
    pub size: u64,
    /// How often it was used after it was made.
    pub hits: u64,
    /// When it was used last, in milliseconds since 1970; 0 where that is not known.
    pub last_used_ms: u64,
    /// Whether a collection may remove it.
    pub reclaimable: bool,
}

/// What the store takes on disk, as `du` would count it: blocks, every file once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskUsage {
    /// All of it.
    pub total: u64,
    /// What a collection may remove.
    pub reclaimable: u64,
    /// Its parts; their sizes add up to the total.
    pub entries: Vec<UsageEntry>,
}

/// A row of `snapshots` with the step that made it.
pub(crate) struct SnapshotRow {
    pub(crate) id: String,
    /// It was pulled. What a step made here is not, although an image that was built here may begin
    /// with it.
    pub(crate) is_base: bool,
    pub(crate) size: u64,
    pub(crate) created_ms: u64,
    pub(crate) last_used_ms: u64,
    pub(crate) hits: u64,
    pub(crate) clock: f64,
    pub(crate) cost_ms: u64,
    pub(crate) text: String,
}

/// Text shown for a snapshot that no record leads to.
const NO_RESULT: &str = "no step's result: what a failed step left, or layers that were put together";

impl Store {
    /// Walks the whole store.
    pub fn disk_usage(&self) -> Result<DiskUsage, StoreError> {
        let mut walk = Walk::default();
        let leased = self.oldest_lease_ms()?;
        let tagged = self.blobs_of_images()?;
        let mut entries = Vec::new();
        for row in self.snapshot_rows()? {
            let path = self.room("snapshots").join(&row.id);
            entries.push(UsageEntry {
                kind: if row.is_base { UsageKind::BaseSnapshot } else { UsageKind::Snapshot },
                size: walk.size(&path).on("read", &path)?,
                id: row.id,
                text: if row.text.is_empty() && !row.is_base { NO_RESULT.to_owned() } else { row.text },
                hits: row.hits,
                last_used_ms: row.last_used_ms,
                reclaimable: row.last_used_ms < leased,
            });
        }
        self.blob_usage(&mut walk, &tagged, leased, &mut entries)?;
        for mount in self.cache_mounts()? {
            entries.push(UsageEntry {
                kind: UsageKind::CacheMount,
                size: walk.size(&mount.path).on("read", &mount.path)?,
                text: format!("cache mount {}", mount.id),
                reclaimable: mount.is_free(),
                id: mount.id,
                hits: mount.hits,
                last_used_ms: mount.last_used_ms,
            });
        }
        // What was not met so far: the walk counts every file once.
        let size = walk.size(self.root()).on("read", self.root())?;
        entries.push(UsageEntry {
            kind: UsageKind::Other,
            id: "dbuild.db".to_owned(),
            text: "database, indexes, reserve and work in progress".to_owned(),
            size,
            hits: 0,
            last_used_ms: 0,
            reclaimable: false,
        });
        let sum = |only: bool| entries.iter().filter(|e| e.reclaimable || !only).map(|e| e.size).sum();
        Ok(DiskUsage { total: sum(false), reclaimable: sum(true), entries })
    }

    /// The bytes of everything, exactly.
    pub(crate) fn exact_size(&self) -> Result<u64, StoreError> {
        Ok(Walk::default().size(self.root()).on("read", self.root())?)
    }

    /// The bytes of everything as the database knows it: quick, and too little only by cache mounts
    /// that were not measured to their end and by directories.
    pub(crate) fn estimated_size(&self) -> Result<u64, StoreError> {
        let known = self.inner.db.read(|db| {
            let sum = |query| db.query_row(query, [], |row| row.get::<_, i64>(0)).map(uint);
            Ok(sum("SELECT coalesce(sum(size), 0) FROM snapshots")?
                + sum("SELECT coalesce(sum((size+4095)/4096*4096), 0) FROM blobs")?)
        })?;
        let mounts: u64 = self.cache_mounts()?.iter().map(|mount| mount.size).sum();
        let indexes = self.room("indexes");
        let indexes =
            fs::read_dir(&indexes).on("read", &indexes)?.filter_map(|entry| entry.ok()?.metadata().ok());
        let files = self.inner.db.files();
        let database = files.iter().filter_map(|file| fs::metadata(file).ok());
        let blocks: u64 = indexes.chain(database).map(|meta| meta.blocks() * 512).sum();
        Ok(known + mounts + blocks + crate::format::RESERVE_BYTES)
    }

    pub(crate) fn snapshot_rows(&self) -> Result<Vec<SnapshotRow>, StoreError> {
        self.flush_uses();
        self.inner.db.read(|db| {
            let mut query = db.prepare_cached(
                "SELECT s.id, count(r.key)=0 AND EXISTS (SELECT 1 FROM chains c WHERE c.snapshot=s.id), s.size, s.created_ms, s.last_used_ms, s.hits, s.clock, \
                 coalesce(max(r.duration_ms), 0), coalesce(r.text, '') \
                 FROM snapshots s LEFT JOIN records r ON r.snapshot=s.id GROUP BY s.id ORDER BY s.rowid",
            )?;
            let rows = query.query_map([], |row| {
                Ok(SnapshotRow {
                    id: row.get(0)?,
                    is_base: row.get(1)?,
                    size: uint(row.get(2)?),
                    created_ms: uint(row.get(3)?),
                    last_used_ms: uint(row.get(4)?),
                    hits: uint(row.get(5)?),
                    clock: row.get(6)?,
                    cost_ms: uint(row.get(7)?),
                    text: row.get(8)?,
                })
            })?;
            rows.collect()
        })
    }

    fn blob_usage(
        &self,
        walk: &mut Walk,
        tagged: &BTreeSet<BlobDigest>,
        leased: u64,
        entries: &mut Vec<UsageEntry>,
    ) -> Result<(), StoreError> {
        for image in self.images()? {
            let blobs = image.digest().and_then(|digest| self.blobs_of(&digest).ok()).unwrap_or_default();
            let mut size = 0;
            for blob in blobs {
                let path = self.blob_path(&blob);
                size += walk.size(&path).on("read", &path)?;
            }
            entries.push(UsageEntry {
                kind: UsageKind::Image,
                id: image.descriptor.digest().to_string(),
                text: image.name,
                size,
                hits: 0,
                last_used_ms: 0,
                reclaimable: false,
            });
        }
        for (digest, last_used_ms) in self.blob_rows()? {
            if tagged.contains(&digest) {
                continue;
            }
            let path = self.blob_path(&digest);
            entries.push(UsageEntry {
                kind: UsageKind::Blob,
                id: digest.to_string(),
                text: "blob".to_owned(),
                size: walk.size(&path).on("read", &path)?,
                hits: 0,
                last_used_ms,
                reclaimable: last_used_ms < leased,
            });
        }
        Ok(())
    }

    /// All blobs that the database knows, with the time of their last use.
    pub(crate) fn blob_rows(&self) -> Result<Vec<(BlobDigest, u64)>, StoreError> {
        self.flush_uses();
        self.inner.db.read(|db| {
            let mut query = db.prepare_cached("SELECT digest, last_used_ms FROM blobs ORDER BY rowid")?;
            let rows = query.query_map([], |row| {
                Ok((BlobDigest::from_bytes(row.get::<_, [u8; 32]>(0)?), uint(row.get(1)?)))
            })?;
            rows.collect()
        })
    }
}

/// What a path takes; nothing where it cannot be read.
pub(crate) fn size_of(path: &Path) -> u64 {
    size_while(path, &|| true).0
}

/// The same for as long as there is time; whether that is all of it.
pub(crate) fn size_while(path: &Path, in_time: &dyn Fn() -> bool) -> (u64, bool) {
    let mut walk = Walk::default();
    let (mut size, mut stack) = (0, vec![path.to_owned()]);
    while let Some(path) = stack.pop() {
        if !in_time() {
            return (size, false);
        }
        size += walk.one(&path, &mut stack).unwrap_or(0);
    }
    (size, true)
}

/// Counts blocks, every file and directory once.
#[derive(Default)]
struct Walk {
    seen: HashSet<(u64, u64)>,
}

impl Walk {
    /// What a path and all below it take, as far as it was not counted. What vanishes meanwhile
    /// takes nothing.
    fn size(&mut self, path: &Path) -> io::Result<u64> {
        let mut sum = 0;
        let mut stack: Vec<PathBuf> = vec![path.to_owned()];
        while let Some(path) = stack.pop() {
            sum += self.one(&path, &mut stack)?;
        }
        Ok(sum)
    }

    /// What a path itself takes; what is below it goes to the stack.
    fn one(&mut self, path: &Path, stack: &mut Vec<PathBuf>) -> io::Result<u64> {
        let meta = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            other => other?,
        };
        let is_new = self.seen.insert((meta.dev(), meta.ino()));
        if meta.is_dir() {
            match fs::read_dir(path) {
                // Others' work directories cannot be read without root, and hold next to nothing.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {}
                other => {
                    for entry in other? {
                        stack.push(entry?.path());
                    }
                }
            }
        }
        Ok(if is_new { meta.blocks() * 512 } else { 0 })
    }
}
