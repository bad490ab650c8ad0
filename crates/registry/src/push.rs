//! An image of the store into a registry: blobs first, then the manifests that name them.
//!
//! Requests go through [`RepositoryClient`] (`oci-client`) where that can carry them, and through
//! our own transport where it cannot:
//!
//! - the first request of a push, which finds out whether the host can be reached and what
//!   authorizes us;
//! - mounts: an answer of 202 opens an upload, which `oci-client` would throw away;
//! - what `oci-client` had no success with: the same once more, and that answer counts.

use std::collections::HashSet;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use dbuild_digest::BlobDigest;
use dbuild_oci::{Descriptor, Document, Reference};
use dbuild_store::Store;
use futures_util::{Stream, StreamExt, TryStreamExt};
use oci_client::errors::OciDistributionError;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Body, Method};
use tokio::sync::mpsc;

use crate::Registry;
use crate::endpoint::Endpoint;
use crate::error::{Problem, RegistryError};
use crate::http::{Activity, parse_url};
use crate::limits::Limits;
use crate::repository_client::RepositoryClient;
use crate::resolve::{failed, local_attempt, with_retries};
use crate::transport::Request;

/// Bytes that are read of a blob at a time.
const PIECE: usize = 256 << 10;

/// Pieces that wait for the network.
const WAITING_PIECES: usize = 8;

type Progress<'a> = &'a (dyn Fn(&BlobDigest, u64) + Send + Sync);

/// What a push did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// The reference in full, with the digest: `localhost:5000/app:latest@sha256:…`.
    pub reference: String,
    /// Bytes that were sent; what the registry had is not sent again.
    pub sent_bytes: u64,
    /// Blobs that were sent.
    pub sent_blobs: usize,
    /// Blobs that the registry had, or took from another of its repositories.
    pub present_blobs: usize,
}

/// One manifest of the image and what it names.
struct Part {
    descriptor: Descriptor,
    bytes: Vec<u8>,
    blobs: Vec<Descriptor>,
}

/// A push of one image: where it goes, and what carries it.
pub(crate) struct Push<'a> {
    registry: &'a Registry,
    endpoint: &'a Endpoint,
    /// Repositories of the same registry that may have layers of the image.
    sources: Vec<String>,
    progress: Progress<'a>,
    client: tokio::sync::Mutex<Option<KeptClient>>,
    /// Our own transport carries all requests: a client takes milliseconds to make, which a push of
    /// one blob does not have.
    alone: bool,
}

/// The client for the authorization that was last accepted, or that there is none.
struct KeptClient {
    authorization: Option<String>,
    client: Option<Arc<RepositoryClient>>,
}

impl Registry {
    /// Pushes an image or an index that is in the store, whole. `base` names images (in full) that
    /// layers may come from: where they are on the same registry, their layers are not sent but
    /// mounted. `progress` gets each blob and its bytes so far.
    pub async fn push(
        &self,
        image: &Descriptor,
        reference: &str,
        base: &[String],
        progress: &(dyn Fn(&BlobDigest, u64) + Send + Sync),
    ) -> Result<Pushed, RegistryError> {
        let reference: Reference = reference.parse()?;
        let parts = self.parts(image).await.map_err(|p| failed("push", &reference, local_attempt(p)))?;
        // Mirrors are for reading.
        let endpoint = Endpoint::upstream(&self.transport.hosts.config, &reference);
        let at_host = |problem| failed("push", &reference, vec![(endpoint.host.clone(), problem)]);
        let push = Push::new(self, &endpoint, mount_sources(&reference, base), progress);
        let sent = push.blobs(&parts).await.map_err(at_host)?;
        for (at, part) in parts.iter().enumerate() {
            // The last is the image itself and gets the tag; those below it are known by digest.
            let name = match (at + 1 == parts.len(), reference.tag()) {
                (true, Some(tag)) => tag.to_owned(),
                _ => part.descriptor.digest.to_string(),
            };
            push.put_manifest(part, &name).await.map_err(at_host)?;
        }
        let present_blobs = sent.iter().filter(|bytes| **bytes == 0).count();
        Ok(Pushed {
            reference: format!("{}@{}", reference.without_digest(), image.digest),
            sent_bytes: sent.iter().sum(),
            sent_blobs: sent.len() - present_blobs,
            present_blobs,
        })
    }

