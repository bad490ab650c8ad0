//! The caches of other machines that a build reads and writes: behind the scheduler's port stand
//! those of `--cache-from`, asked all at once, and the exports to those of `--cache-to`.
//!
//! Whatever is wrong with a cache is said once, and the build goes on without it.

mod export;
pub(crate) mod spec;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use dbuild_digest::StepKey;
use dbuild_events::{Event, EventSink};
use dbuild_layer::Tree;
use dbuild_remote_cache::{Answer, Refusal, RemoteCache, RemoteCacheError, RemoteHit};
use dbuild_scheduler::{BlobSourceError, Cancel, Offer, RemoteResult, RemoteResults};
use dbuild_store::PackedLayer;
use futures_util::future::join_all;

use self::export::Export;
use self::spec::{CacheSpec, CacheSpecs};
use crate::error::Error;
use crate::session::Session;

/// The caches of one build.
pub(crate) struct RemoteCaches {
    imports: Vec<Import>,
    exports: Vec<Arc<Export>>,
    events: Arc<dyn EventSink>,
    /// What was found, by cache and key.
    hits: Mutex<HashMap<(usize, StepKey), Arc<RemoteHit>>>,
    /// Results that this build does not use.
    refused: Mutex<HashSet<StepKey>>,
}

/// A cache that is asked.
struct Import {
    cache: RemoteCache,
    /// It cannot be read: that was said, and it is not asked again.
    is_out: AtomicBool,
    /// Why records were not used, as far as it was said.
    said: Mutex<HashSet<Refusal>>,
}

impl RemoteCaches {
    /// Opens the caches that the flags name; `None` where they name none. Begins to read those of
    /// `--cache-from`.
    pub(crate) fn open(
        specs: &CacheSpecs,
        session: &Session,
        events: &Arc<dyn EventSink>,
    ) -> Result<Option<Arc<Self>>, Error> {
        if specs.from.is_empty() && specs.to.is_empty() {
            return Ok(None);
        }
        let imports = specs.from.iter().map(|spec| {
            let (cache, is_out, said) = (open(spec, session)?, AtomicBool::new(false), Mutex::default());
            Ok(Import { cache, is_out, said })
        });
        let exports = specs.to.iter().map(|spec| {
            let cache = open(spec, session)?;
            Ok(Arc::new(Export::new(cache, spec, &session.store, events)))
        });
        let caches = Arc::new(Self {
            imports: imports.collect::<Result<_, Error>>()?,
            exports: exports.collect::<Result<_, Error>>()?,
            events: Arc::clone(events),
            hits: Mutex::default(),
            refused: Mutex::default(),
        });
        // While the context is read: what it brings answers for most of the keys.
        let begun = Arc::clone(&caches);
        tokio::spawn(async move { begun.look_up(&[]).await });
        Ok(Some(caches))
    }

    /// Ends the exports, each within its time.
    pub(crate) async fn finish(&self, cancel: Cancel) {
        let began = Instant::now();
        join_all(self.exports.iter().map(|export| export.finish(cancel.clone(), began))).await;
    }

    /// A cache is not asked again.
    fn give_up(&self, import: &Import, error: &RemoteCacheError) {
        if !import.is_out.swap(true, Ordering::Relaxed) {
            let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            let text = format!("{}: this cache is not used: {error}{hint}", import.cache.shown());
            self.events.emit(Event::warning(text));
        }
    }

    fn say_refused(&self, import: &Import, refusal: &Refusal) {
        if lock(&import.said).insert(refusal.clone()) {
            let text = format!("{}: a result is not used: {refusal}", import.cache.shown());
            self.events.emit(Event::warning(text));
        }
    }

    async fn ask(&self, import: &Import, keys: &[StepKey]) -> Vec<Answer> {
        if import.is_out.load(Ordering::Relaxed) {
            return vec![Answer::Absent; keys.len()];
        }
        match import.cache.look_up(keys).await {
            Ok(answers) => answers,
            Err(error) => {
                self.give_up(import, &error);
                vec![Answer::Absent; keys.len()]
            }
        }
    }

    fn hit(&self, result: &RemoteResult) -> Result<(&Import, Arc<RemoteHit>), BlobSourceError> {
        let hit = lock(&self.hits).get(&(result.source, result.record.key)).cloned();
        let import = self.imports.get(result.source);
        import.zip(hit).ok_or_else(|| "the cache has not answered with this result".into())
    }
}

#[async_trait]
impl RemoteResults for RemoteCaches {
    async fn look_up(&self, keys: &[StepKey]) -> Vec<Option<Arc<RemoteResult>>> {
        let all = join_all(self.imports.iter().map(|import| self.ask(import, keys))).await;
        let mut found = vec![None; keys.len()];
        for (source, (import, answers)) in self.imports.iter().zip(all).enumerate() {
            for ((key, slot), answer) in keys.iter().zip(&mut found).zip(answers) {
                match answer {
                    Answer::Hit(hit) if slot.is_none() && !lock(&self.refused).contains(key) => {
                        *slot = Some(Arc::new(result_of(&hit, import.cache.shown(), source)));
                        lock(&self.hits).insert((source, *key), hit);
                    }
                    Answer::Refused(refusal) => self.say_refused(import, &refusal),
                    Answer::Hit(_) | Answer::Absent => {}
                }
            }
        }
        found
    }

    async fn index(&self, result: &RemoteResult) -> Result<Tree, BlobSourceError> {
        let (import, hit) = self.hit(result)?;
        Ok(import.cache.index(&hit).await?)
    }

    async fn fetch(
        &self,
        result: &RemoteResult,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), BlobSourceError> {
        let (import, hit) = self.hit(result)?;
        Ok(import.cache.fetch_layer(&hit, None, progress).await?)
    }

    fn refuse(&self, key: &StepKey) {
        lock(&self.refused).insert(*key);
    }

    fn offer(&self, offer: Offer) {
        for export in &self.exports {
            Export::take(export, offer.clone());
        }
    }
}

fn result_of(hit: &RemoteHit, cache: String, source: usize) -> RemoteResult {
    let record = hit.record.to_record(None);
    let layer = hit.layer.as_ref().zip(hit.record.diff_id).map(|(layer, diff_id)| PackedLayer {
        diff_id,
        digest: layer.digest,
        size: layer.size,
        media_type: layer.media_type.clone(),
        annotations: layer.annotations.clone(),
    });
    let (ingredients, has_index) = (hit.record.ingredients.clone(), hit.has_index());
    RemoteResult { record, ingredients, layer, has_index, cache, source }
}

/// Opens one cache.
pub(crate) fn open(spec: &CacheSpec, session: &Session) -> Result<RemoteCache, Error> {
    let opened = RemoteCache::open(&spec.location, spec.options.clone(), &session.registry, &session.store);
    opened.map_err(|error| match error.hint() {
        Some(hint) => Error::usage(error).hint(hint),
        None => Error::usage(error),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
