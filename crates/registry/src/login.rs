//! `docker login` and `docker logout`: a password is tried with the registry, and kept where Docker
//! keeps it: with a credential helper where the user's file names one, else in that file.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dbuild_support::escape::one_line;
use dbuild_support::io_context::IoError;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::credentials::{Credentials, name_in_files};
use crate::endpoint::Endpoint;
use crate::error::Problem;
use crate::limits::Limits;
use crate::transport::{Request, Transport};

/// Why there is no login.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The registry does not let this user in, or does not answer.
    #[error("{host}: {problem}")]
    Refused {
        /// The registry.
        host: String,
        /// Its answer.
        problem: Problem,
    },
    /// The file of credentials cannot be read or written.
    #[error(transparent)]
    File(#[from] IoError),
    /// The file of credentials is no JSON object.
    #[error("{} is not what it should be: {why}", .file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A credential helper failed.
    #[error("the credential helper `{helper}` failed: {why}")]
    Helper {
        /// The program.
        helper: String,
        /// What it said.
        why: String,
    },
    /// There is no home directory, and no variable that names a file.
    #[error("neither HOME nor DOCKER_CONFIG is set, so there is no file to keep it in")]
    NoFile,
}

impl LoginError {
    /// What to try, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { problem: Problem::Unauthorized { .. }, .. } => {
                Some("check the user and the password; many registries want a token for it".to_owned())
            }
            Self::Refused { host, problem: Problem::Unreachable { cause, .. } } => Some(cause.advice(host)),
            Self::NoFile => Some("set DOCKER_CONFIG to a directory".to_owned()),
            Self::Refused { .. } | Self::File(_) | Self::Malformed { .. } | Self::Helper { .. } => None,
        }
    }
}

/// Asks a registry (`host` or `host:port`) whether it lets a user in.
///
/// # Errors
/// When it does not, or cannot be asked.
pub async fn try_login(config: &Config, host: &str, user: &str, password: &str) -> Result<(), LoginError> {
    let credentials = Credentials::of_host(host, user, password);
    let transport = Transport::new(config.clone(), credentials, Limits::default());
    let connect = if host == "docker.io" { "registry-1.docker.io" } else { host };
    let endpoint = Endpoint {
        host: host.to_owned(),
        origin: format!("{}://{connect}", config.scheme(host)),
        repository: String::new(),
        mirror_of: None,
    };
    let request = Request {
        scopes: Vec::new(),
        ..Request::new(Method::GET, format!("{}/v2/", endpoint.origin), String::new())
    };
    let answer = transport.send(&endpoint, &request).await;
    answer.map(drop).map_err(|problem| LoginError::Refused { host: host.to_owned(), problem })
}

/// Keeps a login. Gives where: the name of a helper, or the path of a file.
///
/// # Errors
/// When the file cannot be read or written, or the helper fails.
pub fn keep_login(host: &str, user: &str, password: &str) -> Result<String, LoginError> {
    let file = file()?;
    let mut config = read(&file)?;
    let name = name_in_files(host);
    if let Some(helper) = helper_of(&config, name) {
        let secret = json!({"ServerURL": name, "Username": user, "Secret": password});
        ask_helper(&helper, "store", &secret.to_string())?;
        // Docker has an empty entry beside what a helper keeps.
        change_logins(&mut config, |logins| logins.insert(name.to_owned(), json!({})));
        write(&file, &config)?;
        return Ok(format!("the credential helper `{helper}`"));
    }
    let auth = STANDARD.encode(format!("{user}:{password}"));
    change_logins(&mut config, |logins| logins.insert(name.to_owned(), json!({"auth": auth})));
    write(&file, &config)?;
    Ok(file.display().to_string())
}

/// Forgets a login. False where none was kept.
///
/// # Errors
/// When the file cannot be read or written, or the helper fails.
pub fn forget_login(host: &str) -> Result<bool, LoginError> {
    let file = file()?;
    let mut config = read(&file)?;
    let name = name_in_files(host);
    let was_kept = change_logins(&mut config, |logins| logins.remove(name).is_some());
    if let Some(helper) = helper_of(&config, name).filter(|_| was_kept) {
        ask_helper(&helper, "erase", name)?;
    }
    if was_kept {
        write(&file, &config)?;
    }
    Ok(was_kept)
}

/// The file that Docker writes.
fn file() -> Result<PathBuf, LoginError> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let dir = variable("DOCKER_CONFIG").or_else(|| variable("HOME").map(|home| home.join(".docker")));
    dir.map(|dir| dir.join("config.json")).ok_or(LoginError::NoFile)
}

fn read(file: &Path) -> Result<Map<String, Value>, LoginError> {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(IoError::new("read", file, error).into()),
    };
    serde_json::from_slice(&bytes)
        .map_err(|error| LoginError::Malformed { file: file.to_owned(), why: error.to_string() })
}

/// Replaces the file, which only its owner may read. What it held besides stays.
fn write(file: &Path, config: &Map<String, Value>) -> Result<(), LoginError> {
    let failed = |error: std::io::Error| IoError::new("write", file, error);
    // A link stays one: people keep these files elsewhere.
    let target = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let dir = target.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir).map_err(failed)?;
    let mut text = serde_json::to_vec_pretty(config).unwrap_or_default();
    text.push(b'\n');
    let fresh = dir.join(format!(".config.json.{}", std::process::id()));
    let written = || -> std::io::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut out = options.write(true).create(true).truncate(true).open(&fresh)?;
        out.write_all(&text)?;
        out.sync_all()?;
        std::fs::rename(&fresh, &target)
    };
    written().map_err(|error| {
        let _ = std::fs::remove_file(&fresh);
        failed(error).into()
    })
}

/// Changes the logins of a file.
fn change_logins<T>(config: &mut Map<String, Value>, change: impl FnOnce(&mut Map<String, Value>) -> T) -> T {
    let mut logins = match config.remove("auths") {
        Some(Value::Object(logins)) => logins,
        _ => Map::new(),
    };
    let changed = change(&mut logins);
    config.insert("auths".to_owned(), Value::Object(logins));
    changed
}

/// The program that keeps what belongs to a host.
fn helper_of(config: &Map<String, Value>, name: &str) -> Option<String> {
    let own = config.get("credHelpers").and_then(|helpers| helpers[name].as_str());
    let helper = own.or_else(|| config.get("credsStore")?.as_str())?;
    (!helper.is_empty()).then(|| format!("docker-credential-{helper}"))
}

fn ask_helper(helper: &str, what: &str, input: &str) -> Result<(), LoginError> {
    let failed = |why: String| LoginError::Helper { helper: helper.to_owned(), why };
    let mut child = Command::new(helper)
        .arg(what)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(|error| failed(error.to_string()))?;
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    // Helpers say why on either stream.
    let said = [output.stdout, output.stderr].concat();
    Err(failed(one_line(String::from_utf8_lossy(&said).trim())))
}
