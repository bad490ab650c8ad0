//! Layers as tar archives, compressed.
//!
//! One thread reads files and writes tar blocks, others compress, the caller's writes: in order,
//! with a bounded number of blocks between them. What is written depends on the tree and the
//! options alone, not on the number of threads.
//!
//! What is compressed as one block begins with a file, where it can: which files those are is
//! decided by their paths, so that a file that grew moves the borders of the next few blocks and no
//! others, and `gzip_blocks.rs` knows the rest.

pub(crate) mod deflate;
pub(crate) mod estargz;
pub(crate) mod estargz_toc;
pub(crate) mod gzip;
pub(crate) mod gzip_blocks;

use std::collections::HashMap;
use std::io::{self, IoSlice, Read, Write};

use dbuild_digest::{BlobDigest, BlobHasher, ContentHasher};
use dbuild_support::io_context::IoError;

use crate::archive::tar_writer::{self, Member};
use crate::disk;
use crate::pack::estargz::TocInfo;
use crate::pack::gzip::{Fill, Sink};
use crate::tree::layer_files::OpenedFiles;
use crate::{Entry, EntryKind, GzipBlocks, LayerError, LayerFiles, Tree, TreePath};

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// What every registry and runtime takes.
    #[default]
    Gzip,
    /// Gzip of which each file can be read without the rest, with a table of contents in it.
    Estargz,
    /// Faster and smaller.
    Zstd,
    /// Not at all.
    Uncompressed,
}

/// How a layer is packed.
#[derive(Clone, Copy, Debug, Default)]
pub struct PackOptions {
    /// The compression.
    pub compression: Compression,
    /// 0 to 9 for gzip and eStargz (default 4: smaller than zlib's 6, in half the time), 1 to 22
    /// for zstd (default 3). Numbers outside are brought inside.
    pub level: Option<i32>,
    /// Times after this many seconds since 1970 become it (`SOURCE_DATE_EPOCH`).
    pub clamp_mtime: Option<i64>,
}

/// A layer that was packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedTar {
    /// Digest of the tar.
    pub diff_id: BlobDigest,
    /// Digest of the tar that was packed. It is `diff_id`, but for eStargz, which adds entries.
    pub source: BlobDigest,
    /// Digest of what was written.
    pub digest: BlobDigest,
    /// Bytes that were written.
    pub size: u64,
    /// Table of contents of an eStargz layer.
    pub toc: Option<TocInfo>,
}

impl Compression {
    /// The compression of a layer, by the end of its media type, which eStargz has in common with
    /// gzip.
    pub fn of_media_type(media_type: &str) -> Self {
        match media_type.rsplit(['+', '.']).next() {
            Some("gzip") => Self::Gzip,
            Some("zstd") => Self::Zstd,
            _ => Self::Uncompressed,
        }
    }

    /// The OCI media type of such a layer.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Gzip | Self::Estargz => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
            Self::Uncompressed => "application/vnd.oci.image.layer.v1.tar",
        }
    }
}

/// Writes a layer as a tar, in the order of its index, compressed. The same tree and options give
/// the same bytes, however many cores there are and wherever the files are. Each file is checked
/// against the index while it is read: a file that is not what the index says is an error, never
/// part of an image. With gzip and eStargz, what `members` has is not compressed again.
///
/// Extended attributes other than `security.capability` are left out, and so is the root; times are
/// whole seconds.
pub fn pack(
    tree: &Tree,
    files: &LayerFiles,
    options: &PackOptions,
    members: &dyn GzipBlocks,
    out: impl Write,
) -> Result<PackedTar, LayerError> {
    compress(options, members, out, |sink| write_tree(tree, files, options.clamp_mtime, sink))
}

