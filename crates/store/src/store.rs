//! Opening a store.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use dbuild_digest::SnapshotId;
use dbuild_layer::{OverlayFlavor, Tree};
use dbuild_support::time::now_ms;
use serde::{Deserialize, Serialize};

use crate::StoreError;
use crate::content_cache::Contexts;
use crate::db::Db;
use crate::error::Context;
use crate::gc::last_used::Uses;
use crate::gc::repair::flavor_of_snapshots;
use crate::gc::reserve::RESERVE;
use crate::locks::{open_lock_file, try_lock};
use crate::publish::{Durability, publish_bytes, remove_tree};

/// The version of the store's layout and of its database. A store with a larger one is refused.
pub const FORMAT: u32 = 1;

/// A store that is open. Clones share it; any number of threads may use them.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    root: PathBuf,
    pub(crate) flavor: OverlayFlavor,
    pub(crate) db: Arc<Db>,
    /// Names this boot of this machine.
    pub(crate) boot: String,
    scratch: Scratch,
    warnings: Mutex<Vec<String>>,
    /// Indexes that somebody holds.
    pub(crate) trees: Mutex<HashMap<SnapshotId, Weak<Tree>>>,
    pub(crate) contexts: Contexts,
    pub(crate) uses: Arc<Uses>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.uses.flush(&self.db);
    }
}

/// This process's directory below `tmp/`, locked for as long as it lives.
#[derive(Debug)]
struct Scratch {
    dir: PathBuf,
    _lock: File,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is swept by the next one who opens the store.
        let _ = remove_tree(&self.dir);
    }
}

/// The file `format`.
#[derive(Serialize, Deserialize)]
struct Format {
    format: u32,
    overlay: String,
}

/// The directories of a store.
pub(crate) const ROOMS: [&str; 8] =
    ["blobs", "blobs/sha256", "snapshots", "indexes", "mounts", "tmp", "leases", "locks"];
/// The files of a store, as far as their names are fixed.
pub(crate) const FILES: [&str; 6] =
    ["oci-layout", "index.json", "format", "lock", "index.lock", "publish.lock"];

impl Store {
    /// Opens the store in a directory, making it (mode 0700) where there is none.
    ///
    /// Waits for others who are opening it. Sweeps what dead processes left below `tmp/` and what the last crash of the
    /// machine may have torn. A damaged database is moved aside, which [`Store::take_warnings`] tells.
    pub fn open(dir: &Path, flavor: OverlayFlavor) -> Result<Self, StoreError> {
        make_root(dir)?;
        let root = dir.canonicalize().on("open", dir)?;
        let lock_path = root.join("lock");
        let lock = open_lock_file(&lock_path)?;
        lock.lock().on("lock", &lock_path)?;

        check_format(&root, &flavor)?;
        for room in ROOMS {
            make_private_dir(&root.join(room))?;
        }
        let scratch = make_scratch(&root)?;
        let dead = dead_scratch(&root, Some(&scratch.dir))?;
        let db = Arc::new(Db::open(&root.join("dbuild.db"))?);
        let inner = Inner {
            flavor,
            db,
            boot: boot_id(),
            scratch,
            warnings: Mutex::default(),
            trees: Mutex::default(),
            contexts: Contexts::default(),
            uses: Arc::default(),
            root,
        };
        let store = Self { inner: Arc::new(inner) };
        store.complete_layout(flavor)?;
        let torn = store.forget_torn()?;
        store.inner.db.opened();
        // Others may go on; what is removed now is out of everybody's reach.
        drop(lock);
        for (path, _lock) in dead {
            let _ = remove_tree(&path);
        }
        for path in torn {
            let _ = remove_tree(&path);
        }
        store.keep_reserve();
        Ok(store)
    }

    /// The directory of the store, absolute.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// How overlayfs marks things in the snapshots of this store.
    pub fn flavor(&self) -> OverlayFlavor {
        self.inner.flavor
    }

    /// What the user should be told about the store (it was damaged, and what was done about it), each text once.
    pub fn take_warnings(&self) -> Vec<String> {
        let mut warnings = self.inner.db.take_warnings();
        warnings.append(&mut self.inner.warnings.lock().unwrap_or_else(PoisonError::into_inner));
        warnings
    }

    /// A path below this process's directory in `tmp/` that does not exist; on the same file system as everything else of
    /// the store. What is left there goes with the process.
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
        self.inner.uses.leases().iter().map(|(since_ms, _)| *since_ms).max().unwrap_or(0)
    }

    /// Writes what an OCI layout must have, and `format` last.
    fn complete_layout(&self, flavor: OverlayFlavor) -> Result<(), StoreError> {
        let layout = self.room("oci-layout");
        let version = br#"{"imageLayoutVersion":"1.0.0"}"#;
        if fs::read(&layout).ok().as_deref() != Some(version.as_slice()) {
            publish_bytes(&self.scratch_path(), &layout, version, Durability::Now)?;
        }
        self.repair_index()?;
        if !self.room("format").exists() {
            write_format(self.root(), flavor)?;
        }
        Ok(())
    }
}

/// A short text that no other call gives, in this process or another.
pub(crate) fn unique() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let mut random = [0_u8; 8];
    // Without the kernel's random numbers, time, process and counter still differ.
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    let salt = u64::from_le_bytes(random) ^ now_ms().rotate_left(20) ^ u64::from(std::process::id());
    format!("{salt:016x}{count:04x}")
}

fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

fn overlay_word(flavor: &OverlayFlavor) -> &'static str {
    match flavor {
        OverlayFlavor::Trusted => "trusted",
        OverlayFlavor::User => "user",
    }
}

