//! The names of stages and steps within one plan.

use serde::{Deserialize, Serialize};

/// Names a stage within one plan: its position in [`crate::Plan::stages`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StageId(pub u32);

impl StageId {
    /// The position of this stage in [`crate::Plan::stages`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Names a step within one plan. Ids are dense and follow the Dockerfile's order, and every step's
/// inputs have smaller ids than the step itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepId(pub u32);

impl StepId {
    /// The position of this step in [`crate::Plan::steps`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}
