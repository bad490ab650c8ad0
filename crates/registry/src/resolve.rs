//! From a reference to an image that is pinned by digest.
//!
//! # Order of sources
//!
//! | | first | then | if no registry answers |
//! |---|---|---|---|
//! | `name@sha256:…`, known | what is remembered; no network | | |
//! | a name that was built here | the image that was built | | |
//! | [`PullPolicy::PreferCached`] | what is remembered, with a note | the registry | an error |
//! | [`PullPolicy::CheckTag`] | one HEAD; unchanged: what is remembered | the registry | what is remembered, with a note |
//! | [`PullPolicy::Always`] | one HEAD or GET | | an error, even where something is remembered |
//!
//! A name that was built here (`dbuild build -t base .`, then `FROM base`) is used as it is, as
//! people expect it of `docker build`: only [`PullPolicy::Always`] asks the registry first, and
//! takes the local image where the registry does not have one, with a note. A name that
//! [`Registry::pull`] gave is not built here; it is checked like any other.

use std::sync::Arc;

use dbuild_digest::BlobDigest;
use dbuild_oci::{Descriptor, Document, Manifest, Platform, Reference};
use futures_util::future::BoxFuture;
use reqwest::Method;
use reqwest::header::{ACCEPT as ACCEPT_HEADER, HeaderValue};

use crate::Registry;
use crate::endpoint::Endpoint;
use crate::error::{Failed, Problem, RegistryError};
use crate::limits::Limits;
use crate::local::Remembered;
use crate::manifest::{ACCEPT, select};
use crate::resolved_image::{ResolvedImage, image};
use crate::transport::Request;

/// When a registry is asked for an image that the store has already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// `--pull`: ask, and fail if no host answers.
    Always,
    /// Ask whether the tag still means the same; use what is there if no host answers.
    #[default]
    CheckTag,
    /// `--pull=false`: ask only for what is not there.
    PreferCached,
}

impl Registry {
    /// Finds an image and its variant for a platform. Manifest and config are kept in the store and
    /// remembered under the reference; layers are not fetched.
    ///
    /// The head of this module's file says in which order the store and the registries are asked.
    pub async fn resolve(
        &self,
        reference: &str,
        platform: &Platform,
        policy: PullPolicy,
    ) -> Result<ResolvedImage, RegistryError> {
        let reference: Reference = reference.parse()?;
        let fail = |attempts| failed("pull", &reference, attempts);
        let cached = self.local.remembered(&reference, platform).await.map_err(|p| fail(local_attempt(p)))?;
        if let (Some(cached), Some(_)) = (&cached, reference.digest()) {
            return Ok(cached.image.clone());
        }
        let built = self.local.built_here(&reference, platform).await;
        let built = built.map_err(|problem| fail(local_attempt(problem)))?;
        match (&built, &cached, policy) {
            (_, _, PullPolicy::Always) | (None, None, _) | (None, Some(_), PullPolicy::CheckTag) => {}
            (Some(built), _, _) => return Ok(built.clone()),
            (None, Some(cached), PullPolicy::PreferCached) => {
                return Ok(cached
                    .noted(format!("{reference}: not checked for updates, using the copy in the store")));
            }
        }
        let attempts = match self.ask(&reference, platform, cached.as_ref()).await {
            Ok(image) => return Ok(image),
            Err(attempts) => attempts,
        };
        let silent = attempts.iter().any(|(_, problem)| problem.is_absence_of_answer())
            && attempts.last().is_some_and(|(_, problem)| problem.is_absence_of_answer());
        let missing =
            matches!(attempts.last(), Some((_, Problem::NotFound(_) | Problem::Unauthorized { .. })));
        if let Some(mut built) = built.filter(|_| silent || missing) {
            built.from_cache =
                Some(format!("{reference}: {}; using the image that was built here", summary(&attempts)));
            return Ok(built);
        }
        match (cached, policy) {
            (Some(cached), PullPolicy::CheckTag) if silent => {
                Ok(cached.noted(format!("{reference}: {}; using the copy in the store", summary(&attempts))))
            }
            (Some(_), _) if silent => Err(RegistryError::Failed(Box::new(Failed {
                reference: reference.to_string(),
                action: "pull".to_owned(),
                attempts,
                advice: Some("a copy is in the store: leave out --pull to use it".to_owned()),
            }))),
            _ => Err(fail(attempts)),
        }
    }

