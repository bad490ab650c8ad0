//! An archive that is begun while the image is built.
//!
//! The layers of the base are known, and most often there, before the first step runs. So they are written to the archive beside
//! the build, into a file without a name: no step can see it, and nothing is left of it if the build fails, whoever is
//! killed. When the image is known the rest is added; if it begins with other layers, the archive is written anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use dbuild_digest::BlobDigest;
use dbuild_store::Store;

use crate::contents::Contents;
use crate::destination::FileWriter;
use crate::layout::Archive;
use crate::{Destination, OutputKind, OutputSpec};

/// The beginning of an archive. Dropped, it is given up.
#[derive(Debug)]
pub struct Begun {
    destination: Destination,
    layers: Vec<(BlobDigest, u64)>,
    is_unwanted: Arc<AtomicBool>,
    writing: Option<JoinHandle<Option<Archive<FileWriter>>>>,
}

impl Begun {
    /// Begins an output whose image is going to have these lowest layers, by digest and size. `None` if it is no archive, or one
    /// that cannot be written unseen.
    pub fn begin(store: &Store, spec: &OutputSpec, layers: Vec<(BlobDigest, u64)>) -> Option<Self> {
        let (OutputKind::Oci { tar: true } | OutputKind::Docker { tar: true }) = spec.kind else {
            return None;
        };
        let destination = spec.dest.clone().filter(|dest| matches!(dest, Destination::Path(_)))?;
        if layers.is_empty() {
            return None;
        }
        let is_unwanted = Arc::new(AtomicBool::new(false));
        let work = {
            let (store, destination) = (store.clone(), destination.clone());
            let (layers, is_unwanted) = (layers.clone(), Arc::clone(&is_unwanted));
            move || write(&store, &destination, &layers, is_unwanted)
        };
        let thread = std::thread::Builder::new().name("archive".to_owned()).spawn(work);
        Some(Self { destination, layers, is_unwanted, writing: Some(thread.ok()?) })
    }

    /// The archive as far as it is, if it is the beginning of this image's.
    pub(crate) fn take(
        mut self,
        destination: &Destination,
        contents: &Contents,
    ) -> Option<Archive<FileWriter>> {
        if *destination != self.destination || !contents.blobs.starts_with(&self.layers) {
            return None;
        }
        self.writing.take()?.join().ok().flatten()
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        // Once it was taken there is nobody left to see this.
        if self.writing.is_some() {
            self.is_unwanted.store(true, Ordering::Relaxed);
        }
    }
}

/// As many of the layers as there are. Of trouble nothing is said here: the archive is written anew, and it is told then.
fn write(
    store: &Store,
    destination: &Destination,
    layers: &[(BlobDigest, u64)],
    is_unwanted: Arc<AtomicBool>,
) -> Option<Archive<FileWriter>> {
    let mut archive = Archive::begin(FileWriter::begin(destination, is_unwanted)?).ok()?;
    for (digest, size) in layers {
        if store.has_blob(digest).is_none() {
            break;
        }
        archive.blob(store, digest, *size).ok()?;
    }
    Some(archive)
}
