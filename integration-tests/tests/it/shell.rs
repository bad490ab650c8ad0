//! `dbuild shell`: a shell in a stage or an image.

use dbuild_integration_tests::{Terminal, TestSpace};

const DOCKERFILE: &str = "\
FROM busybox AS builder
WORKDIR /work
ENV GREETING=hello
RUN echo made > result
FROM scratch
COPY --from=builder /work/result /result
";

#[test]
fn in_a_stage_with_its_environment_and_directory() {
    let space = TestSpace::new();
    space.write("context/Dockerfile", DOCKERFILE);
    let line = "echo $GREETING from $PWD; cat result; echo more > result";
    let shell = || space.dbuild(["shell", "-c", line, "Builder", "--progress", "plain", "context"]);
    assert_eq!(shell().run().expect_ok().stdout, "hello from /work\nmade\n");
    // What was written in it is gone, its steps are cached, and it leaves no image.
    let again = shell().run().expect_ok().stderr_has(&["CACHED"]);
    assert_eq!(again.stdout, "hello from /work\nmade\n");
    assert!(!space.dbuild(["images"]).run().expect_ok().stdout.contains("shell"));
    // The context is the current directory where none is named.
    let here = space.dbuild(["shell", "-c", "exit 3", "builder"]).current_dir(space.path("context"));
    here.run().expect_code(3);
}

#[test]
fn in_an_image() {
    let space = TestSpace::new();
    space.build("FROM busybox\nUSER 7\nENTRYPOINT [\"/no/such\"]\n", [""; 0]).run().expect_ok();
    assert_eq!(space.dbuild(["shell", "-c", "id -u", "app"]).run().expect_ok().stdout, "7\n");
    assert_eq!(space.dbuild(["shell", "-u", "0", "-c", "id -u", "app"]).run().expect_ok().stdout, "0\n");
}

#[test]
fn where_there_is_none() {
    let space = TestSpace::new();
    space.write("context/Dockerfile", DOCKERFILE);
    let outcome = space.dbuild(["shell", "gone", "context"]).run().expect_code(1);
    outcome.stderr_has(&["context/Dockerfile has no stage `gone`"]);
    space.build("FROM busybox AS b\nFROM scratch\nCOPY --from=b /etc/passwd /\n", [""; 0]).run().expect_ok();
    let outcome = space.dbuild(["shell", "app"]).run().expect_code(1);
    outcome.stderr_has(&["app has no shell", "COPY --from=busybox"]);
}

#[test]
fn in_a_terminal() {
    let space = TestSpace::new();
    space.build("FROM busybox\nENV PS1=ready:\nWORKDIR /work\n", [""; 0]).run().expect_ok();
    let mut terminal = Terminal::start(space.dbuild(["shell", "app"]).into_command(), 80);
    terminal.wait_for("ready:");
    terminal.type_line("tty; echo $((40 + 2)) in $PWD");
    terminal.wait_for("42 in /work");
    terminal.wait_for("/dev/");
    terminal.type_line("exit 5");
    assert_eq!(terminal.finish(), Some(5));
}

#[test]
fn where_a_command_failed() {
    let space = TestSpace::new();
    space
        .dbuild(["shell", "--failed"])
        .run()
        .expect_code(1)
        .stderr_has(&["no build in this store kept a command that failed"]);
    let dockerfile = "FROM busybox\nARG LEVEL=5\nENV A=b\nWORKDIR /work\nUSER 7\nRUN echo before > /tmp/before\n\
                      RUN --mount=type=secret,id=s,env=SECRET --mount=type=cache,target=/c echo half > /tmp/half; exit 3\n";
    space.write("secret", "hidden-value");
    let build = || space.build(dockerfile, ["--secret", "id=s,src=secret"]).run().expect_code(1);
    build().stderr_has(&["`dbuild shell --failed --secret id=s,src=secret` opens a shell where it failed"]);
    let line = "cat /tmp/before /tmp/half; echo $A $LEVEL $PWD $(id -u) [$SECRET]";
    let shell = || space.dbuild(["shell", "--failed", "-c", line]).run().expect_ok();
    let words =
        ["RUN --mount=type=secret", "not mounted: secret s: no secret `s`: give it with `--secret id=s"];
    assert_eq!(shell().stderr_has(&words).stdout, "before\nhalf\nb 5 /work 7 []\n");
    // What one writes there is gone, and the step is no result: it runs again, and fails again.
    space.dbuild(["shell", "--failed", "-c", "rm /tmp/half"]).run().expect_ok();
    assert!(shell().stdout.contains("half"));
    build();
    // It is collected like everything that no image needs.
    space.dbuild(["cache", "prune", "--all"]).run().expect_ok();
    space.dbuild(["shell", "--failed"]).run().expect_code(1);
}

