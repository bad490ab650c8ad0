//! Blobs: bytes by sha256, as OCI layouts keep them.

pub(crate) mod diff_ids;
pub(crate) mod gzip_blocks;
pub(crate) mod incoming;
pub(crate) mod packed_layers;
pub(crate) mod verified_blobs;

use std::fs::{self, File};
use std::io::{self, IoSlice, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use dbuild_digest::{BlobDigest, BlobHasher};
use dbuild_support::io_context::IoContext as _;
use rusqlite::OptionalExtension as _;

use crate::blobs::verified_blobs::{Look, delete_hashed};
use crate::db::{int, read_back, uint};
use crate::gc::last_used::Use;
use crate::publish::{Durability, WriteBehind, create_new, publish};
use crate::{Incoming, Store, StoreError};

/// Writes a blob to be. Dropped before [`BlobWriter::commit`], it leaves nothing.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    temp: PathBuf,
    file: File,
    /// `None` where the caller hashes.
    hasher: Option<BlobHasher>,
    size: u64,
    behind: WriteBehind,
    /// The readers of what is written.
    shown: Option<Incoming>,
    done: bool,
}

/// Reads a blob and fails at its end if the bytes are not those of its digest; the blob is then
/// removed from the store. What was hashed lately and was not written to since is not hashed again
/// (`hashed.rs`).
#[derive(Debug)]
pub struct BlobReader {
    store: Store,
    digest: BlobDigest,
    file: File,
    hasher: Option<BlobHasher>,
    size: u64,
    /// What is noted when the bytes turn out to be right.
    look: Option<Look>,
}

/// What the database knows of a blob's file; a file that looks otherwise is hashed again before it
/// is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KnownBlob {
    size: u64,
    mtime_ns: i64,
    inode: u64,
}

impl Store {
    /// Where a blob is, if it is there.
    pub fn blob_path(&self, digest: &BlobDigest) -> PathBuf {
        self.room("blobs/sha256").join(digest.hex())
    }

    /// Begins a blob whose digest is not known, or not believed, yet.
    pub fn blob_writer(&self) -> Result<BlobWriter, StoreError> {
        let temp = self.scratch_path();
        let file = create_new(&temp).on("write", &temp)?;
        let (store, hasher) = (self.clone(), Some(BlobHasher::default()));
        let behind = WriteBehind::default();
        Ok(BlobWriter { store, temp, file, hasher, size: 0, behind, shown: None, done: false })
    }

    /// [`Store::blob_writer`] for a blob that is read while it is written: begins an attempt of
    /// `incoming`.
    pub fn shown_blob_writer(&self, incoming: &Incoming) -> Result<BlobWriter, StoreError> {
        self.blob_writer()?.shown(incoming)
    }

    /// [`Store::blob_writer`] for who hashes the bytes where they are made, and says the digest to
    /// [`BlobWriter::commit_as`].
    pub fn unhashed_blob_writer(&self) -> Result<BlobWriter, StoreError> {
        let mut writer = self.blob_writer()?;
        writer.hasher = None;
        Ok(writer)
    }

