//! Results of other machines as this build uses them.
//!
//! Such a result becomes a record of the store whose layer has an index alone, as that of a COPY
//! which was never written (`unwritten.rs`). The layer's bytes come when somebody needs them: a
//! step that is executed on it or copies from it ([`RemoteLayers::with_files`]), or the image
//! ([`RemoteLayers::packed`]). Where they turn out to be missing or damaged, the record is
//! forgotten and the build begins again without it (`retry.rs`), so that the step runs.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use dbuild_digest::{BlobHasher, SnapshotId, StepKey, TreeDigest};
use dbuild_events::Event;
use dbuild_layer::{LayerError, LayerFiles, Stack, Tree, UnpackLimits, decompress, unpack};
use dbuild_plan::{Step, StepId, StepKind};
use dbuild_store::{PackKey, PackedLayer, Snapshot};

use crate::RemoteResult;
use crate::cache::step_inputs::outdated_input;
use crate::error::StepError;
use crate::layers::filesystem::{FileSystem, StepResult};
use crate::layers::owner_names::has_names;
use crate::steps::step_context::StepContext;

/// Where a packed layer of another machine is noted in the store, besides under the form that the
/// image has.
const FETCHED: &str = "fetched";

/// The layers of this build that another machine made.
pub(crate) struct RemoteLayers {
    context: Arc<StepContext>,
    known: Mutex<HashMap<SnapshotId, Arc<RemoteLayer>>>,
}

/// One of them.
struct RemoteLayer {
    step: StepId,
    key: StepKey,
    /// The cache, as it may be shown.
    cache: String,
    layer: PackedLayer,
    /// Where it can be fetched; `None`: an earlier build has done that.
    result: Option<Arc<RemoteResult>>,
    /// What is here of it; locked while it comes.
    here: Mutex<Here>,
}

impl RemoteLayer {
    fn damaged(&self, why: &str) -> StepError {
        StepError::RemoteLayer { key: self.key, cache: self.cache.clone(), why: why.to_owned() }
    }
}

#[derive(Default)]
struct Here {
    blob: bool,
    written: Option<Snapshot>,
}

impl RemoteLayers {
    pub(crate) fn new(context: Arc<StepContext>) -> Self {
        Self { context, known: Mutex::default() }
    }

    /// The result of a step on another machine, as a record of the store. `below` is what the step
    /// stands on.
    pub(crate) fn import(
        &self,
        (id, step): (StepId, &Step),
        key: &StepKey,
        made_from: &[(StepId, TreeDigest)],
        below: &FileSystem,
    ) -> Option<(Snapshot, TreeDigest)> {
        let remote = self.context.request.remote_results.as_ref()?;
        let asked = remote.look_up(std::slice::from_ref(key));
        let result = self.context.runtime.block_on(asked).pop().flatten()?;
        let is_good = result.record.key == *key
            && result.record.strategy == self.context.request.strategy.name()
            && outdated_input(made_from, &result.record.made_from).is_none();
        if !is_good {
            return None;
        }
        match self.keep(id, &result, below) {
            Ok(snapshot) => {
                let cache = result.cache.clone();
                self.context.emit(Event::RemoteHit { step: id.0, cache });
                Some((snapshot, result.record.layer))
            }
            Err(StepError::Stopped) => None,
            Err(error) => {
                let text = format!("{}: the result of `{}` is not used: {error}", result.cache, step.text);
                self.context.emit(Event::warning(text));
                remote.refuse(key);
                None
            }
        }
    }

    /// Puts a result into the store, with its index; the layer too where the index is made from it.
    fn keep(
        &self,
        id: StepId,
        result: &Arc<RemoteResult>,
        below: &FileSystem,
    ) -> Result<Snapshot, StepError> {
        let (store, record) = (self.context.store(), &result.record);
        let known = store.known_result(&record.definition, &record.layer).and_then(|id| store.snapshot(&id));
        let snapshot = match known {
            Some(known) => known,
            None if result.layer.is_some() && !result.has_index => self.unpack_first(id, result, below)?,
            None => {
                let tree = match &result.layer {
                    None => Tree::default(),
                    Some(_) => self.index(result)?,
                };
                if tree.digest() != record.layer {
                    return Err(damaged(result, "its index is another layer's"));
                }
                match result.layer {
                    Some(_) => store.publish_index(Arc::new(tree))?,
                    None => store.publish_snapshot(store.new_snapshot()?, tree)?,
                }
            }
        };
        let record = dbuild_store::Record { snapshot: Some(snapshot.id.clone()), ..record.clone() };
        store.put_record(&record, &result.ingredients)?;
        if let Some(layer) = result.layer.clone().filter(|_| snapshot.dir.is_none()) {
            let (cache, result) = (result.cache.clone(), Some(Arc::clone(result)));
            let layer =
                RemoteLayer { step: id, key: record.key, cache, layer, result, here: Mutex::default() };
            lock(&self.known).entry(snapshot.id.clone()).or_insert_with(|| Arc::new(layer));
        }
        Ok(snapshot)
    }

