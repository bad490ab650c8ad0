//! A build that is interrupted ends as a whole, leaves nothing behind and loses nothing that was
//! done.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use dbuild_digest::BlobDigest;
use dbuild_integration_tests::{Background, TestSpace, WebFile, WebServer};
use rustix::process::Signal;

/// Two steps: one that is done, one that never ends. The marker is a word of the endless one's
/// command line.
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

/// Sends half of a body of this size to whoever asks, says so, and then nothing more. Gives where
/// it listens.
fn half_a_body(size: usize, hangs: mpsc::Sender<()>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // An answer that comes before its question is none.
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
        stream.write_all(&[head.as_bytes(), &vec![0; size / 2]].concat()).unwrap();
        hangs.send(()).unwrap();
        // Until the other side goes away.
        while stream.read(&mut [0; 4096]).is_ok_and(|got| got > 0) {}
    });
    address
}

#[test]
fn a_signal_ends_a_download_that_hangs() {
    let (space, server) = (TestSpace::new(), WebServer::start());
    let (sender, hangs) = mpsc::channel();
    let size = 4 << 20;
    let elsewhere = half_a_body(size, sender);
    let layer = BlobDigest::of(b"a layer that never comes");
    let config = serde_json::json!({
        "os": "linux", "architecture": std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64"),
        "rootfs": {"type": "layers", "diff_ids": [layer]},
    });
    let config = config.to_string();
    let of = |kind: &str, digest: BlobDigest, size: usize| serde_json::json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": size});
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": of("config.v1+json", BlobDigest::of(config.as_bytes()), config.len()),
        "layers": [of("layer.v1.tar", layer, size)],
    });
    let to_half = WebFile::new("").status(307).with("Location", format!("http://{elsewhere}/"));
    server.put(&format!("/v2/app/blobs/{layer}"), to_half);
    server.put(&format!("/v2/app/blobs/{}", BlobDigest::of(config.as_bytes())), WebFile::new(config));
    let manifest = WebFile::new(manifest.to_string());
    let manifest = manifest.with("Content-Type", "application/vnd.oci.image.manifest.v1+json");
    server.put("/v2/app/manifests/latest", manifest);

    let dockerfile = format!("FROM {}/app\nRUN true\n", server.address());
    let build = Background::start(space.build(&dockerfile, [""; 0]).into_command());
    hangs.recv_timeout(Duration::from_secs(60)).unwrap();
    let sent = Instant::now();
    build.signal(Signal::INT);
    let (status, output) = build.wait();
    assert!(sent.elapsed() < Duration::from_secs(2), "it took {:?}", sent.elapsed());
    assert_eq!(status.code(), Some(130), "{output}");
    // What a thread still held at the end is swept by whoever opens the store next.
    space.dbuild(["images"]).run().expect_ok();
    for room in ["tmp", "snapshots"] {
        let left: Vec<_> = std::fs::read_dir(space.path("store").join(room)).unwrap().flatten().collect();
        assert!(left.is_empty(), "{room}: {left:?}");
    }
    assert!(!space.path(format!("store/blobs/sha256/{}", layer.hex())).exists());
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
