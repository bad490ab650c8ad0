//! Being root without root: a user namespace around the whole program.
//!
//! An ordinary user's dbuild executes itself once more inside a user namespace in which that user
//! is root, and in a mount namespace that belongs to it. Everything after that is the same code as
//! for root. So does root of an ordinary container, which may not mount anything: it lacks
//! CAP_SYS_ADMIN, and has what it takes to map all of its ids.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::Pid;
use rustix::thread::{CapabilitySet, UnshareFlags};

use crate::{SandboxError, sys};

/// Who this process is, after [`enter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Root of the machine.
    Root,
    /// Root of a user namespace.
    Rootless {
        /// How many user ids exist there, starting with 0.
        ids: u32,
        /// Whether there are more than the user's own, from `/etc/subuid` and `/etc/subgid`.
        sub_ids: bool,
    },
}

/// Becomes root that may mount: for one who is, this does nothing; for others it executes the same
/// program with the same arguments again, in the same process, inside a new user namespace, and
/// does not return from there.
///
/// Must be called while the process has one thread, after [`crate::dispatch_helper`].
///
/// # Errors
/// When user namespaces are not allowed here; the error says which setting forbids them.
pub fn enter() -> Result<Identity, SandboxError> {
    if !rustix::process::geteuid().is_root() {
        return Err(enter_and_execute());
    }
    // Where that is refused, root stays what it is: only a RUN needs more.
    if !has(CapabilitySet::SYS_ADMIN) && has(TO_MAP_IDS) && may_make_namespaces() {
        return Err(enter_and_execute());
    }
    Ok(identity())
}

/// What maps all ids of a namespace into another one.
const TO_MAP_IDS: CapabilitySet =
    CapabilitySet::SETUID.union(CapabilitySet::SETGID).union(CapabilitySet::SETFCAP);

/// Whether a process may make a user namespace, and a mount namespace in it. One that ends tries.
fn may_make_namespaces() -> bool {
    match sys::fork() {
        Ok(sys::Forked::Child) => {
            let made = sys::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS);
            sys::exit_now(i32::from(made.is_err()));
        }
        Ok(sys::Forked::Parent(pid)) => sys::wait_with_usage(pid).is_ok_and(|(status, _)| status.success()),
        Err(_) => false,
    }
}

/// Whether this process has capabilities.
fn has(wanted: CapabilitySet) -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(wanted))
}

/// Who this process is now.
pub fn identity() -> Identity {
    if !in_user_namespace() {
        return Identity::Root;
    }
    let ids = id_count();
    Identity::Rootless { ids, sub_ids: ids > 1 }
}

/// Whether this is not the machine's own user namespace.
pub(crate) fn in_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().ne(["0", "0", "4294967295"])
}

/// How many user ids exist here.
pub(crate) fn id_count() -> u32 {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let counts = map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u32>().ok());
    counts.fold(0, u32::saturating_add)
}

/// Returns only with an error.
fn enter_and_execute() -> SandboxError {
    match enter_namespaces() {
        Ok(()) => {}
        Err(error) => return error,
    }
    let mut arguments = std::env::args_os();
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    SandboxError::setup("run itself again", command.args(arguments).exec())
}

fn enter_namespaces() -> Result<(), SandboxError> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    // Another process must write the maps from outside; it is made while this one still is outside.
    let maps = if has(TO_MAP_IDS) {
        Some(Maps::Same { uids: own_ids("/proc/self/uid_map"), gids: own_ids("/proc/self/gid_map") })
    } else {
        sub_ids(uid).map(Maps::SubIds)
    };
    let mapper = maps.map(Mapper::start).transpose()?;
    sys::unshare(UnshareFlags::NEWUSER).map_err(|error| forbidden("make a user namespace", error))?;
    let mapped = match mapper {
        Some(mapper) => mapper.finish(),
        None => false,
    };
    if !mapped {
        let write = |path: &str, text: String| {
            fs::write(path, text).map_err(|error| forbidden("map its user into a user namespace", error))
        };
        write("/proc/self/uid_map", format!("0 {uid} 1"))?;
        // Without this a process could leave a group that a file denies access to.
        write("/proc/self/setgroups", "deny".to_owned())?;
        write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    }
    let root = (rustix::process::Gid::ROOT, rustix::process::Uid::ROOT);
    rustix::thread::set_thread_res_gid(root.0, root.0, root.0)
        .and_then(|()| rustix::thread::set_thread_res_uid(root.1, root.1, root.1))
        .map_err(|error| SandboxError::setup("become root of its user namespace", error))?;
    // A system that hands out user namespaces without any rights in them shows it here.
    sys::unshare(UnshareFlags::NEWNS).map_err(|error| forbidden("make a mount namespace", error))
}

