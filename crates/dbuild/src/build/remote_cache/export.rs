//! The export of a build's results to one cache, while the build goes on.
//!
//! Every result is a task of its own: is it worth it, does the cache have it, is its layer packed,
//! then it is published. The end of the build waits for them, and no longer than `timeout=`.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dbuild_digest::StepKey;
use dbuild_events::{Event, EventSink, LeftResults};
use dbuild_layer::LayerFiles;
use dbuild_oci::Platform;
use dbuild_remote_cache::{
    Location, NewRecord, Publication, Published, RemoteCache, RemoteCacheError, RemoteRecord,
};
use dbuild_scheduler::{Cancel, Offer, pack_layer};
use dbuild_store::{PackedLayer, Record, Store};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::spec::{CacheSpec, Mode};

/// Number of results that are sent at the same time.
const AT_A_TIME: usize = 4;
/// Bytes a second that a cache is assumed to take before that was measured.
const ASSUMED: u64 = 10_000_000;
/// The same of a directory.
const ASSUMED_OF_DISK: u64 = 200_000_000;
/// What smaller publications need says more of the way than of its width.
const MEASURED_FROM: u64 = 256 << 10;
/// What each result costs besides its bytes, in milliseconds: a few round trips.
const EACH_MS: u64 = 100;
const EACH_MS_OF_DISK: u64 = 20;

/// The export to one cache.
pub(super) struct Export {
    cache: RemoteCache,
    spec: CacheSpec,
    store: Store,
    events: Arc<dyn EventSink>,
    limit: Semaphore,
    /// Packing takes the cores that steps need: one at a time.
    packing: Semaphore,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    tally: Mutex<Tally>,
}

/// What became of the results so far.
#[derive(Default)]
struct Tally {
    taken: HashSet<StepKey>,
    sent: u32,
    bytes: u64,
    present: u32,
    left: BTreeMap<String, u32>,
    /// Bytes and the milliseconds that they took.
    measured: (u64, u64),
    /// The cache cannot be written: that was said.
    is_out: bool,
}

/// What became of one result.
enum Fate {
    Sent(u64),
    Present,
    Left(String),
    /// There is no record, so that there is nothing to publish.
    None,
}

impl Export {
    pub(super) fn new(
        cache: RemoteCache,
        spec: &CacheSpec,
        store: &Store,
        events: &Arc<dyn EventSink>,
    ) -> Self {
        Self {
            cache,
            spec: spec.clone(),
            store: store.clone(),
            events: Arc::clone(events),
            limit: Semaphore::new(AT_A_TIME),
            packing: Semaphore::new(1),
            tasks: Mutex::default(),
            tally: Mutex::default(),
        }
    }

    /// Takes a result; on a tokio runtime or a thread of one.
    pub(super) fn take(export: &Arc<Self>, offer: Offer) {
        if !lock(&export.tally).taken.insert(offer.key) {
            return;
        }
        let own = Arc::clone(export);
        let task = tokio::runtime::Handle::current().spawn(async move {
            let fate = own.one(&offer).await;
            own.note(fate);
        });
        lock(&export.tasks).push(task);
    }

    /// Waits for what is being sent, and says what became of all.
    pub(super) async fn finish(&self, mut cancel: Cancel, began: Instant) {
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        let all = async {
            for task in &mut tasks {
                let _ = task.await;
            }
            if !lock(&self.tally).is_out
                && let Err(error) = self.cache.finish().await
            {
                self.give_up(&error);
            }
        };
        let in_time = tokio::select! {
            () = all => true,
            () = tokio::time::sleep(self.spec.wait) => false,
            () = cancel.canceled() => false,
        };
        let unfinished = tasks.iter().filter(|task| !task.is_finished()).count() as u32;
        tasks.iter().for_each(JoinHandle::abort);
        let mut tally = lock(&self.tally);
        if !in_time && unfinished > 0 {
            let wait = self.spec.wait.as_secs();
            let reason = match cancel.is_canceled() {
                true => "the build was stopped".to_owned(),
                false => format!("the build waits no longer than {wait} s (`timeout=`)"),
            };
            *tally.left.entry(reason).or_default() += unfinished;
        }
        let left = std::mem::take(&mut tally.left);
        let (cache, sent, bytes, present) = (self.cache.shown(), tally.sent, tally.bytes, tally.present);
        drop(tally);
        self.events.emit(Event::CacheExported {
            cache,
            sent,
            bytes,
            present,
            left: left.into_iter().map(|(reason, count)| LeftResults { reason, count }).collect(),
            waited_ms: began.elapsed().as_millis() as u64,
        });
    }

    fn note(&self, fate: Fate) {
        let mut tally = lock(&self.tally);
        match fate {
            Fate::Sent(bytes) => {
                tally.sent += 1;
                tally.bytes += bytes;
            }
            Fate::Present => tally.present += 1,
            Fate::Left(reason) => *tally.left.entry(reason).or_default() += 1,
            Fate::None => {}
        }
    }

