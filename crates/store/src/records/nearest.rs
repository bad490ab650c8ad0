//! Which record was a step's earlier version: what `why` compares with.
//!
//! Records are opened one by one, which costs more than all the rest, so few are. First those with
//! the step's own words, the latest few: only inputs can differ there. Where there are none, or
//! they stood elsewhere, those whose text is most alike. The texts are read once for a build
//! ([`EarlierRecords`]), whatever the number of its steps that ask.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

use dbuild_cache::{Ingredient, IngredientKind, IngredientList, TextWords, similarity_beside};
use dbuild_digest::StepKey;
use rusqlite::{Connection, OptionalExtension as _};

use crate::db::int;
use crate::records::ingredient_diff::{Outline, Rest};
use crate::records::{COLUMNS, StoredRecord, stored};
use crate::{Record, Store};

/// A step for which the nearest record is looked up.
#[derive(Clone, Copy, Debug)]
pub struct RecordQuery<'a> {
    /// Not this one.
    pub key: Option<&'a StepKey>,
    /// The step's own words.
    pub definition: &'a StepKey,
    /// The instruction.
    pub text: &'a str,
    /// The name of its stage.
    pub stage: &'a str,
    /// The ingredients of the key.
    pub ingredients: &'a dyn IngredientList,
    /// The words of other steps of the same plan: a record of one of those is no earlier version of
    /// this step.
    pub others: &'a HashSet<StepKey>,
}

/// The record that a reader would call the step's earlier version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearestRecord {
    /// The record.
    pub record: Record,
    /// Its ingredients, but for most of the paths that the step has as well, with the same content.
    pub ingredients: Vec<Ingredient>,
    /// Those of the step, without the same paths.
    pub others: Vec<Ingredient>,
    /// How near it is, from 0 to 1000.
    pub similarity: u32,
}

/// The latest records of a strategy that were there at some time, by the texts of their
/// instructions.
#[derive(Debug)]
pub struct EarlierRecords {
    strategy: String,
    before_ms: u64,
    texts: Vec<Text>,
    /// The latest first.
    by_definition: HashMap<StepKey, Vec<StepKey>>,
}

/// The records whose instructions have one text.
#[derive(Debug)]
struct Text {
    words: TextWords,
    /// With their definitions, the latest first.
    records: Vec<(StepKey, StepKey)>,
}

/// Maximum number of the latest records that are compared by their texts.
const RECENT: u64 = 1000;
/// Instructions that share fewer words, in thousandths, are no versions of each other.
const LEAST_SIMILARITY: u32 = 500;
/// Maximum number of records with the step's own words that are opened, …
const MOST_SAME: usize = 4;
/// … so many of those with one text, …
const MOST_OF_A_TEXT: usize = 2;
/// … and so many with a text that is alike.
const MOST_ALIKE: usize = 4;

impl Store {
    /// The records that steps of a build can be compared with: those of its strategy that were made
    /// before a time, in milliseconds since 1970.
    pub fn earlier_records(&self, strategy: &str, before_ms: u64) -> EarlierRecords {
        let mut earlier = EarlierRecords {
            strategy: strategy.to_owned(),
            before_ms,
            texts: Vec::new(),
            by_definition: HashMap::new(),
        };
        let rows = self.inner.db.read(|db| recent(db, &earlier)).unwrap_or_default();
        let mut by_text: HashMap<String, usize> = HashMap::new();
        for (key, definition, text) in rows {
            earlier.by_definition.entry(definition).or_default().push(key);
            let at = *by_text.entry(text).or_insert_with_key(|text| {
                earlier.texts.push(Text { words: TextWords::of(text), records: Vec::new() });
                earlier.texts.len() - 1
            });
            earlier.texts[at].records.push((key, definition));
        }
        earlier
    }

    /// A record, whatever became of its files. This is no use of it.
    pub fn record_kept(&self, key: &StepKey) -> Option<Record> {
        let row = self.inner.db.read(|db| row_of(db, key)).ok()??;
        row.open(key).map(|(_, record)| record)
    }

    /// The record that is nearest to a step, for saying why it ran again.
    pub fn nearest_record(
        &self,
        earlier: &EarlierRecords,
        wanted: &RecordQuery<'_>,
    ) -> Option<NearestRecord> {
        // Walked when the first record is met: of a step that is new, there is none.
        let outline = OnceCell::new();
        let same = self.nearest_of(&self.with_same_words(earlier, wanted), wanted, &outline);
        let is_at_home = |nearest: &NearestRecord| {
            nearest.record.stage == wanted.stage
                || parent_of(&nearest.ingredients) == parent_of(&nearest.others)
        };
        if same.as_ref().is_some_and(is_at_home) {
            return same;
        }
        let alike = self.nearest_of(&earlier.alike(wanted), wanted, &outline);
        match (same, alike) {
            (Some(same), Some(alike)) if rank(&alike, wanted) <= rank(&same, wanted) => Some(same),
            (same, alike) => alike.or(same),
        }
    }

    /// The latest records that have the step's own words.
    fn with_same_words(&self, earlier: &EarlierRecords, wanted: &RecordQuery<'_>) -> Vec<StepKey> {
        let recent = earlier.by_definition.get(wanted.definition).map(Vec::as_slice).unwrap_or_default();
        let mut keys: Vec<StepKey> =
            recent.iter().filter(|key| Some(*key) != wanted.key).take(MOST_SAME).copied().collect();
        if keys.is_empty() {
            keys = self.inner.db.read(|db| of_definition(db, earlier, wanted)).unwrap_or_default();
        }
        keys
    }

