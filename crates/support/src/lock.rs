//! Files that are locked with `flock`: between threads and between processes, until the holder
//! dies.
//!
//! Such a lock belongs to the open file, so two openings of one file exclude each other even within
//! one process. `File::lock` waits for it; what std leaves out is here.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Opens a file in order to lock it, making it where there is none.
pub fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).open(path)
}

/// Takes a lock if it is free; whether it was.
pub fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether an open file is the one at a path: another process may have removed or replaced it
/// before the lock was granted.
pub fn is_at(file: &File, path: &Path) -> bool {
    let id = |meta: fs::Metadata| (meta.dev(), meta.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(there)) => id(held) == id(there),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{is_at, open, try_lock};

    #[test]
    fn a_lock_excludes_a_second_opening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let (first, second) = (open(&path).unwrap(), open(&path).unwrap());
        assert!(try_lock(&first).unwrap());
        assert!(!try_lock(&second).unwrap());
        drop(first);
        assert!(try_lock(&second).unwrap());
    }

    #[test]
    fn a_file_that_was_replaced_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = open(&path).unwrap();
        assert!(is_at(&held, &path));
        std::fs::remove_file(&path).unwrap();
        assert!(!is_at(&held, &path));
        let _other = open(&path).unwrap();
        assert!(!is_at(&held, &path));
    }
}