fn make_private_dir(path: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.on("make", path),
    }
}

/// Makes the store's directory, or checks that what is there is a store (or one that is just being made).
fn make_root(dir: &Path) -> Result<(), StoreError> {
    if !dir.exists() {
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent).on("make", parent)?;
        }
        return make_private_dir(dir);
    }
    if dir.join("format").exists() {
        return Ok(());
    }
    is_ours(dir)?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(dir, private).on("open", dir)
}

/// Refuses a directory that holds what no store does.
pub(crate) fn is_ours(dir: &Path) -> Result<(), StoreError> {
    if dir.join("format").symlink_metadata().is_ok() {
        return Ok(());
    }
    // What was damaged is kept beside its place.
    let set_aside = |name: &str| FILES.iter().any(|file| name.starts_with(&format!("{file}.damaged-")));
    let ours = |name: &str| {
        ROOMS.contains(&name)
            || FILES.contains(&name)
            || name == RESERVE
            || name.starts_with("dbuild.db")
            || set_aside(name)
    };
    for entry in fs::read_dir(dir).on("open", dir)? {
        if !ours(&entry.on("open", dir)?.file_name().to_string_lossy()) {
            return Err(StoreError::NotAStore { path: dir.to_owned() });
        }
    }
    Ok(())
}

/// What a file `format` says.
pub(crate) enum FormatFile {
    /// It is what some dbuild writes.
    Whole { number: serde_json::Value, flavor: Option<OverlayFlavor> },
    /// It says nothing, for this reason.
    Damaged(String),
}

/// Reads a file `format`; `None` where there is none.
pub(crate) fn read_format(path: &Path) -> Result<Option<FormatFile>, StoreError> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.on("read", path)?,
    };
    let value: serde_json::Value = match serde_json::from_slice(&bytes) {
        Ok(value) => value,
        Err(error) => return Ok(Some(FormatFile::Damaged(error.to_string()))),
    };
    let number = value["format"].clone();
    let flavor = [OverlayFlavor::Trusted, OverlayFlavor::User]
        .into_iter()
        .find(|flavor| value["overlay"].as_str() == Some(overlay_word(flavor)));
    Ok(Some(match (number.as_u64(), flavor) {
        // What a newer one writes beside its number is its own matter.
        (Some(newer), _) if newer > u64::from(FORMAT) => FormatFile::Whole { number, flavor },
        (Some(_), Some(_)) => FormatFile::Whole { number, flavor },
        (None, _) => FormatFile::Damaged("it has no number".to_owned()),
        (_, None) => FormatFile::Damaged("it does not say how the store marks deleted files".to_owned()),
    }))
}

/// Writes the file `format` of a store.
pub(crate) fn write_format(root: &Path, flavor: OverlayFlavor) -> Result<(), StoreError> {
    let path = root.join("format");
    let format = Format { format: FORMAT, overlay: overlay_word(&flavor).to_owned() };
    let bytes = serde_json::to_vec(&format).map_err(io::Error::from).on("write", &path)?;
    make_private_dir(&root.join("tmp"))?;
    publish_bytes(&root.join("tmp").join(unique()), &path, &bytes, Durability::Now)
}

fn check_format(root: &Path, flavor: &OverlayFlavor) -> Result<(), StoreError> {
    let path = root.join("format");
    let (number, found) = match read_format(&path)? {
        None => {
            // Lost from a store that has contents: they say whose it is.
            let made_by = flavor_of_snapshots(root)?;
            (serde_json::Value::from(FORMAT), made_by.or(Some(*flavor)))
        }
        Some(FormatFile::Whole { number, flavor }) => (number, flavor),
        Some(FormatFile::Damaged(reason)) => return Err(StoreError::DamagedFormat { path, reason }),
    };
    if number.as_u64().is_none_or(|number| number > u64::from(FORMAT)) {
        let found = number.to_string();
        return Err(StoreError::NewerFormat { path: root.to_owned(), found, known: FORMAT });
    }
    if found != Some(*flavor) {
        let words = |flavor: Option<OverlayFlavor>| match flavor {
            Some(OverlayFlavor::User) => "without root",
            _ => "by root",
        };
        let (found, wanted) = (words(found), words(Some(*flavor)));
        return Err(StoreError::OtherFlavor { path: root.to_owned(), found, wanted });
    }
    Ok(())
}

/// Makes this process's directory in `tmp/`; called while the store's lock is held, so nobody takes it for a dead one.
fn make_scratch(root: &Path) -> Result<Scratch, StoreError> {
    let dir = root.join("tmp").join(unique());
    DirBuilder::new().mode(0o700).create(&dir).on("make", &dir)?;
    let lock = File::open(&dir).on("open", &dir)?;
    lock.lock().on("lock", &dir)?;
    Ok(Scratch { dir, _lock: lock })
}

/// What is in `tmp/` and belongs to no living process, locked so that nobody else removes it, too. The store's lock is held.
pub(crate) fn dead_scratch(
    root: &Path,
    own: Option<&Path>,
) -> Result<Vec<(PathBuf, Option<File>)>, StoreError> {
    let tmp = root.join("tmp");
    let mut dead = Vec::new();
    for entry in fs::read_dir(&tmp).on("read", &tmp)? {
        let path = entry.on("read", &tmp)?.path();
        if Some(&*path) == own {
            continue;
        }
        let Ok(file) = File::open(&path) else { continue };
        if try_lock(&file).unwrap_or(false) {
            dead.push((path, Some(file)));
        }
    }
    Ok(dead)
}
