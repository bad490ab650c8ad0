//! The context of I/O errors: what was tried, on what, and why not.

use std::io;
use std::path::{Path, PathBuf};

/// An operation on a file that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct IoError {
    /// What was tried: `read`, `write`, …
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// The answer of the operating system.
    pub source: io::Error,
}

impl IoError {
    /// Says what failed, on what.
    pub fn new(action: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self { action, path: path.as_ref().to_owned(), source: source.into() }
    }
}

/// Gives an I/O error its action and its path.
pub trait IoContext<T> {
    /// Says what was tried, and on what.
    fn on(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, IoError>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn on(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, IoError> {
        self.map_err(|error| IoError::new(action, path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::IoContext as _;

    #[test]
    fn an_error_names_action_and_path() {
        let failed = std::fs::read("/nonexistent/file").on("read", "/nonexistent/file");
        let text = failed.unwrap_err().to_string();
        assert!(text.starts_with("cannot read /nonexistent/file: No such file"), "{text}");
    }
}
