//! A catalogue: the newest records of a cache with their small indexes, in one blob.
//!
//! It saves requests and decides nothing: each of its entries is verified as one that was fetched
//! by itself, and what it lacks is fetched by itself. So the last writer may overwrite it.
//!
//! Unpacked it is a sequence of entries, newest first: a line of JSON ([`Head`]), and the bytes of
//! the manifest, the config and (where its length is not 0) the index.

use std::cmp::Reverse;

use dbuild_digest::StepKey;
use serde::{Deserialize, Serialize};

use crate::Refusal;
use crate::format::compress::{compress, decompress};
use crate::format::{CATALOGUE_LIMIT, MANIFEST_LIMIT, UNPACKED_CATALOGUE_LIMIT};

/// Number of records that a catalogue holds.
pub(crate) const MOST_ENTRIES: usize = 10_000;
/// Largest config that is worth a place in a catalogue.
pub(crate) const CONFIG_SHARE: usize = 256 << 10;
/// Largest index that is worth a place in a catalogue.
pub(crate) const INDEX_SHARE: usize = 64 << 10;
/// Longest head of an entry.
const HEAD_LIMIT: usize = 512;

/// A record as it is stored: bytes that are not verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredRecord {
    pub key: StepKey,
    /// As the record says; for order and explanations.
    pub definition: StepKey,
    pub created_ms: u64,
    pub manifest: Vec<u8>,
    pub config: Vec<u8>,
    pub index: Option<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    key: StepKey,
    definition: StepKey,
    created_ms: u64,
    manifest: usize,
    config: usize,
    index: usize,
}

impl StoredRecord {
    /// Whether a catalogue takes it.
    pub(crate) fn fits(&self) -> bool {
        self.config.len() <= CONFIG_SHARE && self.manifest.len() as u64 <= MANIFEST_LIMIT
    }
}

/// The bytes of a catalogue: of these the newest, as far as the bounds allow.
pub(crate) fn encode<'a>(records: impl Iterator<Item = &'a StoredRecord>) -> Vec<u8> {
    let mut records: Vec<&StoredRecord> = records.filter(|record| record.fits()).collect();
    records.sort_by_key(|record| Reverse((record.created_ms, record.key)));
    records.truncate(MOST_ENTRIES);
    loop {
        let packed = compress(&unpacked(&records));
        if packed.len() as u64 <= CATALOGUE_LIMIT {
            return packed;
        }
        records.truncate(records.len() / 2);
    }
}

fn unpacked(records: &[&StoredRecord]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        let index = record.index.as_deref().filter(|index| index.len() <= INDEX_SHARE).unwrap_or_default();
        let length = record.manifest.len() + record.config.len() + index.len() + HEAD_LIMIT;
        if bytes.len() + length > UNPACKED_CATALOGUE_LIMIT as usize {
            break;
        }
        let head = Head {
            key: record.key,
            definition: record.definition,
            created_ms: record.created_ms,
            manifest: record.manifest.len(),
            config: record.config.len(),
            index: index.len(),
        };
        // Of texts and numbers alone: cannot fail.
        bytes.extend(serde_json::to_vec(&head).unwrap_or_default());
        bytes.push(b'\n');
        for part in [&record.manifest[..], &record.config[..], index] {
            bytes.extend_from_slice(part);
        }
    }
    bytes
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<StoredRecord>, Refusal> {
    const WHAT: &str = "the catalogue";
    let bytes = decompress(bytes, UNPACKED_CATALOGUE_LIMIT, WHAT)?;
    let (mut rest, mut records) = (&bytes[..], Vec::new());
    while !rest.is_empty() && records.len() < MOST_ENTRIES {
        let end = rest.iter().take(HEAD_LIMIT).position(|byte| *byte == b'\n');
        let (head, body) = rest.split_at(end.ok_or(Refusal::Damaged(WHAT))?);
        let head: Head = serde_json::from_slice(head).map_err(|_| Refusal::Damaged(WHAT))?;
        rest = &body[1..];
        let mut part = |length: usize| {
            let (part, after) = rest.split_at_checked(length).ok_or(Refusal::Damaged(WHAT))?;
            rest = after;
            Ok::<_, Refusal>(part.to_vec())
        };
        let (manifest, config, index) = (part(head.manifest)?, part(head.config)?, part(head.index)?);
        records.push(StoredRecord {
            key: head.key,
            definition: head.definition,
            created_ms: head.created_ms,
            manifest,
            config,
            index: Some(index).filter(|index| !index.is_empty()),
        });
    }
    Ok(records)
}
