//! Layers that are packed from the context, and not written to the store as files.

use std::path::Path;

use dbuild_integration_tests::{TestSpace, Unpacked};

const FILES: usize = 250;
const COPIED: &str = "FROM busybox\nCOPY files /app\nCMD [\"/app/start.sh\"]\n";

fn space() -> TestSpace {
    let space = TestSpace::new();
    for number in 0..FILES {
        space.write(format!("context/files/d{}/copied{number}", number % 5), format!("file {number}\n"));
    }
    let script = space.write("context/files/start.sh", "#!/bin/sh\ncat /app/d3/copied8\n");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(script, executable).unwrap();
    space
}

/// The files of contexts that are in the store.
fn written(space: &TestSpace) -> usize {
    fn count(dir: &Path) -> usize {
        std::fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| match entry.file_type() {
                Ok(kind) if kind.is_dir() => count(&entry.path()),
                _ => usize::from(entry.file_name().to_string_lossy().starts_with("copied")),
            })
            .sum()
    }
    count(&space.path("store/snapshots"))
}

#[test]
fn the_image_is_whole_and_runs_and_tells_whether_it_starts() {
    let space = space();
    space.build(COPIED, [""; 0]).run().expect_ok().stderr_has(&["starts: "]).lacks(&["will not start"]);
    assert_eq!(written(&space), 0);
    let image = Unpacked::new(&space, "app");
    for number in 0..FILES {
        assert_eq!(image.read(&format!("/app/d{}/copied{number}", number % 5)), format!("file {number}\n"));
    }
    // Another command is another question, and the script is read where it is.
    let changed = COPIED.replace("CMD [\"/app/start.sh\"]", "ENV X=1\nCMD [\"/app/start.sh\", \"x\"]");
    let again = space.build(&changed, [""; 0]).run().expect_ok().stderr_has(&["CACHED", "starts: "]);
    assert!(
        again.stderr.contains("starts: /bin/sh") || again.stderr.contains("start.sh"),
        "{}",
        again.stderr
    );
    assert_eq!(written(&space), 0);
    assert_eq!(space.run_in("app", &[]), "file 8\n");
}

#[test]
fn later_builds_that_need_the_files_find_the_step_done() {
    let space = space();
    space.build(COPIED, [""; 0]).run().expect_ok();
    assert_eq!(written(&space), 0);

    // Another form of the layer.
    let zstd = ["-o", "type=oci,dest=zstd,tar=false,compression=zstd,name=app"];
    space.build(COPIED, zstd).run().expect_ok().stderr_has(&["CACHED"]);
    assert_eq!(written(&space), 0);

    // A command that reads them.
    let run = COPIED.replace("CMD", "RUN cat /app/d1/copied1 > /one\nCMD");
    space.build(&run, [""; 0]).run().expect_ok().stderr_has(&["COPY files /app\n#2 CACHED"]);
    assert_eq!(space.run_in("app", &["cat", "/one"]), "file 1\n");
    assert_eq!(written(&space), FILES);

    // The files themselves.
    space.build(COPIED, ["-o", "out"]).run().expect_ok();
    assert_eq!(space.read("out/app/d2/copied7"), "file 7\n");
    space.dbuild(["cache", "verify"]).run().expect_ok();
}

#[test]
fn a_command_that_mounts_a_stage_has_its_files() {
    let space = space();
    let dockerfile = "FROM scratch AS s\nCOPY files /s\nFROM busybox\nCOPY --from=s /s/d1 /d1\n\
                      RUN --mount=from=s,target=/mnt cat /mnt/s/d1/copied6 > /six\nCMD cat /six\n";
    space.build(dockerfile, [""; 0]).run().expect_ok();
    assert_eq!(space.run_in("app", &[]), "file 6\n");
}

#[test]
fn with_and_without_files_the_image_has_one_digest() {
    let digest = |words: &[&str]| {
        let space = TestSpace::new();
        for number in 0..FILES {
            let file = space.write(format!("context/copied{number}"), format!("file {number}\n"));
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
            std::fs::File::open(file).unwrap().set_modified(time).unwrap();
        }
        let words = [words, &["--iidfile", "iid"]].concat();
        let dockerfile = "FROM scratch\nCOPY copied* /\n";
        space.build(dockerfile, words).env("SOURCE_DATE_EPOCH", "1700000000").run().expect_ok();
        (space.read("iid"), written(&space))
    };
    let (alone, none) = digest(&["-o", "type=oci,dest=a"]);
    let (with_files, all) = digest(&["-o", "type=oci,dest=a", "-o", "type=local,dest=b"]);
    assert_eq!((none, all), (0, FILES));
    assert_eq!(alone, with_files);
}

#[test]
fn an_owner_by_name_is_looked_up_in_a_layer_that_came_from_the_context() {
    let space = space();
    space.write("context/files/etc/passwd", "ann:x:12:34::/:/bin/sh\n");
    space.write("context/mine", "x\n");
    let dockerfile = "FROM busybox\nCOPY files /\nCOPY --chown=ann mine /mine\nCMD stat -c %u:%g /mine\n";
    space.build(dockerfile, [""; 0]).run().expect_ok();
    assert_eq!(space.run_in("app", &[]), "12:34\n");
}

#[test]
fn a_shell_of_a_past_build_unpacks_what_was_not_written() {
    let space = space();
    space.build(COPIED, [""; 0]).run().expect_ok();
    assert_eq!(written(&space), 0);
    let words = ["shell", "#2", "-c", "cat /app/d4/copied9"];
    space.dbuild(words).run().expect_ok().stdout_has(&["file 9\n"]);
    assert_eq!(written(&space), FILES);
    space.dbuild(["cache", "verify"]).run().expect_ok();
}
