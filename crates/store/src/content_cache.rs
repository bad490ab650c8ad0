//! What is known of the contents of context files, by stat data, so that files which did not change
//! are not read.
//!
//! One compact file for each context root, read whole and replaced whole: a context of 20,000 files
//! is looked up in a few milliseconds (a table of the database took several times as long). It is a
//! cache in every sense: it is not synced, a torn or damaged one fails its checksum and counts as
//! empty, and of two processes that write at once one is lost.
//!
//! Its entries are in the order of their paths, in which walks ask, so it is read along with the
//! walk and never taken apart: a file of a context costs its 60 bytes and no more.
//!
//! # The file
//!
//! A magic text; the number of entries; the entries; a digest of all that. Of an entry: the length
//! that its path shares with the one before, the length of the rest, the rest; the numbers of
//! [`Entry::numbers`], each as the difference from the entry before; 32 bytes of digest. Numbers
//! are LEB128, differences zigzag.
//!
//! # Racy times
//!
//! Stat data tells contents apart only if a file that is written to gets another ctime. Within one
//! tick of the file system's clock it does not. So an entry is believed only if the file's times
//! were already past, by [`TICK_NS`], when the look-up that led to its reading began: a later write
//! then gets a later ctime, and an earlier one was read. (The look-up comes after the stat and
//! before the reading, and time runs on between them.) Files whose times have no fraction of a
//! second may come from a file system that keeps none, and get [`COARSE_TICK_NS`].

use std::cmp::Ordering;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{SystemTime, UNIX_EPOCH};

use dbuild_digest::{ContentDigest, Framed};
use dbuild_layer::{AskedFile, ContentIndex, FileStat, LearnedFile, TreePath};

use crate::Store;
use crate::publish::{Durability, publish_bytes};

/// Coarser than any kernel's tick (10 ms at most).
const TICK_NS: i64 = 20_000_000;
/// File systems with whole or even seconds.
const COARSE_TICK_NS: i64 = 2_100_000_000;
/// Entries that were learned so many days ago are left out when the file is written next: so those
/// of files that are gone go, and those of files that are there are read once more.
const KEPT_DAYS: u32 = 30;

const MAGIC: &[u8] = b"dbuild contents 2\n";
const CHECKSUM: usize = 32;

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
    fn get_many<'a>(
        &self,
        root: &Path,
        files: &mut dyn Iterator<Item = AskedFile<'a>>,
    ) -> Vec<Option<ContentDigest>> {
        let now = now_ns();
        let known = self.load_context(root);
        let mut entries = Entries::of(&known);
        let answers = files.map(|(path, stat)| {
            let entry = entries.find(path)?;
            (entry.stat == stat && is_past(&stat, entry.looked_ns)).then_some(entry.digest)
        });
        let answers = answers.collect();
        let mut looked = self.inner.context_lookups.lock().unwrap_or_else(PoisonError::into_inner);
        // Of two look-ups at once the earlier time is the safe one.
        looked.entry(root.to_owned()).or_insert(now);
        answers
    }

    fn put_many<'a>(&self, root: &Path, files: &mut dyn Iterator<Item = LearnedFile<'a>>) {
        let looked = self.inner.context_lookups.lock().unwrap_or_else(PoisonError::into_inner).remove(root);
        // Without a look-up nobody knows when the files were read.
        let Some(since_ns) = looked else { return };
        let mut files = files.peekable();
        if files.peek().is_none() {
            return;
        }
        let bytes = merged(&self.load_context(root), files, since_ns, today());
        let written =
            publish_bytes(&self.scratch_path(), &self.context_file(root), &bytes, Durability::Later);
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

    /// The index of a context; empty if it is not whole.
    fn load_context(&self, root: &Path) -> Vec<u8> {
        let bytes = fs::read(self.context_file(root)).unwrap_or_default();
        let is_whole = bytes.split_last_chunk::<CHECKSUM>().is_some_and(|(body, sum)| checksum(body) == *sum);
        if is_whole { bytes } else { Vec::new() }
    }
}

/// Whether all times of a file lie before a moment, by more than the clock's tick.
fn is_past(stat: &FileStat, moment_ns: i64) -> bool {
    [stat.mtime_ns, stat.ctime_ns].into_iter().all(|time| {
        let tick = if time % 1_000_000_000 == 0 { COARSE_TICK_NS } else { TICK_NS };
        time.saturating_add(tick) < moment_ns
    })
}

/// An index with what was learned since. What nobody asked for in a long time is left out.
fn merged<'a>(
    known: &[u8],
    learned: impl Iterator<Item = LearnedFile<'a>>,
    looked_ns: i64,
    day: u32,
) -> Vec<u8> {
    let mut entries = Entries::of(known);
    let mut writer = Writer::new(known.len());
    let mut keep = |writer: &mut Writer, until: Option<&TreePath>| {
        while let Some(entry) = entries.before(until) {
            let is_replaced = until.is_some_and(|path| path.as_bytes() == entries.path);
            if !is_replaced && day.saturating_sub(entry.day) <= KEPT_DAYS {
                writer.write(&entries.path, &entry);
            }
            entries.step();
        }
    };
    for (path, stat, digest) in learned {
        keep(&mut writer, Some(path));
        writer.write(path.as_bytes(), &Entry { stat, looked_ns, digest, day });
    }
    keep(&mut writer, None);
    writer.finish()
}

