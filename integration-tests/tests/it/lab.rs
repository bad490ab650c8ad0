//! `dbuild lab replay`, through the program.

use std::process::Command;

use dbuild_integration_tests::{TestSpace, run, workspace};

fn history(space: &TestSpace, name: &str) {
    let script = workspace().join("fixtures/lab/make.sh");
    run(Command::new(script).arg(name).arg(space.path("repository"))).expect_ok();
}

fn cost(name: &str) -> String {
    workspace().join("fixtures/lab").join(name).join("cost.toml").display().to_string()
}

#[test]
fn a_simulated_history_gives_a_table_json_and_a_page() {
    let space = TestSpace::offline();
    history(&space, "comment");
    let cost = cost("comment");
    let words = ["lab", "replay", "repository", "--simulate", "--cost", &cost, "--size", "50MB"];
    let table = space.dbuild(words).args(["-o", "page.html"]).run().expect_ok();
    let table =
        table.stdout_has(&["4 of 4 commits replayed, simulated", "least rebuilt, no limit: output in 245s"]);
    table.stderr_has(&["written: page.html"]);
    let page = space.read("page.html");
    for part in ["<svg", "prefers-color-scheme", "main.go: content", "least rebuilt, 50.0MB"] {
        assert!(page.contains(part), "{part}");
    }

    let some = ["--strategy", "output,linear", "--policy", "gdsf", "--json", "-o", "plot.svg"];
    let json = space.dbuild(words).args(some).run().expect_ok().json();
    let rows = json["rows"].as_array().unwrap();
    let names: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {}", row["strategy"].as_str().unwrap(), row["policy"].as_str().unwrap()))
        .collect();
    assert_eq!(names[..4], ["output gdsf", "output belady", "output bound", "output unlimited"]);
    assert_eq!(rows[3]["rebuilt_ms"], 245_000);
    assert_eq!(json["commits"].as_array().map(Vec::len), Some(4));
    assert!(space.read("plot.svg").starts_with("<svg"));
    // Nothing was built or pulled.
    assert_eq!(space.dbuild(["images", "--json"]).run().expect_ok().json(), serde_json::json!([]));
}

#[test]
fn a_history_is_carried_out_once_and_not_again() {
    let space = TestSpace::new();
    let script = "git init -q -b main . && git config user.name lab && git config user.email lab@example.com\n\
                  printf 'FROM busybox AS b\\nCOPY a /a\\nRUN cp /a /b; head -c 5000 /dev/zero > /z\\n\
                  FROM busybox\\nCOPY --from=b /z /z\\nRUN echo $RANDOM > /r\\n' > Dockerfile\n\
                  echo 1 > a; git add -A; git commit -qm one; echo 2 > a; git commit -qam two\n\
                  echo 1 > a; git commit -qam back";
    std::fs::create_dir(space.path("repository")).unwrap();
    space.shell("repository", script).expect_ok();
    let replay = || {
        let json = space.dbuild(["lab", "replay", "repository", "--json"]).run().expect_ok().json();
        assert_eq!(json["executed"], true);
        json
    };
    let first = replay();
    let misses = |strategy: &str| {
        let rows = first["rows"].as_array().unwrap();
        let row = rows.iter().find(|row| row["strategy"] == strategy && row["policy"] == "unlimited");
        row.unwrap()["misses"].as_u64().unwrap()
    };
    // Each of two states: COPY a and RUN. `linear` does the rest twice, too; what it would copy is
    // the same.
    assert_eq!((misses("linear"), misses("content"), misses("output")), (8, 6, 6));
    let stored = first["rows"].as_array().unwrap().last().unwrap()["stored"].as_u64().unwrap();
    assert!((15_000..16_000).contains(&stored), "/z three times, and a few bytes: {stored}");
    // Durations of the first time were kept, so the second time gives the same to the millisecond.
    assert_eq!(replay()["rows"], first["rows"]);
    // The history was left alone, and no scratch is left.
    space.shell("repository", "git status --porcelain").expect_ok().lacks(&["a"]);
}

#[test]
fn wrong_words_are_told() {
    let space = TestSpace::offline();
    history(&space, "base");
    let told = |words: &[&str]| space.dbuild(["lab", "replay", "repository", "--simulate"]).args(words).run();
    told(&["--strategy", "outptu"])
        .expect_code(2)
        .stderr_has(&["no cache strategy `outptu`", "did you mean `output`"]);
    told(&["--policy", "lrru"])
        .expect_code(2)
        .stderr_has(&["no eviction policy `lrru`", "did you mean `lru`"]);
    told(&["--size", "0"]).expect_code(2).stderr_has(&["a cache of no bytes"]);
    told(&["--size", "big"]).expect_code(2).stderr_has(&["expected a size such as"]);
    told(&["--from", "v9"]).expect_code(1).stderr_has(&["there is no commit `v9`", "git log --oneline"]);
    told(&["-f", "Other"]).expect_code(1).stderr_has(&["none of the 4 commits has a file Other"]);
    space.write("cost.toml", "[[step]]\nsecond = 1\n");
    told(&["--cost", "cost.toml"])
        .expect_code(2)
        .stderr_has(&["cost.toml is not valid", "unknown field `second`"]);
    space
        .dbuild(["lab", "replay", "context", "--simulate"])
        .run()
        .expect_code(1)
        .stderr_has(&["context is not a git repository"]);
    space
        .dbuild(["lab", "replay", "repository", "--cost", "cost.toml"])
        .run()
        .expect_code(2)
        .stderr_has(&["--simulate"]);
}

#[test]
fn odd_repositories_are_replayed_and_what_is_odd_is_said() {
    let space = TestSpace::offline();
    history(&space, "comment");
    let replay = |dir: &str| space.dbuild(["lab", "replay", dir, "--simulate", "--strategy", "output"]).run();
    space.write("repository/main.go", "dirty");
    replay("repository").expect_ok().stdout_has(&["4 of 4 commits", "changes that are not committed"]);
    let clone = format!("git clone -q --depth 2 file://{} shallow", space.path("repository").display());
    space.shell("", &clone).expect_ok();
    replay("shallow").expect_ok().stdout_has(&["2 of 2 commits", "is shallow", "--unshallow"]);
    let script = "git init -q && git config user.name lab && git config user.email lab@example.com && \
                  git commit -q --allow-empty -m one";
    std::fs::create_dir(space.path("empty")).unwrap();
    space.shell("empty", script).expect_ok();
    replay("empty").expect_code(1).stderr_has(&["none of the 1 commits has a file Dockerfile", "-f FILE"]);
}
