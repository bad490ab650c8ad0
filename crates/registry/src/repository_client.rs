//! Requests to a repository that `oci-client` carries: whether a blob exists, uploads, and
//! manifests.
//!
//! Of `oci-client` 0.18 this module takes what goes well, and nothing else: where it is not sure of
//! itself (`Ok(None)`), the caller sends the request once more through our own transport, whose
//! answer counts. That is because the crate reads an error page whole and hides the headers of an
//! answer: neither a challenge nor `Retry-After` can be had from it.
//!
//! # What is guarded
//!
//! - **Authorization is ours.** It would ask `/v2/` for a challenge, and a token server without
//!   credentials. A bearer token is given as the stored authorization and not put into its cache:
//!   the cache drops a token that looks expired by this machine's clock, and the crate then
//!   authorizes by itself.
//! - **Three panics.** A manifest that is pushed by digest where the registry sends no `Location`:
//!   the digest is handed over as a tag. An authorization that is no header value: not used. A
//!   system without certificates: the crate makes a second client with nothing configured, which is
//!   tried beforehand.
//! - **TLS is not left.** It follows redirects and upload addresses to plain http, where ours
//!   refuses. A client gets a proxy for the scheme that its host does not speak, at which nothing
//!   can listen.
//! - **A stall ends.** Its own timeout runs while a body is sent; [`watch`] looks at the bytes
//!   instead.
//!
//! Client certificates cannot be given to it, and proxies only without the rules of their
//! variables: hosts with the one, and machines with the other, are left to our own transport.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use dbuild_digest::BlobDigest;
use futures_util::Stream;
use oci_client::Reference;
use oci_client::RegistryOperation::{Pull, Push};
use oci_client::client::{Certificate, CertificateEncoding, Client, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, Result as Answered};
use oci_client::secrets::RegistryAuth;
use oci_client::token_cache::RegistryTokenType;
use reqwest::header::HeaderValue;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::Semaphore;

use crate::config::{HostConfig, is_loopback};
use crate::endpoint::Endpoint;
use crate::error::Problem;
use crate::hosts::Hosts;
use crate::http::{Activity, USER_AGENT, watch};
use crate::limits::Limits;

/// Variables that name a proxy.
const PROXIES: [&str; 6] =
    ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// The address of a proxy that no connection can be made to.
const NOWHERE: &str = "http://127.0.0.1:0";

/// `oci-client` for one repository, with the authorization that the host accepted.
pub(crate) struct RepositoryClient {
    client: Client,
    /// Host and port that are connected to.
    registry: String,
    repository: String,
    permits: Arc<Semaphore>,
    limits: Limits,
}

impl RepositoryClient {
    /// The client for an endpoint that our own transport has reached; `None` if it is left to that.
    pub(crate) async fn new(
        hosts: &Hosts,
        endpoint: &Endpoint,
        authorization: Option<String>,
    ) -> Result<Option<Self>, Problem> {
        let host = hosts.get(&endpoint.host)?;
        let settings = hosts.config.host(&endpoint.host);
        let Some((scheme, registry)) = endpoint.origin.split_once("://") else { return Ok(None) };
        // This machine itself is never asked through a proxy.
        let is_direct = scheme == "http" && is_loopback(&endpoint.host);
        let names_proxy =
            || PROXIES.iter().any(|name| std::env::var_os(name).is_some_and(|url| !url.is_empty()));
        let has_plain_client = || reqwest::Client::builder().build().is_ok();
        // A handshake shows that the system has certificates, unless the host can do without.
        let needs_no_system = scheme == "http" || settings.insecure || !settings.ca.is_empty();
        if (!is_direct && names_proxy())
            || !settings.keypair.is_empty()
            || (needs_no_system && !has_plain_client())
        {
            return Ok(None);
        }
        let config = client_config(&settings, scheme, hosts.limits.connect);
        let Some(client) = config.and_then(|config| Client::try_from(config).ok()) else { return Ok(None) };
        let this = Self {
            client,
            registry: registry.to_owned(),
            repository: endpoint.repository.clone(),
            permits: host.permits.clone(),
            limits: hosts.limits.clone(),
        };
        Ok(match authorization {
            None => Some(this),
            Some(header) => this.authorize(&header).await.map(|()| this),
        })
    }

