//! Ends: by itself, by a signal, by being killed, with dbuild.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dbuild_sandbox::{ExitStatus, Output, SandboxError, Stdin, probe};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};

use crate::support::{BASE_OF_PARENT, ROLE, Scene, base, finish, host_mounts, names, say};
use crate::{Needs, Test, isolation, own_file};

pub(crate) const TESTS: &[Test] = &[
    ("exit_codes", Needs::Nothing, exit_codes),
    ("signals_are_reported", Needs::Nothing, signals),
    ("output_is_separate_and_whole", Needs::Nothing, output),
    ("input_can_be_given", Needs::Nothing, input),
    ("daemons_end_with_the_first_process", Needs::Nothing, daemons),
    ("killing_takes_less_than_a_second_and_leaves_nothing", Needs::Nothing, kill),
    ("killing_twice_or_late_does_nothing", Needs::Nothing, kill_late),
    ("dropping_kills", Needs::Nothing, drop_kills),
    ("all_of_it_dies_with_dbuild", Needs::Nothing, dies_with_dbuild),
    ("a_hundred_at_the_same_time", Needs::Nothing, many),
    ("usage_is_counted", Needs::Nothing, usage),
    ("memory_can_be_limited", Needs::Root, memory_limit),
    ("the_machine_is_probed", Needs::Nothing, probing),
];

/// What this program does in another part than that of running tests.
pub(crate) fn play(role: &OsStr) {
    match role.to_str() {
        Some("calls") => isolation::make_calls(),
        Some("own file") => own_file::attack(),
        // Runs something that lasts, says its process id, and waits to be killed.
        Some("dbuild") => {
            let seconds = std::env::var("SECONDS").unwrap();
            let scene =
                Scene::sh(&format!("(setsid sleep {seconds} &); trap '' TERM INT HUP; sleep {seconds}"));
            let running = scene.spawn();
            say(&format!("{} {}", running.pid(), scene.path("").display()));
            let _ = std::io::stdin().read(&mut [0]);
        }
        other => panic!("no such part: {other:?}"),
    }
}

fn exit_codes() {
    for code in [0, 1, 3, 255] {
        let outcome = Scene::sh(&format!("exit {code}")).run();
        assert_eq!(outcome.exit.status, ExitStatus::Code(code));
    }
}

