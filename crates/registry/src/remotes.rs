//! Files of servers and git repositories: the store's `RemoteSource`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use dbuild_scheduler::{
    BlobSourceError, Checkout, Download, Downloaded, FoundCommit, RemoteSource, Repository,
};

use crate::download::Downloads;
use crate::{Limits, git};

/// All servers that are no registries. Cheap to clone; clones share connections. Nothing is opened
/// or read before the first request.
#[derive(Clone, Debug)]
pub struct Remotes {
    downloads: Arc<Downloads>,
    limits: Limits,
    git: PathBuf,
}

impl Remotes {
    /// With these bounds. `git` is the program for repositories: a name to be found by PATH, or a
    /// path.
    pub fn new(limits: Limits, git: impl Into<PathBuf>) -> Self {
        Self { downloads: Arc::default(), limits, git: git.into() }
    }
}

impl Default for Remotes {
    fn default() -> Self {
        Self::new(Limits::default(), "git")
    }
}

#[async_trait]
impl RemoteSource for Remotes {
    async fn download(
        &self,
        what: &Download<'_>,
        into: &File,
        progress: &(dyn Fn(u64, Option<u64>) + Send + Sync),
    ) -> Result<Downloaded, BlobSourceError> {
        self.downloads.fetch(&self.limits, what, into, progress).await.map_err(Into::into)
    }

    async fn find_commit(&self, what: &Repository<'_>) -> Result<FoundCommit, BlobSourceError> {
        git::find_commit(&self.git, what).await.map_err(Into::into)
    }

    async fn check_out(
        &self,
        what: &Checkout<'_>,
        into: &Path,
        log: &(dyn for<'line> Fn(&'line str) + Send + Sync),
    ) -> Result<(), BlobSourceError> {
        git::check_out(&self.git, what, into, log).await.map_err(Into::into)
    }
}
