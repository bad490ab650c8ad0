//! Why a step ran again: `dbuild why` and `build --explain`.

use dbuild_integration_tests::TestSpace;

const DOCKERFILE: &str = "FROM busybox AS build\nARG VERSION=1.2\nWORKDIR /src\nCOPY src /src\nRUN cat /src/app > /app\n\
    FROM busybox\nRUN echo setup > /setup\nCOPY --from=build /app /app\nRUN cat /app /setup > /both\n";

fn space() -> TestSpace {
    let space = TestSpace::new();
    space.write("context/src/app", "one\n");
    space.write("context/src/lib", "lib\n");
    space.build(DOCKERFILE, [""; 0]).run().expect_ok();
    space
}

#[track_caller]
fn why(space: &TestSpace, words: &[&str]) -> String {
    space.dbuild(["why"]).args(words).run().expect_ok().stdout
}

#[test]
fn a_first_build_has_nothing_to_compare_with() {
    let space = space();
    let all = why(&space, &[]);
    let nothing = all.lines().filter(|line| line.ends_with("nothing like it was built here before")).count();
    assert_eq!(nothing, 6, "{all}");
    space.build(DOCKERFILE, ["--explain"]).run().expect_ok().stderr_has(&["no step ran: all were cached"]);
    assert_eq!(
        why(&space, &["RUN echo"]),
        "[stage-1 2/4] RUN echo setup > /setup was cached: nothing of its key had changed\n"
    );
}

#[test]
fn a_changed_file_is_the_root_of_all_that_ran_again() {
    let space = space();
    space.write("context/src/app", "two\n");
    let words = [
        "[build 3/4] COPY src /src ran again because src/app changed (content)",
        "[build 4/4] RUN cat /src/app > /app ran again because src/app changed (content), via COPY src /src at line 4",
        "[stage-1 3/4] COPY --from=build /app /app ran again because src/app changed (content), via COPY src /src at line 4",
        "[stage-1 4/4] RUN cat /app /setup > /both ran again because src/app changed (content), via COPY src /src at line 4",
    ];
    space.build(DOCKERFILE, ["--explain"]).run().expect_ok().stderr_has(&words);
    let listed = why(&space, &[]);
    assert_eq!(listed.lines().count(), 4, "{listed}");
    // One step, by all that it can be called.
    let one = why(&space, &["build:4"]);
    let expected = format!(
        "{}\n  what differs: the parent\n  goes back to: src/app changed (content) -> [build 3/4] COPY src /src -> \
         [build 4/4] RUN cat /src/app > /app\n",
        words[1]
    );
    assert_eq!(one, expected);
    for name in [":5", "/src/app >", "build 4"] {
        assert_eq!(why(&space, &[name]), one, "{name}");
    }
    let several = why(&space, &["build"]);
    assert!(several.contains("`build` names"), "{several}");
    let json = space.dbuild(["why", ":5", "--json"]).run().expect_ok().json();
    assert_eq!(json[0]["causes"][0]["what"], "src/app changed (content)", "{json}");
    // The journal keeps it: the first build is still explained.
    let history = space.dbuild(["history", "--json"]).run().expect_ok().json();
    let first = history[1]["id"].as_str().unwrap();
    assert!(why(&space, &["--build", first, ":5"]).contains("nothing like it"));
    space.dbuild(["why", "none"]).run().expect_code(1).stderr_has(&["no step `none`", "build"]);
}

#[test]
fn an_edit_an_argument_a_mode_and_a_flag_are_told_apart() {
    let space = space();
    let build = |dockerfile: &str, words: &[&str]| space.build(dockerfile, words).run().expect_ok();
    build(&DOCKERFILE.replace("cat /src/app >", "cat /src/lib >"), &[]);
    assert!(
        why(&space, &[":5"]).contains("the command `cat /src/app > /app` → `cat /src/lib > /app` changed")
    );
    build(DOCKERFILE, &["--build-arg", "VERSION=1.3"]);
    assert!(why(&space, &[":5"]).contains("ARG VERSION 1.2 → 1.3 changed"), "{}", why(&space, &[":5"]));
    std::fs::set_permissions(
        space.path("context/src/lib"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    std::fs::rename(space.path("context/src/app"), space.path("context/src/app2")).unwrap();
    space.build(DOCKERFILE, [""; 0]).run().expect_code(1);
    let copy = why(&space, &[":4"]);
    assert!(copy.contains("src/app is gone") && copy.contains("src/lib: mode 0644 → 0755"), "{copy}");
    build(&DOCKERFILE.replace("/src/app", "/src/app2"), &["--no-cache"]);
    assert!(why(&space, &[":5"]).contains("the cache may not be used for it (--no-cache)"));
}

#[test]
fn a_secret_is_in_no_answer() {
    let space = TestSpace::new();
    space.write("secret", "hunter2-is-the-value");
    let dockerfile =
        |command: &str| format!("FROM busybox\nRUN --mount=type=secret,id=token {command} > /dev/null\n");
    let secret = ["--secret", "id=token,src=secret"];
    space.build(&dockerfile("cat /run/secrets/token"), secret).run().expect_ok();
    space.build(&dockerfile("wc /run/secrets/token"), secret).run().expect_ok();
    space.dbuild(["why"]).run().expect_ok().stdout_has(&["the command"]).lacks(&["hunter2"]);
    let found = std::process::Command::new("grep").args(["-rl", "hunter2"]).arg(space.path("store")).output();
    assert_eq!(String::from_utf8_lossy(&found.unwrap().stdout), "", "the value is nowhere in the store");
}