    /// Whether an earlier build has fetched the layer of a result, without needing its files: then
    /// it is used as one that can be fetched.
    pub(crate) fn is_fetched(&self, step: StepId, key: &StepKey, snapshot: &SnapshotId) -> bool {
        let Some(layer) = self.context.store().packed_in_any_form(snapshot) else { return false };
        let (key, cache) = (*key, "the store".to_owned());
        let layer = RemoteLayer { step, key, cache, layer, result: None, here: Mutex::default() };
        lock(&self.known).entry(snapshot.clone()).or_insert_with(|| Arc::new(layer));
        true
    }

    fn index(&self, result: &RemoteResult) -> Result<Tree, StepError> {
        let Some(remote) = &self.context.request.remote_results else { return Err(StepError::Stopped) };
        self.context.runtime.block_on(remote.index(result)).map_err(StepError::Remote)
    }

    /// A layer without an index: it is unpacked to know what it contains.
    fn unpack_first(
        &self,
        id: StepId,
        result: &Arc<RemoteResult>,
        below: &FileSystem,
    ) -> Result<Snapshot, StepError> {
        let layer = result.layer.as_ref().ok_or(StepError::Internal("a layer without a blob"))?;
        let store = self.context.store();
        self.fetch(id, result, layer)?;
        let draft = store.new_snapshot()?;
        let tar = decompress(store.open_blob(&layer.digest)?).map_err(LayerError::from)?;
        let unpacked = unpack(tar, &draft.fs_dir(), store.flavor(), &UnpackLimits::default())?;
        let diff_id = unpacked.diff_id;
        let made = unpacked.complete(&below.stack(&self.context.bases)?)?;
        if made.tree.digest() != result.record.layer || diff_id != layer.diff_id {
            return Err(damaged(result, "its layer is another one"));
        }
        let snapshot = store.publish_snapshot(draft, made.tree)?;
        store.put_packed(&snapshot.id, &PackKey(FETCHED.to_owned()), layer)?;
        Ok(snapshot)
    }

    /// Whether a layer has no files here, and can be fetched.
    pub(crate) fn is_remote(&self, snapshot: &SnapshotId) -> bool {
        lock(&self.known).contains_key(snapshot)
    }

    /// The packed layer of another machine, its blob in the store and its content compared with its
    /// digest. `None`: it is none of another machine.
    pub(crate) fn packed(&self, snapshot: &SnapshotId) -> Result<Option<PackedLayer>, StepError> {
        let Some(known) = lock(&self.known).get(snapshot).cloned() else { return Ok(None) };
        let mut here = lock(&known.here);
        if !here.blob {
            self.bring(&known)?;
            here.blob = true;
        }
        self.context.store().put_packed(snapshot, &PackKey(FETCHED.to_owned()), &known.layer)?;
        Ok(Some(known.layer.clone()))
    }

    /// The inputs of a step that is executed, with the files that it needs.
    pub(crate) fn with_files(
        &self,
        step: &Step,
        inputs: &[Arc<StepResult>],
    ) -> Result<Vec<Arc<StepResult>>, StepError> {
        if lock(&self.known).is_empty() {
            return Ok(inputs.to_vec());
        }
        // Names of users are looked up in files; nothing else of a parent is read by these.
        let parent_is_read = match &step.kind {
            StepKind::Copy(copy) => copy.chown.as_deref().is_some_and(has_names),
            StepKind::Workdir(workdir) => has_names(&workdir.user),
            _ => true,
        };
        let parent = step.parent().filter(|_| !parent_is_read);
        let with_files = |(id, result): (StepId, &Arc<StepResult>)| {
            if Some(id) == parent && step.sources().iter().all(|source| *source != id) {
                return Ok(Arc::clone(result));
            }
            let files = self.written(&result.files)?;
            Ok(files.map_or_else(
                || Arc::clone(result),
                |files| Arc::new(StepResult { files, ..StepResult::clone(result) }),
            ))
        };
        step.inputs().into_iter().zip(inputs).map(with_files).collect()
    }

