//! `dbuild shell`: a shell in what a stage or an image contains. What is written in it is thrown away, and never enters the
//! cache.

use std::path::Path;

use clap::Parser as _;
use dbuild_frontend::parse;
use dbuild_layer::{EntryKind, Stack};
use dbuild_plan::ImageConfig;
use dbuild_sandbox::terminal::is_interactive;

use super::run::start;
use crate::cli::{BuildArgs, Cli, Command, Global, RunArgs, ShellArgs};
use crate::error::Error;
use crate::inputs;
use crate::session::Session;

/// Looked for in this order, after the shell that SHELL names.
const SHELLS: [&[&str]; 6] = [
    &["/bin/bash"],
    &["/usr/bin/bash"],
    &["/bin/sh"],
    &["/usr/bin/sh"],
    &["/bin/busybox", "sh"],
    &["/busybox/sh"],
];

/// A stage of the Dockerfile if there is one of that name, else an image.
pub(crate) fn run(global: &Global, args: &ShellArgs) -> Result<(), Error> {
    let image = match stage(args)? {
        Some(flags) => Target { name: build(global, &args.subject, flags)?, made_for_this: true },
        None => Target { name: args.subject.clone(), made_for_this: false },
    };
    let session = Session::open(global)?;
    let run = RunArgs {
        image_and_command: vec![image.name.clone()],
        entrypoint: None,
        env: args.env.clone(),
        workdir: None,
        user: args.user.clone(),
        network: "host".to_owned(),
        volume: args.volume.clone(),
        interactive: true,
        tty: is_interactive(),
        rm: true,
    };
    let line = args.command.iter().flat_map(|line| ["-c".to_owned(), line.clone()]);
    let entered = start(&session, &image.name, &run, |config, files| {
        Ok(choose(config, files, &args.subject)?.into_iter().chain(line).collect())
    });
    if image.made_for_this {
        // Its steps stay cached; the name was only for this.
        let _ = session.store.remove_image(&image.name);
    }
    entered
}

struct Target {
    name: String,
    made_for_this: bool,
}

/// The build of the stage that is meant, or nothing where no Dockerfile has such a stage.
fn stage(args: &ShellArgs) -> Result<Option<Box<BuildArgs>>, Error> {
    let given = !args.build.is_empty();
    if !given && !Path::new("Dockerfile").is_file() {
        return Ok(None);
    }
    let words = ["dbuild", "build", "--target", &args.subject].map(str::to_owned).into_iter();
    let words = words.chain(args.build.iter().cloned()).chain((!given).then(|| ".".to_owned()));
    let cli = Cli::try_parse_from(words)
        .map_err(|error| Error::usage(error.to_string().trim_start_matches("error: ")))?;
    let Command::Build(flags) = cli.command else { return Ok(None) };
    let source = inputs::read_source(&flags.context, &flags.source)?.source;
    let parsed = parse(&source);
    let name = Some(args.subject.to_lowercase());
    let is_meant = parsed.ast.stages().iter().any(|stage| stage.name() == name);
    if given && !is_meant {
        return Err(Error::failed(format!("{} has no stage `{}`", source.name, args.subject))
            .hint("name a stage (FROM … AS NAME), or an image and no context"));
    }
    Ok(is_meant.then_some(flags))
}

/// Builds the stage under a name of its own, uncompressed: it is not for anybody else.
fn build(global: &Global, stage: &str, mut flags: Box<BuildArgs>) -> Result<String, Error> {
    let name = format!("dbuild.local/shell:{}-{}", stage.to_ascii_lowercase(), std::process::id());
    flags.tag = vec![name.clone()];
    flags.output = vec!["type=image,compression=uncompressed".to_owned()];
    (flags.load, flags.push) = (false, false);
    super::build::run(global, &flags)?;
    Ok(name)
}

/// The shell to start.
fn choose(config: &ImageConfig, files: &Stack, what: &str) -> Result<Vec<String>, Error> {
    let named = config.shell.as_ref().and_then(|words| words.first()).map(|shell| vec![shell.clone()]);
    let known = SHELLS.iter().map(|words| words.iter().map(|&word| word.to_owned()).collect());
    let there = |words: &Vec<String>| {
        let found = files.resolve(words[0].as_str(), true).ok().and_then(|resolved| resolved.found);
        words[0].starts_with('/')
            && found.is_some_and(|found| {
                matches!(found.entry.kind, EntryKind::File { .. } | EntryKind::Hardlink { .. })
                    && found.entry.mode & 0o111 != 0
            })
    };
    named.into_iter().chain(known).find(there).ok_or_else(|| {
        Error::failed(format!("{what} has no shell: no bash, no sh, no busybox")).hint(
            "put one on top for a look around: a Dockerfile with `FROM …` of it and \
             `COPY --from=busybox /bin/busybox /bin/busybox`; or start a program of it with `dbuild run`",
        )
    })
}
