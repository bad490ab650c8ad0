//! The root file system, and other stacks of directories.

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, UnmountFlags};

use super::staging::{Staging, attach_at, clone_mount, clone_mounts_below, set_attributes};
use crate::spec::{Rootfs, Security, Spec};
use crate::{SandboxError, rootless, sys};

/// The kernel reads a value of fsconfig up to this length, its end included.
const LONGEST_VALUE: usize = 256;
/// And the options of the classic mount up to a page.
const LONGEST_OPTIONS: usize = 4095;

/// Mounts the root file system on a directory of the staging.
pub(super) fn mount(spec: &Spec, staging: &mut Staging) -> Result<OwnedFd, SandboxError> {
    let failed = |error| SandboxError::setup("mount the root file system", error);
    let root = match &spec.rootfs {
        Rootfs::Overlay { lower, upper, .. } if lower.is_empty() => bind(upper)?,
        Rootfs::Overlay { lower, upper, work } => {
            Overlay { lower, dirs: Some((upper, work)) }.mount(staging)?
        }
        Rootfs::ReadonlyOverlay { lower } => {
            // Mount points must be made somewhere before the root becomes read-only.
            let names = (staging.new_directory().map_err(failed)?, staging.new_directory().map_err(failed)?);
            let (upper, work) = (staging.path(&names.0), staging.path(&names.1));
            let dirs = Some((Path::new(&upper), Path::new(&work)));
            Overlay { lower, dirs }.mount(staging)?
        }
        Rootfs::Dir(dir) => bind(dir)?,
    };
    if spec.security == Security::Default {
        // A device node that a layer or the process brings cannot be opened.
        set_attributes(&root, MountAttrFlags::MOUNT_ATTR_NODEV).map_err(failed)?;
    }
    let name = staging.new_directory().map_err(failed)?;
    attach_at(&root, staging.directory(), &name).map_err(failed)?;
    Ok(root)
}

/// Directories to be stacked.
pub(super) struct Overlay<'a> {
    /// Lowest first.
    pub(super) lower: &'a [std::path::PathBuf],
    /// Upper and work directory; without them it is read-only.
    pub(super) dirs: Option<(&'a Path, &'a Path)>,
}

