//! What can be wrong with a manifest or a config.

use std::fmt;

use dbuild_support::escape::one_line;

/// A manifest or config that cannot be used. The text is one line and completes *`docker.io`: …*.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It breaks the specification.
    #[error("{0}")]
    Malformed(String),
    /// It is well-formed, and something else than an image that dbuild can use.
    #[error("{0}")]
    Unsupported(String),
}

impl ManifestError {
    pub(crate) fn broken(error: &dyn fmt::Display) -> Self {
        Self::Malformed(format!("its manifest is broken: {}", one_line(&error.to_string())))
    }
}
