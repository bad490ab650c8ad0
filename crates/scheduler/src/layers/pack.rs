//! Packs the layers of the targets while later steps still run.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use dbuild_digest::{BlobDigest, SnapshotId};
use dbuild_events::{Event, EventSink};
use dbuild_layer::{Compression, LayerFiles, PackOptions, PackedTar, TocInfo, pack, repack};
use dbuild_plan::{BaseImage, Plan, StepId};
use dbuild_store::{Incoming, IncomingBlob, PackKey, PackedLayer, Snapshot, Store};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::error::StepError;
use crate::layers::remote::RemoteLayers;

/// Starts packing as soon as a layer is there, and is asked for the results at the end.
pub(crate) struct Packer {
    store: Store,
    events: Arc<dyn EventSink>,
    options: PackOptions,
    /// Steps whose layers are part of an image that will be exported.
    wanted: HashSet<StepId>,
    runtime: Handle,
    /// Compressing more layers at a time than there are cores only takes memory.
    limit: Arc<Semaphore>,
    layers: Mutex<HashMap<StepId, PackTask>>,
    bases: Mutex<Vec<(StepId, Arc<BaseImage>)>>,
    remote: Arc<RemoteLayers>,
}

/// A layer that is packed, or being packed.
struct PackTask {
    task: JoinHandle<Result<PackedLayer, StepError>>,
    /// What is written of it meanwhile.
    incoming: Incoming,
    /// Set once it is packed.
    packed: Arc<OnceLock<(BlobDigest, u64)>>,
    /// Tells of it then.
    layer: watch::Receiver<Option<PackedLayer>>,
}

impl Packer {
    pub(crate) fn new(
        store: Store,
        events: Arc<dyn EventSink>,
        options: PackOptions,
        plan: &Plan,
        runtime: Handle,
        remote: Arc<RemoteLayers>,
    ) -> Self {
        let lasts = plan.targets().iter().filter_map(|target| plan.stage(target.stage).last);
        let wanted = lasts.flat_map(|last| plan.chain(last)).collect();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            store,
            events,
            options,
            wanted,
            runtime,
            limit: Arc::new(Semaphore::new(cores)),
            layers: Mutex::default(),
            bases: Mutex::default(),
            remote,
        }
    }

    /// Begins to pack a step's layer, if a target has it.
    pub(crate) fn add_layer(&self, step: StepId, snapshot: &Snapshot, files: &LayerFiles) {
        if !self.wanted.contains(&step) {
            return;
        }
        let (store, events, limit) = (self.store.clone(), Arc::clone(&self.events), Arc::clone(&self.limit));
        let (options, snapshot, files) = (self.options, snapshot.clone(), files.clone());
        let (incoming, packed) = (Incoming::default(), Arc::new(OnceLock::new()));
        let (shown, known) = (incoming.clone(), Arc::clone(&packed));
        let (remote, (tell, layer)) = (Arc::clone(&self.remote), watch::channel(None));
        let task = self.runtime.spawn(async move {
            let key = pack_key(&options);
            if let Some(packed) = store.packed(&snapshot.id, &key) {
                let _ = known.set((packed.digest, packed.size));
                tell.send_replace(Some(packed.clone()));
                shown.close();
                return Ok(packed);
            }
            let _permit = limit.acquire_owned().await;
            let writes = shown.clone();
            let work = tokio::task::spawn_blocking(move || {
                let packed = match remote.packed(&snapshot.id)? {
                    Some(layer) => repack_one(&store, &layer, &options)?,
                    None => packed_layer(&store, &snapshot, &files, &options, &writes)?,
                };
                let _ = known.set((packed.digest, packed.size));
                store.put_packed(&snapshot.id, &key, &packed)?;
                events.emit(Event::LayerPacked { step: step.0, digest: packed.digest, size: packed.size });
                Ok(packed)
            });
            let done = work.await.unwrap_or(Err(StepError::Stopped));
            if let Ok(packed) = &done {
                tell.send_replace(Some(packed.clone()));
            }
            // A reader that waits for it to begin would wait for ever.
            shown.close();
            done
        });
        let packing = PackTask { task, incoming, packed, layer };
        self.layers.lock().unwrap_or_else(PoisonError::into_inner).insert(step, packing);
    }

    /// The layer of a step, packed or not.
    pub(crate) fn awaited(&self, step: StepId) -> Option<IncomingBlob> {
        let layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let PackTask { incoming, packed, .. } = layers.get(&step)?;
        Some(match packed.get() {
            Some((digest, size)) => IncomingBlob::There(*digest, *size),
            None => IncomingBlob::Coming(incoming.clone()),
        })
    }

    /// The layer of a step when it is packed; `None` where no target has it.
    pub(crate) fn awaited_layer(&self, step: StepId) -> Option<watch::Receiver<Option<PackedLayer>>> {
        let layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        layers.get(&step).map(|packing| packing.layer.clone())
    }

    /// Whether a target has the layer of a step.
    pub(crate) fn is_wanted(&self, step: StepId) -> bool {
        self.wanted.contains(&step)
    }

    /// Whether a layer need not be packed: no target has it, or it is there.
    pub(crate) fn is_done(&self, step: StepId, snapshot: &SnapshotId) -> bool {
        !self.wanted.contains(&step) || self.store.packed(snapshot, &pack_key(&self.options)).is_some()
    }

    /// Records the base image of a target; its blobs are reused in the target's manifest.
    pub(crate) fn add_base(&self, step: StepId, image: &Arc<BaseImage>) {
        if self.wanted.contains(&step) {
            self.bases.lock().unwrap_or_else(PoisonError::into_inner).push((step, Arc::clone(image)));
        }
    }

    /// The images that targets begin with.
    pub(crate) fn bases(&self) -> Vec<(StepId, Arc<BaseImage>)> {
        self.bases.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for all layers.
    pub(crate) async fn finish(&self) -> Result<HashMap<StepId, PackedLayer>, (StepId, StepError)> {
        let tasks = std::mem::take(&mut *self.layers.lock().unwrap_or_else(PoisonError::into_inner));
        let mut packed = HashMap::with_capacity(tasks.len());
        for (step, PackTask { task, .. }) in tasks {
            let layer = task.await.unwrap_or(Err(StepError::Stopped)).map_err(|error| (step, error))?;
            packed.insert(step, layer);
        }
        Ok(packed)
    }
}

