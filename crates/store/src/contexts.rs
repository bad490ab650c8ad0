//! What is known of the contents of context files, by stat data, so that files which did not change are not read.
//!
//! One compact file for each context root, read whole and replaced whole: a context of 20,000 files is looked up in
//! a few milliseconds (a table of the database took several times as long). It is a cache in every sense: it is not synced, a
//! torn or damaged one fails its checksum and counts as empty, and of two processes that write at once one is lost.
//!
//! # Racy times
//!
//! Stat data tells contents apart only if a file that is written to gets another ctime. Within one tick of the file system's
//! clock it does not. So an entry is believed only if the file's times were already past, by [`TICK_NS`], when the look-up
//! that led to its reading began: a later write then gets a later ctime, and an earlier one was read. (The look-up comes
//! after the stat and before the reading, and time runs on between them.) Files whose times have no fraction of a second may
//! come from a file system that keeps none, and get [`COARSE_TICK_NS`].

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use dbuild_digest::{ContentDigest, Framed};
use dbuild_layer::{ContentIndex, FileStat, TreePath};
use std::os::unix::ffi::OsStrExt as _;

use crate::Store;
use crate::publish::{Durability, publish_bytes};

/// Coarser than any kernel's tick (10 ms at most).
const TICK_NS: i64 = 20_000_000;
/// File systems with whole or even seconds.
const COARSE_TICK_NS: i64 = 2_100_000_000;
/// Entries that nobody asked for in so many days are left out when the file is written next.
const KEPT_DAYS: u32 = 30;

const MAGIC: &[u8] = b"dbuild contents 1\n";
/// The numbers of one entry: six of the stat, when it was looked up, the digest, the day, the length of the path.
const FIXED: usize = 6 * 8 + 8 + 32 + 4 + 4;

/// The indexes that were looked into and not written since, by root.
#[derive(Debug, Default)]
pub(crate) struct Contexts(Mutex<HashMap<PathBuf, Looked>>);

#[derive(Debug, Clone)]
struct Looked {
    /// When the first look-up began.
    since_ns: i64,
    known: Arc<Known>,
}

type Known = HashMap<Box<[u8]>, Entry>;

#[derive(Debug, Clone, Copy)]
struct Entry {
    stat: FileStat,
    /// When the look-up began that led to the reading.
    looked_ns: i64,
    digest: ContentDigest,
    /// The day on which it was written or asked for last, since 1970.
    day: u32,
}

impl ContentIndex for Store {
    fn get_many(&self, root: &Path, files: &[(TreePath, FileStat)]) -> Vec<Option<ContentDigest>> {
        let now = now_ns();
        let known = Arc::new(self.load_context(root));
        let answers = files.iter().map(|(path, stat)| {
            let entry = known.get(path.as_bytes())?;
            (entry.stat == *stat && is_past(stat, entry.looked_ns)).then_some(entry.digest)
        });
        let answers = answers.collect();
        let mut looked = self.inner.contexts.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = looked.entry(root.to_owned()).or_insert(Looked { since_ns: now, known: known.clone() });
        // Of two look-ups at once the earlier time is the safe one.
        entry.known = known;
        answers
    }

    fn put_many(&self, root: &Path, files: &[(TreePath, FileStat, ContentDigest)]) {
        let looked = self.inner.contexts.0.lock().unwrap_or_else(PoisonError::into_inner).remove(root);
        // Without a look-up nobody knows when the files were read.
        let Some(Looked { since_ns, known }) = looked else { return };
        if files.is_empty() {
            return;
        }
        let today = today();
        let mut known = Arc::try_unwrap(known).unwrap_or_else(|shared| (*shared).clone());
        known.retain(|_, entry| today.saturating_sub(entry.day) <= KEPT_DAYS);
        for (path, stat, digest) in files {
            let entry = Entry { stat: *stat, looked_ns: since_ns, digest: *digest, day: today };
            known.insert(path.as_bytes().into(), entry);
        }
        let written =
            publish_bytes(&self.scratch_path(), &self.context_file(root), &encode(&known), Durability::Later);
        if let Err(error) = written {
            tracing::debug!("the contents of a context are not remembered: {error}");
        }
    }
}

impl Store {
    fn context_file(&self, root: &Path) -> PathBuf {
        let mut framed = Framed::new("context-root", 1);
        let name: String = framed.bytes(root.as_os_str().as_bytes()).finish()[..16]
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        self.room("indexes").join(name)
    }

    fn load_context(&self, root: &Path) -> Known {
        let bytes = fs::read(self.context_file(root)).unwrap_or_default();
        decode(&bytes).unwrap_or_default()
    }
}

/// Whether all times of a file lie before a moment, by more than the clock's tick.
fn is_past(stat: &FileStat, moment_ns: i64) -> bool {
    [stat.mtime_ns, stat.ctime_ns].into_iter().all(|time| {
        let tick = if time % 1_000_000_000 == 0 { COARSE_TICK_NS } else { TICK_NS };
        time.saturating_add(tick) < moment_ns
    })
}

fn encode(known: &Known) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(known.len() * (FIXED + 40) + 64);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&(known.len() as u64).to_le_bytes());
    for (path, Entry { stat, looked_ns, digest, day }) in known {
        let FileStat { dev, ino, size, mtime_ns, ctime_ns, mode } = stat;
        for number in
            [*dev, *ino, *size, *mtime_ns as u64, *ctime_ns as u64, u64::from(*mode), *looked_ns as u64]
        {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(digest.as_bytes());
        bytes.extend_from_slice(&day.to_le_bytes());
        bytes.extend_from_slice(&(path.len() as u32).to_le_bytes());
        bytes.extend_from_slice(path);
    }
    let sum = checksum(&bytes);
    bytes.extend_from_slice(&sum);
    bytes
}

fn decode(bytes: &[u8]) -> Option<Known> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    let mut rest = body.strip_prefix(MAGIC)?;
    if checksum(body) != sum {
        return None;
    }
    let count = usize::try_from(take_u64(&mut rest)?).ok()?;
    let mut known = Known::with_capacity(count.min(rest.len() / FIXED));
    for _ in 0..count {
        let mut number = || take_u64(&mut rest);
        let [dev, ino, size] = [number()?, number()?, number()?];
        let [mtime_ns, ctime_ns] = [number()? as i64, number()? as i64];
        let mode = u32::try_from(number()?).ok()?;
        let looked_ns = number()? as i64;
        let (digest, after) = rest.split_first_chunk::<32>()?;
        let (day, after) = after.split_first_chunk::<4>()?;
        let (length, after) = after.split_first_chunk::<4>()?;
        let (path, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        rest = after;
        let entry = Entry {
            stat: FileStat { dev, ino, size, mtime_ns, ctime_ns, mode },
            looked_ns,
            digest: ContentDigest::from_bytes(*digest),
            day: u32::from_le_bytes(*day),
        };
        known.insert(path.into(), entry);
    }
    Some(known)
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    let (number, after) = rest.split_first_chunk::<8>()?;
    *rest = after;
    Some(u64::from_le_bytes(*number))
}

fn checksum(bytes: &[u8]) -> [u8; 32] {
    Framed::new("context-contents", 1).bytes(bytes).finish()
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn today() -> u32 {
    u32::try_from(crate::event::now_ms() / 86_400_000).unwrap_or(u32::MAX)
}
