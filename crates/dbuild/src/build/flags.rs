//! What the flags of a build ask for, in the types of the libraries: outputs, secrets, agents,
//! hosts.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use dbuild_events::Event;
use dbuild_exporter::{OutputKind, OutputSpec, is_pipe};
use dbuild_layer::PackOptions;
use dbuild_oci::Platform;
use dbuild_plan::{HostEntry, NetworkMode};
use dbuild_registry::PullPolicy;
use dbuild_scheduler::{CacheUse, Secret};
use dbuild_support::csv::csv_fields;

use crate::cli::{BuildArgs, ProgressMode, Ulimit, annotations};
use crate::docker_compat;
use crate::error::Error;
use crate::pipes::{self, read_once};
use crate::progress;

/// Warns of what is known by name and does nothing, or refuses what the result would depend on.
pub(crate) fn warn_of_ignored(flags: &BuildArgs) -> Result<(), Error> {
    let mut warnings = flags.known.warnings()?;
    warnings.extend(docker_compat::build_arguments(&flags.source.build_arg)?);
    for text in &flags.output {
        warnings.extend(docker_compat::output_keys(text)?);
    }
    warnings.extend(docker_compat::variables()?);
    // A reader of JSON gets every word as JSON.
    let json = (flags.progress == ProgressMode::Rawjson).then(|| progress::view(flags.progress, flags.quiet));
    for warning in warnings {
        match &json {
            Some(view) => view.emit(Event::warning(warning)),
            None => progress::say(&format!("warning: {warning}")),
        }
    }
    Ok(())
}

pub(crate) fn ulimit(flag: &Ulimit) -> dbuild_sandbox::Ulimit {
    let Ulimit { name, soft, hard } = flag.clone();
    dbuild_sandbox::Ulimit { name, soft, hard }
}

pub(crate) fn outputs(flags: &BuildArgs) -> Result<Vec<OutputSpec>, Error> {
    let given = flags.output.iter().filter(|text| !text.is_empty());
    let mut outputs: Vec<OutputSpec> =
        given.map(|text| text.parse().map_err(Error::usage)).collect::<Result<_, _>>()?;
    if flags.load {
        outputs.push(OutputSpec::new(OutputKind::Docker { tar: true }, None));
    }
    if flags.push {
        let image = outputs.iter_mut().find(|output| output.kind == OutputKind::Image);
        match image {
            Some(image) => image.push = true,
            None => outputs.push(OutputSpec { push: true, ..OutputSpec::new(OutputKind::Image, None) }),
        }
    }
    for text in &flags.annotation {
        let annotations = annotations(text)?;
        if outputs.is_empty() {
            outputs.push(OutputSpec::new(OutputKind::Image, None));
        }
        let images = outputs.iter_mut().filter(|output| takes_image(output));
        images.for_each(|output| output.annotations.extend(annotations.iter().cloned()));
    }
    let entitlements = ["security.insecure", "network.host"];
    if let Some(word) = flags.allow.iter().find(|word| !entitlements.contains(&word.as_str())) {
        let unknown =
            || Error::usage(format!("`--allow {word}`: expected security.insecure or network.host"));
        return Err(docker_compat::refused_value("--allow", word).unwrap_or_else(unknown));
    }
    if outputs.is_empty() {
        outputs.push(OutputSpec::new(OutputKind::Image, None));
    }
    let mut compressions = outputs
        .iter()
        .filter(|output| takes_image(output))
        .map(|o| (o.compression, o.compression_level, o.force_compression));
    let first = compressions.next();
    if compressions.any(|other| Some(other) != first) {
        return Err(Error::usage("two outputs of one build cannot have different compressions")
            .hint("build twice: the second build finds every step in the cache"));
    }
    if outputs.iter().any(|output| output.push)
        && flags.tag.is_empty()
        && outputs.iter().all(|o| o.names.is_empty())
    {
        return Err(Error::usage("a push needs a name").hint("name the image with -t REGISTRY/NAME:TAG"));
    }
    Ok(outputs)
}

/// How layers are packed; `None` where every output takes files. [`outputs`] has seen to it that
/// all want the same.
pub(crate) fn pack_options(outputs: &[OutputSpec], epoch: Option<u64>) -> Option<PackOptions> {
    let image = outputs.iter().find(|output| takes_image(output))?;
    let clamp_mtime = epoch.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
    Some(PackOptions { compression: image.compression, level: image.compression_level, clamp_mtime })
}

pub(crate) fn takes_image(output: &OutputSpec) -> bool {
    !output.is_files() && output.kind != OutputKind::Nothing
}

/// What `--pull` asks for.
pub(crate) fn pull_policy(pull: Option<bool>) -> PullPolicy {
    match pull {
        Some(true) => PullPolicy::Always,
        Some(false) => PullPolicy::PreferCached,
        None => PullPolicy::CheckTag,
    }
}

/// Which steps may take a result from the cache.
pub(crate) fn cache_use(flags: &BuildArgs) -> CacheUse {
    if flags.no_cache {
        return CacheUse::Nothing;
    }
    if flags.no_cache_filter.is_empty() {
        return CacheUse::All;
    }
    CacheUse::Except(flags.no_cache_filter.iter().map(|stage| stage.to_ascii_lowercase()).collect())
}

/// Steps that wait (for a network, for a sleep) should not keep others from running, and steps that
/// compute should not starve each other.
pub(crate) fn default_jobs() -> NonZeroUsize {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    NonZeroUsize::new((cores * 2).max(10)).unwrap_or(NonZeroUsize::MIN)
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
pub(crate) fn hosts(flags: &[String]) -> Result<Vec<HostEntry>, Error> {
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
        Error::usage(format!("`{flag} {text}`: {error}"))
            .hint("a list is one line of CSV: put an element that contains a comma in double quotes")
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
                    "the secret `{id}` is missing: {} is not a file",
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
            .hint("key files are not supported: use `ssh-agent` and `ssh-add FILE`, then `--ssh default`"));
    }
    Ok((if id.is_empty() { "default" } else { id }.to_owned(), socket))
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
