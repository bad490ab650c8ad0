//! Opening a store.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use dbuild_layer::OverlayFlavor;
use dbuild_support::io_context::IoContext as _;
use dbuild_support::lock;

use crate::db::Db;
use crate::format::{ROOMS, check_format, is_ours, make_private_dir, write_format};
use crate::ids::boot_id;
use crate::publish::{Durability, publish_bytes, remove_tree};
use crate::scratch::{dead_scratch, make_scratch};
use crate::store::Inner;
use crate::{Store, StoreError};

impl Store {
    /// Opens the store in a directory, making it (mode 0700) where there is none.
    ///
    /// Waits for others who are opening it. Sweeps what dead processes left below `tmp/` and what
    /// the last crash of the machine may have torn. A damaged database is moved aside, which
    /// [`Store::take_warnings`] tells.
    pub fn open(dir: &Path, flavor: OverlayFlavor) -> Result<Self, StoreError> {
        make_root(dir)?;
        let root = dir.canonicalize().on("open", dir)?;
        let lock_path = root.join("lock");
        let lock = lock::open(&lock_path).on("lock", &lock_path)?;
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
            context_lookups: Mutex::default(),
            last_used: Arc::default(),
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

/// Makes the store's directory, or checks that what is there is a store (or one that is just being
/// made).
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
    Ok(fs::set_permissions(dir, private).on("open", dir)?)
}
