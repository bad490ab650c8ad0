//! Mounts of the spec, and the mount points that are made for them.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;

use dbuild_sandbox::{Mount, MountSource, OverlayDirs, SandboxError};

use crate::support::{Scene, names};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    ("directories_of_the_host", Needs::Nothing, bind_directory),
    ("files_and_sockets_of_the_host", Needs::Nothing, bind_file),
    ("memory", Needs::Nothing, tmpfs),
    ("files_in_memory", Needs::Nothing, memory_file),
    ("owners_of_files_in_memory", Needs::Ids, memory_file_owner),
    ("scripts_in_memory_can_be_executed", Needs::Nothing, script),
    ("stacks_of_layers", Needs::Nothing, overlay_bind),
    ("a_writable_stack_keeps_its_writes_apart", Needs::Nothing, writable_overlay_bind),
    ("resolv_conf_and_hosts_are_in_no_layer", Needs::Nothing, etc_files),
    ("made_mount_points_vanish", Needs::Nothing, points_vanish),
    ("what_a_process_puts_beside_them_stays", Needs::Nothing, neighbours_stay),
    ("targets_stay_inside_the_root", Needs::Nothing, links_stay_inside),
    ("nothing_is_mounted_inside_proc", Needs::Nothing, not_inside_proc),
    ("sources_that_are_missing_are_named", Needs::Nothing, missing_source),
    ("later_mounts_go_into_earlier_ones", Needs::Nothing, nested),
];

fn mount(target: &str, source: MountSource) -> Mount {
    Mount { target: target.to_owned(), source }
}

fn file(text: &str) -> MountSource {
    MountSource::File { contents: text.as_bytes().to_vec().into(), mode: 0o644, uid: 0, gid: 0 }
}

fn with(scene: Scene, target: &str, source: MountSource) -> Scene {
    scene.with(|spec| spec.mounts.push(mount(target, source)))
}

fn source_dir(scene: &Scene) -> PathBuf {
    let dir = scene.path("source");
    fs::create_dir_all(dir.join("sub")).unwrap();
    fs::write(dir.join("file"), "from the host\n").unwrap();
    dir
}

fn bind_directory() {
    let scene = Scene::sh("cat /mnt/a/file; echo 1 > /mnt/a/new; echo 2 > /mnt/b/x || echo refused");
    let path = source_dir(&scene);
    let scene = with(scene, "/mnt/a", MountSource::Bind { path: path.clone(), readonly: false });
    let scene = with(scene, "/mnt/b", MountSource::Bind { path: path.clone(), readonly: true });
    assert_eq!(scene.output(), "from the host\nrefused");
    assert_eq!(fs::read_to_string(path.join("new")).unwrap(), "1\n");
    assert!(!path.join("x").exists() && !scene.upper("mnt").exists());
}

fn bind_file() {
    let scene = Scene::sh("cat /etc/motd /run/agent/file; test -S /run/agent/socket && echo socket");
    let path = source_dir(&scene);
    let _listener = std::os::unix::net::UnixListener::bind(path.join("socket")).unwrap();
    let bind = |name: &str| MountSource::Bind { path: path.join(name), readonly: true };
    let scene = with(scene, "/etc/motd", bind("file"));
    let scene = with(scene, "/run/agent/file", bind("file"));
    let scene = with(scene, "/run/agent/socket", bind("socket"));
    assert_eq!(scene.output(), "from the host\nfrom the host\nsocket");
    // A link at the source is not followed: it would be followed on the host.
    symlink("/etc/passwd", path.join("link")).unwrap();
    let scene = with(scene, "/tmp/link", bind("link"));
    assert!(scene.error().to_string().ends_with("link: it is a symbolic link"));
}

fn tmpfs() {
    let scene = Scene::sh(
        "stat -c %a /scratch; echo x > /scratch/x; dd if=/dev/zero of=/scratch/big bs=1M count=2 2>&1 | grep -o 'No space'",
    );
    let scene = with(scene, "/scratch", MountSource::Tmpfs { size: Some(1 << 20), mode: 0o1777 });
    assert_eq!(scene.output(), "1777\nNo space");
    assert!(!scene.upper("scratch").exists());
}

