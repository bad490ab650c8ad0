//! What is said when a process cannot be started.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use dbuild_sandbox::{ExecErrorKind, Mount, MountSource, Rootfs, SandboxError};

use crate::support::{Scene, host_mounts, names};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    ("a_program_that_is_not_there", Needs::Nothing, not_found),
    ("a_program_that_may_not_be_executed", Needs::Nothing, denied),
    ("a_program_of_another_machine_or_without_its_interpreter", Needs::Nothing, formats),
    ("path_is_searched_in_the_spec_and_in_order", Needs::Nothing, path_lookup),
    ("a_working_directory_must_exist", Needs::Nothing, working_directory),
    ("missing_layers_are_named", Needs::Nothing, missing_layer),
    ("a_failed_setup_leaves_nothing", Needs::Nothing, failure_leaves_nothing),
    ("an_unknown_id_is_explained", Needs::Nothing, unknown_id),
];

fn exec_error(scene: &Scene) -> (ExecErrorKind, i32, String) {
    match scene.error() {
        SandboxError::Exec(error) => (error.kind.clone(), error.exit_code(), error.to_string()),
        other => panic!("{other}"),
    }
}

fn not_found() {
    let (kind, code, text) = exec_error(&Scene::program(&["nonesuch", "x"]));
    assert!(matches!(kind, ExecErrorKind::NotFound { searched: Some(path) } if path.contains("/usr/bin")));
    assert_eq!(code, 127);
    assert!(text.starts_with("nonesuch: not found in the image's PATH"), "{text}");
    let (kind, code, text) = exec_error(&Scene::program(&["/bin/nonesuch"]));
    assert_eq!((kind, code), (ExecErrorKind::NotFound { searched: None }, 127), "{text}");
}

fn denied() {
    for program in ["/etc/motd", "/etc"] {
        let (kind, code, _) = exec_error(&Scene::program(&[program]));
        assert_eq!((kind, code), (ExecErrorKind::PermissionDenied, 126), "{program}");
    }
}

fn formats() {
    let scene = Scene::program(&["/app"]);
    let put = |bytes: &[u8]| {
        fs::write(scene.upper("app"), bytes).unwrap();
        fs::set_permissions(scene.upper("app"), fs::Permissions::from_mode(0o755)).unwrap();
        exec_error(&scene)
    };
    let (kind, code, text) = put(b"echo hello\n");
    assert!(matches!(kind, ExecErrorKind::Format { made_for: None, .. }), "{text}");
    assert_eq!(code, 126);

    let mut foreign = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x16\0\x01\0\0\0".to_vec();
    foreign.resize(64, 0);
    let (kind, _, text) = put(&foreign);
    assert!(matches!(kind, ExecErrorKind::Format { made_for: Some(arch), .. } if arch == "s390x"), "{text}");

    let (kind, code, text) = put(b"#!/usr/bin/python3\nprint()\n");
    assert_eq!((kind, code), (ExecErrorKind::Interpreter { interpreter: "/usr/bin/python3".into() }, 127));
    assert!(text.contains("/usr/bin/python3 is not in the image"), "{text}");

    // This program itself: its loader is not in the root file system.
    if fs::read("/proc/self/exe").unwrap().windows(4).any(|bytes| bytes == b"/ld-") {
        let (kind, _, text) = put(&fs::read("/proc/self/exe").unwrap());
        assert!(
            matches!(kind, ExecErrorKind::Interpreter { interpreter } if interpreter.contains("ld-")),
            "{text}"
        );
    }
}

fn path_lookup() {
    let scene = Scene::program(&["tool"]).with(|spec| {
        spec.env = vec![("PATH".into(), "/missing:/one:/two:/three".into())];
    });
    for (dir, mode) in [("one", 0o644), ("two", 0o755), ("three", 0o755)] {
        fs::create_dir(scene.upper(dir)).unwrap();
        fs::write(scene.upper(dir).join("tool"), format!("#!/bin/sh\necho {dir}\n")).unwrap();
        fs::set_permissions(scene.upper(dir).join("tool"), fs::Permissions::from_mode(mode)).unwrap();
    }
    assert_eq!(scene.output(), "two");
    let scene = scene.with(|spec| spec.env[0].1 = "/one".into());
    assert_eq!(exec_error(&scene).1, 126);
    let scene = scene.with(|spec| spec.env.clear());
    assert_eq!(exec_error(&scene).1, 127);
}

fn working_directory() {
    let error = Scene::sh("true").with(|spec| spec.cwd = "/no/such".into()).error();
    assert_eq!(
        error.to_string(),
        "the working directory /no/such cannot be entered: No such file or directory"
    );
    assert_eq!(Scene::sh("pwd").with(|spec| spec.cwd = "/usr/bin".into()).output(), "/usr/bin");
    // A descriptor of the host must not be reachable as a directory.
    for number in 3..12 {
        Scene::sh("true").with(|spec| spec.cwd = format!("/proc/self/fd/{number}")).error();
    }
}

fn missing_layer() {
    let scene = Scene::sh("true");
    let missing = scene.path("missing");
    let scene = scene.with(|spec| {
        if let Rootfs::Overlay { lower, .. } = &mut spec.rootfs {
            lower.push(missing.clone());
        }
    });
    let text = scene.error().to_string();
    assert!(text.contains(missing.to_str().unwrap()) && text.contains("No such file"), "{text}");
}

fn failure_leaves_nothing() {
    let before = host_mounts();
    let scene = Scene::program(&["nonesuch"]).with(|spec| {
        spec.hosts = Some(b"x".to_vec());
        spec.mounts.push(Mount {
            target: "/made/for/it".into(),
            source: MountSource::Tmpfs { size: None, mode: 0o755 },
        });
    });
    scene.error();
    assert_eq!(names(&scene.upper("")), ["dev", "etc", "proc", "sys"]);
    assert!(names(&scene.upper("etc")).is_empty());
    assert_eq!(host_mounts(), before);

    // One mount that works, then one that cannot.
    let scene = scene.with(|spec| {
        spec.argv = vec!["/bin/true".into()];
        spec.mounts.push(Mount {
            target: "/etc/motd".into(),
            source: MountSource::Tmpfs { size: None, mode: 0o755 },
        });
    });
    let text = scene.error().to_string();
    assert_eq!(text, "cannot mount at /etc/motd: it is a file, and a directory goes there");
    assert!(!scene.upper("made").exists());
}

fn unknown_id() {
    let mut scene = Scene::sh("id -u");
    scene.spec.uid = u32::MAX - 1;
    match dbuild_sandbox::rootless::identity() {
        dbuild_sandbox::rootless::Identity::Root => assert_eq!(scene.output(), (u32::MAX - 1).to_string()),
        dbuild_sandbox::rootless::Identity::Rootless { .. } => {
            let error = scene.error();
            assert!(matches!(error, SandboxError::NoSuchId { .. }), "{error}");
            assert!(error.to_string().contains("/etc/subuid"), "{error}");
        }
    }
}
