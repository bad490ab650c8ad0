//! `dbuild plan` says what `dbuild build` then does, and does nothing itself.

use std::collections::BTreeMap;

use dbuild_integration_tests::{Outcome, TestSpace};
use serde_json::Value;

const DOCKERFILE: &str = "FROM busybox AS build\nWORKDIR /src\nCOPY src /src\nRUN grep -h code /src/app > /app\n\
    FROM busybox\nRUN echo setup > /setup\nCOPY --from=build /app /app\n";

/// What each step that could run is expected to be: by its text, in order.
fn states(plan: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let steps = plan["steps"].as_array().expect("steps").iter();
    steps.map(|step| (text(&step["text"]), text(&step["state"]))).collect()
}

fn plan(space: &TestSpace, words: &[&str]) -> Value {
    space.dbuild(["plan", "--json", "context"]).args(words).run().expect_ok().json()
}

/// What became of each step of a build: `true` if it was carried out.
pub(crate) fn carried_out(build: &Outcome) -> BTreeMap<u64, bool> {
    let mut done = BTreeMap::new();
    for line in build.stderr.lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_default();
        let Some(step) = event["step"].as_u64() else { continue };
        match event["event"].as_str() {
            Some("step_cached") => drop(done.insert(step, false)),
            Some("step_finished") => drop(done.insert(step, true)),
            _ => {}
        }
    }
    done
}

/// HIT was cached, MISS was carried out, UNKNOWN was one of both. Steps of one key are one: which
/// of them did the work is a matter of who came first.
#[track_caller]
pub(crate) fn assert_holds(plan: &Value, done: &BTreeMap<u64, bool>, what: &str) {
    let mut by_key: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    let steps = plan["steps"].as_array().unwrap();
    for step in steps {
        by_key
            .entry(step["key"].as_str().unwrap_or_else(|| step["label"].as_str().unwrap()))
            .or_default()
            .push(step);
    }
    for same in by_key.values() {
        let ran = |step: &&&Value| done[&step["id"].as_u64().unwrap()];
        let foretold = |state: &str| same.iter().filter(|step| step["state"] == state).count();
        let count = same.iter().filter(ran).count();
        let (runs, unknown) = (foretold("miss") + foretold("read"), foretold("unknown"));
        assert!((runs..=runs + unknown).contains(&count), "{what}: {same:#?}\n{done:?}");
    }
}

/// A space whose context holds a small program, built once.
fn built() -> TestSpace {
    let space = TestSpace::new();
    space.write("context/src/app", "code 1\n# comment\n");
    space.build(DOCKERFILE, [""; 0]).run().expect_ok();
    space
}

#[test]
fn a_plan_of_something_new_runs_and_pulls_nothing() {
    let space = TestSpace::new();
    space.write("context/src/app", "code 1\n");
    space.write("context/Dockerfile", DOCKERFILE);
    let text = space.dbuild(["plan", "context"]).run().expect_ok();
    let text = text.stdout_has(&["MISS     [build 1/4] FROM busybox", "are pulled: a step needs its files"]);
    let text = text.stdout_has(&["UNKNOWN  [build 4/4] RUN grep", "nothing like it was built here before"]);
    text.stdout_has(&["1 hit, 3 run, 3 unknown", "their times are guesses"]);
    let snapshots = std::fs::read_dir(space.path("store/snapshots")).unwrap().count();
    assert_eq!(snapshots, 0, "nothing was unpacked");
    let largest = std::fs::read_dir(space.path("store/blobs/sha256")).unwrap();
    let largest = largest.map(|blob| blob.unwrap().metadata().unwrap().len()).max();
    assert!(largest.unwrap_or(0) < 100_000, "no layer was pulled: {largest:?}");
    assert_eq!(space.dbuild(["history", "--json"]).run().json(), serde_json::json!([]));
}

#[test]
fn what_is_known_is_a_hit_and_a_touched_file_is_followed() {
    let space = built();
    assert!(states(&plan(&space, &[])).iter().all(|(text, state)| match text.starts_with("load") {
        true => state == "read",
        false => state == "hit",
    }));
    let touched = plan(&space, &["--touch", "context/src/app"]);
    let expected = [
        ("FROM busybox", "hit"),
        ("WORKDIR /src", "hit"),
        ("load build context", "read"),
        ("COPY src /src", "miss"),
        ("RUN grep -h code /src/app > /app", "unknown"),
        ("RUN echo setup > /setup", "hit"),
        ("COPY --from=build /app /app", "unknown"),
    ];
    let found = states(&touched);
    for (text, state) in expected {
        assert!(found.contains(&(text.to_owned(), state.to_owned())), "{text}: {state}\n{touched:#}");
    }
    let copy = touched["steps"].as_array().unwrap().iter().find(|step| step["state"] == "miss").unwrap();
    assert_eq!(copy["reasons"], serde_json::json!(["src/app: content"]));
    // Nothing was changed by asking.
    assert_eq!(plan(&space, &[])["misses"], 0);
    let note = space.dbuild(["plan", "--touch", "context/Dockerfile", "context"]).run().expect_ok();
    note.stderr_has(&["no step takes"]);
    let gone = space.dbuild(["plan", "--touch", "context/none", "context"]).run().expect_code(1);
    gone.stderr_has(&["--touch context/none: no such file"]);
    let outside = space.dbuild(["plan", "--touch", "config.toml", "context"]).run().expect_code(1);
    outside.stderr_has(&["it is in no context of this build"]);
}

#[test]
fn a_source_that_is_not_there_is_foretold() {
    let space = built();
    let broken = DOCKERFILE.replace("COPY src", "COPY scr");
    space.write("context/Dockerfile", broken);
    space
        .dbuild(["plan", "context"])
        .run()
        .expect_ok()
        .stdout_has(&["FAILS    [build 3/4] COPY scr /src", "`scr` is not there in the build context"]);
}

#[test]
fn without_the_cache_everything_is_a_miss() {
    let space = built();
    let plan = plan(&space, &["--no-cache"]);
    let runs = states(&plan).into_iter().filter(|(_, state)| state == "miss").count();
    assert_eq!(runs, 5, "{plan:#}");
    space.dbuild(["plan", "--no-cache", "context"]).run().expect_ok().stdout_has(&["(--no-cache)"]);
    let one = space.dbuild(["plan", "--no-cache-filter", "build", "context"]).run().expect_ok();
    one.stdout_has(&["the cache may not be used for it (--no-cache-filter)"]);
}

#[test]
fn the_plan_of_an_edit_holds() {
    for strategy in ["linear", "content", "output"] {
        let space = TestSpace::new();
        let words = ["--strategy", strategy, "--progress", "rawjson", "-t", "app", "context"];
        let build = || space.dbuild(["build"]).args(words).run().expect_ok();
        space.write("context/Dockerfile", DOCKERFILE);
        let comment = "code 1\n# other\n";
        let edits = ["code 1\n# comment\n", "code 1\n# comment\n", comment, "code 2\n", comment];
        for (round, source) in edits.iter().enumerate() {
            space.write("context/src/app", source);
            let plan = plan(&space, &["--strategy", strategy]);
            let done = carried_out(&build());
            assert_holds(&plan, &done, &format!("{strategy}, round {round}"));
        }
    }
}
