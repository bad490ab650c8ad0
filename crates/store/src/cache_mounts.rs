//! The directories of `RUN --mount=type=cache`: kept between builds, and in no layer.
//!
//! `mounts/<hash of the id>[.n]/` holds `data`, `id` (the id as text), `lock`, and `ready` once
//! `data` has been filled for the first time. Users of a shared mount hold the lock shared, those
//! of a locked or private one exclusively; so the kernel knows who is there, and a collector takes
//! only what it can lock. `.1`, `.2`, … are the further directories of a private mount.

use std::borrow::Cow;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use dbuild_digest::Framed;
use dbuild_plan::CacheSharing;
use dbuild_support::io_context::IoContext as _;
use dbuild_support::lock;
use dbuild_support::time::now_ms;

use crate::db::{int, uint};
use crate::gc::disk_usage::size_while;
use crate::publish::remove_tree;
use crate::{Store, StoreError};

/// A cache mount in use. Given back when dropped.
#[derive(Debug)]
pub struct CacheMount {
    dir: PathBuf,
    _lock: File,
}

/// A cache mount as a listing shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheMountEntry {
    /// The id of the instruction.
    pub id: String,
    /// Its directory, with what belongs to it.
    pub path: PathBuf,
    /// When it was used last, in milliseconds since 1970.
    pub last_used_ms: u64,
    /// How often it was used after it was made.
    pub hits: u64,
    /// Its bytes on disk when it was measured last; 0 if it never was. Of one that could not be
    /// walked through in time, a part.
    pub(crate) size: u64,
    /// When that was, in milliseconds since 1970.
    measured_ms: u64,
    /// The cache's clock when it was used last.
    pub(crate) clock: f64,
}

impl CacheMount {
    /// The directory to mount.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Store {
    /// The directory of a cache mount, waiting for it as `sharing` asks. `fill` is called once in
    /// the directory's life, alone, to give it its owner, mode and first content; if it fails, it
    /// is called again next time, on an empty directory.
    ///
    /// `anew` ends the life of what is there and begins another one; it waits until nobody is in
    /// it.
    pub fn cache_mount(
        &self,
        id: &str,
        sharing: CacheSharing,
        anew: bool,
        mut fill: impl FnMut(&Path) -> io::Result<()>,
    ) -> Result<CacheMount, StoreError> {
        let name = mount_name(id);
        let mut number = 0;
        loop {
            let home = self.room("mounts").join(match number {
                0 => name.clone(),
                number => format!("{name}.{number}"),
            });
            let alone = if anew && sharing == CacheSharing::Shared { CacheSharing::Locked } else { sharing };
            match take(&home, id, alone)? {
                LockAttempt::Busy => number += 1,
                LockAttempt::Gone => {}
                LockAttempt::Yes(lock) => {
                    let lock_path = home.join("lock");
                    if anew {
                        end(&home)?;
                    }
                    fill_once(&home, &mut fill)?;
                    if sharing == CacheSharing::Shared {
                        // The kernel may let a collector in between.
                        lock.lock_shared().on("lock", &lock_path)?;
                    }
                    if lock::is_at(&lock, &lock_path) {
                        // Its time is that of the last use.
                        fs::write(home.join("id"), id).on("write", &home)?;
                        self.note_mount(&home);
                        return Ok(CacheMount { dir: home.join("data"), _lock: lock });
                    }
                }
            }
        }
    }

    /// Whether [`Store::cache_mount`] would have to wait now. Only for telling: the answer can be
    /// old when it is heard.
    pub fn cache_mount_is_busy(&self, id: &str, sharing: CacheSharing) -> bool {
        let path = self.room("mounts").join(mount_name(id)).join("lock");
        let Ok(lock) = fs::OpenOptions::new().read(true).write(true).open(path) else { return false };
        let tried = match sharing {
            CacheSharing::Private => return false,
            CacheSharing::Shared => lock.try_lock_shared(),
            CacheSharing::Locked => lock.try_lock(),
        };
        matches!(tried, Err(fs::TryLockError::WouldBlock))
    }

    /// Counts a use. A mount that is not counted is worth less to a collector, and no more.
    fn note_mount(&self, home: &Path) {
        let noted = self.inner.db.write(|db| {
            db.prepare_cached(
                "INSERT INTO mounts (name, clock) VALUES (?1, (SELECT coalesce(max(value), 0.0) FROM meta WHERE key='clock')) \
                 ON CONFLICT (name) DO UPDATE SET hits=hits+1, clock=excluded.clock",
            )?
            .execute([name_of(home)])
        });
        if let Err(error) = noted {
            tracing::debug!("the use of a cache mount is not noted: {error}");
        }
    }

    /// All cache mounts, sorted by id.
    pub fn cache_mounts(&self) -> Result<Vec<CacheMountEntry>, StoreError> {
        let room = self.room("mounts");
        let mut entries = Vec::new();
        for entry in fs::read_dir(&room).on("read", &room)? {
            let path = entry.on("read", &room)?.path();
            let note = path.join("id");
            let Ok(meta) = fs::metadata(&note) else { continue };
            let seconds = u64::try_from(meta.mtime()).unwrap_or(0);
            let last_used_ms = seconds * 1000 + u64::try_from(meta.mtime_nsec()).unwrap_or(0) / 1_000_000;
            let id = fs::read_to_string(&note).unwrap_or_default();
            let (hits, size, measured_ms, clock) = (0, 0, 0, 0.0);
            entries.push(CacheMountEntry { id, path, last_used_ms, hits, size, measured_ms, clock });
        }
        if entries.is_empty() {
            return Ok(entries);
        }
        self.inner.db.read(|db| {
            let mut query =
                db.prepare_cached("SELECT hits, size, measured_ms, clock FROM mounts WHERE name=?1")?;
            for entry in &mut entries {
                let mut rows = query.query([name_of(&entry.path)])?;
                if let Some(row) = rows.next()? {
                    entry.hits = uint(row.get(0)?);
                    entry.size = uint(row.get(1)?);
                    entry.measured_ms = uint(row.get(2)?);
                    entry.clock = row.get(3)?;
                }
            }
            Ok(())
        })?;
        entries.sort_by(|a, b| (&a.id, &a.path).cmp(&(&b.id, &b.path)));
        Ok(entries)
    }

