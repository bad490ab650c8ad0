//! What the commands of a step run with: enough to open a shell there later, and no value of a
//! secret.

use serde::{Deserialize, Serialize};

/// The variables, user, directory and shell that hold at a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeConfig {
    /// What ENV and ARG set, `NAME=value`; no secrets.
    pub env: Vec<String>,
    /// As USER says it; empty is root.
    pub user: String,
    /// Where a RUN starts.
    pub workdir: String,
    /// The words of SHELL; empty is `/bin/sh -c`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
}
