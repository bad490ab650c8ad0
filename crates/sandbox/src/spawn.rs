//! dbuild's side: starts helpers, and hears of them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, OnceLock};

use rustix::process::Signal;

use crate::exit::Exit;
use crate::own_program::OwnProgram;
use crate::protocol::{HELPER_NAME, Reply, Request};
use crate::spec::{MountSource, Output, Rootfs, Spec, Stdin};
use crate::trace::Trace;
use crate::{SandboxError, wire};

/// overlayfs takes no more.
const MOST_LOWERS: usize = 500;

/// Starts a process. When this returns, the program runs: everything that can go wrong before is an
/// error here.
///
/// May be called from any thread: the helper's real parent is a thread that this crate keeps for
/// good.
pub fn spawn(spec: &Spec) -> Result<Running, SandboxError> {
    validate(spec)?;
    let (stdout, its_stdout) = output_pipe(spec)?;
    let (stderr, its_stderr) = output_pipe(spec)?;
    let mut helper = Helper::start()?;

    let (own_stdin, own_stdout, own_stderr) = (io::stdin(), io::stdout(), io::stderr());
    let (has_terminal, mut fds) = (spec.terminal.is_some(), Vec::new());
    if !has_terminal {
        fds.push(its_stdout.as_ref().map_or(own_stdout.as_fd(), AsFd::as_fd));
        fds.push(its_stderr.as_ref().map_or(own_stderr.as_fd(), AsFd::as_fd));
        match &spec.stdin {
            Stdin::Null => {}
            Stdin::Inherit => fds.push(own_stdin.as_fd()),
            Stdin::Fd(fd) => fds.push((**fd).as_fd()),
        }
    }
    let sent = wire::send(&helper.socket, &Request::Run { spec: Box::new(spec.clone()) }, &fds);
    // When its last process ends, nobody writes any more.
    drop((its_stdout, its_stderr));
    match helper.reply(sent)? {
        (Reply::Started { pid, notes }, mut fds) => {
            let terminal = if spec.terminal.is_some() { fds.pop() } else { None };
            let pidfd = fds.pop();
            let killer =
                Killer { inner: Arc::new(KillerInner { socket: Arc::clone(&helper.socket), pidfd }) };
            Ok(Running { helper, killer, stdout, stderr, terminal, notes, pid })
        }
        (Reply::Failed(error), _) => Err(error),
        (Reply::Exited(..) | Reply::Probed(_), _) => Err(out_of_step()),
    }
}

/// A process that was started. Dropping it kills the process and waits until nothing of it is left.
#[derive(Debug)]
pub struct Running {
    helper: Helper,
    killer: Killer,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    notes: Vec<String>,
    pid: u32,
}

impl Running {
    /// The pipe of its standard output, once; `None` with a terminal or inherited output. The pipe
    /// ends when the last process that holds it is gone.
    pub fn take_stdout(&mut self) -> Option<OwnedFd> {
        self.stdout.take()
    }

    /// As [`Running::take_stdout`], of its standard error.
    pub fn take_stderr(&mut self) -> Option<OwnedFd> {
        self.stderr.take()
    }

    /// The other side of its terminal, once; for [`crate::terminal::attach`].
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// Kills it from anywhere.
    pub fn killer(&self) -> Killer {
        self.killer.clone()
    }

    /// What this machine could not do as the spec wants it, in words for people: limits that are
    /// not enforced.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Its process id, as dbuild's PID namespace knows it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for its end. Then every process it started is gone, its mounts are gone, and what was
    /// made for mounts is removed. Someone should read its pipes meanwhile: a full pipe stops it.
    pub fn wait(self) -> Result<Exit, SandboxError> {
        self.wait_traced().map(|(exit, _)| exit)
    }