    /// Stores bytes that are in memory.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<(BlobDigest, u64), StoreError> {
        let digest = BlobDigest::of(bytes);
        if let Some(size) = self.has_blob(&digest) {
            return Ok((digest, size));
        }
        let mut writer = self.blob_writer()?;
        let place = self.blob_path(&digest);
        writer.write_all(bytes).on("write", &place)?;
        writer.commit(None)
    }

    /// The size of a blob that is there and whole, as far as its size and times tell; a file that
    /// changed since it was stored, or that others put there, is hashed first. A damaged one is
    /// removed.
    pub fn has_blob(&self, digest: &BlobDigest) -> Option<u64> {
        let path = self.blob_path(digest);
        let window = self.window().ok()?;
        let meta = fs::metadata(&path).ok().filter(fs::Metadata::is_file);
        let row = self.inner.db.read(|db| {
            db.prepare_cached("SELECT size, mtime_ns, inode, last_used_ms FROM blobs WHERE digest=?1")?
                .query_row([digest.as_bytes()], |row| {
                    let known = KnownBlob {
                        size: uint(row.get(0)?),
                        mtime_ns: row.get(1)?,
                        inode: row.get::<_, i64>(2)? as u64,
                    };
                    Ok((known, uint(row.get(3)?)))
                })
                .optional()
        });
        let row = row.unwrap_or_default();
        let Some(meta) = meta else {
            if row.is_some() {
                self.forget_blob(digest);
            }
            return None;
        };
        match row {
            Some((known, last_used)) if known == KnownBlob::of(&meta) => {
                if self.touch_is_due(last_used) {
                    self.note(&Use::Blob(digest), &window);
                }
                Some(known.size)
            }
            _ => self.adopt(digest, &path),
        }
    }

    /// Reads a whole blob of at most `limit` bytes into memory, verified.
    pub fn read_blob(&self, digest: &BlobDigest, limit: u64) -> Result<Vec<u8>, StoreError> {
        let mut reader = self.open_blob(digest)?;
        let path = self.blob_path(digest);
        if reader.size > limit {
            return Err(StoreError::TooLarge { path, size: reader.size, limit });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(reader.size).unwrap_or(0));
        reader.read_to_end(&mut bytes).on("read", &path)?;
        Ok(bytes)
    }

    /// Opens a blob for reading from its beginning to its end. Its bytes are compared with its
    /// digest, unless they were within the last day and nobody has written to the file since.
    pub fn open_blob(&self, digest: &BlobDigest) -> Result<BlobReader, StoreError> {
        self.open_blob_believing(digest, true)
    }

    fn open_blob_believing(&self, digest: &BlobDigest, believe: bool) -> Result<BlobReader, StoreError> {
        let path = self.blob_path(digest);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NoSuchBlob { digest: *digest });
            }
            other => other.on("read", &path)?,
        };
        let look = Look::of(&file.metadata().on("read", &path)?);
        let believed = believe && self.is_hashed(digest, &look);
        Ok(BlobReader {
            store: self.clone(),
            digest: *digest,
            file,
            hasher: (!believed).then(BlobHasher::default),
            size: look.size,
            look: (!look.is_racy()).then_some(look),
        })
    }

    /// Hashes a file that the database does not know (or knows otherwise), and takes it in or
    /// removes it.
    fn adopt(&self, digest: &BlobDigest, path: &Path) -> Option<u64> {
        let mut reader = self.open_blob_believing(digest, false).ok()?;
        // A reader that meets other bytes than promised removes the blob.
        io::copy(&mut reader, &mut io::sink()).ok()?;
        let guard = self.publishing().ok()?;
        let meta = fs::metadata(path).ok()?;
        self.put_blob_row(digest, &meta, None).ok()?;
        drop(guard);
        Some(meta.len())
    }

    fn put_blob_row(
        &self,
        digest: &BlobDigest,
        meta: &fs::Metadata,
        hashed: Option<Look>,
    ) -> Result<(), StoreError> {
        let known = KnownBlob::of(meta);
        let now = int(self.stamp());
        self.inner.db.write(|db| {
            db.prepare_cached(
                "INSERT OR REPLACE INTO blobs (digest, size, mtime_ns, inode, boot, created_ms, last_used_ms) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)",
            )?
            .execute((
                digest.as_bytes(),
                int(known.size),
                known.mtime_ns,
                known.inode as i64,
                &self.inner.boot,
                now,
            ))?;
            if let Some(look) = hashed {
                self.put_hashed(db, digest, &look)?;
            }
            read_back(db, "SELECT 1 FROM blobs WHERE digest=?1", [digest.as_bytes()])
        })
    }

    pub(crate) fn forget_blob(&self, digest: &BlobDigest) {
        let _ = self.inner.db.write(|db| {
            delete_hashed(db, digest)?;
            db.execute("DELETE FROM blobs WHERE digest=?1", [digest.as_bytes()])
        });
    }

    /// Removes a blob whose bytes are not what they should be.
    pub(crate) fn quarantine(&self, digest: &BlobDigest) {
        self.warn(format!("{} was damaged and is removed", self.blob_path(digest).display()));
        self.forget_blob(digest);
        let _ = fs::remove_file(self.blob_path(digest));
    }

    /// Brings blobs to [`Durability::Now`].
    pub(crate) fn sync_blobs(&self, digests: &[BlobDigest]) -> Result<(), StoreError> {
        let volatile = self.inner.db.read(|db| {
            let mut query = db.prepare_cached("SELECT 1 FROM blobs WHERE digest=?1 AND boot IS NOT NULL")?;
            let mut volatile = Vec::new();
            for digest in digests {
                if query.exists([digest.as_bytes()])? {
                    volatile.push(*digest);
                }
            }
            Ok(volatile)
        })?;
        if volatile.is_empty() {
            return Ok(());
        }
        for digest in &volatile {
            let path = self.blob_path(digest);
            File::open(&path).and_then(|file| file.sync_all()).on("sync", &path)?;
        }
        crate::publish::sync_dir(&self.room("blobs/sha256"))?;
        self.inner.db.write(|db| {
            let mut update = db.prepare_cached("UPDATE blobs SET boot=NULL WHERE digest=?1")?;
            volatile.iter().try_for_each(|digest| update.execute([digest.as_bytes()]).map(drop))
        })
    }
}

