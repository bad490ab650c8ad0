//! What a build reads from this machine before it begins: the Dockerfile, the ignore file, contexts, arguments, secrets.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IsTerminal as _, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use dbuild_exporter::{LayoutImage, is_pipe, read_input};
use dbuild_frontend::{
    BuildArgs as FrontendArgs, Diagnostics, EpochSource, Ignored, NamedContext, Source, git_context, parse,
    source_date_epoch,
};
use dbuild_layer::{Ignore, IgnoreError, TreePath, is_ignored, is_utf16};
use dbuild_oci::Platform;
use dbuild_plan::{HostEntry, NetworkMode, shown_url};
use dbuild_scheduler::{ContextDir, Secret};
use dbuild_support::csv::csv_fields;

use crate::build::remote_context::{self, Brought};
use crate::build::resolve_images::OCI_LAYOUT;
use crate::cli::{BuildArgs, NamedContextArg, SourceArgs};
use crate::docker_compat;
use crate::error::Error;
use crate::pipes;
use crate::progress;
use crate::session::Session;

/// More than this is no Dockerfile, no ignore file, and no secret from a pipe.
const LARGEST: u64 = 16 << 20;

/// A build's inputs.
pub(crate) struct Inputs {
    pub(crate) source: Source,
    pub(crate) args: FrontendArgs,
    pub(crate) contexts: BTreeMap<Option<String>, ContextDir>,
    pub(crate) secrets: BTreeMap<String, Secret>,
    pub(crate) ssh: BTreeMap<String, PathBuf>,
    /// `SOURCE_DATE_EPOCH`, from the arguments, the environment or an ARG; known where all inputs are read.
    pub(crate) epoch: Option<u64>,
    /// A context that was brought from elsewhere, kept as long as this.
    brought: Option<Brought>,
}

/// Reads them all; what is wrong with one of them is told before anything runs.
pub(crate) fn read(session: &Session, flags: &BuildArgs) -> Result<Inputs, Error> {
    let mut inputs = match remote_context::bring(session, flags)? {
        Some(brought) => read_brought(brought, flags)?,
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

/// What `--secret` gives.
pub(crate) fn secrets(flags: &[String]) -> Result<BTreeMap<String, Secret>, Error> {
    // As in buildx an empty one is none.
    flags.iter().filter(|text| !text.is_empty()).map(|text| secret(text)).collect()
}

/// What `--ssh` gives.
pub(crate) fn agents(flags: &[String]) -> Result<BTreeMap<String, PathBuf>, Error> {
    flags.iter().filter(|text| !text.is_empty()).map(|text| ssh(text)).collect()
}

/// As [`read_source`], of a context from elsewhere: `-f` names a file in it, and nothing of it is ignored.
fn read_brought(mut brought: Brought, flags: &BuildArgs) -> Result<Inputs, Error> {
    let root = brought.root.clone();
    let source = match (brought.dockerfile.take(), flags.source.file()) {
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
                return Err(Error::failed("the Dockerfile of the context is a link that leads out of it"));
            }
            Source::from_bytes(
                source.name.trim_start_matches(&*root.to_string_lossy()).trim_start_matches('/'),
                source.text.as_bytes(),
            )
        }
    };
    let mut inputs = assemble(source, ContextDir { root, ignore: Ignore::default() }, &flags.source)?;
    inputs.brought = Some(brought);
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
    Ok(Inputs { source, args, contexts, secrets, ssh, epoch: None, brought: None })
}

/// A host name that the kernel refuses would fail the first RUN in the kernel's words; one with blanks or the like makes
/// another `/etc/hosts`.
fn check_hostname(args: &BTreeMap<String, String>) -> Result<(), Error> {
    const NAME: &str = "BUILDKIT_SANDBOX_HOSTNAME";
    let is_right =
        |name: &String| name.len() <= 64 && !name.contains(|c: char| c.is_whitespace() || c == '\0');
    match args.get(NAME).filter(|name| !is_right(name)) {
        Some(name) => Err(Error::usage(format!("`--build-arg {NAME}={name}` is no host name"))
            .hint("a host name has at most 64 bytes, and no blanks")),
        None => Ok(()),
    }
}

/// What the ignore file leaves out of this context. A source with wildcards is compared as it is written, and nothing is said of
/// one where lines bring things back.
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

