//! Pulled layers.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use dbuild_digest::{BlobDigest, BlobHasher};

use crate::archive::chunks::ChunkReader;
use crate::archive::extract::{self, Archive, ArchiveApplier, ArchivePurpose};
use crate::archive::limits::UnpackLimits;
use crate::disk::materialize::place;
use crate::tree::layer_builder::LayerBuilder;
use crate::{Entry, LayerError, OverlayFormat, Stack, Tree, TreePath, WrittenLayer};

/// A layer that was read, and waits for the layers below it: hardlinks may lead into them, and so
/// may symlinks on the way to an entry.
#[derive(Debug)]
pub struct UnpackedLayer {
    /// Digest of the uncompressed archive. The caller compares it with what the image's config
    /// says.
    pub diff_id: BlobDigest,
    archive: Archive,
    out: PathBuf,
    form: OverlayFormat,
}

/// Reads a layer's tar (uncompressed; see [`crate::archive::extract::decompress`]) to its end into
/// a directory that is empty. Ok means: every file's bytes are there; [`UnpackedLayer::complete`]
/// then puts them in their places. Decompression and hashing run beside the writing. After an error
/// the directory holds what was written so far, and is the caller's to remove.
pub fn unpack(
    reader: impl Read + Send,
    out_dir: &Path,
    form: impl Into<OverlayFormat>,
    limits: &UnpackLimits,
) -> Result<UnpackedLayer, LayerError> {
    let (full, chunks) = mpsc::sync_channel::<std::io::Result<Vec<u8>>>(8);
    let (diff_id, archive) = std::thread::scope(|scope| {
        let hashing = scope.spawn(move || feed(reader, &full));
        let archive = extract::read(ChunkReader::new(chunks), out_dir, 0, limits, ArchivePurpose::Layer);
        (hashing.join(), archive)
    });
    let diff_id = diff_id.unwrap_or_else(|panic| std::panic::resume_unwind(panic)).finish();
    let archive = archive?;
    Ok(UnpackedLayer { diff_id, archive, out: out_dir.to_owned(), form: form.into() })
}

impl UnpackedLayer {
    /// Finishes the layer on top of the layers below it, which must be complete. Whiteouts hide
    /// what is in lower layers only.
    pub fn complete(self, lower: &Stack) -> Result<WrittenLayer, LayerError> {
        self.complete_as(lower, None)
    }

    /// [`UnpackedLayer::complete`] for a layer that was packed here: its index knows times better
    /// than the archive.
    pub fn complete_as(self, lower: &Stack, known: Option<&Tree>) -> Result<WrittenLayer, LayerError> {
        let mut draft = LayerBuilder::new(Some(lower));
        let root = TreePath::root();
        let mut applied = ArchiveApplier::new(&mut draft, &root, None, ArchivePurpose::Layer);
        for operation in self.archive.operations {
            applied.apply(operation)?;
        }
        if let Some(known) = known {
            draft.take_times(known);
        }
        let top =
            lower.lookup(&root).map_or_else(|| Entry::new_dir(root.clone()), |found| found.entry.clone());
        place(draft, &self.out, self.form, &top)
    }
}

/// Reads to the end, hashes, and passes on. Ends early when nobody listens any more.
fn feed(mut reader: impl Read, full: &mpsc::SyncSender<std::io::Result<Vec<u8>>>) -> BlobHasher {
    let mut hasher = BlobHasher::default();
    loop {
        let mut chunk = vec![0; 256 << 10];
        let mut filled = 0;
        let mut fault = None;
        while filled < chunk.len() && fault.is_none() {
            match reader.read(&mut chunk[filled..]) {
                Ok(0) => break,
                Ok(got) => filled += got,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => fault = Some(error),
            }
        }
        let last = filled < chunk.len();
        chunk.truncate(filled);
        hasher.update(&chunk);
        if (filled > 0 && full.send(Ok(chunk)).is_err()) || (fault.is_none() && last) {
            return hasher;
        }
        if let Some(error) = fault {
            // The reader fails with it; if nobody does, it failed before.
            let _ = full.send(Err(error));
            return hasher;
        }
    }
}

#[cfg(test)]
#[path = "tests/unpack.rs"]
mod tests;
