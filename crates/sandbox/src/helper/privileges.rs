//! What the process may do: its capabilities, system calls, user and groups.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Gid, Resource, Rlimit, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::child_report::ChildReport;
use crate::spec::{Security, Spec, Ulimit};
use crate::{SandboxError, rootless, seccomp, sys, wire};

/// Docker's 14: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP,
/// NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP.
pub(crate) const DEFAULT_CAPABILITIES: u64 = 0xa804_25fb;

/// What `select` can handle; programs that need more raise it up to the other.
const OPEN_FILES: u64 = 1024;
const MOST_OPEN_FILES: u64 = 1 << 20;

/// Open files as Docker has them, and no core dumps in layers; the rest is inherited.
pub(super) fn set_limits(asked: &[Ulimit]) -> Result<(), SandboxError> {
    let set = |resource, soft: Option<u64>, hard: u64| {
        let inherited = rustix::process::getrlimit(resource).maximum;
        let maximum = inherited.map_or(hard, |inherited| inherited.min(hard));
        let current = soft.map_or(maximum, |soft| soft.min(maximum));
        let maximum = if hard == u64::MAX { inherited } else { Some(maximum) };
        rustix::process::setrlimit(resource, Rlimit { current: Some(current), maximum })
    };
    set(Resource::Nofile, Some(OPEN_FILES), MOST_OPEN_FILES)
        .and_then(|()| set(Resource::Core, Some(0), u64::MAX))
        .map_err(|error| SandboxError::setup("set resource limits", error))?;
    for Ulimit { name, soft, hard } in asked {
        let limit = |value: u64| Some(value).filter(|value| *value != u64::MAX);
        let rlimit = Rlimit { current: limit(*soft), maximum: limit(*hard) };
        let resource = resource(name).ok_or(Errno::INVAL);
        resource.and_then(|resource| rustix::process::setrlimit(resource, rlimit)).map_err(|error| {
            SandboxError::setup(format!("set the limit {name}={soft}:{hard}"), error).advise(
                "without root a limit cannot be raised above that of dbuild itself: see `ulimit -H -a`",
            )
        })?;
    }
    Ok(())
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "locks" => Resource::Locks,
        "memlock" => Resource::Memlock,
        "msgqueue" => Resource::Msgqueue,
        "nice" => Resource::Nice,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "rss" => Resource::Rss,
        "rtprio" => Resource::Rtprio,
        "rttime" => Resource::Rttime,
        "sigpending" => Resource::Sigpending,
        "stack" => Resource::Stack,
        _ => return None,
    })
}

/// Gives up everything that the spec does not grant. After this nothing of the setup can be undone.
pub(super) fn drop_to(spec: &Spec, report: &OwnedFd) -> Result<(), SandboxError> {
    if spec.no_new_privs {
        rustix::thread::set_no_new_privs(true)
            .map_err(|error| SandboxError::setup("set no_new_privs", error))?;
    }
    let kept = match spec.security {
        Security::Default => {
            // Before the capabilities go: loading a filter without no_new_privs needs one.
            load_filter(spec, report).map_err(|error| {
                SandboxError::setup("load its system call filter", error)
                    .advise("a kernel with CONFIG_SECCOMP_FILTER is needed")
            })?;
            DEFAULT_CAPABILITIES
        }
        Security::Insecure => u64::MAX,
    };
    limit_capabilities(kept).map_err(|error| SandboxError::setup("drop capabilities", error))?;
    set_groups(spec)?;
    become_user(spec)
}

/// The filter, and its listener to the helper, before a call can be made that it stops.
fn load_filter(spec: &Spec, report: &OwnedFd) -> std::io::Result<()> {
    if !spec.trace {
        return seccomp::load_default();
    }
    let listener = seccomp::load_traced()?;
    wire::send(report, &ChildReport::Traced, &[listener.as_fd()])
}

fn limit_capabilities(kept: u64) -> rustix::io::Result<()> {
    for number in 0..u64::BITS {
        let bit = 1 << number;
        if kept & bit == 0 {
            match rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(bit)) {
                Err(Errno::INVAL) => break,
                result => result?,
            }
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    let have = rustix::thread::capabilities(None)?.permitted;
    let kept = have & CapabilitySet::from_bits_retain(kept);
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)
}

fn set_groups(spec: &Spec) -> Result<(), SandboxError> {
    let groups: Vec<Gid> = spec.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    match rustix::thread::set_thread_groups(&groups) {
        // With one id, a user namespace may not change groups; the caller's show as "nobody".
        Err(Errno::PERM) if rootless::in_user_namespace() => Ok(()),
        Err(Errno::INVAL) => Err(no_such_id(format!("a member of the groups {:?}", spec.groups))),
        result => result.map_err(|error| SandboxError::setup("set its groups", error)),
    }
}

/// For a user other than 0 the kernel takes all capabilities away here.
fn become_user(spec: &Spec) -> Result<(), SandboxError> {
    let (uid, gid) = (Uid::from_raw(spec.uid), Gid::from_raw(spec.gid));
    match rustix::thread::set_thread_res_gid(gid, gid, gid) {
        Err(Errno::INVAL) => return Err(no_such_id(format!("group {}", spec.gid))),
        result => result.map_err(|error| SandboxError::setup("set its group", error))?,
    }
    match rustix::thread::set_thread_res_uid(uid, uid, uid) {
        Err(Errno::INVAL) => Err(no_such_id(format!("user {}", spec.uid))),
        result => result.map_err(|error| SandboxError::setup("set its user", error)),
    }
}

fn no_such_id(who: String) -> SandboxError {
    SandboxError::NoSuchId { who, last_id: rootless::id_count().saturating_sub(1) }
}

/// The keys of dbuild's user are not for the container.
pub(super) fn leave_keyring() {
    // Where keys do not exist, or their quota is used up, there is also nothing to leave behind:
    // the filter denies the calls that read keys.
    let _ = sys::join_new_session_keyring();
}
