//! The commands about images and the store.

use dbuild_integration_tests::TestSpace;

fn space_with_an_image() -> TestSpace {
    let space = TestSpace::new();
    space.build("FROM busybox\nRUN echo content > /file\nCMD cat /file\n", [""; 0]).run().expect_ok();
    space
}

#[test]
fn images_are_listed_named_and_removed() {
    let space = space_with_an_image();
    space.dbuild(["images"]).run().expect_ok().stdout_has(&["app"]);
    space.dbuild(["tag", "app", "other:2"]).run().expect_ok();
    let listed = space.dbuild(["images", "--json"]).run().expect_ok().json();
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
    space.dbuild(["rm", "app"]).run().expect_ok();
    assert_eq!(space.run_in("other:2", &[]), "content\n");
    space.dbuild(["run", "app"]).run().expect_code(1).stderr_has(&["app"]);
    space.dbuild(["rm", "no-such-image"]).run().expect_code(1).stderr_has(&["no-such-image"]);
}

#[test]
fn an_image_is_inspected_as_json() {
    let space = space_with_an_image();
    let text = space.dbuild(["inspect", "app"]).run().expect_ok().json().to_string();
    assert!(text.contains("cat /file"), "{text}");
}

#[test]
fn run_passes_on_the_command_and_its_end() {
    let space = space_with_an_image();
    assert_eq!(space.run_in("app", &["sh", "-c", "echo $0 $1", "a", "b c"]), "a b c\n");
    space
        .dbuild(["run", "app", "sh", "-c", "echo out; echo err >&2; exit 3"])
        .run()
        .expect_code(3)
        .stdout_has(&["out"])
        .stderr_has(&["err"]);
    space.dbuild(["run", "app", "no-such-program"]).run().expect_code(127).stderr_has(&["no-such-program"]);
    space.dbuild(["run", "app", "/file"]).run().expect_code(126).stderr_has(&["/file"]);
    // What comes after the image is the command's, also where dbuild knows such a flag.
    assert_eq!(space.run_in("app", &["echo", "--help", "-e", "A=1"]), "--help -e A=1\n");
    // A directory to start in is made, as in Docker.
    assert_eq!(
        space.dbuild(["run", "-w", "/new/place", "app", "pwd"]).run().expect_ok().stdout,
        "/new/place\n"
    );
    // What a container writes is thrown away.
    space.run_in("app", &["sh", "-c", "echo changed > /file"]);
    assert_eq!(space.run_in("app", &[]), "content\n");
}

#[test]
fn the_cache_is_measured_and_pruned() {
    let space = space_with_an_image();
    space.dbuild(["cache", "du"]).run().expect_ok();
    space.dbuild(["rm", "app"]).run().expect_ok();
    space.dbuild(["cache", "prune", "--all"]).run().expect_ok();
    // The next build starts anew, and finds nothing broken.
    let build = space.build("FROM busybox\nRUN echo content > /file\nCMD cat /file\n", [""; 0]);
    build.run().expect_ok().lacks(&["CACHED"]);
    assert_eq!(space.run_in("app", &[]), "content\n");
}

#[test]
fn a_quiet_build_prints_the_id_and_nothing_else() {
    let space = TestSpace::new();
    let outcome = space.build("FROM busybox\nRUN echo noise\n", ["-q"]).run().expect_ok().lacks(&["noise"]);
    assert!(outcome.stdout.trim().starts_with("sha256:"), "{outcome}");
    assert_eq!(outcome.stdout.lines().count(), 1, "{outcome}");
    assert_eq!(outcome.stderr, "", "{outcome}");
}

#[test]
fn raw_json_is_one_object_a_line() {
    let space = TestSpace::new();
    // What is said before the build begins, too.
    let words = ["--progress", "rawjson", "--memory", "1g", "--build-arg", "UNUSED=1"];
    let outcome = space.build("FROM busybox\nRUN echo noise\n", words).run().expect_ok();
    let outcome = outcome.stderr_has(&["`--memory` has no effect"]);
    assert!(outcome.stderr.lines().count() > 3, "{outcome}");
    for line in outcome.stderr.lines() {
        assert!(
            serde_json::from_str::<serde_json::Value>(line).is_ok_and(|value| value.is_object()),
            "{line}"
        );
    }
}

#[test]
fn plain_progress_says_what_was_shipped_and_left() {
    let space = TestSpace::new();
    let dockerfile = "\
FROM busybox AS builder
RUN head -c 100000 /dev/urandom > /rubbish; echo output-of-a-step; echo small > /small
FROM scratch
COPY --from=builder /small /small
";
    let outcome = space.build(dockerfile, [""; 0]).run().expect_ok();
    let outcome = outcome.stderr_has(&["output-of-a-step", "builder", "app", "sha256:"]);
    let tail: Vec<&str> = outcome.stderr.lines().rev().take(7).collect();
    assert!(tail.iter().any(|line| line.contains("builder")), "one line a stage\n{outcome}");
}

#[test]
fn help_and_version() {
    let space = TestSpace::offline();
    space.dbuild(["--version"]).run().expect_ok().stdout_has(&["dbuild "]);
    space.dbuild(["build", "--help"]).run().expect_ok().stdout_has(&[
        "--target",
        "--build-arg",
        "--output",
        "--progress",
    ]);
}

#[test]
fn the_demo_needs_no_registry() {
    let space = TestSpace::offline();
    // The store of the command line is that of all that the demo starts.
    let words = ["--store", "another-store", "demo"];
    space.dbuild(words).run().expect_ok().stdout_has(&["Pages of this site"]).lacks(&["panicked"]);
    assert!(space.path("dbuild-demo/Dockerfile").exists());
    assert!(space.path("another-store/index.json").exists() && !space.path("store").exists());
}
