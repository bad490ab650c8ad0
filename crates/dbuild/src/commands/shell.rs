//! `dbuild shell`: a shell in what a stage, a step or an image contains. What is written in it is
//! thrown away, and never enters the cache.

use std::path::Path;

use clap::Parser as _;
use dbuild_events::{BuildId, MountInfo, MountType};
use dbuild_frontend::parse;
use dbuild_layer::{EntryKind, Stack};
use dbuild_oci::ImageConfig;
use dbuild_plan::CacheSharing;
use dbuild_report::State;
use dbuild_sandbox::terminal::is_interactive;
use dbuild_scheduler::{ImageFiles, Mounted, Mounter, StepError};
use dbuild_support::time::local;

use super::run::{Besides, enter, start};
use crate::build::{self, dockerfile, flags, inputs};
use crate::cli::{BuildArgs, Cli, Command, Global, RunArgs, ShellArgs};
use crate::error::{EXIT_FAILED, Error};
use crate::past_build::{Kept, PastBuild, Place};
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

/// A stage of the Dockerfile if there is one of that name, else an image of the store, else a step
/// or a stage of the latest build, else an image. With `--build`, a step or a stage of that build.
pub(crate) fn run(global: &Global, args: &ShellArgs) -> Result<(), Error> {
    if args.failed {
        return failed(global, args);
    }
    if args.of.is_some() {
        return in_past(global, args);
    }
    if let Some(flags) = stage(args)? {
        let name = build_stage(global, &args.subject, flags)?;
        let session = Session::open(global)?;
        let entered = in_image(&session, &name, args);
        // Its steps stay cached; the name was only for this.
        let _ = session.store.remove_image(&name);
        return entered;
    }
    if is_step(&args.subject) {
        return in_past(global, args);
    }
    nothing_to_give(args)?;
    let session = Session::open(global)?;
    if session.store.image(&args.subject).is_err() {
        let latest = PastBuild::read(&session, None).ok();
        let named = latest.and_then(|past| past.named(&args.subject).map(|place| (past, place)));
        if let Some((past, place)) = named {
            let _lease = session.store.lease().map_err(Error::failed)?;
            return enter_step(&past, &session, place, args);
        }
    }
    in_image(&session, &args.subject, args)
}

/// What can only mean a step, and no image.
fn is_step(subject: &str) -> bool {
    let number = subject.strip_prefix('#').unwrap_or(subject);
    // Longer ones are the first digits of an image's digest.
    let is_number = (1..=4).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number || subject.starts_with([':', '[', '#']) || subject.contains(char::is_whitespace)
}

/// Secrets and agents are of use where a command failed, and where a stage is built.
fn nothing_to_give(args: &ShellArgs) -> Result<(), Error> {
    if args.secret.is_empty() && args.ssh.is_empty() && args.allow.is_empty() {
        return Ok(());
    }
    Err(Error::usage("`--secret`, `--ssh` and `--allow` are for `--failed`, and for a stage that is built")
        .hint("pass a file of this machine with `-v HOST:CONTAINER`, a variable with `-e NAME=VALUE`"))
}

fn in_image(session: &Session, name: &str, args: &ShellArgs) -> Result<(), Error> {
    start(session, name, &container(args), |config, files| command(config, files, &args.subject, args))
}

/// A step or a stage of a build that was.
fn in_past(global: &Global, args: &ShellArgs) -> Result<(), Error> {
    let session = Session::open(global)?;
    let _lease = session.store.lease().map_err(Error::failed)?;
    let past = PastBuild::read(&session, args.of.as_deref())?;
    let place = past.find(&args.subject)?;
    enter_step(&past, &session, place, args)
}

/// How many builds are looked through for one whose command failed.
const BUILDS: usize = 50;

