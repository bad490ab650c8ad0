//! Where a cache is.

use std::fmt;
use std::path::PathBuf;

/// Where a cache is. `Display` is what may be shown: no secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A repository of a registry. The tag of the reference names the cache within it.
    Registry {
        /// `ghcr.io/team/app:cache`; without a tag, `latest`.
        reference: String,
    },
    /// A directory, which is an OCI image layout.
    Directory {
        /// Its path.
        path: PathBuf,
        /// The name of the cache within it, as a tag is written.
        tag: String,
    },
    /// A bucket that speaks S3.
    S3(S3Location),
}

/// A bucket, and how it is reached. What is `None` comes from the environment, as AWS's own tools
/// read it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct S3Location {
    /// The bucket.
    pub bucket: String,
    /// The region; `us-east-1` where nothing says another.
    pub region: Option<String>,
    /// The address of a server that is not AWS: `http://localhost:9000`.
    pub endpoint_url: Option<String>,
    /// The bucket is part of the path, not of the host's name.
    pub use_path_style: bool,
    /// What every object's name begins with, without a slash at the beginning: `caches/app/`.
    pub prefix: String,
    /// The name of the cache below the prefix, as a tag is written.
    pub name: String,
    /// Who we are.
    pub access_key_id: Option<String>,
    /// What proves it.
    pub secret_access_key: Option<String>,
    /// Where it is proven for a while only.
    pub session_token: Option<String>,
}

impl fmt::Debug for S3Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Location({}/{}{})", self.bucket, self.prefix, self.name)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry { reference } => f.write_str(reference),
            Self::Directory { path, .. } => write!(f, "{}", path.display()),
            Self::S3(s3) => write!(f, "s3://{}/{}{}", s3.bucket, s3.prefix, s3.name),
        }
    }
}