    async fn one(&self, offer: &Offer) -> Fate {
        let Some(record) = self.store.record(&offer.key) else { return Fate::None };
        if self.spec.mode == Mode::Min && !offer.of_image {
            return Fate::Left("not a layer of the image (`mode=min`)".to_owned());
        }
        // The layers of a context are compressed to about a third.
        let guessed = offer.snapshot.size / 3;
        if !self.is_worth(&record, offer, guessed) {
            return Fate::Left("cheaper to make than to move".to_owned());
        }
        let Ok(_permit) = self.limit.acquire().await else { return Fate::None };
        if lock(&self.tally).is_out {
            return Fate::Left("the cache cannot be written".to_owned());
        }
        match self.send(offer, &record).await {
            Ok(fate) => fate,
            Err(error) => match error {
                RemoteCacheError::Refused { refusal, .. } => Fate::Left(refusal.to_string()),
                error => {
                    self.give_up(&error);
                    Fate::Left("the cache cannot be written".to_owned())
                }
            },
        }
    }

    async fn send(&self, offer: &Offer, record: &Record) -> Result<Fate, RemoteCacheError> {
        if self.cache.has(&offer.key).await? {
            return Ok(Fate::Present);
        }
        let layer = match record.layer_is_empty {
            true => None,
            false => match self.packed(offer).await {
                Ok(layer) => Some(layer),
                Err(why) => return Ok(Fate::Left(why)),
            },
        };
        let size = layer.as_ref().map_or(0, |layer| layer.size);
        if !self.is_worth(record, offer, size) {
            return Ok(Fate::Left("cheaper to make than to move".to_owned()));
        }
        let strategy_version =
            dbuild_cache::strategy(&record.strategy).map_or(0, |strategy| strategy.version());
        let Some(ingredients) = self.store.ingredients(&offer.key) else { return Ok(Fate::None) };
        let new = NewRecord {
            record,
            strategy_version,
            ingredients,
            diff_id: layer.as_ref().map(|layer| layer.diff_id),
            platform: Platform::host().to_string(),
        };
        let remote = match RemoteRecord::new(new) {
            Ok(remote) => remote,
            Err(refusal) => return Ok(Fate::Left(refusal.to_string())),
        };
        let publication =
            Publication { record: &remote, index: &offer.snapshot.tree, layer: layer.as_ref(), images: &[] };
        let began = Instant::now();
        let published = self.cache.publish(&publication, &|_| {}).await?;
        Ok(match published {
            Published::Present => Fate::Present,
            Published::Sent { bytes } => {
                self.measure(bytes, began.elapsed());
                Fate::Sent(bytes)
            }
        })
    }

    /// The layer of a result as a blob; why there is none.
    async fn packed(&self, offer: &Offer) -> Result<PackedLayer, String> {
        if let Some(mut packing) = offer.packing.clone() {
            let packed = packing.wait_for(Option::is_some).await;
            let packed = packed.ok().and_then(|packed| packed.clone());
            return packed.ok_or_else(|| "its layer was not packed".to_owned());
        }
        if let Some(packed) = self.store.packed_in_any_form(&offer.snapshot.id) {
            return Ok(packed);
        }
        if offer.files == LayerFiles::Absent {
            return Err("its layer is not on this machine".to_owned());
        }
        let Ok(_permit) = self.packing.acquire().await else { return Err("the build ends".to_owned()) };
        let (store, offer, options) = (self.store.clone(), offer.clone(), self.spec.pack);
        let work =
            tokio::task::spawn_blocking(move || pack_layer(&store, &offer.snapshot, &offer.files, &options));
        match work.await {
            Ok(packed) => packed.map_err(|error| format!("its layer cannot be packed: {error}")),
            Err(_) => Err("its layer was not packed".to_owned()),
        }
    }

    /// Whether a result of so many bytes is to be sent.
    fn is_worth(&self, record: &Record, offer: &Offer, bytes: u64) -> bool {
        if self.spec.mode != Mode::Worth {
            return true;
        }
        let (assumed, each) = match self.spec.location {
            Location::Directory { .. } => (ASSUMED_OF_DISK, EACH_MS_OF_DISK),
            _ => (ASSUMED, EACH_MS),
        };
        let (measured, ms) = lock(&self.tally).measured;
        let bandwidth =
            measured.saturating_mul(1000).checked_div(ms).map_or(assumed, |measured| measured.max(1));
        let move_ms = bytes.saturating_mul(1000) / bandwidth + each;
        // Without it, what stands on it may have to be made, too.
        record.duration_ms.saturating_add(offer.after_ms) > move_ms
    }

    fn measure(&self, bytes: u64, time: Duration) {
        if bytes >= MEASURED_FROM {
            let mut tally = lock(&self.tally);
            tally.measured.0 += bytes;
            tally.measured.1 += (time.as_millis() as u64).max(1);
        }
    }

    /// The cache is not written any more.
    fn give_up(&self, error: &RemoteCacheError) {
        if !std::mem::replace(&mut lock(&self.tally).is_out, true) {
            let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            let text = format!("{}: results are not exported: {error}{hint}", self.cache.shown());
            self.events.emit(Event::warning(text));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