    /// The variant for a platform of an image that the store has, manifest and config, under a name
    /// that no registry knows. No host is asked.
    pub async fn from_store(
        &self,
        name: &str,
        platform: &Platform,
        top: BlobDigest,
    ) -> Result<ResolvedImage, RegistryError> {
        self.local.stored(name, platform, top).await.map_err(|problem| {
            RegistryError::Failed(Box::new(Failed {
                reference: name.to_owned(),
                action: "use".to_owned(),
                attempts: vec![("the image".to_owned(), problem)],
                advice: None,
            }))
        })
    }

    /// Asks the mirrors and the registry.
    async fn ask(
        &self,
        reference: &Reference,
        platform: &Platform,
        cached: Option<&Remembered>,
    ) -> Result<ResolvedImage, Vec<(String, Problem)>> {
        if let Some(cached) = cached {
            // With something to fall back on, an unreachable host is not asked twice.
            let limits = Limits { connect_attempts: 1, attempts: 2, ..self.transport.hosts.limits.clone() };
            let head = self
                .everywhere(reference, &limits, |endpoint| {
                    Box::pin(async move { self.head(&endpoint, reference).await })
                })
                .await?;
            if head == Some(cached.image.top) {
                self.local.confirm(reference, platform, &cached.image).await.map_err(local_attempt)?;
                return Ok(cached.image.clone());
            }
        }
        let limits = &self.transport.hosts.limits;
        let path = &reference.tag_or_digest();
        let top = self
            .everywhere(reference, limits, |endpoint| {
                Box::pin(async move { self.get_manifest(&endpoint, path, reference.digest(), None).await })
            })
            .await?;
        let top_digest = BlobDigest::of(&top.bytes);
        self.local.keep(top.bytes).await.map_err(local_attempt)?;
        let (mut digest, mut host, mut document) = (top_digest, top.host, top.document);
        if let Document::Index(variants) = &document {
            let found = select(variants, platform).map_err(|problem| at(&host, problem))?;
            let served = self.manifest_by_digest(reference, found).await?;
            self.local.keep(served.bytes).await.map_err(local_attempt)?;
            (digest, host, document) = (found.digest, served.host, served.document);
        }
        let Document::Image(manifest) = document else {
            let problem =
                Problem::Unsupported("it is an index of indexes; name the image by its digest".to_owned());
            return Err(at(&host, problem));
        };
        let config = self.config(reference, &host, &manifest).await?;
        let image = image(reference.to_string(), top_digest, digest, manifest, config, platform)
            .map_err(|problem| at(&host, problem))?;
        self.local.confirm(reference, platform, &image).await.map_err(local_attempt)?;
        Ok(image)
    }

    /// The digest that a tag names, if the endpoint says so without sending it.
    async fn head(&self, endpoint: &Endpoint, reference: &Reference) -> Result<Option<BlobDigest>, Problem> {
        let mut request =
            Request::pull(Method::HEAD, endpoint, &format!("manifests/{}", reference.tag_or_digest()));
        request.headers.insert(ACCEPT_HEADER, HeaderValue::from_static(ACCEPT));
        let answer = self.transport.send(endpoint, &request).await?;
        Ok(answer.header("docker-content-digest").and_then(|digest| digest.parse().ok()))
    }

    /// A manifest or index, verified against the digest that is expected, or else the one in the
    /// answer's head. A page that something on the way gives for everything is none: the next
    /// endpoint is asked.
    async fn get_manifest(
        &self,
        endpoint: &Endpoint,
        path: &str,
        expected: Option<BlobDigest>,
        size: Option<u64>,
    ) -> Result<Served, Problem> {
        let mut request = Request::pull(Method::GET, endpoint, &format!("manifests/{path}"));
        request.headers.insert(ACCEPT_HEADER, HeaderValue::from_static(ACCEPT));
        let answer = self.transport.send(endpoint, &request).await?;
        let limit = size.unwrap_or(u64::MAX).min(self.transport.hosts.limits.manifest_bytes);
        let announced = answer.header("docker-content-digest").and_then(|digest| digest.parse().ok());
        let bytes = answer.body("its manifest", limit).await?;
        let got = BlobDigest::of(&bytes);
        match expected.or(announced) {
            Some(expected) if expected != got => Err(Problem::WrongDigest { expected, got }),
            _ => Ok(Served { host: endpoint.host.clone(), document: Document::parse(&bytes)?, bytes }),
        }
    }

    async fn manifest_by_digest(
        &self,
        reference: &Reference,
        wanted: &Descriptor,
    ) -> Result<Served, Vec<(String, Problem)>> {
        if let Some(bytes) = self.local.blob(&wanted.digest, self.transport.hosts.limits.manifest_bytes).await
        {
            let host = reference.registry().to_owned();
            let document = Document::parse(&bytes).map_err(|problem| at(&host, problem.into()))?;
            return Ok(Served { host, bytes, document });
        }
        let path = &wanted.digest.to_string();
        self.everywhere(reference, &self.transport.hosts.limits, |endpoint| {
            Box::pin(async move {
                self.get_manifest(&endpoint, path, Some(wanted.digest), Some(wanted.size)).await
            })
        })
        .await
    }