    /// Hands over the authorization; `None` if it cannot be.
    async fn authorize(&self, header: &str) -> Option<()> {
        HeaderValue::from_str(header).ok()?;
        let (auth, basic) = match header.split_once(' ')? {
            ("Bearer", token) => (RegistryAuth::Bearer(token.to_owned()), None),
            ("Basic", encoded) => {
                let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
                let (user, password) = decoded.split_once(':')?;
                (RegistryAuth::Anonymous, Some((user.to_owned(), password.to_owned())))
            }
            _ => return None,
        };
        self.client.store_auth_if_needed(&self.registry, &auth).await;
        if let Some((user, password)) = basic {
            // These never expire.
            for operation in [Pull, Push] {
                let token = RegistryTokenType::Basic(user.clone(), password.clone());
                self.client.tokens.insert(&self.reference("latest"), operation, token).await;
            }
        }
        Some(())
    }

    /// Whether the repository has a blob.
    pub(crate) async fn has_blob(&self, digest: &BlobDigest) -> Result<Option<bool>, Problem> {
        let (reference, digest) = (self.reference("latest"), digest.to_string());
        self.step(None, self.client.blob_exists(&reference, &digest)).await
    }

    /// Uploads a blob in one request, whose body is `bytes`.
    pub(crate) async fn put_blob(
        &self,
        digest: &BlobDigest,
        size: u64,
        activity: &Activity,
        bytes: impl Stream<Item = Answered<Bytes>> + Send + 'static,
    ) -> Result<Option<()>, Problem> {
        let (reference, digest) = (self.reference("latest"), digest.to_string());
        let sending = self.client.push_blob_stream(&reference, bytes, &digest, Some(size));
        Ok(self.step(Some(activity), sending).await?.map(drop))
    }

    /// Uploads a manifest under a tag or a digest.
    pub(crate) async fn put_manifest(
        &self,
        name: &str,
        media_type: &HeaderValue,
        bytes: Bytes,
    ) -> Result<Option<()>, Problem> {
        let reference = self.reference(name);
        let sending = self.client.push_manifest_raw(&reference, bytes, media_type.clone());
        Ok(self.step(None, sending).await?.map(drop))
    }

    /// One request in a slot of its host. `None` if the answer is not a plain success.
    async fn step<T>(
        &self,
        activity: Option<&Activity>,
        request: impl Future<Output = Answered<T>>,
    ) -> Result<Option<T>, Problem> {
        let _permit = self.permits.acquire().await.map_err(|error| Problem::Local(error.to_string()))?;
        match watch(self.limits.stall, activity, request).await? {
            Ok(answer) => Ok(Some(answer)),
            Err(error) => {
                tracing::debug!(registry = self.registry, error = without_body(&error), "not by oci-client");
                Ok(None)
            }
        }
    }

    /// The name of a manifest. A digest stands where a tag does: without a tag, `push_manifest_raw`
    /// panics on an answer without `Location`.
    fn reference(&self, name: &str) -> Reference {
        Reference::with_tag(self.registry.clone(), self.repository.clone(), name.to_owned())
    }
}

/// The settings of a host as `oci-client` takes them; `None` if a file of certificates cannot be
/// read.
fn client_config(
    settings: &HostConfig,
    scheme: &str,
    connect_timeout: std::time::Duration,
) -> Option<ClientConfig> {
    let mut extra_root_certificates = Vec::new();
    for path in &settings.ca {
        for certificate in CertificateDer::pem_file_iter(path).ok()? {
            let data = certificate.ok()?.to_vec();
            extra_root_certificates.push(Certificate { encoding: CertificateEncoding::Der, data });
        }
    }
    let is_plain = scheme == "http";
    Some(ClientConfig {
        protocol: if is_plain { ClientProtocol::Http } else { ClientProtocol::Https },
        // Without TLS the system's certificates are of no use, and so they are not read.
        accept_invalid_certificates: settings.insecure || is_plain,
        // Otherwise each item of a stream is a request.
        use_monolithic_push: true,
        extra_root_certificates,
        connect_timeout: Some(connect_timeout),
        user_agent: USER_AGENT,
        // One scheme leads nowhere. Any setting of a proxy also replaces those of the variables.
        http_proxy: (!is_plain).then(|| NOWHERE.to_owned()),
        https_proxy: is_plain.then(|| NOWHERE.to_owned()),
        ..ClientConfig::default()
    })
}

/// The kind of an error: the text of some holds a whole page.
fn without_body(error: &OciDistributionError) -> String {
    match error {
        OciDistributionError::ServerError { code, .. } => format!("status {code}"),
        OciDistributionError::RegistryError { .. } => "an error of the registry".to_owned(),
        other => other.to_string(),
    }
}
