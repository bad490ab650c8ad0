//! What can go wrong with a store, in words that name the path and say what to try.

use std::io;
use std::path::PathBuf;

use dbuild_digest::BlobDigest;
use dbuild_support::io_context::IoError;

/// An operation of the store that failed. Damage of single entries is not here: it is a miss.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or directory could not be used.
    #[error("{}{}", .0, hint(&.0.source))]
    Io(#[from] IoError),
    /// The database could not be used.
    #[error("cannot use the database {}: {source}{}", path.display(), database_hint(source))]
    Database {
        /// The database file.
        path: PathBuf,
        /// Why not.
        source: rusqlite::Error,
    },
    /// A newer dbuild made this store.
    #[error(
        "the store {} has format {found}, and this dbuild knows formats up to {known}: \
         use a newer dbuild, or another directory with --store",
        path.display()
    )]
    NewerFormat {
        /// The store.
        path: PathBuf,
        /// Its format.
        found: String,
        /// The newest format that this program knows.
        known: u32,
    },
    /// The store was made with the other kind of overlay markers.
    #[error(
        "the store {} was made {found} and cannot be used {wanted}: use another directory with --store",
        path.display()
    )]
    OtherFlavor {
        /// The store.
        path: PathBuf,
        /// `by root` or `without root`.
        found: &'static str,
        /// The same of this process.
        wanted: &'static str,
    },
    /// The directory holds something else.
    #[error("{} is not empty and is no dbuild store: use another directory with --store", path.display())]
    NotAStore {
        /// The directory.
        path: PathBuf,
    },
    /// No image has this name or id.
    #[error("there is no image `{name}`{hint}: `dbuild images` lists what there is")]
    NoSuchImage {
        /// What was asked for.
        name: String,
        /// A near name, as ` (did you mean …?)`, or nothing.
        hint: String,
    },
    /// Several images have an id that starts so.
    #[error("`{prefix}` is the start of several images' ids: {candidates}")]
    AmbiguousId {
        /// What was asked for.
        prefix: String,
        /// Their names.
        candidates: String,
    },
    /// A blob that is needed is not there.
    #[error("the store has no blob {digest}: build or pull the image again")]
    NoSuchBlob {
        /// Its digest.
        digest: BlobDigest,
    },
    /// Bytes are not what they should be.
    #[error("{}: expected {expected}, got {found}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// Digest or size.
        expected: String,
        /// Digest or size.
        found: String,
    },
    /// Something that is read into memory is larger than its limit.
    #[error("{} has {size} bytes, and at most {limit} are read here", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A file of the store's own cannot be understood.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file that says what a store is cannot be understood.
    #[error(
        "{} is damaged ({reason}): `dbuild cache verify --repair` mends it, or use another directory with --store",
        path.display()
    )]
    DamagedFormat {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No build has this id.
    #[error("the journal has no build `{id}`")]
    NoSuchBuild {
        /// What was asked for.
        id: String,
    },
}

impl StoreError {
    /// Whether there is no room left (space, inodes or quota) or the file system is read-only: the
    /// next operation will not fare better.
    pub fn is_storage_exhausted(&self) -> bool {
        match self {
            Self::Io(IoError { source, .. }) => exhausted(source),
            Self::Database { source, .. } => matches!(
                source.sqlite_error_code(),
                Some(rusqlite::ErrorCode::DiskFull | rusqlite::ErrorCode::ReadOnly)
            ),
            _ => false,
        }
    }
}

fn exhausted(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem
    )
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            " (free some space, or try `dbuild cache prune`)"
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            " (--store names another directory)"
        }
        _ => "",
    }
}

fn database_hint(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => " (free some space, or try `dbuild cache prune`)",
        Some(rusqlite::ErrorCode::ReadOnly) => " (--store names another directory)",
        Some(rusqlite::ErrorCode::DatabaseBusy) => " (another dbuild has held it for too long)",
        _ => "",
    }
}
