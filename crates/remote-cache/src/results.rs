//! The caches of a build as the scheduler knows them: all of its `--cache-from` in order, behind
//! the port [`RemoteResults`].
//!
//! They are asked side by side; the first in order that has a result gives it. What is wrong with a
//! cache or a record is reported once, and is a miss.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use dbuild_digest::StepKey;
use dbuild_layer::Tree;
use dbuild_registry::ArtifactRepository;
use dbuild_scheduler::{BlobSourceError, Offer, RemoteResult, RemoteResults};
use dbuild_store::PackedLayer;
use futures_util::future::join_all;

use crate::{Answer, Refusal, RemoteCache, RemoteCacheError, RemoteHit};

/// One cache that a build asks.
#[derive(Clone, Debug)]
pub enum ResultSource {
    /// A cache of records.
    Cache(RemoteCache),
    /// The records in an image.
    Image(InlineCache),
}

/// The records in an image ([`crate::read_inline`]), with the repository that has its layers.
#[derive(Clone, Debug)]
pub struct InlineCache {
    repository: ArtifactRepository,
    answers: Arc<HashMap<StepKey, Arc<RemoteHit>>>,
    refusals: Arc<Vec<Refusal>>,
}

/// What a user should hear about a cache. The text is one line.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CacheTrouble {
    /// The cache as a whole is not used.
    Cache {
        /// The cache, as it may be shown.
        cache: String,
        /// Why.
        text: String,
        /// What to try.
        hint: Option<String>,
    },
    /// A record is not used; others of the cache may not be, for the same reason.
    Record {
        /// The cache, as it may be shown.
        cache: String,
        /// Why.
        refusal: Refusal,
    },
}

impl fmt::Display for CacheTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cache { text, .. } => write!(f, "the cache is not used: {text}"),
            Self::Record { cache, refusal } => write!(f, "a record of {cache} is not used: {refusal}"),
        }
    }
}

/// The port's implementation.
pub struct RemoteCaches {
    sources: Vec<ResultSource>,
    hits: Mutex<HashMap<(usize, StepKey), Arc<RemoteHit>>>,
    refused: Mutex<HashSet<StepKey>>,
    reported: Mutex<HashSet<CacheTrouble>>,
    report: Box<dyn Fn(CacheTrouble) + Send + Sync>,
    offer: Box<dyn Fn(Offer) + Send + Sync>,
}

impl fmt::Debug for RemoteCaches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteCaches").field("sources", &self.sources).finish_non_exhaustive()
    }
}

impl InlineCache {
    /// The records in an image of this repository.
    pub fn new(repository: ArtifactRepository, answers: Vec<Answer>) -> Self {
        let (mut hits, mut refusals) = (HashMap::new(), Vec::new());
        for answer in answers {
            match answer {
                Answer::Hit(hit) => drop(hits.insert(hit.record.key, hit)),
                Answer::Refused(refusal) => refusals.push(refusal),
                Answer::Absent => {}
            }
        }
        Self { repository, answers: Arc::new(hits), refusals: Arc::new(refusals) }
    }
}

impl ResultSource {
    fn shown(&self) -> String {
        match self {
            Self::Cache(cache) => cache.shown(),
            Self::Image(image) => image.repository.reference().to_string(),
        }
    }

    async fn look_up(&self, keys: &[StepKey]) -> Result<Vec<Answer>, RemoteCacheError> {
        match self {
            Self::Cache(cache) => cache.look_up(keys).await,
            Self::Image(image) => {
                let answer = |key| image.answers.get(key).cloned().map_or(Answer::Absent, Answer::Hit);
                Ok(keys.iter().map(answer).collect())
            }
        }
    }
}

