//! What was found out about something that does not change, so that nobody has to find it out
//! again.
//!
//! Analyses are worth their time and nothing else: one that is lost is found out again, and trouble
//! with them is no error.

use dbuild_digest::BlobDigest;
use dbuild_support::time::now_ms;
use rusqlite::OptionalExtension as _;

use crate::Store;
use crate::db::int;

/// Maximum number of analyses kept; the latest stay.
const MOST: usize = 1000;

impl Store {
    /// What was remembered about `key` under a topic.
    pub fn analysis(&self, topic: &str, key: &BlobDigest) -> Option<String> {
        let found = self.inner.db.read(|db| {
            db.prepare_cached("SELECT text FROM memos WHERE topic=?1 AND key=?2")?
                .query_row((topic, key.as_bytes()), |row| row.get(0))
                .optional()
        });
        found.ok().flatten()
    }

    /// Remembers a text about `key`, which stands for everything that the text depends on.
    pub fn put_analysis(&self, topic: &str, key: &BlobDigest, text: &str) {
        let written = self.inner.db.write(|db| {
            db.execute(
                "INSERT OR REPLACE INTO memos (topic, key, text, at_ms) VALUES (?1, ?2, ?3, ?4)",
                (topic, key.as_bytes(), text, int(now_ms())),
            )?;
            db.execute(
                "DELETE FROM memos WHERE at_ms < (SELECT at_ms FROM memos ORDER BY at_ms DESC LIMIT 1 OFFSET ?1)",
                [int(MOST as u64)],
            )
        });
        if let Err(error) = written {
            tracing::debug!("an analysis is not kept: {error}");
        }
    }
}