/// Writes a layer that is packed already with another compression; the tar, and so its diff_id,
/// stays as it is, but for eStargz.
pub fn repack(
    packed: impl Read + Send,
    options: &PackOptions,
    members: &dyn GzipBlocks,
    out: impl Write,
) -> Result<PackedTar, LayerError> {
    compress(options, members, out, |sink| {
        let mut tar = crate::decompress(packed)?;
        io::copy(&mut tar, sink).map(drop).map_err(LayerError::Output)
    })
}

fn compress(
    options: &PackOptions,
    members: &dyn GzipBlocks,
    out: impl Write,
    produce: impl FnOnce(&mut dyn Sink) -> Result<(), LayerError> + Send,
) -> Result<PackedTar, LayerError> {
    let mut out = CountingWriter { inner: out, hasher: BlobHasher::default(), size: 0 };
    let mut of_tar = None;
    let diff_id = match options.compression {
        Compression::Gzip => {
            let level = options.level.unwrap_or(4).clamp(0, 9).unsigned_abs();
            gzip::compress(level, disk::threads(), members, &mut out, |sink| hashed(sink, produce))?
        }
        Compression::Estargz => {
            let level = options.level.unwrap_or(4).clamp(0, 9).unsigned_abs();
            let (source, diff_id, info) =
                estargz::compress(level, disk::threads(), members, &mut out, |sink| hashed(sink, produce))?;
            of_tar = Some((source, info));
            diff_id
        }
        Compression::Zstd => {
            let level = options.level.unwrap_or(3).clamp(1, 22);
            let mut encoder = zstd_encoder(&mut out, level).map_err(LayerError::Output)?;
            let diff_id = hashed(&mut encoder, produce)?;
            encoder.finish().map_err(LayerError::Output)?;
            diff_id
        }
        Compression::Uncompressed => {
            let mut buffered = io::BufWriter::with_capacity(256 << 10, &mut out);
            let diff_id = hashed(&mut buffered, produce)?;
            buffered.flush().map_err(LayerError::Output)?;
            diff_id
        }
    };
    out.inner.flush().map_err(LayerError::Output)?;
    let (source, toc) = of_tar.map_or((diff_id, None), |(source, info)| (source, Some(info)));
    Ok(PackedTar { diff_id, source, digest: out.hasher.finish(), size: out.size, toc })
}

fn zstd_encoder<W: Write>(out: W, level: i32) -> io::Result<zstd::Encoder<'static, W>> {
    let mut encoder = zstd::Encoder::new(out, level)?;
    encoder.include_checksum(true)?;
    // Also on one core: without a worker the bytes would be others.
    encoder.multithread(u32::try_from(disk::threads()).unwrap_or(1))?;
    Ok(encoder)
}

/// Passes everything on and gives the digest of it.
fn hashed(
    sink: &mut dyn Sink,
    produce: impl FnOnce(&mut dyn Sink) -> Result<(), LayerError>,
) -> Result<BlobDigest, LayerError> {
    let mut counting = CountingWriter { inner: sink, hasher: BlobHasher::default(), size: 0 };
    produce(&mut counting)?;
    Ok(counting.hasher.finish())
}

struct CountingWriter<W> {
    inner: W,
    hasher: BlobHasher,
    size: u64,
}

impl<W: Write> Write for CountingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = self.inner.write_vectored(slices)?;
        self.hasher.update_vectored(slices, written);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W: Sink + ?Sized> Sink for CountingWriter<&mut W> {
    fn cut(&mut self) -> io::Result<()> {
        self.inner.cut()
    }

    fn write_with(&mut self, most: usize, fill: &mut Fill<'_>) -> Result<usize, LayerError> {
        let Self { inner, hasher, size } = self;
        let count = (**inner).write_with(most, &mut |place| {
            fill(place)?;
            hasher.update(place);
            Ok(())
        })?;
        *size += count as u64;
        Ok(count)
    }
}

impl<W: Write> Sink for zstd::Encoder<'static, W> {}
impl<W: Write> Sink for io::BufWriter<W> {}
impl<W: Write> Sink for &mut W {}