/// The network that a flag names.
pub(crate) fn network(text: &str) -> Result<NetworkMode, Error> {
    match text {
        "default" | "" => Ok(NetworkMode::Default),
        "host" => Ok(NetworkMode::Host),
        "none" => Ok(NetworkMode::None),
        other => Err(docker_compat::refused_value("--network", other)
            .unwrap_or_else(|| Error::usage(format!("`--network {other}`: expected default, host or none")))),
    }
}

fn context_dir(path: &Path) -> Result<PathBuf, Error> {
    let text = path.to_string_lossy();
    if text == "-" || text.contains("://") || text.starts_with("git@") {
        return Err(Error::usage(format!(
            "this command takes a context of this machine, not `{}`",
            shown_url(&text)
        ))
        .hint("name a directory; `dbuild build`, `plan` and `graph` take others"));
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

/// Says what is read from standard input where that is a terminal: else a build would wait there without a word.
pub(crate) fn say_if_typed(what: &str) {
    if std::io::stdin().is_terminal() {
        progress::say(&format!("note: {what} is read from standard input; Ctrl-D ends it"));
    }
}

/// The text, and where it lies if it lies in a file. `written` is the context `root` as the user names it.
fn dockerfile(written: &Path, root: &Path, file: Option<&Path>) -> Result<(Source, Option<PathBuf>), Error> {
    if let Some(file) = file.filter(|file| *file == Path::new("-") || is_pipe(file)) {
        if file == Path::new("-") {
            say_if_typed("the Dockerfile");
        }
        let shown = file.to_string_lossy().into_owned();
        let what = if shown == "-" { "the Dockerfile from standard input" } else { &shown };
        let bytes = read_once(file).map_err(|error| pipes::cannot_read(what, error))?;
        return Ok((source_of(&shown, &bytes)?, None));
    }
    let (path, shown) = match file {
        Some(path) => {
            let path = in_lower_case(path).unwrap_or_else(|| path.to_owned());
            (path.clone(), path.to_string_lossy().into_owned())
        }
        None => {
            let name = default_dockerfile(root).unwrap_or("Dockerfile");
            (root.join(name), written.join(name).to_string_lossy().into_owned())
        }
    };
    let shown = shown.strip_prefix("./").unwrap_or(&shown).to_owned();
    match read_small(&path) {
        Ok(bytes) => Ok((source_of(&shown, &bytes)?, Some(path))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let elsewhere = find_dockerfiles(root);
            let error = Error::failed(format!("there is no Dockerfile at {shown}"));
            Err(match elsewhere.as_slice() {
                [] => error.hint("name it with `-f FILE`"),
                found => error.hint(format!("there is {}; name it with `-f FILE`", found.join(", "))),
            })
        }
        Err(error) => Err(Error::failed(format!("cannot read {shown}: {error}"))),
    }
}

/// The Dockerfile of a directory where none is named.
pub(crate) fn default_dockerfile(dir: &Path) -> Option<&'static str> {
    ["Dockerfile", "dockerfile", "Containerfile"].into_iter().find(|name| dir.join(name).exists())
}

/// The file `dockerfile` beside a `Dockerfile` that is not there, as BuildKit reads it.
fn in_lower_case(path: &Path) -> Option<PathBuf> {
    let is_missing = path.file_name().is_some_and(|name| name == "Dockerfile") && !path.exists();
    Some(path.with_file_name("dockerfile")).filter(|path| is_missing && path.exists())
}

/// A Dockerfile's text.
pub(crate) fn source_of(name: &str, bytes: &[u8]) -> Result<Source, Error> {
    if is_utf16(bytes) {
        return Err(Error::failed(format!("{name} is written in UTF-16, and Dockerfiles are UTF-8"))
            .hint("save it as UTF-8"));
    }
    Ok(Source::from_bytes(name, bytes))
}

fn find_dockerfiles(context: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(context).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.to_ascii_lowercase().contains("dockerfile") && !name.ends_with(".dockerignore"))
        .collect();
    names.sort();
    names.truncate(3);
    names
}

/// `NAME.dockerignore` beside the Dockerfile, else `.dockerignore` in the context.
fn ignore_file(context: &Path, dockerfile: Option<&Path>) -> Result<Ignore, Error> {
    let own = dockerfile.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    for path in own.into_iter().chain([context.join(".dockerignore")]) {
        match read_small(&path) {
            Ok(bytes) => {
                let ignore = Ignore::parse(&bytes).map_err(|error| bad_ignore_file(&path, &error))?;
                let name = path.file_name().unwrap_or(path.as_os_str());
                return Ok(ignore.of_file(name.to_string_lossy()));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::failed(format!("cannot read {}: {error}", path.display()))),
        }
    }
    Ok(Ignore::default())
}

