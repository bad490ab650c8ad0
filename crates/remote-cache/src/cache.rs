//! A cache that is open: its place, its name there, and what is required of its records.

use std::sync::Arc;
use std::time::Duration;

use dbuild_cache::Policy;
use dbuild_digest::StepKey;
use dbuild_oci::Reference;
use dbuild_registry::Registry;
use dbuild_store::Store;

use crate::known_records::Loaded;
use crate::places::directory::DirectoryPlace;
use crate::places::registry::RegistryPlace;
use crate::places::{Lease, Place};
use crate::{Location, PublicKey, RemoteCacheError, SigningKey};

/// Longest name of a cache: with `.k-` and a key it is a tag of at most 128 characters.
const LONGEST_TAG: usize = 60;

/// What is asked of a cache, besides where it is.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// Signs what is published.
    pub sign: Option<SigningKey>,
    /// Records must be signed with one of these. Empty: any record is taken.
    pub trust: Vec<PublicKey>,
    /// How long the first answer may take; then the cache is not used by this build.
    pub first_answer: Duration,
    /// How long a look-up may take, all requests together.
    pub timeout: Duration,
    /// Size that [`RemoteCache::finish`] brings a directory below, in bytes.
    pub max_size: Option<u64>,
    /// What goes first then.
    pub policy: &'static dyn Policy,
    /// Number of requests at a time.
    pub connections: usize,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            sign: None,
            trust: Vec::new(),
            first_answer: Duration::from_secs(2),
            timeout: Duration::from_secs(30),
            max_size: None,
            policy: dbuild_cache::default_policy(),
            connections: 8,
        }
    }
}

/// A cache of records. Cheap to clone; clones share what they know of it.
#[derive(Clone, Debug)]
pub struct RemoteCache {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub place: Box<dyn Place>,
    /// The name of the cache in its place.
    pub tag: String,
    pub store: Store,
    pub options: CacheOptions,
    /// What is known of what is there; of each cache one for as long as it is open.
    pub state: tokio::sync::Mutex<Option<Loaded>>,
    /// Held from the first publication to the end.
    pub lease: tokio::sync::Mutex<Option<Box<dyn Lease>>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteCache").field("place", &self.place).field("tag", &self.tag).finish()
    }
}

impl RemoteCache {
    /// A cache at this location. Opens no connection, and makes nothing.
    ///
    /// Layers are read from and brought into `store`; a registry is spoken to as `registry` is
    /// configured.
    pub fn open(
        location: &Location,
        options: CacheOptions,
        registry: &Registry,
        store: &Store,
    ) -> Result<Self, RemoteCacheError> {
        let refused = |reason: String| RemoteCacheError::Location { location: location.to_string(), reason };
        let (place, tag): (Box<dyn Place>, String) = match location {
            Location::Registry { reference } => {
                let repository = registry.artifacts(reference)?;
                let tag = repository.reference().tag().map(str::to_owned);
                let tag = tag.ok_or_else(|| refused("it is pinned to a digest; name a tag".to_owned()))?;
                (Box::new(RegistryPlace { repository }), tag)
            }
            Location::Directory { path, tag } => {
                (Box::new(DirectoryPlace { path: path.clone() }), tag.clone())
            }
            #[cfg(feature = "s3")]
            Location::S3(s3) => {
                (Box::new(crate::places::s3::S3Place::new(s3, options.first_answer)?), s3.name.clone())
            }
            #[cfg(not(feature = "s3"))]
            Location::S3(_) => return Err(refused("this dbuild was built without S3".to_owned())),
        };
        // As a tag of any registry, so that a cache can be copied from place to place.
        if format!("localhost/cache:{tag}").parse::<Reference>().is_err() {
            return Err(refused(format!("`{tag}` is no tag")));
        }
        if tag.len() > LONGEST_TAG {
            return Err(refused(format!("the tag has more than {LONGEST_TAG} characters")));
        }
        let (state, lease) = Default::default();
        let store = store.clone();
        Ok(Self { inner: Arc::new(Inner { place, tag, store, options, state, lease }) })
    }

    /// The cache as it may be shown.
    pub fn shown(&self) -> String {
        self.inner.place.shown()
    }
}

impl Inner {
    /// What the tags of records begin with.
    pub(crate) fn record_prefix(&self) -> String {
        format!("{}.k-", self.tag)
    }

    pub(crate) fn record_tag(&self, key: &StepKey) -> String {
        format!("{}.k-{key}", self.tag)
    }

    /// The key of a record's tag.
    pub(crate) fn key_of(&self, tag: &str) -> Option<StepKey> {
        tag.strip_prefix(&self.tag)?.strip_prefix(".k-")?.parse().ok()
    }
}
