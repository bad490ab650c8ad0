//! The commands, one file for each family.

mod build;
mod cache;
mod call;
mod check;
mod check_image;
mod compare;
mod completion;
mod demo;
mod docker_view;
mod doctor;
mod findings;
mod graph;
mod image_list;
mod image_names;
mod images;
mod journal;
mod lab;
mod lessons;
mod login;
mod plan;
mod remote_cache;
mod report;
mod run;
mod shell;
mod version;
mod why;

use std::io::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::cli::{CacheCommand, Cli, Command, ImageCommand, LabCommand};
use crate::error::Error;

/// Does what the command line asks for.
pub(crate) fn run(cli: Cli) -> Result<(), Error> {
    let global = &cli.global;
    match cli.command {
        Command::Build(flags) => call::run(global, &flags),
        Command::Graph(args) => graph::run(global, &args),
        Command::Report(args) => report::report(global, &args),
        Command::Compare(args) => compare::run(global, &args),
        Command::History(args) => journal::history(global, &args),
        Command::Logs(args) => journal::logs(global, &args),
        Command::Check(args) => check::run(global, &args),
        Command::Plan(args) => plan::run(global, &args),
        Command::Why(args) => why::run(global, &args),
        Command::Run(args) => run::run(global, &args),
        Command::Shell(args) => shell::run(global, &args),
        Command::Images(args) => image_list::list(global, &args),
        Command::Tag { image, name } => images::tag(global, &image, &name),
        Command::Rm { images } => images::remove(global, &images),
        Command::Inspect(args) => images::inspect(global, &args),
        Command::Save(args) => images::save(global, &args),
        Command::Load(args) => images::load(global, &args),
        Command::Pull { reference, platform } => {
            let platform = platform.as_deref().filter(|platform| !platform.is_empty());
            images::pull(global, &reference, platform)
        }
        Command::Push { image } => images::push(global, &image),
        Command::Cache(CacheCommand::Ls(args)) => cache::list(global, &args),
        Command::Cache(CacheCommand::Inspect { result, json }) => cache::inspect(global, &result, json),
        Command::Cache(CacheCommand::Du(args)) => cache::du(global, args),
        Command::Cache(CacheCommand::Verify(args)) => cache::verify(global, &args),
        Command::Cache(CacheCommand::Prune(args)) => match &args.remote {
            Some(remote) => remote_cache::prune(global, &args, remote),
            None => cache::prune(global, &args),
        },
        Command::Cache(CacheCommand::Export { to }) => remote_cache::export(global, &to),
        Command::Cache(CacheCommand::Import { from }) => remote_cache::import(global, &from),
        Command::Cache(CacheCommand::Keygen { file }) => remote_cache::keygen(&file),
        Command::Lab(LabCommand::Replay(args)) => lab::run(global, &args),
        Command::Demo { dir, lesson: None } => {
            demo::run(global, dir.as_deref().unwrap_or(Path::new("dbuild-demo")))
        }
        Command::Demo { lesson: Some(None), .. } => lessons::list(),
        Command::Demo { dir, lesson: Some(Some(number)) } => lessons::write(number, dir.as_deref()),
        Command::Image(ImageCommand::FromHost { tag, programs }) => demo::from_host(global, &tag, &programs),
        Command::Doctor(args) => doctor::run(global, args),
        Command::Login(args) => login::log_in(global, &args),
        Command::Logout { server } => login::log_out(server.as_deref()),
        Command::Version(args) => version::run(&args),
        Command::Completion { shell } => completion::script(shell),
        Command::Man { dir } => completion::manual(&dir),
    }
}

/// A result, to standard output.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    match writeln!(std::io::stdout(), "{text}") {
        // The reader has seen enough: `dbuild images | head -1`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| Error::failed(format!("cannot write the result: {error}"))),
    }
}

/// A result as JSON, to standard output.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::failed(format!("cannot write JSON: {error}")))?;
    print(&text)
}
