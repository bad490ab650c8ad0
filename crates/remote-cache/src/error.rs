//! What can go wrong with a cache as a whole, and with one record of it.

use std::io;
use std::time::Duration;

use dbuild_registry::{Problem, RegistryError};
use dbuild_store::StoreError;
use dbuild_support::io_context::IoError;

/// Why a record that is there is a miss. The text completes *it is not used: …*.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Refusal {
    /// Another version of the format.
    #[error("it has version {0} of the format, where this dbuild reads version {ours}", ours = crate::format::FORMAT)]
    Version(u32),
    /// The ingredients of the record do not give the key that it was found by.
    #[error("its ingredients do not give its key: it is another step's")]
    OtherKey,
    /// The index is not the one of the layer that the record names.
    #[error("its index is another layer's")]
    OtherIndex,
    /// What is found under the name of a record is something else.
    #[error("what is there is no record of dbuild")]
    NoRecord,
    /// Bytes that were cut or changed.
    #[error("{0} is damaged")]
    Damaged(&'static str),
    /// Something that it names is not there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// More bytes than a reader takes.
    #[error("{0} is too large")]
    TooLarge(&'static str),
    /// It has no signature, and one is required.
    #[error("it is not signed")]
    Unsigned,
    /// It is signed with keys that are not trusted.
    #[error("it is signed with a key that is not trusted")]
    UntrustedKey,
    /// A trusted key signed something else.
    #[error("its signature is not that of its bytes")]
    Altered,
}

/// What is wrong with a cache, by what a caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Nobody answers.
    Unreachable,
    /// It does not answer in time.
    Timeout,
    /// This user may not do this, or is not known.
    NoRight,
    /// It wants us to wait longer than we do.
    Busy,
    /// The bucket, the directory or the repository is gone.
    Gone,
    /// A disk is full: the store's or the cache's.
    NoSpace,
    /// It cannot do this at all (a registry that removes nothing).
    Unsupported,
    /// What it sends is broken.
    Damaged,
    /// What the user wrote cannot be used.
    Usage,
    /// Anything else.
    Failed,
}

/// A cache could not be read or written. No error of a build: the build goes on without it.
#[derive(Debug, thiserror::Error)]
pub enum RemoteCacheError {
    /// A registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A bucket.
    #[cfg(feature = "s3")]
    #[error(transparent)]
    Bucket(#[from] dbuild_registry::BucketError),
    /// A directory.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The store of this machine.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// One record, where an error is the only way to say so.
    #[error("the record {key} is not used: {refusal}")]
    Refused {
        /// Its key, shortened.
        key: String,
        /// Why.
        refusal: Refusal,
    },
    /// It does not answer in time.
    #[error("{place} does not answer within {} s", .limit.as_secs_f32())]
    Timeout {
        /// The cache.
        place: String,
        /// For how long it was waited.
        limit: Duration,
    },
    /// The cache was given up earlier, with this error.
    #[error("{text}")]
    Earlier {
        /// Its kind.
        kind: ErrorKind,
        /// Its text.
        text: String,
        /// What to try.
        hint: Option<String>,
    },
    /// Somebody removes from it what is not used.
    #[error("{place} is being pruned: export again later")]
    BeingPruned {
        /// The cache.
        place: String,
    },
    /// The location cannot be a cache.
    #[error("`{location}` cannot be a cache: {reason}")]
    Location {
        /// As the user wrote it, without secrets.
        location: String,
        /// Why not.
        reason: String,
    },
}

impl RemoteCacheError {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Registry(RegistryError::Reference(_)) | Self::Location { .. } => ErrorKind::Usage,
            Self::Registry(RegistryError::Failed(failed)) => {
                failed.problem().map_or(ErrorKind::Failed, kind_of_problem)
            }
            #[cfg(feature = "s3")]
            Self::Bucket(error) => kind_of_problem(&error.problem),
            Self::Io(error) => kind_of_io(&error.source),
            Self::Store(error) if error.is_storage_exhausted() => ErrorKind::NoSpace,
            Self::Store(_) => ErrorKind::Failed,
            Self::Refused { .. } => ErrorKind::Damaged,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Earlier { kind, .. } => *kind,
            Self::BeingPruned { .. } => ErrorKind::Busy,
        }
    }

    /// What to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::Earlier { hint, .. } => hint.clone(),
            _ => None,
        }
    }
}

fn kind_of_problem(problem: &Problem) -> ErrorKind {
    match problem {
        Problem::Unreachable { .. } => ErrorKind::Unreachable,
        Problem::Stalled(_) | Problem::Slow { .. } => ErrorKind::Timeout,
        Problem::Unauthorized { .. } | Problem::Forbidden { .. } => ErrorKind::NoRight,
        Problem::RateLimited { .. } => ErrorKind::Busy,
        Problem::NotFound(_) => ErrorKind::Gone,
        Problem::NoSpace(_) => ErrorKind::NoSpace,
        Problem::Unexpected { status: 405 | 501, .. } | Problem::Unsupported(_) => ErrorKind::Unsupported,
        Problem::WrongDigest { .. }
        | Problem::TooLarge { .. }
        | Problem::Malformed(_)
        | Problem::Truncated { .. }
        | Problem::Cut { .. } => ErrorKind::Damaged,
        Problem::Server { .. }
        | Problem::Unexpected { .. }
        | Problem::NoPlatform { .. }
        | Problem::Local(_) => ErrorKind::Failed,
    }
}

fn kind_of_io(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::NoRight,
        io::ErrorKind::NotFound => ErrorKind::Gone,
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => ErrorKind::Damaged,
        _ => ErrorKind::Failed,
    }
}
