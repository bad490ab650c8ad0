//! Records: what a key led to, and what the key was made of.

pub(crate) mod ingredient_chunks;
pub(crate) mod ingredient_diff;
pub(crate) mod nearest;
pub(crate) mod traces;

use std::time::Duration;

use dbuild_cache::{Ingredient, IngredientList, output_after};
use dbuild_digest::{SnapshotId, StepKey, TreeDigest};
use dbuild_events::Origin;
use rusqlite::{OptionalExtension as _, Row};
use serde::{Deserialize, Serialize};

use crate::db::{int, read_back, seal, uint};
use crate::gc::last_used::{Use, Window, touch_snapshot};
use crate::records::ingredient_chunks::{
    ChunkId, chunks_of, missing_chunks, pack_chunks, read_chunks, write_chunks,
};
use crate::{Snapshot, Store, StoreError};

/// What a key led to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The key.
    pub key: StepKey,
    /// The strategy that made the key.
    pub strategy: String,
    /// The step's own words ([`dbuild_cache::definition`]).
    pub definition: StepKey,
    /// The instruction, on one line.
    pub text: String,
    /// What the step contained when the record was made: the chain of layers up to it. See
    /// [`Record::output_on`].
    pub output: TreeDigest,
    /// The digest of the step's own layer; for a step without a parent, its output.
    pub layer: TreeDigest,
    /// The layer has no entries.
    pub layer_is_empty: bool,
    /// The layer, unpacked. `None` where there is nothing to unpack.
    pub snapshot: Option<SnapshotId>,
    /// The name of the stage that the step stood in when the record was made; of two records that
    /// are equally near to a step, the one of its own stage is its earlier version. Empty in
    /// records of earlier versions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stage: String,
    /// What the step stood on and took from: the parent, then the sources in the order of the plan.
    /// For explanations; empty in records of earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Origin>,
    /// What those inputs contained that the strategy knows by their keys alone, in the order in
    /// which it asked for them. Such a key can lead to another result later (`--no-cache-filter`),
    /// and then this record is of no use. Empty in records of earlier versions, which are believed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub made_from: Vec<TreeDigest>,
    /// How long the step took, in milliseconds.
    pub duration_ms: u64,
    /// When the record was made, in milliseconds since 1970. 0 in a new one: the store fills it in.
    pub created_ms: u64,
    /// How often it was used since.
    pub hits: u64,
    /// When it was used last, in milliseconds since 1970.
    pub last_used_ms: u64,
}

impl Record {
    /// What the step contains on this parent. It differs from [`Record::output`] where the key does
    /// not say what the parent contains: for `COPY --link`, and under strategies that know parents
    /// by key.
    pub fn output_on(&self, parent: TreeDigest) -> TreeDigest {
        output_after(parent, self.layer, self.layer_is_empty)
    }
}

/// A record as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordEntry {
    /// The record.
    #[serde(flatten)]
    pub record: Record,
    /// The bytes that its snapshot takes on disk.
    pub size: u64,
}

/// What a record's seal covers.
#[derive(Serialize, Deserialize)]
pub(crate) struct Body {
    strategy: String,
    definition: StepKey,
    text: String,
    output: TreeDigest,
    layer: TreeDigest,
    layer_is_empty: bool,
    snapshot: Option<SnapshotId>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    stage: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<Origin>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    made_from: Vec<TreeDigest>,
    duration_ms: u64,
    created_ms: u64,
    pub(crate) chunks: Vec<ChunkId>,
}

pub(crate) const COLUMNS: &str = "key, body, seal, hits, last_used_ms";
/// A record whose snapshot has no row is a miss.
const WHOLE: &str = "(snapshot IS NULL OR EXISTS (SELECT 1 FROM snapshots WHERE id=snapshot))";

impl Store {
    /// What a key led to, if all of it is still there.
    pub fn record(&self, key: &StepKey) -> Option<Record> {
        self.records(std::slice::from_ref(key)).pop().flatten()
    }

