//! `dbuild demo` and `dbuild image from-host`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use super::print;
use crate::cli::Global;
use crate::error::Error;
use crate::from_host;
use crate::progress::say;

/// The sample project, file by file.
const PROJECT: &[(&str, &str)] = &[
    ("Dockerfile", include_str!("../demo/project/Dockerfile")),
    (".dockerignore", include_str!("../demo/project/.dockerignore")),
    ("README.md", include_str!("../demo/project/README.md")),
    ("render.sh", include_str!("../demo/project/render.sh")),
    ("show.sh", include_str!("../demo/project/show.sh")),
    ("pages/stages.txt", include_str!("../demo/project/pages/stages.txt")),
    ("pages/copying.txt", include_str!("../demo/project/pages/copying.txt")),
];

/// The name of the base that is made where none can be pulled.
const HOST_BASE: &str = "dbuild.local/host:latest";
const NAME: &str = "dbuild-demo";
/// A registry that has not given a small image by then is as good as none.
const PATIENCE: Duration = Duration::from_secs(20);

/// Writes the project, builds it, runs it.
pub(crate) fn run(global: &Global, dir: &Path) -> Result<(), Error> {
    write_project(dir)?;
    say(&format!("wrote a sample project into {}", dir.display()));
    // Each command is a dbuild of its own, as a user would start it: without root a process can
    // become root of a user namespace only once, and before it has threads.
    let context = dir.display().to_string();
    say("building it on the base `busybox`, if that can be pulled");
    if !pullable(global)? {
        say("it cannot be pulled here, so a base is made of this machine's own programs");
        own(global, &["image", "from-host", "-t", HOST_BASE])?;
        own(global, &["build", "-t", NAME, "--build-arg", &format!("BASE={HOST_BASE}"), &context])?;
    } else {
        own(global, &["build", "-t", NAME, &context])?;
    }
    say("\nrunning the result: dbuild run dbuild-demo");
    own(global, &["run", NAME])?;
    say(&format!("\nnow look into {context}/README.md: build it again, change a page, build it once more"));
    Ok(())
}

/// `dbuild image from-host`.
pub(crate) fn from_host(global: &Global, tag: &str, programs: &[String]) -> Result<(), Error> {
    let temp = std::env::temp_dir().join(format!("dbuild-from-host-{}", std::process::id()));
    let root = temp.join("root");
    let made = fs::create_dir_all(&root)
        .map_err(|error| Error::failed(format!("cannot write {}: {error}", root.display())))
        .and_then(|()| from_host::collect(&root, programs).map_err(Error::failed))
        .and_then(|count| {
            let text = "FROM scratch\nCOPY root/ /\nENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nCMD [\"/bin/sh\"]\n";
            fs::write(temp.join("Dockerfile"), text)
                .map_err(|error| Error::failed(format!("cannot write {}: {error}", temp.display())))?;
            own(global, &["build", "-q", "-t", tag, &temp.display().to_string()])?;
            Ok(count)
        });
    let removed = fs::remove_dir_all(&temp);
    let count = made?;
    removed.map_err(|error| Error::failed(format!("cannot remove {}: {error}", temp.display())))?;
    print(&format!("{tag}: {count} programs of this machine and the libraries that they need"))
}

/// A command of this program, in a process of its own.
fn command(global: &Global, args: &[&str]) -> Result<Command, Error> {
    let program = std::env::current_exe()
        .map_err(|error| Error::failed(format!("cannot find dbuild itself: {error}")))?;
    let mut command = Command::new(program);
    for (flag, value) in [("--store", &global.store), ("--config", &global.config)] {
        if let Some(value) = value {
            command.arg(flag).arg(value);
        }
    }
    // After the image of `run` every word is the command's.
    command.args(args);
    Ok(command)
}

/// Runs such a command and shows what it says.
fn own(global: &Global, args: &[&str]) -> Result<(), Error> {
    let status = command(global, args)?
        .status()
        .map_err(|error| Error::failed(format!("cannot start dbuild: {error}")))?;
    match status.code() {
        Some(0) => Ok(()),
        // It has said why.
        code => Err(Error::exit_code(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))),
    }
}

/// Whether the sample's own base can be pulled.
fn pullable(global: &Global) -> Result<bool, Error> {
    let mut pull = command(global, &["pull", "busybox"])?;
    let child = pull.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = child.map_err(|error| Error::failed(format!("cannot start dbuild: {error}")))?;
    let id = child.id();
    let (sender, ended) = channel();
    std::thread::spawn(move || sender.send(child.wait().is_ok_and(|status| status.success())));
    Ok(ended.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        if let Some(pid) = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw) {
            // It has not been waited for, so the id is still its own.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        false
    }))
}

fn write_project(dir: &Path) -> Result<(), Error> {
    if dir.join("Dockerfile").exists() && !dir.join("render.sh").exists() {
        return Err(Error::failed(format!("{} contains another project", dir.display()))
            .hint("name another directory: dbuild demo DIR"));
    }
    for (name, text) in PROJECT {
        write_file(&dir.join(name), text.as_bytes())?;
    }
    Ok(())
}

/// Writes a file and the directories that it needs.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        fs::write(path, bytes)
    };
    write()
        .map_err(|error: std::io::Error| Error::failed(format!("cannot write {}: {error}", path.display())))
}
