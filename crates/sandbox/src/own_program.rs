//! This program's own file, as helpers are executed from it.
//!
//! A process in a container can get hold of the file that its predecessor was executed from
//! (`/proc/self/exe` as a program or behind `#!`), and as root write to it: that would be dbuild
//! itself (the kind of CVE-2019-5736). So a helper is executed from a read-only mount of the file
//! that no process can name any more once the helper runs, and where such a mount cannot be made,
//! from a sealed copy in memory.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, MemfdFlags, SealFlags};
use rustix::mount::{MountAttrFlags, OpenTreeFlags};

use crate::sys;

const SELF: &str = "/proc/self/exe";

/// The program's own file, found once per process.
#[derive(Debug, Default)]
pub(crate) struct OwnProgram {
    /// Made where no mount can be.
    copy: Option<OwnedFd>,
}

/// The file for the start of one helper. When it is dropped, its mount is in no namespace any more:
/// nobody can make it writable again, not even with all capabilities.
#[derive(Debug)]
pub(crate) enum Executable<'a> {
    Mount(OwnedFd),
    Copy(&'a OwnedFd),
}

impl OwnProgram {
    /// The file to execute, which nobody can write to.
    pub(crate) fn executable(&mut self) -> io::Result<Executable<'_>> {
        if self.copy.is_none() {
            match read_only_mount() {
                Some(mount) => return Ok(Executable::Mount(mount)),
                None => self.copy = Some(sealed_copy()?),
            }
        }
        self.copy.as_ref().map(Executable::Copy).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Executable<'_> {
    /// A path of this process that executes it.
    pub(crate) fn path(&self) -> String {
        let fd = match self {
            Self::Mount(mount) => mount.as_raw_fd(),
            Self::Copy(copy) => copy.as_raw_fd(),
        };
        format!("/proc/self/fd/{fd}")
    }
}

/// A read-only mount of the file alone. After [`crate::rootless::enter`] the file that the process
/// was executed from belongs to a mount of the namespace outside, which cannot be cloned: the same
/// file is then found by its path.
fn read_only_mount() -> Option<OwnedFd> {
    let by_path = || {
        let path: PathBuf = std::fs::read_link(SELF).ok()?;
        let mount = clone_mount(&path)?;
        let (own, found) = (rustix::fs::stat(SELF).ok()?, rustix::fs::fstat(&mount).ok()?);
        ((own.st_dev, own.st_ino) == (found.st_dev, found.st_ino)).then_some(mount)
    };
    let mount = clone_mount(Path::new(SELF)).or_else(by_path)?;
    sys::set_mount_attributes(&mount, false, MountAttrFlags::MOUNT_ATTR_RDONLY).ok()?;
    Some(mount)
}

fn clone_mount(path: &Path) -> Option<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(CWD, path, flags).ok()
}

/// A copy in memory that nobody can change, its maker included.
fn sealed_copy() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know the flag, and need none.
    let copy = rustix::fs::memfd_create("dbuild", flags | MemfdFlags::EXEC)
        .or_else(|_| rustix::fs::memfd_create("dbuild", flags))?;
    let mut copy = File::from(copy);
    io::copy(&mut File::open(SELF)?, &mut copy)?;
    let copy = OwnedFd::from(copy);
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;
    use std::process::Command;

    use super::{Executable, OwnProgram, read_only_mount, sealed_copy};

    #[test]
    fn the_mount_is_read_only() {
        let Some(file) = read_only_mount() else {
            return assert!(!rustix::process::geteuid().is_root());
        };
        let mount = rustix::fs::fstatvfs(file).unwrap();
        assert!(mount.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
    }

    #[test]
    fn the_copy_can_be_executed_and_not_written_to() {
        let program = OwnProgram { copy: Some(sealed_copy().unwrap()) };
        let mut program = program;
        let executable = program.executable().unwrap();
        assert!(matches!(executable, Executable::Copy(_)));
        let output = Command::new(executable.path()).arg("--list").output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("the_mount_is_read_only"));
        let Executable::Copy(copy) = executable else { return };
        assert!(rustix::fs::ftruncate(copy, 0).is_err());
        assert!(File::from(copy.try_clone().unwrap()).write(b"x").is_err());
        assert!(rustix::fs::fcntl_add_seals(copy, rustix::fs::SealFlags::FUTURE_WRITE).is_err());
    }
}
