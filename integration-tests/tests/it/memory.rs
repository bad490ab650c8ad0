//! What a large context takes of memory: bounds on the peak of a whole build, by the file.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use dbuild_integration_tests::TestSpace;
use tempfile::TempDir;

/// Fewer do not stand out from what varies between two builds.
const FILES: u64 = 20_000;

/// The peak of a build's resident memory in bytes. It only grows, so what it is at the last event
/// is as good as at the end.
fn peak(space: &TestSpace, context: &Path) -> u64 {
    let dockerfile = space.path("Dockerfile");
    let output = format!("type=oci,dest={}", space.path("image.tar").display());
    let mut build = space.dbuild(["build", "--progress", "rawjson", "-o", &output, "-f"]);
    build = build.args([&*dockerfile, context]);
    let mut child = build.into_command().stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    // Without root the work may be done by a child, which is the same program again.
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let mut peak = 0;
    let mut told = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let _ = writeln!(told, "{}", line.unwrap());
        let children = std::fs::read_to_string(&children).unwrap_or_default();
        let own = child.id().to_string();
        for pid in children.split_whitespace().chain([own.as_str()]) {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let resident = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
            let kib = resident.trim().trim_end_matches(" kB").parse().unwrap_or(0);
            peak = peak.max(kib * 1024);
        }
    }
    assert!(child.wait().unwrap().success(), "{told}");
    peak
}

/// A context is built, built again, and built once more after a change of one file.
fn peaks(space: &TestSpace, context: &Path, file: &str, changed: &str) -> [u64; 3] {
    let [cold, unchanged] = [(), ()].map(|()| peak(space, context));
    space.write(context.join(file), changed);
    [cold, unchanged, peak(space, context)]
}

#[test]
fn a_file_of_a_context_costs_less_than_a_kibibyte() {
    let space = TestSpace::offline();
    // Some file systems take seconds to make so many files soon after many were removed.
    let in_memory = Path::new("/dev/shm");
    let is_roomy = rustix::fs::statvfs(in_memory).is_ok_and(|fs| fs.f_bavail * fs.f_frsize > 512 << 20);
    let place = if is_roomy { in_memory.to_owned() } else { std::env::temp_dir() };
    let contexts = TempDir::with_prefix_in("dbuild-test-", place).unwrap();
    let [small_context, large_context] = ["small", "large"].map(|name| contexts.path().join(name));
    space.write("Dockerfile", "FROM scratch\nCOPY . /app\n");
    // Enough for what packs a layer to be at work.
    let text: String = (0..2_000_000_u32).map(|number| format!("{number:x} ")).collect();
    space.write(small_context.join("file"), &text);
    for number in 0..FILES {
        let file = format!("dir{:03}/file{number:05}", number / 100);
        space.write(large_context.join(file), format!("content {number}\n"));
    }
    let small = peaks(&space, &small_context, "file", &text[1..]);
    let large = peaks(&space, &large_context, "dir100/file10000", "other content");
    let [cold, unchanged, changed] = [0, 1, 2].map(|case| large[case].saturating_sub(small[case]) / FILES);
    let all = format!("{small:?} for one file, and for each of {FILES} {cold}, {unchanged}, {changed}");
    // Measured, with what the allocator happens to keep: 680 to 800, 480 to 570, 390 to 570.
    assert!(cold < 1024 && unchanged < 800 && changed < 800, "{all}");
}
