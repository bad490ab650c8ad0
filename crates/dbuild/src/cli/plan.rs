//! The flags of `dbuild plan`.

use std::path::PathBuf;

use clap::Args;

use super::BuildArgs;

/// `dbuild plan`: all flags of `dbuild build`, as far as they say what is built.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) build: BuildArgs,
    /// Say what would run if this file of a context changed; of a directory, all files in it
    #[arg(long, value_name = "FILE")]
    pub(crate) touch: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