    /// As [`Running::wait`], with what it asked of its file system if [`Spec::trace`] is set.
    pub fn wait_traced(mut self) -> Result<(Exit, Option<Trace>), SandboxError> {
        match self.helper.reply(Ok(()))? {
            (Reply::Exited(exit, trace), _) => {
                self.helper.reap();
                Ok((exit, trace.map(|trace| *trace)))
            }
            (Reply::Failed(error), _) => Err(error),
            (Reply::Started { .. } | Reply::Probed(_), _) => Err(out_of_step()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.killer.kill();
    }
}

/// Kills a process and everything that it started. Killing twice, or what has ended, does nothing.
#[derive(Clone, Debug)]
pub struct Killer {
    inner: Arc<KillerInner>,
}

#[derive(Debug)]
struct KillerInner {
    socket: Arc<UnixStream>,
    pidfd: Option<OwnedFd>,
}

impl Killer {
    /// SIGKILL for all of them. Returns at once; [`Running::wait`] then returns soon.
    pub fn kill(&self) {
        if let Some(pidfd) = &self.inner.pidfd {
            // Gone already is as good.
            let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
        }
        let _ = self.inner.socket.shutdown(std::net::Shutdown::Write);
    }
}

/// A helper process and the socket to it; dropping closes the socket, which makes it kill its
/// child, and reaps it.
#[derive(Debug)]
pub(crate) struct Helper {
    child: Option<Child>,
    socket: Arc<UnixStream>,
}

impl Helper {
    /// Starts a helper, or takes the one that waits.
    pub(crate) fn start() -> Result<Helper, SandboxError> {
        let (answer, answered) = sync_channel(1);
        let started = spawner().and_then(|spawner| {
            spawner.send(answer).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            answered.recv().map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?
        });
        let (child, socket) =
            started.map_err(|error| SandboxError::setup("start its helper process", error))?;
        Ok(Helper { child: Some(child), socket: Arc::new(socket) })
    }

    pub(crate) fn ask(&mut self, request: &Request) -> Result<Reply, SandboxError> {
        let sent = wire::send(&self.socket, request, &[]);
        Ok(self.reply(sent)?.0)
    }

    /// The next reply. A helper that could not be written to may have said why before it left.
    fn reply(&mut self, sent: io::Result<()>) -> Result<(Reply, Vec<OwnedFd>), SandboxError> {
        match wire::receive(&self.socket) {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => {
                let status = self.reap();
                Err(SandboxError::HelperDied(match (sent, status) {
                    (Err(error), _) => format!("could not be reached: {error}"),
                    (Ok(()), Some(status)) => match status.signal() {
                        Some(signal) => format!("was killed by signal {signal}"),
                        None => format!(
                            "ended early with status {}; does this program call dispatch_helper first in main?",
                            status.code().unwrap_or_default()
                        ),
                    },
                    (Ok(()), None) => "is gone".to_owned(),
                }))
            }
            Err(error) => Err(SandboxError::HelperDied(format!("sent an unreadable answer: {error}"))),
        }
    }

    fn reap(&mut self) -> Option<std::process::ExitStatus> {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        self.child.take().and_then(|mut child| child.wait().ok())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.reap();
    }
}

fn out_of_step() -> SandboxError {
    SandboxError::HelperDied("answered out of step".to_owned())
}

/// A pipe's ends, ours and the process's: neither with a terminal, or where the output is
/// inherited.
fn output_pipe(spec: &Spec) -> Result<(Option<OwnedFd>, Option<OwnedFd>), SandboxError> {
    if spec.terminal.is_some() || matches!(spec.output, Output::Inherit) {
        return Ok((None, None));
    }
    let (reader, writer) = io::pipe().map_err(|error| SandboxError::setup("make a pipe", error))?;
    Ok((Some(reader.into()), Some(writer.into())))
}

/// A helper that waits for its request.
type Started = (Child, UnixStream);

/// Number of helpers from which on a next one is likely, and is started before it is asked for: a
/// process takes longer to start than to do its work.
const SEVERAL: usize = 2;

/// The thread that starts helpers. It lives as long as the process: a parent-death signal follows
/// the thread that spawned, and runtimes retire their threads.
fn spawner() -> io::Result<&'static Sender<SyncSender<io::Result<Started>>>> {
    static SPAWNER: OnceLock<io::Result<Sender<SyncSender<io::Result<Started>>>>> = OnceLock::new();
    SPAWNER
        .get_or_init(|| {
            let (sender, jobs) = channel::<SyncSender<io::Result<Started>>>();
            std::thread::Builder::new().name("sandbox-spawner".to_owned()).spawn(move || {
                let mut program = OwnProgram::default();
                // When this process ends, its end of the socket is closed, and one that waits ends,
                // too.
                let mut waiting: Option<Started> = None;
                for (number, answer) in jobs.into_iter().enumerate() {
                    // It may have been killed meanwhile.
                    let lives = |(mut child, socket): Started| {
                        matches!(child.try_wait(), Ok(None)).then_some((child, socket))
                    };
                    let started = waiting.take().and_then(lives).map_or_else(|| start(&mut program), Ok);
                    // The caller may have given up; the child then sees its socket closed.
                    let _ = answer.send(started);
                    if number + 1 >= SEVERAL {
                        waiting = start(&mut program).ok();
                    }
                }
            })?;
            Ok(sender)
        })
        .as_ref()
        .map_err(|error| io::Error::from(error.kind()))
}

fn start(program: &mut OwnProgram) -> io::Result<Started> {
    let (ours, theirs) = UnixStream::pair()?;
    let executable = program.executable()?;
    // No `pre_exec`: it would make this a fork of a large process.
    let child = Command::new(executable.path())
        .arg0(HELPER_NAME)
        .env_clear()
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok((child, ours))
}

fn validate(spec: &Spec) -> Result<(), SandboxError> {
    let wrong = |text: String| Err(SandboxError::Spec(text));
    let absolute = |path: &std::path::Path| {
        if path.is_absolute() { Ok(()) } else { wrong(format!("{} is not an absolute path", path.display())) }
    };
    let stack = |lower: &[std::path::PathBuf]| {
        if lower.len() > MOST_LOWERS {
            return wrong(format!("{} layers are more than the {MOST_LOWERS} of overlayfs", lower.len()));
        }
        lower.iter().try_for_each(|path| absolute(path))
    };
    if spec.argv.first().is_none_or(String::is_empty) {
        return wrong("there is no program to run".to_owned());
    }
    let words = spec.argv.iter().chain(spec.env.iter().flat_map(|(name, value)| [name, value]));
    if words.chain([&spec.cwd]).any(|word| word.contains('\0')) {
        return wrong("an argument or a variable has a NUL byte".to_owned());
    }
    match &spec.rootfs {
        Rootfs::Overlay { lower, upper, work } => {
            stack(lower)?;
            absolute(upper)?;
            absolute(work)?;
        }
        Rootfs::ReadonlyOverlay { lower } => stack(lower)?,
        Rootfs::Dir(dir) => absolute(dir)?,
    }
    for mount in &spec.mounts {
        let clean = mount.target.split('/').filter(|part| !part.is_empty() && *part != ".");
        if !mount.target.starts_with('/') || mount.target.contains('\0') || clean.count() == 0 {
            return Err(SandboxError::Mount {
                target: mount.target.clone(),
                reason: "a mount point is an absolute path, and not the root itself".to_owned(),
            });
        }
        match &mount.source {
            MountSource::Bind { path, .. } => absolute(path)?,
            MountSource::OverlayBind { lower, .. } => stack(lower)?,
            MountSource::Tmpfs { .. } | MountSource::File { .. } => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::validate;
    use crate::{Mount, MountSource, Rootfs, SandboxError, Spec};

    #[test]
    fn specs_that_cannot_work_are_refused() {
        let good = Spec::new(Rootfs::Dir("/".into()), vec!["true".into()]);
        validate(&good).unwrap();

        let mut spec = good.clone();
        spec.argv.clear();
        assert!(matches!(validate(&spec), Err(SandboxError::Spec(_))));
        let mut spec = good.clone();
        spec.env.push(("A".into(), "\0".into()));
        assert!(matches!(validate(&spec), Err(SandboxError::Spec(_))));
        let mut spec = good.clone();
        spec.rootfs = Rootfs::ReadonlyOverlay { lower: vec!["/l".into(); 501] };
        assert!(validate(&spec).unwrap_err().to_string().contains("501 layers"));
        spec.rootfs = Rootfs::Dir("relative".into());
        assert!(validate(&spec).unwrap_err().to_string().contains("relative is not an absolute path"));
        for target in ["", "/", "/.", "//", "etc", "/a\0b"] {
            let mut spec = good.clone();
            let source = MountSource::Tmpfs { size: None, mode: 0o755 };
            spec.mounts.push(Mount { target: target.into(), source });
            assert!(matches!(validate(&spec), Err(SandboxError::Mount { .. })), "{target:?}");
        }
    }
}
