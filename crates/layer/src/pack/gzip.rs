//! A gzip writer that compresses blocks side by side. A block is compressed without knowing the
//! others, so its bytes depend on nothing else, and libdeflate can do it, which takes whole buffers
//! only and is faster than zlib. Blocks that do not shrink are stored, and those that were
//! compressed before are taken from there.
//!
//! The blocks become one gzip member, as every other builder writes it: RFC 1952 allows a file of
//! several members, but many readers stop after the first one, some of them silently. Only eStargz
//! is made of members, one for each block, because its readers begin at any of them.

use std::io::{self, IoSlice, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};

use crc32fast::Hasher as Crc32;
use dbuild_digest::ContentDigest;
use libdeflater::{CompressionLvl, Compressor};

use crate::pack::deflate;
use crate::{GzipBlockForm, GzipBlocks, LayerError, WrittenGzipBlock};

/// How much one thread takes at a time, at the most.
pub(crate) const BLOCK: usize = 512 << 10;
/// Smaller blocks are compressed sooner than looked for.
const LEAST_KEPT: usize = 64 << 10;
/// How a member begins. No name, no time, an unknown system: the same bytes everywhere.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// The checksum and the length, at its end.
const TRAILER: usize = 8;
/// How much of a block is tried before it is compressed, in each of four places, and how large a
/// block has to be for that.
const PROBE: usize = 4 << 10;
const LEAST_PROBED: usize = 128 << 10;

/// Fills a place with bytes.
pub(crate) type Fill<'a> = dyn FnMut(&mut [u8]) -> Result<(), LayerError> + 'a;

