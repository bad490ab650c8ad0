//! The flags of the commands that read the journal.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::BuildArgs;

/// `dbuild history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Show at most this many builds, the latest first
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
    pub(crate) limit: usize,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `dbuild logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// The id of a build or its beginning; `latest`, or nothing, is the latest build
    pub(crate) build: Option<String>,
    /// A step: its number, its stage, `STAGE N`, or the beginning of its instruction
    pub(crate) step: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `dbuild report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// The id of a build or its beginning; `latest`, or nothing, is the latest build
    pub(crate) build: Option<String>,
    /// The file to write; `-` is standard output
    #[arg(long, short = 'o', value_name = "FILE", default_value = "dbuild-report.html")]
    pub(crate) output: PathBuf,
    /// Put two builds side by side
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with = "build")]
    pub(crate) compare: Vec<String>,
}

/// `dbuild compare`.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// A Dockerfile, a directory with one, a build, an image or a stage
    pub(crate) a: String,
    /// What to compare it with
    pub(crate) b: String,
    /// The build context of Dockerfiles and stages [default: the Dockerfile's directory, or this
    /// one]
    #[arg(long, value_name = "DIR")]
    pub(crate) context: Option<PathBuf>,
    /// The Dockerfile that the stages belong to [default: CONTEXT/Dockerfile]
    #[arg(long, short = 'f', value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `dbuild graph`.
#[derive(Debug, Args)]
#[command(mut_arg("context", |arg| arg.required(false).default_value(".")))]
pub(crate) struct GraphArgs {
    /// Text for the terminal, DOT for Graphviz, a Mermaid flowchart, or SVG
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: GraphFormat,
    /// A build of the journal (its id, the beginning of it, or `latest`) instead of a Dockerfile
    #[arg(long, value_name = "BUILD")]
    pub(crate) build: Option<String>,
    /// Print everything known about the steps as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) flags: BuildArgs,
}

/// How a graph is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    /// Lines for a terminal, no wider than it.
    Text,
    /// Graphviz.
    Dot,
    /// Markdown viewers.
    Mermaid,
    /// A drawing.
    Svg,
}
