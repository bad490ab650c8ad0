//! The mounts that every container has, and what of them it must not touch.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{CWD, OFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::device::{self, Terminal};
use super::paths::{open_file_in, open_in};
use super::points::MountPoints;
use super::staging::{
    Staging, attach, clone_mounts_below, is_directory, new_filesystem, set_attributes, set_attributes_below,
};
use crate::SandboxError;
use crate::spec::{Security, Spec};

/// As runc and Docker have them: what the kernel shows there is about the host.
pub(crate) const MASKED: [&str; 12] = [
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/timer_list",
    "proc/timer_stats",
    "sys/devices/virtual/powercap",
    "sys/firmware",
];

/// What may be read and not written.
pub(crate) const READ_ONLY: [&str; 5] = ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];

const ALL_OFF: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// What [`mount`] made.
pub(super) struct StandardMounts {
    pub(super) terminal: Option<Terminal>,
    /// `/proc` is of this PID namespace. Where it is not, it is the one around dbuild.
    pub(super) has_own_proc: bool,
}

/// Mounts `/proc`, `/dev` and `/sys`.
pub(super) fn mount(
    spec: &Spec,
    points: &mut MountPoints,
    staging: &mut Staging,
) -> Result<StandardMounts, SandboxError> {
    let own = new_filesystem("proc", &[], ALL_OFF);
    let has_own_proc = own.is_ok();
    let proc =
        own.or_else(|error| outer_proc(error).map_err(|error| SandboxError::setup("mount /proc", error)))?;
    put(proc, points, "proc")?;

    let dev = new_filesystem(
        "tmpfs",
        &[("mode", "0755"), ("size", "65536k")],
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV,
    )
    .map_err(|error| SandboxError::setup("mount /dev", error))?;
    let place = points.standard("dev").map_err(|reason| misplaced("dev", reason))?;
    attach(&dev, &place).map_err(|error| SandboxError::setup("mount /dev", error))?;
    device::fill(&dev, spec, staging)?;

    put(sysfs(spec)?, points, "sys")?;
    mount_cgroups(spec, points, staging)?;
    let terminal = spec.terminal.map(|size| device::new_terminal(&dev, size)).transpose()?;
    Ok(StandardMounts { terminal, has_own_proc })
}

/// The `/proc` around dbuild, with all that lies on it: in a container, whose engine hides parts of
/// it, the kernel gives nobody another one. `/proc/self` is right in it, and numbers of processes
/// are those outside.
fn outer_proc(refused: Errno) -> rustix::io::Result<OwnedFd> {
    if refused != Errno::PERM {
        return Err(refused);
    }
    let mount = clone_mounts_below(CWD, b"/proc")?;
    set_attributes_below(&mount, ALL_OFF)?;
    Ok(mount)
}

/// Hides what is [`MASKED`] and protects what is [`READ_ONLY`].
pub(super) fn protect(points: &MountPoints, staging: &mut Staging) -> Result<(), SandboxError> {
    for path in READ_ONLY {
        let Ok(place) = open_in(points.root(), path.as_bytes(), OFlags::NOFOLLOW) else { continue };
        clone_mounts_below(&place, b"")
            .and_then(|mount| {
                set_attributes_below(&mount, MountAttrFlags::MOUNT_ATTR_RDONLY | ALL_OFF)?;
                attach(&mount, &place)
            })
            .map_err(|error| SandboxError::setup(format!("protect /{path}"), error))?;
    }
    let throttles = (0..).map(|cpu| format!("sys/devices/system/cpu/cpu{cpu}/thermal_throttle"));
    let throttles =
        throttles.take_while(|path| open_in(points.root(), path.as_bytes(), OFlags::NOFOLLOW).is_ok());
    for path in MASKED.into_iter().map(str::to_owned).chain(throttles) {
        let Ok(place) = open_in(points.root(), path.as_bytes(), OFlags::NOFOLLOW) else { continue };
        let mut mask = || -> rustix::io::Result<()> {
            if is_directory(&place)? {
                attach(staging.read_only_empty()?, &place)
            } else {
                attach(staging.device("null", 1, 3)?, &place)
            }
        };
        mask().map_err(|error| SandboxError::setup(format!("mask /{path}"), error))?;
    }
    Ok(())
}

/// Limits the process ids of this PID namespace, and with them the processes.
pub(super) fn limit_processes(points: &MountPoints, most: u32) -> rustix::io::Result<()> {
    // 300 ids are reserved once they have been used.
    let limit = most.max(301).saturating_add(1).to_string();
    let file = open_file_in(points.root(), b"proc/sys/kernel/pid_max", OFlags::WRONLY)?;
    rustix::io::write(file, limit.as_bytes()).map(drop)
}

fn sysfs(spec: &Spec) -> Result<OwnedFd, SandboxError> {
    let attributes = read_only_by_default(spec);
    new_filesystem("sysfs", &[], attributes)
        .or_else(|_| {
            // Without root, the network that it shows must be our own. The host's can at least be
            // looked at.
            let mount = clone_mounts_below(CWD, b"/sys")?;
            set_attributes_below(&mount, ALL_OFF | MountAttrFlags::MOUNT_ATTR_RDONLY)?;
            Ok(mount)
        })
        .map_err(|error: rustix::io::Errno| SandboxError::setup("mount /sys", error))
}

fn mount_cgroups(spec: &Spec, points: &MountPoints, staging: &Staging) -> Result<(), SandboxError> {
    let Ok(place) = open_in(points.root(), b"sys/fs/cgroup", OFlags::DIRECTORY) else { return Ok(()) };
    let unified = rustix::fs::statfs("/sys/fs/cgroup").is_ok_and(|fs| fs.f_type == libc::CGROUP2_SUPER_MAGIC);
    let mount = if unified { new_filesystem("cgroup2", &[], read_only_by_default(spec)).ok() } else { None };
    // An empty directory rather than the host's groups.
    match mount {
        Some(mount) => attach(mount, place.as_fd()),
        None => staging.read_only_empty().and_then(|empty| attach(empty, place.as_fd())),
    }
    .map_err(|error| SandboxError::setup("mount /sys/fs/cgroup", error))
}

fn read_only_by_default(spec: &Spec) -> MountAttrFlags {
    match spec.security {
        Security::Default => ALL_OFF | MountAttrFlags::MOUNT_ATTR_RDONLY,
        Security::Insecure => ALL_OFF,
    }
}

fn put(mount: OwnedFd, points: &mut MountPoints, path: &str) -> Result<(), SandboxError> {
    let place = points.standard(path).map_err(|reason| misplaced(path, reason))?;
    attach(&mount, &place).map_err(|error| SandboxError::setup(format!("mount /{path}"), error))
}

fn misplaced(path: &str, reason: String) -> SandboxError {
    SandboxError::Mount { target: format!("/{path}"), reason }
}

/// Makes a mount that is on its place read-only.
pub(super) fn make_read_only(mount: &OwnedFd) -> Result<(), SandboxError> {
    set_attributes(mount, MountAttrFlags::MOUNT_ATTR_RDONLY)
        .map_err(|error| SandboxError::setup("make the root file system read-only", error))
}
