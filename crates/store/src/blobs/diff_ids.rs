//! Verified pairs of a layer's blob and its diff_id.
//!
//! A manifest names a blob, a config names the digest of its uncompressed content, and nothing but
//! unpacking tells whether the two belong together. A pair stands here once both digests were
//! computed from the same bytes: where a layer was unpacked after it was pulled, or packed. It is a
//! fact about digests, so it stays true when the blob is gone, and needs no look at a file.

use dbuild_digest::BlobDigest;
use rusqlite::{OptionalExtension as _, Transaction};

use crate::db::seal;
use crate::{Store, StoreError};

impl Store {
    /// The digest of a blob's uncompressed content, if it was ever computed here. A damaged row is
    /// none.
    pub fn diff_id(&self, blob: &BlobDigest) -> Option<BlobDigest> {
        let row = self.inner.db.read(|db| {
            db.prepare_cached("SELECT diff_id, seal FROM diff_ids WHERE blob=?1")?
                .query_row([blob.as_bytes()], |row| {
                    Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?))
                })
                .optional()
        });
        let whole = row.ok().flatten().filter(|(diff_id, sealed)| *sealed == seal_of(blob, diff_id));
        let known = whole.and_then(|(diff_id, _)| Some(BlobDigest::from_bytes(diff_id.try_into().ok()?)));
        known.or_else(|| self.diff_id_of_packed(blob))
    }

    /// Remembers that a blob's uncompressed content has this digest. The caller has computed both.
    pub fn put_diff_id(&self, blob: &BlobDigest, diff_id: &BlobDigest) -> Result<(), StoreError> {
        self.inner.db.write(|db| put_diff_id(db, blob, diff_id))
    }

    /// Forgets the pairs of blobs that are gone.
    pub(crate) fn forget_diff_ids(&self) -> Result<(), StoreError> {
        let sql = "DELETE FROM diff_ids WHERE blob NOT IN (SELECT digest FROM blobs)";
        self.inner.db.write(|db| db.execute(sql, []).map(drop))
    }
}

/// [`Store::put_diff_id`] in a transaction.
pub(crate) fn put_diff_id(
    db: &Transaction<'_>,
    blob: &BlobDigest,
    diff_id: &BlobDigest,
) -> rusqlite::Result<()> {
    let row = (blob.as_bytes(), diff_id.as_bytes(), seal_of(blob, diff_id.as_bytes()));
    db.prepare_cached("INSERT OR REPLACE INTO diff_ids (blob, diff_id, seal) VALUES (?1, ?2, ?3)")?
        .execute(row)
        .map(drop)
}

fn seal_of(blob: &BlobDigest, diff_id: &[u8]) -> Vec<u8> {
    seal("diff_ids", &[blob.as_bytes()], diff_id)
}
