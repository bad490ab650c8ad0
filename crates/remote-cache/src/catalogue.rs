//! Reading and writing the catalogue of a cache, and the list of its tags.
//!
//! Both are asked for side by side, once for as long as the cache is open. The list is the truth;
//! where a place does not give one, every key that the catalogue lacks is asked for.

use std::sync::Arc;
use std::time::Duration;

use dbuild_digest::{BlobDigest, StepKey};
use dbuild_oci::Descriptor;
use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;

use crate::format::catalogue::{self, StoredRecord};
use crate::format::manifest::{EMPTY, RecordManifest, catalogue_blob, catalogue_manifest, empty_config};
use crate::format::{CATALOGUE, INDEX_LIMIT, MANIFEST_LIMIT};
use crate::known_records::{Known, KnownRecords, Loaded};
use crate::{RemoteCache, RemoteCacheError};

/// Number of tags of one cache that are read.
const MOST_TAGS: usize = 200_000;
/// Number of records that a writer of a catalogue fetches, which others published.
const MOST_ADDED: usize = 64;

impl RemoteCache {
    /// What is known of the cache, which is found out at the first call.
    pub(crate) async fn state(&self) -> Result<Arc<KnownRecords>, RemoteCacheError> {
        let mut state = self.inner.state.lock().await;
        match &*state {
            Some(Loaded::State(state)) => return Ok(state.clone()),
            Some(Loaded::Failed { kind, text, hint }) => {
                let (kind, text, hint) = (*kind, text.clone(), hint.clone());
                return Err(RemoteCacheError::Earlier { kind, text, hint });
            }
            None => {}
        }
        let loaded = self.load().await.map(Arc::new);
        *state = Some(match &loaded {
            Ok(loaded) => Loaded::State(loaded.clone()),
            Err(error) => Loaded::Failed { kind: error.kind(), text: error.to_string(), hint: error.hint() },
        });
        loaded
    }

    /// Why the catalogue of this cache is not used, once something was looked up. The records are,
    /// one by one, which takes longer.
    pub async fn catalogue_trouble(&self) -> Option<String> {
        let state = self.inner.state.lock().await;
        let Some(Loaded::State(state)) = &*state else { return None };
        let known = state.lock();
        known.trouble.clone()
    }

