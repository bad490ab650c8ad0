//! Tests against a registry that misbehaves on demand ([`fake`]), and against Debian's
//! docker-registry ([`real`]).

mod auth;
mod download;
mod fake;
mod faults;
mod pull;
mod push;
mod real;
mod tls;

use std::time::Duration;

use dbuild_layer::OverlayFlavor;
use dbuild_oci::Platform;
use dbuild_store::Store;

use crate::{Config, Credentials, HostConfig, Limits, Registry};

/// A store of its own, and a registry on top of it.
struct Bench {
    dir: tempfile::TempDir,
    store: Store,
    registry: Registry,
}

impl Bench {
    fn new() -> Self {
        Self::with(Config::default(), Credentials::none())
    }

    /// Where `upstream` is asked after its mirrors.
    fn with_mirrors(upstream: &str, mirrors: &[&str]) -> Self {
        let mirrors = mirrors.iter().map(ToString::to_string).collect();
        let host = HostConfig { mirrors, ..HostConfig::default() };
        Self::with(Config { registry: [(upstream.to_owned(), host)].into() }, Credentials::none())
    }

    fn with(config: Config, credentials: Credentials) -> Self {
        Self::inside(tempfile::tempdir().unwrap(), config, credentials)
    }

    /// With a file in Docker's format that says this of hosts.
    fn with_logins(logins: &[(&str, &str)]) -> Self {
        let login = |(host, login): &(&str, &str)| format!("{host:?}:{login}");
        let auths: Vec<String> = logins.iter().map(login).collect();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        std::fs::write(&file, format!("{{\"auths\":{{{}}}}}", auths.join(","))).unwrap();
        Self::inside(dir, Config::default(), Credentials::from_files(vec![file]))
    }

    /// The same store and files, with a mirror.
    fn mirrored(self, upstream: &str, mirror: &str) -> Self {
        let host = HostConfig { mirrors: vec![mirror.to_owned()], ..HostConfig::default() };
        let credentials = Credentials::from_files(vec![self.dir.path().join("config.json")]);
        Self::inside(self.dir, Config { registry: [(upstream.to_owned(), host)].into() }, credentials)
    }

    fn directory(&self) -> String {
        self.dir.path().display().to_string()
    }

    /// With other bounds.
    fn limited(limits: Limits) -> Self {
        let mut bench = Self::new();
        bench.registry =
            Registry::with_limits(Config::default(), Credentials::none(), bench.store.clone(), limits);
        bench
    }

    fn inside(dir: tempfile::TempDir, config: Config, credentials: Credentials) -> Self {
        let store = Store::open(&dir.path().join("store"), OverlayFlavor::Trusted).unwrap();
        let registry = Registry::with_limits(config, credentials, store.clone(), limits());
        Self { dir, store, registry }
    }
}

fn limits() -> Limits {
    Limits {
        attempts: 3,
        first_delay: Duration::from_millis(1),
        max_delay: Duration::from_secs(2),
        stall: Duration::from_millis(400),
        ..Limits::default()
    }
}

fn amd64() -> Platform {
    Platform { os: "linux".to_owned(), architecture: "amd64".to_owned(), variant: None }
}

/// An error with what to try, with what differs from run to run replaced.
fn words(error: crate::RegistryError, hosts: &[(&str, &str)]) -> String {
    let hint = error.hint().map(|hint| format!("\n  help: {hint}")).unwrap_or_default();
    text(format!("{error}{hint}"), hosts)
}

/// A text with what differs from run to run replaced.
fn text(text: String, hosts: &[(&str, &str)]) -> String {
    let text = hosts.iter().fold(text, |text, (host, name)| text.replace(host, name));
    let mut out = String::new();
    for part in text.split_inclusive("sha256:") {
        let digits = part.bytes().take_while(u8::is_ascii_hexdigit).count();
        out.push_str(if digits == 64 && !out.is_empty() { &part[64..] } else { part });
    }
    out
}
