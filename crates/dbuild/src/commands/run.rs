//! `dbuild run`: starts an image in the sandbox of the builds. What it writes is thrown away.

use std::path::PathBuf;
use std::sync::Arc;

use dbuild_events::NoEvents;
use dbuild_layer::{Stack, TreePath, users};
use dbuild_oci::{DEFAULT_PATH, ImageConfig};
use dbuild_plan::{HostEntry, NetworkMode};
use dbuild_sandbox::{self as sandbox, Mount, MountSource, Rootfs, Spec, Stdin};
use dbuild_scheduler::{Canceller, ImageFiles, Mounted, ensure_workdir, hosts_file, image_files};

use crate::build::resolve_images::image_named;
use crate::cli::{Global, RunArgs};
use crate::error::Error;
use crate::session::Session;

/// Starts it, and ends as it ends.
pub(crate) fn run(global: &Global, args: &RunArgs) -> Result<(), Error> {
    let (image, words) = args
        .image_and_command
        .split_first()
        .ok_or_else(|| Error::usage("name an image: dbuild run IMAGE"))?;
    let session = Session::open(global)?;
    start(&session, image, args, |config, _| command(config, args, image, words))
}

/// Starts what `command` says in an image; the image and the command of `args` do not count.
pub(super) fn start(
    session: &Session,
    image_name: &str,
    args: &RunArgs,
    command: impl FnOnce(&ImageConfig, &Stack) -> Result<Vec<String>, Error>,
) -> Result<(), Error> {
    let _lease = session.store.lease().map_err(Error::failed)?;
    let image = session.runtime.block_on(image_named(session, image_name))?;
    let config = image.config.clone();
    let (_canceller, cancel) = Canceller::new();
    let blobs = Arc::new(session.registry.clone());
    let files = session
        .runtime
        .block_on(image_files(&session.store, blobs, Arc::new(NoEvents), image, cancel))
        .map_err(Error::failed)?;
    enter(session, files, &config, args, Besides::default(), command)
}

/// What a container gets besides its files and its config.
#[derive(Default)]
pub(super) struct Besides {
    /// Mounts, and the variables of secrets.
    pub(super) mounted: Mounted,
    /// Lines of `/etc/hosts`.
    pub(super) hosts: Vec<HostEntry>,
    /// Everything is allowed.
    pub(super) insecure: bool,
}

/// Starts what `command` says in these files, as a container of this config.
pub(super) fn enter(
    session: &Session,
    files: ImageFiles,
    config: &ImageConfig,
    args: &RunArgs,
    mut besides: Besides,
    command: impl FnOnce(&ImageConfig, &Stack) -> Result<Vec<String>, Error>,
) -> Result<(), Error> {
    let network = match crate::build::flags::network(&args.network)? {
        NetworkMode::None => sandbox::Network::None,
        NetworkMode::Default | NetworkMode::Host => sandbox::Network::Host,
    };
    let draft = session.store.new_snapshot().map_err(Error::failed)?;
    let workdir = args.workdir.clone().unwrap_or_else(|| config.working_dir.clone());
    // The text of WORKDIR may hold `..`, and is entered clean.
    let workdir = TreePath::clean(workdir.as_bytes()).map_err(Error::failed)?.to_string();
    ensure_workdir(&files.stack, &workdir, (0, 0), &draft.fs_dir(), session.store.flavor())
        .map_err(Error::failed)?;
    dbuild_layer::prepare_upper(&draft.fs_dir(), &files.stack, session.store.flavor())
        .map_err(Error::failed)?;
    let user =
        users::user(&files.stack, args.user.as_deref().unwrap_or(&config.user)).map_err(Error::failed)?;

    let rootfs = Rootfs::Overlay { lower: files.directories, upper: draft.fs_dir(), work: draft.work_dir() };
    let mut spec = Spec::new(rootfs, command(config, &files.stack)?);
    spec.env = environment(config, args, &user.home);
    // What is given here counts before what a secret sets.
    let given = |name: &str| args.env.iter().any(|text| text.split('=').next() == Some(name));
    spec.env.extend(besides.mounted.env.drain(..).filter(|(name, _)| !given(name)));
    spec.cwd = workdir;
    (spec.uid, spec.gid, spec.groups) = (user.uid, user.gid, user.groups);
    spec.network = network;
    spec.resolv_conf = Some(std::fs::read("/etc/resolv.conf").unwrap_or_default());
    spec.hosts = Some(hosts_file(&spec.hostname, besides.hosts.iter()));
    if besides.insecure {
        spec.security = sandbox::Security::Insecure;
    }
    spec.mounts = std::mem::take(&mut besides.mounted.mounts);
    for text in &args.volume {
        spec.mounts.push(volume(text)?);
    }
    spec.output = sandbox::Output::Inherit;
    spec.stdin = if args.interactive { Stdin::Inherit } else { Stdin::Null };
    if args.tty {
        spec.terminal = Some(sandbox::terminal::size());
    }
    let code = wait(session, &spec)?;
    drop(draft);
    if code == 0 { Ok(()) } else { Err(Error::exit_code(code)) }
}

