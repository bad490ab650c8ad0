//! What a build is given besides its plan.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use dbuild_cache::Strategy;
use dbuild_events::EventSink;
use dbuild_layer::{Ignore, PackOptions};
use dbuild_plan::{Plan, Step};
use dbuild_sandbox::Ulimit;
use dbuild_store::{IncomingBlob, Store};

use crate::error::StepError;
use crate::schedule::cancel::Cancel;
use crate::{BlobSource, RemoteResults, RemoteSource};

/// One build. Everything that it may read or reach is in here.
#[derive(Clone)]
pub struct Request {
    /// What to do.
    pub plan: Arc<Plan>,
    /// Where results are kept.
    pub store: Store,
    /// Where missing layers of base images come from.
    pub blobs: Arc<dyn BlobSource>,
    /// Where files of servers and repositories come from.
    pub remotes: Arc<dyn RemoteSource>,
    /// Where results of other machines come from, and where results go for them.
    pub remote_results: Option<Arc<dyn RemoteResults>>,
    /// Receives what happens.
    pub events: Arc<dyn EventSink>,
    /// The directories of the build context (`None`) and of the named ones.
    pub contexts: BTreeMap<Option<String>, ContextDir>,
    /// What identifies a step.
    pub strategy: &'static dyn Strategy,
    /// Whether a RUN that used the network can be found by what it read; see
    /// [`Strategy::is_traced`].
    pub traced_network: TracedNetwork,
    /// Which steps may take a result from the cache.
    pub cache: CacheUse,
    /// How many steps run at the same time.
    pub jobs: NonZeroUsize,
    /// How the layers of the targets are packed while later steps run; `None` where no output needs
    /// it.
    pub pack: Option<PackOptions>,
    /// Hears, when the steps are done, which layers the first target has above those of its base,
    /// from the lowest on: most are packed, and some are on their way.
    pub layers: Option<LayerListener>,
    /// Which COPYs' files stay in the context where the packed layer is all that the build needs;
    /// `None`: all are written.
    pub unwritten: Option<UnwrittenPolicy>,
    /// Layers of base images get that compression, too; otherwise they keep theirs.
    pub repack_bases: bool,
    /// The values for `RUN --mount=type=secret`, by id.
    pub secrets: BTreeMap<String, Secret>,
    /// The agents for `RUN --mount=type=ssh`, by id.
    pub ssh: BTreeMap<String, PathBuf>,
    /// What RUN steps get of this machine.
    pub machine: Machine,
    /// Ends the build.
    pub cancel: Cancel,
}

/// Hears of layers.
pub type LayerListener = Arc<dyn Fn(IncomingBlob) + Send + Sync>;

/// What becomes of a RUN that used the network, when all that it read is as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TracedNetwork {
    /// Its result is used, as that of any RUN whose inputs did not change.
    #[default]
    Hit,
    /// It runs.
    Miss,
}

/// Which COPYs are large enough to be packed from where their files are. Those of smaller ones are
/// written all the same: a command that looks into the image soon after finds them unpacked.
#[derive(Clone, Copy, Debug)]
pub struct UnwrittenPolicy {
    /// From so many paths on.
    pub paths: usize,
    /// Or from so many bytes on.
    pub bytes: u64,
}

impl Default for UnwrittenPolicy {
    fn default() -> Self {
        Self { paths: 200, bytes: 4 << 20 }
    }
}

/// A local directory that steps copy from.
#[derive(Clone, Debug)]
pub struct ContextDir {
    /// The directory.
    pub root: PathBuf,
    /// What of it is not there.
    pub ignore: Ignore,
}

/// Which steps may take a result from the cache. Results are kept in any case.
#[derive(Clone, Debug, Default)]
pub enum CacheUse {
    /// All.
    #[default]
    All,
    /// None: `--no-cache`.
    Nothing,
    /// All but those of these stages, in lower case: `--no-cache-filter`.
    Except(BTreeSet<String>),
}

impl CacheUse {
    /// What is said of a step that may not take a result from the cache.
    pub fn why_not(&self) -> &'static str {
        match self {
            Self::Except(_) => "the cache may not be used for it (--no-cache-filter)",
            Self::All | Self::Nothing => "the cache may not be used for it (--no-cache)",
        }
    }

    /// Whether a step may take a result that was kept before this build.
    pub(crate) fn allows(&self, plan: &Plan, step: &Step) -> bool {
        match self {
            Self::All => true,
            Self::Nothing => false,
            Self::Except(stages) => !stages.contains(&plan.stage(step.stage).name.to_ascii_lowercase()),
        }
    }
}

/// Where a secret's value is. It is read when a step needs it, and kept nowhere; but for one from a
/// pipe, which gives it once.
#[derive(Clone, Debug)]
pub enum Secret {
    /// A file.
    File(PathBuf),
    /// A variable of dbuild's environment.
    Variable(String),
    /// The value itself, which came from a pipe.
    Value(SecretValue),
}

/// Bytes that no debug output shows.
#[derive(Clone)]
pub struct SecretValue(Arc<[u8]>);

impl From<Vec<u8>> for SecretValue {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl std::fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

impl Secret {
    /// The bytes; `id` is for the error.
    pub(crate) fn value(&self, id: &str) -> Result<Vec<u8>, StepError> {
        match self {
            Self::Value(value) => Ok(value.0.to_vec()),
            Self::File(path) => std::fs::read(path).map_err(|error| {
                StepError::Needs(format!("the secret `{id}` cannot be read from {}: {error}", path.display()))
            }),
            Self::Variable(name) => {
                std::env::var_os(name).map(std::os::unix::ffi::OsStringExt::into_vec).ok_or_else(|| {
                    StepError::Needs(format!("the secret `{id}` needs the variable {name}, which is not set"))
                })
            }
        }
    }
}

/// What RUN steps get of this machine.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// What they read as `/etc/resolv.conf`.
    pub resolv_conf: Vec<u8>,
    /// `RUN --security=insecure` was allowed.
    pub allow_insecure: bool,
    /// Size of `/dev/shm` in bytes, if it is not the usual one.
    pub shm_size: Option<u64>,
    /// Resource limits of theirs.
    pub ulimits: Vec<Ulimit>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("steps", &self.plan.len())
            .field("jobs", &self.jobs)
            .finish_non_exhaustive()
    }
}
