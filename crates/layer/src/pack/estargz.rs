//! eStargz: a gzip layer of which each file can be read without the rest.
//!
//! The format is that of containerd's stargz-snapshotter (`docs/estargz.md` there). The bytes of
//! each file begin a gzip member of their own, large files one for each [`CHUNK`]. The last entry
//! of the tar is a table of contents in JSON ([`Toc`]), in one member; the blob ends with an empty
//! member that says where the table's begins. To others it is a gzip layer as any. No file is
//! fetched before it is asked for, which an entry says that is first in the tar, the landmark.
//!
//! A tar is read and passed on as it is, entry by entry, so layers of others become eStargz in the
//! same way as ours.

use std::io::{self, Read, Write};
use std::sync::mpsc;

use dbuild_digest::{BlobDigest, BlobHasher, ContentDigest};

use crate::archive::chunks::ChunkReader;
use crate::archive::estargz_entries::{LANDMARKS, TOC};
use crate::archive::tar_reader::{self, Header};
use crate::archive::tar_writer::{self, Member};
use crate::pack::estargz_toc::{self, Chunk, Toc};
use crate::pack::gzip::{self, Feeder, Sink};
use crate::{Entry, EntryKind, GzipBlocks, LayerError, TreePath, UnpackLimits};

/// How many bytes of a file are one member. Small enough that the blocks of all threads fit into
/// little memory, and that a reader who wants a few bytes does not have to fetch many.
const CHUNK: usize = 1 << 20;
const LANDMARK: &[u8] = &[0xf];
/// How much is passed on at once.
const PIECE: usize = 256 << 10;
const BLOCK: usize = 512;

/// What the descriptor of an eStargz layer says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TocInfo {
    /// Digest of the table of contents: its JSON.
    pub digest: BlobDigest,
    /// Bytes of the uncompressed tar, with the table.
    pub uncompressed_size: u64,
}

impl TocInfo {
    /// The annotation that holds [`TocInfo::digest`].
    pub const DIGEST: &'static str = "containerd.io/snapshot/stargz/toc.digest";
    /// The annotation that holds [`TocInfo::uncompressed_size`].
    pub const SIZE: &'static str = "io.containers.estargz.uncompressed-size";

    /// The annotations of a layer's descriptor.
    pub fn annotations(&self) -> [(String, String); 2] {
        [
            (Self::DIGEST.to_owned(), self.digest.to_string()),
            (Self::SIZE.to_owned(), self.uncompressed_size.to_string()),
        ]
    }
}

/// Writes the tar that `produce` writes as eStargz. Gives what `produce` gives, the digest of the
/// tar as it was written, and what is to be said of it.
pub(crate) fn compress<T: Send>(
    level: u32,
    threads: usize,
    members: &dyn GzipBlocks,
    out: &mut impl Write,
    produce: impl FnOnce(&mut dyn Sink) -> Result<T, LayerError> + Send,
) -> Result<(T, BlobDigest, TocInfo), LayerError> {
    let (sender, pieces) = mpsc::sync_channel(8);
    let (produced, written) = std::thread::scope(|scope| {
        let producing = scope.spawn(move || produce(&mut ChunkSender(sender)));
        let written = compress_tar(level, threads, members, out, ChunkReader::new(pieces));
        (producing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), written)
    });
    match (produced, written) {
        // Nobody listened any more: why not is the reason.
        (Err(LayerError::Output(error)), Err(cause)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Err(cause)
        }
        (produced, written) => {
            let produced = produced?;
            let (diff_id, toc) = written?;
            Ok((produced, diff_id, toc))
        }
    }
}

fn compress_tar(
    level: u32,
    threads: usize,
    members: &dyn GzipBlocks,
    out: &mut impl Write,
    tar: impl Read + Send,
) -> Result<(BlobDigest, TocInfo), LayerError> {
    let ((mut hasher, mut size, toc), offsets) =
        gzip::compress_members(level, threads, CHUNK, members, out, |feeder| {
            let (hasher, buffer) = (BlobHasher::default(), vec![0; PIECE]);
            let mut copy = TarCopier { feeder, hasher, size: 0, toc: Toc::new(), buffer };
            copy.all(tar)?;
            Ok((copy.hasher, copy.size, copy.toc))
        })?;
    let json = toc.finish(&offsets);
    let mut table = Vec::with_capacity(json.len() + 4 * BLOCK);
    own_header(TOC, &json, &mut table)?;
    table.extend_from_slice(&json);
    tar_writer::pad(json.len() as u64, &mut table);
    tar_writer::end(&mut table);
    hasher.update(&table);
    size += table.len() as u64;
    let digest = BlobDigest::of(&json);
    drop(json);
    // Readers look for it in one member.
    out.write_all(&gzip::member(level, &table)).map_err(LayerError::Output)?;
    out.write_all(&footer(offsets.last().copied().unwrap_or(0))).map_err(LayerError::Output)?;
    Ok((hasher.finish(), TocInfo { digest, uncompressed_size: size }))
}

/// A tar on its way from where it is read to where it is compressed.
struct TarCopier<'a> {
    feeder: &'a mut Feeder,
    hasher: BlobHasher,
    size: u64,
    toc: Toc,
    buffer: Vec<u8>,
}

