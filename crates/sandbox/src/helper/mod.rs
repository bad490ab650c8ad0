//! The helper process: one thread, a socket to dbuild as descriptor 0, and one child that becomes the
//! user's process.
//!
//! It stays in dbuild's own mount namespace. The child makes the container's file system in a namespace of
//! its own, so the kernel takes that down with the last process of the container, before the child can be
//! waited for; then the helper removes from the upper directory what was made as mount points.

mod container;
mod device;
mod mounts;
mod paths;
mod points;
mod privileges;
mod program;
mod rootfs;
mod stage;
mod standard;

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use points::MadePoint;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, Signal};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use crate::cgroup::StepCgroup;
use crate::spec::{Rootfs, Spec};
use crate::{Exit, SandboxError, sys, wire};
pub(crate) use standard::processes_can_be_limited;

/// The private `argv[0]` of a helper.
pub(crate) const HELPER_NAME: &str = "dbuild-sandbox-helper";

/// Must be the first thing in `main` of a program that calls [`crate::spawn`]: if this process is such a
/// helper, it does its work and never returns. Costs nothing otherwise.
pub fn dispatch_helper() {
    if std::env::args_os().next().is_some_and(|name| name == HELPER_NAME) {
        sys::exit_now(serve().map_or(1, |()| 0));
    }
}

/// What dbuild asks of a helper.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Run this. Without a terminal, the descriptors of its standard output and error are beside it, and that of its standard
    /// input, if it has one.
    Run { spec: Box<Spec> },
    /// Try what this machine offers.
    Probe,
    /// Try an overlay on this directory, which is empty but for what the caller made there.
    ProbeStore { dir: std::path::PathBuf },
}

/// What a helper answers: to `Run` with `Started` and `Exited`, or with `Failed` alone.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// The program runs. Beside it a pidfd and, with a terminal, its other side.
    Started { pid: u32, notes: Vec<String> },
    /// It does not, and nothing is left.
    Failed(SandboxError),
    /// It ended, and nothing is left.
    Exited(Exit),
    /// What was found.
    Probed(Vec<crate::Capability>),
}

/// What the child tells the helper, right before it becomes the user's process. Closing the socket by
/// exec means success.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ChildReport {
    /// All is set up. With a terminal its other side is beside it.
    Ready { made: Vec<MadePoint>, notes: Vec<String> },
    /// The program was not started.
    Failed { error: SandboxError, made: Vec<MadePoint> },
}

/// Whether an overlay can be mounted, in memory; for a process in a mount namespace of its own.
pub(crate) fn try_overlay() -> Result<(), SandboxError> {
    let failed = |error| SandboxError::setup("mount a file system in memory", error);
    let mut stage = stage::Stage::new().map_err(failed)?;
    let names = [stage.new_directory(), stage.new_directory(), stage.new_directory()];
    let [lower, upper, work] = names.map(|name| name.map(|name| std::path::PathBuf::from(stage.path(&name))));
    let (lower, upper, work) = (lower.map_err(failed)?, upper.map_err(failed)?, work.map_err(failed)?);
    rootfs::Overlay { lower: &[lower], dirs: Some((&upper, &work)) }.mount(&mut stage).map(drop)
}

/// Whether an overlay on directories of this one can be mounted and written to, also to delete what is below; for a process in
/// a mount namespace of its own.
pub(crate) fn try_overlay_in(dir: &std::path::Path) -> Result<(), SandboxError> {
    let made = |error: io::Error| SandboxError::setup(format!("write to {}", dir.display()), error);
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| dir.join(name));
    for place in [&lower, &upper, &work] {
        std::fs::create_dir(place).map_err(made)?;
    }
    std::fs::write(lower.join("below"), "").map_err(made)?;
    let mut stage =
        stage::Stage::new().map_err(|error| SandboxError::setup("mount a file system in memory", error))?;
    let mount = rootfs::Overlay { lower: &[lower], dirs: Some((&upper, &work)) }.mount(&mut stage)?;
    let use_it = |error| SandboxError::setup("write to an overlay on this file system", error);
    rustix::fs::unlinkat(&mount, "below", rustix::fs::AtFlags::empty()).map_err(use_it)?;
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(&mount, "above", flags, Mode::from_raw_mode(0o644)).map(drop).map_err(use_it)
}

fn serve() -> io::Result<()> {
    sys::block_signals()?;
    sys::close_from(3)?;
    // A session of its own: Ctrl-C in a terminal is dbuild's to handle.
    let _ = rustix::process::setsid();
    rustix::process::chdir("/")?;
    let socket = sys::duplicate_stdio(0)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    sys::set_stdio(0, &null)?;

    let Some((request, mut fds)) = wire::receive::<Request>(&socket)? else {
        return Ok(());
    };
    match request {
        Request::Run { spec } => {
            for (number, fd) in (1..).zip(fds.drain(..fds.len().min(2))) {
                sys::set_stdio(number, &fd)?;
            }
            let stdin = fds.pop();
            let reply = match Supervisor::run(&socket, &spec, stdin) {
                Ok(exit) => Reply::Exited(exit),
                Err(error) => Reply::Failed(error),
            };
            wire::send(&socket, &reply, &[])
        }
        Request::ProbeStore { dir } => {
            wire::send(&socket, &Reply::Probed(vec![crate::probe_store::in_helper(&dir)]), &[])
        }
        Request::Probe => wire::send(&socket, &Reply::Probed(crate::probe::in_helper()), &[]),
    }
}