impl Overlay<'_> {
    /// Mounts it nowhere.
    pub(super) fn mount(&self, staging: &mut Staging) -> Result<OwnedFd, SandboxError> {
        for dir in self
            .lower
            .iter()
            .map(std::path::PathBuf::as_path)
            .chain(self.dirs.iter().flat_map(|d| [d.0, d.1]))
        {
            rustix::fs::access(dir, rustix::fs::Access::EXISTS)
                .map_err(|error| SandboxError::setup(format!("use {}", dir.display()), error))?;
        }
        if let Some((_, work)) = self.dirs
            && std::fs::read_dir(work).is_ok_and(|mut entries| entries.next().is_some())
        {
            let text =
                format!("{} is not empty, and each overlay needs a fresh work directory", work.display());
            return Err(SandboxError::Spec(text));
        }
        if self.lower.is_empty() && self.dirs.is_none() {
            return staging.read_only_empty().map_err(|error| SandboxError::setup("mount nothing", error));
        }
        // Before 6.7 layers could not be named one by one.
        let result = if sys::kernel_version() >= (6, 7) {
            self.mount_by_context(staging)
        } else {
            self.mount_classic(staging).map_err(|error| (error, String::new()))
        };
        result.map_err(|(error, words)| {
            let what = format!("mount an overlay of {} directories", self.lower.len());
            let failure = SandboxError::setup(what, error);
            let unfit = self.dirs.and_then(|(upper, _)| crate::unfit_for_overlay(upper));
            match error {
                _ if unfit.is_some() => failure
                    .advise(format!("{}: name another directory with --store", unfit.unwrap_or_default())),
                _ if !words.is_empty() => failure.advise(words),
                Errno::NODEV => failure.advise("this kernel has no overlayfs: try modprobe overlay"),
                Errno::INVAL => failure.advise(
                    "the store may lie on a file system that overlayfs cannot use, such as another overlay \
                     or NFS: choose another with --store",
                ),
                Errno::PERM => failure.advise("overlayfs without root needs Linux 5.11"),
                Errno::NAMETOOLONG => failure.advise("so many need Linux 6.7"),
                _ => failure,
            }
        })
    }

    /// What the stack needs below its own directories: overlayfs wants two of them, or one and an
    /// upper.
    fn padding(&self, staging: &Staging) -> Option<String> {
        (self.lower.is_empty() || (self.lower.len() == 1 && self.dirs.is_none()))
            .then(|| staging.empty_path())
    }

    /// With an error come the kernel's own words, where it has some.
    fn mount_by_context(&self, staging: &Staging) -> Result<OwnedFd, (Errno, String)> {
        let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(|error| (error, String::new()))?;
        self.configure(&context, staging).map_err(|error| (error, kernel_words(&context)))?;
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
            .map_err(|error| (error, String::new()))
    }

    fn configure(&self, context: &OwnedFd, staging: &Staging) -> rustix::io::Result<()> {
        let set = |key: &str, path: &Path| -> rustix::io::Result<()> {
            if path.as_os_str().len() < LONGEST_VALUE {
                return rustix::mount::fsconfig_set_string(context, key, path);
            }
            let place = open_place(path)?;
            rustix::mount::fsconfig_set_string(context, key, short_name(&place))
        };
        rustix::mount::fsconfig_set_string(context, "source", "dbuild")?;
        for dir in self.lower.iter().rev() {
            set("lowerdir+", dir)?;
        }
        if let Some(padding) = self.padding(staging) {
            set("lowerdir+", Path::new(&padding))?;
        }
        if let Some((upper, work)) = self.dirs {
            set("upperdir", upper)?;
            set("workdir", work)?;
        }
        for (key, value) in options() {
            rustix::mount::fsconfig_set_string(context, key, value)?;
        }
        for flag in flags(self.dirs.is_some()) {
            rustix::mount::fsconfig_set_flag(context, flag)?;
        }
        rustix::mount::fsconfig_create(context)
    }

    /// One string of options, with short names of open directories: no escapes, and room for some
    /// 200 layers.
    fn mount_classic(&self, staging: &mut Staging) -> rustix::io::Result<OwnedFd> {
        let mut open = Vec::new();
        let mut name = |path: &Path| -> rustix::io::Result<String> {
            let place = open_place(path)?;
            let name = short_name(&place);
            open.push(place);
            Ok(name)
        };
        let mut lower = Vec::new();
        for dir in self.lower.iter().rev() {
            lower.push(name(dir)?);
        }
        lower.extend(self.padding(staging));
        let mut words = vec![format!("lowerdir={}", lower.join(":"))];
        if let Some((upper, work)) = self.dirs {
            words.push(format!("upperdir={}", name(upper)?));
            words.push(format!("workdir={}", name(work)?));
        }
        words.extend(options().map(|(key, value)| format!("{key}={value}")));
        words.extend(flags(self.dirs.is_some()).map(str::to_owned));
        let words = words.join(",");
        if words.len() > LONGEST_OPTIONS {
            return Err(Errno::NAMETOOLONG);
        }
        let words = CString::new(words).map_err(|_| Errno::INVAL)?;
        let place = staging.new_directory()?;
        let path = staging.path(&place);
        rustix::mount::mount("dbuild", &path, "overlay", MountFlags::empty(), words.as_c_str())?;
        let mount = clone_mount(staging.directory(), &place)?;
        rustix::mount::unmount(&path, UnmountFlags::DETACH)?;
        Ok(mount)
    }
}

/// Renames, hard links and metadata as in a layer: no redirects, no half-copied files, whatever the
/// kernel's defaults are.
fn options() -> impl Iterator<Item = (&'static str, &'static str)> {
    let trusted = [("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off")];
    // With `userxattr` these are fixed to the same.
    trusted.into_iter().filter(|_| !rootless::in_user_namespace())
}

/// `volatile`: fsync inside the container does nothing, as nothing of a step counts before it is
/// published.
fn flags(writable: bool) -> impl Iterator<Item = &'static str> {
    let user = rootless::in_user_namespace().then_some("userxattr");
    user.into_iter().chain(writable.then_some("volatile"))
}

fn bind(dir: &Path) -> Result<OwnedFd, SandboxError> {
    clone_mounts_below(CWD, dir.as_os_str().as_bytes())
        .map_err(|error| SandboxError::setup(format!("mount {}", dir.display()), error))
}

/// What the kernel wrote about a failure, one line.
fn kernel_words(context: &OwnedFd) -> String {
    let mut lines = Vec::new();
    let mut buffer = [0; 512];
    // One message per read; lines of errors begin with "e".
    while let Ok(length @ 1..) = rustix::io::read(context, &mut buffer) {
        lines.push(String::from_utf8_lossy(&buffer[..length]).trim_start_matches("e ").trim().to_owned());
    }
    lines.join("; ")
}

fn open_place(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn short_name(place: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", place.as_raw_fd())
}