    /// The manifests of an image, those that are named before the one that names them.
    async fn parts(&self, image: &Descriptor) -> Result<Vec<Part>, Problem> {
        let mut parts = Vec::new();
        let top = self.local.must_read(&image.digest, self.transport.hosts.limits.manifest_bytes).await?;
        let below = match Document::parse(&top)? {
            Document::Index(variants) => variants,
            Document::Image(manifest) => {
                let blobs = manifest.layers.into_iter().chain([manifest.config]).collect();
                return Ok(vec![Part { descriptor: image.clone(), bytes: top, blobs }]);
            }
        };
        let below: Vec<Descriptor> = below;
        for descriptor in below {
            let bytes =
                self.local.must_read(&descriptor.digest, self.transport.hosts.limits.manifest_bytes).await?;
            let Document::Image(manifest) = Document::parse(&bytes)? else {
                return Err(Problem::Unsupported("an index of indexes cannot be pushed".to_owned()));
            };
            let blobs = manifest.layers.into_iter().chain([manifest.config]).collect();
            parts.push(Part { descriptor, bytes, blobs });
        }
        parts.push(Part { descriptor: image.clone(), bytes: top, blobs: Vec::new() });
        Ok(parts)
    }
}

/// The repositories of these images from which blobs can be mounted: those of the same registry.
pub(crate) fn mount_sources(reference: &Reference, images: &[String]) -> Vec<String> {
    let images = images.iter().filter_map(|image| image.parse::<Reference>().ok());
    images
        .filter(|image| {
            image.registry() == reference.registry() && image.repository() != reference.repository()
        })
        .map(|image| image.repository().to_owned())
        .collect()
}

impl<'a> Push<'a> {
    pub(crate) fn new(
        registry: &'a Registry,
        endpoint: &'a Endpoint,
        sources: Vec<String>,
        progress: Progress<'a>,
    ) -> Self {
        Self { registry, endpoint, sources, progress, client: Default::default(), alone: false }
    }

    /// A push of single blobs.
    pub(crate) fn of_blobs(
        registry: &'a Registry,
        endpoint: &'a Endpoint,
        sources: Vec<String>,
        progress: Progress<'a>,
    ) -> Self {
        Self { alone: true, ..Self::new(registry, endpoint, sources, progress) }
    }

    fn limits(&self) -> &Limits {
        &self.registry.transport.hosts.limits
    }

    /// Pushes the blobs of an image, each once. The bytes that were sent of each; 0 if the registry
    /// had it.
    async fn blobs(&self, parts: &[Part]) -> Result<Vec<u64>, Problem> {
        let mut seen = HashSet::new();
        let blobs: Vec<&Descriptor> =
            parts.iter().flat_map(|part| &part.blobs).filter(|blob| seen.insert(blob.digest)).collect();
        let Some((first, rest)) = blobs.split_first() else { return Ok(Vec::new()) };
        let is_there =
            with_retries(self.limits(), || Box::pin(async { self.asked_for_blob(first).await })).await?;
        let known = std::iter::once((*first, Some(is_there))).chain(rest.iter().map(|blob| (*blob, None)));
        futures_util::stream::iter(known)
            .map(|(blob, known)| self.push_blob(blob, known))
            .buffer_unordered(self.limits().connections)
            .try_collect()
            .await
    }

