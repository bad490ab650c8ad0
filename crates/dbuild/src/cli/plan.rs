//! The flags of `dbuild plan` and `dbuild why`.

use std::path::PathBuf;

use clap::Args;

use super::BuildArgs;

/// `dbuild plan`: all flags of `dbuild build`, as far as they say what is built.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) build: BuildArgs,
    /// Show what would run if this file of a context changed; for a directory, all files in it
    #[arg(long, value_name = "FILE")]
    pub(crate) touch: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `dbuild why`.
#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    /// A step: its number, `:LINE`, its stage, `STAGE:N`, or words of its instruction; without it,
    /// every step that ran
    pub(crate) step: Option<String>,
    /// The id of a build or its beginning [default: the latest]
    #[arg(long, value_name = "ID")]
    pub(crate) build: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
