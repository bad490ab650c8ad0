//! Paths that mean a descriptor of this process.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, RawPid, getpid, pidfd_getfd, pidfd_open};

/// The number of the own descriptor that a path names: `/dev/fd/3`, `/proc/self/fd/3`. Links at its
/// end are not followed.
pub(super) fn own_descriptor(path: &Path) -> Option<RawPid> {
    let number = path.file_name()?.to_str()?.parse().ok()?;
    let dir = fs::canonicalize(path.parent()?).ok()?;
    let own = ["/proc/self/fd", "/proc/thread-self/fd"];
    own.iter().any(|own| fs::canonicalize(own).is_ok_and(|own| own == dir)).then_some(number)
}

/// Whether a path is a link whose text does not say where it leads: what the kernel shows of a
/// process.
pub(super) fn is_magic_link(path: &Path) -> bool {
    let dir = path.parent().and_then(|dir| fs::canonicalize(dir).ok());
    dir.is_some_and(|dir| dir.starts_with("/proc") && matches!(dir.file_name(), Some(name) if name == "fd"))
}

/// The same open file once more, with its position. Opening the path instead would begin at the
/// start of a file, and fails for a socket; of a pipe it would not show whether its writer has
/// gone.
pub(super) fn duplicate(number: RawPid) -> io::Result<File> {
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    Ok(pidfd_getfd(own, number, PidfdGetfdFlags::empty())?.into())
}
