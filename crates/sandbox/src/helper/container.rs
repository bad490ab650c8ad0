//! The child of the helper, on its way from dbuild's root process to the user's program.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use rustix::process::Signal;
use rustix::thread::UnshareFlags;

use super::child_report::ChildReport;
use super::device::Terminal;
use super::mounts;
use super::points::{MadePoint, MountPoints};
use super::privileges;
use super::program;
use super::rootfs;
use super::staging::Staging;
use super::standard::{self, StandardMounts};
use crate::cgroup::StepCgroup;
use crate::spec::{Network, Output, Rootfs, Security, Spec};
use crate::{SandboxError, rootless, sys, wire};

/// Never returns: either the program runs, or the reason is reported to the helper.
pub(super) fn become_process(
    spec: &Spec,
    stdin: Option<OwnedFd>,
    report: OwnedFd,
    cgroup: Option<&StepCgroup>,
    notes: Vec<String>,
) -> ! {
    let keep: Vec<_> = stdin.iter().chain([&report]).map(|fd| fd.as_fd()).collect();
    let mut child = Child { spec, made: Vec::new(), notes };
    // The helper's own descriptors: its socket would hide dbuild's death, its directories are the
    // host's.
    if sys::close_all_but(&keep).is_err() {
        sys::exit_now(1);
    }
    let error = child.run(stdin, &report, cgroup);
    let _ = wire::send(&report, &ChildReport::Failed { error, made: child.made }, &[]);
    sys::exit_now(1)
}

struct Child<'a> {
    spec: &'a Spec,
    made: Vec<MadePoint>,
    notes: Vec<String>,
}

impl Child<'_> {
    fn run(&mut self, stdin: Option<OwnedFd>, report: &OwnedFd, cgroup: Option<&StepCgroup>) -> SandboxError {
        match self.set_up(stdin, report, cgroup) {
            Ok(()) => program::become_program(self.spec),
            Err(error) => error,
        }
    }

    /// The order matters at nearly every line: each step may need what a later one takes away.
    fn set_up(
        &mut self,
        stdin: Option<OwnedFd>,
        report: &OwnedFd,
        cgroup: Option<&StepCgroup>,
    ) -> Result<(), SandboxError> {
        let spec = self.spec;
        die_with_parent(report)?;
        let _ = rustix::process::setsid();
        if let Some(cgroup) = cgroup {
            cgroup.join();
        }
        self.enter_namespaces()?;
        privileges::leave_keyring();

        let terminal = self.build_filesystem()?;
        enter_root()?;
        let outside = connect_stdio(spec, stdin, terminal)?;
        let ready = ChildReport::Ready { made: self.made.clone(), notes: std::mem::take(&mut self.notes) };
        let beside: Vec<_> = outside.iter().map(|fd| fd.as_fd()).collect();
        wire::send(report, &ready, &beside)
            .map_err(|error| SandboxError::setup("report to its helper", error))?;
        drop(outside);
        // Nothing of the host may be open when links are followed again, and in the program.
        sys::close_from_on_exec(3).map_err(|error| SandboxError::setup("close its files", error))?;

        rustix::process::umask(Mode::from_raw_mode(0o022));
        privileges::set_limits(&spec.ulimits)?;
        let entered = rustix::process::chdir(&spec.cwd);
        privileges::drop_to(spec, report)?;
        die_with_parent(report)?;
        // As root, which may enter anything; where that is not so, as the user.
        entered.or_else(|_| rustix::process::chdir(&spec.cwd)).map_err(|error| {
            SandboxError::WorkingDirectory { path: spec.cwd.clone(), errno: error.raw_os_error() }
        })?;
        sys::reset_signals();
        Ok(())
    }

    fn enter_namespaces(&self) -> Result<(), SandboxError> {
        let mut flags =
            UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS | UnshareFlags::NEWCGROUP;
        if self.spec.network == Network::None {
            flags |= UnshareFlags::NEWNET;
        }
        sys::unshare(flags).map_err(|error| rootless::forbidden("make namespaces", error))?;
        if self.spec.network == Network::None {
            sys::loopback_up()
                .map_err(|error| SandboxError::setup("switch the loopback device on", error))?;
        }
        rustix::system::sethostname(self.spec.hostname.as_bytes())
            .map_err(|error| SandboxError::setup("set the host name", error))?;
        // What is mounted here stays here; what the host unmounts is not held.
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", slave)
            .map_err(|error| SandboxError::setup("separate its mounts from the host's", error))
    }

    fn build_filesystem(&mut self) -> Result<Option<Terminal>, SandboxError> {
        let spec = self.spec;
        let mut staging =
            Staging::new().map_err(|error| SandboxError::setup("mount a file system in memory", error))?;
        let root = rootfs::mount(spec, &mut staging)?;
        let read_only = matches!(spec.rootfs, Rootfs::ReadonlyOverlay { .. });
        let mut points = MountPoints::new(root)
            .map_err(|error| SandboxError::setup("look at the root file system", error))?;
        let result = self.fill(&mut points, &mut staging);
        if read_only && result.is_ok() {
            standard::make_read_only(points.root())?;
        }
        let entered = result.and_then(|terminal| {
            rustix::process::fchdir(points.root())
                .map_err(|error| SandboxError::setup("enter the root file system", error))?;
            Ok(terminal)
        });
        // With a failure, too, the helper must know what to remove.
        self.made = if read_only { Vec::new() } else { points.into_made() };
        entered
    }

    fn fill(
        &mut self,
        points: &mut MountPoints,
        staging: &mut Staging,
    ) -> Result<Option<Terminal>, SandboxError> {
        let StandardMounts { terminal, has_own_proc } = standard::mount(self.spec, points, staging)?;
        if !has_own_proc {
            self.notes.push(
                "the container around dbuild hides parts of /proc, so steps see that one: numbers of \
                 processes in it are the container's, and how many a step starts is not limited"
                    .to_owned(),
            );
        }
        // Older kernels need a control group for this, and the helper has seen to that.
        // What is set through another /proc would be a limit of that one.
        if let Some(most) = self.spec.limits.pids
            && sys::pid_limit_is_per_namespace()
            && has_own_proc
            && let Err(error) = standard::limit_processes(points, most)
        {
            self.notes.push(format!("the limit of {most} processes is not enforced: {error}"));
        }
        mounts::mount(self.spec, points, staging)?;
        if self.spec.security == Security::Default {
            standard::protect(points, staging)?;
        }
        Ok(terminal)
    }
}

