//! Blobs whose files are what they were when their bytes were hashed last.
//!
//! Whoever reads a blob compares it with its digest, and for a build that finds everything in the
//! store this is most of the work. So it is remembered what a file looked like when it was hashed,
//! and a file that looks so still is not hashed again: whoever writes to a file leaves another
//! ctime, which no call sets back. What no look tells is a disk that loses bits; therefore a blob
//! is believed for a day, and only until the machine starts again.
//!
//! *Racy times.* A file that is written to within the same tick of the clock keeps its ctime. A
//! blob that was found is noted only if its ctime lay back by more than that when hashing began;
//! one that was just made has, until it is renamed to its place, no name under which others could
//! write to it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dbuild_digest::BlobDigest;
use dbuild_support::time::now_ms;
use rusqlite::{OptionalExtension as _, Transaction};

use crate::Store;
use crate::db::{int, seal, uint};

/// For so long a blob is believed.
const BELIEVED: Duration = Duration::from_secs(24 * 60 * 60);
/// Longer than the clock of file times takes for a tick.
const TICK: Duration = Duration::from_millis(50);
/// A smaller blob is hashed in less time than it takes to look up and note.
const SMALLEST: u64 = 64 << 10;

/// What a file looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    device: u64,
    inode: u64,
    pub(crate) size: u64,
    mtime_ns: i64,
    ctime_ns: i64,
}