/// Which ids exist in the new namespace.
enum Maps {
    /// The user's as 0, and ranges of others behind it: newuidmap and newgidmap write them.
    SubIds(SubIds),
    /// Those that exist outside, each as itself: `(first, count)`.
    Same { uids: Vec<(u32, u32)>, gids: Vec<(u32, u32)> },
}

/// The ids that exist here, as ranges.
fn own_ids(map: &str) -> Vec<(u32, u32)> {
    let map = fs::read_to_string(map).unwrap_or_default();
    let range = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse);
        let (first, _, count) = (numbers.next()?.ok()?, numbers.next()?, numbers.next()?.ok()?);
        // Without the last id, the map cannot be taken for that of a machine's own namespace.
        Some((first, if count == u32::MAX { count - 1 } else { count }))
    };
    map.lines().filter_map(range).collect()
}

/// Ranges of ids that a user may use besides its own: `(first, count)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SubIds {
    pub(crate) uids: Vec<(u32, u32)>,
    pub(crate) gids: Vec<(u32, u32)>,
}

/// What `/etc/subuid` and `/etc/subgid` give to a user; `None` when one of them gives nothing.
pub(crate) fn sub_ids(uid: u32) -> Option<SubIds> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let name = user_name(uid, &read("/etc/passwd"));
    let ids = SubIds {
        uids: ranges(&read("/etc/subuid"), uid, name.as_deref()),
        gids: ranges(&read("/etc/subgid"), uid, name.as_deref()),
    };
    (!ids.uids.is_empty() && !ids.gids.is_empty()).then_some(ids)
}

fn user_name(uid: u32, passwd: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

fn ranges(text: &str, uid: u32, name: Option<&str>) -> Vec<(u32, u32)> {
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let is_ours = Some(owner) == name || owner.parse() == Ok(uid);
        (is_ours && count > 0).then_some((first, count))
    };
    text.lines().filter_map(range).collect()
}