/// What a layer is written to.
pub(crate) trait Sink: Write {
    /// What follows is compressed without what came before, where blocks are compressed one by one.
    fn cut(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Writes at most so many bytes, of which `fill` puts all into the place it is given. Gives how
    /// many these were. Where blocks are compressed, the place is in the block, so that large files
    /// are not copied once more.
    fn write_with(&mut self, most: usize, fill: &mut Fill<'_>) -> Result<usize, LayerError> {
        let mut bytes = vec![0; most];
        fill(&mut bytes)?;
        self.write_all(&bytes).map_err(LayerError::Output)?;
        Ok(most)
    }
}

/// A block that somebody compresses.
type Pending = Receiver<Done>;

struct Block {
    /// At least as long as what is in it: what a buffer had in it before need not be cleared.
    bytes: Vec<u8>,
    filled: usize,
    done: SyncSender<Done>,
}

/// A compressed block.
struct Done {
    written: Written,
    /// Checksum and number of the bytes that it holds.
    checksum: Crc32,
    /// What it holds, if it is to be found again.
    content: Option<ContentDigest>,
    /// What was compressed.
    block: Vec<u8>,
}

/// What becomes of a block.
enum Written {
    /// These bytes, in the form that is asked for.
    Compressed(Vec<u8>),
    /// The block as it is: it is written from where it is.
    Stored,
}

/// Compresses what `produce` writes as one member, on `threads` threads beside the producing one
/// and the caller's, which writes to `out`. At most a few blocks for each thread are in memory.
pub(crate) fn compress<T: Send>(
    level: u32,
    threads: usize,
    known: &dyn GzipBlocks,
    out: &mut impl Write,
    produce: impl FnOnce(&mut dyn Sink) -> Result<T, LayerError> + Send,
) -> Result<T, LayerError> {
    out.write_all(&HEADER).map_err(LayerError::Output)?;
    let settings = Settings { level, threads, block: BLOCK, form: GzipBlockForm::Part };
    let (produced, blocks) = compress_blocks(&settings, known, out, |feeder| produce(feeder))?;
    let end = [deflate::END.as_slice(), &trailer(&blocks.checksum)].concat();
    out.write_all(&end).map_err(LayerError::Output)?;
    Ok(produced)
}

/// Compresses what `produce` writes as members of at most `block` bytes each, for a producer that
/// wants to know them. Gives the offsets at which they begin, in order, and the end.
pub(crate) fn compress_members<T: Send>(
    level: u32,
    threads: usize,
    block: usize,
    known: &dyn GzipBlocks,
    out: &mut impl Write,
    produce: impl FnOnce(&mut Feeder) -> Result<T, LayerError> + Send,
) -> Result<(T, Vec<u64>), LayerError> {
    let settings = Settings { level, threads, block, form: GzipBlockForm::Member };
    let produced = compress_blocks(&settings, known, out, |feeder| {
        let produced = produce(feeder)?;
        // A file without any member is no gzip file.
        if feeder.sent == 0 && feeder.filled == 0 {
            feeder.send().map_err(LayerError::Output)?;
        }
        Ok(produced)
    });
    produced.map(|(produced, blocks)| (produced, blocks.offsets))
}

/// How blocks are compressed.
struct Settings {
    level: u32,
    threads: usize,
    /// Bytes of a block, at the most.
    block: usize,
    form: GzipBlockForm,
}

/// The blocks that were written.
struct Blocks {
    /// Where they begin, from where the first one does, and the end of the last.
    offsets: Vec<u64>,
    /// Checksum and number of the bytes that all of them hold.
    checksum: Crc32,
}

fn compress_blocks<T: Send>(
    settings: &Settings,
    known: &dyn GzipBlocks,
    out: &mut impl Write,
    produce: impl FnOnce(&mut Feeder) -> Result<T, LayerError> + Send,
) -> Result<(T, Blocks), LayerError> {
    let Settings { threads, block, .. } = *settings;
    // In order: the writer waits for the oldest block, whichever thread compresses it.
    let (order, in_order) = mpsc::sync_channel::<Pending>(threads * 2);
    let (work, blocks) = mpsc::sync_channel::<Block>(threads);
    // Buffers go round: the kernel would give fresh ones page by page each time.
    let (used, free) = mpsc::channel();
    let blocks = Mutex::new(blocks);
    std::thread::scope(|scope| {
        let blocks = &blocks;
        for _ in 0..threads {
            scope.spawn(move || worker(settings, known, blocks));
        }
        let producer = scope.spawn(move || {
            let mut feeder = Feeder { order, work, free, block, current: Vec::new(), filled: 0, sent: 0 };
            let produced = produce(&mut feeder)?;
            if feeder.filled > 0 {
                feeder.send().map_err(LayerError::Output)?;
            }
            Ok(produced)
        });
        let written = write_in_order(settings, known, out, in_order, &used);
        let produced = producer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // If writing failed, the producer failed because of that: the cause is named first.
        let blocks = written.map_err(LayerError::Output)?;
        produced.map(|produced| (produced, blocks))
    })
}

/// The bytes as one member, whatever their number.
pub(crate) fn member(level: u32, bytes: &[u8]) -> Vec<u8> {
    let mut member = Vec::new();
    let (mut deflate, checksum) = (Deflate::new(level, GzipBlockForm::Member), checksum_of(bytes));
    let is_shorter = !deflate.is_incompressible(bytes);
    match is_shorter.then(|| deflate.deflated(bytes, &checksum)).flatten() {
        Some(compressed) => member = compressed,
        // To memory nothing fails.
        None => drop(write_stored(bytes, &checksum, GzipBlockForm::Member, &mut member)),
    }
    member
}

fn write_in_order(
    settings: &Settings,
    known: &dyn GzipBlocks,
    out: &mut impl Write,
    in_order: Receiver<Pending>,
    used: &mpsc::Sender<Vec<u8>>,
) -> io::Result<Blocks> {
    let Settings { level, form, .. } = *settings;
    // A member that all blocks are in has begun with its header.
    let header = if form == GzipBlockForm::Part { HEADER.len() as u64 } else { 0 };
    let (mut offsets, mut start, mut checksum) = (Vec::new(), 0, Crc32::new());
    for pending in in_order {
        // A worker only goes away without an answer when the whole is given up.
        let Ok(Done { written, checksum: of_block, content, block }) = pending.recv() else { continue };
        offsets.push(start);
        start += match &written {
            Written::Compressed(bytes) => {
                out.write_all(bytes)?;
                if let Some(content) = content {
                    let start = header + start;
                    known.written(&WrittenGzipBlock { content, level, form, start, bytes });
                }
                bytes.len() as u64
            }
            Written::Stored => write_stored(&block[..of_block.total_len() as usize], &of_block, form, out)?,
        };
        checksum.combine(&of_block);
        let _ = used.send(block);
    }
    offsets.push(start);
    Ok(Blocks { offsets, checksum })
}

/// What a producer writes to.
pub(crate) struct Feeder {
    order: SyncSender<Pending>,
    work: SyncSender<Block>,
    free: Receiver<Vec<u8>>,
    block: usize,
    /// At least as long as what is in it.
    current: Vec<u8>,
    filled: usize,
    sent: usize,
}

impl Feeder {
    /// The number of the member that the next byte goes to, from 0.
    pub(crate) fn member(&self) -> usize {
        self.sent
    }

