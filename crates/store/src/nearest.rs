//! Which record was a step's earlier version: what `why` compares with.

use std::collections::HashSet;

use dbuild_cache::{Ingredient, IngredientKind, similarity, text_similarity};
use dbuild_digest::StepKey;
use rusqlite::{Connection, OptionalExtension as _};

use crate::db::int;
use crate::records::{COLUMNS, Stored, stored};
use crate::{Record, Store};

/// What a nearest record is looked for with.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Of this strategy.
    pub strategy: &'a str,
    /// Not this one.
    pub key: Option<&'a StepKey>,
    /// The step's own words.
    pub definition: &'a StepKey,
    /// The instruction.
    pub text: &'a str,
    /// The name of its stage.
    pub stage: &'a str,
    /// The ingredients of the key.
    pub ingredients: &'a [Ingredient],
    /// Made before this time, in milliseconds since 1970.
    pub before_ms: Option<u64>,
    /// The words of other steps of the same plan: a record of one of those is no earlier version of this step.
    pub others: &'a HashSet<StepKey>,
}

/// The record that a reader would call the step's earlier version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nearest {
    /// The record.
    pub record: Record,
    /// Its ingredients.
    pub ingredients: Vec<Ingredient>,
    /// How near it is, from 0 to 1000.
    pub similarity: u32,
}

/// Instructions that share fewer words, in thousandths, are no versions of each other.
const LEAST_SIMILARITY: u32 = 500;

impl Store {
    /// A record, whatever became of its files. This is no use of it.
    pub fn record_kept(&self, key: &StepKey) -> Option<Record> {
        let row = self.inner.db.read(|db| row_of(db, key.as_bytes())).ok()??;
        row.open(key).map(|(_, record)| record)
    }

    /// The record that is nearest to a step, for saying why it ran again.
    pub fn nearest_record(&self, wanted: &Wanted<'_>) -> Option<Nearest> {
        let candidates = self.inner.db.read(|db| candidates(db, wanted)).ok()?;
        let mut best: Option<Nearest> = None;
        for key in candidates {
            let row = self.inner.db.read(|db| row_of(db, &key));
            let Some(row) = row.ok().flatten() else { continue };
            let Some((body, record)) = row.key().and_then(|key| row.open(&key)) else { continue };
            let Some(ingredients) = self.read_ingredients(&body) else { continue };
            if !is_version(&record, &ingredients, wanted) {
                continue;
            }
            let similarity = similarity(&ingredients, wanted.ingredients);
            let rank = |similarity: u32, record: &Record| {
                (similarity, record.stage == wanted.stage, record.created_ms)
            };
            let nearer = best
                .as_ref()
                .is_none_or(|best| rank(similarity, &record) > rank(best.similarity, &best.record));
            if nearer {
                best = Some(Nearest { record, ingredients, similarity });
            }
        }
        best
    }
}

fn row_of(db: &Connection, key: &[u8]) -> rusqlite::Result<Option<Stored>> {
    let query = format!("SELECT {COLUMNS} FROM records WHERE key=?1");
    db.prepare_cached(&query)?.query_row([key], stored).optional()
}

/// Whether a reader would call a record an earlier version of a step: it has the same words, or nearly, or it stood in
/// the same place; and it is not what another step of the plan is.
fn is_version(record: &Record, ingredients: &[Ingredient], wanted: &Wanted<'_>) -> bool {
    if record.definition == *wanted.definition {
        return true;
    }
    let parent = |list: &[Ingredient]| {
        list.iter().find(|one| one.kind == IngredientKind::Parent).map(|one| one.value.clone())
    };
    let same_place = || parent(ingredients).is_some_and(|it| Some(it) == parent(wanted.ingredients));
    !wanted.others.contains(&record.definition)
        && (text_similarity(&record.text, wanted.text) >= LEAST_SIMILARITY || same_place())
}

/// The keys of the records that are worth a closer look: those with the same words, and those with the most similar text.
fn candidates(db: &Connection, wanted: &Wanted<'_>) -> rusqlite::Result<Vec<Vec<u8>>> {
    let before = int(wanted.before_ms.unwrap_or(u64::MAX));
    let own = wanted.key.map_or(&[][..], |key| key.as_bytes().as_slice());
    let mut same = db.prepare_cached(
        "SELECT key FROM records WHERE definition=?1 AND strategy=?2 AND created_ms<?3 AND key<>?4 \
         ORDER BY created_ms DESC, rowid DESC LIMIT 4",
    )?;
    let arguments = (wanted.definition.as_bytes(), wanted.strategy, before, own);
    let mut keys: Vec<Vec<u8>> = same.query_map(arguments, |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut recent = db.prepare_cached(
        "SELECT key, text FROM records WHERE strategy=?1 AND created_ms<?2 AND key<>?3 \
         ORDER BY created_ms DESC LIMIT 1000",
    )?;
    let rows = recent.query_map((wanted.strategy, before, own), |row| {
        Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, String>(1)?))
    })?;
    let mut scored = Vec::new();
    for row in rows {
        let (key, text) = row?;
        // The same instruction word is the least that is asked for.
        if text.split_whitespace().next() == wanted.text.split_whitespace().next() {
            scored.push((text_similarity(&text, wanted.text), key));
        }
    }
    // Stable: the latest of equals first.
    scored.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    for (_, key) in scored.into_iter().take(8) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    Ok(keys)
}