    /// The client that carries the next request; `None` if our own transport does.
    async fn client(&self) -> Result<Option<Arc<RepositoryClient>>, Problem> {
        if self.alone {
            return Ok(None);
        }
        let hosts = &self.registry.transport.hosts;
        let scope = Request::push(Method::HEAD, self.endpoint, String::new()).scopes;
        let authorization = hosts.get(&self.endpoint.host)?.tokens.get(&scope);
        let mut kept = self.client.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.authorization == authorization) {
            return Ok(kept.client.clone());
        }
        let client = RepositoryClient::new(hosts, self.endpoint, authorization.clone()).await?.map(Arc::new);
        *kept = Some(KeptClient { authorization, client: client.clone() });
        Ok(client)
    }

    /// The bytes that were sent: 0 if the registry has the blob already. `known` is whether it
    /// does, where that was asked before.
    pub(crate) async fn push_blob(&self, blob: &Descriptor, known: Option<bool>) -> Result<u64, Problem> {
        let known = &Mutex::new(known);
        with_retries(self.limits(), || {
            Box::pin(async move {
                let known = known.lock().unwrap_or_else(PoisonError::into_inner).take();
                self.try_blob(blob, known).await
            })
        })
        .await
    }

    async fn try_blob(&self, blob: &Descriptor, known: Option<bool>) -> Result<u64, Problem> {
        let client = self.client().await?;
        let mut is_there = known;
        if let (Some(client), None) = (&client, known) {
            is_there = client.has_blob(&blob.digest).await?;
        }
        let is_there = match is_there {
            Some(is_there) => is_there,
            None => self.asked_for_blob(blob).await?,
        };
        if is_there {
            (self.progress)(&blob.digest, blob.size);
            return Ok(0);
        }
        if let Some(client) = client.filter(|_| self.sources.is_empty()) {
            let upload = Upload::new(self, blob);
            let bytes = upload.bytes().map_err(OciDistributionError::from);
            let sending = client.put_blob(&blob.digest, blob.size, &upload.activity, bytes);
            if upload.watched(sending).await?.is_some() {
                return Ok(blob.size);
            }
            // It may have been stored all the same, with an answer that breaks the specification.
            if self.asked_for_blob(blob).await? {
                return Ok(blob.size);
            }
        }
        let Some(session) = self.begin(blob).await? else {
            (self.progress)(&blob.digest, blob.size);
            return Ok(0);
        };
        self.upload(blob, session).await.map(|()| blob.size)
    }

    /// Asks our own transport whether the registry has a blob.
    pub(crate) async fn asked_for_blob(&self, blob: &Descriptor) -> Result<bool, Problem> {
        let url = self.endpoint.url(&format!("blobs/{}", blob.digest));
        let request = Request::push(Method::HEAD, self.endpoint, url);
        match self.registry.transport.send(self.endpoint, &request).await {
            Ok(_) => Ok(true),
            Err(Problem::NotFound(_)) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Opens an upload and gives its address; `None` if the registry took the blob from another
    /// repository instead.
    pub(crate) async fn begin(&self, blob: &Descriptor) -> Result<Option<String>, Problem> {
        let mut url = parse_url(&self.endpoint.url("blobs/uploads/"))?;
        let mut scopes = vec![format!("repository:{}:pull,push", self.endpoint.repository)];
        if let Some(source) = self.sources.first() {
            url.query_pairs_mut().append_pair("mount", &blob.digest.to_string()).append_pair("from", source);
            scopes.push(format!("repository:{source}:pull"));
        }
        let mut request = Request::push(Method::POST, self.endpoint, url.to_string());
        request.scopes = scopes;
        request.headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
        let answer = self.registry.transport.send(self.endpoint, &request).await?;
        if answer.response.status().as_u16() == 201 {
            return Ok(None);
        }
        let location = answer
            .header("location")
            .ok_or_else(|| Problem::Malformed("it opens an upload without an address".to_owned()))?;
        let session = url
            .join(location)
            .map_err(|error| Problem::Malformed(format!("its upload address is none: {error}")))?;
        if url.scheme() == "https" && session.scheme() != "https" {
            return Err(Problem::Malformed("its upload address leaves TLS".to_owned()));
        }
        Ok(Some(session.to_string()))
    }

    /// One PUT of our own that streams the blob; its memory does not grow with the blob.
    async fn upload(&self, blob: &Descriptor, session: String) -> Result<(), Problem> {
        let mut url = parse_url(&session)?;
        url.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
        let upload = Upload::new(self, blob);
        let body = || Body::wrap_stream(upload.bytes());
        let mut request = Request::push(Method::PUT, self.endpoint, url.to_string());
        request.headers.insert(CONTENT_LENGTH, HeaderValue::from(blob.size));
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        request.body = Some(&body);
        request.activity = Some(&upload.activity);
        upload.watched(self.registry.transport.send(self.endpoint, &request)).await.map(drop)
    }

    async fn put_manifest(&self, part: &Part, name: &str) -> Result<(), Problem> {
        let media_type = &HeaderValue::from_str(&part.descriptor.media_type)
            .map_err(|_| Problem::Local(format!("`{}` is no media type", part.descriptor.media_type)))?;
        let bytes = &Bytes::from(part.bytes.clone());
        let attempt = || async {
            if let Some(client) = self.client().await?
                && client.put_manifest(name, media_type, bytes.clone()).await?.is_some()
            {
                return Ok(());
            }
            let body = || Body::from(bytes.clone());
            let url = self.endpoint.url(&format!("manifests/{name}"));
            let mut request = Request::push(Method::PUT, self.endpoint, url);
            request.headers = HeaderMap::from_iter([(CONTENT_TYPE, media_type.clone())]);
            request.body = Some(&body);
            self.registry.transport.send(self.endpoint, &request).await.map(drop)
        };
        with_retries(self.limits(), || Box::pin(attempt())).await
    }
}

/// A blob of the store on its way to a registry.
struct Upload<'a> {
    store: Store,
    digest: BlobDigest,
    progress: Progress<'a>,
    activity: Activity,
    reports: mpsc::UnboundedSender<u64>,
    reported: tokio::sync::Mutex<mpsc::UnboundedReceiver<u64>>,
    /// Why reading broke off: the HTTP clients hide it.
    broken: Arc<Mutex<Option<String>>>,
}

