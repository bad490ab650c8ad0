//! Listing a cache, and removing from it by the policies of the store.
//!
//! What was written within the grace is never removed: an export that runs may be about to name it,
//! and a build that found it a moment ago to fetch it. Blobs go after the manifests, where no
//! export holds a lease (see the places); in a registry they are the registry's to collect.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use dbuild_cache::{EntryStats, Policy, victims};
use dbuild_digest::{BlobDigest, StepKey};
use dbuild_support::time::now_ms;
use futures_util::{StreamExt as _, stream};

use crate::format::manifest::RecordManifest;
use crate::hit::RemoteHit;
use crate::{Refusal, RemoteCache, RemoteCacheError};

/// What is removed.
#[derive(Clone, Copy, Debug)]
pub struct PruneRequest {
    /// Remove, worst first, until the records take at most so many bytes.
    pub keep_size: Option<u64>,
    /// Remove what was not used for so long; where a place keeps no uses, what is older.
    pub keep_for: Option<Duration>,
    /// The order; `None` is [`dbuild_cache::default_policy`].
    pub policy: Option<&'static dyn Policy>,
    /// Never remove what was written less long ago than this.
    pub grace: Duration,
    /// Remove nothing; say what would go.
    pub dry_run: bool,
}

impl Default for PruneRequest {
    fn default() -> Self {
        let grace = Duration::from_secs(3600);
        Self { keep_size: None, keep_for: None, policy: None, grace, dry_run: false }
    }
}

/// What a prune did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Records that were removed.
    pub records: u64,
    /// Bytes of the blobs that these records alone name. Where [`PruneReport::swept`] is false, the
    /// place frees them later.
    pub bytes: u64,
    /// Bytes of the blobs that the records which stay name.
    pub remaining: u64,
    /// Blobs without a name were removed, too.
    pub swept: bool,
}

/// A record as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteEntry {
    /// Its key.
    pub key: StepKey,
    /// The instruction; empty where the record cannot be read.
    pub text: String,
    /// The stage that it stood in.
    pub stage: String,
    /// Bytes of its blobs, some of which others may name, too.
    pub size: u64,
    /// How long the step took, in milliseconds.
    pub cost_ms: u64,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// When it was used last, in milliseconds since 1970, where the place knows; else when it was
    /// written or made.
    pub last_used_ms: u64,
    /// Why it is not used, if so.
    pub refusal: Option<Refusal>,
    blobs: Vec<(BlobDigest, u64)>,
    manifest: Option<BlobDigest>,
}

impl RemoteCache {
    /// All records of the cache, the newest first. Reads each that the catalogue lacks.
    pub async fn list(&self) -> Result<Vec<RemoteEntry>, RemoteCacheError> {
        let state = self.state().await?;
        let keys: Vec<(StepKey, Option<u64>)> = {
            let known = state.lock();
            let stored = || known.stored.keys().map(|key| (*key, None)).collect();
            known.tags.as_ref().map_or_else(stored, |tags| tags.iter().map(|(k, ms)| (*k, *ms)).collect())
        };
        let mut entries: Vec<RemoteEntry> = stream::iter(keys)
            .map(|(key, modified_ms)| self.entry(key, modified_ms))
            .buffer_unordered(self.inner.options.connections)
            .collect()
            .await;
        entries.sort_by_key(|entry| Reverse((entry.created_ms, entry.key)));
        Ok(entries)
    }

    /// Removes records, and where the place can do that, what no record names any more.
    pub async fn prune(&self, request: &PruneRequest) -> Result<PruneReport, RemoteCacheError> {
        // What is there now, not what was there when the build began.
        *self.inner.state.lock().await = None;
        let entries = self.list().await?;
        let gone = chosen(&entries, request);
        let mut names: HashMap<BlobDigest, (u64, bool)> = HashMap::new();
        for entry in &entries {
            for (digest, size) in &entry.blobs {
                names.entry(*digest).or_insert((*size, false)).1 |= !gone.contains(&entry.key);
            }
        }
        let bytes = |stays: bool| names.values().filter(|(_, s)| *s == stays).map(|(size, _)| size).sum();
        let mut report = PruneReport {
            records: gone.len() as u64,
            bytes: bytes(false),
            remaining: bytes(true),
            swept: false,
        };
        if request.dry_run {
            return Ok(report);
        }
        let removed: Vec<(String, BlobDigest)> = entries
            .iter()
            .filter(|entry| gone.contains(&entry.key))
            .filter_map(|entry| Some((self.inner.record_tag(&entry.key), entry.manifest?)))
            .collect();
        if !removed.is_empty() {
            self.inner.place.remove_manifests(&removed).await?;
            *self.inner.state.lock().await = None;
            self.write_catalogue().await?;
        }
        report.swept = self.inner.place.sweep().await?.is_some();
        Ok(report)
    }

