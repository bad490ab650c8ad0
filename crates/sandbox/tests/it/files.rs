//! The root file system: what is read from below, what is written above.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::PathBuf;

use dbuild_sandbox::{ExitStatus, Rootfs};

use crate::support::{Scene, base, host_mounts, names};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    ("writes_go_to_the_upper_directory", Needs::Nothing, writes),
    ("removing_leaves_whiteouts", Needs::Nothing, whiteouts),
    ("hundreds_of_layers", Needs::Nothing, many_layers),
    ("long_paths_of_layers", Needs::Nothing, long_paths),
    ("nothing_below_is_scratch", Needs::Nothing, scratch),
    ("a_read_only_root", Needs::Nothing, read_only),
    ("a_plain_directory", Needs::Nothing, plain_directory),
    ("directories_for_standard_mounts_stay", Needs::Nothing, standard_directories),
    ("a_used_work_directory_is_refused", Needs::Nothing, used_work_directory),
    ("fsync_is_not_slow", Needs::Nothing, volatile),
    ("no_mount_is_left", Needs::Nothing, no_mounts_left),
    ("devices_of_the_container_cannot_be_opened", Needs::Root, no_devices),
];

fn writes() {
    let scene =
        Scene::sh("umask; echo new > /root/file; mkdir /root/dir; echo more >> /etc/motd; cat /etc/motd");
    assert_eq!(scene.output(), "0022\nhello\nmore");
    assert_eq!(fs::read_to_string(scene.upper("root/file")).unwrap(), "new\n");
    assert_eq!(fs::metadata(scene.upper("root/file")).unwrap().mode() & 0o7777, 0o644);
    assert_eq!(fs::read_to_string(scene.upper("etc/motd")).unwrap(), "hello\nmore\n");
    assert_eq!(fs::read_to_string(base().join("etc/motd")).unwrap(), "hello\n");
}

fn whiteouts() {
    let scene = Scene::sh("rm /etc/motd; rm -r /root && mkdir /root");
    scene.output();
    let whiteout = fs::symlink_metadata(scene.upper("etc/motd")).unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    assert!(scene.upper("root").is_dir());
}

/// Overlayfs takes 500, and a value of fsconfig 255 bytes.
fn many_layers() {
    let scene = Scene::sh("cat /n1 /n250 /n499 /top");
    let mut lower = vec![base()];
    for number in 1..500 {
        let dir = scene.path(&format!("layers/{number}"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("n{number}")), format!("{number}\n")).unwrap();
        fs::write(dir.join("top"), format!("top {number}\n")).unwrap();
        lower.push(dir);
    }
    let scene = with_lower(scene, lower);
    assert_eq!(scene.output(), "1\n250\n499\ntop 499");
}

fn with_lower(scene: Scene, layers: Vec<PathBuf>) -> Scene {
    scene.with(|spec| match &mut spec.rootfs {
        Rootfs::Overlay { lower, .. } | Rootfs::ReadonlyOverlay { lower } => *lower = layers,
        Rootfs::Dir(_) => unreachable!(),
    })
}

fn long_paths() {
    let scene = Scene::sh("cat /mark");
    let deep = scene.path(&["with:odd,na\\mes"; 20].join("/"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("mark"), "deep").unwrap();
    let scene = with_lower(scene, vec![base(), deep]);
    assert_eq!(scene.output(), "deep");
}

fn scratch() {
    let scene = Scene::program(&["/busybox", "ls", "/"]);
    fs::copy(base().join("bin/busybox"), scene.upper("busybox")).unwrap();
    let scene = with_lower(scene, Vec::new());
    assert_eq!(scene.output(), "busybox\ndev\nproc\nsys");
    assert_eq!(names(&scene.upper("")), ["busybox", "dev", "proc", "sys"]);
}

fn read_only() {
    let scene = Scene::sh("cat /etc/hosts; touch /x || echo refused; echo ok > /dev/shm/x; cat /dev/shm/x")
        .with(|spec| {
            spec.rootfs = Rootfs::ReadonlyOverlay { lower: vec![base()] };
            spec.hosts = Some(b"mine\n".to_vec());
        });
    assert_eq!(scene.output(), "mine\nrefused\nok");
    assert!(!base().join("etc/hosts").exists() && !base().join("proc").exists());
}

fn plain_directory() {
    let scene = Scene::program(&["/busybox", "sh", "-c", "/busybox cat /etc/hosts; echo 1 > /made"]);
    let root = scene.path("root");
    fs::create_dir(&root).unwrap();
    fs::copy(base().join("bin/busybox"), root.join("busybox")).unwrap();
    let scene = scene.with(|spec| {
        spec.rootfs = Rootfs::Dir(root.clone());
        spec.hosts = Some(b"mine\n".to_vec());
    });
    assert_eq!(scene.output(), "mine");
    assert_eq!(names(&root), ["busybox", "dev", "made", "proc", "sys"]);
}

fn standard_directories() {
    let scene = Scene::sh("true");
    scene.output();
    assert_eq!(names(&scene.upper("")), ["dev", "proc", "sys"]);
    assert!(names(&scene.upper("dev")).is_empty());
}

fn used_work_directory() {
    let scene = Scene::sh("true");
    scene.output();
    let text = dbuild_sandbox::spawn(&scene.spec).unwrap_err().to_string();
    assert!(text.contains("needs a fresh work directory"), "{text}");
}

/// A step is thrown away when the machine dies, so nothing of it needs to reach the disk early.
fn volatile() {
    let scene = Scene::sh("grep ' / / ' /proc/self/mountinfo");
    let mount = scene.output();
    assert!(mount.contains("volatile"), "{mount}");
}

fn no_mounts_left() {
    let before = host_mounts();
    for _ in 0..5 {
        Scene::sh("true").output();
    }
    assert_eq!(host_mounts(), before);
}

/// With CAP_MKNOD any node can be made; none of them may be of use.
fn no_devices() {
    let script = "
        for place in /node /dev/node /dev/shm/node /tmp/node; do
            mknod $place c 1 5 && head -c 1 $place && echo opened $place
        done
        mknod /disk b 254 0 && head -c 1 /disk && echo opened disk
        head -c 3 /dev/zero | wc -c";
    let scene = Scene::sh(script);
    let outcome = scene.run();
    assert_eq!(
        (outcome.exit.status, outcome.stdout.as_str()),
        (ExitStatus::Code(0), "3\n"),
        "{}",
        outcome.stderr
    );
    assert_eq!(outcome.stderr.matches("Permission denied").count(), 5, "{}", outcome.stderr);
}
