//! The hosts that are spoken to: of each a client, the slots for its requests, and the tokens that
//! it accepted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::{Client, Method, RequestBuilder, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::Semaphore;

use crate::authorities::tls_config;
use crate::config::{Config, is_loopback};
use crate::credentials::Credentials;
use crate::error::Problem;
use crate::http::{chain, client_builder, no_client, no_settings};
use crate::limits::Limits;
use crate::tokens::Tokens;

/// All hosts, with what the configuration says of them.
#[derive(Debug)]
pub(crate) struct Hosts {
    pub config: Config,
    pub credentials: Credentials,
    pub limits: Limits,
    known: Mutex<HashMap<String, Arc<Host>>>,
}

/// What is kept of one host.
#[derive(Debug)]
pub(crate) struct Host {
    pub client: Client,
    pub permits: Arc<Semaphore>,
    pub tokens: Tokens,
}

impl Hosts {
    pub(crate) fn new(config: Config, credentials: Credentials, limits: Limits) -> Self {
        Self { config, credentials, limits, known: Mutex::default() }
    }

    /// The client of a host, made when it is first needed.
    pub(crate) fn get(&self, name: &str) -> Result<Arc<Host>, Problem> {
        let mut hosts = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = hosts.get(name) {
            return Ok(host.clone());
        }
        let host = Arc::new(Host {
            client: self.client(name)?,
            permits: Arc::new(Semaphore::new(self.limits.connections)),
            tokens: Tokens::default(),
        });
        hosts.insert(name.to_owned(), host.clone());
        Ok(host)
    }

    fn client(&self, name: &str) -> Result<Client, Problem> {
        let settings = self.config.host(name);
        let read = |path: &std::path::Path| {
            std::fs::read(path).map_err(|error| {
                Problem::Local(format!("cannot read {} for {name}: {error}", path.display()))
            })
        };
        let local = |path: &std::path::Path, error: &dyn std::error::Error| {
            let why = chain(error);
            Problem::Local(format!("{} for {name} is not what it should be: {why}", path.display()))
        };
        let mut builder = client_builder(self.limits.connect).pool_max_idle_per_host(self.limits.connections);
        if is_loopback(name) {
            builder = builder.no_proxy();
        }
        let mut authorities = Vec::new();
        for path in &settings.ca {
            let pem = read(path)?;
            let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
            authorities.extend(read.map_err(|error| local(path, &error))?);
        }
        let Some(pair) = settings.keypair.first() else {
            builder = if settings.insecure {
                builder.tls_danger_accept_invalid_certs(true)
            } else {
                let tls = tls_config(authorities).map_err(|error| no_settings(&chain(&error)))?;
                builder.tls_backend_preconfigured(tls)
            };
            return builder.build().map_err(|error| no_client(&error));
        };
        // A host that is given a certificate speaks TLS in any case: nothing is put off.
        let merged = authorities.iter().map(|der| reqwest::Certificate::from_der(der));
        let merged = merged.collect::<Result<Vec<_>, _>>().map_err(|error| no_client(&error))?;
        let mut pem = read(&pair.cert)?;
        pem.push(b'\n');
        pem.extend(read(&pair.key)?);
        let identity = reqwest::Identity::from_pem(&pem).map_err(|error| local(&pair.cert, &error))?;
        builder = builder.tls_danger_accept_invalid_certs(settings.insecure).tls_certs_merge(merged);
        builder.identity(identity).build().map_err(|error| no_client(&error))
    }

    pub(crate) fn request(&self, host: &str, method: Method, url: Url) -> Result<RequestBuilder, Problem> {
        Ok(self.get(host)?.client.request(method, url))
    }
}
