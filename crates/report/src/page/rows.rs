//! What a step changed, short enough for a page.
//!
//! A step can change a hundred thousand paths. Then the page has them down to the depth at which
//! they are few enough, with one row for all that is below each directory, and the largest files by
//! name in any case. No byte is lost from the sums.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use crate::{Change, Operation, StepContents};

/// The largest files have rows of their own.
const LARGEST: usize = 40;

/// What a step did, for the page.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Rows {
    pub(crate) made: u64,
    pub(crate) shipped: u64,
    pub(crate) hidden: u64,
    /// How many paths were added, changed and removed.
    pub(crate) counts: [usize; 3],
    pub(crate) rows: Vec<Row>,
    /// Some rows stand for many paths.
    pub(crate) summed: bool,
}

/// A path: `path, operation, kind, mode, uid, gid, size, before, shipped, count`. A list, for there
/// are many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Row(
    pub(crate) String,
    &'static str,
    &'static str,
    u32,
    u32,
    u32,
    u64,
    Option<u64>,
    u64,
    usize,
);

impl Rows {
    pub(crate) fn of(contents: &StepContents, limit: usize) -> Self {
        let count = |operation| contents.changes.iter().filter(|c| c.operation == operation).count();
        let counts = [Operation::Added, Operation::Changed, Operation::Removed].map(count);
        let (rows, summed) = match contents.changes.len() <= limit {
            true => (contents.changes.iter().map(row).collect(), false),
            false => (sum_up(&contents.changes, limit), true),
        };
        let StepContents { made, shipped, hidden, .. } = *contents;
        Self { made, shipped, hidden, counts, rows, summed }
    }
}

fn row(change: &Change) -> Row {
    let shipped = if change.shipped { change.size } else { 0 };
    let Change { path, operation, kind, mode, owner, size, before, .. } = change;
    Row(path.clone(), sign(*operation), kind, *mode, owner.0, owner.1, *size, *before, shipped, 1)
}

fn sign(operation: Operation) -> &'static str {
    match operation {
        Operation::Added => "+",
        Operation::Changed => "~",
        Operation::Removed => "-",
    }
}

fn sum_up(changes: &[Change], limit: usize) -> Vec<Row> {
    let mut by_size: Vec<&Change> = changes.iter().filter(|change| change.size > 0).collect();
    by_size.sort_by_key(|change| std::cmp::Reverse(change.size));
    let named: HashSet<&str> =
        by_size.iter().take(LARGEST.min(limit / 4)).map(|change| change.path.as_str()).collect();
    let depth = (1..64).take_while(|depth| shown(changes, *depth) <= limit).last().unwrap_or(1);
    let mut rows = Vec::new();
    let mut sums: BTreeMap<(&str, &'static str), Row> = BTreeMap::new();
    for change in changes {
        let parent = ancestor(&change.path, depth);
        if parent == change.path || named.contains(change.path.as_str()) {
            // Even at the first level there can be too many.
            if rows.len() < limit * 2 || named.contains(change.path.as_str()) {
                rows.push(row(change));
                continue;
            }
        }
        let parent = if parent == change.path { "" } else { parent };
        let sign = sign(change.operation);
        let sum = sums
            .entry((parent, sign))
            .or_insert_with(|| Row(format!("{parent}/*"), sign, "sum", 0, 0, 0, 0, None, 0, 0));
        sum.6 += change.size;
        sum.8 += if change.shipped { change.size } else { 0 };
        sum.9 += 1;
    }
    rows.extend(sums.into_values());
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    rows
}

/// How many paths there are down to a depth.
fn shown(changes: &[Change], depth: usize) -> usize {
    changes.iter().filter(|change| ancestor(&change.path, depth) == change.path).count()
}

/// The path itself if it is not deeper, else what it is below.
fn ancestor(path: &str, depth: usize) -> &str {
    path.match_indices('/').nth(depth).map_or(path, |(at, _)| &path[..at])
}

#[cfg(test)]
mod tests {
    use super::{Rows, ancestor};
    use crate::{Change, Operation, StepContents};

    fn added(path: String, size: u64) -> Change {
        let (operation, kind) = (Operation::Added, "file");
        Change {
            path,
            operation,
            kind,
            mode: 0o644,
            owner: (0, 0),
            size,
            before: None,
            shipped: size > 50,
            content: None,
        }
    }

    #[test]
    fn many_paths_are_summed_up_and_no_byte_is_lost() {
        let mut changes: Vec<Change> = ["/usr", "/usr/share"].map(|dir| added(dir.to_owned(), 0)).to_vec();
        changes.extend((0..500u64).map(|n| added(format!("/usr/share/f{n:03}"), n % 100)));
        changes.push(added("/usr/share/large".to_owned(), 1_000_000));
        let made = changes.iter().map(|change| change.size).sum();
        let contents = StepContents { changes, made, shipped: 0, hidden: 0 };
        let rows = Rows::of(&contents, 40);
        assert!(rows.summed && rows.rows.len() <= 40, "{}", rows.rows.len());
        assert_eq!(rows.rows.iter().map(|row| row.6).sum::<u64>(), made);
        assert_eq!(rows.rows.iter().map(|row| row.9).sum::<usize>(), 503);
        assert!(rows.rows.iter().any(|row| row.0 == "/usr/share/large"));
        assert!(rows.rows.iter().any(|row| row.0 == "/usr/share/*" && row.9 > 400));
        assert_eq!(rows.counts, [503, 0, 0]);
        assert!(!Rows::of(&contents, 1000).summed);
    }

    #[test]
    fn thousands_of_paths_at_the_root_are_summed_up_too() {
        let changes: Vec<Change> = (0..5000).map(|n| added(format!("/f{n}"), 1)).collect();
        let contents = StepContents { changes, made: 5000, shipped: 0, hidden: 0 };
        let rows = Rows::of(&contents, 100);
        assert!(rows.rows.len() <= 250, "{}", rows.rows.len());
        assert_eq!(rows.rows.iter().map(|row| row.6).sum::<u64>(), 5000);
    }

    #[test]
    fn ancestors() {
        assert_eq!(ancestor("/a/b/c", 1), "/a");
        assert_eq!(ancestor("/a/b/c", 2), "/a/b");
        assert_eq!(ancestor("/a/b/c", 3), "/a/b/c");
        assert_eq!(ancestor("/a", 5), "/a");
    }
}
