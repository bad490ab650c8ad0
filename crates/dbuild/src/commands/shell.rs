//! `dbuild shell`: a shell in what a stage or an image contains. What is written in it is thrown away, and never enters the
//! cache.

use std::path::Path;

use clap::Parser as _;
use dbuild_frontend::parse;
use dbuild_layer::{EntryKind, Files, Stack};
use dbuild_plan::ImageConfig;
use dbuild_report::Build;
use dbuild_sandbox::terminal::is_interactive;
use dbuild_scheduler::ImageFiles;
use dbuild_store::{BuildId, Event, SnapshotId, Store};

use super::check_image::{stack_layer, stack_of};
use super::run::{enter, start};
use crate::cli::{BuildArgs, Cli, Command, Global, RunArgs, ShellArgs};
use crate::error::{EXIT_FAILED, Error};
use crate::inputs;
use crate::progress;
use crate::session::Session;

/// Looked for in this order, after the shell of SHELL or of the command.
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
    if args.failed {
        return failed(global, args);
    }
    let image = match stage(args)? {
        Some(flags) => Target { name: build(global, &args.subject, flags)?, made_for_this: true },
        None => Target { name: args.subject.clone(), made_for_this: false },
    };
    let session = Session::open(global)?;
    let run = container(args);
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

/// How many builds are looked through for one whose command failed.
const BUILDS: usize = 50;

/// Where a command failed: in the build that is named, else in the latest one.
fn failed(global: &Global, args: &ShellArgs) -> Result<(), Error> {
    let session = Session::open(global)?;
    let store = &session.store;
    // What is found must still be there when it is entered.
    let _lease = store.lease().map_err(Error::failed)?;
    let kept = match &args.of {
        Some(id) => {
            let id = store.build(Some(id)).map_err(Error::failed)?.id;
            Kept::of(store, &id).ok_or_else(|| {
                Error::failed(format!("build {id} has no command that failed and is kept"))
                    .hint("`dbuild history` lists the builds")
            })?
        }
        None => {
            let builds = store.builds(BUILDS).map_err(Error::failed)?;
            builds.iter().find_map(|build| Kept::of(store, &build.id)).ok_or_else(|| {
                Error::failed("no build of this store has a command that failed and is kept")
            })?
        }
    };
    kept.enter(&session, args)
}

/// `build --on-failure shell`: the shell where a command of this build failed. Gives the error that is left to end with;
/// an error that is not of a command stays as it is.
pub(super) fn after_failure(session: &Session, id: &BuildId, error: Error) -> Error {
    let Ok(_lease) = session.store.lease() else { return error };
    let Some(kept) = Kept::of(&session.store, id).filter(|_| error.code() == EXIT_FAILED) else {
        return error;
    };
    progress::say(&error.to_string());
    // How the shell ended is not how the build ended.
    if let Err(trouble) = kept.enter(session, &ShellArgs::default()) {
        let text = trouble.to_string();
        if !text.is_empty() {
            progress::say(&text);
        }
    }
    Error::exit_code(EXIT_FAILED)
}

/// What a command that failed had written, and what it ran with.
struct Kept {
    build: Build,
    step: u32,
    snapshot: SnapshotId,
    config: ImageConfig,
    /// What it had and the shell has not, in words.
    mounts: Vec<String>,
}

impl Kept {
    /// As the journal of this build has it.
    fn of(store: &Store, id: &BuildId) -> Option<Self> {
        let events = store.events(id).ok()?;
        let (step, snapshot, config, mounts) =
            events.iter().rev().find_map(|stamped| match &stamped.event {
                Event::StepKept { step, snapshot, env, user, workdir, program, mounts } => {
                    let config = ImageConfig {
                        env: env.clone(),
                        user: user.clone(),
                        working_dir: workdir.clone(),
                        shell: Some(vec![program.clone()]),
                        ..ImageConfig::default()
                    };
                    Some((*step, snapshot.clone(), config, mounts.clone()))
                }
                _ => None,
            })?;
        Some(Self { build: Build::of(&events), step, snapshot, config, mounts })
    }

    /// A shell in the files before the command, and on them what it had written.
    fn enter(&self, session: &Session, args: &ShellArgs) -> Result<(), Error> {
        let Self { build, config, .. } = self;
        let store = &session.store;
        let gone = || {
            Error::failed("what the command had written was collected").hint("build again: it is kept anew")
        };
        let step = build.step(self.step).ok_or_else(gone)?;
        let parent = step.inputs.first().copied().ok_or_else(gone)?;
        let below = stack_of(store, build, parent).ok_or_else(gone)?;
        let stack = below.with(stack_layer(store.snapshot(&self.snapshot).ok_or_else(gone)?));
        progress::say(&format!("{} {}", step.label, step.text));
        if !self.mounts.is_empty() {
            progress::say(&format!("not mounted here: {}", self.mounts.join(", ")));
        }
        let layers = stack.layers().iter().filter(|layer| !layer.tree.is_empty());
        let directories = layers.filter_map(|layer| match &layer.files {
            Files::Snapshot(dir) => Some(dir.clone()),
            Files::Absent | Files::Live(_) => None,
        });
        let files = ImageFiles { directories: directories.collect(), stack };
        let line = args.command.iter().flat_map(|line| ["-c".to_owned(), line.clone()]);
        enter(session, files, config, &container(args), |config, files| {
            Ok(choose(config, files, "the stage")?.into_iter().chain(line).collect())
        })
    }
}

fn container(args: &ShellArgs) -> RunArgs {
    RunArgs {
        image_and_command: Vec::new(),
        entrypoint: None,
        env: args.env.clone(),
        workdir: None,
        user: args.user.clone(),
        network: "host".to_owned(),
        volume: args.volume.clone(),
        interactive: true,
        tty: is_interactive(),
        rm: true,
    }
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
    let is_shell = |words: &Vec<String>| words[0].ends_with("sh");
    let named = named.filter(is_shell);
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