    /// What each of these keys led to, in one query.
    pub fn records(&self, keys: &[StepKey]) -> Vec<Option<Record>> {
        let window = match self.window() {
            Ok(window) => window,
            Err(error) => {
                // What is not protected may vanish under the build.
                self.warn(format!("the cache is not used: {error}"));
                return vec![None; keys.len()];
            }
        };
        let found = self.inner.db.read(|db| {
            let mut query =
                db.prepare_cached(&format!("SELECT {COLUMNS} FROM records WHERE key=?1 AND {WHOLE}"))?;
            let find = |key: &StepKey| query.query_row([key.as_bytes()], stored).optional();
            keys.iter().map(find).collect::<Result<Vec<_>, _>>()
        });
        let mut found: Vec<Option<Record>> = match found {
            Ok(found) => keys.iter().zip(found).map(|(key, row)| self.accept(key, row?)).collect(),
            Err(error) => {
                self.warn(format!("the cache is not used: {error}"));
                vec![None; keys.len()]
            }
        };
        self.use_records(&mut found, &window);
        found
    }

    /// What a key led to, with its snapshot, as a look-up in a build would find it; but this is no
    /// use of it, and what is damaged stays where it is.
    pub fn peek(&self, key: &StepKey) -> Option<(Record, Snapshot)> {
        let query = format!("SELECT {COLUMNS} FROM records WHERE key=?1 AND {WHOLE}");
        let row = self
            .inner
            .db
            .read(|db| db.prepare_cached(&query)?.query_row([key.as_bytes()], stored).optional());
        let (_, record) = row.ok().flatten()?.open(key)?;
        let snapshot = self.peek_snapshot(record.snapshot.as_ref()?)?;
        Some((record, snapshot))
    }

    /// What the key of a record was made of.
    pub fn ingredients(&self, key: &StepKey) -> Option<Vec<Ingredient>> {
        let row = self.inner.db.read(|db| {
            db.prepare_cached(&format!("SELECT {COLUMNS} FROM records WHERE key=?1"))?
                .query_row([key.as_bytes()], stored)
                .optional()
        });
        let (body, _) = row.ok().flatten()?.open(key)?;
        self.read_pieces(&body.chunks)
    }

    /// One piece of a list of ingredients.
    pub(crate) fn read_chunk(&self, id: &ChunkId) -> Option<Vec<Ingredient>> {
        self.read_pieces(std::slice::from_ref(id))
    }

    fn read_pieces(&self, ids: &[ChunkId]) -> Option<Vec<Ingredient>> {
        match self.inner.db.read(|db| read_chunks(db, ids)).ok()? {
            Ok(list) => Some(list),
            Err(bad) => {
                // So that it is written again with the next record that has it.
                let _ = self.inner.db.write(|db| db.execute("DELETE FROM ingredients WHERE id=?1", [&bad.0]));
                None
            }
        }
    }