/// Where a command failed: in the build that is named, else in the latest one.
fn failed(global: &Global, args: &ShellArgs) -> Result<(), Error> {
    let session = Session::open(global)?;
    let store = &session.store;
    // What is found must still be there when it is entered.
    let _lease = store.lease().map_err(Error::failed)?;
    let (past, kept) = match &args.of {
        Some(id) => {
            let past = PastBuild::read(&session, Some(id))?;
            let kept = past.kept(None).ok_or_else(|| {
                Error::failed(format!("build {} kept no command that failed", past.build.id))
                    .hint("`dbuild history` lists the builds")
            })?;
            (past, kept)
        }
        None => {
            let builds = store.builds(BUILDS).map_err(Error::failed)?;
            let found = builds.iter().find_map(|build| kept_of(&session, &build.id));
            let (past, kept) =
                found.ok_or_else(|| Error::failed("no build in this store kept a command that failed"))?;
            if builds.first().is_some_and(|latest| latest.id.as_str() != past.build.id) {
                let when = local(past.build.started_ms);
                progress::say(&format!(
                    "of the build {} of {when}: in the later ones no command failed",
                    past.build.id
                ));
            }
            (past, kept)
        }
    };
    enter_kept(&past, &session, &kept, args)
}

fn kept_of(session: &Session, id: &BuildId) -> Option<(PastBuild, Kept)> {
    let past = PastBuild::read(session, Some(id.as_str())).ok()?;
    past.kept(None).map(|kept| (past, kept))
}

/// `build --on-failure shell`: the shell where a command of this build failed, with the secrets and
/// agents of the build. Gives the error that is left to end with; an error that is not of a command
/// stays as it is.
pub(super) fn after_failure(session: &Session, id: &BuildId, flags: &BuildArgs, error: Error) -> Error {
    let Ok(_lease) = session.store.lease() else { return error };
    let Some((past, kept)) = kept_of(session, id).filter(|_| error.code() == EXIT_FAILED) else {
        return error;
    };
    progress::say(&format!("{error}\n\na shell where it failed (`exit` leaves it):"));
    let args = ShellArgs {
        secret: flags.secret.clone(),
        ssh: flags.ssh.clone(),
        allow: flags.allow.clone(),
        ..ShellArgs::default()
    };
    // How the shell ended is not how the build ended.
    if let Err(trouble) = enter_kept(&past, session, &kept, &args) {
        let text = trouble.to_string();
        if !text.is_empty() {
            progress::say(&text);
        }
    }
    Error::exit_code(EXIT_FAILED)
}

/// A shell in what a step or a stage gave; where it failed, in what it had written.
fn enter_step(past: &PastBuild, session: &Session, place: Place, args: &ShellArgs) -> Result<(), Error> {
    let id = place.step;
    let step = past.build.step(id).ok_or_else(|| Error::failed(format!("the build has no step #{id}")))?;
    if let Some(kept) = past.kept(Some(id)) {
        return enter_kept(past, session, &kept, args);
    }
    nothing_to_give(args)?;
    let has_result = matches!(step.state, State::Cached | State::Done) || step.kind == "image";
    if !has_result || step.kind == "context" {
        return Err(past.no_result(step));
    }
    let stack = past.files(session, id).ok_or_else(|| past.gone(step))?;
    progress::say(&format!("{} {} (build {})", step.label, step.text, past.build.id));
    let of_stage = place.stage.and_then(|stage| past.setting_of_stage(stage));
    let setting = of_stage.or_else(|| past.setting(id));
    if setting.is_none() && past.steps().iter().all(|step| step.setting.is_none()) {
        progress::say("an older dbuild made this build: its variables, user and directory are not known");
    }
    let setting = setting.cloned().unwrap_or_default();
    let config = ImageConfig {
        env: setting.env,
        user: setting.user,
        working_dir: setting.workdir,
        shell: Some(setting.shell).filter(|words| !words.is_empty()),
        ..ImageConfig::default()
    };
    let files = ImageFiles::new(&session.store, stack).map_err(Error::failed)?;
    enter(session, files, &config, &container(args), Besides::default(), |config, files| {
        command(config, files, "the step", args)
    })
}

/// A shell in the files before the command, on them what it had written, and in them its mounts.
fn enter_kept(past: &PastBuild, session: &Session, kept: &Kept, args: &ShellArgs) -> Result<(), Error> {
    let store = &session.store;
    let gone = || {
        Error::failed("what the command had written is no longer in the store").hint("build again to keep it")
    };
    let step = past.build.step(kept.step).ok_or_else(gone)?;
    let below = past.files(session, step.inputs.first().copied().ok_or_else(gone)?).ok_or_else(gone)?;
    let stack = below.with(store.snapshot(&kept.snapshot).ok_or_else(gone)?.layer());
    let files = ImageFiles::new(store, stack).map_err(Error::failed)?;
    progress::say(&format!("{} {}", step.label, step.text));
    let allowed = args.allow.iter().any(|word| word == "security.insecure");
    if kept.insecure && !allowed {
        progress::say(
            "it ran with --security=insecure, and this shell does not: `--allow security.insecure` lets it",
        );
    }
    let besides = Besides {
        mounted: mount(past, session, kept, args)?,
        hosts: kept.hosts.clone(),
        insecure: kept.insecure && allowed,
    };
    let mut container = container(args);
    if kept.no_network {
        container.network = "none".to_owned();
    }
    enter(session, files, &kept.config, &container, besides, |config, files| {
        command(config, files, "the stage", args)
    })
}

