//! What dbuild and its helper say to each other.

use serde::{Deserialize, Serialize};

use crate::capability::Capability;
use crate::error::SandboxError;
use crate::exit::Exit;
use crate::spec::Spec;
use crate::trace::Trace;

/// The private `argv[0]` of a helper.
pub(crate) const HELPER_NAME: &str = "dbuild-sandbox-helper";

/// What dbuild asks of a helper.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Run this. Without a terminal, the descriptors of its standard output and error are beside
    /// it, and that of its standard input, if it has one.
    Run { spec: Box<Spec> },
    /// Try what this machine offers.
    Probe,
    /// Try an overlay on this directory, which is empty but for what the caller made there.
    ProbeStore { dir: std::path::PathBuf },
}

/// What a helper answers: to `Run` with `Started` and `Exited`, or with `Failed` alone.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// The program runs. Beside it a pidfd and, with a terminal, its other side.
    Started { pid: u32, notes: Vec<String> },
    /// It does not, and nothing is left.
    Failed(SandboxError),
    /// It ended, and nothing is left.
    Exited(Exit, Option<Box<Trace>>),
    /// What was found.
    Probed(Vec<Capability>),
}
