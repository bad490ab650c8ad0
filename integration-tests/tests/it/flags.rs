//! Flags that scripts of `docker build` carry along.

use dbuild_integration_tests::TestSpace;

#[test]
fn limits_of_steps() {
    let space = TestSpace::new();
    let text = "FROM busybox\nRUN ulimit -n && ulimit -Hn && df -k /dev/shm | tail -n 1\n";
    let args = ["--ulimit", "nofile=100:200", "--shm-size", "8m"];
    space.build(text, args).run().expect_ok().stderr_has(&["100\n", "200\n", " 8192 "]);
    let wrong = space.build(text, ["--ulimit", "files=1"]).run();
    wrong.expect_code(2).stderr_has(&["there is no limit `files`", "nofile"]);
    space.build(text, ["--shm-size", "much"]).run().expect_code(2).stderr_has(&["such as 64m"]);
}

#[test]
fn what_is_so_anyway_is_accepted_and_what_has_no_effect_is_said() {
    let space = TestSpace::offline();
    let text = "FROM scratch\nCOPY Dockerfile /\n";
    let silent =
        ["--rm", "--force-rm", "--compress", "--provenance=false", "--sbom=false", "--isolation", "default"];
    space.build(text, silent).run().expect_ok().lacks(&["warning"]);
    space.build(text, ["--rm=true", "--attest", "type=provenance,disabled=true"]).run().expect_ok();
    let limits = space.build(text, ["--memory", "1g", "--cpuset-cpus", "0"]).run().expect_ok();
    limits.stderr_has(&["--memory has no effect", "--cpuset-cpus has no effect"]);
}

#[test]
fn what_would_give_another_image_is_refused() {
    let space = TestSpace::offline();
    for (flag, words) in [
        ("--squash", "COPY --from="),
        ("--cgroup-parent=x", "systemd-run"),
        ("--security-opt=seccomp=unconfined", "RUN --security=insecure"),
        ("--provenance=mode=max", "attestations are not supported"),
        ("--sbom", "attestations are not supported"),
        ("--attest=type=sbom", "attestations are not supported"),
    ] {
        space.build("FROM scratch\n", [flag]).run().expect_code(2).stderr_has(&[words]);
    }
}

#[test]
fn annotations_are_written() {
    let space = TestSpace::offline();
    let args = ["--annotation", "org.example.a=b", "--annotation", "manifest:c=d"];
    space.build("FROM scratch\nCOPY Dockerfile /\n", args).run().expect_ok();
    space.dbuild(["inspect", "app"]).run().expect_ok().stdout_has(&["org.example.a", "\"d\""]);
    let wrong = space.build("FROM scratch\n", ["--annotation", "image:a=b"]).run();
    wrong.expect_code(2).stderr_has(&["a level is manifest"]);
}

#[test]
fn an_ssh_agent_is_there_for_its_step_and_in_no_layer() {
    let space = TestSpace::new();
    let socket = space.path("agent");
    let agent = std::os::unix::net::UnixListener::bind(&socket).expect("a socket can be made");
    let text = "FROM busybox\nRUN --mount=type=ssh test -S /run/buildkit/ssh_agent.0 && echo \"<$SSH_AUTH_SOCK>\"\n\
                RUN --mount=type=ssh,id=other,target=/x/s,required test -S /x/s && echo \"<$SSH_AUTH_SOCK>\"\n\
                RUN test ! -e /x && test ! -e /run/buildkit && echo \"<$SSH_AUTH_SOCK>\"\n";
    let (first, other) = (format!("default={}", socket.display()), format!("other={}", socket.display()));
    let done = space.build(text, ["--ssh", &first, "--ssh", &other]).run().expect_ok();
    done.stderr_has(&["</run/buildkit/ssh_agent.0>", "</x/s>", "<>"]);
    let paths = dbuild_integration_tests::Unpacked::new(&space, "app").paths();
    assert!(paths.iter().all(|path| !path.contains("ssh_agent") && path != "/x"), "{paths:?}");
    // Without an agent only a step that requires one fails.
    let text = "FROM busybox\nRUN --mount=type=ssh true\nRUN --mount=type=ssh,id=other,required true\n";
    space.build(text, [""; 0]).run().expect_code(1).stderr_has(&["context/Dockerfile:3", "--ssh other"]);
    drop(agent);
}

#[test]
fn a_key_is_not_taken_for_an_agent() {
    let space = TestSpace::offline();
    let key = space.write("id_ed25519", "-----BEGIN OPENSSH PRIVATE KEY-----\n");
    let failed = space.build("FROM scratch\n", ["--ssh", &format!("default={}", key.display())]).run();
    failed.expect_code(2).stderr_has(&["is not the socket of an agent", "ssh-add"]);
    let missing = space.build("FROM scratch\n", ["--ssh", "default=/no/such/agent"]).run();
    missing.expect_code(1).stderr_has(&["/no/such/agent"]);
    space
        .build("FROM scratch\n", ["--ssh", "default"])
        .run()
        .expect_code(2)
        .stderr_has(&["SSH_AUTH_SOCK is not set"]);
}

#[test]
fn the_gateway_to_the_host_is_the_host_itself() {
    let space = TestSpace::new();
    let text = "FROM busybox\nRUN tail -n 3 /etc/hosts | tr '\\t' ' '\n";
    let hosts = [
        "--add-host",
        "host.docker.internal:host-gateway",
        "--add-host",
        "db=10.1.2.3",
        "--add-host",
        "six:[::2]",
    ];
    let told = ["127.0.0.1 host.docker.internal", "10.1.2.3 db", "::2 six"];
    space.build(text, hosts).run().expect_ok().stderr_has(&told);
    let wrong = space.build(text, ["--add-host", "db:host-gatewy"]).run();
    wrong.expect_code(2).stderr_has(&["expected HOST:IP", "host-gateway"]);
}