/// The helper's view of its one child.
struct Supervisor<'a> {
    socket: &'a OwnedFd,
    pid: Pid,
    pidfd: OwnedFd,
    /// Where mount points are made, and removed again: the upper directory, or the root itself.
    writable_root: Option<OwnedFd>,
    made: Vec<MadePoint>,
}

impl<'a> Supervisor<'a> {
    fn run(socket: &'a OwnedFd, spec: &Spec, stdin: Option<OwnedFd>) -> Result<Exit, SandboxError> {
        let mut notes = Vec::new();
        let writable_root = open_writable_root(&spec.rootfs)?;
        let cgroup = StepCgroup::for_limits(&spec.limits, &mut notes);
        let (report, childs_report) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .map_err(|error| SandboxError::setup("make a socket", error))?;
        sys::unshare(UnshareFlags::NEWPID)
            .map_err(|error| crate::rootless::forbidden("make a PID namespace", error))?;
        let forked = sys::fork().map_err(|error| SandboxError::setup("start a process", error))?;
        let sys::Forked::Parent(pid) = forked else {
            container::become_process(spec, stdin, childs_report, cgroup.as_ref(), notes);
        };
        drop((childs_report, stdin));
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .map_err(|error| SandboxError::setup("watch its process", error))?;
        let mut supervisor = Supervisor { socket, pid, pidfd, writable_root, made: Vec::new() };
        // The pipes must end with the container's processes, not with this one.
        supervisor.let_go_of_output();
        let started = supervisor.follow_setup(&report);
        let (exit, cgroup) = supervisor.follow_to_the_end(started.is_err(), cgroup);
        drop(cgroup);
        started.and(exit)
    }

    fn let_go_of_output(&self) {
        if let Ok(null) = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
            let _ = sys::set_stdio(1, &null);
            let _ = sys::set_stdio(2, &null);
        }
    }

    /// Until the program runs; tells dbuild so.
    fn follow_setup(&mut self, report: &OwnedFd) -> Result<(), SandboxError> {
        let mut ready: Option<(Vec<String>, Vec<OwnedFd>)> = None;
        loop {
            if self.wait_for(report)? {
                return Err(SandboxError::Killed);
            }
            let message = wire::receive::<ChildReport>(report)
                .map_err(|error| SandboxError::setup("hear from its process", error))?;
            match (message, ready.take()) {
                (Some((ChildReport::Ready { made, notes }, fds)), None) => {
                    self.made = made;
                    ready = Some((notes, fds));
                }
                (Some((ChildReport::Failed { error, made }, _)), _) => {
                    self.made = made;
                    return Err(error);
                }
                (None, Some((notes, fds))) => {
                    let started = Reply::Started { pid: self.pid.as_raw_pid().unsigned_abs(), notes };
                    let mut beside = vec![self.pidfd.as_fd()];
                    beside.extend(fds.iter().map(OwnedFd::as_fd));
                    // If dbuild is gone, the socket says so in a moment.
                    let _ = wire::send(self.socket, &started, &beside);
                    return Ok(());
                }
                (None, None) | (Some((ChildReport::Ready { .. }, _)), Some(_)) => {
                    return Err(SandboxError::HelperDied("lost its process during the setup".to_owned()));
                }
            }
        }
    }

    /// Until every process is gone; then cleans up. Kills at once when asked to, or when dbuild goes away.
    fn follow_to_the_end(
        mut self,
        kill_now: bool,
        cgroup: Option<StepCgroup>,
    ) -> (Result<Exit, SandboxError>, Option<StepCgroup>) {
        if kill_now || self.wait_for(&self.pidfd).unwrap_or(true) {
            let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        }
        let waited = sys::wait_with_usage(self.pid);
        if let Some(root) = &self.writable_root {
            points::remove_made(root, &std::mem::take(&mut self.made));
        }
        let out_of_memory = cgroup.as_ref().is_some_and(StepCgroup::ran_out_of_memory);
        let exit = waited
            .map(|(status, usage)| Exit { status, usage, out_of_memory })
            .map_err(|error| SandboxError::setup("wait for its process", error));
        (exit, cgroup)
    }

    /// Waits until there is something to read (or the end) on the descriptor; true when dbuild went away, or
    /// wants the process gone, first.
    fn wait_for(&self, fd: &OwnedFd) -> Result<bool, SandboxError> {
        loop {
            let mut polled = [PollFd::new(self.socket, PollFlags::IN), PollFd::new(fd, PollFlags::IN)];
            match rustix::event::poll(&mut polled, None) {
                Ok(_) if !polled[1].revents().is_empty() => return Ok(false),
                // dbuild sends nothing after the request: readable means the end.
                Ok(_) if !polled[0].revents().is_empty() => return Ok(true),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(SandboxError::setup("wait for its process", error)),
            }
        }
    }
}

fn open_writable_root(rootfs: &Rootfs) -> Result<Option<OwnedFd>, SandboxError> {
    let path = match rootfs {
        Rootfs::Overlay { upper, .. } => upper,
        Rootfs::Dir(dir) => dir,
        Rootfs::ReadonlyOverlay { .. } => return Ok(None),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
        .map(Some)
        .map_err(|error| SandboxError::setup(format!("open {}", path.display()), error))
}
