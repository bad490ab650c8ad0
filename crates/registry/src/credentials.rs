//! Credentials from the files and helpers that Docker and podman already have.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use docker_credential::{CredentialRetrievalError as Trouble, DockerCredential};

/// Where credentials are looked up. Read at every lookup, so that a `docker login` during a build
/// counts.
#[derive(Clone, Default)]
pub struct Credentials {
    /// The text of `DOCKER_AUTH_CONFIG`: a file without a file. It goes first.
    variable: Option<Vec<u8>>,
    files: Vec<PathBuf>,
}

/// The variable that holds what a file holds elsewhere; CI services set it.
const VARIABLE: &str = "DOCKER_AUTH_CONFIG";

/// What was found for a host.
#[derive(Clone)]
pub(crate) enum Credential {
    Basic {
        user: String,
        password: String,
    },
    /// An OAuth refresh token, to be traded for access tokens.
    IdentityToken(String),
}

/// The result of a lookup: a credential and the file that it is from, or why one that seems to be
/// there is of no use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub credential: Option<Credential>,
    pub source: Option<String>,
    pub trouble: Option<String>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic(…)",
            Self::IdentityToken(_) => "IdentityToken(…)",
        })
    }
}

impl fmt::Debug for Credentials {
    /// Without what the variable holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variable, files } = self;
        f.debug_struct("Credentials").field("variable", &variable.is_some()).field("files", files).finish()
    }
}

impl Credentials {
    /// Nothing is known: every request is anonymous.
    pub fn none() -> Self {
        Self::default()
    }

    /// One user of one host (`host` or `host:port`).
    pub(crate) fn of_host(host: &str, user: &str, password: &str) -> Self {
        let auth = STANDARD.encode(format!("{user}:{password}"));
        let text = serde_json::json!({"auths": {name_in_files(host): {"auth": auth}}});
        Self { variable: Some(text.to_string().into_bytes()), files: Vec::new() }
    }

    /// Exactly these files, in this order, each in the format of Docker's `config.json`.
    pub fn from_files(files: Vec<PathBuf>) -> Self {
        Self { variable: None, files }
    }

    /// The files in which Docker and podman keep them: what `$DOCKER_AUTH_CONFIG` holds, and then
    /// the files in podman's order: `$REGISTRY_AUTH_FILE` (alone, if it is set),
    /// `$XDG_RUNTIME_DIR/containers/auth.json`, `~/.config/containers/auth.json`,
    /// `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`.
    pub fn from_environment() -> Self {
        Self::from_variables(|name| {
            std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
        })
    }

    fn from_variables(variable: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let given = variable(VARIABLE).map(|value| value.into_os_string().into_encoded_bytes());
        if let Some(file) = variable("REGISTRY_AUTH_FILE") {
            return Self { variable: given, files: vec![file] };
        }
        let home = variable("HOME");
        let config = variable("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
        let docker = variable("DOCKER_CONFIG").or_else(|| home.map(|home| home.join(".docker")));
        let files = [
            variable("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")),
            config.map(|dir| dir.join("containers/auth.json")),
            docker.map(|dir| dir.join("config.json")),
        ];
        Self { variable: given, files: files.into_iter().flatten().collect() }
    }

    /// What is known for a repository of a host (`host` or `host:port`, exactly). May start a
    /// credential helper: call it where blocking is allowed.
    pub(crate) fn lookup(&self, host: &str, repository: &str) -> Found {
        let mut trouble = None;
        let variable = self.variable.iter().map(|text| {
            // Helpers are not started by what a variable says.
            let found = without_helpers(text).and_then(|text| lookup_text(&text, host, repository));
            (VARIABLE.to_owned(), found)
        });
        let files =
            self.files.iter().map(|file| (file.display().to_string(), lookup_in(file, host, repository)));
        for (source, found) in variable.chain(files) {
            match found {
                Ok(Some(credential)) => {
                    return Found { credential: Some(credential), source: Some(source), trouble: None };
                }
                Ok(None) => {}
                Err(problem) => {
                    trouble.get_or_insert(format!("{source}: {problem}"));
                }
            }
        }
        Found { credential: None, source: None, trouble }
    }
}

fn lookup_in(file: &Path, host: &str, repository: &str) -> Result<Option<Credential>, String> {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    lookup_text(&bytes, host, repository)
}

/// Podman's files may name repositories (`quay.io/team`), most specific first; Docker's name hosts
/// only.
fn lookup_text(bytes: &[u8], host: &str, repository: &str) -> Result<Option<Credential>, String> {
    let host = name_in_files(host);
    let mut path = format!("{host}/{repository}");
    if host.starts_with("https://") {
        path = format!("docker.io/{repository}");
    }
    let mut names = Vec::new();
    while let Some((shorter, _)) = path.rsplit_once('/') {
        names.push(path.clone());
        path = shorter.to_owned();
    }
    // Helpers may know hosts only; they are asked once, at the end, by the name that Docker gives
    // them.
    let without_helpers = without_helpers(bytes)?;
    for name in &names {
        if let Some(found) = lookup_name(&without_helpers, name)? {
            return Ok(Some(found));
        }
    }
    lookup_name(bytes, host)
}

/// A host as files of credentials name it.
pub(crate) fn name_in_files(host: &str) -> &str {
    if host == "docker.io" { "https://index.docker.io/v1/" } else { host }
}

fn without_helpers(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut json: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(bytes).map_err(|error| format!("not readable as JSON: {error}"))?;
    json.retain(|name, _| name == "auths");
    serde_json::to_vec(&json).map_err(|error| error.to_string())
}

