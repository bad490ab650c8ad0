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
        .stderr_has(&["no build of this store has a command that failed"]);
    let dockerfile = "FROM busybox\nARG LEVEL=5\nENV A=b\nWORKDIR /work\nUSER 7\nRUN echo before > /tmp/before\n\
                      RUN --mount=type=secret,id=s,env=SECRET --mount=type=cache,target=/c echo half > /tmp/half; exit 3\n";
    space.write("secret", "hidden-value");
    let build = || space.build(dockerfile, ["--secret", "id=s,src=secret"]).run().expect_code(1);
    build().stderr_has(&["`dbuild shell --failed` opens a shell where it failed"]);
    let line = "cat /tmp/before /tmp/half; echo $A $LEVEL $PWD $(id -u) [$SECRET]";
    let shell = || space.dbuild(["shell", "--failed", "-c", line]).run().expect_ok();
    let words = ["RUN --mount=type=secret", "not mounted here: secret s, cache /c\n"];
    assert_eq!(shell().stderr_has(&words).stdout, "before\nhalf\nb 5 /work 7 []\n");
    // What one writes there is gone, and the step is no result: it runs again, and fails again.
    space.dbuild(["shell", "--failed", "-c", "rm /tmp/half"]).run().expect_ok();
    assert!(shell().stdout.contains("half"));
    build();
    // It is collected like everything that no image needs.
    space.dbuild(["cache", "prune", "--all"]).run().expect_ok();
    space.dbuild(["shell", "--failed"]).run().expect_code(1);
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
    let words = format!("build {} has no command that failed", id(0));
    shell(id(0)).expect_code(1).stderr_has(&[&words, "dbuild history"]);
    shell("zzz").expect_code(1).stderr_has(&["no build `zzz`"]);
}

const FAILS: &str = "FROM busybox\nENV PS1=ready:\nWORKDIR /work\nRUN echo half > result; exit 3\n";

#[test]
fn at_once_where_a_build_fails_in_a_terminal() {
    let space = TestSpace::new();
    let build = space.build(FAILS, ["--on-failure", "shell"]);
    let mut terminal = Terminal::start(build.into_command(), 80);
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

#[test]
fn a_failure_without_a_terminal_opens_none() {
    let space = TestSpace::new();
    let outcome = space.build(FAILS, ["--on-failure", "shell"]).run().expect_code(1);
    outcome.stderr_has(&["`--on-failure shell` needs a terminal", "failed: exit code 3"]);
    space.build(FAILS, ["--on-failure", "tea"]).run().expect_code(2).stderr_has(&["shell"]);
}
