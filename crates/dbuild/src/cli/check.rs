//! The flags of `dbuild check`.

use clap::{Args, ValueEnum};

use super::SourceArgs;

/// `dbuild check`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct CheckArgs {
    /// The build context, a directory; or the name of an image: will it start?
    #[arg(value_name = "CONTEXT|IMAGE")]
    pub(crate) subject: String,
    /// How the findings are written
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: FindingsFormat,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}

/// How findings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FindingsFormat {
    /// For people.
    Text,
    /// As `docker build --call=check,format=json` does.
    Json,
    /// SARIF 2.1.0, for editors and CI.
    Sarif,
}
