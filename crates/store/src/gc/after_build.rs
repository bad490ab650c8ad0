//! The collection after a build: bounded in time, and begun only where the database says that there
//! is something to do.
//!
//! Whoever waits for a build waits for this, too. So sizes are those of the database, which counts
//! files that snapshots share more than once. Only cache mounts are walked through, those that were
//! used since the last time, and for a part of the time alone; of one that is too large for that,
//! what was counted stands. What is not done when the time is over is left: rows for the next
//! collection to choose again, directories without rows as orphans, which are a reason to collect.

use std::fs;
use std::time::{Duration, Instant};

use dbuild_cache::Policy;
use dbuild_support::io_context::IoContext as _;
use dbuild_support::time::now_ms;

use crate::db::{int, uint};
use crate::{PruneOptions, PruneReport, Store, StoreError};

/// A build's user waits for a second at most; some of it is left for what cannot be cut short.
const PATIENCE: Duration = Duration::from_millis(800);
/// Part of that time in which cache mounts are measured.
const MEASURING: Duration = Duration::from_millis(200);
/// The default limit is not less than this.
const LEAST: u64 = 10_000_000_000;

/// What a collection after a build keeps.
#[derive(Clone, Copy, Debug)]
pub struct AfterBuildLimits {
    /// The store's size; `None` is a tenth of its file system, at least 10 GB.
    pub keep_size: Option<u64>,
    /// What was used this lately.
    pub keep_for: Option<Duration>,
    /// What goes first.
    pub policy: &'static dyn Policy,
}

/// What a collection after a build did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AfterBuildReport {
    /// What was removed, by the sizes that the database knows.
    pub pruned: PruneReport,
    /// The limit.
    pub keep_size: u64,
    /// The time was over before everything was done.
    pub unfinished: bool,
}

impl Store {
    /// Brings the store within its limits, or nearer to them; `None` where nothing was removed.
    pub fn collect_after_build(
        &self,
        limits: &AfterBuildLimits,
    ) -> Result<Option<AfterBuildReport>, StoreError> {
        let began = Instant::now();
        let keep_size = limits.keep_size.map_or_else(|| self.default_keep_size(), Ok)?;
        self.measure_mounts(&|| began.elapsed() < MEASURING)?;
        let too_large = self.estimated_size()? > keep_size;
        if !too_large && !self.is_older(limits.keep_for)? && !self.has_leftovers()? {
            return Ok(None);
        }
        let pruned = self.prune(&PruneOptions {
            keep_size: Some(keep_size),
            keep_for: limits.keep_for,
            policy: Some(limits.policy),
            deadline: Some(PATIENCE.saturating_sub(began.elapsed())),
            ..PruneOptions::default()
        })?;
        tracing::debug!("collected in {:?}", began.elapsed());
        if (pruned.snapshots, pruned.blobs, pruned.cache_mounts) == (0, 0, 0) {
            return Ok(None);
        }
        let unfinished =
            began.elapsed() >= PATIENCE && (pruned.remaining > keep_size || self.has_leftovers()?);
        Ok(Some(AfterBuildReport { pruned, keep_size, unfinished }))
    }

    /// The limit where none is named.
    fn default_keep_size(&self) -> Result<u64, StoreError> {
        let stat = rustix::fs::statvfs(self.root()).map_err(std::io::Error::from).on("read", self.root())?;
        Ok((stat.f_blocks.saturating_mul(stat.f_frsize) / 10).max(LEAST))
    }

    /// Whether anything was not used for so long.
    fn is_older(&self, keep_for: Option<Duration>) -> Result<bool, StoreError> {
        let Some(keep_for) = keep_for else { return Ok(false) };
        let limit = now_ms().saturating_sub(u64::try_from(keep_for.as_millis()).unwrap_or(u64::MAX));
        if self.cache_mounts()?.iter().any(|mount| mount.last_used_ms < limit) {
            return Ok(true);
        }
        self.inner.db.read(|db| {
            let old = |table: &str| {
                db.prepare_cached(&format!("SELECT 1 FROM {table} WHERE last_used_ms<?1"))?
                    .exists([int(limit)])
            };
            Ok(old("snapshots")? || old("blobs")?)
        })
    }

    /// Whether there are more snapshots than rows of them: what a collection had no time to remove.
    fn has_leftovers(&self) -> Result<bool, StoreError> {
        let dir = self.room("snapshots");
        let there = fs::read_dir(&dir).on("read", &dir)?.count() as u64;
        let known = self.inner.db.read(|db| {
            db.query_row("SELECT count(*) FROM snapshots", [], |row| row.get::<_, i64>(0)).map(uint)
        })?;
        Ok(there > known)
    }
}