impl Look {
    pub(crate) fn of(meta: &fs::Metadata) -> Self {
        let ns = |secs: i64, nanos: i64| secs.saturating_mul(1_000_000_000).saturating_add(nanos);
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.len(),
            mtime_ns: ns(meta.mtime(), meta.mtime_nsec()),
            ctime_ns: ns(meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// Whether somebody could write to the file now without leaving another ctime.
    pub(crate) fn is_racy(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let since = now.as_nanos() as i64 - self.ctime_ns;
        since < TICK.as_nanos() as i64
    }

    /// Together with the boot and the time, what a row says of a blob.
    fn seal(&self, digest: &BlobDigest, boot: &str, at_ms: u64) -> Vec<u8> {
        let Self { device, inode, size, mtime_ns, ctime_ns } = *self;
        let numbers = [device, inode, size, mtime_ns as u64, ctime_ns as u64, at_ms];
        let body: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        seal("hashed", &[digest.as_bytes(), boot.as_bytes()], &body)
    }
}

impl Store {
    /// Whether a blob's file looks as it did when it was hashed, lately.
    pub(crate) fn is_hashed(&self, digest: &BlobDigest, look: &Look) -> bool {
        if look.size < SMALLEST {
            return false;
        }
        let row = self.inner.db.read(|db| {
            db.prepare_cached("SELECT at_ms, seal FROM hashed WHERE digest=?1")?
                .query_row([digest.as_bytes()], |row| Ok((uint(row.get(0)?), row.get::<_, Vec<u8>>(1)?)))
                .optional()
        });
        let Some((at_ms, sealed)) = row.ok().flatten() else { return false };
        let is_late = now_ms().checked_sub(at_ms).is_none_or(|age| age > BELIEVED.as_millis() as u64);
        !is_late && sealed == look.seal(digest, &self.inner.boot, at_ms)
    }

    /// Notes that a blob was hashed when its file looked so. Trouble with it costs time, and is no
    /// error.
    pub(crate) fn note_hashed(&self, digest: &BlobDigest, look: &Look) {
        if look.size < SMALLEST {
            return;
        }
        let noted = self.inner.db.write(|db| self.put_hashed(db, digest, look));
        if let Err(error) = noted {
            tracing::debug!("that a blob was hashed is not kept: {error}");
        }
    }

    /// [`Store::note_hashed`] in a transaction.
    pub(crate) fn put_hashed(
        &self,
        db: &Transaction<'_>,
        digest: &BlobDigest,
        look: &Look,
    ) -> rusqlite::Result<()> {
        if look.size < SMALLEST {
            return Ok(());
        }
        let now = now_ms();
        db.prepare_cached("INSERT OR REPLACE INTO hashed (digest, at_ms, seal) VALUES (?1, ?2, ?3)")?
            .execute((digest.as_bytes(), int(now), look.seal(digest, &self.inner.boot, now)))
            .map(drop)
    }
}

/// Forgets that a blob was hashed.
pub(crate) fn delete_hashed(db: &Transaction<'_>, digest: &BlobDigest) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM hashed WHERE digest=?1")?.execute([digest.as_bytes()]).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write as _;
    use std::os::unix::fs::FileExt as _;
    use std::time::{Duration, SystemTime};

    use dbuild_digest::BlobDigest;
    use dbuild_layer::OverlayFlavor;

    use super::{BELIEVED, Look};
    use crate::db::int;
    use crate::{PruneOptions, Store};
    use dbuild_support::time::now_ms;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store"), OverlayFlavor::Trusted).unwrap();
        (dir, store)
    }

    fn look(store: &Store, digest: &BlobDigest) -> Look {
        Look::of(&fs::metadata(store.blob_path(digest)).unwrap())
    }

    fn is_hashed(store: &Store, digest: &BlobDigest) -> bool {
        store.is_hashed(digest, &look(store, digest))
    }

    fn large(store: &Store) -> BlobDigest {
        store.put_blob(&[7; 100_000]).unwrap().0
    }

    #[test]
    fn what_was_written_is_believed_also_by_the_next_process_until_somebody_writes_to_it() {
        let (_dir, store) = store();
        let digest = large(&store);
        let root = store.root().to_owned();
        drop(store);
        let store = Store::open(&root, OverlayFlavor::Trusted).unwrap();
        assert!(is_hashed(&store, &digest));
        let path = store.blob_path(&digest);
        let times = fs::metadata(&path).unwrap().modified().unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(b"x", 50_000).unwrap();
        file.set_modified(times).unwrap();
        assert_eq!(store.has_blob(&digest), Some(100_000), "the row of the blob has no ctime");
        assert!(!is_hashed(&store, &digest));
        assert!(store.read_blob(&digest, 100_000).is_err());
    }

    #[test]
    fn what_is_not_believed_is_after_it_was_read_whole() {
        let (_dir, store) = store();
        let digest = large(&store);
        // Another ctime, long past, by what changes nothing.
        let file = File::options().write(true).open(store.blob_path(&digest)).unwrap();
        file.set_modified(SystemTime::now()).unwrap();
        drop(file);
        assert!(!is_hashed(&store, &digest));
        store.read_blob(&digest, 100_000).unwrap();
        assert!(!is_hashed(&store, &digest), "its time was too fresh");
        while look(&store, &digest).is_racy() {
            std::thread::yield_now();
        }
        store.read_blob(&digest, 100_000).unwrap();
        assert!(is_hashed(&store, &digest));
    }

    #[test]
    fn nothing_is_believed_for_long_nor_after_the_machine_started_again() {
        let (_dir, store) = store();
        let digest = large(&store);
        let look = look(&store, &digest);
        let put = |at_ms: u64, boot: &str| {
            let row = (digest.as_bytes(), int(at_ms), look.seal(&digest, boot, at_ms));
            let sql = "INSERT OR REPLACE INTO hashed (digest, at_ms, seal) VALUES (?1, ?2, ?3)";
            store.inner.db.write(|db| db.execute(sql, (row.0, row.1, &row.2))).unwrap();
        };
        let believed = BELIEVED.as_millis() as u64;
        let boot = store.inner.boot.clone();
        for (at_ms, boot, expected) in [
            (now_ms() - believed + 60_000, &*boot, true),
            (now_ms() - believed - 1, &boot, false),
            // The clock was set back.
            (now_ms() + 60_000, &boot, false),
            (now_ms(), "another", false),
        ] {
            put(at_ms, boot);
            assert_eq!(is_hashed(&store, &digest), expected, "{at_ms} {boot}");
        }
        put(now_ms(), &boot);
        store.inner.db.write(|db| db.execute("UPDATE hashed SET at_ms=at_ms+1", [])).unwrap();
        assert!(!is_hashed(&store, &digest), "its seal is broken");
    }

    #[test]
    fn what_is_small_is_hashed_always_and_what_is_gone_leaves_no_row() {
        let (_dir, store) = store();
        let (small, _) = store.put_blob(&[7; 1000]).unwrap();
        assert!(!is_hashed(&store, &small));
        large(&store);
        let count = || {
            let sql = "SELECT count(*) FROM hashed";
            store.inner.db.read(|db| db.query_row(sql, [], |row| row.get::<_, i64>(0))).unwrap()
        };
        assert_eq!(count(), 1);
        store.prune(&PruneOptions { all: true, ..PruneOptions::default() }).unwrap();
        assert_eq!(count(), 0);
    }

    #[test]
    fn a_file_in_whose_tick_it_is_still_is_racy() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"x").unwrap();
        let fresh = Look::of(&file.metadata().unwrap());
        assert!(fresh.is_racy());
        let past = Look { ctime_ns: fresh.ctime_ns - Duration::from_secs(1).as_nanos() as i64, ..fresh };
        assert!(!past.is_racy());
    }
}
