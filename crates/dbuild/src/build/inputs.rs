//! What a build reads from this machine before it begins: the Dockerfile, the ignore file,
//! contexts, arguments, secrets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dbuild_exporter::LayoutImage;
use dbuild_frontend::{
    BuildArgs as FrontendArgs, Diagnostics, EpochSource, Ignored, NamedContext, Source, git_context, parse,
    source_date_epoch,
};
use dbuild_layer::{Ignore, TreePath, is_ignored};
use dbuild_oci::Platform;
use dbuild_plan::shown_url;
use dbuild_scheduler::{ContextDir, Secret};

use super::dockerfile::{dockerfile, ignore_file};
use super::error_text::render_all;
use super::flags::{agents, hosts, network, platform, secrets};
use super::remote_context::{self, RemoteContext};
use super::resolve_images::OCI_LAYOUT;
use crate::cli::{BuildArgs, NamedContextArg, SourceArgs};
use crate::error::Error;
use crate::progress;
use crate::session::Session;

/// A build's inputs.
pub(crate) struct Inputs {
    pub(crate) source: Source,
    pub(crate) args: FrontendArgs,
    pub(crate) contexts: BTreeMap<Option<String>, ContextDir>,
    pub(crate) secrets: BTreeMap<String, Secret>,
    pub(crate) ssh: BTreeMap<String, PathBuf>,
    /// `SOURCE_DATE_EPOCH`, from the arguments, the environment or an ARG; known where all inputs
    /// are read.
    pub(crate) epoch: Option<u64>,
    /// A context from elsewhere, kept as long as this.
    remote: Option<RemoteContext>,
}

/// Reads them all; an error in one of them is reported before anything runs.
pub(crate) fn read(session: &Session, flags: &BuildArgs) -> Result<Inputs, Error> {
    let mut inputs = match remote_context::bring(session, flags)? {
        Some(remote) => read_brought(remote, flags)?,
        None => read_source(&flags.context, &flags.source)?,
    };
    let labels = flags.label.iter();
    inputs.args.labels =
        labels.map(|label| (label.key.clone(), label.value.clone().unwrap_or_default())).collect();
    inputs.args.hosts = hosts(&flags.add_host)?;
    inputs.args.network = network(&flags.network)?;
    inputs.secrets = secrets(&flags.secret)?;
    inputs.ssh = agents(&flags.ssh)?;
    inputs.epoch = epoch(session, flags, &mut inputs)?;
    Ok(inputs)
}

/// As [`read_source`], of a context from elsewhere: `-f` names a file in it, and nothing of it is
/// ignored.
fn read_brought(mut remote: RemoteContext, flags: &BuildArgs) -> Result<Inputs, Error> {
    let root = remote.root.clone();
    let source = match (remote.dockerfile.take(), flags.source.file()) {
        (None, Some(file)) if file == Path::new("-") => dockerfile(&flags.context, &root, Some(file))?.0,
        (Some(source), _) => source,
        (None, file) => {
            let file = file.map(|file| root.join(file.strip_prefix("/").unwrap_or(file)));
            let (source, path) =
                dockerfile(Path::new(""), &root, file.as_deref()).map_err(|error| error.without(&root))?;
            // The context is a stranger's: a link may not lead out of it.
            let inside =
                path.and_then(|path| path.canonicalize().ok()).is_some_and(|path| path.starts_with(&root));
            if !inside {
                return Err(Error::failed("the Dockerfile of the context is a symlink that leads out of it"));
            }
            Source::from_bytes(
                source.name.trim_start_matches(&*root.to_string_lossy()).trim_start_matches('/'),
                source.text.as_bytes(),
            )
        }
    };
    let mut inputs = assemble(source, ContextDir { root, ignore: Ignore::default() }, &flags.source)?;
    inputs.remote = Some(remote);
    Ok(inputs)
}

/// Reads what a Dockerfile needs to be understood, and not what only a build needs.
pub(crate) fn read_source(context: &Path, flags: &SourceArgs) -> Result<Inputs, Error> {
    let root = context_dir(context)?;
    let (source, path) = dockerfile(context, &root, flags.file())?;
    let ignore = ignore_file(&root, path.as_deref())?;
    assemble(source, ContextDir { root, ignore }, flags)
}

fn assemble(source: Source, context: ContextDir, flags: &SourceArgs) -> Result<Inputs, Error> {
    let (named, mut contexts) = named_contexts(&flags.build_context)?;
    let mut args = BTreeMap::new();
    for arg in &flags.build_arg {
        // A name alone takes the value from the environment; not set there, it is not set here.
        let value = arg.value.clone().or_else(|| std::env::var(&arg.key).ok());
        args.extend(value.map(|value| (arg.key.clone(), value)));
    }
    check_hostname(&args)?;
    // As buildx does, the environment's is a build argument.
    if let (false, Ok(time)) = (args.contains_key(EPOCH), std::env::var(EPOCH)) {
        args.insert(EPOCH.to_owned(), time);
    }
    let ignored = ignored(&context);
    contexts.insert(None, context);
    let platforms = flags.platforms().map(platform);
    let args = FrontendArgs {
        args,
        target: flags.target().map(str::to_owned),
        platforms: platforms.collect::<Result<_, _>>()?,
        contexts: named,
        ignored,
        ..FrontendArgs::default()
    };
    let (secrets, ssh) = (BTreeMap::new(), BTreeMap::new());
    Ok(Inputs { source, args, contexts, secrets, ssh, epoch: None, remote: None })
}

