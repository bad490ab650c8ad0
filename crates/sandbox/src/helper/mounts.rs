//! The mounts that the spec asks for.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{CWD, FileType, OFlags};
use rustix::mount::MountAttrFlags;

use super::paths::open_in;
use super::points::MountPoints;
use super::rootfs::Overlay;
use super::staging::{
    Staging, attach, attach_at, clone_mounts_below, is_directory, new_filesystem, set_attributes_below,
};
use crate::SandboxError;
use crate::spec::{Mount, MountSource, OverlayDirs, Security, Spec};

/// Makes those of `/etc`, then them in order: what the spec asks for may hide what every container
/// has.
pub(super) fn mount(
    spec: &Spec,
    points: &mut MountPoints,
    staging: &mut Staging,
) -> Result<(), SandboxError> {
    let files = [("/etc/resolv.conf", &spec.resolv_conf), ("/etc/hosts", &spec.hosts)];
    for (target, contents) in files {
        let Some(contents) = contents else { continue };
        let file = staging.file(contents, 0o644, 0, 0).map_err(|error| failed(target, error))?;
        put(&file, target, points)?;
    }
    for mount in &spec.mounts {
        let source = source(mount, spec.security, staging)?;
        put(&source, &mount.target, points)?;
    }
    Ok(())
}

fn put(mount: &OwnedFd, target: &str, points: &mut MountPoints) -> Result<(), SandboxError> {
    let directory = is_directory(mount).map_err(|error| failed(target, error))?;
    let place = points
        .open(target.as_bytes(), directory)
        .map_err(|reason| SandboxError::Mount { target: target.to_owned(), reason })?;
    attach(mount, place).map_err(|error| failed(target, error))
}

fn source(mount: &Mount, security: Security, staging: &mut Staging) -> Result<OwnedFd, SandboxError> {
    let here = |error| failed(&mount.target, error);
    let mut attributes = match security {
        Security::Default => MountAttrFlags::MOUNT_ATTR_NODEV,
        Security::Insecure => MountAttrFlags::empty(),
    };
    let source = match &mount.source {
        MountSource::Bind { path, readonly } => {
            if *readonly {
                attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
            }
            bind(path).map_err(|reason| SandboxError::Mount {
                target: mount.target.clone(),
                reason: format!("{}: {reason}", path.display()),
            })?
        }
        MountSource::Tmpfs { size, mode } => {
            let mode = format!("{:o}", mode & 0o7777);
            let size = size.map(|size| size.to_string());
            let mut options = vec![("mode", mode.as_str())];
            options.extend(size.as_deref().map(|size| ("size", size)));
            return new_filesystem("tmpfs", &options, attributes | MountAttrFlags::MOUNT_ATTR_NOSUID)
                .map_err(here);
        }
        MountSource::File { contents, mode, uid, gid } => {
            return staging.file(&contents.0, *mode, *uid, *gid).map_err(here);
        }
        MountSource::OverlayBind { lower, subpath, writable } => {
            if writable.is_none() {
                attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
            }
            overlay_bind(mount, lower, subpath, writable.as_ref(), staging)?
        }
    };
    set_attributes_below(&source, attributes).map_err(here)?;
    Ok(source)
}

fn bind(path: &Path) -> Result<OwnedFd, String> {
    let words = |error: rustix::io::Errno| crate::error::message(error.raw_os_error());
    let mount = clone_mounts_below(CWD, path.as_os_str().as_bytes()).map_err(words)?;
    let stat = rustix::fs::fstat(&mount).map_err(words)?;
    // In the container it would lead somewhere else than on the host.
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        return Err("it is a symbolic link".to_owned());
    }
    Ok(mount)
}

fn overlay_bind(
    mount: &Mount,
    lower: &[std::path::PathBuf],
    subpath: &str,
    writable: Option<&OverlayDirs>,
    staging: &mut Staging,
) -> Result<OwnedFd, SandboxError> {
    let here = |error| failed(&mount.target, error);
    let tree = match writable {
        Some(dirs) if lower.is_empty() => {
            clone_mounts_below(CWD, dirs.upper.as_os_str().as_bytes()).map_err(here)?
        }
        _ => {
            let dirs = writable.map(|dirs| -> (&Path, &Path) { (&dirs.upper, &dirs.work) });
            Overlay { lower, dirs }.mount(staging)?
        }
    };
    // A part can be cloned only from a tree that is mounted.
    let name = staging.new_directory().map_err(here)?;
    attach_at(&tree, staging.directory(), &name).map_err(here)?;
    let part = open_in(&tree, subpath.as_bytes(), OFlags::empty()).map_err(|error| SandboxError::Mount {
        target: mount.target.clone(),
        reason: format!("{subpath} in its source: {}", crate::error::message(error.raw_os_error())),
    })?;
    clone_mounts_below(part, b"").map_err(here)
}

fn failed(target: &str, error: rustix::io::Errno) -> SandboxError {
    SandboxError::Mount { target: target.to_owned(), reason: crate::error::message(error.raw_os_error()) }
}
