//! Where the gzip blocks of the layers' blobs lie, by what they hold: see
//! [`dbuild_layer::GzipBlocks`].
//!
//! The bytes stay in the blobs; a row says where. A row is sealed with a hash of the block, so one
//! that does not fit its blob any more, because either was damaged or the blob was collected, is as
//! if it were not there.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::{Mutex, PoisonError};

use dbuild_digest::{BlobDigest, ContentDigest};
use dbuild_layer::{GzipBlockForm, GzipBlocks, WrittenGzipBlock};
use rusqlite::OptionalExtension as _;

use crate::Store;
use crate::db::{int, seal, uint};

/// A block is larger than what it holds by a few bytes at the most; nothing larger is read.
const MOST_BYTES: usize = 1 << 20;

/// The gzip blocks of all layers' blobs, and those of a layer that is being packed.
#[derive(Debug)]
pub struct GzipBlockIndex {
    store: Store,
    written: Mutex<Vec<Row>>,
}

#[derive(Debug)]
struct Row {
    content: ContentDigest,
    level: u32,
    start: u64,
    length: usize,
    seal: Vec<u8>,
}

impl Store {
    /// The index of gzip blocks, for packing one layer.
    pub fn gzip_blocks(&self) -> GzipBlockIndex {
        GzipBlockIndex { store: self.clone(), written: Mutex::default() }
    }
}

impl GzipBlockIndex {
    /// Remembers the blocks that were written, once their blob is in the store. All they are worth
    /// is time: trouble with them is no error.
    pub fn keep(self, blob: &BlobDigest) {
        let rows = self.written.into_inner().unwrap_or_else(PoisonError::into_inner);
        if rows.is_empty() {
            return;
        }
        let kept = self.store.inner.db.write(|db| {
            let mut insert = db.prepare_cached(
                "INSERT OR REPLACE INTO members (content, level, blob, start, length, seal) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            for Row { content, level, start, length, seal } in &rows {
                let length = int(*length as u64);
                insert.execute((content.as_bytes(), level, blob.as_bytes(), int(*start), length, seal))?;
            }
            Ok(())
        });
        if let Err(error) = kept {
            tracing::debug!("the gzip blocks of a layer are not kept: {error}");
        }
    }
}

impl GzipBlocks for GzipBlockIndex {
    fn find(&self, content: &ContentDigest, level: u32, form: GzipBlockForm) -> Option<Vec<u8>> {
        let row = self.store.inner.db.read(|db| {
            db.prepare_cached("SELECT blob, start, length, seal FROM members WHERE content=?1 AND level=?2")?
                .query_row((content.as_bytes(), level), |row| {
                    let blob = BlobDigest::from_bytes(row.get::<_, [u8; 32]>(0)?);
                    Ok((blob, uint(row.get(1)?), uint(row.get(2)?), row.get::<_, Vec<u8>>(3)?))
                })
                .optional()
        });
        let (blob, start, length, sealed) = row.ok().flatten()?;
        let length = usize::try_from(length).ok().filter(|length| *length <= MOST_BYTES)?;
        let mut bytes = vec![0; length];
        File::open(self.store.blob_path(&blob)).ok()?.read_exact_at(&mut bytes, start).ok()?;
        (sealed == seal_of(content, level, form, &bytes)).then_some(bytes)
    }

    fn written(&self, block: &WrittenGzipBlock<'_>) {
        let WrittenGzipBlock { content, level, form, start, bytes } = *block;
        let seal = seal_of(&content, level, form, bytes);
        let row = Row { content, level, start, length: bytes.len(), seal };
        self.written.lock().unwrap_or_else(PoisonError::into_inner).push(row);
    }
}

/// The form is part of the seal alone: a row whose block has the other form is as if it were not
/// there, and is replaced.
fn seal_of(content: &ContentDigest, level: u32, form: GzipBlockForm, bytes: &[u8]) -> Vec<u8> {
    let word = match form {
        GzipBlockForm::Part => "gzip part",
        GzipBlockForm::Member => "member",
    };
    seal(word, &[content.as_bytes(), &level.to_le_bytes()], bytes)
}
