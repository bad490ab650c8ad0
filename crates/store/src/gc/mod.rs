//! Collection: what goes when space is short.
//!
//! Candidates are chosen from what the leases leave free (see `leases.rs`), then deleted in
//! batches: the database's rows in one transaction, re-checked, then the files, renamed away while
//! nobody can publish (`publish.lock`) and removed afterwards. Whoever dies in between leaves files
//! without rows, which the next collection removes as orphans.

pub(crate) mod after_build;
pub(crate) mod disk_usage;
pub(crate) mod last_used;
pub(crate) mod leases;
pub(crate) mod repair;
pub(crate) mod reserve;
pub(crate) mod verify;

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dbuild_cache::{EntryStats, Policy, victims};
use dbuild_digest::{BlobDigest, SnapshotId};
use dbuild_support::io_context::IoContext as _;
use dbuild_support::time::now_ms;
use rusqlite::Transaction;

use crate::blobs::verified_blobs::delete_hashed;
use crate::db::{int, uint};
use crate::gc::disk_usage::size_of;
use crate::publish::{remove_tree, remove_tree_while};
use crate::records::ingredient_chunks::ChunkId;
use crate::snapshots::delete_snapshot_rows;
use crate::{CacheMountEntry, Store, StoreError};

/// What a collection may and must do. Named images are never touched.
#[derive(Clone, Copy, Debug, Default)]
pub struct PruneOptions {
    /// Remove, worst first, until the whole store takes at most so many bytes.
    pub keep_size: Option<u64>,
    /// Remove what was not used for so long.
    pub keep_for: Option<Duration>,
    /// Without `keep_size` and `keep_for`: remove the layers of base images and the cache mounts,
    /// too, and the journal of finished builds.
    pub all: bool,
    /// The order; `None` is [`dbuild_cache::default_policy`].
    pub policy: Option<&'static dyn Policy>,
    /// Remove nothing; say what would go. Sizes are then estimated.
    pub dry_run: bool,
    /// Stop after so long, even if not everything is done; the next collection goes on. Sizes are
    /// then what the database says, nothing is walked through to measure it, and for a size the
    /// journal is left alone.
    pub deadline: Option<Duration>,
}

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Results (snapshots) that were removed.
    pub snapshots: u64,
    /// Blobs that were removed.
    pub blobs: u64,
    /// Cache mounts that were removed.
    pub cache_mounts: u64,
    /// Bytes on disk that the store takes less (measured; estimated with a deadline).
    pub freed: u64,
    /// Bytes on disk that the store takes now.
    pub remaining: u64,
}

#[derive(Clone, Debug)]
enum CandidateKind {
    Snapshot(SnapshotId),
    Blob(BlobDigest),
    Mount(PathBuf),
}

struct Candidate {
    what: CandidateKind,
    /// As the collector saw it: a row that was used since is left alone.
    last_used_ms: u64,
    stats: EntryStats,
    /// Belongs to base images or cache mounts, which cost more than time to replace.
    valued: bool,
}

/// Number of things that are removed in one transaction.
const BATCH: usize = 64;
/// How fast an image is pulled and unpacked, where nobody measured it: 20 MB a second.
pub const PULL_BYTES_PER_MS: u64 = 20_000;