impl<'a> Upload<'a> {
    fn new(push: &Push<'a>, blob: &Descriptor) -> Self {
        let (reports, reported) = mpsc::unbounded_channel();
        Self {
            store: push.registry.local.store.clone(),
            digest: blob.digest,
            progress: push.progress,
            activity: Activity::default(),
            reports,
            reported: tokio::sync::Mutex::new(reported),
            broken: Arc::default(),
        }
    }

    /// Waits for an upload, and reports its bytes meanwhile.
    async fn watched<T>(&self, sending: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
        tokio::pin!(sending);
        let mut reported = self.reported.lock().await;
        let result = loop {
            tokio::select! {
                result = &mut sending => break result,
                Some(bytes) = reported.recv() => (self.progress)(&self.digest, bytes),
            }
        };
        match self.broken.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(reason) => Err(Problem::Local(reason)),
            None => result,
        }
    }

    /// The bytes of the blob, read anew at each call.
    fn bytes(&self) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
        let (sender, receiver) = mpsc::channel::<std::io::Result<Bytes>>(WAITING_PIECES);
        let (store, digest) = (self.store.clone(), self.digest);
        let (activity, reports, broken) = (self.activity.clone(), self.reports.clone(), self.broken.clone());
        tokio::task::spawn_blocking(move || {
            let failed = |error: std::io::Error| {
                *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
                let _ = sender.blocking_send(Err(error));
            };
            let mut reader = match store.open_blob(&digest) {
                Ok(reader) => reader,
                Err(error) => return failed(std::io::Error::other(error.to_string())),
            };
            let mut total = 0;
            loop {
                let mut piece = vec![0; PIECE];
                match reader.read(&mut piece) {
                    Ok(0) => return,
                    Ok(read) => piece.truncate(read),
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(error) => return failed(error),
                }
                total += piece.len() as u64;
                if sender.blocking_send(Ok(Bytes::from(piece))).is_err() {
                    return;
                }
                activity.touch();
                let _ = reports.send(total);
            }
        });
        futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|piece| (piece, receiver))
        })
    }
}
