//! Where a request goes: a registry or one of its mirrors.

use dbuild_oci::Reference;

use crate::config::Config;

/// One host that may have a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The name that the user knows it by, which is also that of its settings and credentials.
    pub host: String,
    /// The host that is connected to, with its scheme: `https://registry-1.docker.io`.
    pub origin: String,
    /// The repository there, with the mirror's prefix.
    pub repository: String,
    /// For a mirror: the registry that it mirrors.
    pub mirror_of: Option<String>,
}

impl Endpoint {
    /// The registry itself.
    pub(crate) fn upstream(config: &Config, reference: &Reference) -> Self {
        let host = reference.registry();
        let connect = if host == "docker.io" { "registry-1.docker.io" } else { host };
        Self {
            host: host.to_owned(),
            origin: format!("{}://{connect}", config.scheme(host)),
            repository: reference.repository().to_owned(),
            mirror_of: None,
        }
    }

    /// The mirrors in the order of the configuration, then the registry itself.
    pub(crate) fn all(config: &Config, reference: &Reference) -> Vec<Self> {
        let registry = reference.registry();
        let mirror = |mirror: &String| {
            let bare =
                mirror.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
            let (host, prefix) =
                bare.split_once('/').map_or((bare, None), |(host, prefix)| (host, Some(prefix)));
            let scheme = match mirror.split_once("://") {
                Some((scheme, _)) => scheme,
                None => config.scheme(host),
            };
            let repository = reference.repository();
            Self {
                host: host.to_owned(),
                origin: format!("{scheme}://{host}"),
                repository: prefix.map_or(repository.to_owned(), |prefix| format!("{prefix}/{repository}")),
                mirror_of: Some(registry.to_owned()),
            }
        };
        let mut endpoints: Vec<Self> = config.host(registry).mirrors.iter().map(mirror).collect();
        endpoints.push(Self::upstream(config, reference));
        endpoints
    }

    /// The address of something in the repository: `manifests/latest`, `blobs/sha256:…`.
    pub(crate) fn url(&self, path: &str) -> String {
        // Mirrors of several registries tell them apart by this parameter; others ignore it.
        let namespace = self.mirror_of.as_ref().map(|registry| format!("?ns={registry}")).unwrap_or_default();
        format!("{}/v2/{}/{path}{namespace}", self.origin, self.repository)
    }
}

#[cfg(test)]
mod tests {
    use super::Endpoint;
    use crate::config::Config;

    #[test]
    fn mirrors_come_first() {
        let config: Config =
            toml::from_str("[\"docker.io\"]\nmirrors = [\"localhost:5000\", \"h.example/proxy\"]\n").unwrap();
        let urls: Vec<String> = Endpoint::all(&config, &"debian:12".parse().unwrap())
            .iter()
            .map(|endpoint| endpoint.url("manifests/12"))
            .collect();
        assert_eq!(
            urls,
            [
                "http://localhost:5000/v2/library/debian/manifests/12?ns=docker.io",
                "https://h.example/v2/proxy/library/debian/manifests/12?ns=docker.io",
                "https://registry-1.docker.io/v2/library/debian/manifests/12",
            ]
        );
    }
}