impl Store {
    /// Removes what the options ask for and nobody uses.
    pub fn prune(&self, options: &PruneOptions) -> Result<PruneReport, StoreError> {
        if options.dry_run {
            return self.would_prune(options);
        }
        let deadline = options.deadline.map(|deadline| Instant::now() + deadline);
        let measure = || if deadline.is_some() { self.estimated_size() } else { self.exact_size() };
        let before = measure()?;
        let mut pruned = PruneReport::default();
        let in_time = || deadline.is_none_or(|deadline| Instant::now() < deadline);
        self.remove_orphans(&in_time)?;
        if let Some(keep_for) = options.keep_for {
            let limit = now_ms().saturating_sub(u64::try_from(keep_for.as_millis()).unwrap_or(u64::MAX));
            let bounded = deadline.is_some();
            let old = self.candidates(bounded)?.into_iter().filter(|one| one.last_used_ms < limit).collect();
            self.remove(old, &mut pruned, &in_time)?;
            self.forget_builds(limit)?;
        }
        if options.keep_size.is_none() && options.keep_for.is_none() {
            let free = self
                .candidates(deadline.is_some())?
                .into_iter()
                .filter(|one| options.all || !one.valued)
                .collect();
            self.remove(free, &mut pruned, &in_time)?;
            if options.all {
                self.forget_builds(now_ms())?;
                self.forget_diff_ids()?;
            }
        }
        self.shrink_database(deadline.is_some(), &in_time);
        if let Some(keep) = options.keep_size {
            self.shrink_to(keep, options, &mut pruned, &in_time, &measure)?;
            if self.keep_reserve() {
                // It counts, too.
                self.shrink_to(keep, options, &mut pruned, &in_time, &measure)?;
            }
        } else {
            self.keep_reserve();
        }
        pruned.remaining = measure()?;
        if deadline.is_none() && options.keep_size.is_some_and(|keep| pruned.remaining > keep) {
            pruned.remaining = pruned.remaining.saturating_sub(self.give_reserve_up()?);
        }
        pruned.freed = before.saturating_sub(pruned.remaining);
        Ok(pruned)
    }

    /// What a collection would do, by the sizes that the candidates have each for itself.
    fn would_prune(&self, options: &PruneOptions) -> Result<PruneReport, StoreError> {
        let size = self.exact_size()?;
        let mut candidates = self.candidates(false)?;
        let mut chosen: Vec<Candidate> = Vec::new();
        if let Some(keep_for) = options.keep_for {
            let limit = now_ms().saturating_sub(u64::try_from(keep_for.as_millis()).unwrap_or(u64::MAX));
            let (old, rest) = candidates.into_iter().partition(|one| one.last_used_ms < limit);
            (chosen, candidates) = (old, rest);
        }
        let sum = |list: &[Candidate]| list.iter().map(|one| one.stats.size).sum::<u64>();
        if let Some(keep) = options.keep_size {
            let policy = options.policy.unwrap_or_else(dbuild_cache::default_policy);
            let stats: Vec<EntryStats> = candidates.iter().map(|one| one.stats).collect();
            let excess = size.saturating_sub(sum(&chosen)).saturating_sub(keep);
            let victims: HashSet<usize> =
                victims(policy, &stats, excess, self.clock()?).0.into_iter().collect();
            let numbered = candidates.into_iter().enumerate();
            chosen.extend(numbered.filter(|(index, _)| victims.contains(index)).map(|(_, one)| one));
        } else if options.keep_for.is_none() {
            chosen = candidates.into_iter().filter(|one| options.all || !one.valued).collect();
        }
        let count = |is: fn(&CandidateKind) -> bool| chosen.iter().filter(|one| is(&one.what)).count() as u64;
        let freed = sum(&chosen).min(size);
        Ok(PruneReport {
            snapshots: count(|what| matches!(what, CandidateKind::Snapshot(_))),
            blobs: count(|what| matches!(what, CandidateKind::Blob(_))),
            cache_mounts: count(|what| matches!(what, CandidateKind::Mount(_))),
            freed,
            remaining: size - freed,
        })
    }

    /// Removes candidates in the policy's order until the store is small enough or nothing is left.
    /// What a candidate really frees is known afterwards (files may be shared), hence the rounds.
    fn shrink_to(
        &self,
        keep: u64,
        options: &PruneOptions,
        pruned: &mut PruneReport,
        in_time: &dyn Fn() -> bool,
        measure: &dyn Fn() -> Result<u64, StoreError>,
    ) -> Result<(), StoreError> {
        let policy = options.policy.unwrap_or_else(dbuild_cache::default_policy);
        let bounded = options.deadline.is_some();
        loop {
            let size = measure()?;
            if size <= keep || !in_time() {
                return Ok(());
            }
            let mut candidates = self.candidates(bounded)?;
            if candidates.is_empty() {
                // The journal is the last to go, the oldest builds first.
                if bounded || !self.forget_oldest_builds()? {
                    return Ok(());
                }
                self.shrink_database(bounded, in_time);
                continue;
            }
            let stats: Vec<EntryStats> = candidates.iter().map(|one| one.stats).collect();
            let (chosen, clock) = victims(policy, &stats, size - keep, self.clock()?);
            let chosen: HashSet<usize> = chosen.into_iter().collect();
            let mut index = 0;
            candidates.retain(|_| {
                index += 1;
                chosen.contains(&(index - 1))
            });
            let removed = self.remove(candidates, pruned, in_time)?;
            self.set_clock(clock)?;
            self.shrink_database(bounded, in_time);
            if removed == 0 {
                // Everything that was chosen is in use again.
                return Ok(());
            }
        }
    }

