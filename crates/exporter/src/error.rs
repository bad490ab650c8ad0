//! What can go wrong on the way out, in words that name the path or image and say what to try.

use std::io;
use std::path::{Path, PathBuf};

use dbuild_digest::BlobDigest;
use dbuild_registry::RegistryError;
use dbuild_store::StoreError;
use dbuild_support::io_context::IoError;

/// An image could not be put together, written, read or sent.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A file or directory could not be used.
    #[error("{}{}", .0, hint(&.0.source))]
    Io(#[from] IoError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Files could not be written.
    #[error(transparent)]
    Layer(#[from] dbuild_layer::LayerError),
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The image is not what a build could have made.
    #[error("the image of {platform} does not fit together: {problem}")]
    Inconsistent {
        /// Its platform.
        platform: String,
        /// What does not fit.
        problem: String,
    },
    /// The output cannot take this image.
    #[error("{0}")]
    Unsupported(String),
    /// What was read is not an image.
    #[error("{}: {problem}", path.display())]
    NotAnImage {
        /// The file or directory; `-` is stdin.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A blob that is read in does not have the digest that names it.
    #[error("{}: the blob {expected} has other contents ({found}): the file is damaged", path.display())]
    Mismatch {
        /// The file or directory.
        path: PathBuf,
        /// The name.
        expected: BlobDigest,
        /// The digest of what is there.
        found: BlobDigest,
    },
    /// The user had enough of waiting for a pipe.
    #[error("interrupted")]
    Interrupted,
    /// Neither docker nor podman is there.
    #[error(
        "--load needs `docker` or `podman` in PATH, and neither is there: leave out --load, and the image is in dbuild's own store; or write it with `--output type=docker,dest=FILE`"
    )]
    NoEngine,
    /// `docker load` failed.
    #[error("`{command}` failed ({status}){}", said(.output))]
    Engine {
        /// The command.
        command: String,
        /// How it ended.
        status: String,
        /// The end of what it said.
        output: String,
    },
}

impl ExportError {
    /// An I/O error on a path, unless it carries an error of ours.
    pub(crate) fn from_io(source: io::Error, action: &'static str, path: &Path) -> Self {
        match source.downcast::<Self>() {
            Ok(ours) => ours,
            Err(source) => IoError::new(action, path, source).into(),
        }
    }
}

/// Gives an I/O error its path.
pub(crate) trait Context<T> {
    fn on(self, action: &'static str, path: &Path) -> Result<T, ExportError>;
}

impl<T> Context<T> for io::Result<T> {
    fn on(self, action: &'static str, path: &Path) -> Result<T, ExportError> {
        self.map_err(|source| ExportError::from_io(source, action, path))
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            " (free some space, or write to another place)"
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
            " (`dest` names the wrong kind of file)"
        }
        _ => "",
    }
}

fn said(output: &str) -> String {
    if output.is_empty() { String::new() } else { format!(":\n{output}") }
}
