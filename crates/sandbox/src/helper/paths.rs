//! Paths of the container, resolved inside its root by the kernel.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Opens a path as a place (`O_PATH`), links followed but never out of `root`, and never through
/// the magic links of /proc.
pub(super) fn open_in(root: impl AsFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    open_file_in(root, path, flags | OFlags::PATH)
}

/// Opens a file, with its path resolved as [`open_in`] does.
pub(super) fn open_file_in(root: impl AsFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let path = if path.is_empty() { b"." } else { path };
    loop {
        match rustix::fs::openat2(root.as_fd(), path, flags, Mode::empty(), resolve) {
            // A rename or mount somewhere else on the machine can disturb a lookup of "..".
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
}

/// The names between the slashes, without empty ones and ".".
pub(super) fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

/// A path for people.
pub(super) fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}
