//! A root file system of busybox, and short ways to run something in it.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use dbuild_sandbox::{Exit, ExitStatus, Rootfs, Running, SandboxError, Spec, spawn};
use tempfile::TempDir;

/// Set when this program plays another part than running tests.
pub(crate) const ROLE: &str = "DBUILD_SANDBOX_TEST_ROLE";

static BASE: Mutex<Option<TempDir>> = Mutex::new(None);

/// Names the [`base`] of the program that started this one.
pub(crate) const BASE_OF_PARENT: &str = "DBUILD_SANDBOX_TEST_BASE";

/// A directory with a busybox, made once. It has no `/proc`, `/dev` and `/sys`.
pub(crate) fn base() -> PathBuf {
    if let Some(path) = std::env::var_os(BASE_OF_PARENT) {
        return path.into();
    }
    let mut base = BASE.lock().unwrap();
    base.get_or_insert_with(make_base).path().to_owned()
}

/// Removes what [`base`] made.
pub(crate) fn clean_up() {
    BASE.lock().unwrap().take();
}

/// A [`base`] that may be written to.
pub(crate) fn make_base() -> TempDir {
    let dir = TempDir::with_prefix("dbuild-sandbox-base-").unwrap();
    open_to_all(dir.path());
    let busybox = ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    let busybox = busybox.expect("there is no busybox: run scripts/test.sh, which installs busybox-static");
    for name in ["bin", "etc", "tmp", "root", "usr/bin"] {
        fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    fs::copy(busybox, dir.path().join("bin/busybox")).unwrap();
    fs::set_permissions(dir.path().join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    let applets = Command::new(busybox).arg("--list").output().unwrap().stdout;
    for applet in String::from_utf8(applets).unwrap().lines().filter(|name| *name != "busybox") {
        symlink("busybox", dir.path().join("bin").join(applet)).unwrap();
    }
    fs::write(dir.path().join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    fs::write(dir.path().join("etc/motd"), "hello\n").unwrap();
    dir
}

/// Lets everybody into a directory that `tempfile` made for its owner alone.
pub(crate) fn open_to_all(dir: &Path) {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Set where every scene is traced.
pub(crate) const TRACED: &str = "DBUILD_SANDBOX_TRACED";

/// One overlay on [`base`], and a spec that runs in it.
pub(crate) struct Scene {
    pub(crate) spec: Spec,
    dir: TempDir,
}

impl Scene {
    /// Runs a script by busybox' shell.
    pub(crate) fn sh(script: &str) -> Scene {
        Scene::program(&["/bin/sh", "-c", script])
    }

    pub(crate) fn program(argv: &[&str]) -> Scene {
        let dir = TempDir::with_prefix("dbuild-sandbox-test-").unwrap();
        open_to_all(dir.path());
        let rootfs = Rootfs::Overlay {
            lower: vec![base()],
            upper: dir.path().join("upper"),
            work: dir.path().join("work"),
        };
        fs::create_dir(dir.path().join("upper")).unwrap();
        let mut spec = Spec::new(rootfs, argv.iter().map(|word| (*word).to_owned()).collect());
        spec.env.push(("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into()));
        spec.trace = std::env::var_os(TRACED).is_some();
        Scene { spec, dir }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Spec)) -> Scene {
        change(&mut self.spec);
        self
    }

    /// A path in the scene's own directory: for sources of mounts.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn upper(&self, name: &str) -> PathBuf {
        self.path("upper").join(name)
    }

    pub(crate) fn try_spawn(&self) -> Result<Running, SandboxError> {
        // Each overlay needs a fresh one.
        let _ = fs::remove_dir_all(self.path("work"));
        fs::create_dir(self.path("work")).unwrap();
        spawn(&self.spec)
    }

    pub(crate) fn spawn(&self) -> Running {
        self.try_spawn().unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn run(&self) -> Outcome {
        finish(self.spawn())
    }

    /// Runs it, demands success, and returns its output without the last newline.
    pub(crate) fn output(&self) -> String {
        let outcome = self.run();
        assert_eq!(outcome.exit.status, ExitStatus::Code(0), "{}{}", outcome.stdout, outcome.stderr);
        outcome.stdout.trim_end_matches('\n').to_owned()
    }

    pub(crate) fn error(&self) -> SandboxError {
        self.try_spawn().expect_err("it started")
    }
}

pub(crate) struct Outcome {
    pub(crate) exit: Exit,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Reads both pipes and waits.
pub(crate) fn finish(mut running: Running) -> Outcome {
    let stderr = running.take_stderr().map(|pipe| std::thread::spawn(move || read(pipe)));
    let stdout = running.take_stdout().map(read).unwrap_or_default();
    let stderr = stderr.map(|thread| thread.join().unwrap()).unwrap_or_default();
    Outcome { exit: running.wait().unwrap_or_else(|error| panic!("{error}")), stdout, stderr }
}

pub(crate) fn read(pipe: OwnedFd) -> String {
    let mut bytes = Vec::new();
    File::from(pipe).read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The mounts of this process.
pub(crate) fn host_mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

/// Names in a directory, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Tells the program that started this one.
pub(crate) fn say(line: &str) {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}").unwrap();
}
