//! A bucket: manifests at `PREFIXmanifests/TAG`, blobs at `PREFIXblobs/sha256/HEX`.
//!
//! Nobody can lock a bucket. A publisher writes an object below `PREFIXleases/export/` before it
//! asks for the first blob, and looks for a sweep after that; who sweeps writes one below
//! `PREFIXleases/sweep/` before it looks for exports. S3 is strongly consistent, so of two that
//! begin at once at least one sees the other: the export is refused, or the sweep removes no blob.
//! A lease counts for [`LEASE`], so one that a process left behind ends by itself; longer exports
//! renew it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use dbuild_digest::BlobDigest;
use dbuild_oci::Descriptor;
use dbuild_registry::{Bucket, BucketConfig, BucketError};
use dbuild_store::{Incoming, Store};
use dbuild_support::time::now_ms;
use futures_util::{StreamExt as _, stream};
use serde::Deserialize;

use crate::format::MANIFEST_LIMIT;
use crate::places::{Lease, Place, Progress, Result, Swept, TagEntry};
use crate::{RemoteCacheError, S3Location};

/// How long a lease counts without being renewed.
const LEASE: Duration = Duration::from_secs(3600);
/// How often it is renewed.
const RENEWAL: Duration = Duration::from_secs(600);
/// Number of objects that are listed for a sweep.
const MOST_OBJECTS: usize = 1_000_000;
/// Number of requests of a sweep at a time.
const AT_A_TIME: usize = 8;

#[derive(Debug)]
pub(crate) struct S3Place {
    bucket: Bucket,
    shown: String,
    prefix: String,
}

/// An export's lease: removed when it is dropped, and renewed until then.
struct S3Lease {
    renewing: tokio::task::JoinHandle<()>,
    bucket: Bucket,
    name: String,
}

#[async_trait]
impl Lease for S3Lease {
    async fn end(mut self: Box<Self>) {
        let name = std::mem::take(&mut self.name);
        if let Err(error) = self.bucket.remove(vec![name]).await {
            // It ends by its age.
            tracing::debug!(%error, "a lease stays");
        }
    }
}

impl Drop for S3Lease {
    fn drop(&mut self) {
        self.renewing.abort();
        if self.name.is_empty() {
            return;
        }
        let (bucket, name) = (self.bucket.clone(), std::mem::take(&mut self.name));
        // Where nothing runs any more, it ends by its age.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { bucket.remove(vec![name]).await });
        }
    }
}

impl S3Place {
    pub(crate) fn new(location: &S3Location, connect: Duration) -> Result<Self> {
        let config = BucketConfig {
            bucket: location.bucket.clone(),
            region: location.region.clone(),
            endpoint_url: location.endpoint_url.clone(),
            use_path_style: location.use_path_style,
            access_key_id: location.access_key_id.clone(),
            secret_access_key: location.secret_access_key.clone(),
            session_token: location.session_token.clone(),
            connect: Some(connect),
        };
        let shown = crate::Location::S3(location.clone()).to_string();
        Ok(Self { bucket: Bucket::new(&config)?, shown, prefix: location.prefix.clone() })
    }

    fn blob_name(&self, digest: &BlobDigest) -> String {
        format!("{}blobs/sha256/{}", self.prefix, digest.hex())
    }

    fn manifest_name(&self, tag: &str) -> String {
        format!("{}manifests/{tag}", self.prefix)
    }

    /// Writes a lease of one kind; its name.
    async fn write_lease(&self, kind: &str) -> Result<String> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let words = format!("{process} {count} {} {}", now_ms(), self.shown);
        let name = format!("{}leases/{kind}/{}", self.prefix, &BlobDigest::of(words.as_bytes()).hex()[..32]);
        self.bucket.put(&name, words.into_bytes(), false).await?;
        Ok(name)
    }

    /// Whether there is a lease of one kind that still counts, by the clock of the bucket: it is
    /// compared with that of `own`, a lease that was written a moment ago.
    async fn is_leased(&self, kind: &str, own: &str) -> Result<bool> {
        let all = self.bucket.list(&format!("{}leases", self.prefix), 10_000).await?;
        let now = all.iter().find(|one| one.name == own).map_or_else(now_ms, |one| one.modified_ms);
        let oldest = now.saturating_sub(u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX));
        let folder = format!("{}leases/{kind}/", self.prefix);
        let counts = |one: &dbuild_registry::BucketObject| {
            one.name.starts_with(&folder) && one.name != own && one.modified_ms > oldest
        };
        Ok(all.iter().any(counts))
    }

    /// The blobs that some manifest below the prefix names. Fails where one cannot be read.
    async fn needed(&self) -> Result<HashSet<BlobDigest>> {
        let manifests = self.bucket.list(&format!("{}manifests", self.prefix), MOST_OBJECTS).await?;
        let mut read = stream::iter(manifests)
            .map(|one| async move { self.bucket.get(&one.name, MANIFEST_LIMIT).await })
            .buffer_unordered(AT_A_TIME);
        let mut needed = HashSet::new();
        while let Some(bytes) = read.next().await {
            needed.extend(bytes?.map(|bytes| names(&bytes)).unwrap_or_default());
        }
        Ok(needed)
    }

    async fn sweep_blobs(&self) -> Result<Swept> {
        let there = self.bucket.list(&format!("{}blobs", self.prefix), MOST_OBJECTS).await?;
        let needed = self.needed().await?;
        let digest = |name: &str| {
            format!("sha256:{}", name.rsplit('/').next().unwrap_or_default()).parse::<BlobDigest>().ok()
        };
        let unneeded = there.iter().filter(|one| digest(&one.name).is_some_and(|d| !needed.contains(&d)));
        let mut swept = Swept::default();
        let mut removed = Vec::new();
        for one in unneeded {
            swept.blobs += 1;
            swept.bytes += one.size;
            removed.push(one.name.clone());
        }
        self.bucket.remove(removed).await?;
        Ok(swept)
    }
}

