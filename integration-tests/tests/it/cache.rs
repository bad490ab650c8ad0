//! `dbuild cache`: what is kept, what it is made of, whether it is whole, and what goes.

use std::path::{Path, PathBuf};

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
        let shown = shown.stdout_has(&["RUN cat /file /file > /twice", key, "the command:", "the parent:"]);
        let shown =
            shown.stdout_has(&["\n  size        ", "\n  hits        1\n", "\n  stage       stage-0\n"]);
        shown.stdout_has(&["made on, and with files from:\n", "  COPY file /file\n"]);
    }
    let copy = space.dbuild(["cache", "inspect", "COPY file"]).run().expect_ok();
    let copy =
        copy.stdout_has(&["path file: file 0644 0:0", "FROM docker.io/library/busybox:latest (sha256:"]);
    let copy = copy.stdout_has(&["files from outside: see the paths above"]);
    // What it costs, in seconds, and when it was used last: after it was made.
    let words = ["cost ", "last used "];
    let values = words.map(|word| {
        let line = copy.stdout.lines().find(|line| line.trim_start().starts_with(word));
        line.unwrap_or_else(|| panic!("{word}: {copy}")).trim_start()[word.len()..].trim().to_owned()
    });
    assert!(values[0].strip_suffix('s').is_some_and(|cost| cost.parse::<f64>().is_ok()), "{values:?}");
    assert!(values[1].starts_with("20") && values[1].len() == "2026-01-01 00:00:00".len(), "{values:?}");
    let copy = space.dbuild(["cache", "ls", "--json", "--filter", "COPY file"]).run().expect_ok().json();
    let ms = |name: &str| copy[0][name].as_u64().expect("a number");
    assert!(ms("last_used_ms") > ms("created_ms") && ms("size") > 0 && ms("hits") == 1, "{copy:#}");
    let several = space.dbuild(["cache", "inspect", "RUN"]).run().expect_code(1);
    several.stderr_has(&["names 2 results", "RUN dd"]);
    space.dbuild(["cache", "inspect", "none"]).run().expect_code(1).stderr_has(&["cache ls"]);
}

