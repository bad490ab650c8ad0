//! The hosts that are spoken to: of each a client, the slots for its requests, and the tokens that
//! it accepted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::{Client, Method, RequestBuilder, Url};
use tokio::sync::Semaphore;

use crate::config::{Config, is_loopback};
use crate::credentials::Credentials;
use crate::error::Problem;
use crate::http::{chain, client_builder, no_client};
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

    /// The client of a host, made when it is first needed: reading the system's certificates takes
    /// milliseconds that a cached build does not have.
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
        let local = |path: &std::path::Path, error: reqwest::Error| {
            Problem::Local(format!(
                "{} for {name} is not what it should be: {}",
                path.display(),
                chain(&error)
            ))
        };
        let mut builder = client_builder(self.limits.connect).pool_max_idle_per_host(self.limits.connections);
        if is_loopback(name) {
            builder = builder.no_proxy();
        }
        if settings.insecure {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        for path in &settings.ca {
            let certificates =
                reqwest::Certificate::from_pem_bundle(&read(path)?).map_err(|e| local(path, e))?;
            builder = builder.tls_certs_merge(certificates);
        }
        if let Some(pair) = settings.keypair.first() {
            let mut pem = read(&pair.cert)?;
            pem.push(b'\n');
            pem.extend(read(&pair.key)?);
            builder = builder.identity(reqwest::Identity::from_pem(&pem).map_err(|e| local(&pair.cert, e))?);
        }
        builder.build().map_err(|error| no_client(&error))
    }

    pub(crate) fn request(&self, host: &str, method: Method, url: Url) -> Result<RequestBuilder, Problem> {
        Ok(self.get(host)?.client.request(method, url))
    }
}