const MOUNTED: &str = "\
FROM busybox AS other
RUN mkdir /made && echo stage > /made/f
FROM busybox
RUN --mount=type=cache,target=/first,id=first,from=other,source=/made true
RUN --mount=type=secret,id=file,uid=7,target=/run/s \\
    --mount=type=ssh --mount=type=secret,id=var,env=TOKEN --mount=type=secret,id=optional \\
    --mount=type=cache,target=/c,sharing=locked --mount=type=cache,target=/first,id=first,from=other,source=/made \\
    --mount=type=tmpfs,target=/t --mount=type=bind,target=/context --mount=type=bind,from=other,source=/made,target=/m,rw \\
    --network=none <<X
#!/bin/sh
echo warm > /c/file; echo more >> /m/f; echo gone > /t/file; echo half > /half; exit 3
X
";

/// A place that is described in the journal and mounted again from there.
#[test]
fn with_the_mounts_that_the_command_had() {
    let space = TestSpace::new();
    space.write("context/a", "context\n");
    space.write("context/ignored", "");
    space.write("context/.dockerignore", "ignored");
    space.write("secret", "hidden-value");
    let agent = space.path("agent");
    let _listens = std::os::unix::net::UnixListener::bind(&agent).unwrap();
    let agent = format!("default={}", agent.display());
    let secrets = ["--secret", "id=file,src=secret", "--secret", "id=var,src=secret", "--ssh", &agent];
    let hosts = ["--add-host", "db:10.0.0.9"];
    space.build(MOUNTED, secrets.iter().chain(&hosts)).run().expect_code(1);
    let shell = |words: &[&str], line: &str| {
        space.dbuild(["shell", "--failed"]).args(words).args(["-c", line]).run().expect_ok()
    };
    let line = "cat /c/file /first/f /context/a /m/f /half; ls -A /t; test -e /context/ignored || echo clean; \
                test -x /dev/pipes/X && echo script; touch /context/b || echo readonly; echo 1 > /m/more && echo writable; \
                grep -c 10.0.0.9 /etc/hosts; ls /sys/class/net; echo [$TOKEN]";
    let told = shell(&[], line).stderr_has(&[
        "not mounted: secret file: no secret `file`: give it with `--secret id=file,src=FILE`\n",
        "not mounted: secret var: ",
        "not mounted: ssh default: no ssh agent `default`: give it with `--ssh default`\n",
        "cache /c is locked: builds that want it wait until you leave\n",
    ]);
    assert!(!told.stderr.contains("secret optional"), "the command had none: {}", told.stderr);
    let seen = "warm\nstage\ncontext\nstage\nhalf\nclean\nscript\nreadonly\nwritable\n1\nlo\n[]\n";
    assert_eq!(told.stdout, seen, "and what was written into a bind mount is gone, as in a RUN");
    // The cache is the cache: what is done in the shell, the next build sees.
    let line = "cat /run/s; echo $TOKEN; ls /m; test -S $SSH_AUTH_SOCK && echo agent; echo shell > /c/file";
    let told = shell(&secrets, line);
    assert_eq!(told.stdout, "hidden-valuehidden-value\nf\nagent\n");
    assert!(!told.stderr.contains("not mounted"), "{}", told.stderr);
    assert_eq!(shell(&[], "cat /c/file").stdout, "shell\n");
    // The values are nowhere in the store, and a context is as it was even where it is gone.
    std::fs::remove_dir_all(space.path("context")).unwrap();
    assert_eq!(shell(&[], "cat /context/a").stdout, "context\n");
    let in_store = space.shell(".", "grep -rlc hidden-value store");
    assert_eq!(in_store.stdout, "");
}

