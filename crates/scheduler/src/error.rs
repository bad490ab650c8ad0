//! Why a step, and with it the build, failed.

use std::path::PathBuf;

use dbuild_digest::{BlobDigest, StepKey};
use dbuild_layer::users::UserError;
use dbuild_layer::{CopyError, LayerError};
use dbuild_plan::StepId;
use dbuild_sandbox::SandboxError;
use dbuild_store::StoreError;

use crate::BlobSourceError;

/// How a build ended that gave no image.
#[derive(Debug)]
pub enum BuildError {
    /// A step failed; those that ran beside it were stopped.
    Step(StepId, StepError),
    /// The user stopped it.
    Canceled,
}

impl StepError {
    /// Whether the command of a RUN failed, or could not be started: the files that it saw are
    /// kept. Where the command is for another processor, so would be the shell.
    pub fn is_of_command(&self) -> bool {
        match self {
            Self::Command { .. } => true,
            Self::Sandbox(SandboxError::Exec(exec)) => !exec.is_foreign(),
            _ => false,
        }
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The command of a RUN ended with another code than 0.
    #[error("{how}")]
    Command {
        /// How it ended, in words: `exit code 2`, `killed by SIGSEGV`.
        how: String,
        /// The exit code; 128 and the signal's number after a signal.
        code: i32,
        /// The last lines that it wrote.
        tail: Vec<String>,
    },
    /// The command could not be started.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// Something that a COPY names.
    #[error("{error}{}", from.as_deref().unwrap_or_default())]
    Copy {
        /// What is wrong.
        error: CopyError,
        /// Where it was looked for, as the end of the sentence.
        from: Option<String>,
    },
    /// A user or group.
    #[error(transparent)]
    User(#[from] UserError),
    /// A context that cannot be read.
    #[error("the context {} cannot be read: {error}", root.display())]
    Context {
        /// The directory.
        root: PathBuf,
        /// Why not.
        error: LayerError,
    },
    /// A base image that was not pulled.
    #[error("{0}")]
    Pull(BlobSourceError),
    /// A file or a repository that was not downloaded.
    #[error("{0}")]
    Remote(BlobSourceError),
    /// A file that is not the one that its checksum says.
    #[error(
        "{url} is not the file that was asked for: the checksum is {expected}, and the server sent {found}"
    )]
    Checksum {
        /// As it may be shown.
        url: String,
        /// What the instruction says.
        expected: BlobDigest,
        /// What came.
        found: BlobDigest,
    },
    /// A reference that does not name the commit that it should.
    #[error(
        "`{reference}` of {remote} is not the commit that was asked for: the checksum is {expected}, and it is {found}"
    )]
    Commit {
        /// As it may be shown.
        remote: String,
        /// The branch or tag.
        reference: String,
        /// What the instruction says.
        expected: String,
        /// What the repository says.
        found: String,
    },
    /// An image that another step needed.
    #[error("{1}")]
    OfImage(StepId, Box<StepError>),
    /// A layer of an image that is not what it should be.
    #[error("layer {digest} of {reference}: {problem}")]
    BadLayer {
        /// The image.
        reference: String,
        /// The layer's blob.
        digest: String,
        /// What is wrong.
        problem: String,
    },
    /// A layer that another machine made, and that its cache does not have as it should be.
    #[error("{cache}: the layer of a result cannot be used: {why}")]
    RemoteLayer {
        /// The key of the result.
        key: StepKey,
        /// The cache, as it may be shown.
        cache: String,
        /// What is wrong.
        why: String,
    },
    /// Files could not be read or written.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A mount that needs something of the command line.
    #[error("{0}")]
    Needs(String),
    /// The build was stopped while the step ran.
    #[error("stopped")]
    Stopped,
    /// A step was given something that its plan promised not to give: a fault of dbuild.
    #[error("internal error: {0}; please report this")]
    Internal(&'static str),
}

impl StepError {
    /// The key of the result of another machine that cannot be used, if that is what stopped the
    /// step.
    pub(crate) fn of_remote_layer(&self) -> Option<&StepKey> {
        match self {
            Self::RemoteLayer { key, .. } => Some(key),
            Self::OfImage(_, error) => error.of_remote_layer(),
            _ => None,
        }
    }

    /// The error of a layer's files, if that is what stopped the step.
    pub(crate) fn of_layer(&self) -> Option<&LayerError> {
        match self {
            Self::Layer(error) | Self::User(UserError::Layer(error)) => Some(error),
            Self::Copy { error: CopyError::Layer(error), .. } => Some(error),
            Self::OfImage(_, error) => error.of_layer(),
            _ => None,
        }
    }
}