    /// Everything that no lease protects and no name refers to. Where time is `bounded`, cache
    /// mounts are as large as they were when they were measured last.
    fn candidates(&self, bounded: bool) -> Result<Vec<Candidate>, StoreError> {
        let leased = self.oldest_lease_ms()?;
        let tagged = self.blobs_of_images()?;
        let packed = self.packed_blobs()?;
        let mut candidates = Vec::new();
        for row in self.snapshot_rows()?.into_iter().filter(|row| row.last_used_ms < leased) {
            let cost_ms = if row.is_base { row.size / PULL_BYTES_PER_MS } else { row.cost_ms };
            let stats = EntryStats {
                size: row.size,
                cost_ms,
                hits: row.hits,
                created_ms: row.created_ms,
                last_used_ms: row.last_used_ms,
                clock: row.clock,
            };
            let (last_used_ms, valued) = (row.last_used_ms, row.is_base);
            candidates.push(Candidate {
                what: CandidateKind::Snapshot(SnapshotId::from_text(row.id)),
                last_used_ms,
                stats,
                valued,
            });
        }
        for (digest, last_used_ms) in self.blob_rows()? {
            if last_used_ms >= leased || tagged.contains(&digest) {
                continue;
            }
            let size = fs::metadata(self.blob_path(&digest)).map_or(0, |meta| meta.blocks() * 512);
            let cost_ms = size / PULL_BYTES_PER_MS;
            let (created_ms, hits, clock) = (last_used_ms, 0, 0.0);
            let stats = EntryStats { size, cost_ms, hits, created_ms, last_used_ms, clock };
            let valued = !packed.contains(&digest);
            candidates.push(Candidate { what: CandidateKind::Blob(digest), last_used_ms, stats, valued });
        }
        for mount in self.cache_mounts()?.into_iter().filter(CacheMountEntry::is_free) {
            let size = if bounded { mount.size } else { size_of(&mount.path) };
            let cost_ms = size / PULL_BYTES_PER_MS;
            let (last_used_ms, hits, clock) = (mount.last_used_ms, mount.hits, mount.clock);
            let created_ms = last_used_ms;
            let stats = EntryStats { size, cost_ms, hits, created_ms, last_used_ms, clock };
            candidates.push(Candidate {
                what: CandidateKind::Mount(mount.path),
                last_used_ms,
                stats,
                valued: true,
            });
        }
        Ok(candidates)
    }