    /// Measures the cache mounts that were used since they were measured last, as far as there is
    /// time.
    pub(crate) fn measure_mounts(&self, in_time: &dyn Fn() -> bool) -> Result<(), StoreError> {
        for mount in self.cache_mounts()? {
            // Within the grain of the file system's clock it may have been used since.
            if mount.measured_ms > mount.last_used_ms + 10 {
                continue;
            }
            if !in_time() {
                break;
            }
            let (began_ms, is_free) = (now_ms(), mount.is_free());
            let (size, is_all) = size_while(&mount.path, in_time);
            tracing::debug!("cache mount {} measured in {} ms", mount.id, now_ms().saturating_sub(began_ms));
            let size = if is_all { size } else { size.max(mount.size) };
            // Who is in it goes on writing.
            let measured_ms = if is_free { began_ms } else { 0 };
            self.inner.db.write(|db| {
                db.prepare_cached(
                    "INSERT INTO mounts (name, size, measured_ms) VALUES (?1, ?2, ?3) \
                     ON CONFLICT (name) DO UPDATE SET size=excluded.size, measured_ms=excluded.measured_ms",
                )?
                .execute((name_of(&mount.path), int(size), int(measured_ms)))
            })?;
        }
        Ok(())
    }

    /// Removes a cache mount if nobody uses it. What there is no time for is left to the next
    /// collection.
    pub(crate) fn remove_cache_mount(
        &self,
        path: &Path,
        in_time: &dyn Fn() -> bool,
    ) -> Result<bool, StoreError> {
        let lock = lock::open(&path.join("lock")).on("lock", path.join("lock"))?;
        if !lock::try_lock(&lock).on("lock", path)? {
            return Ok(false);
        }
        let trash = self.to_trash(path)?;
        drop(lock);
        self.discard(&trash, in_time)?;
        self.inner.db.write(|db| db.execute("DELETE FROM mounts WHERE name=?1", [name_of(path)]))?;
        Ok(true)
    }
}

impl CacheMountEntry {
    /// Whether nobody is in it.
    pub(crate) fn is_free(&self) -> bool {
        lock::open(&self.path.join("lock")).is_ok_and(|lock| lock::try_lock(&lock).unwrap_or(false))
    }
}

fn name_of(home: &Path) -> Cow<'_, str> {
    home.file_name().unwrap_or_default().to_string_lossy()
}

enum LockAttempt {
    Yes(File),
    /// Another step has it.
    Busy,
    /// It was collected while we waited.
    Gone,
}

fn take(home: &Path, id: &str, sharing: CacheSharing) -> Result<LockAttempt, StoreError> {
    match DirBuilder::new().mode(0o700).create(home) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other.on("make", home)?,
    }
    let path = home.join("lock");
    let lock = match lock::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(LockAttempt::Gone);
        }
        other => other.on("lock", &path)?,
    };
    match sharing {
        CacheSharing::Shared if home.join("ready").exists() && home.join("data").is_dir() => {
            lock.lock_shared().on("lock", &path)?
        }
        // The first one is alone until the directory is filled.
        CacheSharing::Shared => lock.lock().on("lock", &path)?,
        CacheSharing::Locked => lock.lock().on("lock", &path)?,
        CacheSharing::Private => {
            if !lock::try_lock(&lock).on("lock", &path)? {
                return Ok(LockAttempt::Busy);
            }
        }
    }
    if !lock::is_at(&lock, &path) {
        return Ok(LockAttempt::Gone);
    }
    // Needed for listings even if filling fails.
    let note = home.join("id");
    if !note.exists() {
        fs::write(&note, id).on("write", &note)?;
    }
    Ok(LockAttempt::Yes(lock))
}

/// Ends the life of a directory: the next [`fill_once`] makes another one, also after a crash in
/// between. The caller is alone with it.
fn end(home: &Path) -> Result<(), StoreError> {
    let ready = home.join("ready");
    match fs::remove_file(&ready) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Ok(Err(error).on("remove", &ready)?),
        _ => Ok(()),
    }
}

/// Fills a directory that was not filled yet; the caller is alone with it.
fn fill_once(home: &Path, fill: &mut dyn FnMut(&Path) -> io::Result<()>) -> Result<(), StoreError> {
    let (dir, ready) = (home.join("data"), home.join("ready"));
    if ready.exists() && dir.is_dir() {
        return Ok(());
    }
    remove_tree(&dir).on("remove", &dir)?;
    DirBuilder::new().mode(0o755).create(&dir).on("make", &dir)?;
    fill(&dir).on("fill", &dir)?;
    Ok(fs::write(&ready, b"").on("write", &ready)?)
}

fn mount_name(id: &str) -> String {
    let digest = Framed::new("cache-mount", 1).str(id).finish();
    digest[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}
