//! Where results go, and what comes from pipes.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use dbuild_integration_tests::{Background, TestSpace};
use rustix::fs::{CWD, FileType, Mode, mkfifoat, mknodat};
use rustix::process::Signal;

const PLAIN: &str = "FROM busybox\nCOPY Dockerfile /\n";
const SECRET: &str = "FROM busybox\nARG N\nRUN --mount=type=secret,id=x,required cp /run/secrets/x /x\n";

/// A directory with everything that a result can be written to, made anew.
fn places(space: &TestSpace) {
    let dir = space.path("l");
    let _ = fs::remove_dir_all(&dir);
    space.write("l/target", "old");
    fs::set_permissions(dir.join("target"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("target", dir.join("link")).unwrap();
    symlink("made", dir.join("dangling")).unwrap();
    symlink("/proc/self/fd/1", dir.join("stdout")).unwrap();
    mkfifoat(CWD, dir.join("fifo"), Mode::from_raw_mode(0o600)).unwrap();
    // Like /dev/null, and not everybody's: a test that fails must not take that away from the
    // machine.
    let mode = Mode::from_raw_mode(0o666);
    if mknodat(CWD, dir.join("null"), FileType::CharacterDevice, mode, rustix::fs::makedev(1, 3)).is_err() {
        symlink("/dev/null", dir.join("null")).unwrap();
    }
}

fn kind(path: &Path) -> fs::FileType {
    fs::symlink_metadata(path).unwrap().file_type()
}

/// Runs a command of bash, with this space's store and configuration.
#[track_caller]
fn bash(space: &TestSpace, line: &str) -> String {
    let quoted = line.replace('\'', "'\\''");
    space.shell("", &format!("exec bash -c '{quoted}'")).expect_ok().stdout
}

#[test]
fn small_results_are_written_into_what_is_there() {
    let space = TestSpace::new();
    space.write("context/Dockerfile", PLAIN);
    let at = |name: &str| space.path("l").join(name);
    for flag in ["--iidfile", "--metadata-file", "--report"] {
        places(&space);
        let build = |name: &str| {
            let before = kind(&at(name));
            let words = ["build", "--progress", "plain", flag];
            let outcome = space.dbuild(words).args([at(name)]).args(["context"]).run().expect_ok();
            assert_eq!(kind(&at(name)), before, "{flag} onto {name}");
            outcome
        };
        build("link");
        let written = space.read("l/target");
        assert_ne!(written, "old", "{flag}");
        assert_eq!(fs::metadata(at("target")).unwrap().mode() & 0o777, 0o640, "{flag}");
        build("dangling");
        let kept = |text: &str| text.lines().filter(|line| !line.contains("build")).count();
        assert_eq!(kept(&space.read("l/made")), kept(&written), "{flag}");
        assert!(!build("stdout").stdout.is_empty(), "{flag}");
        build("null");
        let reader = std::thread::spawn({
            let fifo = at("fifo");
            move || fs::read_to_string(fifo).unwrap()
        });
        build("fifo");
        assert!(!reader.join().unwrap().is_empty(), "{flag}");
    }
}

#[test]
fn every_other_result_is_too() {
    let space = TestSpace::new();
    space.write("context/Dockerfile", PLAIN);
    space.dbuild(["build", "-t", "app", "context"]).run().expect_ok();
    let commands = [
        "dbuild build context -o type=oci,dest=PLACE",
        "dbuild build context -o type=docker,dest=PLACE",
        "dbuild build context -o type=tar,dest=PLACE",
        "dbuild save app -o PLACE",
        "dbuild report -o PLACE",
    ];
    for command in commands {
        places(&space);
        for place in ["link", "null", "fifo"] {
            let path = space.path("l").join(place);
            let before = kind(&path);
            let line = command.replace("PLACE", &format!("l/{place}"));
            match place {
                "fifo" => bash(&space, &format!("cat l/fifo > l/got & {line} && wait")),
                _ => bash(&space, &line),
            };
            assert_eq!(kind(&path), before, "{line}");
        }
        assert!(fs::metadata(space.path("l/target")).unwrap().len() > 3, "{command}");
        assert_ne!(fs::metadata(space.path("l/got")).unwrap().len(), 0, "{command}");
        let counted = format!("{} 2> /dev/null | wc -c", command.replace("PLACE", "/dev/stdout"));
        assert_ne!(bash(&space, &counted), "0\n", "{command}");
    }
}

#[test]
fn an_archive_goes_into_a_process() {
    let space = TestSpace::new();
    space.write("context/Dockerfile", PLAIN);
    bash(
        &space,
        "dbuild build -o type=tar,dest=>(tar -t > listed) context; while ! grep Dockerfile listed; do sleep 0.1; done",
    );
}

#[test]
fn nothing_is_waited_for_without_a_word() {
    let space = TestSpace::new();
    space.write("context/Dockerfile", PLAIN);
    places(&space);
    for words in [
        &["build", "--progress", "plain", "--iidfile", "l/fifo", "context"][..],
        &["build", "--progress", "plain", "--report", "l/fifo", "context"],
        &["build", "--progress", "plain", "-o", "type=oci,dest=l/fifo", "context"],
        &["build", "--progress", "plain", "-f", "l/fifo", "context"],
        &["build", "--progress", "plain", "--secret", "id=x,src=l/fifo", "context"],
        &["load", "-i", "l/fifo"],
    ] {
        let mut waits = Background::start(space.dbuild(words).into_command());
        waits.wait_for_line("waiting for the ");
        waits.signal(Signal::INT);
        let (status, said) = waits.wait();
        assert_eq!(status.code(), Some(130), "{words:?}\n{said}");
    }
    assert!(kind(&space.path("l/fifo")).is_fifo());
}

#[test]
fn secrets_come_from_pipes() {
    let space = TestSpace::new();
    space.write("context/Dockerfile", SECRET);
    mkfifoat(CWD, space.path("fifo"), Mode::from_raw_mode(0o600)).unwrap();
    let build = "dbuild build --no-cache -t app context --secret id=x,src=";
    for line in [
        format!("{build}<(echo sub)"),
        format!("echo sub | {build}/dev/stdin"),
        format!("echo sub > fifo & {build}fifo"),
        format!("{build}/dev/fd/7 7<<< sub"),
        // Two steps read it, and it comes slowly.
        format!("{build}<(echo -n su; sleep 0.3; echo b)"),
    ] {
        bash(&space, &line);
        assert_eq!(space.run_in("app", &["cat", "/x"]), "sub\n", "{line}");
    }
    let twice = "RUN --mount=type=secret,id=x cat /run/secrets/x >> /x\n";
    space.write("context/Dockerfile", format!("{SECRET}{twice}"));
    bash(&space, &format!("{build}<(echo sub)"));
    assert_eq!(space.run_in("app", &["cat", "/x"]), "sub\nsub\n");
    // Bounded: the writer never ends.
    let endless = space.shell("", "timeout 60 bash -c 'exec dbuild build context --secret id=x,src=<(yes)'");
    endless.expect_code(1).stdout_has(&["the secret `x`", "it has more than the "]);
}

#[test]
fn dockerfiles_and_archives_come_from_pipes() {
    let space = TestSpace::new();
    space.write("context/file", "content");
    space.write("Dockerfile", "FROM busybox\nCOPY file /\n");
    for line in [
        "dbuild build --no-cache -t app -f <(cat Dockerfile) context",
        "cat Dockerfile | dbuild build --no-cache -t app -f /dev/stdin context",
        "dbuild build --no-cache -t app -f /dev/stdin context < Dockerfile",
        "cat Dockerfile | dbuild build --no-cache -t app -f - context",
        "tar -c -C context . -C .. Dockerfile | dbuild build --no-cache -t app -",
        "dbuild check -f <(cat Dockerfile) context && dbuild save app | (dbuild rmi app; dbuild load -i <(cat))",
        "dbuild save app -o >(cat > app.tar); while ! tar -tf app.tar > /dev/null; do sleep 0.1; done; dbuild rmi app; dbuild load < app.tar",
    ] {
        bash(&space, line);
        assert_eq!(space.run_in("app", &["cat", "/file"]), "content", "{line}");
    }
}
