//! What registries said last of the references that builds name.

use dbuild_digest::BlobDigest;
use rusqlite::OptionalExtension as _;
use serde::{Deserialize, Serialize};

use crate::db::{read_back, seal};
use crate::{Store, StoreError};

/// What a reference meant for one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedReference {
    /// The digest of the platform's manifest.
    pub manifest: BlobDigest,
    /// The digest of the index above it, where there is one.
    pub index: Option<BlobDigest>,
    /// When a registry said so last, in milliseconds since 1970.
    pub fetched_ms: u64,
}

impl Store {
    /// Remembers what a reference means.
    pub fn remember_reference(
        &self,
        reference: &str,
        platform: &str,
        resolved: &ResolvedReference,
    ) -> Result<(), StoreError> {
        let body = serde_json::to_vec(resolved).unwrap_or_default();
        let sealed = seal("refs", &[reference.as_bytes(), platform.as_bytes()], &body);
        self.inner.db.write(|db| {
            db.prepare_cached(
                "INSERT OR REPLACE INTO refs (reference, platform, body, seal) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute((reference, platform, &body, &sealed))?;
            read_back(db, "SELECT 1 FROM refs WHERE reference=?1 AND platform=?2", (reference, platform))
        })
    }

    /// What a reference meant when a registry was asked last. A damaged row is none.
    pub fn reference(
        &self,
        reference: &str,
        platform: &str,
    ) -> Result<Option<ResolvedReference>, StoreError> {
        let row = self.inner.db.read(|db| {
            db.prepare_cached("SELECT body, seal FROM refs WHERE reference=?1 AND platform=?2")?
                .query_row((reference, platform), |row| {
                    Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?))
                })
                .optional()
        })?;
        let whole = row.filter(|(body, sealed)| {
            *sealed == seal("refs", &[reference.as_bytes(), platform.as_bytes()], body)
        });
        Ok(whole.and_then(|(body, _)| serde_json::from_slice(&body).ok()))
    }
}
