//! The ports to the network: what the store does not have comes through these traits. Their
//! implementations open connections; the scheduler, which uses them, knows of none.

use std::fs::File;
use std::path::Path;

use async_trait::async_trait;
use dbuild_digest::BlobDigest;
use dbuild_store::{Incoming, Validators};

/// Why a blob could not be fetched: any error whose text is complete (it names the reference and
/// what to try).
pub type BlobSourceError = Box<dyn std::error::Error + Send + Sync>;

/// Brings blobs into the store: a registry, usually.
#[async_trait]
pub trait BlobSource: Send + Sync {
    /// Fetches one blob of an image. `Ok` means that the blob is whole, verified and in the store.
    /// What is written is shown to `incoming`, if there is one, as it comes; nothing is where the
    /// blob came by another way. `progress` hears how many bytes have arrived so far.
    async fn fetch(
        &self,
        reference: &str,
        digest: &BlobDigest,
        size: u64,
        media_type: &str,
        incoming: Option<&Incoming>,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), BlobSourceError>;
}

/// Brings files of servers, and checkouts of repositories: what the Dockerfile or the command line
/// names by a URL.
///
/// Errors are complete texts: they name the URL (without its password) and say what to try. A
/// future that is dropped leaves no process and no connection behind.
#[async_trait]
pub trait RemoteSource: Send + Sync {
    /// Writes the bytes that a URL names into a file, or finds that they are those that are known.
    /// Writes on the thread that polls. `progress` hears how many bytes have come so far, and how
    /// many there will be where that is known.
    async fn download(
        &self,
        what: &Download<'_>,
        into: &File,
        progress: &(dyn Fn(u64, Option<u64>) + Send + Sync),
    ) -> Result<Downloaded, BlobSourceError>;

    /// What a reference of a repository names now.
    async fn find_commit(&self, what: &Repository<'_>) -> Result<FoundCommit, BlobSourceError>;

    /// Writes the files of a commit into an empty directory. `log` hears what git says, line by
    /// line.
    async fn check_out(
        &self,
        what: &Checkout<'_>,
        into: &Path,
        log: &(dyn for<'line> Fn(&'line str) + Send + Sync),
    ) -> Result<(), BlobSourceError>;
}

/// What [`RemoteSource::download`] fetches.
#[derive(Clone, Copy, Debug)]
pub struct Download<'a> {
    /// An http or https URL.
    pub url: &'a str,
    /// The same as it may be shown.
    pub shown: &'a str,
    /// The validators of the copy that is here. `None`: the bytes are wanted in any case.
    pub known: Option<&'a Validators>,
    /// For the URL's own host alone.
    pub credential: Option<&'a Credential>,
}

/// What a user gives to be let in.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// The value of the header `Authorization`.
    Header(String),
    /// A token.
    Token(String),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential")
    }
}

/// How a download ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Downloaded {
    /// The server has what is known; nothing was written.
    Unchanged,
    /// The bytes are in the file.
    Bytes {
        /// Their digest.
        digest: BlobDigest,
        /// When the server's copy was changed last, in seconds since 1970.
        modified: Option<i64>,
        /// For the next time.
        validators: Validators,
    },
}

/// A repository, and how it is reached.
#[derive(Clone, Copy, Debug)]
pub struct Repository<'a> {
    /// As git takes it.
    pub remote: &'a str,
    /// The same as it may be shown.
    pub shown: &'a str,
    /// A branch, a tag or the full name of a reference; `None` is HEAD.
    pub reference: Option<&'a str>,
    /// For http and https.
    pub credential: Option<&'a Credential>,
    /// The socket of the ssh agent to use.
    pub ssh_agent: Option<&'a Path>,
}

/// What a reference was found to name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundCommit {
    /// The reference in full: `refs/heads/main`.
    pub name: String,
    /// The object that it names: a commit, or an annotated tag.
    pub object: String,
    /// The commit.
    pub commit: String,
}

/// What [`RemoteSource::check_out`] writes.
#[derive(Clone, Copy, Debug)]
pub struct Checkout<'a> {
    /// Where from. Its reference, if it has one, is the full name of one that had the commit a
    /// moment ago.
    pub repository: Repository<'a>,
    /// The full id of a commit or an annotated tag.
    pub commit: &'a str,
    /// A directory of the repository to take instead of all of it.
    pub subdir: Option<&'a str>,
    /// Write `.git` too.
    pub keep_git_dir: bool,
    /// Check submodules out as well.
    pub submodules: bool,
    /// Files get the commit's time instead of now.
    pub commit_time: bool,
    /// A path that does not exist, for what is needed meanwhile; on the file system of the
    /// checkout.
    pub scratch: &'a Path,
}
