//! The command line of dbuild: flags, rendering and wiring.

mod cli;
mod commands;
mod config;
mod contexts;
mod error;
mod from_host;
mod inputs;
mod progress;
mod resolve;
mod session;
mod starts;
#[cfg(feature = "otel")]
mod telemetry;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::Cli;
use crate::error::{EXIT_USAGE, Error};

fn main() -> ExitCode {
    // Must stay first: this process may be the one that becomes a step's parent.
    dbuild_sandbox::dispatch_helper();
    // A large context is a list of its files, then of what is copied, then of what is packed.
    dbuild_sandbox::return_large_blocks();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
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
