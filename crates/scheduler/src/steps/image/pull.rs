//! One layer of a base image: unpacked while it comes.
//!
//! The downloading thread writes and hashes the blob; another follows it through the file
//! ([`Incoming`]), decompresses, hashes the tar and unpacks into a draft. Nothing of a draft is
//! seen by anybody before the blob is whole, its digest is that of the manifest, and the tar's
//! digest is that of the image's config. A download that has to begin anew takes its draft with it.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use dbuild_digest::{BlobDigest, BlobHasher};
use dbuild_events::{Event, EventSink};
use dbuild_layer::{LayerError, UnpackLimits, UnpackedLayer, decompress, unpack};
use dbuild_plan::{BaseImage, LayerDescriptor, StepId};
use dbuild_store::{Incoming, Snapshot, SnapshotDraft, Store};

use crate::error::StepError;
use crate::schedule::cancel::Cancel;

/// A layer to pull.
pub(crate) struct Puller<'a> {
    pub(crate) store: &'a Store,
    pub(crate) image: &'a BaseImage,
    pub(crate) layer: &'a LayerDescriptor,
    pub(crate) progress: &'a Progress<'a>,
    /// Signals that end the work: the build's own, and that of another layer of the image that
    /// failed.
    pub(crate) stop: [Cancel; 2],
}

/// A layer that was pulled.
pub(crate) enum PulledLayer {
    /// It was unpacked already.
    Known(Snapshot),
    /// It is ready to be completed on the layers below it.
    Unpacked(SnapshotDraft, UnpackedLayer),
}

impl Puller<'_> {
    /// Unpacks a blob from its beginning to its end.
    pub(crate) fn unpack(&self, blob: impl Read + Send) -> Result<PulledLayer, StepError> {
        let bad = |problem: String| self.bad(problem);
        let draft = self.store.new_snapshot()?;
        let blob = StoppableReader { blob, puller: self };
        let tar = decompress(blob).map_err(|error| bad(error.to_string()))?;
        let unpacked = unpack(tar, &draft.fs_dir(), self.store.flavor(), &UnpackLimits::default())
            .map_err(|error| self.cause(error))?;
        self.compare(&unpacked.diff_id)?;
        Ok(PulledLayer::Unpacked(draft, unpacked))
    }

    /// Compares the content of a blob with what the image's config says, and keeps nothing of it.
    pub(crate) fn hash(&self, blob: impl Read + Send) -> Result<(), StepError> {
        let blob = StoppableReader { blob, puller: self };
        let mut tar = decompress(blob).map_err(|error| self.bad(error.to_string()))?;
        let mut hasher = BlobHasher::default();
        let mut buffer = vec![0; 256 << 10];
        loop {
            match tar.read(&mut buffer) {
                Ok(0) => return self.compare(&hasher.finish()),
                Ok(count) => hasher.update(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.bad(error.to_string())),
            }
        }
    }

    /// Compares the digest of the layer's content with what the image's config says.
    pub(crate) fn compare(&self, found: &BlobDigest) -> Result<(), StepError> {
        let expected = self.layer.diff_id;
        if *found == expected {
            return Ok(());
        }
        Err(self.bad(format!("its content is {found}, and the image's config says {expected}")))
    }

    /// Whose fault it is that a layer cannot be unpacked: the archive's, or that of the disk here.
    pub(crate) fn cause(&self, error: LayerError) -> StepError {
        match error {
            error if self.is_stopped() => {
                tracing::debug!("a layer was not unpacked: {error}");
                StepError::Stopped
            }
            LayerError::Io { .. } | LayerError::Output(_) => StepError::Layer(error),
            other => self.bad(other.to_string()),
        }
    }

    fn bad(&self, problem: String) -> StepError {
        match self.is_stopped() {
            true => StepError::Stopped,
            false => bad_layer(self.image, self.layer, problem),
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.iter().any(Cancel::is_canceled)
    }
}

/// Bytes of all layers together, reported from several threads.
pub(crate) struct Progress<'a> {
    step: StepId,
    events: &'a dyn EventSink,
    done: AtomicU64,
    total: u64,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(step: StepId, image: &BaseImage, events: &'a dyn EventSink) -> Self {
        let total = image.layers.iter().map(|layer| layer.size).sum();
        Self { step, events, done: AtomicU64::new(0), total }
    }

    pub(crate) fn add(&self, bytes: u64) {
        let current = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let (step, what, total) = (self.step.0, "pulling".to_owned(), Some(self.total));
        self.events.emit(Event::StepProgress { step, what, current, total });
    }
}

pub(crate) fn bad_layer(image: &BaseImage, layer: &LayerDescriptor, problem: String) -> StepError {
    StepError::BadLayer { reference: image.reference.clone(), digest: layer.digest.to_string(), problem }
}

/// Reads what a download writes, as `read` does. `None`: nothing was written, or it did not become
/// the blob.
pub(crate) fn read_incoming<T>(
    incoming: &Incoming,
    read: &(dyn Fn(&mut (dyn Read + Send)) -> Result<T, StepError> + Sync),
) -> Option<Result<T, StepError>> {
    let mut attempt = 0;
    while let Some(mut reader) = incoming.next(attempt) {
        attempt = reader.attempt();
        let made = read(&mut reader);
        // An error counts if it is one of the right bytes.
        if incoming.becomes_whole(attempt) {
            return Some(made);
        }
    }
    None
}

/// Reads until the work is stopped.
struct StoppableReader<'a, R> {
    blob: R,
    puller: &'a Puller<'a>,
}

impl<R: Read> Read for StoppableReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.puller.is_stopped() {
            return Err(std::io::Error::other("it was stopped"));
        }
        self.blob.read(buffer)
    }
}
