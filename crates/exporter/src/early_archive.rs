//! An archive that is begun while the image is built.
//!
//! The layers of the base are known, and most often there, before the first step runs, and the
//! others come one by one. So they are written to the archive beside the build, into a file without
//! a name: no step can see it, and nothing is left of it if the build fails, whichever process is
//! killed. When the image is known the rest is added; if it has other layers than were expected,
//! the archive is written anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use dbuild_digest::BlobDigest;
use dbuild_store::{IncomingBlob, Store};

use crate::destination::FileWriter;
use crate::image_blobs::ImageBlobs;
use crate::layout::Archive;
use crate::{Destination, OutputKind, OutputSpec};

/// The beginning of an archive. Dropped, it is given up.
#[derive(Debug)]
pub struct EarlyArchive {
    destination: Destination,
    is_unwanted: Arc<AtomicBool>,
    layers: Sender<Option<IncomingBlob>>,
    writing: Option<JoinHandle<Option<Beginning>>>,
}

/// What was written, and of which blobs.
struct Beginning {
    archive: Archive<FileWriter>,
    blobs: Vec<BlobDigest>,
}

impl EarlyArchive {
    /// Begins an output. `None` if it is no archive that is written to a file.
    pub fn begin(store: &Store, spec: &OutputSpec) -> Option<Self> {
        let (OutputKind::Oci { tar: true } | OutputKind::Docker { tar: true }) = spec.kind else {
            return None;
        };
        let destination = spec.dest.clone().filter(|dest| matches!(dest, Destination::Path(_)))?;
        let is_unwanted = Arc::new(AtomicBool::new(false));
        let (layers, awaited) = channel();
        let work = {
            let (store, destination, is_unwanted) =
                (store.clone(), destination.clone(), Arc::clone(&is_unwanted));
            move || write(&store, &destination, is_unwanted, &awaited)
        };
        let writing = std::thread::Builder::new().name("archive".to_owned()).spawn(work).ok()?;
        Some(Self { destination, is_unwanted, layers, writing: Some(writing) })
    }

    /// Receives the layers that the image is going to have, from the lowest on.
    pub fn listener(&self) -> impl Fn(IncomingBlob) + Send + Sync + use<> {
        let layers = self.layers.clone();
        // One that has come to its end listens no more.
        move |layer| drop(layers.send(Some(layer)))
    }

    /// The archive as far as it is, if it is the beginning of this image's.
    pub(crate) fn take(
        mut self,
        destination: &Destination,
        contents: &ImageBlobs,
    ) -> Option<Archive<FileWriter>> {
        if *destination != self.destination {
            return None;
        }
        let _ = self.layers.send(None);
        let Beginning { mut archive, blobs } = self.writing.take()?.join().ok().flatten()?;
        if !contents.blobs.iter().map(|(digest, _)| digest).take(blobs.len()).eq(&blobs) {
            return None;
        }
        archive.take_over();
        Some(archive)
    }
}

impl Drop for EarlyArchive {
    fn drop(&mut self) {
        // Once it was taken, nothing is written any more but what is wanted.
        if self.writing.is_some() {
            self.is_unwanted.store(true, Ordering::Relaxed);
            let _ = self.layers.send(None);
        }
    }
}

/// Writes one layer after the other, until one is missing. Errors are not reported here: the
/// archive is then written again from its beginning, and they are reported there.
fn write(
    store: &Store,
    destination: &Destination,
    is_unwanted: Arc<AtomicBool>,
    awaited: &Receiver<Option<IncomingBlob>>,
) -> Option<Beginning> {
    let mut archive = Archive::begin(FileWriter::begin(destination, is_unwanted)?).ok()?;
    let mut blobs = Vec::new();
    while let Ok(Some(layer)) = awaited.recv() {
        match layer {
            IncomingBlob::There(digest, size) => {
                if store.has_blob(&digest).is_none() {
                    break;
                }
                archive.blob(store, &digest, size).ok()?;
                blobs.push(digest);
            }
            IncomingBlob::Coming(incoming) => {
                let Some(mut reader) = incoming.next(0) else { break };
                blobs.push(archive.coming_blob(&mut reader).ok()?);
            }
        }
    }
    Some(Beginning { archive, blobs })
}
