//! Layers that were compressed once and are not again.

use std::collections::BTreeMap;

use dbuild_digest::{BlobDigest, SnapshotId};
use rusqlite::OptionalExtension as _;
use serde::{Deserialize, Serialize};

use crate::blobs::diff_ids::put_diff_id;
use crate::db::{read_back, seal};
use crate::{Store, StoreError};

/// How a layer was packed, as a short text: `gzip-6`, `zstd-3-clamp1700000000`. Equal texts mean
/// equal bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackKey(pub String);

/// A layer as a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedLayer {
    /// The digest of the tar.
    pub diff_id: BlobDigest,
    /// The blob.
    pub digest: BlobDigest,
    /// The blob's size in bytes.
    pub size: u64,
    /// The blob's media type.
    pub media_type: String,
    /// What its descriptor says besides: of eStargz, what readers of single files need.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Store {
    /// A snapshot's layer in this form, if its blob is there.
    pub fn packed(&self, snapshot: &SnapshotId, key: &PackKey) -> Option<PackedLayer> {
        let row = self.inner.db.read(|db| {
            db.prepare_cached("SELECT body, seal FROM packed WHERE snapshot=?1 AND pack=?2")?
                .query_row((snapshot.as_str(), &key.0), |row| {
                    Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?))
                })
                .optional()
        });
        let (body, sealed) = row.ok().flatten()?;
        let layer: PackedLayer = (sealed == seal_of(snapshot, key, &body))
            .then(|| serde_json::from_slice(&body).ok())
            .flatten()?;
        (self.has_blob(&layer.digest) == Some(layer.size)).then_some(layer)
    }

    /// A snapshot's layer in some form whose blob is there.
    pub fn packed_in_any_form(&self, snapshot: &SnapshotId) -> Option<PackedLayer> {
        let keys = self.inner.db.read(|db| {
            let mut query = db.prepare_cached("SELECT pack FROM packed WHERE snapshot=?1")?;
            query
                .query_map([snapshot.as_str()], |row| row.get(0).map(PackKey))?
                .collect::<Result<Vec<_>, _>>()
        });
        keys.ok()?.iter().find_map(|key| self.packed(snapshot, key))
    }

    /// Remembers a snapshot's layer in this form; its blob must be in the store, and both of its
    /// digests computed here.
    pub fn put_packed(
        &self,
        snapshot: &SnapshotId,
        key: &PackKey,
        layer: &PackedLayer,
    ) -> Result<(), StoreError> {
        let body = serde_json::to_vec(layer).unwrap_or_default();
        self.inner.db.write(|db| {
            db.prepare_cached(
                "INSERT OR REPLACE INTO packed (snapshot, pack, digest, body, seal) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute((
                snapshot.as_str(),
                &key.0,
                layer.digest.as_bytes(),
                &body,
                seal_of(snapshot, key, &body),
            ))?;
            put_diff_id(db, &layer.digest, &layer.diff_id)?;
            read_back(db, "SELECT 1 FROM packed WHERE snapshot=?1 AND pack=?2", (snapshot.as_str(), &key.0))
        })
    }

    /// A store of an earlier version has pairs only where it packed a layer.
    pub(crate) fn diff_id_of_packed(&self, blob: &BlobDigest) -> Option<BlobDigest> {
        let rows = self.inner.db.read(|db| {
            let mut query =
                db.prepare_cached("SELECT snapshot, pack, body, seal FROM packed WHERE digest=?1")?;
            let rows = query.query_map([blob.as_bytes()], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, Vec<u8>>(2)?,
                    row.get::<_, Vec<u8>>(3)?,
                ))
            })?;
            rows.collect::<Result<Vec<_>, _>>()
        });
        let whole = rows.ok()?.into_iter().find_map(|(snapshot, pack, body, sealed)| {
            let expected = seal("packed", &[snapshot.as_bytes(), pack.as_bytes()], &body);
            (sealed == expected).then(|| serde_json::from_slice::<PackedLayer>(&body).ok()).flatten()
        });
        whole.map(|layer| layer.diff_id)
    }
}

fn seal_of(snapshot: &SnapshotId, key: &PackKey, body: &[u8]) -> Vec<u8> {
    seal("packed", &[snapshot.as_str().as_bytes(), key.0.as_bytes()], body)
}
