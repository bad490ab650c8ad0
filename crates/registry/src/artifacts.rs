//! A repository as a place of artifacts: manifests by tag, blobs by digest, lists of tags.
//!
//! Images go another way ([`Registry::resolve`], [`Registry::push`]). Here nothing is known of what
//! an artifact is; the bytes of a manifest come and go as they are. Mirrors are not asked: what was
//! written a moment ago must be found.

use bytes::Bytes;
use dbuild_digest::BlobDigest;
use dbuild_oci::media_type::OCI_MANIFEST;
use dbuild_oci::{Descriptor, Reference};
use dbuild_store::Incoming;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, LINK};
use reqwest::{Body, Method};
use serde::Deserialize;

use crate::Registry;
use crate::endpoint::Endpoint;
use crate::error::{Problem, RegistryError};
use crate::http::parse_url;
use crate::push::Push;
use crate::resolve::{failed, with_retries};
use crate::transport::Request;

/// Largest page of a list of tags, in bytes.
const TAGS_PAGE: u64 = 16 << 20;
/// Largest number of pages that are read of a list of tags.
const MOST_PAGES: usize = 200;
/// Bytes of a blob from which on it is asked whether it is there.
const ASKED_FIRST: u64 = 64 << 10;
/// Number of tags that are asked for at once.
const PAGE: usize = 1000;

/// One repository of a registry. Cheap to clone; shares connections and tokens with the
/// [`Registry`] that it came from.
#[derive(Clone, Debug)]
pub struct ArtifactRepository {
    registry: Registry,
    reference: Reference,
    endpoint: Endpoint,
}

#[derive(Deserialize)]
struct TagsAnswer {
    // Some registries answer `null` for a repository without tags.
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Registry {
    /// The repository that a reference names. Opens no connection. Fails with a text that names
    /// none.
    pub fn artifacts(&self, reference: &str) -> Result<ArtifactRepository, RegistryError> {
        let reference: Reference = reference.parse()?;
        let endpoint = Endpoint::upstream(&self.transport.hosts.config, &reference);
        Ok(ArtifactRepository { registry: self.clone(), reference, endpoint })
    }
}

impl ArtifactRepository {
    /// The reference that it was opened with.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The bytes of a manifest by tag or digest; `None` where there is none. They are not verified.
    pub async fn manifest(&self, name: &str) -> Result<Option<Vec<u8>>, RegistryError> {
        let limit = self.registry.transport.hosts.limits.manifest_bytes;
        let found = self
            .retried(|| async {
                let mut request = Request::pull(Method::GET, &self.endpoint, &format!("manifests/{name}"));
                request.headers.insert(ACCEPT, HeaderValue::from_static(OCI_MANIFEST));
                self.registry
                    .transport
                    .send(&self.endpoint, &request)
                    .await?
                    .body("its manifest", limit)
                    .await
            })
            .await;
        match found {
            Err(Problem::NotFound(_)) => Ok(None),
            found => found.map(Some).map_err(|problem| self.failed("read", problem)),
        }
    }

    /// Stores a manifest under a tag. What it names must be there.
    pub async fn put_manifest(
        &self,
        tag: &str,
        media_type: &str,
        bytes: Vec<u8>,
    ) -> Result<(), RegistryError> {
        let bytes = Bytes::from(bytes);
        let put = self.retried(|| async {
            let media_type = HeaderValue::from_str(media_type)
                .map_err(|_| Problem::Local(format!("`{media_type}` is no media type")))?;
            let body = || Body::from(bytes.clone());
            let url = self.endpoint.url(&format!("manifests/{tag}"));
            let mut request = Request::push(Method::PUT, &self.endpoint, url);
            request.headers = HeaderMap::from_iter([(CONTENT_TYPE, media_type)]);
            request.body = Some(&body);
            match self.registry.transport.send(&self.endpoint, &request).await {
                Err(refused) if is_race(&refused) => Err(again(refused)),
                sent => sent.map(drop),
            }
        });
        put.await.map_err(|problem| self.failed("write", problem))
    }

