//! The part of a probe that needs a process which may lose its way back.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::mount::MountPropagationFlags;
use rustix::thread::UnshareFlags;

use super::rootfs::Overlay;
use super::staging::Staging;
use crate::capability::Capability;
use crate::spec::Limits;
use crate::{SandboxError, cgroup, rootless, sys};

/// Tries what this machine offers.
pub(super) fn probe() -> Vec<Capability> {
    let mut found = vec![seccomp(), pidfd(), cgroups()];
    let rest = UnshareFlags::NEWPID
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWCGROUP
        | UnshareFlags::NEWNET;
    let entered = sys::unshare(rest)
        .map_err(|error| rootless::forbidden("make namespaces", error))
        .and_then(|()| enter_mount_namespace());
    match entered {
        Ok(()) => {
            found.push(Capability::present("namespaces", "mount, PID, IPC, UTS, cgroup and network"));
            found.push(overlay());
        }
        Err(error) => found.push(Capability::missing("namespaces", error)),
    }
    found
}

/// Tries an overlay on the directories of a store.
pub(super) fn probe_store(dir: &Path) -> Capability {
    let name = "store overlay";
    match enter_mount_namespace().and_then(|()| try_overlay_in(dir)) {
        Ok(()) => Capability::present(name, "layers of this store can be stacked and written to"),
        Err(error) => Capability::missing(name, error),
    }
}

/// Gives this process mounts of its own, which the host's do not hear of.
fn enter_mount_namespace() -> Result<(), SandboxError> {
    sys::unshare(UnshareFlags::NEWNS)
        .map_err(|error| rootless::forbidden("make a mount namespace", error))?;
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|error| SandboxError::setup("separate its mounts from the host's", error))
}

fn seccomp() -> Capability {
    if sys::seccomp_is_there() {
        Capability::present("seccomp", "system call filters")
    } else {
        Capability {
            name: "seccomp".to_owned(),
            ok: false,
            detail: "no system call filters".to_owned(),
            advice: Some("a kernel with CONFIG_SECCOMP_FILTER is needed".to_owned()),
        }
    }
}

fn pidfd() -> Capability {
    match rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty()) {
        Ok(_) => Capability::present("pidfd", "processes are killed without races"),
        Err(error) => Capability::missing("pidfd", SandboxError::setup("open a pidfd", error)),
    }
}

fn cgroups() -> Capability {
    let mut notes = Vec::new();
    let limits = Limits { pids: None, memory: Some(1 << 40) };
    let group = cgroup::StepCgroup::for_limits(&limits, &mut notes);
    let ok = group.is_some() && notes.is_empty();
    Capability {
        name: "cgroup limits".to_owned(),
        ok,
        detail: if ok { "memory of a step can be limited".to_owned() } else { notes.join("; ") },
        advice: (!ok).then(|| {
            "memory limits are optional; they need a delegated control group (systemd-run --user --scope -p Delegate=yes)"
                .to_owned()
        }),
    }
}

fn overlay() -> Capability {
    match try_overlay() {
        Ok(()) if sys::kernel_version() >= (6, 7) => Capability::present("overlay", "up to 500 layers"),
        Ok(()) => Capability::present("overlay", "some 200 layers (500 since Linux 6.7)"),
        Err(error) => Capability::missing("overlay", error),
    }
}

/// Whether an overlay can be mounted, in memory; for a process in a mount namespace of its own.
fn try_overlay() -> Result<(), SandboxError> {
    let failed = |error| SandboxError::setup("mount a file system in memory", error);
    let mut staging = Staging::new().map_err(failed)?;
    let names = [staging.new_directory(), staging.new_directory(), staging.new_directory()];
    let [lower, upper, work] = names.map(|name| name.map(|name| PathBuf::from(staging.path(&name))));
    let (lower, upper, work) = (lower.map_err(failed)?, upper.map_err(failed)?, work.map_err(failed)?);
    Overlay { lower: &[lower], dirs: Some((&upper, &work)) }.mount(&mut staging).map(drop)
}

/// Whether an overlay on directories of this one can be mounted and written to, also to delete what
/// is below; for a process in a mount namespace of its own.
fn try_overlay_in(dir: &Path) -> Result<(), SandboxError> {
    let made = |error: io::Error| SandboxError::setup(format!("write to {}", dir.display()), error);
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| dir.join(name));
    for place in [&lower, &upper, &work] {
        std::fs::create_dir(place).map_err(made)?;
    }
    std::fs::write(lower.join("below"), "").map_err(made)?;
    let mut staging =
        Staging::new().map_err(|error| SandboxError::setup("mount a file system in memory", error))?;
    let mount = Overlay { lower: &[lower], dirs: Some((&upper, &work)) }.mount(&mut staging)?;
    let use_it = |error| SandboxError::setup("write to an overlay on this file system", error);
    rustix::fs::unlinkat(&mount, "below", AtFlags::empty()).map_err(use_it)?;
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(&mount, "above", flags, Mode::from_raw_mode(0o644)).map(drop).map_err(use_it)
}
