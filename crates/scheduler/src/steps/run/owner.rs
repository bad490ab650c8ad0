//! The owner and mode of what dbuild itself puts into a command's file system.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Gives a file or directory an owner and a mode.
pub(crate) fn set_owner(path: &Path, mode: u32, uid: u32, gid: u32) -> std::io::Result<()> {
    match std::os::unix::fs::chown(path, Some(uid), Some(gid)) {
        // Without sub-ids there is nobody else to own it.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {}
        other => other?,
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}