fn lookup_name(file: &[u8], name: &str) -> Result<Option<Credential>, String> {
    match docker_credential::get_credential_from_reader(file, name) {
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            Ok(Some(Credential::Basic { user, password }))
        }
        Ok(DockerCredential::IdentityToken(token)) => Ok(Some(Credential::IdentityToken(token))),
        Err(Trouble::NoCredentialConfigured) => Ok(None),
        // Helpers say in free text that they know nothing; Docker's own all use these words.
        Err(Trouble::HelperFailure { stdout, stderr, .. })
            if format!("{stdout}{stderr}").contains("credentials not found") =>
        {
            Ok(None)
        }
        Err(Trouble::HelperFailure { helper, stderr, .. }) => Err(format!(
            "the credential helper `{helper}` failed: {}",
            dbuild_support::escape::one_line(&stderr)
        )),
        Err(Trouble::HelperCommunicationError) => {
            Err(format!("the credential helper for `{name}` cannot be started"))
        }
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{Credential, Credentials};

    fn lookup(json: &str, host: &str, repository: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        std::fs::write(&file, json).unwrap();
        let found =
            Credentials::from_files(vec![PathBuf::from("/does/not/exist"), file]).lookup(host, repository);
        match (found.credential, found.trouble) {
            (Some(Credential::Basic { user, password }), _) => format!("{user}:{password}"),
            (Some(Credential::IdentityToken(token)), _) => format!("token {token}"),
            (None, Some(trouble)) => trouble.replace(&dir.path().display().to_string(), "DIR"),
            (None, None) => "none".to_owned(),
        }
    }

    #[test]
    fn a_host_gets_its_own_credentials_and_no_others() {
        // ann:one, bob:two, cid:three
        let file = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"YW5uOm9uZQ=="},"localhost:5000":{"auth":"Ym9iOnR3bw=="},
            "quay.io/team":{"auth":"Y2lkOnRocmVl"},"id.example":{"auth":"","identitytoken":"refresh"}}}"#;
        assert_eq!(lookup(file, "docker.io", "library/debian"), "ann:one");
        assert_eq!(lookup(file, "localhost:5000", "app"), "bob:two");
        assert_eq!(lookup(file, "localhost:5001", "app"), "none", "another port is another host");
        assert_eq!(lookup(file, "localhost", "app"), "none");
        assert_eq!(lookup(file, "quay.io", "team/app"), "cid:three");
        assert_eq!(lookup(file, "quay.io", "other/app"), "none");
        assert_eq!(lookup(file, "id.example", "app"), "token refresh");
    }

    #[test]
    fn trouble_names_the_file() {
        insta::assert_snapshot!(lookup("{", "a.example", "b"), @"DIR/config.json: not readable as JSON: EOF while parsing an object at line 1 column 1");
        insta::assert_snapshot!(lookup(r#"{"credsStore":"no-such-helper"}"#, "a.example", "b"), @"DIR/config.json: the credential helper for `a.example` cannot be started");
        assert_eq!(lookup("{}", "a.example", "b"), "none");
    }

    #[test]
    fn a_variable_lets_in() {
        let dir = tempfile::tempdir().unwrap();
        // ann:one and bob:two
        let file = r#"{"auths":{"a.example":{"auth":"YW5uOm9uZQ=="},"b.example":{"auth":"YW5uOm9uZQ=="}}}"#;
        std::fs::write(dir.path().join("config.json"), file).unwrap();
        let lookup = |variable: &str, host: &str| {
            let variables = |name: &str| match name {
                "DOCKER_AUTH_CONFIG" => Some(PathBuf::from(variable)),
                "DOCKER_CONFIG" => Some(dir.path().to_owned()),
                _ => None,
            };
            let credentials = Credentials::from_variables(variables);
            assert!(!format!("{credentials:?}").contains("Ym9iOnR3bw"), "it is in no log");
            let found = credentials.lookup(host, "app");
            match (found.credential, found.source, found.trouble) {
                (Some(Credential::Basic { user, password }), Some(source), _) => {
                    format!(
                        "{user}:{password} of {}",
                        source.replace(&dir.path().display().to_string(), "DIR")
                    )
                }
                (_, _, trouble) => trouble.unwrap_or_default(),
            }
        };
        let variable = r#"{"auths":{"a.example":{"auth":"Ym9iOnR3bw=="}},"credsStore":"no-such-helper"}"#;
        assert_eq!(lookup(variable, "a.example"), "bob:two of DOCKER_AUTH_CONFIG");
        assert_eq!(lookup(variable, "b.example"), "ann:one of DIR/config.json");
        assert_eq!(lookup("{", "b.example"), "ann:one of DIR/config.json");
        assert!(lookup("{", "c.example").starts_with("DOCKER_AUTH_CONFIG: not readable as JSON"));
    }

    #[test]
    fn the_places_are_podmans_and_dockers() {
        let all = |name: &str| {
            let is_one = !matches!(name, "REGISTRY_AUTH_FILE" | "DOCKER_AUTH_CONFIG");
            is_one.then(|| Path::new("/").join(name))
        };
        assert_eq!(
            Credentials::from_variables(all).files,
            [
                "/XDG_RUNTIME_DIR/containers/auth.json",
                "/XDG_CONFIG_HOME/containers/auth.json",
                "/DOCKER_CONFIG/config.json"
            ]
            .map(PathBuf::from)
        );
        let home = |name: &str| (name == "HOME").then(|| PathBuf::from("/root"));
        assert_eq!(
            Credentials::from_variables(home).files,
            ["/root/.config/containers/auth.json", "/root/.docker/config.json"].map(PathBuf::from)
        );
        assert_eq!(
            Credentials::from_variables(|name| Some(name.into())).files,
            [PathBuf::from("REGISTRY_AUTH_FILE")]
        );
    }
}
