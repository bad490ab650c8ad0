//! What the child reports to the helper.

use serde::{Deserialize, Serialize};

use super::points::MadePoint;
use crate::SandboxError;

/// What the child reports to the helper, right before it becomes the user's process. Closing the
/// socket by exec means success.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ChildReport {
    /// All is set up. With a terminal its other side is beside it.
    Ready { made: Vec<MadePoint>, notes: Vec<String> },
    /// From now on the process stops at calls that name paths. Beside it the descriptor of their
    /// tracer.
    Traced,
    /// The program was not started.
    Failed { error: SandboxError, made: Vec<MadePoint> },
}
