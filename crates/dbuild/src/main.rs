//! The command line of dbuild: flags, rendering and wiring.

mod build;
mod cli;
mod commands;
mod config;
mod docker_compat;
mod error;
mod from_host;
mod past_build;
mod pipes;
mod progress;
mod session;
mod signals;
#[cfg(feature = "otel")]
mod telemetry;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::cli::Cli;
use crate::error::{EXIT_USAGE, Error};

fn main() -> ExitCode {
    // Must stay first: this process may be the one that becomes a step's parent.
    dbuild_sandbox::dispatch_helper();
    let command = docker_compat::with_known_words(Cli::command());
    let parsed = command.try_get_matches().and_then(|matches| {
        let cli = docker_compat::check(&matches).map(|()| Cli::from_arg_matches(&matches));
        cli.map_or_else(|error| Ok(Err(error)), |cli| cli.map(Ok))
    });
    let cli = match parsed {
        Ok(Ok(cli)) => cli,
        Ok(Err(error)) => {
            tell(&error);
            return ExitCode::from(error.code());
        }
        Err(error) => {
            // Help and version are no errors, and clap knows where each goes.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&error);
            ExitCode::from(error.code())
        }
    }
}

fn tell(error: &Error) {
    let text = error.to_string();
    if !text.is_empty() {
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}
