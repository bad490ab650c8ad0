//! What can go wrong with trees and layers.

use std::io;
use std::path::PathBuf;

use dbuild_support::io_context::IoError;

use crate::{TreeError, TreePath};

/// A failure of this crate. The message names the path and, where there is one, the way out.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The operating system refused something.
    #[error("{0}")]
    Io(#[from] IoError),
    /// An index is not what it should be.
    #[error("{0}")]
    Tree(#[from] TreeError),
    /// A path leads nowhere.
    #[error("{0}")]
    Resolve(#[from] ResolveError),
    /// The files of a layer are needed and not there.
    #[error("{path} is needed, but the layer that holds it has not been unpacked")]
    NotUnpacked {
        /// The file.
        path: TreePath,
    },
    /// A file of a context is no longer the one of its index.
    #[error("{path} changed while it was read")]
    Changed {
        /// The file, as a path of the layer.
        path: TreePath,
    },
    /// A file of a layer is not the one of its index.
    #[error(
        "{path} in {} is not what its layer's index says ({why}); remove it with `dbuild cache prune --all` and build again",
        dir.display()
    )]
    Damaged {
        /// The layer's directory.
        dir: PathBuf,
        /// The file in it.
        path: TreePath,
        /// The difference.
        why: &'static str,
    },
    /// An archive breaks a rule or a limit.
    #[error("{0}")]
    Archive(#[from] ArchiveError),
    /// Bytes could not be passed on.
    #[error("cannot write the layer: {0}")]
    Output(io::Error),
}

impl LayerError {
    /// Whether there is no room left: space, inodes or quota.
    pub fn is_storage_exhausted(&self) -> bool {
        let (Self::Io(IoError { source: error, .. }) | Self::Output(error)) = self else { return false };
        matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// A path that leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// A component before the last is no directory.
    #[error("{0} is not a directory")]
    NotADirectory(TreePath),
    /// Too many symlinks, one through the other.
    #[error("{0} leads through too many symbolic links")]
    TooManyLinks(TreePath),
    /// The path itself, or a symlink on its way, is no path.
    #[error("{0}")]
    Path(#[from] crate::PathError),
}

/// An archive that breaks a rule or a limit. Positions are bytes of the uncompressed archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The bytes do not follow the format.
    #[error("the archive is damaged at byte {position}: {why}")]
    Damaged {
        /// Where.
        position: u64,
        /// What is wrong.
        why: String,
    },
    /// An entry is well-formed, and cannot be taken.
    #[error("the archive's entry `{name}` {why}")]
    Refused {
        /// The entry.
        name: String,
        /// What it asks for.
        why: String,
    },
    /// The archive is larger than it may be.
    #[error("the archive exceeds the limit of {limit} {unit}")]
    TooLarge {
        /// The limit.
        limit: u64,
        /// Its unit: `bytes`, `entries`.
        unit: &'static str,
    },
    /// It could not be read or decompressed.
    #[error("cannot read the archive: {0}")]
    Read(io::Error),
}

impl LayerError {
    /// The operating system's answer, where the failure is one of its own (no space, say).
    pub fn io_error(&self) -> Option<&io::Error> {
        match self {
            Self::Io(IoError { source: error, .. })
            | Self::Output(error)
            | Self::Archive(ArchiveError::Read(error)) => Some(error),
            _ => None,
        }
    }
}