    async fn config(
        &self,
        reference: &Reference,
        host: &str,
        manifest: &Manifest,
    ) -> Result<Vec<u8>, Vec<(String, Problem)>> {
        let limit = self.transport.hosts.limits.config_bytes;
        let wanted = &manifest.config;
        if wanted.size > limit {
            return Err(at(host, Problem::TooLarge { what: "its config".to_owned(), limit }));
        }
        if let Some(bytes) = self.local.blob(&wanted.digest, limit).await {
            return Ok(bytes);
        }
        let bytes = self
            .everywhere(reference, &self.transport.hosts.limits, |endpoint| {
                Box::pin(async move { self.get_config(&endpoint, wanted).await })
            })
            .await?;
        self.local.keep(bytes.clone()).await.map_err(local_attempt)?;
        Ok(bytes)
    }

    async fn get_config(&self, endpoint: &Endpoint, wanted: &Descriptor) -> Result<Vec<u8>, Problem> {
        let request = Request::pull(Method::GET, endpoint, &format!("blobs/{}", wanted.digest));
        let bytes = self.transport.send(endpoint, &request).await?.body("its config", wanted.size).await?;
        let got = BlobDigest::of(&bytes);
        if got != wanted.digest {
            return Err(Problem::WrongDigest { expected: wanted.digest, got });
        }
        Ok(bytes)
    }

    /// Asks one endpoint after the other, each as often as its failures allow, until one succeeds.
    pub(crate) async fn everywhere<'f, T>(
        &self,
        reference: &Reference,
        limits: &Limits,
        ask: impl Fn(Arc<Endpoint>) -> BoxFuture<'f, Result<T, Problem>>,
    ) -> Result<T, Vec<(String, Problem)>> {
        let mut attempts = Vec::new();
        for endpoint in Endpoint::all(&self.transport.hosts.config, reference) {
            let endpoint = Arc::new(endpoint);
            match with_retries(limits, || ask(endpoint.clone())).await {
                Ok(found) => return Ok(found),
                Err(problem) => {
                    tracing::debug!(%reference, host = endpoint.host, %problem, "no use");
                    let is_local = problem.is_local();
                    attempts.push((endpoint.host.clone(), problem));
                    if is_local {
                        break;
                    }
                }
            }
        }
        Err(attempts)
    }
}

/// A manifest or index, and the host that gave it.
struct Served {
    host: String,
    bytes: Vec<u8>,
    document: Document,
}

/// What is wrong with an image that a host gave.
fn at(host: &str, problem: Problem) -> Vec<(String, Problem)> {
    vec![(host.to_owned(), problem)]
}

/// A download that came so much farther than ever before has got somewhere, and its attempts are
/// counted anew.
const PROGRESS: u64 = 1 << 20;

/// Tries until it works, or until the limits say that it will not.
pub(crate) async fn with_retries<'f, T>(
    limits: &Limits,
    attempt: impl Fn() -> BoxFuture<'f, Result<T, Problem>>,
) -> Result<T, Problem> {
    let (mut failed, mut came) = (0, 0);
    loop {
        let problem = match attempt().await {
            Ok(found) => return Ok(found),
            Err(problem) => problem,
        };
        // A body has an end, so this has one, too.
        if let Problem::Truncated { got, .. } = &problem
            && *got >= came + PROGRESS
        {
            (failed, came) = (0, *got);
        }
        failed += 1;
        let Some(delay) = limits.delay(failed, &problem) else { return Err(problem) };
        tracing::debug!(%problem, ?delay, "trying again");
        tokio::time::sleep(delay).await;
    }
}

pub(crate) fn failed(action: &str, reference: &Reference, attempts: Vec<(String, Problem)>) -> RegistryError {
    RegistryError::Failed(Box::new(Failed {
        reference: reference.to_string(),
        action: action.to_owned(),
        attempts,
        advice: None,
    }))
}

pub(crate) fn local_attempt(problem: Problem) -> Vec<(String, Problem)> {
    vec![("the store".to_owned(), problem)]
}

fn summary(attempts: &[(String, Problem)]) -> String {
    match attempts.last() {
        Some((host, Problem::Unreachable { .. })) => format!("{host} cannot be reached"),
        Some((host, problem)) => format!("{host}: {problem}"),
        None => "nobody was asked".to_owned(),
    }
}