    async fn entry(&self, key: StepKey, modified_ms: Option<u64>) -> RemoteEntry {
        let known = match self.state().await {
            Ok(state) => state.lock().stored.get(&key).cloned(),
            Err(_) => None,
        };
        let mut entry = RemoteEntry {
            key,
            text: String::new(),
            stage: String::new(),
            size: 0,
            cost_ms: 0,
            created_ms: modified_ms.unwrap_or_default(),
            last_used_ms: modified_ms.unwrap_or_default(),
            refusal: None,
            blobs: Vec::new(),
            manifest: None,
        };
        let manifest = match &known {
            Some(stored) => Ok(Some(stored.manifest.clone())),
            None => self.inner.place.manifest(&self.inner.record_tag(&key)).await,
        };
        if let Ok(Some(bytes)) = &manifest {
            entry.manifest = Some(BlobDigest::of(bytes));
            if let Ok(manifest) = RecordManifest::parse(bytes) {
                entry.blobs = manifest.blobs().map(|blob| (blob.digest, blob.size)).collect();
                entry.size = entry.blobs.iter().map(|(_, size)| size).sum();
            }
        }
        let fetched = match known {
            Some(stored) => Ok(Some((*stored).clone())),
            None => self.fetch_stored(&key).await,
        };
        match fetched.map(|stored| stored.map(|stored| self.verified(&stored))) {
            Ok(Some(Ok(hit))) => entry.fill(&hit, modified_ms),
            Ok(Some(Err(refusal))) | Err(RemoteCacheError::Refused { refusal, .. }) => {
                entry.refusal = Some(refusal);
            }
            Ok(None) => entry.refusal = Some(Refusal::Missing("the manifest")),
            Err(_) => entry.refusal = Some(Refusal::Damaged("the record")),
        }
        entry
    }
}

impl RemoteEntry {
    fn fill(&mut self, hit: &RemoteHit, modified_ms: Option<u64>) {
        self.text.clone_from(&hit.record.text);
        self.stage.clone_from(&hit.record.stage);
        self.cost_ms = hit.record.duration_ms;
        self.created_ms = hit.record.created_ms;
        self.last_used_ms = modified_ms.unwrap_or(hit.record.created_ms);
    }
}

/// The keys of what goes.
fn chosen(entries: &[RemoteEntry], request: &PruneRequest) -> HashSet<StepKey> {
    let now = now_ms();
    let before = |age: Duration| now.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    // A clock of another machine that is ahead protects, too.
    let may_go = |entry: &&RemoteEntry| {
        entry.manifest.is_some() && entry.last_used_ms.max(entry.created_ms) <= before(request.grace)
    };
    let mut gone: HashSet<StepKey> = HashSet::new();
    if let Some(keep_for) = request.keep_for {
        let old = |entry: &&RemoteEntry| entry.last_used_ms < before(keep_for);
        gone.extend(entries.iter().filter(may_go).filter(old).map(|entry| entry.key));
    }
    if let Some(keep_size) = request.keep_size {
        let stats = |entry: &RemoteEntry| EntryStats {
            size: entry.size,
            cost_ms: entry.cost_ms,
            hits: 0,
            created_ms: entry.created_ms,
            last_used_ms: entry.last_used_ms,
            clock: 0.0,
        };
        let candidates: Vec<&RemoteEntry> =
            entries.iter().filter(may_go).filter(|entry| !gone.contains(&entry.key)).collect();
        let all: Vec<EntryStats> = candidates.iter().map(|entry| stats(entry)).collect();
        let policy = request.policy.unwrap_or_else(dbuild_cache::default_policy);
        // In the policy's order; of blobs that records share, none is freed before the last goes.
        let (order, _) = victims(policy, &all, u64::MAX, 0.0);
        let mut uses: HashMap<BlobDigest, (u64, u32)> = HashMap::new();
        for (digest, size) in entries.iter().filter(|e| !gone.contains(&e.key)).flat_map(|e| &e.blobs) {
            uses.entry(*digest).or_insert((*size, 0)).1 += 1;
        }
        let mut total: u64 = uses.values().map(|(size, _)| size).sum();
        for at in order {
            if total <= keep_size {
                break;
            }
            for (digest, _) in &candidates[at].blobs {
                let Some((size, count)) = uses.get_mut(digest) else { continue };
                *count -= 1;
                if *count == 0 {
                    total -= *size;
                }
            }
            gone.insert(candidates[at].key);
        }
    }
    gone
}
