//! A build that is interrupted ends as a whole, leaves nothing behind and loses nothing that was done.

use std::time::{Duration, Instant};

use dbuild_integration_tests::{Background, TestSpace};
use rustix::process::Signal;

/// Two steps: one that is done, one that never ends. The marker is a word of the endless one's command line.
fn dockerfile(marker: &str) -> String {
    format!(
        "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /id\n\
         RUN (sleep {marker} & sleep {marker} & echo endless-$((6 * 7)); wait)\n"
    )
}

/// A number of seconds that no other process of this machine sleeps for.
fn marker(number: u32) -> String {
    (100_000_000 + std::process::id() * 10 + number).to_string()
}

/// Whether a process of this machine has this word in its command line.
fn is_running(word: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    processes
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .any(|line| String::from_utf8_lossy(&line).contains(word))
}

/// Waits until nothing of the build is left, for two seconds.
#[track_caller]
fn assert_gone(space: &TestSpace, marker: &str, since: Instant) {
    let mut left = String::new();
    while since.elapsed() < Duration::from_secs(2) {
        left.clear();
        if is_running(marker) {
            left.push_str("a process; ");
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        if mounts.contains(&space.root().display().to_string()) {
            left.push_str("a mount; ");
        }
        if left.is_empty() {
            return;
        }
        std::thread::yield_now();
    }
    panic!("left after two seconds: {left}");
}

fn start(space: &TestSpace, marker: &str) -> Background {
    let mut build = Background::start(space.build(&dockerfile(marker), [""; 0]).into_command());
    build.wait_for_line("endless-42");
    assert!(is_running(marker));
    build
}

#[test]
fn a_signal_ends_the_whole_build() {
    for (signal, marker) in [(Signal::INT, marker(1)), (Signal::TERM, marker(2))] {
        let space = TestSpace::new();
        let build = start(&space, &marker);
        let sent = Instant::now();
        build.signal(signal);
        let (status, output) = build.wait();
        assert!(sent.elapsed() < Duration::from_secs(2), "it took {:?}", sent.elapsed());
        assert_eq!(status.code(), Some(130), "{output}");
        assert_gone(&space, &marker, sent);
        let again = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /id\n";
        space.build(again, [""; 0]).run().expect_ok().stderr_has(&["CACHED"]);
    }
}

#[test]
fn a_killed_build_takes_its_processes_along() {
    let space = TestSpace::new();
    let marker = marker(3);
    let build = start(&space, &marker);
    let sent = Instant::now();
    build.signal(Signal::KILL);
    let _ = build.wait();
    assert_gone(&space, &marker, sent);
    let again = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /id\n";
    space.build(again, [""; 0]).run().expect_ok().stderr_has(&["CACHED"]);
    // What the killed build had begun is swept by the next one.
    let left: Vec<_> = std::fs::read_dir(space.path("store/tmp")).unwrap().filter_map(Result::ok).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn two_builds_at_once_run_a_step_once() {
    let space = TestSpace::new();
    let dockerfile = "FROM busybox\nRUN sleep 1; cat /proc/sys/kernel/random/uuid > /id\nCMD cat /id\n";
    let first = Background::start(space.build(dockerfile, ["--iidfile", "first"]).into_command());
    let second = Background::start(space.build(dockerfile, ["--iidfile", "second"]).into_command());
    for build in [first, second] {
        let (status, output) = build.wait();
        assert!(status.success(), "{output}");
    }
    assert_eq!(space.read("first"), space.read("second"));
}