/// The command that a failed build prints is one that can be pasted, whatever its words are.
#[test]
fn by_the_command_that_the_build_printed() {
    let space = TestSpace::new();
    let name = "it's a secret";
    space.write(name, "hidden-value");
    let dockerfile = "FROM busybox\nRUN --mount=type=secret,id=s false\n";
    let flag = format!("id=s,src={name}");
    let unused = ["--secret", "id=other,env=HOME"];
    let build = space.build(dockerfile, ["--store", "its", "--secret", &flag]).args(unused);
    let stderr = build.run().expect_code(1).stderr;
    let line = stderr.lines().find_map(|line| line.strip_suffix("` opens a shell where it failed"));
    let line = line.and_then(|line| line.strip_prefix('`')).unwrap_or_else(|| panic!("{stderr}"));
    assert_eq!(line, "dbuild shell --failed --store its --secret 'id=s,src=it'\\''s a secret'");
    let outcome = space.shell(".", &format!("{line} -c 'cat /run/secrets/s'"));
    assert!(outcome.stdout.ends_with("hidden-value"), "{}", outcome.stdout);
}

#[test]
fn where_a_command_could_not_be_started() {
    let space = TestSpace::new();
    space.build("FROM busybox\nWORKDIR /work\nRUN false\n", [""; 0]).run().expect_code(1);
    let failed =
        space.build("FROM busybox\nWORKDIR /work\nRUN [\"/no/such\"]\n", [""; 0]).run().expect_code(1);
    failed.stderr_has(&["`dbuild shell --failed` opens a shell where it failed"]);
    let shell = || space.dbuild(["shell", "--failed", "-c", "pwd"]).run().expect_ok();
    let outcome = shell().stderr_has(&["RUN [\"/no/such\"]"]);
    assert!(!outcome.stderr.contains("in the later ones"), "{}", outcome.stderr);
    assert_eq!(outcome.stdout, "/work\n");
    // What failed otherwise leaves no place to look at, and the one of an earlier build is called
    // so.
    space.build("FROM busybox\nCOPY gone /\n", [""; 0]).run().expect_code(1);
    shell().stderr_has(&["of the build ", "in the later ones no command failed"]);
}

#[test]
fn what_an_insecure_command_may_do_is_asked_for_again() {
    let space = TestSpace::new();
    let dockerfile = "# syntax=docker/dockerfile:1\nFROM busybox\nRUN --security=insecure false\n";
    space.build(dockerfile, ["--allow", "security.insecure"]).run().expect_code(1);
    let line = "grep -q Seccomp:.0 /proc/self/status && echo all || echo some";
    let shell = |words: &[&str]| space.dbuild(["shell", "--failed"]).args(words).args(["-c", line]).run();
    let told = shell(&[]).expect_ok().stderr_has(&["`--allow security.insecure` lets it"]);
    assert_eq!(told.stdout, "some\n");
    assert_eq!(shell(&["--allow", "security.insecure"]).expect_ok().stdout, "all\n");
}

const STEPS: &str = "\
FROM busybox AS builder
ARG LEVEL=5
ENV A=b
WORKDIR /work
RUN echo one > /one
USER 7
ENV A=c
RUN echo two > /tmp/two
FROM builder AS app
COPY --from=builder /one /copied
RUN exit 3
RUN echo never
";