    /// Gives up after so long.
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, RemoteCacheError>>,
    ) -> Result<T, RemoteCacheError> {
        let late = |_| RemoteCacheError::Timeout { place: self.shown(), limit };
        timeout(limit, work).await.map_err(late)?
    }

    async fn load(&self) -> Result<KnownRecords, RemoteCacheError> {
        let place = &self.inner.place;
        let prefix = self.inner.record_prefix();
        let catalogue = async {
            if !place.is_remote() {
                return Ok((Vec::new(), None));
            }
            let manifest =
                self.within(self.inner.options.first_answer, place.manifest(&self.inner.tag)).await?;
            let Some(manifest) = manifest else { return Ok((Vec::new(), None)) };
            Ok::<_, RemoteCacheError>(match self.read_catalogue(&manifest).await {
                Ok(stored) => (stored, None),
                Err(reason) => (Vec::new(), Some(reason)),
            })
        };
        let tags = async {
            match place.tags(&prefix, MOST_TAGS).await {
                Ok(tags) => Ok(Some(tags)),
                // A place without a catalogue is as good as its list.
                Err(error) if !place.is_remote() => Err(error),
                Err(error) => {
                    tracing::debug!(%error, "no list of the records");
                    Ok(None)
                }
            }
        };
        let both = async { tokio::try_join!(catalogue, tags) };
        let ((stored, trouble), tags) = self.within(self.inner.options.timeout, both).await?;
        let tags = tags.map(|tags| {
            let key = |entry: &crate::places::TagEntry| {
                self.inner.key_of(&entry.tag).map(|key| (key, entry.modified_ms))
            };
            tags.iter().filter_map(key).collect()
        });
        let stored = stored.into_iter().map(|stored| (stored.key, Arc::new(stored))).collect();
        Ok(KnownRecords::new(Known { tags, stored, trouble, ..Known::default() }))
    }

    async fn read_catalogue(&self, manifest: &[u8]) -> Result<Vec<StoredRecord>, String> {
        let blob = catalogue_blob(manifest).map_err(|refusal| refusal.to_string())?;
        let bytes = self.inner.place.blob(&blob).await.map_err(|error| error.to_string())?;
        // Unpacking and parsing take a while for a large one.
        let decoded = tokio::task::spawn_blocking(move || catalogue::decode(&bytes)).await;
        decoded.map_err(|error| error.to_string())?.map_err(|refusal| refusal.to_string())
    }

    /// The record of a key as it is stored, fetched by itself; `None` where there is none. Nothing
    /// but digests is verified.
    pub(crate) async fn fetch_stored(&self, key: &StepKey) -> Result<Option<StoredRecord>, RemoteCacheError> {
        let refused = |refusal| RemoteCacheError::Refused { key: key.short(), refusal };
        let place = &self.inner.place;
        let Some(manifest) = place.manifest(&self.inner.record_tag(key)).await? else { return Ok(None) };
        if manifest.len() as u64 > MANIFEST_LIMIT {
            return Err(refused(crate::Refusal::TooLarge("the manifest")));
        }
        let parsed = RecordManifest::parse(&manifest).map_err(refused)?;
        let small = parsed.index.size <= catalogue::INDEX_SHARE as u64;
        let index = async {
            if small && parsed.index.size <= INDEX_LIMIT {
                Some(place.blob(&parsed.index).await)
            } else {
                None
            }
        };
        let (config, index) = tokio::join!(place.blob(&parsed.config), index);
        let config = config?;
        // The verified record says the same; here it is for a catalogue.
        let record = crate::RemoteRecord::parse(&config, key).map_err(refused)?;
        Ok(Some(StoredRecord {
            key: *key,
            definition: record.definition,
            created_ms: record.created_ms,
            manifest,
            config,
            // Where it is damaged, the look-up for it says so.
            index: index.and_then(Result::ok),
        }))
    }

    /// Writes a catalogue of what is there now.
    pub(crate) async fn write_catalogue(&self) -> Result<(), RemoteCacheError> {
        let place = &self.inner.place;
        if !place.is_remote() {
            return Ok(());
        }
        // Others may have published in the meantime, and written a catalogue.
        let (now, before) = (self.load().await?, self.state().await?);
        let (mut now, before) = (std::mem::take(&mut *now.lock()), before);
        {
            let before = before.lock();
            for (key, stored) in &before.stored {
                if before.published.contains(key) || !now.stored.contains_key(key) {
                    now.stored.insert(*key, stored.clone());
                }
            }
        }
        if let Some(tags) = &now.tags {
            now.stored.retain(|key, _| tags.contains_key(key));
            let missing: Vec<StepKey> =
                tags.keys().filter(|key| !now.stored.contains_key(key)).copied().take(MOST_ADDED).collect();
            let fetched = stream::iter(missing)
                .map(|key| async move { self.fetch_stored(&key).await.ok().flatten() })
                .buffer_unordered(self.inner.options.connections)
                .filter_map(|stored| async { stored })
                .collect::<Vec<_>>()
                .await;
            now.stored.extend(fetched.into_iter().map(|stored| (stored.key, Arc::new(stored))));
        }
        let stored: Vec<Arc<StoredRecord>> = now.stored.into_values().collect();
        let encode = move || catalogue::encode(stored.iter().map(Arc::as_ref));
        let Ok(bytes) = tokio::task::spawn_blocking(encode).await else { return Ok(()) };
        let blob = Descriptor::new(CATALOGUE, BlobDigest::of(&bytes), bytes.len() as u64);
        place.put_blob(&empty_config(), EMPTY.to_vec()).await?;
        place.put_blob(&blob, bytes).await?;
        place.put_manifest(&self.inner.tag, catalogue_manifest(&blob)).await
    }
}
