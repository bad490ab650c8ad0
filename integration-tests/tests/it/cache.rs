//! `dbuild cache`: what is kept, what it is made of, whether it is whole, and what goes.

use std::path::Path;

use dbuild_integration_tests::{Background, TestSpace};

const DOCKERFILE: &str = "FROM busybox\nCOPY file /file\nRUN cat /file /file > /twice\n\
    RUN dd if=/dev/urandom of=/big bs=1024 count=4000 2> /dev/null\n";

fn built() -> TestSpace {
    let space = TestSpace::new();
    space.write("context/file", "right\n");
    space.build(DOCKERFILE, [""; 0]).run().expect_ok();
    space
}

/// Bytes on disk, as `du` counts them.
fn du(path: &Path) -> u64 {
    let output = std::process::Command::new("du").args(["-s", "-B1"]).arg(path).output().unwrap();
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn results_are_listed_and_taken_apart() {
    let space = built();
    space.build(DOCKERFILE, [""; 0]).run().expect_ok();
    let listed = space.dbuild(["cache", "ls", "--sort", "size"]).run().expect_ok();
    let lines: Vec<&str> = listed.stdout.lines().collect();
    assert!(lines[1].contains("RUN dd") && lines.len() == 4, "{listed}");
    let json = space.dbuild(["cache", "ls", "--json", "--filter", "twice"]).run().expect_ok().json();
    assert_eq!((json[0]["hits"].as_u64(), json.as_array().unwrap().len()), (Some(1), 1), "{json}");
    let key = json[0]["key"].as_str().unwrap();
    for name in [key, &key[..12], "/twice"] {
        let shown = space.dbuild(["cache", "inspect", name]).run().expect_ok();
        shown.stdout_has(&["RUN cat /file /file > /twice", key, "the command:", "the parent:", "hits"]);
    }
    let several = space.dbuild(["cache", "inspect", "RUN"]).run().expect_code(1);
    several.stderr_has(&["names 2 results", "RUN dd"]);
    space.dbuild(["cache", "inspect", "none"]).run().expect_code(1).stderr_has(&["cache ls"]);
}

#[test]
fn damage_is_found_and_repaired() {
    let space = built();
    space.dbuild(["cache", "verify"]).run().expect_ok().stdout_has(&["snapshots were read"]);
    let find = |name: &str| {
        let mut found = std::process::Command::new("find");
        let output = found.arg(space.path("store/snapshots")).args(["-name", name]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).lines().next().expect("the file is in a snapshot").to_owned()
    };
    std::fs::write(find("twice"), "wrong\nwrong\n").unwrap();
    let found = space.dbuild(["cache", "verify"]).run().expect_code(1);
    found.stdout_has(&["twice: its content changed"]).stderr_has(&["--repair"]);
    space.dbuild(["cache", "verify", "--repair"]).run().expect_ok();
    space.dbuild(["cache", "verify", "--json"]).run().expect_ok();
    space.build(DOCKERFILE, [""; 0]).run().expect_ok();
    assert_eq!(space.run_in("app", &["cat", "/twice"]), "right\nright\n");
}

#[test]
fn a_result_that_is_damaged_when_it_is_packed_is_made_again() {
    let space = built();
    let mut find = std::process::Command::new("find");
    let found = find.arg(space.path("store/snapshots")).args(["-name", "twice"]).output().unwrap();
    std::fs::write(String::from_utf8_lossy(&found.stdout).trim(), "wrong\nwrong\n").unwrap();
    // Packed in another way than before, its bytes are read.
    let output = ["--output", "type=image,compression=uncompressed"];
    let again = space.build(DOCKERFILE, output).run().expect_ok();
    again.stderr_has(&[
        "warning: a result of the cache is damaged, and its step runs again: /twice",
        "12B added",
    ]);
    assert_eq!(space.run_in("app", &["cat", "/twice"]), "right\nright\n");
    space.build(DOCKERFILE, output).run().expect_ok().lacks(&["damaged"]);
}

#[test]
fn after_a_prune_to_a_size_the_store_has_that_size_under_every_policy() {
    for policy in ["lru", "lfu", "gdsf"] {
        let space = built();
        space.dbuild(["rm", "app"]).run().expect_ok();
        let store = space.path("store");
        let words = ["cache", "prune", "--keep-storage", "3MB", "--policy", policy];
        let before = du(&store);
        let dry = space.dbuild(words).args(["--dry-run"]).run().expect_ok().stdout_has(&["would free"]);
        assert!(du(&store).abs_diff(before) < 100_000, "{dry}");
        space.dbuild(words).run().expect_ok();
        assert!(du(&store) <= 3_000_000, "{policy}: {}", du(&store));
        // What is left is a store that works.
        space.build(DOCKERFILE, [""; 0]).run().expect_ok();
    }
    let space = TestSpace::offline();
    let wrong = space.dbuild(["cache", "prune", "--policy", "lur"]).run().expect_code(2);
    wrong.stderr_has(&["choose one of lru, lfu, gdsf"]);
    space.dbuild(["cache", "prune", "--filter", "since=1h"]).run().expect_code(2).stderr_has(&["until=24h"]);
    space.dbuild(["cache", "prune", "--filter", "until=24h"]).run().expect_ok();
}

#[test]
fn du_agrees_with_the_file_system() {
    let space = built();
    let told = space.dbuild(["cache", "du", "--json"]).run().expect_ok().json();
    let (told, real) = (told["total"].as_u64().unwrap(), du(&space.path("store")));
    assert!(told.abs_diff(real) * 50 <= real, "{told} is not within 2 % of {real}");
}

/// Adds a `[cache]` table to the configuration.
fn configure(space: &TestSpace, cache: &str) {
    let registry = space.read("config.toml");
    space
        .write("config.toml", format!("{}\n[cache]\n{cache}\n", registry.split("\n[cache]").next().unwrap()));
}

/// Two stages: a large one that no image needs, and the image's.
fn wasteful(number: u32) -> String {
    format!(
        "FROM busybox AS waste\nRUN echo {number} && dd if=/dev/urandom of=/big bs=1024 count=20000 2> /dev/null && echo ok > /ok\n\
         FROM busybox\nCOPY --from=waste /ok /ok\nRUN echo {number} > /number\n"
    )
}

#[test]
fn a_build_keeps_the_store_within_its_limit_and_the_image_that_it_made() {
    let space = TestSpace::new();
    let store = space.path("store");
    configure(&space, "auto = false\nkeep-size = \"12MB\"");
    space.build(&wasteful(1), [""; 0]).run().expect_ok().lacks(&["cache: removed"]);
    space.build(&wasteful(2), [""; 0]).run().expect_ok().lacks(&["cache: removed"]);
    assert!(du(&store) > 40_000_000, "nothing is removed with `auto = false`: {}", du(&store));

    configure(&space, "keep-size = \"12MB\"");
    let built = space.build(&wasteful(3), [""; 0]).run().expect_ok();
    built.stderr_has(&["cache: removed ", " of 12.0MB"]);
    assert!(du(&store) <= 12_000_000, "{}", du(&store));
    assert_eq!(space.run_in("app", &["cat", "/ok", "/number"]), "ok\n3\n");
    space.dbuild(["why"]).run().expect_ok();
    // There is nothing more to do, and nothing is said.
    space.build("FROM busybox\nRUN true\n", [""; 0]).run().expect_ok().lacks(&["cache: removed"]);
    space.dbuild(["cache", "verify"]).run().expect_ok();

    configure(&space, "keep-for = \"0s\"");
    space.build(&wasteful(4), ["--quiet"]).run().expect_ok().lacks(&["cache: removed"]);
    assert_eq!(space.dbuild(["cache", "ls", "--json"]).run().expect_ok().json(), serde_json::json!([]));
    assert_eq!(space.run_in("app", &["cat", "/number"]), "4\n");
}

#[test]
fn a_wrong_limit_is_told_with_its_place() {
    for (cache, told) in [
        ("keep-size = \"20 apples\"", "`20 apples`: expected a size such as 500MB, 10GB or 1.5GiB"),
        ("keep-size = 20", "expected a string"),
        ("keep-for = \"long\"", "`long`: expected a time such as 30m, 24h or 7d"),
        ("policy = \"lur\"", "choose one of lru, lfu, gdsf"),
        ("keep = \"1GB\"", "expected one of `keep-size`, `keep-for`, `policy`, `auto`"),
    ] {
        let space = TestSpace::offline();
        configure(&space, cache);
        space.dbuild(["images"]).run().expect_code(2).stderr_has(&["config.toml", "line 5", told, "[cache]"]);
    }
}

#[test]
fn what_a_running_build_uses_stays_when_others_collect_everything() {
    let space = TestSpace::new();
    let dockerfile = |end: &str| {
        format!(
            "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /id\nRUN echo with-$((6 * 7)); {end}\nRUN test -s /id\n"
        )
    };
    // The first step is there from an earlier build; the running one has found it and stands in the second.
    space.build("FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /id\n", [""; 0]).run().expect_ok();
    let id = space.run_in("app", &["cat", "/id"]);
    space.dbuild(["rm", "app"]).run().expect_ok();
    space.write("context/unused", "");
    space.build("FROM scratch\nCOPY unused /\n", ["--tag", "other"]).run().expect_ok();
    let gate = "until [ -e /gate/open ]; do sleep 0.1; done";
    let mount = "--mount=type=cache,target=/gate,id=gate ";
    let waiting = dockerfile(gate).replace("RUN echo", &format!("RUN {mount}echo"));
    let mut build = Background::start(space.build(&waiting, [""; 0]).into_command());
    build.wait_for_line("with-42");
    space.dbuild(["rm", "other"]).run().expect_ok();
    let pruned = space.dbuild(["cache", "prune", "--all"]).run().expect_ok();
    let listed = space.dbuild(["cache", "ls"]).run().expect_ok();
    listed.stdout_has(&["/proc/sys/kernel/random/uuid"]).lacks(&["COPY unused"]);
    // The mount is in use, too; what is written there opens the gate.
    let open = format!("FROM busybox\nRUN {mount}touch /gate/open\n");
    space.build(&open, ["--tag", "opener"]).run().expect_ok();
    let (status, told) = build.wait();
    assert!(status.success(), "{told}\n{pruned}");
    assert_eq!(space.run_in("app", &["cat", "/id"]), id, "the step that was found was not run again");
}