#[test]
fn damage_is_found_and_repaired() {
    let space = built();
    space.dbuild(["cache", "verify"]).run().expect_ok().stdout_has(&["snapshots were read"]);
    std::fs::write(in_snapshots(&space, "twice").remove(0), "wrong\nwrong\n").unwrap();
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
    std::fs::write(in_snapshots(&space, "twice").remove(0), "wrong\nwrong\n").unwrap();
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

/// The files of a name in the snapshots.
fn in_snapshots(space: &TestSpace, name: &str) -> Vec<PathBuf> {
    let mut find = std::process::Command::new("find");
    let found = find.arg(space.path("store/snapshots")).args(["-name", name]).output().unwrap();
    String::from_utf8_lossy(&found.stdout).lines().map(PathBuf::from).collect()
}

#[test]
fn what_is_missing_or_cut_in_a_result_is_made_again_when_it_is_needed() {
    let dockerfile = |last: &str| {
        format!(
            "FROM busybox AS made\nRUN mkdir /c && echo whole > /c/first\nRUN mkdir /d && echo whole > /d/second\n\
             FROM busybox\nRUN echo beside > /beside\nCOPY --from=made /c/first /d/second /{last}/\n"
        )
    };
    type Damage = fn(&Path);
    let delete: Damage = |file| std::fs::remove_file(file).unwrap();
    let cut: Damage = |file| std::fs::write(file, "w").unwrap();
    let directory: Damage = |file| std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
    let link: Damage = |file| {
        std::fs::remove_file(file).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", file).unwrap();
    };
    let snapshot: Damage = |file| {
        let mut dir = file.parent().unwrap();
        while !dir.parent().unwrap().ends_with("snapshots") {
            dir = dir.parent().unwrap();
        }
        std::fs::remove_dir_all(dir).unwrap();
    };
    let packed = ["--output", "type=image,compression=uncompressed"];
    let local = ["--output", "type=local,dest=out"];
    for (what, damage, told) in [
        ("delete", delete, "it is gone"),
        ("cut", cut, "size"),
        ("directory", directory, "it is gone"),
        ("link", link, "it has another type or size"),
        ("snapshot", snapshot, ""),
    ] {
        let space = TestSpace::new();
        space.build(&dockerfile("to"), [""; 0]).run().expect_ok();
        let both = || [in_snapshots(&space, "first"), in_snapshots(&space, "second")].concat();
        // Both steps of the source are damaged; what is linked from them goes with them.
        both().iter().filter(|file| file.exists()).for_each(|file| damage(file));
        // The copy is another one, so it must read them. And it is packed, or written out.
        let again = space.build(&dockerfile("else"), [""; 0]).run().expect_ok();
        let again = again.lacks(&["FAILED", "error"]);
        if !told.is_empty() {
            assert_eq!(
                again.stderr.matches("a result of the cache is damaged").count(),
                2,
                "{what}\n{again}"
            );
            assert!(again.stderr.contains(told), "{what}\n{again}");
        }
        assert_eq!(again.stderr.matches("RUN echo beside").count(), 1, "{what}: told once\n{again}");
        assert_eq!(space.run_in("app", &["cat", "/else/first", "/else/second"]), "whole\nwhole\n", "{what}");

        again.stderr_has(&["3 of 6 steps cached"]);
        for output in [packed, local, ["--output", "type=tar,dest=out.tar"]] {
            in_snapshots(&space, "second").iter().filter(|file| file.exists()).for_each(|file| damage(file));
            space.build(&dockerfile("else"), output).run().expect_ok().lacks(&["FAILED", "error"]);
        }
        assert_eq!(space.read("out/else/second"), "whole\n", "{what}");
        space.build(&dockerfile("else"), packed).run().expect_ok().lacks(&["damaged", "FAILED"]);
        let wrong = space.dbuild(["cache", "verify"]).run().stdout;
        assert!(!wrong.contains("second"), "{what}: {wrong}");
    }
}

#[test]
fn a_file_of_a_base_image_that_is_missing_is_unpacked_again() {
    let space = TestSpace::new();
    let dockerfile = |name: &str| format!("FROM scratch\nCOPY --from=busybox /bin/busybox /{name}/busybox\n");
    space.build(&dockerfile("a"), [""; 0]).run().expect_ok();
    in_snapshots(&space, "busybox").iter().for_each(|file| std::fs::remove_file(file).unwrap());
    let again = space.build(&dockerfile("b"), [""; 0]).run().expect_ok();
    again.stderr_has(&["a result of the cache is damaged"]).lacks(&["FAILED"]);
    assert!(space.run_in("app", &["/b/busybox", "echo", "here"]).contains("here"));
}

/// Files that lie in several snapshots, blobs, images and cache mounts.
fn mixed(strategy: &str) -> TestSpace {
    let space = TestSpace::new();
    space.write("context/file", "right\n");
    let flags = ["--strategy", strategy];
    // `COPY --from` without other modes hardlinks the file.
    let text = "FROM busybox AS big\nRUN dd if=/dev/urandom of=/big bs=1024 count=3000 2> /dev/null\n\
                FROM busybox\nCOPY --from=big /big /a\nCOPY --from=big /big /b\nCOPY file /\n\
                RUN --mount=type=cache,target=/m dd if=/dev/urandom of=/m/c bs=1024 count=2000 2> /dev/null; echo 1 > /1\n";
    space.build(text, flags).run().expect_ok();
    let linked = in_snapshots(&space, "a").remove(0);
    assert!(std::os::unix::fs::MetadataExt::nlink(&std::fs::metadata(linked).unwrap()) >= 3);
    let other = "FROM busybox\nRUN --mount=type=cache,id=other,target=/m echo x > /m/x; seq 100000 > /seq\n";
    space.write("other/Dockerfile", other);
    space.dbuild(["build", "-t", "other", "--strategy", strategy, "other"]).run().expect_ok();
    space
}

#[test]
fn du_and_prune_hold_under_every_strategy_with_links_mounts_blobs_and_images() {
    for strategy in ["linear", "content", "output"] {
        let space = mixed(strategy);
        let store = space.path("store");
        let agrees = || {
            let told = space.dbuild(["cache", "du", "--json"]).run().expect_ok().json();
            let (total, real) = (told["total"].as_u64().unwrap(), du(&store));
            assert!(total.abs_diff(real) * 50 <= real, "{strategy}: {total} is not within 2 % of {real}");
            let kinds = told["entries"].as_array().unwrap();
            let of = |kind: &str| kinds.iter().filter(|one| one["kind"] == kind).count();
            (of("image"), of("snapshot"), of("cache_mount"))
        };
        assert_eq!(agrees(), (2, 6, 2), "{strategy}");
        // The images stay with their blobs, 7 MB; what can go does, and is enough.
        for keep in [14_000_000, 11_000_000] {
            let size = keep.to_string();
            space.dbuild(["cache", "prune", "--keep-size", &size]).run().expect_ok();
            assert!(du(&store) <= keep, "{strategy}: {} > {keep}", du(&store));
            assert_eq!(agrees().0, 2, "{strategy}");
        }
        assert_eq!(space.run_in("app", &["cat", "/file"]), "right\n");
        space.dbuild(["rm", "app", "other"]).run().expect_ok();
        space.dbuild(["cache", "prune", "--keep-size", "1500000"]).run().expect_ok();
        assert!(du(&store) <= 1_500_000, "{strategy}: {}", du(&store));
        assert_eq!(agrees().0, 0, "{strategy}");
    }
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
fn who_waits_for_a_build_waits_a_second_for_its_collection_and_the_rest_goes_later() {
    let space = TestSpace::new();
    configure(&space, "auto = false");
    let files = "mkdir /d && cd /d && seq 20000 | xargs touch";
    space.build(&format!("FROM busybox\nRUN {files}\n"), [""; 0]).run().expect_ok();
    let steps: String = (0..60).map(|step| format!("WORKDIR /{step}\n")).collect();
    space.build(&format!("FROM busybox\n{steps}"), [""; 0]).run().expect_ok();
    configure(&space, "keep-size = \"2MB\"\npolicy = \"lru\"");
    let mut removed = 0;
    // So many builds are never needed, however slow the disk is.
    for number in 0..40 {
        let last = format!("FROM scratch\nWORKDIR /{number}\n");
        let mut build = Background::start(space.build(&last, [""; 0]).into_command());
        build.wait_for_line("done in");
        let done = std::time::Instant::now();
        let (status, told) = build.wait();
        // It stops by itself after 0.8 s; the rest is for a machine that is busy.
        let took = done.elapsed();
        assert!(status.success() && took.as_secs_f64() < 3.0, "{took:?}\n{told}");
        removed += usize::from(told.contains("cache: removed"));
        if std::fs::read_dir(space.path("store/snapshots")).unwrap().count() <= 1 {
            break;
        }
    }
    assert!(removed > 0);
    assert!(du(&space.path("store")) <= 4_000_000, "{}", du(&space.path("store")));
}

#[test]
fn cache_mounts_count_and_go_after_a_build_unless_a_step_is_in_them() {
    let space = TestSpace::new();
    let store = space.path("store");
    let fill = |id: &str| {
        format!(
            "FROM busybox\nRUN --mount=type=cache,target=/m,id={id} dd if=/dev/urandom of=/m/c bs=1024 count=12000 2> /dev/null\n"
        )
    };
    configure(&space, "keep-size = \"20MB\"");
    space.build(&fill("one"), [""; 0]).run().expect_ok().lacks(&["cache: removed"]);
    let built = space.build(&fill("two"), [""; 0]).run().expect_ok();
    built.stderr_has(&["cache: removed ", "1 cache mount ("]);
    assert!(du(&store) <= 20_000_000, "{}", du(&store));
    // The one that was used last is there still.
    let left = space.dbuild(["cache", "du", "--json"]).run().expect_ok().json();
    let mounts = left["entries"].as_array().unwrap().iter().filter(|one| one["kind"] == "cache_mount");
    assert_eq!(mounts.map(|one| one["id"].as_str().unwrap()).collect::<Vec<_>>(), ["two"]);

    let gate = "echo with-$((6 * 7)); until [ -e /gate/open ]; do sleep 0.1; done";
    let waiting = format!("FROM busybox\nRUN --mount=type=cache,target=/gate,id=gate {gate}\n");
    let mut build = Background::start(space.build(&waiting, [""; 0]).into_command());
    build.wait_for_line("with-42");
    configure(&space, "keep-size = \"1MB\"");
    let open = "FROM busybox\nRUN --mount=type=cache,target=/gate,id=gate touch /gate/open\n";
    space.write("other/Dockerfile", open);
    space.dbuild(["build", "-t", "opener", "other"]).run().expect_ok();
    let (status, told) = build.wait();
    assert!(status.success(), "{told}");
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
    // The first step is there from an earlier build; the running one has found it and stands in the
    // second.
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
