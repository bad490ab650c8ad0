//! Why a history cannot be replayed.

use std::path::PathBuf;

/// A replay that cannot begin, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The directory is no git repository, or git refuses it.
    #[error("{} is not a git repository{}", path.display(), because(detail))]
    NotARepository {
        /// The directory.
        path: PathBuf,
        /// What git says, if it says more than that.
        detail: String,
    },
    /// A revision that does not exist.
    #[error("there is no commit `{revision}` in {}", path.display())]
    NoSuchRevision {
        /// As it was written.
        revision: String,
        /// The repository.
        path: PathBuf,
        /// Its history is cut.
        shallow: bool,
    },
    /// `--from` is not among the first parents of `--to`.
    #[error("`{from}` is not in the first-parent history of `{to}`")]
    NotBefore {
        /// `--from`.
        from: String,
        /// `--to`.
        to: String,
        /// The repository's history is cut.
        shallow: bool,
    },
    /// No commit of the history has a Dockerfile.
    #[error("none of the {commits} commits has a file {file}")]
    NoDockerfile {
        /// How many there are.
        commits: usize,
        /// What was looked for.
        file: String,
    },
    /// Every commit was skipped.
    #[error("none of the {commits} commits can be replayed; the last one: {last}")]
    NothingReplayed {
        /// How many there are.
        commits: usize,
        /// What is wrong with the last one.
        last: String,
    },
    /// The git command cannot be started.
    #[error("cannot run git: {0}")]
    NoGit(std::io::Error),
    /// Git said no.
    #[error("git {what} failed: {detail}")]
    Git {
        /// The command.
        what: &'static str,
        /// What it wrote.
        detail: String,
    },
    /// An object that the history names and the repository does not have.
    #[error("the object {0} is not in the repository")]
    MissingObject(String),
    /// A cost file that cannot be read.
    #[error("cannot read the cost file {}: {error}", path.display())]
    ReadCosts {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// A cost file that makes no sense.
    #[error("the cost file {} is not valid: {problem}", path.display())]
    Costs {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the place.
        problem: String,
    },
    /// A commit's files cannot be written out.
    #[error("cannot write the files of a commit to {}: {error}", path.display())]
    Checkout {
        /// Where.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// The user stopped the replay.
    #[error("interrupted")]
    Interrupted,
}

fn because(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}