    /// Keeps what a key led to; an earlier record of the key is replaced. The snapshot must have
    /// been published.
    ///
    /// The list is walked twice: it need not be in memory, and most of it is usually kept already,
    /// as part of an earlier one.
    pub fn put_record(
        &self,
        record: &Record,
        ingredients: &(impl IngredientList + ?Sized),
    ) -> Result<(), StoreError> {
        let chunks = chunks_of(ingredients);
        let new = self.inner.db.read(|db| missing_chunks(db, &chunks))?;
        let mut packed = pack_chunks(ingredients, &new);
        let now = self.stamp();
        let created_ms = if record.created_ms == 0 { now } else { record.created_ms };
        let body = Body {
            strategy: record.strategy.clone(),
            definition: record.definition,
            text: record.text.clone(),
            output: record.output,
            layer: record.layer,
            layer_is_empty: record.layer_is_empty,
            snapshot: record.snapshot.clone(),
            stage: record.stage.clone(),
            inputs: record.inputs.clone(),
            made_from: record.made_from.clone(),
            duration_ms: record.duration_ms,
            created_ms,
            chunks: chunks.clone(),
        };
        // Of texts and numbers alone: cannot fail.
        let body = serde_json::to_string(&body).unwrap_or_default();
        let sealed = seal("records", &[record.key.as_bytes()], body.as_bytes());
        self.inner.db.write(|db| {
            let new = missing_chunks(db, &chunks)?;
            // A collector was faster.
            if !new.iter().all(|id| packed.contains_key(id)) {
                packed = pack_chunks(ingredients, &new);
            }
            write_chunks(db, &new, &packed)?;
            db.prepare_cached(
                "INSERT OR REPLACE INTO records (key, strategy, definition, layer, snapshot, created_ms, duration_ms, \
                 last_used_ms, hits, text, body, seal) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?
            .execute((
                record.key.as_bytes(),
                &record.strategy,
                record.definition.as_bytes(),
                record.layer.as_bytes(),
                record.snapshot.as_ref().map(SnapshotId::as_str),
                int(created_ms),
                int(record.duration_ms),
                int(now),
                int(record.hits),
                &record.text,
                &body,
                &sealed,
            ))?;
            read_back(db, "SELECT 1 FROM records WHERE key=?1", [record.key.as_bytes()])?;
            if let Some(snapshot) = &record.snapshot {
                touch_snapshot(db, snapshot.as_str(), int(now))?;
            }
            db.prepare_cached("INSERT OR REPLACE INTO durations (definition, duration_ms) VALUES (?1, ?2)")?
                .execute((record.definition.as_bytes(), int(record.duration_ms)))
                .map(drop)
        })
    }

    /// Counts a use of a record.
    pub fn record_hit(&self, key: &StepKey) {
        self.record_hits(std::slice::from_ref(key));
    }

    /// Counts a use of each of these records. That it is not counted when the database is in
    /// trouble harms nobody.
    pub(crate) fn record_hits(&self, keys: &[StepKey]) {
        match self.window() {
            Ok(window) => keys.iter().for_each(|key| self.note(&Use::Hit(key), &window)),
            Err(error) => tracing::debug!("hits are not counted: {error}"),
        }
    }

    /// The first snapshot that a step of this definition gave with exactly this layer, if it is
    /// still there.
    pub fn known_result(&self, definition: &StepKey, layer: &TreeDigest) -> Option<SnapshotId> {
        let rows = self.inner.db.read(|db| {
            let query = format!(
                "SELECT {COLUMNS} FROM records WHERE definition=?1 AND layer=?2 AND snapshot IS NOT NULL \
                 ORDER BY created_ms, rowid LIMIT 8"
            );
            let mut query = db.prepare_cached(&query)?;
            query.query_map([definition.as_bytes(), layer.as_bytes()], stored)?.collect::<Result<Vec<_>, _>>()
        });
        rows.ok()?.into_iter().find_map(|row| {
            let key = row.key()?;
            let record = self.accept(&key, row)?;
            let snapshot = record.snapshot.filter(|_| record.layer == *layer)?;
            self.snapshot(&snapshot).filter(|found| found.tree.digest() == *layer).map(|found| found.id)
        })
    }

    /// The last snapshot that a step of this definition gave, under whatever strategy, if it is
    /// still there.
    pub fn latest_result(&self, definition: &StepKey) -> Option<Snapshot> {
        let row = self.inner.db.read(|db| {
            let query = format!(
                "SELECT {COLUMNS} FROM records WHERE definition=?1 AND snapshot IS NOT NULL \
                 ORDER BY created_ms DESC, rowid DESC LIMIT 1"
            );
            db.prepare_cached(&query)?.query_row([definition.as_bytes()], stored).optional()
        });
        let row = row.ok().flatten()?;
        let record = self.accept(&row.key()?, row)?;
        self.snapshot(record.snapshot.as_ref()?)
    }

    /// How long a step of this definition took last, here.
    pub fn expected_duration(&self, definition: &StepKey) -> Option<Duration> {
        self.expected_durations(std::slice::from_ref(definition)).pop().flatten()
    }

    /// How long a step of each of these definitions took last, here.
    pub fn expected_durations(&self, definitions: &[StepKey]) -> Vec<Option<Duration>> {
        let found = self.inner.db.read(|db| {
            let all = db.unchecked_transaction()?;
            let mut query = all.prepare_cached("SELECT duration_ms FROM durations WHERE definition=?1")?;
            let mut find =
                |definition: &StepKey| query.query_row([definition.as_bytes()], |row| row.get(0)).optional();
            definitions.iter().map(&mut find).collect::<Result<Vec<Option<i64>>, _>>()
        });
        let found = found.unwrap_or_else(|_| vec![None; definitions.len()]);
        found.into_iter().map(|ms| ms.map(|ms| Duration::from_millis(uint(ms)))).collect()
    }

    /// All records, the latest first.
    pub fn record_entries(&self) -> Result<Vec<RecordEntry>, StoreError> {
        self.flush_uses();
        let rows = self.inner.db.read(|db| {
            let mut query = db.prepare_cached(
                "SELECT key, body, r.seal, r.hits, r.last_used_ms, coalesce(s.size, 0) FROM records r \
                 LEFT JOIN snapshots s ON s.id=r.snapshot ORDER BY r.created_ms DESC, r.rowid DESC",
            )?;
            let rows = query.query_map([], |row| Ok((stored(row)?, uint(row.get(5)?))))?;
            rows.collect::<Result<Vec<_>, _>>()
        })?;
        let entries = rows.into_iter().filter_map(|(row, size)| {
            let (_, record) = row.open(&row.key()?)?;
            Some(RecordEntry { record, size })
        });
        Ok(entries.collect())
    }

    /// Forgets a record; its snapshot stays until it is collected.
    pub fn forget_record(&self, key: &StepKey) -> Result<bool, StoreError> {
        self.inner
            .db
            .write(|db| db.execute("DELETE FROM records WHERE key=?1", [key.as_bytes()]))
            .map(|rows| rows > 0)
    }

    /// A row whose seal holds. Any other is dropped: it is a miss.
    fn accept(&self, key: &StepKey, row: StoredRecord) -> Option<Record> {
        let opened = row.open(key);
        if opened.is_none() {
            self.warn("a damaged record of the cache is dropped; its step runs again".to_owned());
            let _ = self.forget_record(key);
        }
        opened.map(|(_, record)| record)
    }

    /// Notes the use of records and snapshots where it is due, and makes a miss of what is gone.
    fn use_records(&self, found: &mut [Option<Record>], window: &Window) {
        for record in found.iter_mut() {
            let snapshot = record.as_ref().and_then(|record| record.snapshot.clone());
            if let Some(id) = snapshot.filter(|id| !self.has_index(id)) {
                self.drop_snapshot(&id);
                *record = None;
            }
        }
        for record in found.iter().flatten().filter(|record| self.touch_is_due(record.last_used_ms)) {
            self.note(&Use::Record(&record.key), window);
            if let Some(snapshot) = &record.snapshot {
                self.note(&Use::Snapshot(snapshot), window);
            }
        }
    }
}

/// A row as it is stored.
pub(crate) struct StoredRecord {
    key: Vec<u8>,
    body: String,
    seal: Vec<u8>,
    hits: u64,
    last_used_ms: u64,
}

/// Reads a row whatever types its columns have: what is damaged has no whole seal.
pub(crate) fn stored(row: &Row<'_>) -> rusqlite::Result<StoredRecord> {
    let bytes =
        |column: usize| row.get_ref(column).map(|value| value.as_bytes().unwrap_or_default().to_vec());
    let number = |column: usize| row.get_ref(column).map(|value| uint(value.as_i64().unwrap_or(0)));
    Ok(StoredRecord {
        key: bytes(0)?,
        body: String::from_utf8(bytes(1)?).unwrap_or_default(),
        seal: bytes(2)?,
        hits: number(3)?,
        last_used_ms: number(4)?,
    })
}

impl StoredRecord {
    pub(crate) fn key(&self) -> Option<StepKey> {
        self.key.as_slice().try_into().ok().map(StepKey::from_bytes)
    }

    /// The contents, if the seal holds and the row is that of the key.
    pub(crate) fn open(&self, key: &StepKey) -> Option<(Body, Record)> {
        if self.key != key.as_bytes() || self.seal != seal("records", &[key.as_bytes()], self.body.as_bytes())
        {
            return None;
        }
        let body: Body = serde_json::from_str(&self.body).ok()?;
        let record = Record {
            key: *key,
            strategy: body.strategy.clone(),
            definition: body.definition,
            text: body.text.clone(),
            output: body.output,
            layer: body.layer,
            layer_is_empty: body.layer_is_empty,
            snapshot: body.snapshot.clone(),
            stage: body.stage.clone(),
            inputs: body.inputs.clone(),
            made_from: body.made_from.clone(),
            duration_ms: body.duration_ms,
            created_ms: body.created_ms,
            hits: self.hits,
            last_used_ms: self.last_used_ms,
        };
        Some((body, record))
    }
}
