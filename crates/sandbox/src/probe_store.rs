//! What the file system of a store offers: tried in it, since an overlay in memory says nothing
//! about the disk.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, XattrFlags};

use crate::SandboxError;
use crate::capability::Capability;
use crate::protocol::{Reply, Request};
use crate::rootless::in_user_namespace;
use crate::spawn::Helper;

/// What `statfs` says of overlayfs.
const OVERLAY: u32 = 0x794c_7630;

/// Why no writable overlay can be mounted on directories of a file system, where its kind alone
/// tells.
pub fn unfit_for_overlay(dir: &Path) -> Option<String> {
    let stat = rustix::fs::statfs(dir).ok()?;
    // The kernel sets the high half on some architectures.
    (stat.f_type as u32 == OVERLAY).then(|| {
        format!("{} lies on overlayfs (a container's own file system), which cannot hold the writable layer of another overlay", dir.display())
    })
}

/// Tries what a store needs of its file system, in a directory that exists and may be written to.
/// Leaves nothing there.
pub fn probe_store(dir: &Path) -> Vec<Capability> {
    let place = dir.join(format!(".doctor-{}", std::process::id()));
    let found = match fs::create_dir(&place) {
        Ok(()) => probe_in(&place),
        Err(error) => vec![Capability::missing(
            "store",
            SandboxError::setup(format!("write to {}", dir.display()), error),
        )],
    };
    let _ = fs::remove_dir_all(&place);
    found
}

fn probe_in(place: &Path) -> Vec<Capability> {
    let mut found = Vec::new();
    let mut tried = |name: &str, works: &str, advice: &str, result: io::Result<()>| {
        found.push(match result {
            Ok(()) => Capability::present(name, works),
            Err(error) => Capability::missing(name, SandboxError::setup(works, error).advise(advice)),
        });
    };
    let another = "name a store on another file system with --store";
    tried("store links", "keep hard links and symbolic links", another, links(place));
    let prefix = if in_user_namespace() { "user" } else { "trusted" };
    let words = format!("keep {prefix}.overlay attributes, which mark what a layer deletes");
    tried("store attributes", &words, another, attributes(place, prefix));
    let words = "keep security.capability, the capabilities of programs";
    tried(
        "store capabilities",
        words,
        "files lose their capabilities (setcap) in this store",
        capability(place),
    );
    let words = "make files without a name";
    let advice = "archives are written after a build instead of during it";
    tried("store O_TMPFILE", words, advice, nameless(place));
    tried(
        "store locks",
        "lock files",
        another,
        File::create(place.join("lock")).and_then(|file| Ok(file.try_lock()?)),
    );
    found.push(overlay(place));
    found
}

fn links(place: &Path) -> io::Result<()> {
    fs::write(place.join("file"), "content")?;
    fs::hard_link(place.join("file"), place.join("hard"))?;
    symlink("file", place.join("soft"))
}

fn attributes(place: &Path, prefix: &str) -> io::Result<()> {
    let dir = place.join("opaque");
    fs::create_dir(&dir)?;
    Ok(rustix::fs::setxattr(&dir, format!("{prefix}.overlay.opaque"), b"y", XattrFlags::empty())?)
}

/// `cap_net_raw+p`, as setcap writes it.
fn capability(place: &Path) -> io::Result<()> {
    let mut value = [0; 20];
    value[..8].copy_from_slice(&[0, 0, 0, 2, 0, 0x20, 0, 0]);
    Ok(rustix::fs::setxattr(place.join("file"), "security.capability", &value, XattrFlags::empty())?)
}

fn nameless(place: &Path) -> io::Result<()> {
    let mode = Mode::from_raw_mode(0o600);
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, place, flags, mode).map(drop)?)
}

fn overlay(place: &Path) -> Capability {
    let name = "store overlay";
    let asked =
        Helper::start().and_then(|mut helper| helper.ask(&Request::ProbeStore { dir: PathBuf::from(place) }));
    match asked {
        Ok(Reply::Probed(found)) => found.into_iter().next().unwrap_or_else(|| Capability::present(name, "")),
        Ok(Reply::Failed(error)) | Err(error) => Capability::missing(name, error),
        Ok(_) => Capability::missing(name, SandboxError::HelperDied("answered something else".to_owned())),
    }
}