impl TarCopier<'_> {
    /// All entries, and not the end of the archive, which comes after the table. The landmark comes
    /// first; landmarks and tables that are there are left out.
    fn all(&mut self, tar: impl Read) -> Result<(), LayerError> {
        let mut landmark = Vec::new();
        own_header(LANDMARKS[0], LANDMARK, &mut landmark)?;
        landmark.extend_from_slice(LANDMARK);
        tar_writer::pad(LANDMARK.len() as u64, &mut landmark);
        self.entries(landmark.as_slice(), |_| true)?;
        self.entries(tar, |header| !is_own(&header.name))
    }

    fn entries(&mut self, tar: impl Read, is_kept: impl Fn(&Header) -> bool) -> Result<(), LayerError> {
        let recording = RecordingReader { inner: tar, recorded: Vec::new(), is_on: true };
        let mut reader = tar_reader::Reader::new(recording, UnpackLimits::default().bytes);
        // What is recorded begins with the padding of the entry before.
        let (mut padding, mut before_is_kept) = (0, true);
        loop {
            let header = reader.next()?;
            let recorded = std::mem::take(&mut reader.inner().recorded);
            let (padded, headers) = recorded.split_at(padding.min(recorded.len()));
            if before_is_kept {
                self.write(padded)?;
            }
            reader.inner().is_on = false;
            let Some(header) = header else { return Ok(reader.drain()?) };
            before_is_kept = is_kept(&header);
            if before_is_kept {
                self.write(headers)?;
                self.content(&mut reader, &header)?;
            } else {
                while reader.read_data(&mut self.buffer)? > 0 {}
            }
            padding = reader.padding();
            let recording = reader.inner();
            recording.is_on = true;
            // One buffer for all headers.
            recording.recorded = recorded;
            recording.recorded.clear();
        }
    }

    /// The bytes of an entry, each chunk a member of its own, and what the table says of it.
    fn content<R: Read>(
        &mut self,
        reader: &mut tar_reader::Reader<R>,
        header: &Header,
    ) -> Result<(), LayerError> {
        let kind = estargz_toc::kind_of(header)?;
        let mut left = reader.left();
        if kind != "reg" || left == 0 {
            self.toc.other(header, kind);
            return self.chunk(reader, left, None).map(drop);
        }
        let (mut chunks, mut whole) = (Vec::new(), None);
        if left > CHUNK as u64 {
            whole = Some(BlobHasher::default());
        }
        while left > 0 {
            self.feeder.cut().map_err(LayerError::Output)?;
            let (member, size) = (self.feeder.member(), left.min(CHUNK as u64));
            let digest = self.chunk(reader, size, whole.as_mut())?;
            chunks.push(Chunk { member, size, digest });
            left -= size;
        }
        self.toc.file(header, &chunks, whole.map(BlobHasher::finish));
        Ok(())
    }

    /// Passes this number of bytes of an entry on; their digest.
    fn chunk<R: Read>(
        &mut self,
        reader: &mut tar_reader::Reader<R>,
        size: u64,
        mut whole: Option<&mut BlobHasher>,
    ) -> Result<BlobDigest, LayerError> {
        let mut hasher = BlobHasher::default();
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut left = size;
        while left > 0 {
            let want = buffer.len().min(usize::try_from(left).unwrap_or(PIECE));
            let got = reader.read_data(&mut buffer[..want])?;
            hasher.update(&buffer[..got]);
            if let Some(whole) = &mut whole {
                whole.update(&buffer[..got]);
            }
            self.write(&buffer[..got])?;
            left -= got as u64;
        }
        self.buffer = buffer;
        Ok(hasher.finish())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        self.feeder.write_all(bytes).map_err(LayerError::Output)?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }
}

/// Keeps what is read through it, while it is switched on.
struct RecordingReader<R> {
    inner: R,
    recorded: Vec<u8>,
    is_on: bool,
}

impl<R: Read> Read for RecordingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        if self.is_on {
            self.recorded.extend_from_slice(&buffer[..got]);
        }
        Ok(got)
    }
}

/// Sends what is written to another thread, which reads it as [`ChunkReader`].
struct ChunkSender(mpsc::SyncSender<io::Result<Vec<u8>>>);

impl Write for ChunkSender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            self.0.send(Ok(bytes.to_vec())).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where members end is decided by who reads.
impl Sink for ChunkSender {}

fn is_own(name: &[u8]) -> bool {
    let is = |own: &str| TreePath::clean(name).is_ok_and(|path| path.as_bytes() == own.as_bytes());
    is(TOC) || LANDMARKS.into_iter().any(is)
}

/// Appends the header of a file that the format asks for.
fn own_header(name: &str, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), LayerError> {
    let path = TreePath::from_bytes(name.as_bytes()).map_err(crate::ResolveError::from)?;
    let kind = EntryKind::File { size: bytes.len() as u64, content: ContentDigest::of(bytes) };
    let entry = Entry { mode: 0o644, ..Entry::new_dir(path) };
    tar_writer::header(&Member { entry: &entry, kind: &kind, link: None, clamp: None }, out);
    Ok(())
}

/// The empty member at the end: where the table's member begins, in an extra field.
fn footer(table_at: u64) -> Vec<u8> {
    let subfield = format!("{table_at:016x}STARGZ");
    let length = subfield.len() as u16;
    let mut out = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff];
    out.extend_from_slice(&(length + 4).to_le_bytes());
    out.extend_from_slice(b"SG");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(subfield.as_bytes());
    // One stored block of no bytes; their checksum and number.
    out.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
    out.extend_from_slice(&[0; 8]);
    out
}

#[cfg(test)]
#[path = "tests/estargz.rs"]
mod tests;
