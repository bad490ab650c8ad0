//! One step, one worker: locks on keys that hold between threads and between processes.
//!
//! A key's lock is a file `locks/<key>` under an exclusive `flock`. Such a lock belongs to the open
//! file, so two threads of one process exclude each other too, and the kernel lets go of it when
//! the holder dies, however it dies.
//!
//! The file is removed by its holder before it lets go, which opens one race: a waiter may be
//! granted the lock of a file that is no longer in the directory while a third worker makes and
//! locks a new one. So whoever is granted a lock checks that the file at the path is still the one
//! that it holds, and starts again when it is not. Only the holder removes, and only while it
//! holds; so of all who hold a lock on *some* file of a key, exactly one holds the file at the
//! path.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

use dbuild_digest::StepKey;
use dbuild_support::io_context::IoContext as _;
use dbuild_support::lock;

use crate::{Store, StoreError};

/// The right to work on one key. Given up when dropped, and when the process dies.
#[derive(Debug)]
pub struct KeyLock {
    path: PathBuf,
    _file: File,
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        // While it is locked; see the module's text. What stays behind is an empty file that the
        // next holder reuses.
        let _ = fs::remove_file(&self.path);
    }
}

impl Store {
    /// Waits until no other thread or process works on the key.
    pub fn lock_key(&self, key: &StepKey) -> Result<KeyLock, StoreError> {
        let path = self.lock_path(key);
        loop {
            let file = lock::open(&path).on("lock", &path)?;
            file.lock().on("lock", &path)?;
            if lock::is_at(&file, &path) {
                return Ok(KeyLock { path, _file: file });
            }
        }
    }

    /// The lock of a key, or `None` when another thread or process holds it.
    pub fn try_lock_key(&self, key: &StepKey) -> Result<Option<KeyLock>, StoreError> {
        let path = self.lock_path(key);
        loop {
            let file = lock::open(&path).on("lock", &path)?;
            if !lock::try_lock(&file).on("lock", &path)? {
                return Ok(None);
            }
            if lock::is_at(&file, &path) {
                return Ok(Some(KeyLock { path, _file: file }));
            }
        }
    }

    /// Waits as [`Store::lock_key`] does, and gives up (`None`) soon after `stop` says so.
    pub fn lock_key_unless(
        &self,
        key: &StepKey,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<KeyLock>, StoreError> {
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(lock) = self.try_lock_key(key)? {
                return Ok(Some(lock));
            }
            if stop() {
                return Ok(None);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    fn lock_path(&self, key: &StepKey) -> PathBuf {
        self.room("locks").join(key.hex())
    }
}
