//! The command line of dbuild: flags, rendering and wiring.

mod build;
mod cli;
mod commands;
mod config;
mod docker_compat;
mod error;
mod from_host;
mod go_template;
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
    let words = docker_compat::with_own_names(std::env::args_os().collect());
    let parsed =
        command.try_get_matches_from(words).and_then(|matches| match docker_compat::check(&matches) {
            Ok(None) => Cli::from_arg_matches(&matches).map(|cli| Ok(Some(cli))),
            Ok(Some(warning)) => {
                progress::say(&format!("warning: {warning}"));
                Ok(Ok(None))
            }
            Err(error) => Ok(Err(error)),
        });
    let cli = match parsed {
        Ok(Ok(Some(cli))) => cli,
        Ok(Ok(None)) => return ExitCode::SUCCESS,
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
