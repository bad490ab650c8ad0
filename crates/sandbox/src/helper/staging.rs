//! A file system in memory that the container is assembled from: where the root is mounted, files
//! that are only in memory, device nodes, an empty directory. The container never sees it as a
//! whole.

use std::ffi::CString;
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};

use crate::sys;

/// What [`Staging::read_only_empty`] clones, and the lowest layer of a stack that needs one.
const EMPTY: &str = "empty";

/// See the module.
pub(super) struct Staging {
    directory: OwnedFd,
    entries: u32,
}

impl Staging {
    /// Mounts it over `/` of the calling process' mount namespace: lookups from `/` do not notice.
    pub(super) fn new() -> rustix::io::Result<Staging> {
        let directory =
            new_filesystem("tmpfs", &[("mode", "0755"), ("noswap", "")], MountAttrFlags::MOUNT_ATTR_NOSUID)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&directory, "", CWD, "/", flags)?;
        rustix::fs::mkdirat(&directory, EMPTY, Mode::from_raw_mode(0o755))?;
        Ok(Staging { directory, entries: 0 })
    }

    /// A new directory: its name, which works together with [`Staging::directory`].
    pub(super) fn new_directory(&mut self) -> rustix::io::Result<String> {
        let name = self.new_name();
        rustix::fs::mkdirat(&self.directory, &name, Mode::from_raw_mode(0o755))?;
        Ok(name)
    }

    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// A path by which this process reaches something here.
    pub(super) fn path(&self, name: &str) -> String {
        format!("/proc/self/fd/{}/{name}", self.directory.as_raw_fd())
    }

    /// A path of a directory that is empty.
    pub(super) fn empty_path(&self) -> String {
        self.path(EMPTY)
    }

    /// A mount of an empty directory that cannot be written to.
    pub(super) fn read_only_empty(&self) -> rustix::io::Result<OwnedFd> {
        let mount = clone_mount(&self.directory, EMPTY)?;
        set_attributes(&mount, MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV)?;
        Ok(mount)
    }

    /// A mount of a new file that cannot be written to.
    pub(super) fn file(
        &mut self,
        bytes: &[u8],
        mode: u32,
        uid: u32,
        gid: u32,
    ) -> rustix::io::Result<OwnedFd> {
        let name = self.new_name();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, &name, flags, Mode::from_raw_mode(0o600))?;
        let mut file = std::fs::File::from(file);
        file.write_all(bytes)
            .map_err(|error| rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO))?;
        rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o7777))?;
        // Closed before it is executed: a script may be one.
        drop(file);
        let mount = clone_mount(&self.directory, &name)?;
        set_attributes(&mount, MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV)?;
        Ok(mount)
    }

    /// A mount of a character device, made here, or taken from the host where that is not allowed.
    pub(super) fn device(&mut self, name: &str, major: u32, minor: u32) -> rustix::io::Result<OwnedFd> {
        let node = self.new_name();
        let mode = Mode::from_raw_mode(0o666);
        let device = rustix::fs::makedev(major, minor);
        match rustix::fs::mknodat(&self.directory, &node, FileType::CharacterDevice, mode, device) {
            Ok(()) => {
                // Whatever the umask that dbuild was started with.
                rustix::fs::chmodat(&self.directory, &node, mode, AtFlags::empty())?;
                clone_mount(&self.directory, &node)
            }
            Err(rustix::io::Errno::PERM) => clone_mount(CWD, &format!("/dev/{name}")),
            Err(error) => Err(error),
        }
    }

    fn new_name(&mut self) -> String {
        self.entries += 1;
        self.entries.to_string()
    }
}

/// A new file system, mounted nowhere. Options with an empty value are flags; those that the kernel
/// does not know are left out.
pub(super) fn new_filesystem(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        if value.is_empty() {
            // Flags only make things better where they exist.
            let _ = rustix::mount::fsconfig_set_flag(&context, *key);
        } else {
            rustix::mount::fsconfig_set_string(&context, *key, *value)?;
        }
    }
    rustix::mount::fsconfig_create(&context)?;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A mount of a path, mounted nowhere; a link at its end is not followed.
pub(super) fn clone_mount(at: impl AsFd, path: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW
        | OpenTreeFlags::AT_EMPTY_PATH;
    rustix::mount::open_tree(at, path, flags)
}

/// As [`clone_mount`], with all that is mounted below.
pub(super) fn clone_mounts_below(at: impl AsFd, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let path = CString::new(path).map_err(|_| rustix::io::Errno::INVAL)?;
    rustix::mount::open_tree(at, path.as_c_str(), flags)
}

/// Mounts what is mounted nowhere on a place.
pub(super) fn attach(mount: impl AsFd, place: impl AsFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", place, "", flags)
}

/// Mounts what is mounted nowhere on a name of a directory that only this process knows.
pub(super) fn attach_at(mount: impl AsFd, directory: impl AsFd, name: &str) -> rustix::io::Result<()> {
    rustix::mount::move_mount(mount, "", directory, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Adds attributes to one mount.
pub(super) fn set_attributes(mount: impl AsFd, attributes: MountAttrFlags) -> rustix::io::Result<()> {
    sys::set_mount_attributes(mount, false, attributes)
}

/// Adds attributes to a mount and all below it.
pub(super) fn set_attributes_below(mount: impl AsFd, attributes: MountAttrFlags) -> rustix::io::Result<()> {
    sys::set_mount_attributes(mount, true, attributes)
}

/// Whether a descriptor stands for a directory.
pub(super) fn is_directory(place: impl AsFd) -> rustix::io::Result<bool> {
    let stat = rustix::fs::statat(place, "", AtFlags::EMPTY_PATH)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}