    /// A file system with the files of all its layers. `None`: it has them.
    pub(crate) fn written(&self, files: &FileSystem) -> Result<Option<FileSystem>, StepError> {
        files.map_layers(&self.context.bases, &|snapshot, files, below| {
            if *files != LayerFiles::Absent {
                return Ok(None);
            }
            let Some(known) = lock(&self.known).get(&snapshot.id).cloned() else { return Ok(None) };
            let mut here = lock(&known.here);
            if here.written.is_none() {
                let written = self.write(&known, &mut here, snapshot, below)?;
                here.written = Some(written);
            }
            Ok(here.written.clone())
        })
    }

    fn write(
        &self,
        known: &RemoteLayer,
        here: &mut Here,
        snapshot: &Snapshot,
        below: &Stack,
    ) -> Result<Snapshot, StepError> {
        let (store, layer) = (self.context.store(), &known.layer);
        if !here.blob {
            self.fetch_known(known)?;
        }
        let draft = store.new_snapshot()?;
        let bad = |error: LayerError| match error {
            LayerError::Io(_) | LayerError::Output(_) => StepError::Layer(error),
            other => known.damaged(&other.to_string()),
        };
        let tar =
            decompress(store.open_blob(&layer.digest)?).map_err(|error| known.damaged(&error.to_string()))?;
        let unpacked = unpack(tar, &draft.fs_dir(), store.flavor(), &UnpackLimits::default()).map_err(bad)?;
        if unpacked.diff_id != layer.diff_id {
            return Err(known.damaged("its content is not what its record says"));
        }
        let made = unpacked.complete_as(below, Some(&snapshot.tree)).map_err(bad)?;
        if made.tree.digest() != snapshot.tree.digest() {
            return Err(known.damaged("its layer is not what its index says"));
        }
        here.blob = true;
        let snapshot = store.give_files(snapshot.clone(), draft)?;
        store.put_packed(&snapshot.id, &PackKey(FETCHED.to_owned()), layer)?;
        Ok(snapshot)
    }

    /// Brings a layer's blob, and compares its content with its digest.
    fn bring(&self, known: &RemoteLayer) -> Result<(), StepError> {
        let (store, layer) = (self.context.store(), &known.layer);
        self.fetch_known(known)?;
        if store.diff_id(&layer.digest) == Some(layer.diff_id) {
            return Ok(());
        }
        let mut tar =
            decompress(store.open_blob(&layer.digest)?).map_err(|error| known.damaged(&error.to_string()))?;
        let (mut hasher, mut buffer) = (BlobHasher::default(), vec![0; 256 << 10]);
        loop {
            match tar.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => hasher.update(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(known.damaged(&error.to_string())),
            }
        }
        match hasher.finish() == layer.diff_id {
            true => Ok(store.put_diff_id(&layer.digest, &layer.diff_id)?),
            false => Err(known.damaged("its content is not what its record says")),
        }
    }

    fn fetch_known(&self, known: &RemoteLayer) -> Result<(), StepError> {
        match &known.result {
            Some(result) => self.fetch(known.step, result, &known.layer),
            None => Ok(()),
        }
    }

    fn fetch(&self, step: StepId, result: &RemoteResult, layer: &PackedLayer) -> Result<(), StepError> {
        let Some(remote) = &self.context.request.remote_results else { return Err(StepError::Stopped) };
        if self.context.store().has_blob(&layer.digest).is_some() {
            return Ok(());
        }
        let began = Instant::now();
        let bytes = AtomicU64::new(0);
        let progress = |so_far: u64| {
            bytes.fetch_max(so_far, Ordering::Relaxed);
            let (step, what, total) = (step.0, "fetching".to_owned(), Some(layer.size));
            self.context.emit(Event::StepProgress { step, what, current: so_far, total });
        };
        let mut cancel = self.context.request.cancel.clone();
        let fetched = self.context.runtime.block_on(async {
            tokio::select! {
                fetched = remote.fetch(result, &progress) => fetched.map_err(|error| damaged(result, &error.to_string())),
                () = cancel.canceled() => Err(StepError::Stopped),
            }
        });
        fetched?;
        self.context.emit(Event::RemoteLayerFetched {
            step: step.0,
            cache: result.cache.clone(),
            bytes: layer.size,
            duration_ms: began.elapsed().as_millis() as u64,
        });
        Ok(())
    }
}

fn damaged(result: &RemoteResult, why: &str) -> StepError {
    StepError::RemoteLayer { key: result.record.key, cache: result.cache.clone(), why: why.to_owned() }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