/// Makes the current directory, which is the container's root, the root of this process, and lets
/// go of the host's file system.
fn enter_root() -> Result<(), SandboxError> {
    let enter = || -> rustix::io::Result<bool> {
        // The host's root then lies over the new one, and the staging over that: two mounts to take
        // away, each the topmost at ".". A lookup of ".." would find them.
        rustix::process::pivot_root(".", ".")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH)?;
        rustix::mount::unmount(".", UnmountFlags::DETACH)?;
        rustix::process::chdir("/")?;
        let mount = |path| Ok(rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)?.stx_mnt_id);
        Ok(mount("/")? == mount("/..")?)
    };
    match enter() {
        Ok(true) => Ok(()),
        // Never run a program that has a way out.
        Ok(false) => Err(SandboxError::Spec("the host's file system is still in reach".to_owned())),
        Err(Errno::INVAL) => Err(SandboxError::setup("enter the root file system", Errno::INVAL)
            .advise("a root that is an initramfs cannot be left")),
        Err(error) => Err(SandboxError::setup("enter the root file system", error)),
    }
}

/// Gives the process its descriptors 0 to 2; returns what goes to dbuild.
fn connect_stdio(
    spec: &Spec,
    stdin: Option<OwnedFd>,
    terminal: Option<Terminal>,
) -> Result<Option<OwnedFd>, SandboxError> {
    let failed = |error| SandboxError::setup("connect its standard streams", error);
    // `/dev/stdout` of a process that is not root must be its own to be opened again.
    let give_away = |number: &OwnedFd| {
        let _ = rustix::fs::fchown(number, Some(rustix::fs::Uid::from_raw(spec.uid)), None);
    };
    if let Some(Terminal { outside, inside }) = terminal {
        rustix::process::ioctl_tiocsctty(&inside).map_err(|error| failed(error.into()))?;
        give_away(&inside);
        for number in 0..=2 {
            sys::set_stdio(number, &inside).map_err(failed)?;
        }
        return Ok(Some(outside));
    }
    let stdin = match stdin {
        Some(stdin) => stdin,
        None => rustix::fs::openat(CWD, "/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| failed(error.into()))?,
    };
    sys::set_stdio(0, &stdin).map_err(failed)?;
    if spec.output == Output::Pipes && spec.uid != 0 {
        for number in [1, 2] {
            if let Ok(pipe) = sys::duplicate_stdio(number) {
                give_away(&pipe);
            }
        }
    }
    Ok(None)
}

/// Asks the kernel to kill this process with the helper. The request is lost whenever credentials
/// change, and does not see a helper that is gone already.
fn die_with_parent(report: &OwnedFd) -> Result<(), SandboxError> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| SandboxError::setup("tie its life to dbuild's", error))?;
    let mut polled = [rustix::event::PollFd::new(report, rustix::event::PollFlags::empty())];
    let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    match rustix::event::poll(&mut polled, Some(&at_once)) {
        Ok(0) => Ok(()),
        _ => Err(SandboxError::Killed),
    }
}