    /// Removes a manifest, and with it its tags; whether there was one. Many registries do not
    /// allow it (405), which is an error. Its blobs stay until the registry collects them.
    pub async fn remove_manifest(&self, digest: &BlobDigest) -> Result<bool, RegistryError> {
        let removed = self
            .retried(|| async {
                let url = self.endpoint.url(&format!("manifests/{digest}"));
                let scope = format!("repository:{}:delete,pull,push", self.endpoint.repository);
                let request = Request::new(Method::DELETE, url, scope);
                self.registry.transport.send(&self.endpoint, &request).await.map(drop)
            })
            .await;
        match removed {
            Err(Problem::NotFound(_)) => Ok(false),
            removed => removed.map(|()| true).map_err(|problem| self.failed("remove", problem)),
        }
    }

    /// The tags that begin with a text, at most so many; none where there is no such repository.
    ///
    /// The list begins behind `prefix` where the registry can do that, and is read to its end:
    /// registries do not agree on the order.
    pub async fn tags(&self, prefix: &str, most: usize) -> Result<Vec<String>, RegistryError> {
        let mut found = Vec::new();
        let mut next = Some(self.endpoint.url(&format!("tags/list?n={PAGE}&last={prefix}")));
        for _ in 0..MOST_PAGES {
            let Some(url) = next.take() else { break };
            let page = match self.retried(|| self.tags_page(&url)).await {
                Err(Problem::NotFound(_)) => break,
                page => page.map_err(|problem| self.failed("list", problem))?,
            };
            found.extend(page.0.into_iter().filter(|tag| tag.starts_with(prefix)));
            if found.len() >= most {
                found.truncate(most);
                break;
            }
            next = page.1;
        }
        Ok(found)
    }

    /// The bytes of a blob, verified. For blobs that are small enough for the memory: more bytes
    /// than the descriptor says are never read.
    pub async fn blob(&self, blob: &Descriptor) -> Result<Vec<u8>, RegistryError> {
        let got = self.retried(|| async {
            let request = Request::pull(Method::GET, &self.endpoint, &format!("blobs/{}", blob.digest));
            let bytes = self.registry.transport.send(&self.endpoint, &request).await?;
            let bytes = bytes.body("a blob of the cache", blob.size).await?;
            if (bytes.len() as u64) < blob.size {
                let (digest, got, expected) = (blob.digest, bytes.len() as u64, blob.size);
                return Err(Problem::Truncated { digest, got, expected });
            }
            let got = BlobDigest::of(&bytes);
            if got != blob.digest {
                return Err(Problem::WrongDigest { expected: blob.digest, got });
            }
            Ok(bytes)
        });
        got.await.map_err(|problem| self.failed("read", problem))
    }

    /// Fetches a blob into the store. `Ok` means that it is there, whole and verified.
    pub async fn fetch_blob(
        &self,
        blob: &Descriptor,
        incoming: Option<&Incoming>,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), RegistryError> {
        self.registry.fetch_blob(&self.reference.to_string(), blob, incoming, progress).await
    }

    /// Sends bytes as a blob, unless it is large and there; whether they were sent.
    pub async fn put_blob(&self, digest: &BlobDigest, bytes: Vec<u8>) -> Result<bool, RegistryError> {
        let bytes = Bytes::from(bytes);
        let blob = Descriptor::new("application/octet-stream", *digest, bytes.len() as u64);
        let put = self.retried(|| async {
            let push = Push::of_blobs(&self.registry, &self.endpoint, Vec::new(), &|_, _| {});
            // To ask takes as long as to send a small one.
            if blob.size > ASKED_FIRST && push.asked_for_blob(&blob).await? {
                return Ok(false);
            }
            let Some(session) = push.begin(&blob).await? else { return Ok(false) };
            let mut url = parse_url(&session)?;
            url.query_pairs_mut().append_pair("digest", &digest.to_string());
            let body = || Body::from(bytes.clone());
            let mut request = Request::push(Method::PUT, &self.endpoint, url.to_string());
            request.headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
            request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            request.body = Some(&body);
            match self.registry.transport.send(&self.endpoint, &request).await {
                Err(refused) if is_race(&refused) => match push.asked_for_blob(&blob).await? {
                    true => Ok(false),
                    false => Err(again(refused)),
                },
                sent => sent.map(|_| true),
            }
        });
        put.await.map_err(|problem| self.failed("write", problem))
    }

