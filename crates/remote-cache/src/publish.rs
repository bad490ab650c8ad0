//! Publishing a record: its blobs first, then the manifest that names them.

use std::sync::Arc;

use dbuild_digest::BlobDigest;
use dbuild_layer::Tree;
use dbuild_oci::Descriptor;
use dbuild_store::PackedLayer;

use crate::format::catalogue::{INDEX_SHARE, StoredRecord};
use crate::format::compress::compress;
use crate::format::manifest::RecordManifest;
use crate::format::signature::trusted_signer;
use crate::format::{INDEX, INDEX_LIMIT, RECORD_CONFIG, SIGNATURE};
use crate::hit::Answer;
use crate::known_records::{Known, KnownRecords};
use crate::{Refusal, RemoteCache, RemoteCacheError, RemoteRecord};

/// A result on its way to a cache.
#[derive(Clone, Debug)]
pub struct Publication<'a> {
    /// The record.
    pub record: &'a RemoteRecord,
    /// The index of its layer.
    pub index: &'a Tree,
    /// The layer, whose blob is in the store; `None` where it has no entries.
    pub layer: Option<&'a PackedLayer>,
    /// Names of images that the layer may be mounted from, where they are on the cache's registry.
    pub images: &'a [String],
}

/// What became of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The cache had a record of this key that may be used.
    Present,
    /// It was sent; so many bytes, without those that the cache had.
    Sent {
        /// Bytes.
        bytes: u64,
    },
}

impl RemoteCache {
    /// Whether the cache has a record of this key that nothing is wrong with: then there is nothing
    /// to publish, and no layer needs to be packed for it.
    pub async fn has(&self, key: &dbuild_digest::StepKey) -> Result<bool, RemoteCacheError> {
        let state = self.state().await?;
        if state.lock().published.contains(key) {
            return Ok(true);
        }
        Ok(match self.look_up(std::slice::from_ref(key)).await?.pop() {
            Some(Answer::Hit(_)) => !self.lacks_our_signature(&state, key),
            _ => false,
        })
    }

    /// Publishes a result. When this returns, every reader finds it, and so it stays if this
    /// process dies. `progress` hears the bytes of the layer so far.
    pub async fn publish(
        &self,
        publication: &Publication<'_>,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Published, RemoteCacheError> {
        let Publication { record, index, layer, images } = publication;
        self.take_lease().await?;
        if self.has(&record.key).await? {
            return Ok(Published::Present);
        }
        let refused = |refusal| RemoteCacheError::Refused { key: record.key.short(), refusal };
        if index.digest() != record.layer {
            return Err(refused(Refusal::OtherIndex));
        }
        if layer.is_none() != record.layer_is_empty {
            return Err(refused(Refusal::Missing("its layer")));
        }
        let place = &self.inner.place;
        let config = record.to_json();
        let config_blob = Descriptor::new(RECORD_CONFIG, BlobDigest::of(&config), config.len() as u64);
        let index = compress(&index.encode());
        let index_blob = Descriptor::new(INDEX, BlobDigest::of(&index), index.len() as u64);
        if index_blob.size > INDEX_LIMIT {
            return Err(refused(Refusal::TooLarge("its index")));
        }
        let layer_blob = layer.map(|layer| Descriptor {
            annotations: layer.annotations.clone(),
            ..Descriptor::new(layer.media_type.clone(), layer.digest, layer.size)
        });
        let sending_layer = async {
            match &layer_blob {
                Some(layer) => place.push(layer, &self.inner.store, images, progress).await,
                None => Ok(0),
            }
        };
        let (config_sent, index_sent, layer_sent) = tokio::join!(
            place.put_blob(&config_blob, config.clone()),
            place.put_blob(&index_blob, index.clone()),
            sending_layer
        );
        let sent = |sent: bool, blob: &Descriptor| if sent { blob.size } else { 0 };
        let bytes = sent(config_sent?, &config_blob) + sent(index_sent?, &index_blob) + layer_sent?;
        let mut manifest = RecordManifest::new(&record.key, config_blob, index_blob, layer_blob);
        if let Some(key) = &self.inner.options.sign {
            let signature = key.sign(&record.key, &manifest.blobs().collect::<Vec<_>>());
            manifest.annotations.insert(SIGNATURE.to_owned(), signature);
        }
        let manifest = manifest.to_json();
        place.put_manifest(&self.inner.record_tag(&record.key), manifest.clone()).await?;
        let bytes = bytes + manifest.len() as u64;
        let index = Some(index).filter(|index| index.len() <= INDEX_SHARE);
        let (key, definition, created_ms) = (record.key, record.definition, record.created_ms);
        let stored = StoredRecord { key, definition, created_ms, manifest, config, index };
        self.note_published(&*self.state().await?, stored);
        Ok(Published::Sent { bytes })
    }

    /// Taken before the first blob is asked for.
    async fn take_lease(&self) -> Result<(), RemoteCacheError> {
        let mut lease = self.inner.lease.lock().await;
        if lease.is_none() {
            *lease = Some(self.inner.place.lease().await?);
        }
        Ok(())
    }

    fn note_published(&self, state: &KnownRecords, stored: StoredRecord) {
        let known: &mut Known = &mut state.lock();
        let key = stored.key;
        known.published.insert(key);
        known.answers.remove(&key);
        if let Some(tags) = &mut known.tags {
            tags.insert(key, None);
        }
        // What is too large for a catalogue need not stay in memory.
        if stored.fits() {
            known.stored.insert(key, Arc::new(stored));
        } else {
            known.stored.remove(&key);
        }
    }

    /// Whether we sign, and the record that is there is not signed by us.
    fn lacks_our_signature(&self, state: &KnownRecords, key: &dbuild_digest::StepKey) -> bool {
        let Some(ours) = &self.inner.options.sign else { return false };
        let Some(stored) = state.lock().stored.get(key).cloned() else { return true };
        let Ok(manifest) = RecordManifest::parse(&stored.manifest) else { return true };
        let signatures = manifest.annotations.get(SIGNATURE).map(String::as_str);
        let blobs: Vec<&Descriptor> = manifest.blobs().collect();
        trusted_signer(key, &blobs, signatures, &[ours.public()]).is_err()
    }
}
