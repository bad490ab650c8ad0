//! Base images, pulled when the first step needs their files, and not before: a build that
//! finds every step in the cache pulls and unpacks nothing.

pub(crate) mod pull;

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Instant;

use dbuild_digest::{BlobDigest, Framed, StepKey};
use dbuild_events::{Event, EventSink};
use dbuild_layer::{LayerError, Stack, StackLayer};
use dbuild_oci::chain_ids;
use dbuild_plan::{BaseImage, LayerDescriptor, StepId};
use dbuild_store::{Incoming, Snapshot, Store};
use tokio::runtime::Handle;

use crate::BlobSource;
use crate::error::StepError;
use crate::schedule::cancel::{Cancel, Canceller};
use crate::steps::image::pull::{Progress, PulledLayer, Puller, bad_layer, read_incoming};

/// Layers of one image that are pulled at the same time: as many as there are connections to a
/// registry.
const AT_A_TIME: usize = 6;

/// What is done with the bytes of a layer's blob.
type ReadLayer<'a, T> = dyn Fn(&mut (dyn Read + Send)) -> Result<T, StepError> + Sync + 'a;

/// The layers of one image; locked while they are pulled.
type Slot = Arc<Mutex<Option<Arc<Vec<Snapshot>>>>>;

/// The layers of base images as snapshots. Each image is unpacked once, in this build and between
/// processes.
pub(crate) struct Bases {
    store: Store,
    blobs: Arc<dyn BlobSource>,
    events: Arc<dyn EventSink>,
    runtime: Handle,
    cancel: Cancel,
    /// By the digest of the image's manifest: another image may claim the same chain over other
    /// blobs.
    known: Mutex<HashMap<BlobDigest, Slot>>,
    /// Image steps that were shown to the user.
    announced: Mutex<HashMap<StepId, ()>>,
}

impl Bases {
    pub(crate) fn new(
        store: Store,
        blobs: Arc<dyn BlobSource>,
        events: Arc<dyn EventSink>,
        runtime: Handle,
        cancel: Cancel,
    ) -> Self {
        Self { store, blobs, events, runtime, cancel, known: Mutex::default(), announced: Mutex::default() }
    }

    /// The layers of an image, unpacked, lowest first. `step` is the one that names the image: what
    /// is done is shown as its work.
    pub(crate) fn layers(&self, step: StepId, image: &BaseImage) -> Result<Arc<Vec<Snapshot>>, StepError> {
        if image.layers.is_empty() {
            return Ok(Arc::default());
        }
        // A second caller waits here for the first.
        let slot = Arc::clone(lock(&self.known).entry(image.digest).or_default());
        let mut slot = lock(&slot);
        if let Some(known) = &*slot {
            return Ok(Arc::clone(known));
        }
        let layers = match present(&self.store, image) {
            Some(layers) => layers,
            // It is the image's trouble, whichever step asked for its files.
            None => self.pull_and_unpack(step, image, &chains_of(image)).map_err(|error| match error {
                StepError::Stopped => StepError::Stopped,
                error => StepError::OfImage(step, Box::new(error)),
            })?,
        };
        let layers = Arc::new(layers);
        *slot = Some(Arc::clone(&layers));
        Ok(layers)
    }

    /// Whether nothing would have to be pulled or unpacked.
    pub(crate) fn is_present(&self, image: &BaseImage) -> bool {
        self.found(image).is_some()
    }

    /// The indexes of an image's layers, if it is unpacked.
    pub(crate) fn if_present(&self, image: &BaseImage) -> Option<Vec<Arc<dbuild_layer::Tree>>> {
        let layers = self.found(image)?;
        Some(layers.iter().map(|layer| Arc::clone(&layer.tree)).collect())
    }

    /// The layers of an image, if it is unpacked. What was found once is not looked up and read
    /// again in this build.
    fn found(&self, image: &BaseImage) -> Option<Arc<Vec<Snapshot>>> {
        if image.layers.is_empty() {
            return Some(Arc::default());
        }
        let slot = Arc::clone(lock(&self.known).entry(image.digest).or_default());
        // Nobody waits for one that is being pulled.
        let Ok(mut slot) = slot.try_lock() else { return present(&self.store, image).map(Arc::new) };
        if slot.is_none() {
            *slot = present(&self.store, image).map(Arc::new);
        }
        slot.clone()
    }

    /// Marks the image's work as shown; false where it was already.
    pub(crate) fn announce(&self, step: StepId) -> bool {
        lock(&self.announced).insert(step, ()).is_none()
    }