    /// Sends a blob of the store, unless it is there or one of these images of the same registry
    /// has it, from which it is then mounted; the bytes that were sent. `progress` hears the bytes
    /// so far.
    pub async fn push_blob(
        &self,
        blob: &Descriptor,
        images: &[String],
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<u64, RegistryError> {
        let report = |_: &BlobDigest, bytes| progress(bytes);
        let sources = crate::push::mount_sources(&self.reference, images);
        let push = Push::of_blobs(&self.registry, &self.endpoint, sources, &report);
        let pushed = self.retried(|| async {
            match push.push_blob(blob, None).await {
                Err(refused) if is_race(&refused) => Err(again(refused)),
                pushed => pushed,
            }
        });
        pushed.await.map_err(|problem| self.failed("write", problem))
    }

    /// One page of the list of tags, and the address of the next.
    async fn tags_page(&self, url: &str) -> Result<(Vec<String>, Option<String>), Problem> {
        let scope = format!("repository:{}:pull", self.endpoint.repository);
        let request = Request::new(Method::GET, url.to_owned(), scope);
        let answer = self.registry.transport.send(&self.endpoint, &request).await?;
        let next = answer.header(LINK.as_str()).and_then(next_of).map(str::to_owned);
        let body = answer.body("its list of tags", TAGS_PAGE).await?;
        let tags: TagsAnswer = serde_json::from_slice(&body)
            .map_err(|_| Problem::Malformed("its list of tags is broken".to_owned()))?;
        // A next page at another host is none of this registry.
        let here = parse_url(url)?;
        let next = next.and_then(|next| here.join(&next).ok());
        let next = next.filter(|next| crate::http::same_origin(&here, next) && *next != here);
        Ok((tags.tags.unwrap_or_default(), next.map(|next| next.to_string())))
    }

    async fn retried<'f, T, F>(&self, attempt: impl Fn() -> F) -> Result<T, Problem>
    where
        F: Future<Output = Result<T, Problem>> + Send + 'f,
    {
        with_retries(&self.registry.transport.hosts.limits, || Box::pin(attempt())).await
    }

    fn failed(&self, action: &str, problem: Problem) -> RegistryError {
        failed(&format!("{action} the cache"), &self.reference, vec![(self.endpoint.host.clone(), problem)])
    }
}

/// Whether a request may have met an upload of the same blob, or of one that the manifest names:
/// docker-registry then says that the bytes are not those of the digest.
fn is_race(problem: &Problem) -> bool {
    matches!(problem, Problem::Unexpected { status: 400, .. })
}

/// The same as a problem that passes.
fn again(problem: Problem) -> Problem {
    match problem {
        Problem::Unexpected { status, message } => Problem::Server { status, message, retry_after: None },
        other => other,
    }
}

/// The address of the next page: `</v2/…>; rel="next"`.
fn next_of(link: &str) -> Option<&str> {
    let (address, parameters) = link.strip_prefix('<')?.split_once('>')?;
    parameters.contains("next").then_some(address)
}

#[cfg(test)]
mod tests {
    use super::next_of;

    #[test]
    fn the_next_page_is_read() {
        assert_eq!(next_of("</v2/a/tags/list?n=2&last=b>; rel=\"next\""), Some("/v2/a/tags/list?n=2&last=b"));
        assert_eq!(next_of("</v2/a>; rel=\"prev\""), None);
        assert_eq!(next_of("nonsense"), None);
    }
}
