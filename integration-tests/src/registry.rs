//! Debian's docker-registry on a free loopback port, with the base images that the tests name.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;

use crate::outcome::bare_command;
use crate::space::{binary, workspace};

/// Which base images a test names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bases {
    /// `busybox`.
    Small,
    /// The stand-ins of `fixtures/bases` as well: minutes, the first time.
    All,
}

/// A registry that runs as long as this value, or as the test process where it is the shared one.
#[derive(Debug)]
pub struct Registry {
    address: String,
    child: Option<Child>,
}

impl Registry {
    /// The registry of this test process. Its storage is `target/fixtures/registry`, so that base
    /// images are pushed once and not by each run; tests push nothing to it.
    ///
    /// # Panics
    /// When the base images cannot be made or the registry does not start.
    pub fn shared(bases: Bases) -> &'static Self {
        static SHARED: OnceLock<Registry> = OnceLock::new();
        static SMALL: OnceLock<()> = OnceLock::new();
        static ALL: OnceLock<()> = OnceLock::new();
        match bases {
            Bases::Small => SMALL.get_or_init(|| make_bases("small")),
            Bases::All => ALL.get_or_init(|| make_bases("all")),
        };
        // Never dropped: the registry dies with the thread that waits for it, that is, with this
        // process.
        SHARED.get_or_init(|| Self::start_for_process(&fixtures().join("registry")))
    }

    /// An empty registry for one test, to push to.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(storage: &Path) -> Self {
        Self::of(spawn(storage, false))
    }

    /// The same for the users of a file as `htpasswd -B` writes it.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_for_users(storage: &Path, users: &Path) -> Self {
        let mut command = command(storage, false);
        command.env("REGISTRY_AUTH", "htpasswd").env("REGISTRY_AUTH_HTPASSWD_REALM", "tests");
        Self::of(start(command.env("REGISTRY_AUTH_HTPASSWD_PATH", users)))
    }

    fn of(mut child: Child) -> Self {
        let address = address_of(&mut child);
        Self { address, child: Some(child) }
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    fn start_for_process(storage: &Path) -> Self {
        let (sender, receiver) = mpsc::channel();
        let storage = storage.to_owned();
        // The parent-death signal follows the thread that spawned, and the threads of tests end
        // early.
        std::thread::spawn(move || {
            let mut child = spawn(&storage, true);
            let address = address_of(&mut child);
            let _ = sender.send(address);
            child.wait()
        });
        let address = receiver.recv().expect("the registry starts");
        Self { address, child: None }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Where costly things are kept between runs: `FIXTURES_DIR`, or `target/fixtures`.
fn fixtures() -> PathBuf {
    std::env::var_os("FIXTURES_DIR").map_or_else(|| workspace().join("target/fixtures"), PathBuf::from)
}

fn make_bases(what: &str) {
    let mut command = bare_command(workspace().join("scripts/bases.sh"));
    command.arg(what).env("FIXTURES_DIR", fixtures());
    // npm and pip are asked how this machine reaches their registries.
    for name in ["HOME", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "NPM_CONFIG_REGISTRY"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    if what == "all" {
        command.env("DBUILD", binary());
    }
    crate::run(&mut command).expect_ok();
}

fn spawn(storage: &Path, for_process: bool) -> Child {
    start(&mut command(storage, for_process))
}

fn command(storage: &Path, for_process: bool) -> Command {
    std::fs::create_dir_all(storage).expect("the registry's storage can be made");
    let mut command = if for_process {
        let mut command = bare_command("setpriv");
        command.args(["--pdeathsig", "KILL", "docker-registry"]);
        command
    } else {
        bare_command("docker-registry")
    };
    let config = configuration();
    command.arg("serve").arg(&config).env("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", storage);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn start(command: &mut Command) -> Child {
    match command.spawn() {
        Ok(child) => child,
        Err(error) => panic!("cannot start docker-registry: {error}\n(`scripts/tools.sh` installs it)"),
    }
}

/// Port 0: the registry picks a free one, and logs it.
fn configuration() -> PathBuf {
    let path = workspace().join("integration-tests/registry.yml");
    assert!(path.exists(), "{} is missing", path.display());
    path
}

/// Waits for the line of the log that tells the address, then reads the log to its end in the
/// background.
fn address_of(child: &mut Child) -> String {
    let mut log = BufReader::new(child.stderr.take().expect("standard error is a pipe"));
    let mut all = String::new();
    loop {
        let start = all.len();
        let length = log.read_line(&mut all).expect("the registry's log can be read");
        assert!(length > 0, "docker-registry did not start:\n{all}");
        if let Some((_, rest)) = all[start..].split_once("listening on ") {
            let address = rest.split(['"', ' ']).next().unwrap_or(rest).to_owned();
            std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
            return address;
        }
    }
}
