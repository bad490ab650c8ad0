//! What the tracer notes, and that nobody sees it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use dbuild_sandbox::Trace;
use dbuild_sandbox::question::{ACCESS, CONTENT, KIND, LISTING};

use crate::rootless::{NOBODY, passes, shared_program};
use crate::support::{Scene, TRACED, finish};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    ("everything_once_more", Needs::Root, everything),
    ("what_is_asked_of_a_path", Needs::Nothing, questions),
    ("interpreters_are_read_by_the_kernel", Needs::Nothing, interpreters),
    ("programs_that_change_the_user", Needs::Ids, setuid),
    ("links_are_followed_as_they_are", Needs::Nothing, links),
    ("a_network", Needs::Nothing, network),
    ("what_cannot_be_traced", Needs::Nothing, incomplete),
    ("nothing_where_it_is_off", Needs::Nothing, off),
];

/// The other tests with every scene traced: no command sees a difference.
fn everything() {
    if std::env::var_os(TRACED).is_none() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--skip", "rootless::"]).env(TRACED, "1");
        passes(command);
        let (_dir, program) = shared_program();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(program).env(TRACED, "1");
        passes(command);
    }
}

fn trace(scene: &Scene) -> (Trace, String) {
    let mut running = scene.spawn();
    let (stdout, stderr) = (running.take_stdout(), running.take_stderr());
    let error = std::thread::spawn(move || stderr.map(crate::support::read));
    let output = stdout.map(crate::support::read).unwrap_or_default();
    let error = error.join().unwrap().unwrap_or_default();
    let (_, trace) = running.wait_traced().unwrap_or_else(|error| panic!("{error}"));
    (trace.unwrap(), output + &error)
}

fn asked(script: &str) -> BTreeMap<String, u8> {
    let scene = Scene::sh(script).with(|spec| spec.trace = true);
    let (trace, output) = trace(&scene);
    assert_eq!(trace.incomplete, None, "{output}");
    let paths = trace.paths.into_iter();
    paths.map(|asked| (String::from_utf8(asked.path).unwrap(), asked.questions)).collect()
}

fn questions() {
    let asked = asked("cat /etc/none/x; [ -r /etc ]; ls /usr > /tmp/list; cd /root; : > made; rm made");
    for (path, questions) in [
        ("bin", KIND),
        ("etc/none", KIND),
        ("usr", CONTENT | LISTING),
        ("root/made", CONTENT | LISTING),
        ("tmp/list", CONTENT | LISTING),
    ] {
        assert_eq!(asked.get(path).map(|asked| asked & questions), Some(questions), "{path}: {asked:?}");
    }
    assert!(asked["etc"] & (ACCESS | CONTENT) != 0, "{asked:?}");
    assert!(!asked.contains_key("etc/none/x"), "nothing is below what is not there");
    assert!(!asked.keys().any(|path| path.starts_with("proc") || path.starts_with("dev")), "{asked:?}");
}

fn interpreters() {
    let asked =
        asked("printf '#!/bin/inter x\\n' > /tmp/s; cp /bin/sh /bin/inter; chmod 755 /tmp/s; /tmp/s; true");
    assert_eq!(asked["bin/inter"] & CONTENT, CONTENT, "{asked:?}");
}

/// A tracer by ptrace would take the set-user-id bit away.
fn setuid() {
    let scene = Scene::sh("id -u; cp /bin/busybox /tmp/id").output();
    assert_eq!(scene, "0");
    let scene = Scene::sh(
        "cp /bin/busybox /tmp/sleep; cp /bin/busybox /tmp/id; chmod 4755 /tmp/id; /bin/su -s /bin/sh nobody -c '/tmp/id -u' || true",
    );
    let scene = scene.with(|spec| spec.trace = true);
    let (trace, _) = trace(&scene);
    assert_eq!(trace.incomplete, None);
    assert!(trace.paths.iter().any(|asked| asked.path == b"tmp/id"), "{trace:?}");
    let mode = std::fs::metadata(scene.upper("tmp/id")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o4755);
}

fn links() {
    let asked = asked(
        "ln -s /etc /tmp/l; ln -s l /tmp/m; cat /tmp/m/none /tmp/m/../none2; mkdir /tmp/d; mv /tmp/d /tmp/e; cat /tmp/e/../x; true",
    );
    for path in ["tmp/l", "tmp/m", "etc/none", "none2", "tmp/x"] {
        assert!(asked.contains_key(path), "{path}: {asked:?}");
    }
}

fn network() {
    for (script, expected) in [("true", false), ("wget -q -O- http://127.0.0.1:1/", true)] {
        let scene = Scene::sh(script).with(|spec| spec.trace = true);
        assert_eq!(trace(&scene).0.network, expected, "{script}");
    }
}

fn incomplete() {
    let scene = Scene::sh("chroot / true").with(|spec| spec.trace = true);
    let (trace, _) = trace(&scene);
    assert_eq!(trace.incomplete.as_deref(), Some("it changed its root directory (chroot)"));
    assert_eq!(trace.paths, []);
}

fn off() {
    let scene = Scene::sh("true").with(|spec| spec.trace = false);
    assert_eq!(scene.spawn().wait_traced().unwrap().1, None);
    finish(scene.spawn());
}
