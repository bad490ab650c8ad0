//! Mount points that the image does not have: made before the mount, removed after the process.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags, Timespec, Timestamps, UTIME_OMIT,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::paths::{open_in, parts, shown};
use crate::wire;

/// As many links as the kernel follows in one path.
const MOST_LINKS: u32 = 40;

/// Something that was made in the root file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MadePoint {
    /// Relative to the root, without links.
    #[serde(with = "wire::bytes")]
    path: Vec<u8>,
    directory: bool,
}

/// Makes mount points below a root, and remembers which were missing.
pub(super) struct MountPoints {
    root: OwnedFd,
    root_mount: u64,
    made: Vec<MadePoint>,
}

impl MountPoints {
    /// `root` is the root file system, already mounted.
    pub(super) fn new(root: OwnedFd) -> rustix::io::Result<MountPoints> {
        let root_mount = mount_id(&root)?;
        Ok(MountPoints { root, root_mount, made: Vec::new() })
    }

    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Everything that was made and is to be removed, in the order in which it was made.
    pub(super) fn into_made(self) -> Vec<MadePoint> {
        self.made
    }

    /// The place of a standard mount, a directory. If it is made, it stays, as BuildKit leaves it.
    pub(super) fn standard(&mut self, path: &str) -> Result<OwnedFd, String> {
        let before = self.made.len();
        let place = self.open(path.as_bytes(), true);
        self.made.truncate(before);
        place
    }

    /// The place of a mount, made if it is missing: a directory or an empty file.
    pub(super) fn open(&mut self, path: &[u8], directory: bool) -> Result<OwnedFd, String> {
        match open_in(&self.root, path, OFlags::empty()) {
            Ok(place) => fits(place, directory),
            Err(Errno::NOENT) => self.open_or_make(path, directory),
            Err(error) => Err(error_text(error)),
        }
    }

    /// Follows the path name by name, so that what a dangling link points to is made where the link
    /// leads.
    fn open_or_make(&mut self, path: &[u8], directory: bool) -> Result<OwnedFd, String> {
        let mut to_go: VecDeque<Vec<u8>> = parts(path).map(<[u8]>::to_vec).collect();
        let mut here: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(name) = to_go.pop_front() {
            if name == b".." {
                here.pop();
                continue;
            }
            let parent = open_in(&self.root, &here.join(&b'/'), OFlags::DIRECTORY).map_err(error_text)?;
            here.push(name);
            let name = here.last().map(Vec::as_slice).unwrap_or_default();
            match rustix::fs::readlinkat(&parent, name, Vec::new()) {
                Ok(target) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err("too many symbolic links".to_owned());
                    }
                    here.pop();
                    let target = target.into_bytes();
                    if target.starts_with(b"/") {
                        here.clear();
                    }
                    for part in parts(&target).rev() {
                        to_go.push_front(part.to_vec());
                    }
                }
                Err(Errno::INVAL) => {}
                Err(Errno::NOENT) => self.make(&parent, &here, directory || !to_go.is_empty())?,
                Err(error) => return Err(error_text(error)),
            }
        }
        let place = open_in(&self.root, &here.join(&b'/'), OFlags::NOFOLLOW).map_err(error_text)?;
        fits(place, directory)
    }

    fn make(&mut self, parent: &OwnedFd, path: &[Vec<u8>], directory: bool) -> Result<(), String> {
        let name = path.last().map(Vec::as_slice).unwrap_or_default();
        let path = path.join(&b'/');
        let failed = |error| format!("{} cannot be made: {}", shown(&path), error_text(error));
        let times = modified(parent).map_err(failed)?;
        if directory {
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)).map_err(failed)?;
        } else {
            let mode = Mode::from_raw_mode(0o644);
            rustix::fs::mknodat(parent, name, FileType::RegularFile, mode, 0).map_err(failed)?;
        }
        // The parent looks as before: whether the process changes it can then be seen afterwards.
        set_modified(parent, times).map_err(failed)?;
        // What is made in another mount (a cache directory, say) is gone with it, or belongs to it.
        if mount_id(parent).map_err(failed)? == self.root_mount {
            self.made.push(MadePoint { path, directory });
        }
        Ok(())
    }
}

/// Removes what was made, last first, where it is still what it was: empty. Directories in which
/// something is left stay. Works on the upper directory of the overlay, after the overlay is gone.
pub(super) fn remove_made(root: &OwnedFd, made: &[MadePoint]) {
    for point in made.iter().rev() {
        // What cannot be removed is left to the layer: it is an empty file, and no reason to fail a
        // step.
        let _ = remove(root, point);
    }
}