    /// Removes candidates that were not used since they were chosen; how many are gone.
    fn remove(
        &self,
        candidates: Vec<Candidate>,
        pruned: &mut PruneReport,
        in_time: &dyn Fn() -> bool,
    ) -> Result<u64, StoreError> {
        let (mut removed, mut rest, mut size) = (0, &candidates[..], 1);
        while !rest.is_empty() && in_time() {
            let batch = rest.split_off(..size.min(rest.len())).unwrap_or_default();
            // On a full disk the log of the database cannot grow before the first files are gone.
            size = (size * 2).min(BATCH);
            let lock = self.stop_publishing()?;
            // Names may have been given since, and a lease may have come to protect everything.
            let (tagged, leased) = (self.blobs_of_images()?, self.oldest_lease_ms()?);
            let gone = self.inner.db.write(|db| {
                let mut gone = Vec::new();
                for one in batch.iter().filter(|one| one.last_used_ms < leased) {
                    if delete_row(db, one, &tagged)? {
                        gone.push(one.what.clone());
                    }
                }
                Ok(gone)
            })?;
            let mut trash = Vec::new();
            for what in gone {
                removed += 1;
                let path = match what {
                    CandidateKind::Snapshot(id) => {
                        pruned.snapshots += 1;
                        self.snapshot_dir(&id)
                    }
                    CandidateKind::Blob(digest) => {
                        pruned.blobs += 1;
                        self.blob_path(&digest)
                    }
                    CandidateKind::Mount(_) => continue,
                };
                trash.push(self.to_trash(&path)?);
            }
            drop(lock);
            trash.iter().try_for_each(|path| self.discard(path, in_time))?;
            for one in batch {
                if let CandidateKind::Mount(path) = &one.what
                    && self.remove_cache_mount(path, in_time)?
                {
                    pruned.cache_mounts += 1;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    /// Removes files that no row knows: left by a collector or a publisher that was killed, or by a
    /// database that was lost.
    fn remove_orphans(&self, in_time: &dyn Fn() -> bool) -> Result<(), StoreError> {
        let leased = self.oldest_lease_ms()?;
        let lock = self.stop_publishing()?;
        let snapshots: HashSet<String> = self.snapshot_rows()?.into_iter().map(|row| row.id).collect();
        let blobs: HashSet<String> = self.blob_rows()?.into_iter().map(|(digest, _)| digest.hex()).collect();
        let tagged: HashSet<String> = self.blobs_of_images()?.iter().map(BlobDigest::hex).collect();
        // Another tool that copies an image in writes the blobs first and the name last.
        let foreign = now_ms().saturating_sub(3_600_000);
        let mut trash = Vec::new();
        for (room, known, limit) in
            [("snapshots", &snapshots, leased), ("blobs/sha256", &blobs, foreign.min(leased))]
        {
            let dir = self.room(room);
            for entry in fs::read_dir(&dir).on("read", &dir)? {
                let entry = entry.on("read", &dir)?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let Ok(meta) = entry.metadata() else { continue };
                // A second of grace: the file system's clock may be behind ours.
                let changed_ms =
                    u64::try_from(meta.ctime()).unwrap_or(0).saturating_add(2).saturating_mul(1000);
                if !known.contains(&name) && !tagged.contains(&name) && changed_ms < limit {
                    trash.push(self.to_trash(&entry.path())?);
                }
            }
        }
        drop(lock);
        trash.iter().try_for_each(|path| self.discard(path, in_time))
    }

    /// Removes what was moved away. What there is no time for becomes an orphan, which the next
    /// collection removes.
    pub(crate) fn discard(&self, path: &Path, in_time: &dyn Fn() -> bool) -> Result<(), StoreError> {
        match remove_tree_while(path, in_time) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let place = self.room("snapshots").join(path.file_name().unwrap_or_default());
                Ok(fs::rename(path, &place).on("write", &place)?)
            }
            // It is not there, or holds directories without permissions.
            Err(_) => Ok(remove_tree(path).on("remove", path)?),
        }
    }

    /// Nobody publishes while this is held.
    fn stop_publishing(&self) -> Result<fs::File, StoreError> {
        // One's own window would be waited for.
        self.flush_uses();
        let path = self.room("publish.lock");
        let file = dbuild_support::lock::open(&path).on("lock", &path)?;
        file.lock().on("lock", &path)?;
        Ok(file)
    }

    fn packed_blobs(&self) -> Result<HashSet<BlobDigest>, StoreError> {
        self.inner.db.read(|db| {
            let mut query = db.prepare_cached("SELECT DISTINCT digest FROM packed")?;
            query.query_map([], |row| Ok(BlobDigest::from_bytes(row.get::<_, [u8; 32]>(0)?)))?.collect()
        })
    }

    fn clock(&self) -> Result<f64, StoreError> {
        self.inner.db.read(|db| {
            db.query_row("SELECT coalesce(max(value), 0.0) FROM meta WHERE key='clock'", [], |row| row.get(0))
        })
    }

    fn set_clock(&self, clock: f64) -> Result<(), StoreError> {
        self.inner.db.write(|db| {
            db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('clock', ?1)", [clock]).map(drop)
        })
    }

    /// Forgets the finished builds that began before a time.
    fn forget_builds(&self, before_ms: u64) -> Result<(), StoreError> {
        self.inner.db.write(|db| {
            let old = "SELECT id FROM builds WHERE started_ms<?1 AND finished_ms IS NOT NULL";
            db.execute(&format!("DELETE FROM events WHERE build IN ({old})"), [int(before_ms)])?;
            db.execute(&format!("DELETE FROM builds WHERE id IN ({old})"), [int(before_ms)]).map(drop)
        })
    }

    /// Forgets the older half of the finished builds; false if there is none.
    fn forget_oldest_builds(&self) -> Result<bool, StoreError> {
        let middle = self.inner.db.read(|db| {
            let mut query = db
                .prepare("SELECT started_ms FROM builds WHERE finished_ms IS NOT NULL ORDER BY started_ms")?;
            let times: Vec<i64> = query.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            Ok(times.get(times.len() / 2).copied())
        })?;
        match middle {
            Some(middle) => self.forget_builds(uint(middle) + 1).map(|()| true),
            None => Ok(false),
        }
    }

    /// Drops pieces of ingredients that no record has, and gives free pages back to the file
    /// system; as many as can be had without waiting for others where time is `bounded`. What is
    /// left is no harm.
    fn shrink_database(&self, bounded: bool, in_time: &dyn Fn() -> bool) {
        if !in_time() {
            return;
        }
        let compacted = self.drop_unused_chunks().and_then(|()| {
            self.inner.db.read(|db| {
                let (pages, checkpoint) = if bounded { (4096, "PASSIVE") } else { (0, "TRUNCATE") };
                let mut vacuum = db.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
                let mut rows = vacuum.query([])?;
                while rows.next()?.is_some() {}
                drop(rows);
                db.query_row(&format!("PRAGMA wal_checkpoint({checkpoint})"), [], |_| Ok(()))
            })
        });
        if let Err(error) = compacted {
            tracing::debug!("the database is not compacted: {error}");
        }
    }

    fn drop_unused_chunks(&self) -> Result<(), StoreError> {
        self.inner.db.write(|db| {
            let mut used: HashSet<String> = HashSet::new();
            let mut query = db.prepare("SELECT body FROM records")?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                let body: String = row.get(0)?;
                used.extend(chunk_ids(&body).into_iter().map(|id| id.0));
            }
            drop(rows);
            let mut query = db.prepare("SELECT id FROM ingredients")?;
            let all: Vec<String> = query.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            let mut delete = db.prepare("DELETE FROM ingredients WHERE id=?1")?;
            all.iter().filter(|id| !used.contains(*id)).try_for_each(|id| delete.execute([id]).map(drop))
        })
    }
}

fn chunk_ids(body: &str) -> Vec<ChunkId> {
    #[derive(serde::Deserialize)]
    struct Chunks {
        chunks: Vec<ChunkId>,
    }
    serde_json::from_str::<Chunks>(body).map(|body| body.chunks).unwrap_or_default()
}

/// Deletes a candidate's rows if it was not used since it was chosen.
fn delete_row(
    db: &Transaction<'_>,
    one: &Candidate,
    tagged: &BTreeSet<BlobDigest>,
) -> rusqlite::Result<bool> {
    match &one.what {
        CandidateKind::Snapshot(id) => {
            let same = db
                .prepare_cached("SELECT 1 FROM snapshots WHERE id=?1 AND last_used_ms=?2")?
                .exists((id.as_str(), int(one.last_used_ms)))?;
            Ok(same && delete_snapshot_rows(db, id.as_str())? > 0)
        }
        CandidateKind::Blob(digest) if tagged.contains(digest) => Ok(false),
        CandidateKind::Blob(digest) => {
            let gone = db
                .prepare_cached("DELETE FROM blobs WHERE digest=?1 AND last_used_ms=?2")?
                .execute((digest.as_bytes(), int(one.last_used_ms)))?;
            if gone > 0 {
                db.prepare_cached("DELETE FROM packed WHERE digest=?1")?.execute([digest.as_bytes()])?;
                db.prepare_cached("DELETE FROM members WHERE blob=?1")?.execute([digest.as_bytes()])?;
                delete_hashed(db, digest)?;
            }
            Ok(gone > 0)
        }
        CandidateKind::Mount(_) => Ok(false),
    }
}
