//! An image of the store into a registry: blobs first, then the manifests that name them.

use std::collections::HashSet;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use dbuild_digest::BlobDigest;
use dbuild_oci::{Descriptor, Document, Reference};
use futures_util::{StreamExt, TryStreamExt};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Body, Method};
use tokio::sync::mpsc;

use crate::Registry;
use crate::endpoint::Endpoint;
use crate::error::{Problem, RegistryError};
use crate::http::{Activity, parse_url};
use crate::resolve::{failed, local_attempt, with_retries};
use crate::transport::Request;

/// What is read of a blob at a time.
const PIECE: usize = 256 << 10;

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

impl Registry {
    /// Pushes an image or an index that is in the store, whole. `base` names images (in full) that layers may come
    /// from: where they are on the same registry, their layers are not sent but mounted. `progress` is told of each
    /// blob and of its bytes so far.
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
        let sources: Vec<String> = base
            .iter()
            .filter_map(|base| base.parse::<Reference>().ok())
            .filter(|base| {
                base.registry() == reference.registry() && base.repository() != reference.repository()
            })
            .map(|base| base.repository().to_owned())
            .collect();
        let mut seen = HashSet::new();
        let blobs = parts.iter().flat_map(|part| &part.blobs).filter(|blob| seen.insert(blob.digest));
        let sent: Vec<u64> = futures_util::stream::iter(blobs)
            .map(|blob| self.push_blob(&endpoint, blob, &sources, progress))
            .buffer_unordered(self.transport.hosts.limits.connections)
            .try_collect()
            .await
            .map_err(at_host)?;
        for (at, part) in parts.iter().enumerate() {
            // The last is the image itself and gets the tag; those below it are known by digest.
            let name = match (at + 1 == parts.len(), reference.tag()) {
                (true, Some(tag)) => tag.to_owned(),
                _ => part.descriptor.digest.to_string(),
            };
            self.put_manifest(&endpoint, part, &name).await.map_err(at_host)?;
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

    /// Bytes sent: 0 if the registry has the blob already.
    async fn push_blob(
        &self,
        endpoint: &Endpoint,
        blob: &Descriptor,
        sources: &[String],
        progress: &(dyn Fn(&BlobDigest, u64) + Send + Sync),
    ) -> Result<u64, Problem> {
        with_retries(&self.transport.hosts.limits, || {
            Box::pin(async move {
                if self.has_blob(endpoint, blob).await? {
                    progress(&blob.digest, blob.size);
                    return Ok(0);
                }
                let Some(session) = self.begin(endpoint, blob, sources).await? else {
                    progress(&blob.digest, blob.size);
                    return Ok(0);
                };
                self.upload(endpoint, blob, session, progress).await.map(|()| blob.size)
            })
        })
        .await
    }

    async fn has_blob(&self, endpoint: &Endpoint, blob: &Descriptor) -> Result<bool, Problem> {
        let request = Request::push(Method::HEAD, endpoint, endpoint.url(&format!("blobs/{}", blob.digest)));
        match self.transport.send(endpoint, &request).await {
            Ok(_) => Ok(true),
            Err(Problem::NotFound(_)) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Opens an upload and gives its address; `None` if the registry took the blob from another repository instead.
    async fn begin(
        &self,
        endpoint: &Endpoint,
        blob: &Descriptor,
        sources: &[String],
    ) -> Result<Option<String>, Problem> {
        let mut url = parse_url(&endpoint.url("blobs/uploads/"))?;
        let mut scopes = vec![format!("repository:{}:pull,push", endpoint.repository)];
        if let Some(source) = sources.first() {
            url.query_pairs_mut().append_pair("mount", &blob.digest.to_string()).append_pair("from", source);
            scopes.push(format!("repository:{source}:pull"));
        }
        let mut request = Request::push(Method::POST, endpoint, url.to_string());
        request.scopes = scopes;
        request.headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
        let answer = self.transport.send(endpoint, &request).await?;
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

    /// One PUT that streams the blob; its memory does not grow with the blob.
    async fn upload(
        &self,
        endpoint: &Endpoint,
        blob: &Descriptor,
        session: String,
        progress: &(dyn Fn(&BlobDigest, u64) + Send + Sync),
    ) -> Result<(), Problem> {
        let mut url = parse_url(&session)?;
        url.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
        let activity = Activity::default();
        let (reports, mut reported) = mpsc::unbounded_channel();
        let broken: Arc<std::sync::Mutex<Option<String>>> = Arc::default();
        let body = || {
            let store = self.local.store.clone();
            let digest = blob.digest;
            blob_body(store, digest, activity.clone(), reports.clone(), broken.clone())
        };
        let mut request = Request::push(Method::PUT, endpoint, url.to_string());
        request.headers.insert(CONTENT_LENGTH, HeaderValue::from(blob.size));
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        request.body = Some(&body);
        request.activity = Some(&activity);
        let sending = self.transport.send(endpoint, &request);
        tokio::pin!(sending);
        let result = loop {
            tokio::select! {
                result = &mut sending => break result,
                Some(bytes) = reported.recv() => progress(&blob.digest, bytes),
            }
        };
        let broken = broken.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        match (result, broken) {
            (Ok(_), _) => Ok(()),
            (Err(_), Some(reason)) => Err(Problem::Local(reason)),
            (Err(problem), None) => Err(problem),
        }
    }

    async fn put_manifest(&self, endpoint: &Endpoint, part: &Part, name: &str) -> Result<(), Problem> {
        let media_type = HeaderValue::from_str(&part.descriptor.media_type)
            .map_err(|_| Problem::Local(format!("`{}` is no media type", part.descriptor.media_type)))?;
        let body = || Body::from(part.bytes.clone());
        let attempt = || async {
            let mut request =
                Request::push(Method::PUT, endpoint, endpoint.url(&format!("manifests/{name}")));
            request.headers = HeaderMap::from_iter([(CONTENT_TYPE, media_type.clone())]);
            request.body = Some(&body);
            self.transport.send(endpoint, &request).await.map(drop)
        };
        with_retries(&self.transport.hosts.limits, || Box::pin(attempt())).await
    }
}

/// A blob of the store as a body. Why it broke off, if it did, is left in `broken`: the HTTP client hides it.
fn blob_body(
    store: dbuild_store::Store,
    digest: BlobDigest,
    activity: Activity,
    reports: mpsc::UnboundedSender<u64>,
    broken: Arc<std::sync::Mutex<Option<String>>>,
) -> Body {
    let (sender, receiver) = mpsc::channel::<std::io::Result<Bytes>>(8);
    tokio::task::spawn_blocking(move || {
        let failed = |error: std::io::Error| {
            *broken.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error.to_string());
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
    Body::wrap_stream(futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    }))
}
