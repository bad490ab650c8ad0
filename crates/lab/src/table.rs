//! The result as text.

use std::fmt;

use dbuild_support::units::Bytes;

use crate::result::{BELADY, BOUND, Replay, Row, UNLIMITED};
use crate::units::{limit, percent, seconds};

/// More skipped commits than this are only counted.
const MOST_SKIPPED: usize = 5;

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let replayed = self.replayed().count();
        let how = if self.executed { "every distinct step executed once" } else { "simulated" };
        writeln!(f, "{}: {replayed} of {} commits replayed, {how}", self.repository, self.commits.len())?;
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        let mut skipped = self.commits.iter().filter_map(|commit| Some((commit, commit.skipped.as_ref()?)));
        for (commit, reason) in skipped.by_ref().take(MOST_SKIPPED) {
            writeln!(f, "skipped: {} {}: {reason}", short(&commit.id), commit.subject)?;
        }
        match skipped.count() {
            0 => {}
            more => writeln!(f, "skipped: {more} more")?,
        }
        writeln!(
            f,
            "\n{:8}  {:9}  {:>8}  {:>6}  {:>6}  {:>8}  {:>7}  {:>6}  {:>7}  {:>8}",
            "STRATEGY", "POLICY", "SIZE", "HITS", "RATE", "REBUILT", "MISSES", "AGAIN", "EVICTED", "STORED"
        )?;
        for row in &self.rows {
            line(f, row)?;
        }
        writeln!(f)?;
        for size in self.sizes() {
            if let Some(text) = self.best(size) {
                writeln!(f, "{text}")?;
            }
        }
        Ok(())
    }
}

fn line(f: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
    let count = |known: Option<u64>| known.map_or_else(|| "-".to_owned(), |count| count.to_string());
    writeln!(
        f,
        "{:8}  {:9}  {:>8}  {:>6}  {:>6}  {:>8}  {:>7}  {:>6}  {:>7}  {:>8}",
        row.strategy,
        row.policy,
        limit(row.size),
        row.hits,
        percent(row.hit_rate),
        seconds(row.rebuilt_ms),
        row.misses,
        count(row.again),
        count(row.evictions),
        row.stored.map_or_else(|| "-".to_owned(), |size| Bytes(size).to_string()),
    )
}

impl Replay {
    /// What rebuilds least in caches of a size, in a sentence.
    pub(crate) fn best(&self, size: Option<u64>) -> Option<String> {
        let real = |row: &&Row| row.size == size && row.policy != BELADY && row.policy != BOUND;
        let rows: Vec<&Row> = self.rows.iter().filter(real).collect();
        let least = rows.iter().map(|row| row.rebuilt_ms).min()?;
        let best: Vec<&&Row> = rows.iter().filter(|row| row.rebuilt_ms == least).collect();
        let names = match best.len() == rows.len() && rows.len() > 1 {
            true => "all alike".to_owned(),
            false => named(&best),
        };
        let bound = self.rows.iter().filter(|row| row.size == size && row.policy == BOUND);
        let bound = bound.map(|row| row.rebuilt_ms).min();
        let bound =
            bound.map_or_else(String::new, |ms| format!("; no policy needs less than {}", seconds(ms)));
        Some(format!("least rebuilt, {}: {} in {}{bound}", limit(size), names, seconds(least)))
    }
}

/// `content with lru or lfu, output with lru`.
fn named(rows: &[&&Row]) -> String {
    let mut names: Vec<(&str, Vec<&str>)> = Vec::new();
    for row in rows {
        match names.last_mut() {
            Some((strategy, policies)) if *strategy == row.strategy => policies.push(row.policy),
            _ => names.push((row.strategy, vec![row.policy])),
        }
    }
    let words = names.into_iter().map(|(strategy, policies)| match policies.as_slice() {
        [UNLIMITED] => strategy.to_owned(),
        policies => format!("{strategy} with {}", policies.join(" or ")),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// The first digits of a commit's id.
pub(crate) fn short(id: &str) -> &str {
    id.get(..10).unwrap_or(id)
}