    /// Pulls and unpacks what is missing, all layers side by side, then completes them from the
    /// lowest up.
    fn pull_and_unpack(
        &self,
        step: StepId,
        image: &BaseImage,
        chains: &[BlobDigest],
    ) -> Result<Vec<Snapshot>, StepError> {
        let key = chain_key(chains);
        let cancel = self.cancel.clone();
        let Some(_lock) = self.store.lock_key_unless(&key, &|| cancel.is_canceled())? else {
            return Err(StepError::Stopped);
        };
        if let Some(layers) = present(&self.store, image) {
            return Ok(layers);
        }
        let began = Instant::now();
        let shown = self.announce(step);
        if shown {
            self.events.emit(Event::StepStarted { step: step.0 });
        }
        let progress = Progress::new(step, image, &*self.events);
        let layers = self.bring_all(image, chains, &progress)?;
        if shown {
            let files = layers.iter().map(|layer| layer.tree.entries().len() as u64).sum();
            let layer_bytes = layers.iter().map(|layer| layer.tree.unpacked_size()).sum();
            let duration_ms = began.elapsed().as_millis() as u64;
            self.events.emit(Event::StepFinished {
                step: step.0,
                key,
                duration_ms,
                layer_bytes,
                files,
                snapshot: None,
            });
        }
        Ok(layers)
    }

