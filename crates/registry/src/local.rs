//! The store, as this crate uses it: asynchronous, and in words of references and platforms.

use std::time::{SystemTime, UNIX_EPOCH};

use dbuild_digest::BlobDigest;
use dbuild_oci::{Document, Platform, Reference};
use dbuild_store::{ImageEntry, ResolvedReference, Store, StoreError};
use oci_spec::image::{Descriptor, Digest};

use crate::error::Problem;
use crate::limits::Limits;
use crate::manifest::select;
use crate::resolved_image::{ResolvedImage, image};

/// On the descriptor of an image that was pulled: the name that it was pulled under. There the same
/// name may mean something newer by now; other names that people give the image are their own.
const PULLED_AS: &str = "dbuild.pulled-as";

#[derive(Clone, Debug)]
pub(crate) struct Local {
    pub store: Store,
}

/// An image that a registry gave us once under this reference.
#[derive(Clone, Debug)]
pub(crate) struct Remembered {
    pub image: ResolvedImage,
}

impl Remembered {
    pub(crate) fn noted(&self, note: String) -> ResolvedImage {
        ResolvedImage { from_cache: Some(note), ..self.image.clone() }
    }
}

impl Local {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// What a registry said last of a reference, if manifest and config are still there. A
    /// reference that is pinned needs no confirmation: what has the digest is the image.
    pub(crate) async fn remembered(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Option<Remembered>, Problem> {
        let (reference, platform) = (reference.clone(), platform.clone());
        self.blocking(move |store| {
            let known = store.reference(&reference.to_string(), &platform.to_string())?;
            let top = known.map(|known| known.index.unwrap_or(known.manifest)).or(reference.digest());
            let image = top.and_then(|top| read_image(store, &reference, &platform, top));
            Ok(image.map(|image| Remembered { image }))
        })
        .await
    }

    /// The image that a build (or `load`) here gave exactly this name.
    pub(crate) async fn built_here(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Option<ResolvedImage>, Problem> {
        let (reference, platform) = (reference.clone(), platform.clone());
        self.blocking(move |store| {
            let name = reference.to_string();
            let entry = store.images()?.into_iter().find(|entry| entry.name == name);
            let pulled = |entry: &ImageEntry| {
                let annotations = entry.descriptor.annotations().as_ref();
                annotations.is_some_and(|annotations| annotations.get(PULLED_AS) == Some(&entry.name))
            };
            let top = entry.filter(|entry| !pulled(entry)).and_then(|entry| entry.digest());
            Ok(top.and_then(|top| read_image(store, &reference, &platform, top)))
        })
        .await
    }

    /// An image of the store by its digest, under a name that need not be a reference.
    pub(crate) async fn stored(
        &self,
        name: &str,
        platform: &Platform,
        top: BlobDigest,
    ) -> Result<ResolvedImage, Problem> {
        let (name, platform) = (name.to_owned(), platform.clone());
        self.blocking(move |store| Ok(try_read_image(store, &name, &platform, top))).await?
    }

    /// Remembers that a registry has just given, or confirmed, this.
    pub(crate) async fn confirm(
        &self,
        reference: &Reference,
        platform: &Platform,
        image: &ResolvedImage,
    ) -> Result<(), Problem> {
        let (name, platform) = (reference.to_string(), platform.to_string());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let known = ResolvedReference {
            manifest: image.digest,
            index: (image.top != image.digest).then_some(image.top),
            fetched_ms: now.as_millis() as u64,
        };
        self.blocking(move |store| store.remember_reference(&name, &platform, &known)).await
    }

    /// Gives an image whose layers are there the name that it was pulled under.
    pub(crate) async fn tag_pulled(&self, image: &ResolvedImage) -> Result<(), Problem> {
        let (name, digest) = (image.reference.clone(), image.digest);
        let media_type = image.media_type.clone();
        let parsed: Digest =
            digest.to_string().parse().map_err(|error| Problem::Malformed(format!("{digest}: {error}")))?;
        self.blocking(move |store| {
            let size = store.has_blob(&digest).ok_or(StoreError::NoSuchBlob { digest })?;
            let mut descriptor = Descriptor::new(media_type.as_str().into(), size, parsed);
            descriptor.set_annotations(Some([(PULLED_AS.to_owned(), name.clone())].into()));
            store.tag(&name, &descriptor)
        })
        .await
    }

    /// A small blob, if it is there and whole.
    pub(crate) async fn blob(&self, digest: &BlobDigest, limit: u64) -> Option<Vec<u8>> {
        let digest = *digest;
        self.blocking(move |store| Ok(store.read_blob(&digest, limit).ok())).await.ok().flatten()
    }

    /// A blob that must be there.
    pub(crate) async fn must_read(&self, digest: &BlobDigest, limit: u64) -> Result<Vec<u8>, Problem> {
        let digest = *digest;
        self.blocking(move |store| store.read_blob(&digest, limit)).await
    }

    pub(crate) async fn has(&self, digest: &BlobDigest) -> Result<Option<u64>, Problem> {
        let digest = *digest;
        self.blocking(move |store| Ok(store.has_blob(&digest))).await
    }

    pub(crate) async fn keep(&self, bytes: Vec<u8>) -> Result<(), Problem> {
        self.blocking(move |store| store.put_blob(&bytes).map(drop)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        let store = self.store.clone();
        let asked = tokio::task::spawn_blocking(move || ask(&store)).await;
        let answer = asked.map_err(|error| Problem::Local(error.to_string()))?;
        Ok(answer?)
    }
}

/// An image from the blobs of the store. Anything that is missing or damaged makes it a miss: it is
/// then pulled again.
fn read_image(
    store: &Store,
    reference: &Reference,
    platform: &Platform,
    top: BlobDigest,
) -> Option<ResolvedImage> {
    try_read_image(store, &reference.to_string(), platform, top).ok()
}

fn try_read_image(
    store: &Store,
    name: &str,
    platform: &Platform,
    top: BlobDigest,
) -> Result<ResolvedImage, Problem> {
    let limits = Limits::default();
    let read = |digest: &BlobDigest, limit: u64| {
        store.read_blob(digest, limit).map_err(|error| Problem::Local(error.to_string()))
    };
    let mut digest = top;
    let mut document = Document::parse(&read(&top, limits.manifest_bytes)?)?;
    if let Document::Index(variants) = &document {
        digest = select(variants, platform)?.digest;
        document = Document::parse(&read(&digest, limits.manifest_bytes)?)?;
    }
    let Document::Image(manifest) = document else {
        return Err(Problem::Unsupported("it is an index of indexes".to_owned()));
    };
    let config = read(&manifest.config.digest, limits.config_bytes)?;
    image(name.to_owned(), top, digest, manifest, config, platform)
}
