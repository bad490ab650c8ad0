//! `/dev`: a file system that knows no devices, with six of them mounted one by one.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::staging::{Staging, attach_at, clone_mount, new_filesystem};
use crate::SandboxError;
use crate::spec::{Spec, TerminalSize};

const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Both sides of a terminal.
pub(super) struct Terminal {
    /// What dbuild reads and writes.
    pub(super) outside: OwnedFd,
    /// What the process has.
    pub(super) inside: OwnedFd,
}

/// Fills a fresh `/dev` that is already mounted on its place. `dev` is that file system's root.
pub(super) fn fill(dev: &OwnedFd, spec: &Spec, staging: &mut Staging) -> Result<(), SandboxError> {
    // The file system itself is mounted `nodev`: with CAP_MKNOD the process can make any node, and
    // open none.
    for (name, major, minor) in DEVICES {
        let failed = |error| SandboxError::setup(format!("make /dev/{name}"), error);
        let node = staging.device(name, major, minor).map_err(failed)?;
        make_file(dev, name).map_err(failed)?;
        attach_at(&node, dev, name).map_err(failed)?;
    }
    for (target, name) in LINKS {
        rustix::fs::symlinkat(target, dev, name)
            .map_err(|error| SandboxError::setup(format!("make /dev/{name}"), error))?;
    }
    let quiet = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let size = spec.shm_size.to_string();
    let pts = || {
        let options = [("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5"), ("newinstance", "")];
        // Group 5 (tty) may not exist in this user namespace.
        new_filesystem("devpts", &options, quiet).or_else(|_| new_filesystem("devpts", &options[..2], quiet))
    };
    let shm = || {
        let options = [("mode", "1777"), ("size", size.as_str())];
        new_filesystem("tmpfs", &options, quiet | MountAttrFlags::MOUNT_ATTR_NODEV)
    };
    let mqueue = || new_filesystem("mqueue", &[], quiet | MountAttrFlags::MOUNT_ATTR_NODEV);
    mount_below(dev, "pts", pts)?;
    mount_below(dev, "shm", shm)?;
    mount_below(dev, "mqueue", mqueue)
}

/// A new terminal of the container's own, which is also its `/dev/console`.
pub(super) fn new_terminal(dev: &OwnedFd, size: TerminalSize) -> Result<Terminal, SandboxError> {
    let make = || -> rustix::io::Result<Terminal> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let outside = rustix::fs::openat(dev, "pts/ptmx", flags, Mode::empty())?;
        rustix::pty::unlockpt(&outside)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let inside = rustix::pty::ioctl_tiocgptpeer(&outside, flags)?;
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&outside, size)?;
        make_file(dev, "console")?;
        // The first terminal of a new instance is number 0.
        attach_at(clone_mount(dev, "pts/0")?, dev, "console")?;
        Ok(Terminal { outside, inside })
    };
    make().map_err(|error| SandboxError::setup("make a terminal", error))
}

fn mount_below(
    dev: &OwnedFd,
    name: &str,
    make: impl FnOnce() -> rustix::io::Result<OwnedFd>,
) -> Result<(), SandboxError> {
    rustix::fs::mkdirat(dev, name, Mode::from_raw_mode(0o755))
        .and_then(|()| attach_at(make()?, dev.as_fd(), name))
        .map_err(|error| SandboxError::setup(format!("mount /dev/{name}"), error))
}

fn make_file(dev: &OwnedFd, name: &str) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    rustix::fs::openat(dev, name, flags, Mode::from_raw_mode(0o666)).map(drop)
}