fn memory_file() {
    let scene = Scene::sh(
        "cat /run/secrets/token; stat -c '%a %u %g' /run/secrets/token; echo x > /run/secrets/token || echo refused",
    );
    let source = MountSource::File { contents: b"hunter2\n".to_vec().into(), mode: 0o400, uid: 0, gid: 0 };
    let scene = with(scene, "/run/secrets/token", source);
    assert_eq!(scene.output(), "hunter2\n400 0 0\nrefused");
    assert!(!scene.upper("run").exists());
}

fn memory_file_owner() {
    let scene = Scene::sh("cat /token; id -u").with(|spec| spec.uid = 1000);
    let source = |uid| MountSource::File { contents: b"hunter2\n".to_vec().into(), mode: 0o400, uid, gid: 5 };
    assert_eq!(with(scene, "/token", source(1000)).output(), "hunter2\n1000");
    let scene = Scene::sh("cat /token || echo denied").with(|spec| spec.uid = 1000);
    assert_eq!(with(scene, "/token", source(1001)).output(), "denied");
}

fn script() {
    let scene = Scene::program(&["/script"]);
    let contents = b"#!/bin/sh\necho ran\n".to_vec().into();
    let source = MountSource::File { contents, mode: 0o755, uid: 0, gid: 0 };
    assert_eq!(with(scene, "/script", source).output(), "ran");
}

fn layers(scene: &Scene) -> Vec<PathBuf> {
    ["one", "two"]
        .map(|name| {
            let dir = scene.path(name);
            fs::create_dir_all(dir.join("out")).unwrap();
            fs::write(dir.join("out").join(name), name).unwrap();
            fs::write(dir.join("out/both"), format!("by {name}")).unwrap();
            dir
        })
        .to_vec()
}

fn overlay_bind() {
    let scene =
        Scene::sh("ls /all /part; cat /part/both; echo; cat /file; echo; touch /part/x || echo refused");
    let lower = layers(&scene);
    let bind = |subpath: &str| MountSource::OverlayBind {
        lower: lower.clone(),
        subpath: subpath.to_owned(),
        writable: None,
    };
    let scene = with(scene, "/all", bind("/"));
    let scene = with(scene, "/part", bind("out"));
    let scene = with(scene, "/file", bind("/out/../out/one"));
    assert_eq!(scene.output(), "/all:\nout\n\n/part:\nboth\none\ntwo\nby two\none\nrefused");
    for count in [0, 1] {
        let scene = Scene::sh("ls /few | wc -l; touch /few/x || echo refused");
        let lower = layers(&scene)[..count].to_vec();
        let scene =
            with(scene, "/few", MountSource::OverlayBind { lower, subpath: String::new(), writable: None });
        assert_eq!(scene.output(), format!("{count}\nrefused"));
    }
    let scene = with(Scene::sh("true"), "/x", bind("/nonesuch"));
    assert!(scene.error().to_string().contains("/nonesuch in its source: No such file"));
}

fn writable_overlay_bind() {
    let scene =
        Scene::sh("echo changed > /work/both; rm /work/one; touch /work/new; ls /work; cat /work/both");
    let lower = layers(&scene);
    let dirs = OverlayDirs { upper: scene.path("up"), work: scene.path("wk") };
    fs::create_dir(&dirs.upper).unwrap();
    fs::create_dir(&dirs.work).unwrap();
    let source =
        MountSource::OverlayBind { lower: lower.clone(), subpath: "out".into(), writable: Some(dirs) };
    let scene = with(scene, "/work", source);
    assert_eq!(scene.output(), "both\nnew\ntwo\nchanged");
    assert_eq!(fs::read_to_string(lower[1].join("out/both")).unwrap(), "by two");
    assert!(lower[0].join("out/one").exists());
    assert_eq!(names(&scene.upper("")), ["dev", "proc", "sys"]);
}

