//! Finding records: from the catalogue where it has them, by themselves where it does not.

use std::collections::HashMap;
use std::sync::Arc;

use dbuild_digest::{BlobDigest, StepKey};
use dbuild_layer::Tree;
use dbuild_oci::Descriptor;
use dbuild_store::Incoming;
use futures_util::{StreamExt as _, stream};

use crate::format::catalogue::StoredRecord;
use crate::format::compress::decompress;
use crate::format::manifest::RecordManifest;
use crate::format::signature::trusted_signer;
use crate::format::{SIGNATURE, UNPACKED_INDEX_LIMIT};
use crate::hit::{Answer, RemoteHit};
use crate::known_records::KnownRecords;
use crate::{ErrorKind, Refusal, RemoteCache, RemoteCacheError, RemoteRecord};

impl RemoteCache {
    /// What the cache has for each of these keys. The first call costs two round trips (a list and
    /// a catalogue); what the catalogue lacks costs two more, all side by side.
    ///
    /// An error is one of the whole cache; what is wrong with a record is an [`Answer`].
    pub async fn look_up(&self, keys: &[StepKey]) -> Result<Vec<Answer>, RemoteCacheError> {
        let state = self.state().await?;
        let mut wanted: Vec<StepKey> = Vec::new();
        {
            let mut known = state.lock();
            for key in keys {
                if known.answers.contains_key(key) {
                    continue;
                }
                let absent = known.tags.as_ref().is_some_and(|tags| !tags.contains_key(key));
                if absent {
                    known.answers.insert(*key, Answer::Absent);
                } else if let Some(stored) = known.stored.get(key).cloned() {
                    let answer = Answer::from(self.verified(&stored));
                    known.answers.insert(*key, answer);
                } else if !wanted.contains(key) {
                    wanted.push(*key);
                }
            }
        }
        self.within(self.inner.options.timeout, self.fetch_answers(&state, wanted)).await?;
        let found: Vec<Answer> = {
            let known = state.lock();
            keys.iter().map(|key| known.answers.get(key).cloned().unwrap_or(Answer::Absent)).collect()
        };
        for answer in &found {
            if let Answer::Hit(hit) = answer {
                self.inner.place.touch(&self.inner.record_tag(&hit.record.key)).await;
            }
        }
        Ok(found)
    }

    /// Records with these words of a step ([`dbuild_cache::definition`]), for explanations: those
    /// that are in memory after a look-up, the newest first.
    pub async fn near(&self, definition: &StepKey) -> Vec<RemoteRecord> {
        let Ok(state) = self.state().await else { return Vec::new() };
        let mut stored: Vec<Arc<StoredRecord>> = {
            let known = state.lock();
            known.stored.values().filter(|stored| stored.definition == *definition).cloned().collect()
        };
        stored.sort_by_key(|stored| std::cmp::Reverse(stored.created_ms));
        stored.iter().filter_map(|stored| self.verified(stored).ok()).map(|hit| hit.record).collect()
    }

    /// The index of a hit's layer, verified against the record.
    pub async fn index(&self, hit: &RemoteHit) -> Result<Tree, RemoteCacheError> {
        let refused = |refusal| RemoteCacheError::Refused { key: hit.record.key.short(), refusal };
        let index = hit.index.as_ref().ok_or_else(|| refused(Refusal::Missing("its index")))?;
        let bytes = match &hit.index_bytes {
            Some(bytes) => bytes.clone(),
            None => self.within(self.inner.options.timeout, self.inner.place.blob(index)).await?,
        };
        let expected = hit.record.layer;
        let decoded = tokio::task::spawn_blocking(move || {
            let bytes = decompress(&bytes, UNPACKED_INDEX_LIMIT, "its index")?;
            let tree = Tree::decode(&bytes).map_err(|_| Refusal::Damaged("its index"))?;
            if tree.digest() != expected { Err(Refusal::OtherIndex) } else { Ok(tree) }
        });
        decoded.await.unwrap_or(Err(Refusal::Damaged("its index"))).map_err(refused)
    }

    /// Brings the layer of a hit into the store: its blob is there whole, with its digest.
    /// `progress` hears the bytes so far.
    pub async fn fetch_layer(
        &self,
        hit: &RemoteHit,
        incoming: Option<&Incoming>,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), RemoteCacheError> {
        let Some(layer) = &hit.layer else { return Ok(()) };
        self.inner.place.fetch(layer, &self.inner.store, incoming, progress).await
    }

    /// Images of the same registry from which a push can mount a hit's layer: this cache.
    pub fn mount_source(&self) -> Option<String> {
        self.inner.place.is_remote().then(|| self.shown())
    }

    async fn fetch_answers(
        &self,
        state: &KnownRecords,
        wanted: Vec<StepKey>,
    ) -> Result<(), RemoteCacheError> {
        let fetched: Vec<(StepKey, Result<Option<StoredRecord>, RemoteCacheError>)> = stream::iter(wanted)
            .map(|key| async move { (key, self.fetch_stored(&key).await) })
            .buffer_unordered(self.inner.options.connections)
            .collect()
            .await;
        let mut answers = HashMap::new();
        for (key, stored) in fetched {
            let answer = match stored {
                Ok(None) => Answer::Absent,
                Ok(Some(stored)) => {
                    let answer = Answer::from(self.verified(&stored));
                    state.lock().stored.insert(key, Arc::new(stored));
                    answer
                }
                Err(RemoteCacheError::Refused { refusal, .. }) => Answer::Refused(refusal),
                Err(error) => match error.kind() {
                    ErrorKind::Damaged => Answer::Refused(Refusal::Damaged("the record")),
                    // The manifest was there, and something that it names was not.
                    ErrorKind::Gone => Answer::Refused(Refusal::Missing("the record")),
                    _ => return Err(error),
                },
            };
            answers.insert(key, answer);
        }
        state.lock().answers.extend(answers);
        Ok(())
    }

    /// The record in the bytes that are stored for a key, if nothing is wrong with them.
    pub(crate) fn verified(&self, stored: &StoredRecord) -> Result<RemoteHit, Refusal> {
        let manifest = RecordManifest::parse(&stored.manifest)?;
        if BlobDigest::of(&stored.config) != manifest.config.digest {
            return Err(Refusal::Damaged("the record"));
        }
        if stored.index.as_ref().is_some_and(|index| BlobDigest::of(index) != manifest.index.digest) {
            return Err(Refusal::Damaged("its index"));
        }
        let record = RemoteRecord::parse(&stored.config, &stored.key)?;
        if manifest.layer.is_none() != record.layer_is_empty
            || record.diff_id.is_none() != record.layer_is_empty
        {
            return Err(Refusal::Damaged("the manifest"));
        }
        let trusted = &self.inner.options.trust;
        let signer = if trusted.is_empty() {
            None
        } else {
            let signatures = manifest.annotations.get(SIGNATURE).map(String::as_str);
            let blobs: Vec<&Descriptor> = manifest.blobs().collect();
            Some(trusted_signer(&record.key, &blobs, signatures, trusted)?)
        };
        let index_bytes = stored.index.clone();
        Ok(RemoteHit { record, layer: manifest.layer, signer, index: Some(manifest.index), index_bytes })
    }
}