/// The blobs that a manifest names. One that cannot be read names none: nobody can use it.
fn names(manifest: &[u8]) -> Vec<BlobDigest> {
    #[derive(Deserialize)]
    struct Named {
        digest: BlobDigest,
    }
    #[derive(Deserialize)]
    struct Names {
        config: Named,
        #[serde(default)]
        layers: Vec<Named>,
    }
    let Ok(names) = serde_json::from_slice::<Names>(manifest) else { return Vec::new() };
    names.layers.iter().chain([&names.config]).map(|named| named.digest).collect()
}

#[async_trait]
impl Place for S3Place {
    fn shown(&self) -> String {
        self.shown.clone()
    }

    fn is_remote(&self) -> bool {
        true
    }

    async fn tags(&self, prefix: &str, most: usize) -> Result<Vec<TagEntry>> {
        let folder = format!("{}manifests", self.prefix);
        let listed = self.bucket.list(&folder, most.saturating_mul(2)).await?;
        let tag = |one: &dbuild_registry::BucketObject| {
            let tag = one.name.strip_prefix(&folder)?.strip_prefix('/')?;
            let ours = tag.starts_with(prefix);
            ours.then(|| TagEntry { tag: tag.to_owned(), modified_ms: Some(one.modified_ms) })
        };
        Ok(listed.iter().filter_map(tag).take(most).collect())
    }

    async fn manifest(&self, tag: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.bucket.get(&self.manifest_name(tag), MANIFEST_LIMIT).await?)
    }

    async fn put_manifest(&self, tag: &str, bytes: Vec<u8>) -> Result<()> {
        self.bucket.put(&self.manifest_name(tag), bytes, false).await?;
        Ok(())
    }

    async fn remove_manifests(&self, manifests: &[(String, BlobDigest)]) -> Result<()> {
        let names = manifests.iter().map(|(tag, _)| self.manifest_name(tag)).collect();
        Ok(self.bucket.remove(names).await?)
    }

    async fn blob(&self, blob: &Descriptor) -> Result<Vec<u8>> {
        let missing = dbuild_registry::Problem::NotFound(format!("the blob {}", blob.digest));
        let failed = |problem| BucketError { action: "read", bucket: self.shown.clone(), problem };
        let bytes = self.bucket.get(&self.blob_name(&blob.digest), blob.size).await?;
        let bytes = bytes.ok_or_else(|| failed(missing))?;
        let got = BlobDigest::of(&bytes);
        if got != blob.digest {
            let expected = blob.digest;
            return Err(failed(dbuild_registry::Problem::WrongDigest { expected, got }).into());
        }
        Ok(bytes)
    }

    async fn put_blob(&self, blob: &Descriptor, bytes: Vec<u8>) -> Result<bool> {
        // One request: the server refuses what it has.
        Ok(self.bucket.put(&self.blob_name(&blob.digest), bytes, true).await?)
    }

    async fn fetch(
        &self,
        blob: &Descriptor,
        store: &Store,
        incoming: Option<&Incoming>,
        progress: Progress<'_>,
    ) -> Result<()> {
        Ok(self.bucket.fetch(&self.blob_name(&blob.digest), blob, store, incoming, progress).await?)
    }

    async fn push(
        &self,
        blob: &Descriptor,
        store: &Store,
        _images: &[String],
        progress: Progress<'_>,
    ) -> Result<u64> {
        let name = self.blob_name(&blob.digest);
        if self.bucket.size(&name).await? == Some(blob.size) {
            progress(blob.size);
            return Ok(0);
        }
        Ok(self.bucket.send(&name, blob, store, progress).await?)
    }

    async fn lease(&self) -> Result<Box<dyn Lease>> {
        let name = self.write_lease("export").await?;
        let (bucket, renewed) = (self.bucket.clone(), name.clone());
        let renewing = tokio::spawn(async move {
            loop {
                tokio::time::sleep(RENEWAL).await;
                let _ = bucket.put(&renewed, b"renewed".to_vec(), false).await;
            }
        });
        let lease = S3Lease { renewing, bucket: self.bucket.clone(), name };
        if self.is_leased("sweep", &lease.name).await? {
            return Err(RemoteCacheError::BeingPruned { place: self.shown.clone() });
        }
        Ok(Box::new(lease))
    }

    async fn sweep(&self) -> Result<Option<Swept>> {
        let own = self.write_lease("sweep").await?;
        let swept = match self.is_leased("export", &own).await {
            Ok(true) => Ok(None),
            Ok(false) => self.sweep_blobs().await.map(Some),
            Err(error) => Err(error),
        };
        self.bucket.remove(vec![own]).await?;
        swept
    }
}