fn command(
    config: &ImageConfig,
    args: &RunArgs,
    image: &str,
    words: &[String],
) -> Result<Vec<String>, Error> {
    let entrypoint = match &args.entrypoint {
        // An empty one clears the image's.
        Some(program) if program.is_empty() => Vec::new(),
        Some(program) => vec![program.clone()],
        None => config.entrypoint.clone().unwrap_or_default(),
    };
    let rest = match words.is_empty() {
        false => words.to_vec(),
        // As in Docker, another entrypoint does not get the image's CMD.
        true if args.entrypoint.is_some() => Vec::new(),
        true => config.cmd.clone().unwrap_or_default(),
    };
    let argv = [entrypoint, rest].concat();
    match argv.is_empty() {
        true => Err(Error::failed(format!("the image {} has no command", image))
            .hint(format!("name one: dbuild run {} COMMAND", image))),
        false => Ok(argv),
    }
}

fn environment(config: &ImageConfig, args: &RunArgs, home: &str) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = config
        .env
        .iter()
        .filter_map(|entry| entry.split_once('='))
        .map(|(n, v)| (n.to_owned(), v.to_owned()))
        .collect();
    let mut set = |name: &str, value: String| match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value,
        None => env.push((name.to_owned(), value)),
    };
    for text in &args.env {
        match text.split_once('=') {
            Some((name, value)) => set(name, value.to_owned()),
            None => {
                if let Ok(value) = std::env::var(text) {
                    set(text, value);
                }
            }
        }
    }
    if args.tty {
        set("TERM", std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned()));
    }
    for (name, value) in [("PATH", DEFAULT_PATH), ("HOME", home)] {
        if !env.iter().any(|(known, _)| known == name) {
            env.push((name.to_owned(), value.to_owned()));
        }
    }
    env
}

fn volume(text: &str) -> Result<Mount, Error> {
    let wrong = || {
        Error::usage(format!(
            "`-v {text}`: expected HOST:CONTAINER or HOST:CONTAINER:ro, with absolute paths"
        ))
    };
    let mut parts = text.split(':');
    let (host, target) = (parts.next().unwrap_or_default(), parts.next().ok_or_else(wrong)?);
    let readonly = match parts.next() {
        None | Some("rw") => false,
        Some("ro") => true,
        Some(_) => return Err(wrong()),
    };
    if !target.starts_with('/') || parts.next().is_some() {
        return Err(wrong());
    }
    let path: PathBuf = std::path::absolute(host).map_err(|_| wrong())?;
    if !path.exists() {
        return Err(Error::failed(format!("`-v {text}`: there is no {}", path.display())));
    }
    Ok(Mount { target: target.to_owned(), source: MountSource::Bind { path, readonly } })
}

/// Runs it to its end. Signals that dbuild gets end it.
fn wait(session: &Session, spec: &Spec) -> Result<u8, Error> {
    let mut running = sandbox::spawn(spec).map_err(|error| match &error {
        // As a shell and Docker have it: 127 for a program that is not there, 126 for one that
        // cannot be run.
        sandbox::SandboxError::Exec(exec) => {
            Error::failed(&error).with_code(u8::try_from(exec.exit_code()).unwrap_or(126))
        }
        _ => Error::failed(error),
    })?;
    let killer = running.killer();
    let watch = session.runtime.spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        if let (Ok(mut int), Ok(mut term)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        {
            tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
            killer.kill();
        }
    });
    if let Some(terminal) = running.take_terminal() {
        sandbox::terminal::attach(terminal)
            .map_err(|error| Error::failed(format!("the terminal failed: {error}")))?;
    }
    let exit = running.wait().map_err(Error::failed)?;
    watch.abort();
    Ok(u8::try_from(exit.status.shell_code()).unwrap_or(1))
}
