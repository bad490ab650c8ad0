//! The directories of `RUN --mount=type=cache`: kept between builds, and in no layer.
//!
//! `mounts/<hash of the id>[.n]/` holds `data`, `id` (the id as text), `lock`, and `ready` once `data` has been filled for the
//! first time. Users of a shared mount hold the lock shared, those of a locked or private one exclusively; so the kernel
//! knows who is there, and a collector takes only what it can lock. `.1`, `.2`, … are the further directories of a private mount.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use dbuild_digest::Framed;
use serde::{Deserialize, Serialize};

use crate::error::Context;
use crate::locks::{is_at, open_lock_file, try_lock};
use crate::publish::remove_tree;
use crate::{Store, StoreError};

/// Who may use a cache mount at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// Any number of steps.
    #[default]
    Shared,
    /// Each concurrent step gets a directory of its own.
    Private,
    /// One after the other.
    Locked,
}

/// A cache mount in use. Given back when dropped.
#[derive(Debug)]
pub struct CacheMount {
    dir: PathBuf,
    _lock: File,
}

/// A cache mount as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheMountEntry {
    /// The id of the instruction.
    pub id: String,
    /// Its directory, with what belongs to it.
    pub path: PathBuf,
    /// When it was used last, in milliseconds since 1970.
    pub last_used_ms: u64,
}

impl CacheMount {
    /// The directory to mount.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Store {
    /// The directory of a cache mount, waiting for it as `sharing` asks. `fill` is called once in the directory's life, alone, to
    /// give it its owner, mode and first content; if it fails, it is called again next time, on an empty directory.
    pub fn cache_mount(
        &self,
        id: &str,
        sharing: Sharing,
        mut fill: impl FnMut(&Path) -> io::Result<()>,
    ) -> Result<CacheMount, StoreError> {
        let name = mount_name(id);
        let mut number = 0;
        loop {
            let home = self.room("mounts").join(match number {
                0 => name.clone(),
                number => format!("{name}.{number}"),
            });
            match take(&home, id, sharing)? {
                Taken::Busy => number += 1,
                Taken::Gone => {}
                Taken::Yes(lock) => {
                    let lock_path = home.join("lock");
                    fill_once(&home, &mut fill)?;
                    if sharing == Sharing::Shared {
                        // The kernel may let a collector in between.
                        lock.lock_shared().on("lock", &lock_path)?;
                    }
                    if is_at(&lock, &lock_path) {
                        // Its time is that of the last use.
                        fs::write(home.join("id"), id).on("write", &home)?;
                        return Ok(CacheMount { dir: home.join("data"), _lock: lock });
                    }
                }
            }
        }
    }

    /// Whether [`Store::cache_mount`] would have to wait now. Only for telling: the answer can be old when it is heard.
    pub fn cache_mount_is_busy(&self, id: &str, sharing: Sharing) -> bool {
        let path = self.room("mounts").join(mount_name(id)).join("lock");
        let Ok(lock) = fs::OpenOptions::new().read(true).write(true).open(path) else { return false };
        let tried = match sharing {
            Sharing::Private => return false,
            Sharing::Shared => lock.try_lock_shared(),
            Sharing::Locked => lock.try_lock(),
        };
        matches!(tried, Err(fs::TryLockError::WouldBlock))
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
            entries.push(CacheMountEntry { id, path, last_used_ms });
        }
        entries.sort_by(|a, b| (&a.id, &a.path).cmp(&(&b.id, &b.path)));
        Ok(entries)
    }

    /// Removes a cache mount if nobody uses it.
    pub(crate) fn remove_cache_mount(&self, path: &Path) -> Result<bool, StoreError> {
        let lock = open_lock_file(&path.join("lock"))?;
        if !try_lock(&lock).on("lock", path)? {
            return Ok(false);
        }
        let trash = self.to_trash(path)?;
        drop(lock);
        remove_tree(&trash).on("remove", path)?;
        Ok(true)
    }
}

enum Taken {
    Yes(File),
    /// Another step has it.
    Busy,
    /// It was collected while we waited.
    Gone,
}

fn take(home: &Path, id: &str, sharing: Sharing) -> Result<Taken, StoreError> {
    match DirBuilder::new().mode(0o700).create(home) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other.on("make", home)?,
    }
    let path = home.join("lock");
    let lock = match open_lock_file(&path) {
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(Taken::Gone);
        }
        other => other?,
    };
    match sharing {
        Sharing::Shared if home.join("ready").exists() && home.join("data").is_dir() => {
            lock.lock_shared().on("lock", &path)?
        }
        // The first one is alone until the directory is filled.
        Sharing::Shared => lock.lock().on("lock", &path)?,
        Sharing::Locked => lock.lock().on("lock", &path)?,
        Sharing::Private => {
            if !try_lock(&lock).on("lock", &path)? {
                return Ok(Taken::Busy);
            }
        }
    }
    if !is_at(&lock, &path) {
        return Ok(Taken::Gone);
    }
    // Needed for listings even if filling fails.
    let note = home.join("id");
    if !note.exists() {
        fs::write(&note, id).on("write", &note)?;
    }
    Ok(Taken::Yes(lock))
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
    fs::write(&ready, b"").on("write", &ready)
}

fn mount_name(id: &str) -> String {
    let digest = Framed::new("cache-mount", 1).str(id).finish();
    digest[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}