fn bad_ignore_file(path: &Path, error: &IgnoreError) -> Error {
    match error {
        IgnoreError::Pattern { line, error } => Error::failed(format!("{}:{line}: {error}", path.display())),
        IgnoreError::Utf16 => Error::failed(format!("{}: {error}", path.display())).hint("save it as UTF-8"),
    }
}

/// All that a pipe gives. It gives it once, and is asked several times: for the context, for the build, for a shell after a failure.
fn read_once(path: &Path) -> std::io::Result<Vec<u8>> {
    static READ: Mutex<BTreeMap<PathBuf, Vec<u8>>> = Mutex::new(BTreeMap::new());
    let mut read = READ.lock().map_err(|_| std::io::Error::other("it was not read to its end"))?;
    if let Some(bytes) = read.get(path) {
        return Ok(bytes.clone());
    }
    let bytes = read_input(path, LARGEST, &pipes::waiting())?;
    read.insert(path.to_owned(), bytes.clone());
    Ok(bytes)
}

/// Reads a regular file; a FIFO or a device is not waited for.
pub(crate) fn read_small(path: &Path) -> std::io::Result<Vec<u8>> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = File::options().read(true).custom_flags(nonblocking).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(std::io::Error::other(if meta.is_dir() {
            "it is a directory"
        } else {
            "it is not a regular file"
        }));
    }
    if meta.len() > LARGEST {
        return Err(std::io::Error::other(format!(
            "it has {} bytes, and no more than {LARGEST} are read",
            meta.len()
        )));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
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

/// A platform of `--platform`; `local` is this machine's.
pub(crate) fn platform(text: &str) -> Result<Platform, Error> {
    if text.eq_ignore_ascii_case("local") {
        return Ok(Platform::host());
    }
    let platform: Platform = text.parse().map_err(Error::usage)?;
    let refused = docker_compat::refused_value("--platform", "windows/ARCH");
    match refused.filter(|_| platform.os == "windows") {
        Some(error) => Err(error),
        None => Ok(platform),
    }
}

/// What `--add-host` gives: each is a list.
fn hosts(flags: &[String]) -> Result<Vec<HostEntry>, Error> {
    let mut hosts = Vec::new();
    for text in flags {
        for field in list("--add-host", text)?.iter().filter(|field| !field.is_empty()) {
            hosts.push(host_entry(field)?);
        }
    }
    Ok(hosts)
}

/// The elements of a flag's value that is a list.
fn list(flag: &str, text: &str) -> Result<Vec<String>, Error> {
    let fields = csv_fields(text).map_err(|error| {
        Error::usage(format!("`{flag} {text}`: {error}")).hint(
            "a list is one line of CSV: an element that holds a comma stands in double quotes as a whole",
        )
    })?;
    Ok(fields.into_iter().map(|field| field.text).collect())
}

fn host_entry(text: &str) -> Result<HostEntry, Error> {
    // `host=ip` is the newer spelling; an IPv6 address may stand in brackets.
    let parts = text.split_once('=').or_else(|| text.split_once(':'));
    let parsed = parts.map(|(host, ip)| (host, ip.trim_start_matches('[').trim_end_matches(']')));
    match parsed {
        Some((host, ip))
            if !host.is_empty() && (ip == "host-gateway" || ip.parse::<std::net::IpAddr>().is_ok()) =>
        {
            Ok(HostEntry { host: host.to_owned(), ip: ip.to_owned() })
        }
        _ => Err(Error::usage(format!("`--add-host {text}`: expected HOST:IP"))
            .hint("or HOST:host-gateway, which is this machine")),
    }
}

fn secret(text: &str) -> Result<(String, Secret), Error> {
    let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
    for field in list("--secret", text)? {
        match field.split_once('=') {
            Some(("id", value)) => id = Some(value.to_owned()),
            Some(("src" | "source", value)) => file = Some(PathBuf::from(value)),
            Some(("env", value)) => variable = Some(value.to_owned()),
            Some(("type", value @ ("file" | "env"))) => kind = Some(value.to_owned()),
            _ => {
                return Err(Error::usage(format!("`--secret {text}`: `{field}` is not known"))
                    .hint("expected id=ID,src=FILE or id=ID,env=VARIABLE"));
            }
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| {
        Error::usage(format!("`--secret {text}` has no id"))
            .hint("expected id=ID,src=FILE or id=ID,env=VARIABLE")
    })?;
    let secret = match (file, variable, kind.as_deref()) {
        (Some(_), Some(_), _) => return Err(Error::usage(format!("`--secret {text}` has both src and env"))),
        // `type=env,src=NAME` is the other spelling of `env=NAME`.
        (Some(name), None, Some("env")) => Secret::Variable(name.to_string_lossy().into_owned()),
        (Some(path), None, _) => {
            if is_pipe(&path) {
                let value = read_once(&path)
                    .map_err(|error| pipes::cannot_read(&format!("the secret `{id}`"), error))?;
                return Ok((id, Secret::Value(value.into())));
            }
            if !path.is_file() {
                return Err(Error::failed(format!(
                    "the secret `{id}` is not there: {} is no file",
                    path.display()
                )));
            }
            Secret::File(path)
        }
        (None, Some(name), _) => Secret::Variable(name),
        (None, None, Some("file")) => Secret::File(PathBuf::from(&id)),
        // As in BuildKit: a variable of that name, else a file.
        (None, None, _) if std::env::var_os(&id).is_some() => Secret::Variable(id.clone()),
        (None, None, _) => Secret::File(PathBuf::from(&id)),
    };
    Ok((id, secret))
}

fn ssh(text: &str) -> Result<(String, PathBuf), Error> {
    let fields = list("--ssh", text)?;
    let [field] = fields.as_slice() else {
        return Err(Error::usage(format!("`--ssh {text}`: expected one socket of an agent"))
            .hint("several keys: `ssh-add FILE` for each, then `--ssh default`"));
    };
    let (id, socket) = match field.split_once('=') {
        Some((id, path)) => (id, Some(PathBuf::from(path))),
        None => (field.as_str(), std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from)),
    };
    let socket = socket.ok_or_else(|| {
        Error::usage(format!("`--ssh {text}`: SSH_AUTH_SOCK is not set"))
            .hint("start an agent, or name its socket")
    })?;
    let shown = socket.display();
    let kind = std::fs::metadata(&socket)
        .map_err(|error| Error::failed(format!("`--ssh {text}`: cannot use {shown}: {error}")))?;
    // A key must never be mounted where the command expects a socket.
    if !std::os::unix::fs::FileTypeExt::is_socket(&kind.file_type()) {
        return Err(Error::usage(format!("`--ssh {text}`: {shown} is not the socket of an agent"))
            .hint("files of keys are not taken: `ssh-agent` and `ssh-add FILE`, then `--ssh default`"));
    }
    Ok((if id.is_empty() { "default" } else { id }.to_owned(), socket))
}

const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// The time of the image that the command line, the environment or an ARG before the first FROM asks for. Stages see it as
/// a number, wherever it comes from.
fn epoch(session: &Session, flags: &BuildArgs, inputs: &mut Inputs) -> Result<Option<u64>, Error> {
    let ast = parse(&inputs.source).ast;
    let told = |errors: &Diagnostics| {
        crate::build::error_text::render_all(errors, &inputs.source, crate::progress::color())
    };
    let found = source_date_epoch(&ast, &inputs.args).map_err(|errors| told(&errors))?;
    let time = match found {
        None => return Ok(None),
        Some(EpochSource::Time(time)) => return Ok(Some(time)),
        Some(EpochSource::Unknown) => None,
        Some(EpochSource::Context) => match &inputs.brought {
            Some(brought) => brought.time(session, flags)?,
            None => None,
        },
        Some(EpochSource::Step(step)) => remote_context::time_of(session, flags, *step)?,
    };
    let text = time.map(|time| time.to_string()).unwrap_or_default();
    inputs.args.args.insert(EPOCH.to_owned(), text);
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::{host_entry, secret};

    #[test]
    fn hosts() {
        let ip = |text| host_entry(text).map(|entry| entry.ip);
        assert_eq!(ip("a:1.2.3.4").unwrap(), "1.2.3.4");
        assert_eq!(ip("a=[::1]").unwrap(), "::1");
        assert_eq!(ip("a:::1").unwrap(), "::1");
        assert_eq!(ip("a:host-gateway").unwrap(), "host-gateway");
        for text in ["a", "a:", ":1.2.3.4", "a:1.2.3"] {
            assert!(host_entry(text).is_err(), "{text}");
        }
    }

    #[test]
    fn secrets_that_cannot_be_meant() {
        for text in
            ["", "src=/etc/passwd", "id=a,src=/etc/passwd,env=B", "id=a,src=/no/such/file", "id=a,mode=1"]
        {
            assert!(secret(text).is_err(), "{text}");
        }
        assert!(secret("id=a,src=/etc/passwd").is_ok());
    }
}