    /// Where the next bytes go, at most so many.
    fn place(&mut self, most: usize) -> &mut [u8] {
        let end = self.block.min(self.filled.saturating_add(most));
        if self.current.len() < end {
            self.current.reserve_exact(self.block - self.current.len());
            self.current.resize(end, 0);
        }
        &mut self.current[self.filled..end]
    }

    /// Notes that this number of bytes was put there.
    fn fill(&mut self, count: usize) -> io::Result<()> {
        self.filled += count;
        if self.filled == self.block { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let next = self.free.try_recv().unwrap_or_default();
        let bytes = std::mem::replace(&mut self.current, next);
        let filled = std::mem::take(&mut self.filled);
        let (done, result) = mpsc::sync_channel(1);
        self.sent += 1;
        self.order.send(result).map_err(|_| gone())?;
        self.work.send(Block { bytes, filled, done }).map_err(|_| gone())
    }
}

impl Sink for Feeder {
    fn cut(&mut self) -> io::Result<()> {
        if self.filled == 0 { Ok(()) } else { self.send() }
    }

    fn write_with(&mut self, most: usize, fill: &mut Fill<'_>) -> Result<usize, LayerError> {
        let place = self.place(most);
        let count = place.len();
        fill(place)?;
        self.fill(count).map_err(LayerError::Output)?;
        Ok(count)
    }
}

impl Write for Feeder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let place = self.place(bytes.len());
        let count = place.len();
        place.copy_from_slice(&bytes[..count]);
        self.fill(count)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn worker(settings: &Settings, known: &dyn GzipBlocks, blocks: &Mutex<Receiver<Block>>) {
    let mut deflate = Deflate::new(settings.level, settings.form);
    loop {
        let block = blocks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Block { bytes, filled, done }) = block else { return };
        // Nobody waits any more if writing failed.
        let _ = done.send(deflate.done(bytes, filled, known));
    }
}

/// One worker's compressor. It begins anew with every block, so the bytes do not depend on which
/// worker has which.
struct Deflate {
    /// `None` stores.
    compressor: Option<Compressor>,
    probe: Compressor,
    level: u32,
    form: GzipBlockForm,
}

impl Deflate {
    fn new(level: u32, form: GzipBlockForm) -> Self {
        let of_level = |level| Compressor::new(CompressionLvl::new(level).unwrap_or_default());
        let at = i32::try_from(level).ok().filter(|level| *level > 0);
        Self { compressor: at.map(of_level), probe: of_level(1), level, form }
    }

    /// The block in the form that is asked for: one that was made before, or a new one. To store a
    /// block takes less than to look for it.
    fn done(&mut self, block: Vec<u8>, filled: usize, known: &dyn GzipBlocks) -> Done {
        let bytes = &block[..filled];
        let checksum = checksum_of(bytes);
        if self.compressor.is_none() || self.is_incompressible(bytes) {
            return Done { written: Written::Stored, checksum, content: None, block };
        }
        let content = (filled >= LEAST_KEPT).then(|| ContentDigest::of(bytes));
        let found = content.and_then(|content| known.find(&content, self.level, self.form));
        let compressed = found.or_else(|| self.deflated(bytes, &checksum));
        Done { written: compressed.map_or(Written::Stored, Written::Compressed), checksum, content, block }
    }