fn signals() {
    // PID 1 is spared by signals that it does not handle, so a child sends itself one.
    assert_eq!(Scene::sh("sh -c 'kill -SEGV $$'; exit $?").run().exit.status, ExitStatus::Code(139));
    let scene = Scene::sh("exec sleep 100");
    let running = scene.spawn();
    let pid = Pid::from_raw(i32::try_from(running.pid()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_eq!(running.wait().unwrap().status, ExitStatus::Signal(9));
}

fn output() {
    let outcome = Scene::sh("seq 1 200000; seq 1 200000 >&2").run();
    assert_eq!(outcome.stdout.lines().count(), 200_000);
    assert_eq!(outcome.stdout, outcome.stderr);
    let scene = Scene::sh("exit 4").with(|spec| spec.output = Output::Inherit);
    let mut running = scene.spawn();
    assert!(running.take_stdout().is_none() && running.take_terminal().is_none());
    assert_eq!(running.wait().unwrap().status.shell_code(), 4);
}

fn input() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let scene = Scene::sh("read line; echo got $line").with(|spec| {
        spec.stdin = Stdin::Fd(Arc::new(OwnedFd::from(reader)));
    });
    let running = scene.spawn();
    writer.write_all(b"this\n").unwrap();
    assert_eq!(finish(running).stdout, "got this\n");
}

fn daemons() {
    let start = Instant::now();
    // The daemon holds the pipes open; still they end with the first process.
    let outcome = Scene::sh("(setsid sleep 1000 &) ; echo done").run();
    assert_eq!(outcome.stdout, "done\n");
    assert!(start.elapsed() < Duration::from_secs(5));
}

fn kill() {
    let before = host_mounts();
    let scene = Scene::sh(
        "trap '' TERM INT; for i in 1 2 3; do (setsid sh -c 'trap \"\" TERM; sleep 1000' &); done; echo up; sleep 1000",
    )
    .with(|spec| spec.hosts = Some(b"x".to_vec()));
    let mut running = scene.spawn();
    let mut stdout = BufReader::new(std::fs::File::from(running.take_stdout().unwrap()));
    stdout.read_line(&mut String::new()).unwrap();
    let pidfd = open_pid(running.pid());

    let killer = running.killer();
    let start = Instant::now();
    std::thread::spawn(move || killer.kill());
    let exit = running.wait().unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(exit.status, ExitStatus::Signal(9));
    assert!(ends(&pidfd));
    assert_eq!(stdout.read_line(&mut String::new()).unwrap(), 0);
    assert_eq!(host_mounts(), before);
    assert!(names(&scene.upper("etc")).is_empty());
}

fn kill_late() {
    let running = Scene::sh("true").spawn();
    let (one, two) = (running.killer(), running.killer());
    running.wait().unwrap();
    one.kill();
    two.kill();
    two.kill();
}

fn drop_kills() {
    let scene = Scene::sh("sleep 1000");
    let running = scene.spawn();
    let pidfd = open_pid(running.pid());
    drop(running);
    // Not soon, but now: whoever drops it may remove its directories next.
    let mut polled = [PollFd::new(&pidfd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut polled, Some(&now)), Ok(1));
}

fn dies_with_dbuild() {
    // A number that nobody else sleeps for.
    let seconds = 100_000 + std::process::id();
    let mut dbuild = Command::new("/proc/self/exe")
        .env(ROLE, "dbuild")
        .env(BASE_OF_PARENT, base())
        .env("SECONDS", seconds.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(dbuild.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let (pid, dir) = line.trim().split_once(' ').unwrap();
    let pid: u32 = pid.parse().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let helper = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
    let (init, helper) = (open_pid(pid), open_pid(helper));

    dbuild.kill().unwrap();
    dbuild.wait().unwrap();
    assert!(ends(&init) && ends(&helper));
    let sleeping = std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        std::fs::read_to_string(entry.path().join("cmdline"))
            .is_ok_and(|line| line.contains(&seconds.to_string()))
    });
    assert!(!sleeping);
    std::fs::remove_dir_all(dir).unwrap();
}

fn open_pid(pid: u32) -> OwnedFd {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap()
}

/// Waits for the end of a process, two seconds at most.
fn ends(pidfd: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(pidfd, PollFlags::IN)];
    let limit = Timespec { tv_sec: 2, tv_nsec: 0 };
    rustix::event::poll(&mut polled, Some(&limit)) == Ok(1)
}

fn many() {
    let before = host_mounts();
    let threads: Vec<_> = (0..100)
        .map(|number| std::thread::spawn(move || Scene::sh(&format!("echo {number}")).output()))
        .collect();
    for (number, thread) in threads.into_iter().enumerate() {
        assert_eq!(thread.join().unwrap(), number.to_string());
    }
    assert_eq!(host_mounts(), before);
}

fn usage() {
    let exit = Scene::sh("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done").run().exit;
    assert!(exit.usage.user + exit.usage.system > Duration::from_millis(1), "{exit:?}");
    assert!(exit.usage.max_rss > 100_000, "{exit:?}");
    assert!(!exit.out_of_memory);
}

fn memory_limit() {
    let scene = Scene::sh("x=aaaaaaaa; while true; do x=$x$x; done").with(|spec| {
        spec.limits.memory = Some(32 << 20);
    });
    let running = scene.spawn();
    if let [note] = running.notes() {
        // A machine without control groups says so, and is not brought down.
        return assert!(note.contains("memory limit is not enforced"), "{note}");
    }
    let helper = std::fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
    let helper = helper.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().to_owned();
    let exit = finish(running).exit;
    assert!(exit.out_of_memory, "{exit:?}");
    assert!(!exit.status.success());
    let left =
        Command::new("find").args(["/sys/fs/cgroup", "-name"]).arg(format!("dbuild-{helper}")).output();
    assert_eq!(String::from_utf8(left.unwrap().stdout).unwrap(), "");
}

fn probing() {
    let before = host_mounts();
    let found = probe();
    for name in
        ["kernel", "identity", "sub-ids", "seccomp", "pidfd", "cgroup limits", "namespaces", "overlay"]
    {
        let capability = found.iter().find(|capability| capability.name == name).unwrap();
        assert!(capability.ok || capability.advice.is_some(), "{capability:?}");
        assert!(capability.ok || ["sub-ids", "cgroup limits"].contains(&name), "{capability:?}");
    }
    assert_eq!(host_mounts(), before);
    // A program that cannot be helped says what it lacks.
    assert!(SandboxError::HelperDied("is gone".into()).to_string().contains("helper process is gone"));
}
