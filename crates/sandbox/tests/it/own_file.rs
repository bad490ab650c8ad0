//! The file that dbuild itself is executed from cannot be written to from inside (as in
//! CVE-2019-5736).
#![allow(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use dbuild_sandbox::{Mount, MountSource, Security};
use rustix::fs::{Mode, OFlags, StatVfsMountFlags};

use crate::support::{ROLE, Scene, say};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    ("as_the_program", Needs::Nothing, as_the_program),
    ("as_an_interpreter", Needs::Nothing, as_an_interpreter),
    ("with_all_capabilities", Needs::Nothing, with_all_capabilities),
];

const SELF: &str = "/proc/self/exe";

/// A scene in which this program can run once it is executed from `/proc/self/exe`.
fn scene(argv: &[&str]) -> Scene {
    Scene::program(argv).with(|spec| {
        spec.env.push((ROLE.into(), "own file".into()));
        for target in ["/usr", "/lib", "/lib64"] {
            if let Ok(path) = fs::canonicalize(target) {
                spec.mounts.push(Mount {
                    target: target.into(),
                    source: MountSource::Bind { path, readonly: true },
                });
            }
        }
    })
}

/// What tells whether the file was touched: its bytes, and when it was changed.
fn host_file() -> (Vec<u8>, i64, i64) {
    let meta = fs::metadata(SELF).unwrap();
    (fs::read(SELF).unwrap(), meta.ctime(), meta.ctime_nsec())
}

/// Runs the attack, and demands that nothing came of it.
fn attacked(scene: &Scene) {
    let before = host_file();
    assert_eq!(scene.output(), "opened: false\nwritten: false\nprotected: true\nunprotected: false");
    assert!(before == host_file(), "the file of the host was changed");
}

fn as_the_program() {
    attacked(&scene(&[SELF]));
    // The second helper is the first that was started ahead.
    attacked(&scene(&[SELF]));
}

fn as_an_interpreter() {
    let scene = scene(&["/script"]);
    fs::write(scene.upper("script"), format!("#!{SELF}\n")).unwrap();
    fs::set_permissions(scene.upper("script"), fs::Permissions::from_mode(0o755)).unwrap();
    attacked(&scene);
}

fn with_all_capabilities() {
    attacked(&scene(&[SELF]).with(|spec| spec.security = Security::Insecure));
}

/// The inside: what root in the sandbox can do with the file that it was executed from.
pub(crate) fn attack() {
    say(&format!("opened: {}", OpenOptions::new().write(true).open(SELF).is_ok()));
    // A program that runs is protected by that alone (ETXTBSY): the file must be when nothing of it
    // runs any more, too.
    let reopened = || {
        let path = rustix::fs::open(SELF, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut file =
            OpenOptions::new().append(true).open(format!("/proc/self/fd/{}", path.as_raw_fd())).ok()?;
        file.write_all(b"x").ok()
    };
    say(&format!("written: {}", reopened().is_some()));
    let is_protected = |file: &File| {
        let mount = rustix::fs::fstatvfs(file).unwrap();
        mount.f_flag.contains(StatVfsMountFlags::RDONLY)
            || rustix::fs::fcntl_get_seals(file)
                .is_ok_and(|seals| seals.contains(rustix::fs::SealFlags::WRITE))
    };
    let file = File::open(SELF).unwrap();
    say(&format!("protected: {}", is_protected(&file)));
    let change =
        libc::mount_attr { attr_set: 0, attr_clr: libc::MOUNT_ATTR_RDONLY, propagation: 0, userns_fd: 0 };
    // SAFETY: the path is a C string, and `change` is valid for its size during the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            c"/proc/self/exe".as_ptr(),
            0,
            &raw const change,
            size_of::<libc::mount_attr>(),
        )
    };
    say(&format!("unprotected: {}", result == 0 || !is_protected(&file)));
}
