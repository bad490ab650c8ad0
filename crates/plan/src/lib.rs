//! The DAG of a build as pure data: stages, the steps in them, and the config of the image that
//! each stage would give.
//!
//! A [`Plan`] is made by lowering a Dockerfile and is never changed afterwards. It knows nothing of
//! caches, files or execution, does no I/O, and holds no source positions (those stay in a side
//! table of the frontend, keyed by [`StepId`]).

mod dag;
mod ids;
mod image;
mod remote;
mod stage;
mod step;

pub use dag::{Plan, PlanBuilder, PlanError};
pub use ids::{StageId, StepId};
pub use image::{BaseImage, LayerDescriptor};
pub use remote::{is_commit_id, shown_url};
pub use stage::{Stage, Target};
pub use step::{
    CacheSharing, ContextStep, CopySource, CopyStep, FetchStep, GitStep, HostEntry, ImageStep, InlineFile,
    Mount, MountKind, NetworkMode, RunStep, ScriptFile, SecurityMode, Step, StepKind, Unpack, WorkdirStep,
};