/// Why newuidmap or newgidmap takes none of the ranges that a user has, where the ranges themselves
/// are the reason.
pub(crate) fn refused_ranges() -> Option<String> {
    let own = |map: &str| {
        let map = fs::read_to_string(map).unwrap_or_default();
        map.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    let (uid, gid) = (own("/proc/self/uid_map")?, own("/proc/self/gid_map")?);
    let ids = sub_ids(uid)?;
    colliding("/etc/subuid", uid, &ids.uids).or_else(|| colliding("/etc/subgid", gid, &ids.gids))
}

/// Two ranges of a file that have an id in common, or one that has the user's own.
fn colliding(file: &str, own: u32, ranges: &[(u32, u32)]) -> Option<String> {
    let last = |(first, count): (u32, u32)| first.saturating_add(count - 1);
    let shown = |range: (u32, u32)| format!("{}-{}", range.0, last(range));
    if let Some(range) = ranges.iter().find(|range| (range.0..=last(**range)).contains(&own)) {
        return Some(format!("the range {} in {file} has your own id {own}", shown(*range)));
    }
    let overlap = |a: (u32, u32), b: (u32, u32)| a.0 <= last(b) && b.0 <= last(a);
    ranges.iter().enumerate().find_map(|(at, a)| {
        let other = ranges[at + 1..].iter().find(|b| overlap(*a, **b))?;
        Some(format!("the ranges {} and {} in {file} overlap", shown(*a), shown(*other)))
    })
}

/// A process outside the new namespace that writes its maps, or has newuidmap and newgidmap do so.
struct Mapper {
    pid: Pid,
    go: io::PipeWriter,
}

impl Mapper {
    fn start(maps: Maps) -> Result<Mapper, SandboxError> {
        let target = std::process::id();
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let (mut ready, go) = io::pipe().map_err(|error| SandboxError::setup("make a pipe", error))?;
        match sys::fork().map_err(|error| SandboxError::setup("start a process", error))? {
            sys::Forked::Parent(pid) => Ok(Mapper { pid, go }),
            sys::Forked::Child => {
                drop(go);
                let mut byte = [0];
                let mapped = io::Read::read(&mut ready, &mut byte).is_ok_and(|count| count == 1);
                let write = || match &maps {
                    Maps::SubIds(ids) => {
                        run_mapper("newuidmap", target, uid, &ids.uids)
                            && run_mapper("newgidmap", target, gid, &ids.gids)
                    }
                    Maps::Same { uids, gids } => {
                        write_map(target, "uid_map", uids) && write_map(target, "gid_map", gids)
                    }
                };
                sys::exit_now(i32::from(!(mapped && write())));
            }
        }
    }

    /// True when both maps are written. Called from inside the new namespace.
    fn finish(mut self) -> bool {
        let sent = io::Write::write_all(&mut self.go, b"!").is_ok();
        let status = sys::wait_with_usage(self.pid);
        sent && status.is_ok_and(|(status, _)| status.success())
    }
}

fn run_mapper(program: &str, target: u32, own: u32, ranges: &[(u32, u32)]) -> bool {
    let mut command = Command::new(program);
    command.arg(target.to_string());
    command.args(["0".to_owned(), own.to_string(), "1".to_owned()]);
    let mut next = 1_u32;
    for (first, count) in ranges {
        command.args([next.to_string(), first.to_string(), count.to_string()]);
        next = next.saturating_add(*count);
    }
    // Without these programs, or when they refuse, one id must do; `doctor` says why.
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    command.stderr(std::process::Stdio::null()).status().is_ok_and(|status| status.success())
}

fn write_map(target: u32, map: &str, ranges: &[(u32, u32)]) -> bool {
    let lines: String = ranges.iter().map(|(first, count)| format!("{first} {first} {count}\n")).collect();
    fs::write(format!("/proc/{target}/{map}"), lines).is_ok()
}

/// The error for namespaces that cannot be made, with the setting that forbids them.
pub(crate) fn forbidden(what: &str, error: io::Error) -> SandboxError {
    let setting =
        |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let errno = error.raw_os_error();
    let failure = SandboxError::setup(what, error);
    if setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" && !is_root_of_machine() {
        return failure.advise(
            "AppArmor forbids it to ordinary users: as root, sysctl kernel.apparmor_restrict_unprivileged_userns=0, \
             or give dbuild a profile that allows userns",
        );
    }
    if setting("/proc/sys/kernel/unprivileged_userns_clone") == "0" {
        return failure.advise("as root, sysctl kernel.unprivileged_userns_clone=1");
    }
    if setting("/proc/sys/user/max_user_namespaces") == "0" {
        return failure.advise("as root, sysctl user.max_user_namespaces=15000");
    }
    if errno == Some(libc::EPERM) && rustix::process::geteuid().is_root() && !has(TO_MAP_IDS) {
        return failure.advise(
            "root of this container lacks CAP_SETUID, CAP_SETGID or CAP_SETFCAP: run the container with them, \
             or dbuild as another user",
        );
    }
    if errno == Some(libc::EPERM) {
        return failure.advise(
            "this machine or the container around dbuild does not allow namespaces; run it as root of the \
             machine, or the container with --security-opt seccomp=unconfined",
        );
    }
    failure
}

fn is_root_of_machine() -> bool {
    rustix::process::geteuid().is_root() && !in_user_namespace()
}

#[cfg(test)]
mod tests {
    use super::{colliding, ranges, user_name};

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "root:100000:65536\nme:165536:65536\n# me:1:2\n1000:300000:10\nme:x:1\nme:5:0\n";
        assert_eq!(ranges(text, 1000, Some("me")), [(165_536, 65_536), (300_000, 10)]);
        assert_eq!(ranges(text, 1001, None), []);
        assert_eq!(ranges("", 0, Some("root")), []);
    }

    #[test]
    fn ranges_that_collide_are_reported() {
        assert_eq!(colliding("f", 1000, &[(100_000, 65_536), (200_000, 10)]), None);
        let own = colliding("f", 1000, &[(500, 501)]);
        assert_eq!(own.as_deref(), Some("the range 500-1000 in f has your own id 1000"));
        assert_eq!(colliding("f", 1000, &[(500, 500)]), None);
        let both = colliding("f", 1000, &[(5000, 10), (100_000, 65_536), (165_535, 10)]);
        assert_eq!(both.as_deref(), Some("the ranges 100000-165535 and 165535-165544 in f overlap"));
    }

    #[test]
    fn names_come_from_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\nbroken\n";
        assert_eq!(user_name(1000, passwd).as_deref(), Some("me"));
        assert_eq!(user_name(1, passwd), None);
    }
}
