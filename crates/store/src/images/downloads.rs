//! What servers said of files that builds fetched, so that they can be asked whether a file has
//! changed.

use dbuild_digest::{BlobDigest, Framed};
use dbuild_support::time::now_ms;
use rusqlite::OptionalExtension as _;
use serde::{Deserialize, Serialize};

use crate::db::{int, read_back, seal};
use crate::{Store, StoreError};

/// Maximum number of URLs remembered; the rest was not asked for in a long time.
const KEPT: u32 = 10_000;

/// A download that is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownDownload {
    /// The digest of the bytes.
    pub digest: BlobDigest,
    /// What to ask the server with.
    pub validators: Validators,
}

/// What a server said of a file; with it the server can be asked whether the file has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    /// The header `ETag`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The header `Last-Modified`, where it was old enough at that time to tell two versions apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

impl Validators {
    /// There is nothing to ask with.
    pub fn is_empty(&self) -> bool {
        self.etag.is_none() && self.last_modified.is_none()
    }
}

impl Store {
    /// Remembers what a URL gave. The URL itself, which may hold a password, is not kept.
    pub fn remember_download(&self, url: &str, known: &KnownDownload) -> Result<(), StoreError> {
        let (key, body) = (hash(url), serde_json::to_vec(known).unwrap_or_default());
        let sealed = seal("downloads", &[&key], &body);
        self.inner.db.write(|db| {
            db.prepare_cached(
                "INSERT OR REPLACE INTO downloads (url, used_ms, body, seal) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute((key, int(now_ms()), &body, &sealed))?;
            db.prepare_cached(
                "DELETE FROM downloads WHERE url IN \
                 (SELECT url FROM downloads ORDER BY used_ms DESC LIMIT -1 OFFSET ?1)",
            )?
            .execute([KEPT])?;
            read_back(db, "SELECT 1 FROM downloads WHERE url=?1", [key])
        })
    }

    /// What a URL gave when its server was asked last. A damaged row is none.
    pub fn known_download(&self, url: &str) -> Result<Option<KnownDownload>, StoreError> {
        let key = hash(url);
        let row = self.inner.db.read(|db| {
            db.prepare_cached("SELECT body, seal FROM downloads WHERE url=?1")?
                .query_row([key], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?)))
                .optional()
        })?;
        let whole = row.filter(|(body, sealed)| *sealed == seal("downloads", &[&key], body));
        Ok(whole.and_then(|(body, _)| serde_json::from_slice(&body).ok()))
    }
}

fn hash(url: &str) -> [u8; 32] {
    Framed::new("download", 1).str(url).finish()
}
