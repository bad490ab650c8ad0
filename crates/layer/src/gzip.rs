//! A gzip writer that compresses blocks side by side, as pigz does: one gzip member, whose blocks know the 32 KiB before them
//! and end at byte boundaries. Blocks that do not shrink are stored.

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use crate::LayerError;

/// How much one thread takes at a time.
const BLOCK: usize = 512 << 10;
/// How far back a match may reach.
const WINDOW: usize = 32 << 10;
/// No name, no time, an unknown system: the same bytes everywhere.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// How much of a block is tried before it is compressed.
const PROBE: usize = 8 << 10;

/// A compressed block and the checksum of what it was.
type Deflated = io::Result<(Vec<u8>, Crc)>;

/// A block that somebody compresses.
type Pending = Receiver<Deflated>;

struct Block {
    bytes: Arc<Vec<u8>>,
    before: Option<Arc<Vec<u8>>>,
    last: bool,
    done: SyncSender<Deflated>,
}

/// Compresses what `produce` writes, on `threads` threads beside the producing one and the caller's, which writes to `out`. At most
/// a few blocks for each thread are in memory.
pub(crate) fn compress<T: Send>(
    level: u32,
    threads: usize,
    out: &mut impl Write,
    produce: impl FnOnce(&mut dyn Write) -> Result<T, LayerError> + Send,
) -> Result<T, LayerError> {
    // In order: the writer waits for the oldest block, whoever compresses it.
    let (order, in_order) = mpsc::sync_channel::<Pending>(threads * 2);
    let (work, blocks) = mpsc::sync_channel::<Block>(threads);
    let blocks = Mutex::new(blocks);
    std::thread::scope(|scope| {
        let blocks = &blocks;
        for _ in 0..threads {
            scope.spawn(move || worker(level, blocks));
        }
        let producer = scope.spawn(move || {
            let mut feeder = Feeder { order, work, current: Vec::with_capacity(BLOCK), before: None };
            let produced = produce(&mut feeder)?;
            feeder.send(true).map_err(LayerError::Output)?;
            Ok(produced)
        });
        let written = write_in_order(out, in_order);
        let produced = producer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // If writing failed, the producer failed because of that: the cause is named first.
        written.map_err(LayerError::Output)?;
        produced
    })
}

fn write_in_order(out: &mut impl Write, in_order: Receiver<Pending>) -> io::Result<()> {
    out.write_all(&HEADER)?;
    let mut crc = Crc::new();
    for block in in_order {
        // A worker only goes away without an answer when the whole is given up.
        let Ok(done) = block.recv() else { continue };
        let (bytes, block_crc) = done?;
        crc.combine(&block_crc);
        out.write_all(&bytes)?;
    }
    out.write_all(&crc.sum().to_le_bytes())?;
    out.write_all(&crc.amount().to_le_bytes())
}

struct Feeder {
    order: SyncSender<Pending>,
    work: SyncSender<Block>,
    current: Vec<u8>,
    before: Option<Arc<Vec<u8>>>,
}

impl Feeder {
    fn send(&mut self, last: bool) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let bytes = Arc::new(std::mem::replace(&mut self.current, Vec::with_capacity(BLOCK)));
        let before = self.before.replace(Arc::clone(&bytes));
        let (done, result) = mpsc::sync_channel(1);
        self.order.send(result).map_err(|_| gone())?;
        self.work.send(Block { bytes, before, last, done }).map_err(|_| gone())
    }
}

impl Write for Feeder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.current.len() == BLOCK {
            self.send(false)?;
        }
        let taken = bytes.len().min(BLOCK - self.current.len());
        self.current.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn worker(level: u32, blocks: &Mutex<Receiver<Block>>) {
    loop {
        let block = blocks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(block) = block else { return };
        let mut crc = Crc::new();
        crc.update(&block.bytes);
        let deflated = deflate(level, &block).map(|bytes| (bytes, crc));
        // Nobody waits any more if writing failed.
        let _ = block.done.send(deflated);
    }
}

/// The block as raw deflate, ending at a byte boundary.
fn deflate(level: u32, block: &Block) -> io::Result<Vec<u8>> {
    if level == 0 || is_incompressible(&block.bytes) {
        return Ok(store(&block.bytes, block.last));
    }
    // A new one for each block: what zlib-rs leaves behind in one that is reset changes which matches it finds, and
    // so the bytes would depend on which worker had which block.
    let mut compress = Compress::new(Compression::new(level), false);
    if let Some(before) = &block.before {
        let window = &before[before.len().saturating_sub(WINDOW)..];
        compress.set_dictionary(window).map_err(io::Error::other)?;
    }
    let flush = if block.last { FlushCompress::Finish } else { FlushCompress::Sync };
    let mut out = Vec::with_capacity(block.bytes.len() / 2 + 1024);
    loop {
        let taken = compress.total_in() as usize;
        let status =
            compress.compress_vec(&block.bytes[taken..], &mut out, flush).map_err(io::Error::other)?;
        let all_taken = compress.total_in() as usize == block.bytes.len();
        match status {
            Status::StreamEnd => break,
            // There is room left, so everything was flushed.
            Status::Ok | Status::BufError if !block.last && all_taken && out.len() < out.capacity() => break,
            _ => out.reserve(out.capacity().max(64 << 10)),
        }
    }
    let stored = block.bytes.len() + 5 * block.bytes.len().div_ceil(0xffff).max(1);
    if out.len() >= stored {
        return Ok(store(&block.bytes, block.last));
    }
    Ok(out)
}

/// Whether a few places of a block do not shrink, not even by a little.
fn is_incompressible(bytes: &[u8]) -> bool {
    if bytes.len() < 16 * PROBE {
        return false;
    }
    let step = bytes.len() / 4;
    let mut out = Vec::with_capacity(PROBE * 2);
    (0..4).all(|quarter| {
        let probe = &bytes[quarter * step..][..PROBE];
        let mut compress = Compress::new(Compression::fast(), false);
        out.clear();
        let done = compress.compress_vec(probe, &mut out, FlushCompress::Finish);
        done.is_ok() && out.len() >= PROBE - PROBE / 100
    })
}

/// Stored deflate blocks.
fn store(bytes: &[u8], last: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 64);
    let mut chunks = bytes.chunks(0xffff).peekable();
    if bytes.is_empty() {
        out.extend_from_slice(&[u8::from(last), 0, 0, 0xff, 0xff]);
    }
    while let Some(chunk) = chunks.next() {
        let length = chunk.len() as u16;
        out.push(u8::from(last && chunks.peek().is_none()));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(chunk);
    }
    out
}

#[cfg(test)]
#[path = "tests/gzip.rs"]
mod tests;