fn etc_files() {
    let scene =
        Scene::sh("cat /etc/hosts /etc/resolv.conf; echo x > /etc/hosts || echo refused").with(|spec| {
            spec.hosts = Some(b"127.0.0.1 localhost\n".to_vec());
            spec.resolv_conf = Some(b"nameserver 192.0.2.1\n".to_vec());
        });
    assert_eq!(scene.output(), "127.0.0.1 localhost\nnameserver 192.0.2.1\nrefused");
    assert!(names(&scene.upper("etc")).is_empty());

    // A file that the image has is hidden, and is as it was afterwards.
    let scene = Scene::sh("cat /etc/hosts").with(|spec| spec.hosts = Some(b"mine\n".to_vec()));
    fs::create_dir(scene.upper("etc")).unwrap();
    fs::write(scene.upper("etc/hosts"), "the image's\n").unwrap();
    assert_eq!(scene.output(), "mine");
    assert_eq!(fs::read_to_string(scene.upper("etc/hosts")).unwrap(), "the image's\n");
}

fn points_vanish() {
    let scene = with(Scene::sh("cat /a/b/c/file"), "/a/b/c/file", file("deep\n"));
    let scene = with(scene, "/root/.cache/x", MountSource::Tmpfs { size: None, mode: 0o755 });
    fs::create_dir(scene.upper("root")).unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    fs::File::open(scene.upper("root")).unwrap().set_modified(old).unwrap();
    assert_eq!(scene.output(), "deep");
    assert_eq!(names(&scene.upper("")), ["dev", "proc", "root", "sys"]);
    assert!(names(&scene.upper("root")).is_empty());
    // As if nothing had been there: the layer does not hold a new time.
    assert_eq!(fs::metadata(scene.upper("root")).unwrap().mtime(), 1_000_000_000);
}

fn neighbours_stay() {
    let scene =
        with(Scene::sh("echo 1 > /made/own; rmdir /made/point 2>/dev/null; true"), "/made/point", file(""));
    let scene = with(scene, "/made/deeper/point", file(""));
    scene.output();
    assert_eq!(names(&scene.upper("made")), ["own"]);
}

fn links_stay_inside() {
    let scene = Scene::sh("cat /conf /outside/x; cat /tmp/made/x");
    symlink("../../../../etc/motd", scene.upper("conf")).unwrap();
    symlink("/../../tmp/made", scene.upper("outside")).unwrap();
    let host_tmp = std::path::Path::new("/tmp/made").exists();
    let scene = with(scene, "/conf", file("over motd\n"));
    let scene = with(scene, "/outside/x", file("inside\n"));
    assert_eq!(scene.output(), "over motd\ninside\ninside");
    assert_eq!(std::path::Path::new("/tmp/made").exists(), host_tmp);
    assert!(!scene.upper("tmp/made").exists());
}

fn not_inside_proc() {
    for target in ["/proc/sys", "/proc/self/attr", "/proc/1/x", "/link/sys"] {
        let scene = Scene::sh("true");
        symlink("/proc", scene.upper("link")).unwrap();
        let scene = with(scene, target, MountSource::Tmpfs { size: None, mode: 0o755 });
        assert!(matches!(scene.error(), SandboxError::Mount { .. }), "{target}");
    }
}

fn missing_source() {
    let scene = Scene::sh("true");
    let path = scene.path("nonesuch");
    let scene = with(scene, "/mnt", MountSource::Bind { path: path.clone(), readonly: true });
    assert_eq!(
        scene.error().to_string(),
        format!("cannot mount at /mnt: {}: No such file or directory", path.display())
    );
}

/// A point that is made in another mount is not looked for in the layer.
fn nested() {
    let scene = Scene::sh("cat /cache/secret; ls /cache");
    let path = source_dir(&scene);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let scene = with(scene, "/cache", MountSource::Bind { path, readonly: false });
    let scene = with(scene, "/cache/secret", file("inner\n"));
    assert_eq!(scene.output(), "inner\nfile\nsecret\nsub");
    assert!(!scene.upper("cache").exists());
}
