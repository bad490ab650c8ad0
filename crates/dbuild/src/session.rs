//! What every command that touches the store begins with.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use dbuild_layer::OverlayFlavor;
use dbuild_registry::{Credentials, Registry};
use dbuild_sandbox::rootless::{self, Identity};
use dbuild_store::{AfterBuildLimits, Finding, Store, StoreError};
use tokio::runtime::Runtime;
use tracing_subscriber::EnvFilter;

use crate::cli::Global;
use crate::config::{Config, store_dir};
use crate::error::Error;

/// The open store and what belongs to it.
pub(crate) struct Session {
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) runtime: Runtime,
    pub(crate) identity: Identity,
    /// The store that a flag of this command named: a later command needs it again.
    pub(crate) store_flag: Option<PathBuf>,
    /// What a collection after a build keeps; `None` where there is none.
    pub(crate) upkeep: Option<AfterBuildLimits>,
}

impl Session {
    /// Opens the store. Without root the process is replaced by one that is root in a user
    /// namespace, so this comes before any thread.
    pub(crate) fn open(global: &Global) -> Result<Self, Error> {
        Self::open_with(global, Store::open)
    }

    /// The same for a command that removes things, which can begin on a full disk, too.
    pub(crate) fn open_to_collect(global: &Global) -> Result<Self, Error> {
        Self::open_with(global, |dir, flavor| Store::make_room(dir).and_then(|()| Store::open(dir, flavor)))
    }

    /// The same for a command that mends the store, with what had to be mended before it could be
    /// opened.
    pub(crate) fn open_to_repair(global: &Global) -> Result<(Self, Vec<Finding>), Error> {
        let mended = RefCell::default();
        let open = |dir: &Path, flavor| {
            let (store, findings) = Store::open_to_repair(dir, flavor)?;
            mended.replace(findings);
            Ok(store)
        };
        Self::open_with(global, open).map(|session| (session, mended.take()))
    }

    fn open_with(
        global: &Global,
        open: impl Fn(&Path, OverlayFlavor) -> Result<Store, StoreError>,
    ) -> Result<Self, Error> {
        let config = Config::read(global)?;
        let identity = rootless::enter().map_err(Error::failed)?;
        let is_root = matches!(identity, Identity::Root);
        let dir: PathBuf = store_dir(global, is_root)?;
        let filter = EnvFilter::try_new(&global.log).map_err(|_| {
            Error::usage(format!("`--log {}`: expected error, warn, info, debug or trace", global.log))
        })?;
        // Told twice (a command that runs another one), the first stays.
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
        let flavor = if is_root { OverlayFlavor::Trusted } else { OverlayFlavor::User };
        let store = open(&dir, flavor).map_err(Error::failed)?;
        for warning in store.take_warnings() {
            crate::progress::say(&format!("warning: {warning}"));
        }
        // What takes long runs on threads of its own: one worker has enough to do with the rest,
        // and a short build does not wait for threads to hand tasks to each other.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| Error::failed(format!("cannot start threads: {error}")))?;
        let upkeep = config.cache.limits();
        let registry = Registry::new(config.registry, Credentials::from_environment(), store.clone());
        let of_environment = std::env::var_os("DBUILD_STORE").map(PathBuf::from);
        let store_flag = global.store.clone().filter(|named| of_environment.as_ref() != Some(named));
        Ok(Self { store, registry, runtime, identity, store_flag, upkeep })
    }
}