#[test]
fn in_a_step_of_a_build_that_was() {
    let space = TestSpace::new();
    let older = "FROM busybox AS base\nRUN true\nFROM base AS builder\nENV A=older\n";
    space.build(older, [""; 0]).run().expect_ok();
    space.build(STEPS, [""; 0]).run().expect_code(1);
    let say = "echo $A $LEVEL $PWD $(id -u); cat /one /tmp/two /copied 2> /dev/null; true";
    let shell = |words: &[&str]| space.dbuild(["shell", "-c", say]).args(words).run();
    // By stage and place, line, number and text; each as it was there.
    assert_eq!(shell(&["builder 1"]).expect_ok().stdout, "/ 0\n", "FROM has not yet what comes after it");
    let one = shell(&["builder:3"]);
    assert_eq!(
        one.expect_ok().stderr_has(&["[builder 3/4] RUN echo one > /one (build "]).stdout,
        "b 5 /work 0\none\n"
    );
    assert_eq!(shell(&[":8"]).expect_ok().stdout, "c 5 /work 7\none\ntwo\n");
    assert_eq!(shell(&["[app 1/3]"]).expect_ok().stdout, "c 5 /work 7\none\ntwo\none\n");
    assert_eq!(shell(&["RUN echo two"]).expect_ok().stdout, "c 5 /work 7\none\ntwo\n");
    // A stage is what its image would be: build arguments are not in that. Flags may stand after
    // it.
    assert_eq!(shell(&["builder"]).expect_ok().stdout, "c /work 7\none\ntwo\n");
    let history = space.dbuild(["history", "--json"]).run().expect_ok();
    let history: serde_json::Value = serde_json::from_str(&history.stdout).unwrap();
    let older = history[1]["id"].as_str().unwrap();
    assert_eq!(shell(&["builder", "--build", older]).expect_ok().stdout, "older / 0\n");
    assert_eq!(shell(&["--build", older, "#0"]).expect_ok().stdout, "/ 0\n", "ENV stands after that step");
    // Where a step failed, its shell is the one of --failed; what never ran has nothing to show.
    assert_eq!(shell(&["app 2"]).expect_ok().stdout, "c 5 /work 7\none\ntwo\none\n");
    shell(&["--build", "latest", "app"])
        .expect_code(1)
        .stderr_has(&["RUN echo never has no result: canceled"]);
    shell(&["app 3"])
        .expect_code(1)
        .stderr_has(&["RUN echo never has no result: canceled", "dbuild shell --build"]);
}

#[test]
fn a_step_that_is_not_there() {
    let space = TestSpace::new();
    space.dbuild(["shell", "#3"]).run().expect_code(1).stderr_has(&["build something first"]);
    space.build("FROM busybox AS b\nRUN echo 1 > /1\nRUN echo 2 > /2\n", [""; 0]).run().expect_ok();
    let shell = |words: &[&str]| space.dbuild(["shell"]).args(words).run();
    shell(&["#77"]).expect_code(1).stderr_has(&["no step `#77`", "dbuild graph --build"]);
    shell(&["--build", "latest", "RUN echo"]).expect_code(1).stderr_has(&["names 2 steps: #1", "'#7'"]);
    shell(&["--build", "zzz", "b"]).expect_code(1).stderr_has(&["no build `zzz`"]);
    shell(&["b:2", "--secret", "id=s,env=HOME"]).expect_code(2).stderr_has(&["are for `--failed`"]);
    // As after a collection that kept the journal.
    std::fs::remove_dir_all(space.path("store/snapshots")).unwrap();
    std::fs::create_dir(space.path("store/snapshots")).unwrap();
    shell(&["b:2"]).expect_code(1).stderr_has(&["RUN echo 1 > /1 is no longer in the store", "build again"]);
    // The base image can be brought again.
    assert_eq!(shell(&["-c", "echo here", "#0"]).expect_ok().stdout, "here\n");
}

