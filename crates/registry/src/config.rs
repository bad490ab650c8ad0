//! What the user's configuration says of registries.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// The `[registry."…"]` tables of the configuration, by `host` or `host:port`, with the meaning
/// that they have in BuildKit's `buildkitd.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Config {
    /// Settings by registry; `docker.io` is Docker's own.
    pub registry: BTreeMap<String, HostConfig>,
}

/// Settings of one registry or mirror.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct HostConfig {
    /// `host:port`, `host:port/prefix`: asked in this order, before the registry itself.
    pub mirrors: Vec<String>,
    /// Speak plain http. Unset: only with this machine itself (`localhost`, `127.…`, `[::1]`),
    /// unless certificates are set.
    pub http: Option<bool>,
    /// Accept any certificate.
    pub insecure: bool,
    /// PEM files with certificates to trust besides the system's.
    pub ca: Vec<PathBuf>,
    /// A certificate of our own to show; the first is used.
    pub keypair: Vec<KeyPair>,
}

/// A client certificate.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPair {
    /// PEM file of the key.
    pub key: PathBuf,
    /// PEM file of the certificate.
    pub cert: PathBuf,
}

impl Config {
    /// The settings of a host; the default where nothing is said of it.
    pub(crate) fn host(&self, host: &str) -> HostConfig {
        self.registry.get(host).cloned().unwrap_or_default()
    }

    pub(crate) fn scheme(&self, host: &str) -> &'static str {
        let settings = self.host(host);
        // Certificates are of no use to plain http.
        let has_certificates = !settings.ca.is_empty() || !settings.keypair.is_empty();
        let plain = settings.http.unwrap_or_else(|| is_loopback(host) && !has_certificates);
        if plain { "http" } else { "https" }
    }
}

/// The host part of `host:port` is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn reads_what_buildkit_reads() {
        let config: Config = toml::from_str(
            "[\"docker.io\"]\nmirrors = [\"localhost:5000\", \"harbor.example/proxy\"]\n\
             [\"localhost:5000\"]\nhttp = false\n[\"a.example:8080\"]\nhttp = true\ninsecure = true\nca = [\"/ca.pem\"]\n\
             [[\"a.example:8080\".keypair]]\nkey = \"/k\"\ncert = \"/c\"\n\
             [\"localhost:5001\"]\nca = [\"/ca.pem\"]\n\
             [[\"127.0.0.1:5002\".keypair]]\nkey = \"/k\"\ncert = \"/c\"\n\
             [\"localhost:5003\"]\nca = [\"/ca.pem\"]\nhttp = true\n",
        )
        .unwrap();
        assert_eq!(config.host("docker.io").mirrors, ["localhost:5000", "harbor.example/proxy"]);
        assert!(
            toml::from_str::<Config>("[\"docker.io\"]\nmirror = []\n").is_err(),
            "a misspelt word is told"
        );
        let schemes = [
            "docker.io",
            "localhost:5000",
            "localhost",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:5",
            "a.example:8080",
            "127.example",
            "localhost:5001",
            "127.0.0.1:5002",
            "localhost:5003",
        ]
        .map(|host| config.scheme(host));
        let expected =
            ["https", "https", "http", "http", "http", "http", "http", "https", "https", "https", "http"];
        assert_eq!(schemes, expected);
    }
}
