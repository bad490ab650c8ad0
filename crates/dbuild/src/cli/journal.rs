//! The flags of the commands that read the journal.

use clap::Args;

/// `dbuild history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Show at most so many builds, the latest first
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