/// What a packed layer depends on besides its snapshot.
fn pack_key(options: &PackOptions) -> PackKey {
    let PackOptions { compression, level, clamp_mtime } = options;
    let level = level.map_or("default".to_owned(), |level| level.to_string());
    let clamp = clamp_mtime.map_or("none".to_owned(), |clamp| clamp.to_string());
    PackKey(format!("{}-{level}-{clamp}", compression_name(*compression)))
}

/// A compression as keys name it: these words are kept in stores.
const fn compression_name(compression: Compression) -> &'static str {
    match compression {
        // "gzip" was a chain of members: such layers are packed again.
        Compression::Gzip => "gzip1",
        Compression::Estargz => "estargz",
        Compression::Zstd => "zstd",
        Compression::Uncompressed => "uncompressed",
    }
}

/// The layers of a base image with the compression that is asked for; those that have it stay as
/// they are.
pub(crate) fn repack_base(
    store: &Store,
    layers: &[PackedLayer],
    options: &PackOptions,
) -> Result<Vec<PackedLayer>, StepError> {
    layers.iter().map(|layer| repack_one(store, layer, options)).collect()
}

/// One layer with the compression that is asked for; it stays as it is where it has that.
fn repack_one(store: &Store, layer: &PackedLayer, options: &PackOptions) -> Result<PackedLayer, StepError> {
    let is_packed_so = match options.compression {
        Compression::Estargz => layer.annotations.contains_key(TocInfo::DIGEST),
        other => Compression::of_media_type(&layer.media_type) == other,
    };
    if is_packed_so {
        return Ok(layer.clone());
    }
    let key = PackKey(format!("of-blob-{}", pack_key(options).0));
    // The layer need not be unpacked: its blob stands for the snapshot.
    let of_blob = SnapshotId::from_text(layer.digest.hex());
    if let Some(known) = store.packed(&of_blob, &key) {
        return Ok(known);
    }
    let mut blob = store.unhashed_blob_writer()?;
    let members = store.gzip_blocks();
    let packed = repack(store.open_blob(&layer.digest)?, options, &members, &mut blob)?;
    if packed.source != layer.diff_id {
        return Err(StepError::BadLayer {
            reference: "the base image".to_owned(),
            digest: layer.digest.to_string(),
            problem: format!(
                "its content is {}, and the image's config says {}",
                packed.source, layer.diff_id
            ),
        });
    }
    blob.commit_as(packed.digest)?;
    members.keep(&packed.digest);
    let packed = layer_of(&packed, options);
    store.put_packed(&of_blob, &key, &packed)?;
    Ok(packed)
}

/// The packed layer of a step that no target has, for other machines; one that is packed already is
/// not packed again. Blocks.
pub fn pack_layer(
    store: &Store,
    snapshot: &Snapshot,
    files: &LayerFiles,
    options: &PackOptions,
) -> Result<PackedLayer, StepError> {
    let key = pack_key(options);
    if let Some(packed) = store.packed(&snapshot.id, &key) {
        return Ok(packed);
    }
    let incoming = Incoming::default();
    let packed = packed_layer(store, snapshot, files, options, &incoming);
    incoming.close();
    let packed = packed?;
    store.put_packed(&snapshot.id, &key, &packed)?;
    Ok(packed)
}

fn packed_layer(
    store: &Store,
    snapshot: &Snapshot,
    files: &LayerFiles,
    options: &PackOptions,
    incoming: &Incoming,
) -> Result<PackedLayer, StepError> {
    // Hashed once: where it is compressed.
    let mut blob = store.unhashed_blob_writer()?.shown(incoming)?;
    let members = store.gzip_blocks();
    let packed = pack(&snapshot.tree, files, options, &members, &mut blob)?;
    blob.commit_as(packed.digest)?;
    members.keep(&packed.digest);
    Ok(layer_of(&packed, options))
}

fn layer_of(packed: &PackedTar, options: &PackOptions) -> PackedLayer {
    PackedLayer {
        diff_id: packed.diff_id,
        digest: packed.digest,
        size: packed.size,
        media_type: options.compression.media_type().to_owned(),
        annotations: packed.toc.iter().flat_map(TocInfo::annotations).collect(),
    }
}

#[cfg(test)]
mod tests {
    use dbuild_layer::{Compression, PackOptions};

    use super::pack_key;

    #[test]
    fn pack_keys_are_those_that_stores_have() {
        let key =
            |compression, level, clamp_mtime| pack_key(&PackOptions { compression, level, clamp_mtime }).0;
        assert_eq!(key(Compression::Gzip, None, None), "gzip1-default-none");
        assert_eq!(key(Compression::Estargz, Some(9), None), "estargz-9-none");
        assert_eq!(key(Compression::Zstd, Some(3), Some(0)), "zstd-3-0");
        assert_eq!(key(Compression::Uncompressed, None, Some(1)), "uncompressed-default-1");
    }
}
