//! Flags that scripts of `docker build` carry along.

use dbuild_integration_tests::{TestSpace, WebFile, WebServer};

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
    let silent = [
        "--rm",
        "--force-rm",
        "--compress",
        "--provenance=false",
        "--sbom=false",
        "--isolation",
        "default",
        "--squash=false",
        "--cache-from=",
    ];
    space.build(text, silent).run().expect_ok().lacks(&["warning"]);
    space.build(text, ["--rm=true", "--attest", "type=provenance,disabled=true"]).run().expect_ok();
    let limits = space.build(text, ["--memory", "1g", "--cpuset-cpus", "0"]).run().expect_ok();
    limits.stderr_has(&["`--memory` has no effect", "`--cpuset-cpus` has no effect"]);
}

#[test]
fn what_would_give_another_image_is_refused() {
    let space = TestSpace::offline();
    for (flag, words) in [
        ("--squash", "COPY --from="),
        ("--cgroup-parent=x", "systemd-run"),
        ("--security-opt=seccomp=unconfined", "RUN --security=insecure"),
        ("--provenance=mode=max", "attestations are not supported"),
        ("--sbom=generator=x", "attestations are not supported"),
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

/// A value after a blank belongs to a flag of text and not to a switch, as Go's flags have it.
#[test]
fn values_after_a_blank_are_where_gos_flags_have_them() {
    let space = TestSpace::offline();
    let text = "FROM scratch\nCOPY Dockerfile /\n";
    space.build(text, ["--provenance", "false", "--sbom", "false"]).run().expect_ok().lacks(&["warning"]);
    space
        .build(text, ["--sbom", "true"])
        .run()
        .expect_code(2)
        .stderr_has(&["`--sbom` asks for an attestation"]);
    // The context is taken for its value.
    space.build(text, ["--provenance"]).run().expect_code(2).stderr_has(&["CONTEXT"]);
    space.build(text, ["--pull", "false"]).run().expect_code(2).stderr_has(&["unexpected argument"]);
}

#[test]
fn booleans_are_gos() {
    let space = TestSpace::offline();
    let text = "FROM scratch\nCOPY Dockerfile /\n";
    let off = ["--no-cache=F", "--load=0", "--push=false", "--quiet=FALSE", "--check=f", "--pull=1"];
    let done = space.build(text, off).args(["--label", "a=b"]).run().expect_ok();
    done.stderr_has(&["digest:"]);
    space.dbuild(["inspect", "app"]).run().expect_ok().stdout_has(&["\"a\": \"b\""]);
    let quiet = space.build(text, ["-q", "--no-cache=True"]).run().expect_ok();
    assert!(quiet.stdout.starts_with("sha256:"), "{quiet}");
    let wrong = space.build(text, ["--no-cache=yes"]).run();
    wrong.expect_code(2).stderr_has(&["--no-cache", "expected true or false"]);
}

#[test]
fn hosts_are_a_list() {
    let space = TestSpace::new();
    let text = "FROM busybox\nRUN tail -n 3 /etc/hosts | tr '\\t' ' '\n";
    let hosts = ["--add-host", "a:10.0.0.1,\"b=::2\"", "--add-host", "c:10.0.0.3"];
    space.build(text, hosts).run().expect_ok().stderr_has(&["10.0.0.1 a", "::2 b", "10.0.0.3 c"]);
    let wrong = space.build(text, ["--add-host", "a:10.0.0.1,b"]).run();
    wrong.expect_code(2).stderr_has(&["`--add-host b`: expected HOST:IP"]);
}

/// One parser for all of them: an element that holds a comma stands in quotes.
#[test]
fn lists_are_csv() {
    let space = TestSpace::new();
    space.write("a,b", "the value");
    let text = "FROM busybox\nRUN --mount=type=secret,id=x,target=/s cat /s; echo\n";
    let secret = "type=file,\"id=x\",\"src=a,b\"";
    space.build(text, ["--secret", secret]).run().expect_ok().stderr_has(&["the value"]);
    let out = ["--output", "type=tar,\"dest=o,\"\"p\"\".tar\""];
    space.build("FROM scratch\nCOPY Dockerfile /\n", out).run().expect_ok();
    assert!(space.path("o,\"p\".tar").is_file());
    for (flag, value, words) in [
        ("--secret", "id=a,\"src=b", "this quote is never closed"),
        ("--secret", "id=\"a\"", "a quote stands inside"),
        ("--ssh", "\"default", "this quote is never closed"),
        ("--output", "type=tar,\"dest=x\"y", "a quoted element ends before a comma"),
        ("--cache-to", "type=local,\"dest=x", "this quote is never closed"),
        ("--attest", "\"type=sbom", "this quote is never closed"),
        ("--add-host", "\"a:1.2.3.4", "this quote is never closed"),
        ("--call", "\"check", "this quote is never closed"),
    ] {
        space.build("FROM scratch\n", [flag, value]).run().expect_code(2).stderr_has(&[words, flag]);
    }
}

#[test]
fn an_empty_target_is_none_and_an_empty_file_the_default() {
    let space = TestSpace::offline();
    let text = "FROM scratch AS a\nCOPY missing /\nFROM scratch\nCOPY Dockerfile /fin\n";
    space
        .build(text, ["--target", "", "-f", "", "--platform", "", "-o", "", "--secret=", "--add-host", ""])
        .run()
        .expect_ok();
    space.build(text, ["--target=", "--call", "outline"]).run().expect_ok();
}

#[test]
fn a_dockerfile_in_lower_case_is_read_where_there_is_no_other() {
    let space = TestSpace::offline();
    space.write("lower/dockerfile", "FROM scratch\nLABEL case=lower\n");
    let build = |args: &[&str]| space.dbuild(["build", "-t", "app"]).args(args).run();
    let case = || space.dbuild(["inspect", "app"]).run().expect_ok().stdout;
    build(&["lower"]).expect_ok().stderr_has(&["digest"]);
    assert!(case().contains("lower"));
    build(&["-f", "lower/Dockerfile", "lower"]).expect_ok();
    space.write("lower/Dockerfile", "FROM scratch\nLABEL case=upper\n");
    build(&["lower"]).expect_ok();
    assert!(case().contains("upper"), "the usual name goes first");
    build(&["-f", "lower/other", "lower"])
        .expect_code(1)
        .stderr_has(&["there is no Dockerfile at lower/other"]);
}

#[test]
fn platforms_of_the_environment() {
    let space = TestSpace::offline();
    let text = "FROM scratch\nARG TARGETPLATFORM\nLABEL p=$TARGETPLATFORM\n";
    let platform = |build: dbuild_integration_tests::Dbuild| {
        build.run().expect_ok();
        space.dbuild(["inspect", "app"]).run().expect_ok().stdout
    };
    let arm = platform(space.build(text, [""; 0]).env("DOCKER_DEFAULT_PLATFORM", "linux/arm64"));
    assert!(arm.contains("linux/arm64"), "{arm}");
    let flag = space.build(text, ["--platform", "linux/s390x"]).env("DOCKER_DEFAULT_PLATFORM", "linux/arm64");
    assert!(platform(flag).contains("linux/s390x"), "the flag goes first");
    let own = platform(space.build(text, [""; 0]).env("DOCKER_DEFAULT_PLATFORM", ""));
    assert_eq!(own, platform(space.build(text, ["--platform", "local"])));
    let windows = space.build(text, [""; 0]).env("DOCKER_DEFAULT_PLATFORM", "windows/amd64").run();
    windows.expect_code(2).stderr_has(&["Linux images only"]);
}

#[test]
fn variables_of_the_view() {
    let space = TestSpace::offline();
    let text = "FROM scratch\nCOPY Dockerfile /\n";
    let build = |mode: &str| {
        space.write("context/Dockerfile", text);
        space.dbuild(["build", "-t", "app", "context"]).env("BUILDKIT_PROGRESS", mode).run()
    };
    let json = build("rawjson").expect_ok();
    assert!(json.stderr.starts_with('{') || json.stdout.starts_with('{'), "{json}");
    build("").expect_ok().stderr_has(&["digest:"]);
    let quiet = build("none").expect_ok();
    assert!(quiet.stdout.starts_with("sha256:") && quiet.stderr.is_empty(), "{quiet}");
    build("loud")
        .expect_code(2)
        .stderr_has(&["`--progress", "BUILDKIT_PROGRESS"].map(|word| word.trim_start_matches('`')));
    // What there is no word for in the view is said.
    let told = space.build(text, [""; 0]).env("BUILDKIT_COLORS", "run=red").env("DOCKER_BUILDKIT", "1").run();
    told.expect_ok().stderr_has(&["warning: `BUILDKIT_COLORS` has no effect"]).lacks(&["DOCKER_BUILDKIT"]);
}

#[test]
fn images_of_windows_are_refused() {
    let space = TestSpace::offline();
    for (text, line) in [
        ("FROM --platform=windows/amd64 example/nano\nRUN dir\n", "context/Dockerfile:1"),
        (
            "FROM scratch AS a\nFROM --platform=windows/arm64 x AS b\nFROM a\nCOPY --from=b / /\n",
            "context/Dockerfile:2",
        ),
    ] {
        let told = space.build(text, [""; 0]).run().expect_code(1);
        told.stderr_has(&["the platform `windows/", "is not supported", line, "Linux images only"]);
    }
    // Nobody needs it.
    let unneeded = "FROM --platform=windows/amd64 x AS b\nFROM scratch\nCOPY Dockerfile /\n";
    space.build(unneeded, [""; 0]).run().expect_ok();
}

/// `--check` and its like build nothing, and the same words count.
#[test]
fn what_is_not_done_is_said_wherever_flags_of_a_build_are_taken() {
    let space = TestSpace::offline();
    space.write("context/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    for command in [&["plan"][..], &["graph"], &["build", "--check"], &["build", "--call", "targets"]] {
        let call = |flag: &str| space.dbuild(command).args([flag, "context"]).run();
        call("--squash").expect_code(2).stderr_has(&["`--squash` is not supported"]);
        call("--isolation=x").expect_ok().stderr_has(&["warning: `--isolation` has no effect"]);
    }
}

#[test]
fn variables_of_docker_reach_its_command() {
    let space = TestSpace::offline();
    let names = ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CERT_PATH", "DOCKER_TLS", "DOCKER_TLS_VERIFY"];
    let script = format!("#!/bin/sh\ncat > /dev/null\nenv > {}\n", space.path("seen").display());
    let docker = space.write("bin/docker", script);
    std::fs::set_permissions(&docker, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", space.path("bin").display(), std::env::var("PATH").unwrap_or_default());
    let call = space.build("FROM scratch\nCOPY Dockerfile /\n", ["--load"]).env("PATH", path);
    names.into_iter().fold(call, |call, name| call.env(name, format!("of-{name}"))).run().expect_ok();
    let seen = space.read("seen");
    for name in names {
        assert!(seen.contains(&format!("{name}=of-{name}\n")), "{name}: {seen}");
    }
}

#[test]
fn credentials_may_be_in_a_variable() {
    let server = WebServer::start();
    let space = TestSpace::offline();
    let challenge = WebFile::new("").status(401).with("WWW-Authenticate", "Basic realm=\"x\"");
    for path in ["/v2/", "/v2/app/manifests/1"] {
        server.put(path, challenge.clone());
    }
    let address = server.address();
    // bob:two
    let config = format!("{{\"auths\":{{\"{address}\":{{\"auth\":\"Ym9iOnR3bw==\"}}}}}}");
    let text = format!("FROM {address}/app:1\n");
    let told = space.build(&text, [""; 0]).env("DOCKER_AUTH_CONFIG", &config).run().expect_code(1);
    let given =
        server.take_requests().iter().any(|request| format!("{request:?}").contains("Basic Ym9iOnR3bw=="));
    assert!(given, "{told}");
    told.lacks(&["Ym9iOnR3bw"]);
    space.build(&text, [""; 0]).run().expect_code(1);
    let anonymous = server.take_requests().iter().all(|request| !format!("{request:?}").contains("Basic "));
    assert!(anonymous, "without it nobody is told anything");
}
