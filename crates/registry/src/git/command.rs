//! The git command in an environment of our own.
//!
//! Nothing of the machine counts: no system or user configuration, no hooks, filters, helpers or
//! prompts. Repositories (submodules included) are reached by http, https, ssh and git alone. What
//! configuration there is, is in the environment, so that git's own helpers have it too, and no
//! password is among the arguments that others can see.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dbuild_scheduler::{Credential, Repository};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

const PROTOCOLS: &str = "http:https:ssh:git";

const PROXIES: [&str; 8] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
];

const SETTINGS: [(&str, &str); 13] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.autocrlf", "false"),
    ("credential.helper", ""),
    ("safe.directory", "*"),
    ("init.defaultBranch", "master"),
    ("advice.detachedHead", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("fetch.recurseSubmodules", "false"),
    // A server that brings less than this many bytes a second for a minute.
    ("http.lowSpeedLimit", "1024"),
    ("http.lowSpeedTime", "60"),
    ("http.userAgent", concat!("git/dbuild-", env!("CARGO_PKG_VERSION"))),
];

/// Why a call of git gave nothing.
#[derive(Debug)]
pub(crate) enum Failed {
    /// There is no git here.
    Missing,
    /// It could not be started or waited for.
    Local(std::io::Error),
    /// It says so itself; its standard error.
    Said(String),
}

/// Calls of git for one remote.
pub(crate) struct Git<'a> {
    program: &'a Path,
    repository: Repository<'a>,
    git_dir: Option<PathBuf>,
    work_tree: Option<PathBuf>,
    log: &'a (dyn Fn(&str) + Send + Sync),
}

impl<'a> Git<'a> {
    pub(crate) fn new(
        program: &'a Path,
        repository: Repository<'a>,
        log: &'a (dyn Fn(&str) + Send + Sync),
    ) -> Self {
        Self { program, repository, git_dir: None, work_tree: None, log }
    }

    /// The same in a repository of this machine.
    pub(crate) fn with_dir(&self, git_dir: &Path) -> Self {
        Self { git_dir: Some(git_dir.to_owned()), work_tree: self.work_tree.clone(), ..*self }
    }

    /// The same with a directory to write files into.
    pub(crate) fn with_work_tree(&self, work_tree: &Path) -> Self {
        Self { git_dir: self.git_dir.clone(), work_tree: Some(work_tree.to_owned()), ..*self }
    }

    /// Runs git and gives what it printed. Dropped while it runs, git and all that it started are
    /// killed.
    pub(crate) async fn run(&self, args: &[&str]) -> Result<String, Failed> {
        let mut command = Command::new(self.program);
        if let Some(git_dir) = &self.git_dir {
            command.arg("--git-dir").arg(git_dir);
        }
        // Not the directory that dbuild was started in: it may be a repository.
        command.current_dir("/");
        if let Some(work_tree) = &self.work_tree {
            command.arg("--work-tree").arg(work_tree).current_dir(work_tree);
        }
        command.args(args).env_clear().envs(self.environment());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Failed::Missing,
            _ => Failed::Local(error),
        })?;
        let mut group = Group(child.id());
        let Output { status, stdout, stderr } = child.wait_with_output().await.map_err(Failed::Local)?;
        group.0 = None;
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        let stderr = match self.repository.remote == self.repository.shown {
            true => stderr,
            false => stderr.replace(self.repository.remote, self.repository.shown),
        };
        stderr.lines().map(str::trim_end).filter(|line| !line.is_empty()).for_each(self.log);
        if status.success() {
            Ok(String::from_utf8_lossy(&stdout).into_owned())
        } else {
            Err(Failed::Said(stderr))
        }
    }

    fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut all: Vec<(OsString, OsString)> = Vec::new();
        let inherited = |name: &str| std::env::var_os(name);
        let mut set = |name: &str, value: OsString| all.push((name.into(), value));
        for name in PROXIES.into_iter().chain(["PATH", "GIT_SSL_CAINFO"]) {
            inherited(name).into_iter().for_each(|value| set(name, value));
        }
        if let (None, Some(file)) = (inherited("GIT_SSL_CAINFO"), inherited("SSL_CERT_FILE")) {
            set("GIT_SSL_CAINFO", file);
        }
        for (name, value) in [
            ("LC_ALL", "C"),
            ("HOME", "/dev/null"),
            ("XDG_CONFIG_HOME", "/dev/null"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_TEMPLATE_DIR", ""),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_LFS_SKIP_SMUDGE", "1"),
            ("GIT_NO_REPLACE_OBJECTS", "1"),
            ("GIT_ALLOW_PROTOCOL", PROTOCOLS),
        ] {
            set(name, value.into());
        }
        if let Some(agent) = self.repository.ssh_agent {
            set("SSH_AUTH_SOCK", agent.into());
        }
        set("GIT_SSH_COMMAND", ssh_command(inherited("HOME"), self.repository.ssh_agent.is_some()));
        let authorization = self.repository.credential.map(|credential| {
            let scope = token_scope(self.repository.remote);
            let value = match credential {
                Credential::Header(value) => value.clone(),
                Credential::Token(token) => {
                    format!("basic {}", STANDARD.encode(format!("x-access-token:{token}").as_bytes()))
                }
            };
            (format!("http.{scope}.extraheader"), format!("Authorization: {value}"))
        });
        let settings = SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings: Vec<(String, String)> = settings.chain(authorization).collect();
        set("GIT_CONFIG_COUNT", settings.len().to_string().into());
        for (index, (name, value)) in settings.into_iter().enumerate() {
            set(&format!("GIT_CONFIG_KEY_{index}"), name.into());
            set(&format!("GIT_CONFIG_VALUE_{index}"), value.into());
        }
        all
    }
}

/// ssh without the user's configuration, and with keys from the agent alone. A host whose key is
/// known must have that key; another one is taken as it is, and not written down.
fn ssh_command(home: Option<OsString>, agent: bool) -> OsString {
    let mut command = OsString::from(
        "ssh -F /dev/null -o BatchMode=yes -o IdentityFile=none -o StrictHostKeyChecking=accept-new \
         -o LogLevel=ERROR -o ConnectTimeout=15 -o ServerAliveInterval=15 -o ServerAliveCountMax=4",
    );
    if !agent {
        command.push(" -o IdentityAgent=none");
    }
    let home =
        home.as_deref().map(Path::new).and_then(Path::to_str).filter(|home| !home.contains(['\'', '"']));
    match home {
        Some(home) => {
            command.push(format!(" -o 'UserKnownHostsFile=/dev/null \"{home}/.ssh/known_hosts\"'"));
        }
        None => command.push(" -o UserKnownHostsFile=/dev/null"),
    }
    command
}

/// Where a token is good for: the remote, and all of GitHub if it is there, since submodules are
/// too.
fn token_scope(remote: &str) -> &str {
    let github = ["https://github.com/", "https://www.github.com/"];
    github.into_iter().find(|prefix| remote.starts_with(prefix)).unwrap_or(remote)
}

/// The processes of a call, as long as it is not over.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let leader = self.0.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let _ = leader.map(|leader| kill_process_group(leader, Signal::KILL));
    }
}