impl KnownBlob {
    fn of(meta: &fs::Metadata) -> Self {
        let mtime_ns = meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec());
        Self { size: meta.len(), mtime_ns, inode: meta.ino() }
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = self.file.write_vectored(slices)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update_vectored(slices, written);
        }
        self.size += written as u64;
        self.behind.wrote(&self.file, written);
        if let Some(shown) = &self.shown {
            shown.written(self.size);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl BlobWriter {
    /// Lets others read what is written: begins an attempt of `incoming`.
    pub fn shown(mut self, incoming: &Incoming) -> Result<Self, StoreError> {
        incoming.begin(self.file.try_clone().on("write", &self.temp)?);
        self.shown = Some(incoming.clone());
        Ok(self)
    }

    /// The number of bytes that were written.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Publishes the blob. With `expected`, bytes of another digest or size are refused and
    /// removed. When this returns, the blob is there whole for every process; it survives a crash
    /// of the machine once it is tagged or [`Store::make_durable`] has run.
    pub fn commit(mut self, expected: Option<&(BlobDigest, u64)>) -> Result<(BlobDigest, u64), StoreError> {
        let digest = self.hasher.take().unwrap_or_default().finish();
        if let Some((wanted, size)) = expected
            && (*wanted, *size) != (digest, self.size)
        {
            let (expected, found) = if *wanted == digest {
                (format!("{size} bytes"), format!("{} bytes", self.size))
            } else {
                (wanted.to_string(), digest.to_string())
            };
            return Err(StoreError::Mismatch { path: self.store.blob_path(wanted), expected, found });
        }
        self.commit_as(digest)
    }

    /// [`BlobWriter::commit`] under a digest that the caller made of the bytes that it wrote.
    pub fn commit_as(mut self, digest: BlobDigest) -> Result<(BlobDigest, u64), StoreError> {
        let place = self.store.blob_path(&digest);
        if self.store.has_blob(&digest).is_none() {
            self.behind.finish(&self.file).on("write", &place)?;
            let guard = self.store.publishing()?;
            publish(&self.temp, &place, Durability::Later)?;
            self.done = true;
            let meta = self.file.metadata().on("read", &place)?;
            self.store.put_blob_row(&digest, &meta, Some(Look::of(&meta)))?;
            drop(guard);
        }
        if let Some(shown) = &self.shown {
            shown.whole(digest);
        }
        Ok((digest, self.size))
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if let Some(shown) = &self.shown {
            shown.ended();
        }
        if !self.done {
            let _ = fs::remove_file(&self.temp);
        }
    }
}

/// From this size on a blob is hashed on a thread beside the one that copies it.
const LARGE: u64 = 2 << 20;
/// How much is copied at once: what the caches nearest to a core hold.
const PIECE: usize = 512 << 10;

impl BlobReader {
    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Writes the whole blob. Fails at its end, as reading does, if the bytes were not those of its
    /// digest.
    pub fn copy_to(mut self, out: &mut dyn Write) -> io::Result<u64> {
        let Some(mut hasher) = self.hasher.take_if(|_| self.size >= LARGE) else {
            let mut buffer = vec![0; PIECE.min(usize::try_from(self.size).unwrap_or(PIECE)).max(1)];
            let mut copied = 0;
            loop {
                let count = self.read(&mut buffer)?;
                if count == 0 {
                    return Ok(copied);
                }
                out.write_all(&buffer[..count])?;
                copied += count as u64;
            }
        };
        // What was written goes on to be hashed, and comes back to be filled again.
        let (written, to_hash) = mpsc::sync_channel::<(Vec<u8>, usize)>(4);
        let (hashed, free) = mpsc::channel::<Vec<u8>>();
        let copied = std::thread::scope(|scope| {
            let hashing = scope.spawn(move || {
                for (buffer, count) in to_hash {
                    hasher.update(&buffer[..count]);
                    let _ = hashed.send(buffer);
                }
                hasher
            });
            let mut copied = 0;
            let done = loop {
                let mut buffer = free.try_recv().unwrap_or_else(|_| vec![0; PIECE]);
                match self.file.read(&mut buffer) {
                    Ok(0) => break Ok(copied),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Ok(count) => {
                        if let Err(error) = out.write_all(&buffer[..count]) {
                            break Err(error);
                        }
                        copied += count as u64;
                        // The thread ends after this sender does.
                        let _ = written.send((buffer, count));
                    }
                    Err(error) => break Err(error),
                }
            };
            drop(written);
            let hasher = hashing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            done.map(|copied| (copied, hasher))
        });
        let (copied, hasher) = copied?;
        self.hasher = Some(hasher);
        // The end, which compares.
        io::copy(&mut self, &mut io::sink())?;
        Ok(copied)
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        if buffer.is_empty() {
            return Ok(0);
        }
        if count > 0 {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&buffer[..count]);
            }
            return Ok(count);
        }
        // The end, once.
        let Some(found) = self.hasher.take().map(BlobHasher::finish) else { return Ok(0) };
        if found == self.digest {
            // As it was before the first byte was read, and still is.
            let after = self.file.metadata().map(|meta| Look::of(&meta)).ok();
            if let Some(look) = self.look.take().filter(|look| Some(*look) == after) {
                self.store.note_hashed(&self.digest, &look);
            }
            return Ok(0);
        }
        self.store.quarantine(&self.digest);
        let place = self.store.blob_path(&self.digest);
        let text = format!("{} is damaged: its digest is {found}; build or pull it again", place.display());
        Err(io::Error::new(io::ErrorKind::InvalidData, text))
    }
}