fn write_tree(
    tree: &Tree,
    files: &LayerFiles,
    clamp: Option<i64>,
    out: &mut dyn Sink,
) -> Result<(), LayerError> {
    let opened = files.open()?.ok_or(LayerError::NotUnpacked { path: TreePath::root() })?;
    let mut out = Blocks::new(out);
    for entry in tree.entries() {
        if entry.path.is_root() {
            continue;
        }
        out.begin(entry)?;
        let member = Member { entry, kind: &entry.kind, link: None, clamp };
        tar_writer::header(&member, &mut out.buffer);
        match &entry.kind {
            EntryKind::File { size: 1.., .. } => out.file(&opened, entry)?,
            EntryKind::Dir { opaque: true } => tar_writer::opaque_mark(&entry.path, &mut out.buffer),
            _ => {}
        }
        out.pass(false)?;
    }
    tar_writer::end(&mut out.buffer);
    out.pass(true)
}

/// Collects blocks, so that what follows gets large pieces.
pub(crate) struct Blocks<'a> {
    out: &'a mut dyn Sink,
    pub(crate) buffer: Vec<u8>,
    /// Number of bytes passed on since the last cut.
    passed: usize,
}

/// How much is passed on at once.
const PIECE: usize = 256 << 10;
/// A block that is cut at a file has so many bytes at least: few, so that whatever is drawn is
/// nearly always a border, wherever the last one was.
const LEAST_BLOCK: usize = 64 << 10;
/// A file is drawn once in about so many bytes.
const USUAL_BLOCK: u64 = 400 << 10;

impl<'a> Blocks<'a> {
    pub(crate) fn new(out: &'a mut dyn Sink) -> Self {
        Self { out, buffer: Vec::with_capacity(PIECE * 2), passed: 0 }
    }

    /// An entry follows. Cuts in front of it if it is drawn: by its path, the likelier the larger
    /// it is, so that blocks are about as large whatever the files are, and one that fills a block
    /// alone always begins one.
    fn begin(&mut self, entry: &Entry) -> Result<(), LayerError> {
        // Full blocks were cut without asking.
        let block = (self.passed + self.buffer.len()) % gzip::BLOCK;
        let size = if let EntryKind::File { size, .. } = entry.kind { size } else { 0 };
        let chance = size.saturating_add(512).saturating_mul(u64::from(u32::MAX) / USUAL_BLOCK);
        if block >= LEAST_BLOCK && u64::from(libdeflater::crc32(entry.path.as_bytes())) <= chance {
            self.pass(true)?;
            self.out.cut().map_err(LayerError::Output)?;
            self.passed = 0;
        }
        Ok(())
    }

    /// Passes on what was collected, if it is enough.
    pub(crate) fn pass(&mut self, all: bool) -> Result<(), LayerError> {
        if all || self.buffer.len() >= PIECE {
            self.out.write_all(&self.buffer).map_err(LayerError::Output)?;
            self.passed += self.buffer.len();
            self.buffer.clear();
        }
        Ok(())
    }

    /// Copies this number of bytes directly to where they are needed.
    fn large(&mut self, size: u64, fill: &mut Fill<'_>) -> Result<(), LayerError> {
        self.pass(true)?;
        let mut left = size;
        while left > 0 {
            let count = self.out.write_with(PIECE.min(usize::try_from(left).unwrap_or(PIECE)), fill)?;
            self.passed += count;
            left -= count as u64;
        }
        Ok(())
    }

