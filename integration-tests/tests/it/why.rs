//! Why a step ran again: `dbuild why` and `build --explain`.

use dbuild_integration_tests::{Registry, TestSpace};

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
        why(&space, &[":5"]).contains("the command changed: `cat /src/app > /app` → `cat /src/lib > /app`")
    );
    build(DOCKERFILE, &["--build-arg", "VERSION=1.3"]);
    assert!(why(&space, &[":5"]).contains("ARG VERSION changed: 1.2 → 1.3"), "{}", why(&space, &[":5"]));
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

const STRATEGIES: [&str; 3] = ["linear", "content", "output"];

#[test]
fn a_step_that_was_cached_with_another_result_is_followed_to_the_root() {
    let head = "FROM busybox\nARG V=1\nCOPY src /src\nRUN echo $V > /v\n";
    let all = format!("{head}RUN cat /src/app /v > /all\n");
    for strategy in STRATEGIES {
        let space = TestSpace::new();
        let build = |dockerfile: &str, words: &[&str]| {
            space.build(dockerfile, ["--strategy", strategy]).args(words).run().expect_ok()
        };
        space.write("context/src/app", "one\n");
        build(&all, &[]);
        // A branch without the last line changes a file and an argument, and is merged.
        space.write("context/src/app", "two\n");
        build(head, &["--build-arg", "V=2"]);
        space.write("context/Dockerfile", &all);
        let words = ["plan", "--strategy", strategy, "--build-arg", "V=2", "context"];
        let file =
            "src/app changed (content), via COPY src /src at line 3, which was CACHED from another build";
        let plan = space.dbuild(words).run().expect_ok();
        let plan = plan.stdout_has(&["MISS     [stage-0 4/4] RUN cat", "ARG V 1 → 2", file]);
        plan.stdout_has(&["3 hit, 1 run, 0 unknown"]);
        let causes = space.dbuild(words).args(["--json"]).run().expect_ok().json();
        let last = causes["steps"].as_array().unwrap().last().unwrap();
        assert_eq!(last["causes"][2]["way"], serde_json::json!([4, 3, 2]), "{strategy}: {last:#}");
        let built = build(&all, &["--build-arg", "V=2", "--explain"]);
        let sentence =
            format!("RUN cat /src/app /v > /all ran again because ARG V changed: 1 → 2, and because {file}");
        built.stderr_has(&[
            &sentence,
            "-> [stage-0 2/4] COPY src /src (CACHED) -> [stage-0 3/4] RUN echo $V > /v (CACHED)",
        ]);
        assert_eq!(why(&space, &[]).lines().count(), 1, "{strategy}: nothing else ran");
        // Both edits are taken back: nothing runs, and nothing is made up.
        space.write("context/src/app", "one\n");
        build(&all, &["--explain"]).stderr_has(&["no step ran: all were cached"]);
    }
}

#[test]
fn an_image_that_is_another_one_is_named_with_both_digests() {
    for strategy in STRATEGIES {
        let space = TestSpace::new();
        let registry = Registry::start(&space.path("registry"));
        let push = |tag: &str, number: u32| {
            let name = format!("{}/base:{tag}", registry.address());
            space.write("context/Dockerfile", format!("FROM busybox\nRUN echo {number} > /n\n"));
            let push = space.dbuild(["build", "--push", "-t", &name, "context"]);
            push.env("DBUILD_STORE", space.path("another machine's")).run().expect_ok();
            name
        };
        let digest_of = |name: &str| {
            let words = ["inspect", "--format", "{{.Digest}}", "--tls-verify=false"];
            let mut skopeo = std::process::Command::new("skopeo");
            let out = skopeo.args(words).arg(format!("docker://{name}")).output().expect("skopeo runs");
            String::from_utf8_lossy(&out.stdout).trim().to_owned()
        };
        let (name, other) = (push("1", 1), push("2", 2));
        let before = digest_of(&name);
        let dockerfile = |base: &str| {
            format!("FROM {base} AS build\nRUN cat /n > /m\nFROM busybox\nCOPY --from=build /m /m\n")
        };
        let build = |base: &str| {
            space.build(&dockerfile(base), ["--strategy", strategy]).run().expect_ok();
        };
        build(&name);
        // The name stays, and the registry has something else under it.
        push("1", 3);
        let after = digest_of(&name);
        assert_ne!(before, after);
        let short = |digest: &str| digest[..19].to_owned();
        let moved = format!("{name} is another image now: {} → {}", short(&before), short(&after));
        space.write("context/Dockerfile", dockerfile(&name));
        let plan = space.dbuild(["plan", "--strategy", strategy, "context"]).run().expect_ok();
        plan.stdout_has(&[&moved, &format!("{moved}, via FROM {name} at line 1")]);
        build(&name);
        let run = why(&space, &["RUN cat"]);
        assert!(
            run.contains(&format!("ran again because {moved}, via FROM {name} at line 1")),
            "{strategy}: {run}"
        );
        let image = why(&space, &[&format!("FROM {name}")]);
        assert!(image.contains(&format!("was pulled because {moved}")), "{strategy}: {image}");
        let json = space.dbuild(["why", "RUN cat", "--json"]).run().expect_ok().json();
        let full = &json[0]["causes"][0]["image"];
        assert_eq!(
            (full["before"]["digest"].as_str(), full["after"]["digest"].as_str()),
            (Some(&*before), Some(&*after))
        );
        // Another name.
        build(&other);
        let run = why(&space, &["RUN cat"]);
        let changed = format!("the image changed from {name} ({}) to {other} (", short(&after));
        assert!(run.contains(&changed), "{strategy}: {run}");
    }
}
