//! A place of its own for each test.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::outcome::{Outcome, bare_command, describe};
use crate::registry::{Bases, Registry};

/// A temporary directory with a store, a configuration and a build context, all removed at the end.
///
/// ```text
/// ROOT/store  ROOT/config.toml  ROOT/home  ROOT/context
/// ```
#[derive(Debug)]
pub struct TestSpace {
    dir: TempDir,
}

/// One call of dbuild, to be completed and run.
#[derive(Debug)]
pub struct Dbuild {
    command: Command,
    stdin: Option<Vec<u8>>,
}

/// The checkout that these tests belong to.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the workspace")
}

/// The program under test: `DBUILD`, or what cargo built beside this test.
///
/// # Panics
/// When it is not there.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("DBUILD") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    let path = test.ancestors().nth(2).expect("tests lie in target/debug/deps").join("dbuild");
    assert!(path.exists(), "{} is not there: run `cargo build --workspace` first", path.display());
    path
}

impl TestSpace {
    /// A space whose docker.io is the local registry with the small base images.
    pub fn new() -> Self {
        Self::with_bases(Bases::Small)
    }

    /// A space whose docker.io is the local registry with these base images.
    pub fn with_bases(bases: Bases) -> Self {
        let address = Registry::shared(bases).address();
        Self::with_config(&format!("[registry.\"docker.io\"]\nmirrors = [\"{address}\"]\n"))
    }

    /// A space whose docker.io is a port that nobody listens on: no test reaches a public registry.
    pub fn offline() -> Self {
        Self::with_config("[registry.\"docker.io\"]\nmirrors = [\"127.0.0.1:1\"]\n")
    }

    /// A space with this configuration.
    pub fn with_config(config: &str) -> Self {
        let dir = TempDir::with_prefix("dbuild-test-").expect("a temporary directory can be made");
        let space = Self { dir };
        space.write("config.toml", config);
        for name in ["home", "context"] {
            std::fs::create_dir(space.path(name)).expect("a directory can be made");
        }
        space
    }

    /// The directory of everything.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// A path below [`Self::root`].
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root().join(relative)
    }

    /// Writes a file below [`Self::root`], and the directories that it needs.
    pub fn write(&self, relative: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(relative);
        let parent = path.parent().expect("a file has a parent");
        std::fs::create_dir_all(parent).expect("a directory can be made");
        std::fs::write(&path, content).expect("a file can be written");
        path
    }

    /// The text of a file below [`Self::root`].
    #[track_caller]
    pub fn read(&self, relative: impl AsRef<Path>) -> String {
        let path = self.path(relative);
        match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => panic!("cannot read {}: {error}", path.display()),
        }
    }

    /// A call of dbuild in this space, started in [`Self::root`].
    pub fn dbuild<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Dbuild {
        let mut command = self.command(binary());
        command.args(args);
        Dbuild { command, stdin: None }
    }

    /// What a line of shell prints, started in a directory below [`Self::root`]: both outputs
    /// together, as standard output. `dbuild` is the program under test, with this space's store
    /// and configuration.
    #[track_caller]
    pub fn shell(&self, dir: impl AsRef<Path>, line: &str) -> Outcome {
        let mut command = self.command("sh");
        let binary = binary();
        let bin = binary.parent().expect("the program lies in a directory");
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}:/usr/sbin:/sbin", bin.display()));
        command.args(["-c", &format!("exec 2>&1\n{line}")]).current_dir(self.path(dir));
        crate::run(&mut command)
    }

    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = bare_command(program);
        command.current_dir(self.root());
        command.env("HOME", self.path("home")).env("DBUILD_STORE", self.path("store"));
        command.env("DBUILD_CONFIG", self.path("config.toml"));
        command
    }

    /// Writes `context/Dockerfile`, and is the call that builds it under the name `app` with these
    /// further words.
    pub fn build<S: AsRef<OsStr>>(&self, dockerfile: &str, args: impl IntoIterator<Item = S>) -> Dbuild {
        self.write("context/Dockerfile", dockerfile);
        self.dbuild(["build", "--progress", "plain", "-t", "app"]).args(args).args(["context"])
    }

    /// What a command prints in an image that was built.
    #[track_caller]
    pub fn run_in(&self, image: &str, words: &[&str]) -> String {
        self.dbuild(["run", image]).args(words).run().expect_ok().stdout
    }
}

impl Default for TestSpace {
    fn default() -> Self {
        Self::new()
    }
}

impl Dbuild {
    /// Further words.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// A variable of its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Where it starts.
    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// What it reads from standard input; without this, nothing.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// The command, for what this type does not know.
    pub fn into_command(self) -> Command {
        self.command
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[track_caller]
    pub fn run(mut self) -> Outcome {
        let Some(bytes) = self.stdin else { return crate::run(&mut self.command) };
        let words = describe(&self.command);
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().expect("dbuild can be started");
        let mut pipe = child.stdin.take().expect("standard input is a pipe");
        let writer = std::thread::spawn(move || pipe.write_all(&bytes));
        let output = child.wait_with_output().expect("dbuild's output can be read");
        // A program that does not read all of its input is no fault of the test.
        let _ = writer.join();
        Outcome::new(words, output)
    }
}