/// A host name that the kernel refuses would fail the first RUN in the kernel's words; one with
/// blanks or the like makes another `/etc/hosts`.
fn check_hostname(args: &BTreeMap<String, String>) -> Result<(), Error> {
    const NAME: &str = "BUILDKIT_SANDBOX_HOSTNAME";
    let is_right =
        |name: &String| name.len() <= 64 && !name.contains(|c: char| c.is_whitespace() || c == '\0');
    match args.get(NAME).filter(|name| !is_right(name)) {
        Some(name) => Err(Error::usage(format!("`--build-arg {NAME}={name}` is not a valid host name"))
            .hint("a host name has at most 64 bytes and no spaces")),
        None => Ok(()),
    }
}

/// What the ignore file leaves out of this context. A source with wildcards is compared as it is
/// written, and nothing is reported about one where lines bring things back.
fn ignored(context: &ContextDir) -> Option<Ignored> {
    let ContextDir { root, ignore } = context.clone();
    if ignore.is_empty() {
        return None;
    }
    Some(Ignored(Arc::new(move |path: &str| {
        if path.is_empty() {
            return ignore.has_everything() && !ignore.has_exceptions();
        }
        let Ok(clean) = TreePath::clean(path.as_bytes()) else { return false };
        let is_there = std::fs::symlink_metadata(root.join(clean.as_path())).is_ok();
        match (ignore.has_exceptions(), is_there) {
            (true, true) => is_ignored(&root, &ignore, &clean).unwrap_or(false),
            (true, false) if path.contains(['*', '?', '[']) => false,
            _ => ignore.matches(&clean),
        }
    })))
}

fn context_dir(path: &Path) -> Result<PathBuf, Error> {
    let text = path.to_string_lossy();
    if text == "-" || text.contains("://") || text.starts_with("git@") {
        return Err(Error::usage(format!(
            "this command needs a context on this machine, not `{}`",
            shown_url(&text)
        ))
        .hint("name a directory; `dbuild build`, `plan` and `graph` take other contexts"));
    }
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => path.canonicalize(),
        Ok(_) => {
            return Err(Error::failed(format!("the context {text} is not a directory"))
                .hint(format!("name the directory that holds it, or use `-f {text}` for a Dockerfile")));
        }
        Err(error) => Err(error),
    }
    .map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::failed(format!("there is no directory {text} to build from"))
            .hint("the context is usually `.`"),
        _ => Error::failed(format!("cannot use the context {text}: {error}")),
    })
}

type Named = (BTreeMap<String, NamedContext>, BTreeMap<Option<String>, ContextDir>);

fn named_contexts(flags: &[NamedContextArg]) -> Result<Named, Error> {
    let (mut named, mut dirs) = (BTreeMap::new(), BTreeMap::new());
    for NamedContextArg { name, source } in flags {
        if let Some((_, platform)) = name.split_once("::") {
            platform.parse::<Platform>().map_err(|error| {
                Error::usage(format!("--build-context {name}={source}: {error}"))
                    .hint("what follows `::` is the platform that the context is for")
            })?;
        }
        let context = if let Some(image) = source.strip_prefix("docker-image://") {
            NamedContext::Image(image.to_owned())
        } else if let Some(layout) = source.strip_prefix(OCI_LAYOUT) {
            let parsed: Result<LayoutImage, String> = layout.parse();
            parsed.map_err(|problem| {
                Error::usage(format!("--build-context {name}={source}: {problem}")).hint(
                    "expected oci-layout://DIR, and :TAG or @DIGEST where the layout has several images",
                )
            })?;
            NamedContext::Image(source.clone())
        } else if git_context(source).is_some() && !Path::new(source).is_dir() {
            NamedContext::Git(source.clone())
        } else if source.starts_with("http://") || source.starts_with("https://") {
            NamedContext::Url(source.clone())
        } else if source.contains("://") {
            return Err(Error::usage(format!(
                "--build-context {name}={source}: this kind of source is not supported"
            ))
            .hint(
                "use a directory, a URL, a git repository, docker-image://REFERENCE or oci-layout://DIR:TAG",
            ));
        } else {
            let root = context_dir(Path::new(source))?;
            let ignore = ignore_file(&root, None)?;
            dirs.insert(Some(name.clone()), ContextDir { root, ignore });
            NamedContext::Directory
        };
        named.insert(name.clone(), context);
    }
    Ok((named, dirs))
}

const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// The time of the image that the command line, the environment or an ARG before the first FROM
/// asks for. Stages see it as a number, wherever it comes from.
fn epoch(session: &Session, flags: &BuildArgs, inputs: &mut Inputs) -> Result<Option<u64>, Error> {
    let ast = parse(&inputs.source).ast;
    let bad = |errors: Diagnostics| render_all(&errors, &inputs.source, progress::color());
    let found = source_date_epoch(&ast, &inputs.args).map_err(bad)?;
    let time = match found {
        None => return Ok(None),
        Some(EpochSource::Time(time)) => return Ok(Some(time)),
        Some(EpochSource::Unknown) => None,
        Some(EpochSource::Context) => match &inputs.remote {
            Some(remote) => remote.time(session, flags)?,
            None => None,
        },
        Some(EpochSource::Step(step)) => remote_context::time_of(session, flags, *step)?,
    };
    let text = time.map(|time| time.to_string()).unwrap_or_default();
    inputs.args.args.insert(EPOCH.to_owned(), text);
    Ok(time)
}