impl Entry {
    /// All but the digest. Neighbours have most of them in common.
    fn numbers(&self) -> [u64; NUMBERS] {
        let Self { stat: FileStat { dev, ino, size, mtime_ns, ctime_ns, mode }, looked_ns, digest: _, day } =
            self;
        [
            *dev,
            *ino,
            *size,
            *mtime_ns as u64,
            *ctime_ns as u64,
            u64::from(*mode),
            *looked_ns as u64,
            u64::from(*day),
        ]
    }

    fn of(numbers: [u64; NUMBERS], digest: ContentDigest) -> Option<Self> {
        let [dev, ino, size, mtime_ns, ctime_ns, mode, looked_ns, day] = numbers;
        let (mtime_ns, ctime_ns, mode) = (mtime_ns as i64, ctime_ns as i64, u32::try_from(mode).ok()?);
        let stat = FileStat { dev, ino, size, mtime_ns, ctime_ns, mode };
        Some(Self { stat, looked_ns: looked_ns as i64, digest, day: u32::try_from(day).ok()? })
    }
}

const NUMBERS: usize = 8;

struct Writer {
    bytes: Vec<u8>,
    count: u64,
    path: Vec<u8>,
    numbers: [u64; NUMBERS],
}

/// The number of entries stands in front of them, and is known behind them.
const COUNT: std::ops::Range<usize> = MAGIC.len()..MAGIC.len() + 8;

impl Writer {
    fn new(about: usize) -> Self {
        let mut bytes = Vec::with_capacity(about.max(1 << 12));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[0; 8]);
        Self { bytes, count: 0, path: Vec::new(), numbers: [0; NUMBERS] }
    }

    fn write(&mut self, path: &[u8], entry: &Entry) {
        let shared = self.path.iter().zip(path).take_while(|(a, b)| a == b).count();
        put_number(&mut self.bytes, shared as u64);
        put_number(&mut self.bytes, (path.len() - shared) as u64);
        self.bytes.extend_from_slice(&path[shared..]);
        self.path.truncate(shared);
        self.path.extend_from_slice(&path[shared..]);
        let numbers = entry.numbers();
        for (number, before) in numbers.iter().zip(self.numbers) {
            let difference = number.wrapping_sub(before) as i64;
            put_number(&mut self.bytes, ((difference << 1) ^ (difference >> 63)) as u64);
        }
        self.numbers = numbers;
        self.bytes.extend_from_slice(entry.digest.as_bytes());
        self.count += 1;
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes[COUNT].copy_from_slice(&self.count.to_le_bytes());
        let sum = checksum(&self.bytes);
        self.bytes.extend_from_slice(&sum);
        self.bytes
    }
}

/// Reads an index from its first entry to its last.
struct Entries<'a> {
    rest: &'a [u8],
    /// Entries that were not read.
    left: u64,
    /// Where the reader stands. `None` at the end.
    entry: Option<Entry>,
    /// The path of that entry.
    path: Vec<u8>,
    numbers: [u64; NUMBERS],
}

impl<'a> Entries<'a> {
    /// Reads the bytes of a file that is whole.
    fn of(bytes: &'a [u8]) -> Self {
        let body = bytes.split_last_chunk::<CHECKSUM>().map_or(&[][..], |(body, _)| body);
        let counted = body.strip_prefix(MAGIC).and_then(|rest| rest.split_first_chunk::<8>());
        let (left, rest) = counted.map_or((0, &[][..]), |(count, rest)| (u64::from_le_bytes(*count), rest));
        let mut entries = Self { rest, left, entry: None, path: Vec::new(), numbers: [0; NUMBERS] };
        entries.step();
        entries
    }

    /// Goes to the next entry.
    fn step(&mut self) {
        self.entry = self.left.checked_sub(1).and_then(|left| {
            self.left = left;
            self.read()
        });
    }

    fn read(&mut self) -> Option<Entry> {
        let shared = usize::try_from(self.number()?).ok()?;
        let length = usize::try_from(self.number()?).ok()?;
        let (path, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        self.path.truncate(shared);
        self.path.extend_from_slice(path);
        for at in 0..NUMBERS {
            let zigzag = self.number()?;
            let difference = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
            self.numbers[at] = self.numbers[at].wrapping_add(difference as u64);
        }
        let (digest, rest) = self.rest.split_first_chunk::<32>()?;
        self.rest = rest;
        Entry::of(self.numbers, ContentDigest::from_bytes(*digest))
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// The entry of a path. Paths must be asked for in order.
    fn find(&mut self, path: &TreePath) -> Option<Entry> {
        while self.entry.is_some() {
            match path.cmp_bytes(&self.path) {
                Ordering::Less => return None,
                Ordering::Equal => return self.entry,
                Ordering::Greater => self.step(),
            }
        }
        None
    }

    /// The entry that the reader stands at, if it does not come after this path.
    fn before(&self, until: Option<&TreePath>) -> Option<Entry> {
        self.entry.filter(|_| until.is_none_or(|path| path.cmp_bytes(&self.path).is_ge()))
    }
}

fn put_number(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn checksum(bytes: &[u8]) -> [u8; 32] {
    Framed::new("context-contents", 1).bytes(bytes).finish()
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn today() -> u32 {
    u32::try_from(dbuild_support::time::now_ms() / 86_400_000).unwrap_or(u32::MAX)
}
