//! What this machine offers to the sandbox, tried rather than guessed.

use rustix::mount::MountPropagationFlags;
use rustix::thread::{CapabilitySet, UnshareFlags};
use serde::{Deserialize, Serialize};

use crate::helper::Request;
use crate::rootless::{self, Identity};
use crate::spawn::Helper;
use crate::spec::Limits;
use crate::{SandboxError, cgroup, sys};

/// One thing that the sandbox uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// A short name: `overlay`, `user namespaces`.
    pub name: String,
    /// Whether it is there.
    pub ok: bool,
    /// What was found, in words.
    pub detail: String,
    /// What to do where it is missing.
    pub advice: Option<String>,
}

/// Tries what the sandbox needs, and what makes it better. Changes nothing on the machine.
pub fn probe() -> Vec<Capability> {
    let mut found = vec![kernel(), identity(), sub_ids()];
    match Helper::start().and_then(|mut helper| helper.ask(&Request::Probe)) {
        Ok(crate::helper::Reply::Probed(more)) => found.extend(more),
        Ok(crate::helper::Reply::Failed(error)) => found.push(no("helper", error)),
        Ok(_) => {}
        Err(error) => found.push(no("helper", error)),
    }
    found
}

/// Major and minor version of the running kernel.
pub(crate) fn kernel_version() -> (u32, u32) {
    parse_version(&rustix::system::uname().release().to_string_lossy())
}

/// The part that needs a process which may lose its way back.
pub(crate) fn in_helper() -> Vec<Capability> {
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
            found.push(yes("namespaces", "mount, PID, IPC, UTS, cgroup and network"));
            found.push(overlay());
        }
        Err(error) => found.push(no("namespaces", error)),
    }
    found
}

/// Gives this process mounts of its own, which the host's do not hear of.
pub(crate) fn enter_mount_namespace() -> Result<(), SandboxError> {
    sys::unshare(UnshareFlags::NEWNS)
        .map_err(|error| rootless::forbidden("make a mount namespace", error))?;
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|error| SandboxError::setup("separate its mounts from the host's", error))
}

fn kernel() -> Capability {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let ok = kernel_version() >= (5, 12);
    Capability {
        name: "kernel".to_owned(),
        ok,
        detail: format!("Linux {release} on {}", std::env::consts::ARCH),
        advice: (!ok).then(|| "Linux 5.12 or newer is needed".to_owned()),
    }
}

/// What a build does needs these, whoever it is: in a container the user 0 often lacks some.
const NEEDED: [(CapabilitySet, &str); 10] = [
    (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
    (CapabilitySet::CHOWN, "CAP_CHOWN"),
    (CapabilitySet::DAC_OVERRIDE, "CAP_DAC_OVERRIDE"),
    (CapabilitySet::FOWNER, "CAP_FOWNER"),
    (CapabilitySet::FSETID, "CAP_FSETID"),
    (CapabilitySet::SETUID, "CAP_SETUID"),
    (CapabilitySet::SETGID, "CAP_SETGID"),
    (CapabilitySet::SETPCAP, "CAP_SETPCAP"),
    (CapabilitySet::SETFCAP, "CAP_SETFCAP"),
    (CapabilitySet::MKNOD, "CAP_MKNOD"),
];

fn identity() -> Capability {
    let have = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    let lacking: Vec<&str> =
        NEEDED.iter().filter(|(one, _)| !have.contains(*one)).map(|(_, name)| *name).collect();
    let who = match rootless::identity() {
        Identity::Root => "root of this machine".to_owned(),
        Identity::Rootless { ids, .. } => format!("root of a user namespace with {ids} ids"),
    };
    if lacking.is_empty() {
        return yes("identity", &who);
    }
    Capability {
        name: "identity".to_owned(),
        ok: false,
        detail: format!("{who}, without {}", lacking.join(", ")),
        advice: Some(
            "run the container around dbuild with these capabilities (--cap-add), or dbuild as an ordinary user"
                .to_owned(),
        ),
    }
}

fn sub_ids() -> Capability {
    let lacks = |detail: String, advice: String| Capability {
        name: "sub-ids".to_owned(),
        ok: false,
        detail,
        advice: Some(advice),
    };
    match rootless::identity() {
        Identity::Root => yes("sub-ids", "not needed: root has every id"),
        Identity::Rootless { ids, sub_ids: true } => yes("sub-ids", &format!("{ids} ids")),
        Identity::Rootless { sub_ids: false, .. } => {
            let only = "only your own id: images with other users (apt, USER) cannot be built";
            match rootless::refused_ranges() {
                Some(problem) => lacks(
                    format!("{only}; {problem}"),
                    "as root, correct the ranges in /etc/subuid and /etc/subgid: each id once, and none that is a \
                     user's own"
                        .to_owned(),
                ),
                None => lacks(
                    only.to_owned(),
                    "install uidmap (newuidmap, newgidmap) and, as root, usermod --add-subuids 100000-165535 \
                     --add-subgids 100000-165535 YOU"
                        .to_owned(),
                ),
            }
        }
    }
}

fn seccomp() -> Capability {
    if sys::seccomp_is_there() {
        yes("seccomp", "system call filters")
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
        Ok(_) => yes("pidfd", "processes are killed without races"),
        Err(error) => no("pidfd", SandboxError::setup("open a pidfd", error)),
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
    match crate::helper::try_overlay() {
        Ok(()) if kernel_version() >= (6, 7) => yes("overlay", "up to 500 layers"),
        Ok(()) => yes("overlay", "some 200 layers (500 since Linux 6.7)"),
        Err(error) => no("overlay", error),
    }
}

pub(crate) fn yes(name: &str, detail: &str) -> Capability {
    Capability { name: name.to_owned(), ok: true, detail: detail.to_owned(), advice: None }
}

pub(crate) fn no(name: &str, error: SandboxError) -> Capability {
    // What to try stands on a line of its own.
    let (error, advice) = match error {
        SandboxError::Setup { what, errno, advice } => {
            (SandboxError::Setup { what, errno, advice: None }, advice)
        }
        other => (other, None),
    };
    Capability { name: name.to_owned(), ok: false, detail: error.to_string(), advice }
}

fn parse_version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn versions_are_read() {
        assert_eq!(parse_version("6.18.44-fc-v669"), (6, 18));
        assert_eq!(parse_version("5.4"), (5, 4));
        assert_eq!(parse_version("6.1-rc3"), (6, 1));
        assert_eq!(parse_version("odd"), (0, 0));
    }
}
