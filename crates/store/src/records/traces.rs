//! Traces: what the command of a record asked of its parent, and what it got for an answer.

use dbuild_digest::StepKey;
use dbuild_support::time::now_ms;

use crate::db::{int, read_back, seal};
use crate::{Store, StoreError};

/// Maximum number of traces kept per step.
const MOST_OF_STEP: u32 = 8;
/// Maximum number of traces kept in all.
const MOST: u32 = 1000;
/// Maximum number of bytes of all traces.
const MOST_BYTES: u64 = 512 << 20;

/// What a parent answers to a question about a path: the first byte is the kind of what stands
/// there, 0 for nothing; the rest is a digest of the answer.
pub type Answer = [u8; 16];

/// A question that a command asked of its parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnsweredPath {
    /// Relative to the root, without links; the root is empty.
    pub path: Vec<u8>,
    /// What was asked, in the bits of the tracer.
    pub questions: u8,
    /// What the parent answers.
    pub answer: Answer,
}

/// What a command asked, with the answers under which it gave the result of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepTrace {
    /// The key of the record.
    pub record: StepKey,
    /// The command could reach a network, and opened a socket for it.
    pub network: bool,
    /// Sorted by path.
    pub paths: Vec<AnsweredPath>,
}

impl Store {
    /// Keeps a trace beside those that the step has, the oldest of which make room. `step`
    /// identifies the step but for its parent ([`dbuild_cache::trace_key`]); `replaced` is an equal
    /// trace of another record, which goes.
    pub fn put_trace(
        &self,
        step: &StepKey,
        trace: &StepTrace,
        replaced: Option<&StepKey>,
    ) -> Result<(), StoreError> {
        let body = encode(trace);
        let sealed = seal("traces", &[step.as_bytes(), trace.record.as_bytes()], &body);
        self.inner.db.write(|db| {
            if let Some(replaced) = replaced {
                db.prepare_cached("DELETE FROM traces WHERE step=?1 AND record=?2")?
                    .execute((step.as_bytes(), replaced.as_bytes()))?;
            }
            db.prepare_cached(
                "INSERT OR REPLACE INTO traces (step, record, at_ms, length, body, seal) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute((
                step.as_bytes(),
                trace.record.as_bytes(),
                int(now_ms()),
                int(body.len() as u64),
                &body,
                &sealed,
            ))?;
            // Without its record a trace leads to nothing.
            db.prepare_cached(
                "DELETE FROM traces WHERE NOT EXISTS (SELECT 1 FROM records WHERE key=traces.record)",
            )?
            .execute([])?;
            db.prepare_cached(
                "DELETE FROM traces WHERE step=?1 AND record NOT IN \
                 (SELECT record FROM traces WHERE step=?1 ORDER BY at_ms DESC LIMIT ?2)",
            )?
            .execute((step.as_bytes(), MOST_OF_STEP))?;
            db.prepare_cached(
                "DELETE FROM traces WHERE (step, record) IN (SELECT step, record FROM (\
                 SELECT step, record, row_number() OVER latest AS number, sum(length) OVER latest AS bytes \
                 FROM traces WINDOW latest AS (ORDER BY at_ms DESC, record)) \
                 WHERE number > ?1 OR bytes > ?2)",
            )?
            .execute((MOST, int(MOST_BYTES)))?;
            read_back(db, "SELECT 1 FROM traces WHERE step=?1", [step.as_bytes()])
        })
    }

    /// The traces of a step, the longest first. A damaged one is none.
    pub fn traces(&self, step: &StepKey) -> Result<Vec<StepTrace>, StoreError> {
        let rows = self.inner.db.read(|db| {
            let mut query = db.prepare_cached(
                "SELECT record, body, seal FROM traces WHERE step=?1 ORDER BY length DESC, at_ms DESC",
            )?;
            let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
            query.query_map([step.as_bytes()], row)?.collect::<Result<Vec<([u8; 32], Vec<u8>, Vec<u8>)>, _>>()
        })?;
        let whole = rows.into_iter().filter_map(|(record, body, sealed)| {
            let is_whole = sealed == seal("traces", &[step.as_bytes(), &record], &body);
            if is_whole { decode(StepKey::from_bytes(record), &body) } else { None }
        });
        Ok(whole.collect())
    }
}

/// Each path by what it has of the one before it.
fn encode(trace: &StepTrace) -> Vec<u8> {
    let mut bytes = vec![u8::from(trace.network)];
    let mut before: &[u8] = &[];
    for AnsweredPath { path, questions, answer } in &trace.paths {
        let same = before.iter().zip(path).take_while(|(a, b)| a == b).count();
        let length = |length: usize| u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes();
        bytes.extend_from_slice(&length(same));
        bytes.extend_from_slice(&length(path.len() - same));
        bytes.extend_from_slice(&path[same..]);
        bytes.push(*questions);
        bytes.extend_from_slice(answer);
        before = path;
    }
    bytes
}

fn decode(record: StepKey, bytes: &[u8]) -> Option<StepTrace> {
    let (network, mut rest) = bytes.split_first()?;
    let mut paths: Vec<AnsweredPath> = Vec::new();
    while !rest.is_empty() {
        let number = |bytes: &[u8]| usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        let (head, tail) = rest.split_at_checked(4)?;
        let (same, length) = (number(head), number(&head[2..]));
        let (new, tail) = tail.split_at_checked(length)?;
        let (questions, tail) = tail.split_first()?;
        let (answer, tail) = tail.split_first_chunk::<16>()?;
        let mut path = match paths.last() {
            Some(before) => before.path.get(..same)?.to_vec(),
            None => Vec::new(),
        };
        path.extend_from_slice(new);
        paths.push(AnsweredPath { path, questions: *questions, answer: *answer });
        rest = tail;
    }
    Some(StepTrace { record, network: *network != 0, paths })
}

#[cfg(test)]
mod tests {
    use super::{AnsweredPath, StepTrace, decode, encode};
    use dbuild_digest::StepKey;

    fn trace(paths: &[&[u8]]) -> StepTrace {
        let answered = |(number, path): (usize, &&[u8])| AnsweredPath {
            path: path.to_vec(),
            questions: number as u8,
            answer: [number as u8; 16],
        };
        let paths = paths.iter().enumerate().map(answered).collect();
        StepTrace { record: StepKey::from_bytes([7; 32]), network: true, paths }
    }

    #[test]
    fn a_trace_is_read_as_it_was_written() {
        let long = vec![b'x'; 4096];
        let lists: [Vec<&[u8]>; 3] =
            [Vec::new(), vec![b""], vec![b"", b"a", b"a/b", b"a/\xff\n", b"b", &long]];
        for paths in lists {
            let trace = trace(&paths);
            assert_eq!(decode(trace.record, &encode(&trace)), Some(trace));
        }
    }

    #[test]
    fn a_trace_that_was_cut_is_none() {
        let trace = trace(&[b"usr", b"usr/lib"]);
        let bytes = encode(&trace);
        let whole = [1, 1 + 4 + 3 + 1 + 16, bytes.len()];
        for length in 0..bytes.len() {
            assert_eq!(decode(trace.record, &bytes[..length]).is_some(), whole.contains(&length), "{length}");
        }
    }
}