/// What can be mounted of what the command had; the rest is said, a line each.
fn mount(past: &PastBuild, session: &Session, kept: &Kept, args: &ShellArgs) -> Result<Mounted, Error> {
    for words in &kept.only_words {
        progress::say(&format!("not mounted: {words}: an older dbuild did not keep what it was"));
    }
    let (secrets, ssh) = (flags::secrets(&args.secret)?, flags::agents(&args.ssh)?);
    let files = |from: u32| {
        let known = past.build.step(from).and_then(|_| past.files(session, from));
        known.ok_or_else(|| StepError::Needs("its files are no longer in the store: build again".to_owned()))
    };
    let mounter = Mounter {
        store: &session.store,
        runtime: session.runtime.handle(),
        secrets: &secrets,
        ssh: &ssh,
        files: &files,
        begins_anew: &|_| false,
        waits: Some(&|info| {
            progress::say(&format!("waiting for {}: another command has it", info.words()));
        }),
    };
    let mounted = mounter.mount(&kept.mounts, &mut |info, error| {
        progress::say(&format!("not mounted: {}: {error}", info.words()));
        Ok(())
    });
    let locked =
        |info: &&MountInfo| matches!(info.kind, MountType::Cache { sharing: CacheSharing::Locked, .. });
    for info in kept.mounts.iter().filter(locked) {
        progress::say(&format!("{} is locked: builds that want it wait until you leave", info.words()));
    }
    mounted.map_err(Error::failed)
}

/// What is started: a shell, and the line that it is to run.
fn command(config: &ImageConfig, files: &Stack, what: &str, args: &ShellArgs) -> Result<Vec<String>, Error> {
    let line = args.command.iter().flat_map(|line| ["-c".to_owned(), line.clone()]);
    Ok(choose(config, files, what)?.into_iter().chain(line).collect())
}

/// How it is started.
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

/// The build of the stage that is meant, or nothing where no Dockerfile has such a stage.
fn stage(args: &ShellArgs) -> Result<Option<Box<BuildArgs>>, Error> {
    let given = !args.build.is_empty();
    if !given && dockerfile::default_dockerfile(Path::new(".")).is_none() {
        return Ok(None);
    }
    let words = ["dbuild", "build", "--target", &args.subject].map(str::to_owned).into_iter();
    let given_here = [("--secret", &args.secret), ("--ssh", &args.ssh), ("--allow", &args.allow)];
    let flags = given_here
        .into_iter()
        .flat_map(|(flag, values)| values.iter().flat_map(move |value| [flag.to_owned(), value.clone()]));
    let words = words.chain(flags).chain(args.build.iter().cloned());
    let words = words.chain((!given).then(|| ".".to_owned()));
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
fn build_stage(global: &Global, stage: &str, mut flags: Box<BuildArgs>) -> Result<String, Error> {
    let name = format!("dbuild.local/shell:{}-{}", stage.to_ascii_lowercase(), std::process::id());
    flags.tag = vec![name.clone()];
    flags.output = vec!["type=image,compression=uncompressed".to_owned()];
    (flags.load, flags.push) = (false, false);
    build::run(global, &flags, after_failure)?;
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
                matches!(found.kind(), EntryKind::File { .. }) && found.entry.mode & 0o111 != 0
            })
    };
    named.into_iter().chain(known).find(there).ok_or_else(|| {
        Error::failed(format!("{what} has no shell: no bash, no sh, no busybox")).hint(
            "put one on top for a look around: a Dockerfile with `FROM …` of it and \
             `COPY --from=busybox /bin/busybox /bin/busybox`; or start a program of it with `dbuild run`",
        )
    })
}