impl RemoteCaches {
    /// These caches, in the order in which they are preferred. `report` hears each trouble once;
    /// `offer` takes the results of this build, to publish them, and returns at once.
    pub fn new(
        sources: Vec<ResultSource>,
        report: impl Fn(CacheTrouble) + Send + Sync + 'static,
        offer: impl Fn(Offer) + Send + Sync + 'static,
    ) -> Self {
        let caches = Self {
            sources,
            hits: Mutex::default(),
            refused: Mutex::default(),
            reported: Mutex::default(),
            report: Box::new(report),
            offer: Box::new(offer),
        };
        for source in &caches.sources {
            if let ResultSource::Image(image) = source {
                for refusal in image.refusals.iter() {
                    caches.tell(CacheTrouble::Record { cache: source.shown(), refusal: refusal.clone() });
                }
            }
        }
        caches
    }

    /// The caches that are asked, in order.
    pub fn sources(&self) -> &[ResultSource] {
        &self.sources
    }

    fn tell(&self, trouble: CacheTrouble) {
        if lock(&self.reported).insert(trouble.clone()) {
            (self.report)(trouble);
        }
    }

    fn hit(&self, result: &RemoteResult) -> Result<(&ResultSource, Arc<RemoteHit>), BlobSourceError> {
        let source = self.sources.get(result.source);
        let hit = lock(&self.hits).get(&(result.source, result.record.key)).cloned();
        source.zip(hit).ok_or_else(|| "the result was not found by this build".into())
    }
}

#[async_trait]
impl RemoteResults for RemoteCaches {
    async fn look_up(&self, keys: &[StepKey]) -> Vec<Option<Arc<RemoteResult>>> {
        let asked = join_all(self.sources.iter().map(|source| source.look_up(keys))).await;
        let mut found: Vec<Option<Arc<RemoteResult>>> = vec![None; keys.len()];
        for (number, (source, answers)) in self.sources.iter().zip(asked).enumerate() {
            let cache = source.shown();
            let answers = match answers {
                Ok(answers) => answers,
                Err(error) => {
                    let (text, hint) = (error.to_string(), error.hint());
                    self.tell(CacheTrouble::Cache { cache, text, hint });
                    continue;
                }
            };
            for ((key, answer), found) in keys.iter().zip(answers).zip(&mut found) {
                match answer {
                    Answer::Hit(hit) if found.is_none() && !lock(&self.refused).contains(key) => {
                        *found = Some(Arc::new(result_of(&hit, &cache, number)));
                        lock(&self.hits).insert((number, *key), hit);
                    }
                    Answer::Refused(refusal) => {
                        self.tell(CacheTrouble::Record { cache: cache.clone(), refusal });
                    }
                    Answer::Hit(_) | Answer::Absent => {}
                }
            }
        }
        found
    }

    async fn index(&self, result: &RemoteResult) -> Result<Tree, BlobSourceError> {
        match self.hit(result)? {
            (ResultSource::Cache(cache), hit) => Ok(cache.index(&hit).await?),
            (ResultSource::Image(_), _) => Err(Refusal::Missing("its index").to_string().into()),
        }
    }

    async fn fetch(
        &self,
        result: &RemoteResult,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), BlobSourceError> {
        match self.hit(result)? {
            (ResultSource::Cache(cache), hit) => Ok(cache.fetch_layer(&hit, None, progress).await?),
            (ResultSource::Image(image), hit) => match &hit.layer {
                Some(layer) => Ok(image.repository.fetch_blob(layer, None, progress).await?),
                None => Ok(()),
            },
        }
    }

    fn refuse(&self, key: &StepKey) {
        lock(&self.refused).insert(*key);
    }

    fn offer(&self, offer: Offer) {
        (self.offer)(offer);
    }
}

fn result_of(hit: &RemoteHit, cache: &str, source: usize) -> RemoteResult {
    let layer = hit.layer.as_ref().zip(hit.record.diff_id).map(|(layer, diff_id)| PackedLayer {
        diff_id,
        digest: layer.digest,
        size: layer.size,
        media_type: layer.media_type.clone(),
        annotations: layer.annotations.clone(),
    });
    RemoteResult {
        record: hit.record.to_record(None),
        ingredients: hit.record.ingredients.clone(),
        layer,
        has_index: hit.has_index(),
        cache: cache.to_owned(),
        source,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