    /// The nearest of these records that a reader would call an earlier version.
    fn nearest_of(
        &self,
        keys: &[StepKey],
        wanted: &RecordQuery<'_>,
        outline: &OnceCell<Outline>,
    ) -> Option<NearestRecord> {
        let opened = keys.iter().filter_map(|key| {
            let row = self.inner.db.read(|db| row_of(db, key)).ok()??;
            let (body, record) = row.open(key)?;
            let outline = outline.get_or_init(|| Outline::of(wanted.ingredients));
            let read = |id: &_| self.read_chunk(id);
            let Rest { before, after, same } = outline.apart(&body.chunks, wanted.ingredients, read)?;
            let similarity = similarity_beside(&before, &after, same);
            let nearest = NearestRecord { record, ingredients: before, others: after, similarity };
            is_version(&nearest, wanted).then_some(nearest)
        });
        opened.max_by_key(|nearest| rank(nearest, wanted))
    }
}

impl EarlierRecords {
    /// The records whose texts are most alike; where none is, those with the same instruction word,
    /// which may have stood in the same place.
    fn alike(&self, wanted: &RecordQuery<'_>) -> Vec<StepKey> {
        let words = TextWords::of(wanted.text);
        let same_word = self.texts.iter().filter(|text| text.words.first() == words.first());
        let mut scored: Vec<(u32, &Text)> =
            same_word.map(|text| (text.words.similarity(&words), text)).collect();
        // Stable: the latest of equals first.
        scored.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
        if scored.first().is_some_and(|(score, _)| *score >= LEAST_SIMILARITY) {
            scored.retain(|(score, _)| *score >= LEAST_SIMILARITY);
        }
        let is_other = |key: &StepKey, definition: &StepKey| {
            Some(key) == wanted.key || definition == wanted.definition || wanted.others.contains(definition)
        };
        let of_text = |text: &Text| -> Vec<StepKey> {
            let own = text.records.iter().filter(|(key, definition)| !is_other(key, definition));
            own.take(MOST_OF_A_TEXT).map(|(key, _)| *key).collect()
        };
        scored.into_iter().flat_map(|(_, text)| of_text(text)).take(MOST_ALIKE).collect()
    }
}

/// What makes a record nearer than another: what it has in common, then its stage, then its age.
fn rank(nearest: &NearestRecord, wanted: &RecordQuery<'_>) -> (u32, bool, u64) {
    (nearest.similarity, nearest.record.stage == wanted.stage, nearest.record.created_ms)
}

fn parent_of(list: &[Ingredient]) -> Option<&str> {
    list.iter().find(|one| one.kind == IngredientKind::Parent).map(|one| one.value.as_str())
}

/// Whether a reader would call a record an earlier version of a step: it has the same words, or
/// nearly, or it stood in the same place; and it is not what another step of the plan is.
fn is_version(nearest: &NearestRecord, wanted: &RecordQuery<'_>) -> bool {
    let record = &nearest.record;
    if record.definition == *wanted.definition {
        return true;
    }
    let same_place = || {
        let parent = parent_of(&nearest.ingredients);
        parent.is_some() && parent == parent_of(&nearest.others)
    };
    let is_alike = || TextWords::of(&record.text).similarity(&TextWords::of(wanted.text)) >= LEAST_SIMILARITY;
    !wanted.others.contains(&record.definition) && (is_alike() || same_place())
}

fn row_of(db: &Connection, key: &StepKey) -> rusqlite::Result<Option<StoredRecord>> {
    let query = format!("SELECT {COLUMNS} FROM records WHERE key=?1");
    db.prepare_cached(&query)?.query_row([key.as_bytes()], stored).optional()
}

/// Key, definition and text of the latest records.
fn recent(db: &Connection, earlier: &EarlierRecords) -> rusqlite::Result<Vec<(StepKey, StepKey, String)>> {
    let mut query = db.prepare_cached(
        "SELECT key, definition, text FROM records WHERE strategy=?1 AND created_ms<?2 \
         ORDER BY created_ms DESC, rowid DESC LIMIT ?3",
    )?;
    let rows = query.query_map((&earlier.strategy, int(earlier.before_ms), int(RECENT)), |row| {
        // One damaged row is nobody's earlier version; the others are.
        Ok((|| Some((key_in(row, 0).ok()?, key_in(row, 1).ok()?, row.get::<_, String>(2).ok()?)))())
    })?;
    rows.filter_map(Result::transpose).collect()
}

/// The latest records with a step's own words, however old they are.
fn of_definition(
    db: &Connection,
    earlier: &EarlierRecords,
    wanted: &RecordQuery<'_>,
) -> rusqlite::Result<Vec<StepKey>> {
    // By the index of definitions: for the order alone SQLite would look through all records.
    let mut query = db.prepare_cached(
        "SELECT key FROM records WHERE definition=?1 AND +strategy=?2 AND +created_ms<?3 AND key<>?4 \
         ORDER BY +created_ms DESC, rowid DESC LIMIT ?5",
    )?;
    let own = wanted.key.map_or(&[][..], |key| key.as_bytes().as_slice());
    let arguments =
        (wanted.definition.as_bytes(), &earlier.strategy, int(earlier.before_ms), own, int(MOST_SAME as u64));
    query.query_map(arguments, |row| key_in(row, 0))?.collect()
}

fn key_in(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<StepKey> {
    row.get::<_, [u8; 32]>(column).map(StepKey::from_bytes)
}
