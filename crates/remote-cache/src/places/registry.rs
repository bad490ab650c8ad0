//! A repository of a registry.

use async_trait::async_trait;
use dbuild_digest::BlobDigest;
use dbuild_oci::Descriptor;
use dbuild_oci::media_type::OCI_MANIFEST;
use dbuild_registry::ArtifactRepository;
use dbuild_store::{Incoming, Store};

use crate::places::{HeldLease, Lease, Place, Progress, Result, Swept, TagEntry};

/// A repository. A registry collects blobs that no manifest names by itself, or by a command of
/// its operator; it is never done from here, so leases are not needed.
#[derive(Debug)]
pub(crate) struct RegistryPlace {
    pub repository: ArtifactRepository,
}

#[async_trait]
impl Place for RegistryPlace {
    fn shown(&self) -> String {
        self.repository.reference().to_string()
    }

    fn is_remote(&self) -> bool {
        true
    }

    async fn tags(&self, prefix: &str, most: usize) -> Result<Vec<TagEntry>> {
        let tags = self.repository.tags(prefix, most).await?;
        Ok(tags.into_iter().map(|tag| TagEntry { tag, modified_ms: None }).collect())
    }

    async fn manifest(&self, tag: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.repository.manifest(tag).await?)
    }

    async fn put_manifest(&self, tag: &str, bytes: Vec<u8>) -> Result<()> {
        Ok(self.repository.put_manifest(tag, OCI_MANIFEST, bytes).await?)
    }

    async fn remove_manifests(&self, manifests: &[(String, BlobDigest)]) -> Result<()> {
        for (_, digest) in manifests {
            self.repository.remove_manifest(digest).await?;
        }
        Ok(())
    }

    async fn blob(&self, blob: &Descriptor) -> Result<Vec<u8>> {
        Ok(self.repository.blob(blob).await?)
    }

    async fn put_blob(&self, blob: &Descriptor, bytes: Vec<u8>) -> Result<bool> {
        Ok(self.repository.put_blob(&blob.digest, bytes).await?)
    }

    async fn fetch(
        &self,
        blob: &Descriptor,
        _store: &Store,
        incoming: Option<&Incoming>,
        progress: Progress<'_>,
    ) -> Result<()> {
        Ok(self.repository.fetch_blob(blob, incoming, progress).await?)
    }

    async fn push(
        &self,
        blob: &Descriptor,
        _store: &Store,
        images: &[String],
        progress: Progress<'_>,
    ) -> Result<u64> {
        Ok(self.repository.push_blob(blob, images, progress).await?)
    }

    async fn lease(&self) -> Result<Box<dyn Lease>> {
        Ok(Box::new(HeldLease(())))
    }

    async fn sweep(&self) -> Result<Option<Swept>> {
        Ok(None)
    }
}
