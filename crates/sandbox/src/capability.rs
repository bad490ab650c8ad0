//! What a probe found of one thing.

use serde::{Deserialize, Serialize};

use crate::error::SandboxError;

/// One thing that the sandbox uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// A short name: `overlay`, `user namespaces`.
    pub name: String,
    /// Whether it is there.
    pub ok: bool,
    /// What was found, in words.
    pub detail: String,
    /// What to do where it is missing.
    pub advice: Option<String>,
}

impl Capability {
    /// It is there.
    pub(crate) fn present(name: &str, detail: &str) -> Self {
        Self { name: name.to_owned(), ok: true, detail: detail.to_owned(), advice: None }
    }

    /// It is not there, for this reason. What to try stands on a line of its own.
    pub(crate) fn missing(name: &str, error: SandboxError) -> Self {
        let (error, advice) = match error {
            SandboxError::Setup { what, errno, advice } => {
                (SandboxError::Setup { what, errno, advice: None }, advice)
            }
            other => (other, None),
        };
        Self { name: name.to_owned(), ok: false, detail: error.to_string(), advice }
    }
}
