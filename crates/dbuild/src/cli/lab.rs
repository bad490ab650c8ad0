//! The flags of `dbuild lab`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ByteSize, KeyValue};

/// `dbuild lab`.
#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Replay a git history under cache strategies and eviction policies
    Replay(Box<ReplayArgs>),
}

/// `dbuild lab replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// A git repository, or a directory of one, which is then the build context
    pub(crate) repo: PathBuf,
    /// The first commit [default: the first of the history]
    #[arg(long, value_name = "REV")]
    pub(crate) from: Option<String>,
    /// The last commit
    #[arg(long, value_name = "REV", default_value = "HEAD")]
    pub(crate) to: String,
    /// The Dockerfile, relative to REPO [default: Dockerfile]
    #[arg(long, short = 'f', value_name = "FILE")]
    pub(crate) file: Option<String>,
    /// The stage to build [default: the last]
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Set a build argument; without a value it is taken from the environment
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) build_arg: Vec<KeyValue>,
    /// Cache strategies: all, or some of linear, content and output
    #[arg(long, value_name = "NAME,…", default_value = "all", value_delimiter = ',')]
    pub(crate) strategy: Vec<String>,
    /// Eviction policies: all, or some of lru, lfu and gdsf
    #[arg(long, value_name = "NAME,…", default_value = "all", value_delimiter = ',')]
    pub(crate) policy: Vec<String>,
    /// Sizes of the cache, such as 500MB,2GB [default: parts of what is stored without a limit]
    #[arg(long, value_name = "SIZE,…", value_delimiter = ',')]
    pub(crate) size: Vec<ByteSize>,
    /// Run no step: durations and sizes come from --cost, from the store's records, or are typical
    /// ones
    #[arg(long)]
    pub(crate) simulate: bool,
    /// What simulated steps cost and read: see docs/guide/laboratory.md
    #[arg(long, value_name = "FILE", requires = "simulate")]
    pub(crate) cost: Option<PathBuf>,
    /// Write a page with plots; with a name that ends in .svg, only the plots
    #[arg(long, short = 'o', value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
