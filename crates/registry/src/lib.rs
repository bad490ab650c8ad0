//! Everything of dbuild that opens a connection: registries, file servers, git repositories, and
//! the collector of traces.
//!
//! A [`Registry`] turns a reference into an image that is pinned by digest ([`Registry::resolve`]),
//! fetches blobs into the store when a step needs them (it is the scheduler's `BlobSource`), and
//! pushes what the store holds ([`Registry::push`]). It knows nothing of Dockerfiles, plans or how
//! layers are unpacked.
//!
//! `Bucket` keeps objects by name, for caches (the cargo feature `s3`).
//!
//! A repository is a place of other artifacts, too ([`ArtifactRepository`]); what they are is not
//! known here.
//!
//! What a Dockerfile or the command line names elsewhere, files of servers and git repositories,
//! comes through [`Remotes`] (the scheduler's `RemoteSource`).
//!
//! [`send`] hands a document to a server that the user names: the trace of a build to a collector.
//! It is here because it opens a connection, and shares nothing with the rest but the HTTP client.
//!
//! Requests to registries are sent by our own `transport`; those of a push by `oci-client` where it
//! can carry them (`repository_client`, whose head says what is not left to it).
//!
//! What holds for every request to a registry, tested against a server that misbehaves:
//!
//! - Mirrors are asked first, in the order of the configuration, then the registry itself.
//! - No bytes are trusted: manifests, configs and layers are accepted only with the digest and size
//!   that named them.
//! - Everything is bounded ([`Limits`]): attempts, waits, silence, manifests, tokens, error pages
//!   (in a push by time, elsewhere by size), connections; a body is read no further than its
//!   descriptor's size.
//! - `Retry-After` is honoured, and a token that has run out is renewed.
//! - Credentials go to the scheme, host and port that they are for, and to the token server that
//!   this host names; never along a redirect or an upload address to another one.
//! - An error names the image, each host and its answer, and says what to try.

mod artifacts;
mod auth;
mod authorities;
#[cfg(feature = "s3")]
mod bucket;
#[cfg(feature = "s3")]
mod bucket_transport;
mod config;
mod credentials;
mod download;
mod endpoint;
mod error;
mod fetch;
mod git;
mod hosts;
mod http;
mod limits;
mod local;
mod login;
mod manifest;
mod push;
mod remotes;
mod repository_client;
mod resolve;
mod resolved_image;
mod send;
#[cfg(test)]
mod tests;
mod tokens;
mod transport;
mod unreachable;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use dbuild_digest::BlobDigest;
use dbuild_store::Store;

pub use artifacts::ArtifactRepository;
#[cfg(feature = "s3")]
pub use bucket::{Bucket, BucketConfig, BucketError, BucketObject};
pub use config::{Config, HostConfig, KeyPair};
pub use credentials::Credentials;
pub use error::{Failed, Problem, RegistryError, RemoteError};
pub use limits::Limits;
pub use login::{LoginError, forget_login, keep_login, try_login};
pub use push::Pushed;
pub use remotes::Remotes;
pub use resolve::PullPolicy;
pub use resolved_image::ResolvedImage;
pub use send::{Post, SendError, send};
pub use unreachable::Unreachable;

/// All registries, as the configuration describes them. Cheap to clone; clones share connections
/// and tokens.
#[derive(Clone, Debug)]
pub struct Registry {
    transport: Arc<transport::Transport>,
    local: local::Local,
    /// Blobs that are being fetched right now, so that two steps that want one layer fetch it once.
    fetching: Arc<Mutex<HashMap<BlobDigest, Arc<tokio::sync::Mutex<()>>>>>,
}

impl Registry {
    /// Registries as configured, with a store to keep in what is pulled. Opens no connection and
    /// reads no file.
    pub fn new(config: Config, credentials: Credentials, store: Store) -> Self {
        Self::with_limits(config, credentials, store, Limits::default())
    }

    /// As [`Registry::new`], with other bounds.
    pub fn with_limits(config: Config, credentials: Credentials, store: Store, limits: Limits) -> Self {
        Self {
            transport: Arc::new(transport::Transport::new(config, credentials, limits)),
            local: local::Local::new(store),
            fetching: Arc::default(),
        }
    }
}