    /// Some layers at a time; each is put in place as soon as those below it are.
    fn bring_all(
        &self,
        image: &BaseImage,
        chains: &[BlobDigest],
        progress: &Progress<'_>,
    ) -> Result<Vec<Snapshot>, StepError> {
        let next = AtomicUsize::new(0);
        // One that fails ends the others.
        let (stop, stopped) = Canceller::new();
        let (sender, made) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..image.layers.len().min(AT_A_TIME) {
                let (sender, next, stopped) = (sender.clone(), &next, stopped.clone());
                scope.spawn(move || {
                    while !stopped.is_canceled() {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let (Some(layer), Some(chain)) = (image.layers.get(index), chains.get(index)) else {
                            return;
                        };
                        let puller = self.puller(image, layer, progress, &stopped);
                        let _ = sender.send((index, self.one_layer(&puller, chain)));
                    }
                });
            }
            drop(sender);
            let completed = self.complete(image, chains, made);
            if completed.is_err() {
                stop.cancel();
            }
            completed
        })
    }

    /// Completes layers from the lowest up, in whatever order they come.
    fn complete(
        &self,
        image: &BaseImage,
        chains: &[BlobDigest],
        made: mpsc::Receiver<(usize, Result<PulledLayer, StepError>)>,
    ) -> Result<Vec<Snapshot>, StepError> {
        let mut waiting: HashMap<usize, PulledLayer> = HashMap::new();
        let mut layers: Vec<Snapshot> = Vec::new();
        let mut stack = Stack::default();
        for (layer, chain) in image.layers.iter().zip(chains) {
            let made = loop {
                if let Some(made) = waiting.remove(&layers.len()) {
                    break made;
                }
                let (index, made) =
                    made.recv().map_err(|_| StepError::Internal("a layer was not unpacked"))?;
                waiting.insert(index, made?);
            };
            let snapshot = match made {
                PulledLayer::Known(snapshot) => snapshot,
                PulledLayer::Unpacked(draft, unpacked) => {
                    let made = unpacked.complete(&stack).map_err(|error| match error {
                        LayerError::Io(_) | LayerError::Output(_) => StepError::Layer(error),
                        other => bad_layer(image, layer, other.to_string()),
                    })?;
                    for text in made.notes {
                        self.events.emit(Event::Note { text });
                    }
                    self.store.publish_base_snapshot(draft, chain, made.tree)?
                }
            };
            stack = stack.with(StackLayer { tree: Arc::clone(&snapshot.tree), files: snapshot.files() });
            layers.push(snapshot);
        }
        Ok(layers)
    }

    fn puller<'a>(
        &'a self,
        image: &'a BaseImage,
        layer: &'a LayerDescriptor,
        progress: &'a Progress<'a>,
        stopped: &Cancel,
    ) -> Puller<'a> {
        Puller { store: &self.store, image, layer, progress, stop: [self.cancel.clone(), stopped.clone()] }
    }

    fn one_layer(&self, puller: &Puller<'_>, chain: &BlobDigest) -> Result<PulledLayer, StepError> {
        if let Some(snapshot) = unpacked(&self.store, chain) {
            // It has the content that the image claims; whether the image's blob has, too, is
            // another question.
            self.verify(puller)?;
            return Ok(PulledLayer::Known(snapshot));
        }
        self.read_layer(puller, &|blob| puller.unpack(blob))
    }

    /// Makes sure that a layer's blob has the content that the image's config claims. Reads (and,
    /// where it is not here, fetches) the blob if that was never looked at.
    fn verify(&self, puller: &Puller<'_>) -> Result<(), StepError> {
        match self.store.diff_id(&puller.layer.digest) {
            Some(known) => puller.compare(&known),
            None => self.read_layer(puller, &|blob| puller.hash(blob)),
        }
    }

    /// Reads a layer's blob, while it comes if it is not here. `read` fails if the content is not
    /// what the image claims.
    fn read_layer<T: Send>(&self, puller: &Puller<'_>, read: &ReadLayer<'_, T>) -> Result<T, StepError> {
        let mut made = None;
        if self.store.has_blob(&puller.layer.digest).is_none() {
            made = self.pull(puller, read)?;
        }
        let made = match made {
            Some(made) => made,
            // It is here already, or somebody else has brought it.
            None => {
                let mut blob = self.store.open_blob(&puller.layer.digest)?;
                let made = read(&mut blob)?;
                // Its bytes are compared with its digest at their end, which a decompressor need
                // not reach.
                io::copy(&mut blob, &mut io::sink())
                    .map_err(|error| bad_layer(puller.image, puller.layer, error.to_string()))?;
                made
            }
        };
        self.store.put_diff_id(&puller.layer.digest, &puller.layer.diff_id)?;
        Ok(made)
    }

    /// Fetches a layer and reads it at the same time. `None`: it is in the store, and was not seen
    /// coming.
    fn pull<T: Send>(&self, puller: &Puller<'_>, read: &ReadLayer<'_, T>) -> Result<Option<T>, StepError> {
        let incoming = Incoming::default();
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| read_incoming(&incoming, read));
            let fetched = self.fetch(puller, Some(&incoming));
            incoming.close();
            let made = reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // Why it did not come says more than that it could not be unpacked.
            fetched.and_then(|()| made.transpose())
        })
    }

    fn fetch(&self, puller: &Puller<'_>, incoming: Option<&Incoming>) -> Result<(), StepError> {
        let Puller { image, layer, progress, .. } = puller;
        if self.store.has_blob(&layer.digest).is_some() {
            return Ok(());
        }
        let [mut cancel, mut stopped] = puller.stop.clone();
        let seen = AtomicU64::new(0);
        let tell = |bytes: u64| progress.add(bytes.saturating_sub(seen.swap(bytes, Ordering::Relaxed)));
        let (reference, media_type) = (&image.reference, &layer.media_type);
        let fetch = self.blobs.fetch(reference, &layer.digest, layer.size, media_type, incoming, &tell);
        self.runtime.block_on(async {
            tokio::select! {
                fetched = fetch => fetched.map_err(StepError::Pull),
                () = cancel.canceled() => Err(StepError::Stopped),
                () = stopped.canceled() => Err(StepError::Stopped),
            }
        })
    }

    /// Brings the blobs of an image that will be exported, where they are not here, and makes sure
    /// that they are what the image's config says.
    pub(crate) fn ensure_blobs(&self, step: StepId, image: &BaseImage) -> Result<(), StepError> {
        let is_here = |layer: &LayerDescriptor| {
            is_verified(&self.store, layer) && self.store.has_blob(&layer.digest).is_some()
        };
        let missing = !image.layers.iter().all(is_here);
        let shown = missing && self.announce(step);
        let began = Instant::now();
        if shown {
            self.events.emit(Event::StepStarted { step: step.0 });
        }
        let progress = Progress::new(step, image, &*self.events);
        let (_, stopped) = Canceller::new();
        let fetched = std::thread::scope(|scope| {
            let pullers = image.layers.iter().map(|layer| self.puller(image, layer, &progress, &stopped));
            let fetches: Vec<_> =
                pullers.map(|puller| scope.spawn(move || self.verified_blob(&puller))).collect();
            fetches.into_iter().try_for_each(|fetch| match fetch.join() {
                Ok(fetched) => fetched,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        });
        if shown && fetched.is_ok() {
            let duration_ms = began.elapsed().as_millis() as u64;
            let key = chain_key(&chains_of(image));
            self.events.emit(Event::StepFinished {
                step: step.0,
                key,
                duration_ms,
                layer_bytes: 0,
                files: 0,
                snapshot: None,
            });
        }
        fetched
    }

    fn verified_blob(&self, puller: &Puller<'_>) -> Result<(), StepError> {
        self.verify(puller)?;
        // One that was verified in the past may be gone.
        self.fetch(puller, None)
    }
}

/// The chain ids of an image's layers, lowest first.
pub(crate) fn chains_of(image: &BaseImage) -> Vec<BlobDigest> {
    chain_ids(image.layers.iter().map(|layer| layer.diff_id))
}

/// The layers of an image as snapshots, if all of them are unpacked, and its blobs are known to be
/// these layers.
pub(crate) fn present(store: &Store, image: &BaseImage) -> Option<Vec<Snapshot>> {
    let chains = chains_of(image);
    let layers = image.layers.iter().zip(&chains);
    layers.map(|(layer, chain)| unpacked(store, chain).filter(|_| is_verified(store, layer))).collect()
}

/// Whether the digests of a layer's blob and of its content were computed from the same bytes.
fn is_verified(store: &Store, layer: &LayerDescriptor) -> bool {
    store.diff_id(&layer.digest) == Some(layer.diff_id)
}

/// The layer with this chain id, if its files are here.
fn unpacked(store: &Store, chain: &BlobDigest) -> Option<Snapshot> {
    store.base_snapshot(chain).filter(|snapshot| snapshot.dir.is_some())
}

/// The lock under which an image is unpacked.
fn chain_key(chains: &[BlobDigest]) -> StepKey {
    let mut framed = Framed::new("unpack", 1);
    framed.bytes(chains.last().map_or(&[], |chain| chain.as_bytes()));
    StepKey::from_bytes(framed.finish())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