    /// Compressed, if that makes it shorter.
    fn deflated(&mut self, bytes: &[u8], checksum: &Crc32) -> Option<Vec<u8>> {
        let limit = stored_length(bytes.len());
        let header = if self.form == GzipBlockForm::Member { HEADER.as_slice() } else { &[] };
        let mut out = Vec::with_capacity(header.len() + limit + TRAILER + deflate::MOST_APPENDED);
        out.extend_from_slice(header);
        out.resize(header.len() + limit, 0);
        // No room left means that it did not shrink.
        let written = self.compressor.as_mut()?.deflate_compress(bytes, &mut out[header.len()..]);
        let count = written.ok().filter(|count| *count < limit)?;
        out.truncate(header.len() + count);
        match self.form {
            GzipBlockForm::Part => deflate::open(&mut out)?,
            GzipBlockForm::Member => out.extend_from_slice(&trailer(checksum)),
        }
        Some(out)
    }

    /// Whether a few places of a block do not shrink, not even by a little. Of a block whose bytes
    /// are all about as frequent one place tells.
    fn is_incompressible(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() < LEAST_PROBED {
            return false;
        }
        let place = |quarter: usize| &bytes[quarter * (bytes.len() / 4)..][..PROBE];
        let places = if (0..4).map(place).all(is_even) { 1 } else { 4 };
        let mut out = [0; PROBE];
        (0..places).all(|quarter| {
            self.probe.deflate_compress(place(quarter), &mut out[..PROBE - PROBE / 100]).is_err()
        })
    }
}

/// Whether all bytes are about as frequent as in noise. Where that lets them shrink by a hundredth,
/// they are not.
fn is_even(sample: &[u8]) -> bool {
    let mut counts = [0_u32; 256];
    sample.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    // Of noise, the sum of all squares is the least there can be and as much again as there are
    // bytes, give or take a little.
    let squares: u32 = counts.iter().map(|count| count * count).sum();
    let noise = sample.len() * sample.len() / 256 + sample.len();
    squares as usize <= noise + noise / 16
}

/// What so many bytes take when they are stored.
fn stored_length(length: usize) -> usize {
    length + 5 * length.div_ceil(0xffff).max(1)
}

fn checksum_of(bytes: &[u8]) -> Crc32 {
    let mut checksum = Crc32::new();
    checksum.update(bytes);
    checksum
}

/// The end of a member that holds what has this checksum. It has the length modulo 2³², as RFC 1952
/// wants it.
fn trailer(checksum: &Crc32) -> [u8; TRAILER] {
    (checksum.total_len() << 32 | u64::from(checksum.clone().finalize())).to_le_bytes()
}

/// Writes bytes as stored deflate blocks, from where they are. Gives how many bytes were written.
fn write_stored(
    bytes: &[u8],
    checksum: &Crc32,
    form: GzipBlockForm,
    out: &mut impl Write,
) -> io::Result<u64> {
    const LONGEST: usize = 0xffff;
    let is_member = form == GzipBlockForm::Member;
    let mut chunks: Vec<&[u8]> = bytes.chunks(LONGEST).collect();
    if chunks.is_empty() {
        chunks.push(&[]);
    }
    let last = chunks.len() - 1;
    let head = |(at, chunk): (usize, &&[u8])| {
        let length = (chunk.len() as u16).to_le_bytes();
        [u8::from(is_member && at == last), length[0], length[1], !length[0], !length[1]]
    };
    let heads: Vec<[u8; 5]> = chunks.iter().enumerate().map(head).collect();
    let trailer = trailer(checksum);
    let mut slices = Vec::with_capacity(chunks.len() * 2 + 2);
    if is_member {
        slices.push(IoSlice::new(&HEADER));
    }
    for (head, chunk) in heads.iter().zip(&chunks) {
        slices.extend([IoSlice::new(head), IoSlice::new(chunk)]);
    }
    if is_member {
        slices.push(IoSlice::new(&trailer));
    }
    let mut left = slices.as_mut_slice();
    while !left.is_empty() {
        match out.write_vectored(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut left, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let frame = if is_member { HEADER.len() + TRAILER } else { 0 };
    Ok((stored_length(bytes.len()) + frame) as u64)
}

#[cfg(test)]
#[path = "tests/gzip.rs"]
mod tests;