    /// The bytes of a file and their padding, checked against its entry.
    pub(crate) fn file(&mut self, files: &OpenedFiles, entry: &Entry) -> Result<(), LayerError> {
        let EntryKind::File { size, content } = entry.kind else { return Ok(()) };
        let (root, path) = files.at(&entry.path)?;
        let differs = |why| match root.is_live() {
            true => LayerError::Changed { path: entry.path.clone() },
            false => root.damaged(path, why),
        };
        let (mut file, stat) = match root.open_file(path) {
            // It was there when the context was walked.
            Err(_) if root.is_live() => return Err(differs("it is gone")),
            opened => opened?,
        };
        if stat.size != size {
            return Err(differs("it has another size"));
        }
        let mut hasher = ContentHasher::default();
        // On this thread: the others compress and hash what it gives them.
        let mut fill = |place: &mut [u8]| {
            file.read_exact(place).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => differs("it has another size"),
                _ => LayerError::from(IoError::new("read", root.full(path), error)),
            })?;
            hasher.update(place);
            Ok(())
        };
        match usize::try_from(size) {
            Ok(small) if small < PIECE => {
                let start = self.buffer.len();
                self.buffer.resize(start + small, 0);
                fill(&mut self.buffer[start..])?;
            }
            _ => self.large(size, &mut fill)?,
        }
        if hasher.finish() != content {
            return Err(differs("it has other bytes"));
        }
        tar_writer::pad(size, &mut self.buffer);
        Ok(())
    }
}

/// Writes several stacks as one tar, each in a directory of its own, which must be different; see
/// [`crate::Stack::write_tar`].
pub fn write_tars(
    parts: &[(TreePath, &crate::Stack)],
    mut out: impl Write,
    clamp_mtime: Option<i64>,
) -> Result<(), LayerError> {
    let mut out = &mut out;
    let mut out = Blocks::new(&mut out);
    for (dir, stack) in parts {
        let entry = Entry::new_dir(dir.clone());
        if !dir.is_root() {
            let member = Member { entry: &entry, kind: &entry.kind, link: None, clamp: clamp_mtime };
            tar_writer::header(&member, &mut out.buffer);
        }
        stack.write_members(dir, &mut out, clamp_mtime)?;
    }
    tar_writer::end(&mut out.buffer);
    out.pass(true)
}

impl crate::Stack {
    /// Writes all files of the stack as one uncompressed tar, without whiteouts, in the order of
    /// their paths. Times after `clamp_mtime` seconds since 1970 become it.
    pub fn write_tar(&self, out: impl Write, clamp_mtime: Option<i64>) -> Result<(), LayerError> {
        write_tars(&[(TreePath::root(), self)], out, clamp_mtime)
    }

    fn write_members(
        &self,
        dir: &TreePath,
        out: &mut Blocks<'_>,
        clamp_mtime: Option<i64>,
    ) -> Result<(), LayerError> {
        let opened: Vec<Option<OpenedFiles>> =
            self.layers().iter().map(|layer| layer.files.open()).collect::<Result<_, _>>()?;
        let mut first_met: HashMap<(usize, &crate::TreePath), &crate::TreePath> = HashMap::new();
        for found in self.walk(&crate::TreePath::root()) {
            let entry = found.entry;
            if entry.path.is_root() {
                continue;
            }
            let file = found.file();
            // It may stand under another name first, or its first name may be hidden.
            let first = found.first_name();
            let link = (!entry.is_dir())
                .then(|| *first_met.entry((found.layer, &first.path)).or_insert(&entry.path))
                .filter(|met| **met != entry.path);
            let moved = Entry { path: dir.join(&entry.path), ..entry.clone() };
            let link_to = link.map(|link| dir.join(link));
            let member =
                Member { entry: &moved, kind: &first.kind, link: link_to.as_ref(), clamp: clamp_mtime };
            tar_writer::header(&member, &mut out.buffer);
            if let (Some(file), None) = (file, link)
                && file.size > 0
            {
                let files = opened.get(found.layer).and_then(Option::as_ref);
                let files = files.ok_or(LayerError::NotUnpacked { path: entry.path.clone() })?;
                out.file(files, file.entry)?;
            }
            out.pass(false)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "tests/pack.rs"]
mod tests;