#[test]
fn where_an_older_build_failed() {
    let space = TestSpace::new();
    for word in ["older", "newer"] {
        space.build(&format!("FROM busybox\nRUN echo {word} > /word; false\n"), [""; 0]).run().expect_code(1);
    }
    space.build("FROM busybox\n", [""; 0]).run().expect_ok();
    let history = space.dbuild(["history", "--json"]).run().expect_ok();
    let history: serde_json::Value = serde_json::from_str(&history.stdout).unwrap();
    let id = |at: usize| history[at]["id"].as_str().unwrap();
    let shell = |id: &str| space.dbuild(["shell", "--failed", "--build", id, "-c", "cat /word"]).run();
    assert_eq!(shell(id(2)).expect_ok().stdout, "older\n");
    assert_eq!(shell(id(1)).expect_ok().stdout, "newer\n");
    let words = format!("build {} kept no command that failed", id(0));
    shell(id(0)).expect_code(1).stderr_has(&[&words, "dbuild history"]);
    shell("zzz").expect_code(1).stderr_has(&["no build `zzz`"]);
}

const FAILS: &str = "FROM busybox\nENV PS1=ready:\nWORKDIR /work\nRUN echo half > result; exit 3\n";

#[test]
fn at_once_where_a_build_fails_in_a_terminal() {
    let space = TestSpace::new();
    let build = space.build(FAILS, ["--on-failure", "shell"]);
    let mut terminal = Terminal::start(build.into_command(), 80);
    terminal.wait_for("a shell where it failed (`exit` leaves it):");
    terminal.wait_for("ready:");
    terminal.type_line("echo $(cat result) in $PWD");
    terminal.wait_for("half in /work");
    terminal.type_line("exit 5");
    // It ends as the build did, and its error stands above the shell, once.
    assert_eq!(terminal.finish(), Some(1));
    assert_eq!(terminal.raw.matches("failed: exit code 3").count(), 1, "{}", terminal.raw);
    // What does not fail in a RUN ends as without the flag.
    let build = space.build("FROM busybox\nCOPY gone /\n", ["--on-failure", "shell"]);
    let mut terminal = Terminal::start(build.into_command(), 80);
    assert_eq!(terminal.finish(), Some(1));
    assert!(terminal.raw.contains("there is no `gone`"), "{}", terminal.raw);
}

/// What the build was given, the shell need not be given again.
#[test]
fn at_once_with_the_secrets_of_the_build() {
    let space = TestSpace::new();
    let dockerfile =
        "FROM busybox\nENV PS1=ready:\nRUN --mount=type=secret,id=s --mount=type=cache,target=/c exit 3\n";
    space.write("secret", "hidden-value");
    let build = space.build(dockerfile, ["--on-failure", "shell", "--secret", "id=s,src=secret"]);
    let mut terminal = Terminal::start(build.into_command(), 80);
    terminal.wait_for("ready:");
    terminal.type_line("echo is $(cat /run/secrets/s) here; mount | grep -c ' /c '");
    terminal.wait_for("is hidden-value here");
    terminal.type_line("exit");
    assert_eq!(terminal.finish(), Some(1));
    assert!(!terminal.raw.contains("not mounted"), "{}", terminal.raw);
}

/// The cache is the real one, and so is its lock.
#[test]
fn a_locked_cache_is_waited_for() {
    let space = TestSpace::new();
    let dockerfile = "FROM busybox\nENV PS1=ready:\nRUN --mount=type=cache,target=/c,sharing=locked false\n";
    space.build(dockerfile, [""; 0]).run().expect_code(1);
    let shell = || Terminal::start(space.dbuild(["shell", "--failed"]).into_command(), 80);
    let mut first = shell();
    first.wait_for("cache /c is locked");
    first.wait_for("ready:");
    let mut second = shell();
    second.wait_for("waiting for cache /c: another command has it");
    first.type_line("exit 4");
    assert_eq!(first.finish(), Some(4));
    second.wait_for("ready:");
    second.type_line("exit 5");
    assert_eq!(second.finish(), Some(5));
}

#[test]
fn a_failure_without_a_terminal_opens_none() {
    let space = TestSpace::new();
    let outcome = space.build(FAILS, ["--on-failure", "shell"]).run().expect_code(1);
    outcome.stderr_has(&["`--on-failure shell` needs a terminal", "failed: exit code 3"]);
    space.build(FAILS, ["--on-failure", "tea"]).run().expect_code(2).stderr_has(&["shell"]);
}
