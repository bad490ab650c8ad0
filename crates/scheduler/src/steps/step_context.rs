//! What a step is handed when it is executed.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use dbuild_events::Event;
use dbuild_plan::{Plan, Step, StepId};
use dbuild_store::Store;
use tokio::runtime::Handle;

use crate::error::StepError;
use crate::request::Request;
use crate::steps::image::Bases;

/// The build as its steps see it: the request, base images, and what commands share.
pub(crate) struct StepContext {
    pub(crate) request: Request,
    pub(crate) bases: Bases,
    pub(crate) runtime: Handle,
    /// The directory below every command's root; `None` where it could not be made.
    pub(crate) mount_points: OnceLock<Option<PathBuf>>,
    /// The cache mounts that a step of this build which may not use the cache has begun anew. The
    /// next one takes them as they are.
    renewed_cache_mounts: Mutex<HashSet<String>>,
    /// What the sandbox noted, which is the same for each command.
    sandbox_notes: Mutex<HashSet<String>>,
}

impl StepContext {
    pub(crate) fn new(request: Request, runtime: Handle) -> Self {
        let bases = Bases::new(
            request.store.clone(),
            Arc::clone(&request.blobs),
            Arc::clone(&request.events),
            runtime.clone(),
            request.cancel.clone(),
        );
        Self {
            request,
            bases,
            runtime,
            mount_points: OnceLock::new(),
            renewed_cache_mounts: Mutex::default(),
            sandbox_notes: Mutex::default(),
        }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.request.store
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.request.plan
    }

    pub(crate) fn emit(&self, event: Event) {
        self.request.events.emit(event);
    }

    /// Reports a note of the sandbox, once in a build.
    pub(crate) fn note_once(&self, text: &str) {
        let mut noted = self.sandbox_notes.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.insert(text.to_owned()) {
            self.emit(Event::Note { text: text.to_owned() });
        }
    }

    /// Whether a step may take a result that was kept before this build.
    pub(crate) fn may_use_cache(&self, step: &Step) -> bool {
        self.request.cache.allows(self.plan(), step)
    }

    /// Whether a step begins a cache mount anew: once in a build, for the first step that may not
    /// use the cache.
    pub(crate) fn begins_anew(&self, id: StepId, mount: &str) -> bool {
        let mut renewed = self.renewed_cache_mounts.lock().unwrap_or_else(PoisonError::into_inner);
        !self.may_use_cache(self.plan().step(id)) && renewed.insert(mount.to_owned())
    }

    /// The value of a secret that is not required.
    pub(crate) fn secret(&self, id: &str) -> Result<Option<Vec<u8>>, StepError> {
        self.request.secrets.get(id).map(|secret| secret.value(id)).transpose()
    }
}