fn remove(root: &OwnedFd, point: &MadePoint) -> rustix::io::Result<()> {
    let (parent, name) = match point.path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&point.path[..slash], &point.path[slash + 1..]),
        None => (&b"."[..], &point.path[..]),
    };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::openat2(root, parent, flags, Mode::empty(), resolve)?;
    let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let is_ours = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => point.directory,
        FileType::RegularFile => !point.directory && stat.st_size == 0,
        _ => false,
    };
    if is_ours {
        let times = modified(&parent)?;
        let flags = if point.directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        rustix::fs::unlinkat(&parent, name, flags)?;
        set_modified(&parent, times)?;
    }
    Ok(())
}

fn fits(place: OwnedFd, directory: bool) -> Result<OwnedFd, String> {
    let stat = rustix::fs::fstat(&place).map_err(error_text)?;
    match (FileType::from_raw_mode(stat.st_mode), directory) {
        (FileType::Directory, true) => {}
        (FileType::Directory, false) => return Err("it is a directory, and a file goes there".to_owned()),
        (_, true) => return Err("it is a file, and a directory goes there".to_owned()),
        (_, false) => {}
    }
    let inside_proc = rustix::fs::fstatfs(&place).is_ok_and(|fs| fs.f_type == libc::PROC_SUPER_MAGIC);
    if inside_proc { Err("nothing can be mounted inside /proc".to_owned()) } else { Ok(place) }
}

fn mount_id(place: impl AsFd) -> rustix::io::Result<u64> {
    let stat = rustix::fs::statx(place, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    Ok(stat.stx_mnt_id)
}

fn modified(directory: &OwnedFd) -> rustix::io::Result<Timespec> {
    let stat = rustix::fs::fstat(directory)?;
    Ok(Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ })
}

fn set_modified(directory: &OwnedFd, time: Timespec) -> rustix::io::Result<()> {
    let keep = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let times = Timestamps { last_access: keep, last_modification: time };
    // A descriptor that is only a place has no times of its own to set, but "." in it has.
    rustix::fs::utimensat(directory, ".", &times, AtFlags::empty())
}

fn error_text(error: Errno) -> String {
    match error {
        Errno::ROFS => "the file system there is read-only".to_owned(),
        Errno::NOTDIR => "a file is on the way to it".to_owned(),
        Errno::LOOP => "its links form a cycle, or go through /proc".to_owned(),
        other => crate::error::message(other.raw_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::{MetadataExt as _, symlink};
    use std::path::Path;

    use super::{MountPoints, remove_made};

    fn points(dir: &Path) -> MountPoints {
        MountPoints::new(OwnedFd::from(std::fs::File::open(dir).unwrap())).unwrap()
    }

    #[test]
    fn what_was_made_is_removed_and_the_times_of_its_parents_stay() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        std::fs::File::open(dir.path().join("etc")).unwrap().set_modified(old).unwrap();

        let mut points = points(dir.path());
        points.open(b"/etc/resolv.conf", false).unwrap();
        points.open(b"/var/cache/app", true).unwrap();
        points.open(b"/etc/kept/stub", false).unwrap();
        std::fs::write(dir.path().join("etc/kept/own"), "x").unwrap();
        let root = OwnedFd::from(std::fs::File::open(dir.path()).unwrap());
        remove_made(&root, &points.into_made());

        let left: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["etc"]);
        assert!(!dir.path().join("etc/resolv.conf").exists());
        assert!(!dir.path().join("etc/kept/stub").exists() && dir.path().join("etc/kept/own").exists());
        assert_eq!(dir.path().join("etc").metadata().unwrap().mtime(), 1_000_000_000);
    }

    #[test]
    fn links_stay_inside_and_dangling_ones_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        symlink("../../../run/systemd/resolv.conf", dir.path().join("etc/resolv.conf")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        let mut points = points(dir.path());
        points.open(b"/etc/resolv.conf", false).unwrap();
        assert!(dir.path().join("run/systemd/resolv.conf").is_file());
        assert!(points.open(b"/loop/x", true).is_err());
        assert!(points.open(b"/etc", false).unwrap_err().contains("is a directory"));
        let root = OwnedFd::from(std::fs::File::open(dir.path()).unwrap());
        remove_made(&root, &points.into_made());
        assert!(!dir.path().join("run").exists());
    }

    #[test]
    fn a_stub_that_was_written_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut points = points(dir.path());
        points.open(b"/a", false).unwrap();
        std::fs::write(dir.path().join("a"), "written").unwrap();
        let root = OwnedFd::from(std::fs::File::open(dir.path()).unwrap());
        remove_made(&root, &points.into_made());
        assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"written");
    }
}
