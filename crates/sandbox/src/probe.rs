//! What this machine offers to the sandbox, tried rather than guessed.

use rustix::thread::CapabilitySet;

use crate::capability::Capability;
use crate::protocol::{Reply, Request};
use crate::rootless::{self, Identity};
use crate::spawn::Helper;
use crate::sys::kernel_version;

/// Tries what the sandbox needs, and what makes it better. Changes nothing on the machine.
pub fn probe() -> Vec<Capability> {
    let mut found = vec![kernel(), identity(), sub_ids()];
    match Helper::start().and_then(|mut helper| helper.ask(&Request::Probe)) {
        Ok(Reply::Probed(more)) => found.extend(more),
        Ok(Reply::Failed(error)) => found.push(Capability::missing("helper", error)),
        Ok(_) => {}
        Err(error) => found.push(Capability::missing("helper", error)),
    }
    found
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

/// Capabilities that a build needs, whatever its user: in a container the user 0 often lacks some.
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
        return Capability::present("identity", &who);
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
        Identity::Root => Capability::present("sub-ids", "not needed: root has every id"),
        Identity::Rootless { ids, sub_ids: true } => Capability::present("sub-ids", &format!("{ids} ids")),
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
