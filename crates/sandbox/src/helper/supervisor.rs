//! The helper's view of its one child, from the fork to the end of its last process.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, Signal};
use rustix::thread::UnshareFlags;

use super::child_report::ChildReport;
use super::container;
use super::points::{self, MadePoint};
use super::tracer::Tracer;
use crate::cgroup::StepCgroup;
use crate::exit::Exit;
use crate::protocol::Reply;
use crate::spec::{Rootfs, Spec};
use crate::trace::Trace;
use crate::{SandboxError, sys, wire};

/// The helper's view of its one child.
pub(super) struct Supervisor<'a> {
    socket: &'a OwnedFd,
    pid: Pid,
    pidfd: OwnedFd,
    /// Where mount points are made, and removed again: the upper directory, or the root itself.
    writable_root: Option<OwnedFd>,
    made: Vec<MadePoint>,
    tracer: Option<Tracer>,
}

impl<'a> Supervisor<'a> {
    pub(super) fn run(
        socket: &'a OwnedFd,
        spec: &Spec,
        stdin: Option<OwnedFd>,
    ) -> Result<(Exit, Option<Trace>), SandboxError> {
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
        let mut supervisor = Supervisor { socket, pid, pidfd, writable_root, made: Vec::new(), tracer: None };
        // The pipes must end with the container's processes, not with this one.
        supervisor.let_go_of_output();
        let started = supervisor.follow_setup(&report, spec);
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
    fn follow_setup(&mut self, report: &OwnedFd, spec: &Spec) -> Result<(), SandboxError> {
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
                (Some((ChildReport::Traced, fds)), told) => {
                    ready = told;
                    let pid = self.pid.as_raw_pid().unsigned_abs();
                    let listener = fds.into_iter().next().ok_or(io::ErrorKind::UnexpectedEof);
                    let tracer = listener.map_err(io::Error::from);
                    let tracer = tracer.and_then(|listener| Tracer::new(listener, pid, spec));
                    self.tracer = Some(tracer.map_err(|error| SandboxError::setup("trace it", error))?);
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

    /// Until every process is gone; then cleans up. Kills at once when asked to, or when dbuild
    /// goes away.
    fn follow_to_the_end(
        mut self,
        kill_now: bool,
        cgroup: Option<StepCgroup>,
    ) -> (Result<(Exit, Option<Trace>), SandboxError>, Option<StepCgroup>) {
        if kill_now || self.wait_for_end().unwrap_or(true) {
            let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        }
        // Nobody must wait for a tracer that does not answer any more.
        let trace = self.tracer.take().map(Tracer::into_trace);
        let waited = sys::wait_with_usage(self.pid);
        if let Some(root) = &self.writable_root {
            points::remove_made(root, &std::mem::take(&mut self.made));
        }
        let out_of_memory = cgroup.as_ref().is_some_and(StepCgroup::ran_out_of_memory);
        let exit = waited
            .map(|(status, usage)| (Exit { status, usage, out_of_memory }, trace))
            .map_err(|error| SandboxError::setup("wait for its process", error));
        (exit, cgroup)
    }

    /// Waits until there is something to read (or the end) on the descriptor; true when dbuild went
    /// away, or wants the process gone, first.
    fn wait_for(&mut self, fd: &OwnedFd) -> Result<bool, SandboxError> {
        wait(self.socket, fd.as_fd(), &mut self.tracer)
    }

    fn wait_for_end(&mut self) -> Result<bool, SandboxError> {
        wait(self.socket, self.pidfd.as_fd(), &mut self.tracer)
    }
}

/// See [`Supervisor::wait_for`]. Meanwhile the calls of the process are traced.
fn wait(socket: &OwnedFd, fd: BorrowedFd<'_>, tracer: &mut Option<Tracer>) -> Result<bool, SandboxError> {
    loop {
        let mut polled =
            vec![PollFd::new(socket, PollFlags::IN), PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        if let Some(tracer) = &*tracer {
            polled.push(PollFd::from_borrowed_fd(tracer.listener(), PollFlags::IN));
        }
        let ready = match rustix::event::poll(&mut polled, None) {
            Ok(_) => polled.iter().map(|polled| polled.revents()).collect::<Vec<_>>(),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(SandboxError::setup("wait for its process", error)),
        };
        match (ready[0], ready[1], ready.get(2)) {
            (_, ready, _) if !ready.is_empty() => return Ok(false),
            // dbuild sends nothing after the request: readable means the end.
            (ready, ..) if !ready.is_empty() => return Ok(true),
            (_, _, Some(ready)) if ready.contains(PollFlags::IN) => {
                if let Some(tracer) = tracer {
                    tracer.serve();
                }
            }
            // The last process with the filter is gone, and the descriptor would be ready for good.
            (_, _, Some(ready)) if !ready.is_empty() => {
                return wait(socket, fd, &mut None);
            }
            _ => {}
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
