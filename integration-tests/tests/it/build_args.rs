//! Build arguments that speak to the builder: `BUILDKIT_…`.

use dbuild_integration_tests::{GitServer, TestSpace};

#[test]
fn the_host_name_can_be_given() {
    let space = TestSpace::new();
    let text = "FROM busybox\nRUN echo \"<$(hostname)>\" && grep -c 127.0.0.1.*\"$(hostname)\" /etc/hosts\n";
    space.build(text, [""; 0]).run().expect_ok().stderr_has(&["<dbuild>"]);
    let named =
        |name: &str| space.build(text, ["--build-arg", &format!("BUILDKIT_SANDBOX_HOSTNAME={name}")]).run();
    // A command can ask for it, so it is another step.
    named("one").expect_ok().stderr_has(&["<one>"]).lacks(&["warning"]);
    named("one").expect_ok().stderr_has(&["CACHED"]).lacks(&["<one>"]);
    named("two").expect_ok().stderr_has(&["<two>"]);
    named("").expect_ok().stderr_has(&["CACHED"]);
    for wrong in ["two words", &"a".repeat(65)] {
        named(wrong).expect_code(2).stderr_has(&["BUILDKIT_SANDBOX_HOSTNAME=", "is not a valid host name"]);
    }
}

#[test]
fn cache_mounts_have_name_spaces() {
    let space = TestSpace::new();
    let text = |number: u32| {
        format!(
            "FROM busybox\nRUN --mount=type=cache,target=/c echo x >> /c/f; echo {number} $(cat /c/f | wc -l) >&2\n"
        )
    };
    let build = |number: u32, namespace: &str| {
        let arg = format!("BUILDKIT_CACHE_MOUNT_NS={namespace}");
        space.build(&text(number), ["--build-arg", &arg]).run().expect_ok()
    };
    build(1, "").stderr_has(&["1 1\n"]);
    build(2, "team").stderr_has(&["2 1\n"]).lacks(&["warning"]);
    build(3, "").stderr_has(&["3 2\n"]);
    build(4, "team").stderr_has(&["4 2\n"]);
    build(5, "other").stderr_has(&["5 1\n"]);
}

#[test]
fn the_git_directory_of_a_context_is_kept() {
    let space = TestSpace::offline();
    let server = GitServer::start(&space.path("git"));
    let text = "FROM scratch\nCOPY . /\n";
    server.repository("app.git").commit(&[("Dockerfile", text), ("sub/Dockerfile", text)]);
    let built = |context: &str, value: &str| {
        let arg = format!("BUILDKIT_CONTEXT_KEEP_GIT_DIR={value}");
        let out = format!("out-{}-{value}", context.len());
        let words = ["build", "--build-arg", &arg, "-o", &out, context];
        space.dbuild(words).run().expect_ok().lacks(&["warning"]);
        space.path(out).join(".git").exists()
    };
    let url = server.url("app.git");
    assert!(!built(&url, "0"));
    assert!(built(&url, "1"));
    assert!(!built(&url, "maybe"), "what is no truth says nothing, as in BuildKit");
    assert!(!built(&format!("{url}#:sub"), "1"), "a directory of a repository is no repository");
}

#[test]
fn the_built_in_frontend_has_a_name() {
    let space = TestSpace::offline();
    let text = "# syntax=example/other\nFROM scratch\nCOPY Dockerfile /\n";
    let build = |value: &str| space.build(text, ["--build-arg", &format!("BUILDKIT_SYNTAX={value}")]).run();
    build("dockerfile.v0").expect_ok().lacks(&["warning"]);
    build("docker/dockerfile:1").expect_ok().lacks(&["warning"]);
    build("example/third").expect_ok().stderr_has(&["the frontend `example/third` is not used"]);
    build("").expect_ok().stderr_has(&["the frontend `example/other` is not used"]);
}

#[test]
fn what_is_known_and_does_nothing_is_said_and_a_slip_of_the_finger_is_named() {
    let space = TestSpace::offline();
    let text = "FROM scratch\nCOPY Dockerfile /\n";
    let build = |arg: &str| space.build(text, ["--build-arg", arg]).run();
    build("BUILDKIT_INLINE_CACHE=1").expect_ok().stderr_has(&["`BUILDKIT_INLINE_CACHE` has no effect yet"]);
    build("BUILDKIT_INLINE_CACHE=0").expect_ok().lacks(&["warning"]);
    build("BUILDKIT_ATTEST_SBOM=").expect_ok().lacks(&["warning"]);
    build("BUILDKIT_SANDBOX_HOSTNAM=x")
        .expect_ok()
        .stderr_has(&["did you mean `BUILDKIT_SANDBOX_HOSTNAME`?"]);
}
