//! Stages: what a FROM opens.

use dbuild_oci::{HistoryEntry, ImageConfig, Platform};
use serde::{Deserialize, Serialize};

use crate::{StageId, StepId};

/// A stage that the target reaches (or, with `last: None`, one that it does not reach and that is
/// only shown).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// What people call it: its name, or `stage-2` by its position in the Dockerfile.
    pub name: String,
    /// Its position in the Dockerfile, from 0.
    pub index: u32,
    /// What FROM names, expanded: an image, another stage or `scratch`.
    pub base: String,
    /// The stage that it is built on, where FROM names one.
    pub base_stage: Option<StageId>,
    /// The platform that it is built for.
    pub platform: Platform,
    /// The step that is the stage's file system as FROM gives it. `None`: not reached.
    pub first: Option<StepId>,
    /// The step whose output is the stage's file system. `None`: not reached.
    pub last: Option<StepId>,
    /// The image config that the stage ends with.
    pub config: ImageConfig,
    /// The history of the image that the stage would give, the base's included. Entries that are
    /// not `empty_layer` and the layers (those of the base image, then one for each layer step)
    /// correspond one to one.
    pub history: Vec<HistoryEntry>,
}

/// What a build is asked to give.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The platform that the image is labelled with: the one that was asked for, else that of the
    /// base.
    pub platform: Platform,
    /// The stage that becomes it.
    pub stage: StageId,
}
