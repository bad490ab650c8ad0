//! What a key is made of, and what not: each ingredient that a user can change is changed, under
//! each strategy, and everything that is none is changed, too. Keys are read from `dbuild plan`,
//! which makes them as a build does.
//!
//! (`crates/cache/src/tests/ingredients.rs` does it field by field.)

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use dbuild_integration_tests::TestSpace;

const STRATEGIES: [&str; 3] = ["linear", "content", "output"];

const RUN: &str = "FROM busybox\nARG A=1\nENV E=1\nRUN --network=none --mount=type=cache,target=/c make\n";
const COPY: &str = "FROM busybox\nCOPY --exclude=*.md src /dst/\n";

fn space() -> TestSpace {
    let space = TestSpace::new();
    space.write("context/src/app", "one\n");
    space.write("context/src/run.sh", "#!/bin/sh\n");
    space.write("context/src/notes.md", "not copied\n");
    space.write("context/other/app", "one\n");
    std::os::unix::fs::symlink("app", space.path("context/src/link")).expect("a link can be made");
    space
}

/// The key of the last step under each strategy.
#[track_caller]
fn keys(space: &TestSpace, dockerfile: &str, words: &[&str]) -> Vec<String> {
    space.write("context/Dockerfile", dockerfile);
    keys_in(space, "context", words)
}

#[track_caller]
fn keys_in(space: &TestSpace, context: &str, words: &[&str]) -> Vec<String> {
    let key = |strategy: &&str| {
        let plan = space.dbuild(["plan", "--json", "--strategy", strategy, context]).args(words);
        let plan = plan.run().expect_ok().json();
        let last = plan["steps"].as_array().and_then(|steps| steps.last()).expect("there are steps").clone();
        last["key"].as_str().unwrap_or_else(|| panic!("{strategy}: {last:#}")).to_owned()
    };
    STRATEGIES.iter().map(key).collect()
}

#[track_caller]
fn assert_counts(before: &[String], after: &[String], what: &str) {
    for (strategy, (before, after)) in STRATEGIES.iter().zip(before.iter().zip(after)) {
        assert_ne!(before, after, "{what} is an ingredient under {strategy}");
    }
}

#[track_caller]
fn assert_counts_not(before: &[String], after: &[String], what: &str) {
    for (strategy, (before, after)) in STRATEGIES.iter().zip(before.iter().zip(after)) {
        assert_eq!(before, after, "{what} is no ingredient under {strategy}");
    }
}

#[test]
fn what_a_run_is_made_of() {
    let space = space();
    for strategy in STRATEGIES {
        // It is there in the image: what stands on it is known once it was done, and is the same.
        space.build("FROM busybox\nWORKDIR /tmp\n", ["--strategy", strategy]).run().expect_ok();
    }
    let before = keys(&space, RUN, &[]);
    let edit = |from: &str, to: &str| {
        assert!(RUN.contains(from), "{from}");
        RUN.replace(from, to)
    };
    let line = |line: &str| edit("RUN", &format!("{line}\nRUN"));
    for (what, dockerfile) in [
        ("the command", edit("make", "make all")),
        ("the form", edit("make\n", "[\"make\"]\n")),
        ("the shell", line("SHELL [\"/bin/ash\", \"-c\"]")),
        ("a here-document", edit("make\n", "<<E\nmake\nE\n")),
        ("the value of an ARG", edit("A=1", "A=2")),
        ("one more ARG", line("ARG B=1")),
        ("the value of an ENV", edit("E=1", "E=2")),
        ("one more ENV", line("ENV F=1")),
        ("the directory", line("WORKDIR /tmp")),
        ("the user", line("USER 1000")),
        ("the network", edit("--network=none", "--network=default")),
        ("the target of a mount", edit("target=/c", "target=/d")),
        ("the id of a cache", edit("target=/c", "target=/c,id=x")),
        ("the kind of a mount", edit("type=cache", "type=tmpfs")),
        ("a mount less", edit("--mount=type=cache,target=/c ", "")),
        ("a secret", edit("--network", "--mount=type=secret,id=s --network")),
        ("a mounted context", edit("--network", "--mount=type=bind,source=src,target=/s --network")),
    ] {
        assert_counts(&before, &keys(&space, &dockerfile, &[]), what);
    }
    assert_counts(&before, &keys(&space, RUN, &["--build-arg", "A=2"]), "--build-arg");
    assert_counts(&before, &keys(&space, RUN, &["--add-host", "a:10.0.0.1"]), "--add-host");

    let mounted = "FROM busybox\nRUN --mount=type=bind,source=src,target=/s true\n";
    let before = keys(&space, mounted, &[]);
    space.write("context/src/app", "two\n");
    assert_counts(&before, &keys(&space, mounted, &[]), "a file of a mounted context");
}

#[test]
fn what_a_copy_is_made_of() {
    let space = space();
    let before = keys(&space, COPY, &[]);
    let edit = |from: &str, to: &str| COPY.replace(from, to);
    for (what, dockerfile) in [
        ("the source", edit("src", "other")),
        ("one more source", edit("src", "src other")),
        ("the destination", edit("/dst/", "/dest/")),
        ("--chown", edit("--exclude", "--chown=1000 --exclude")),
        ("--chmod", edit("--exclude", "--chmod=0700 --exclude")),
        ("--link", edit("--exclude", "--link --exclude")),
        ("--parents", edit("--exclude", "--parents --exclude")),
        ("--exclude", edit("--exclude=*.md ", "")),
    ] {
        assert_counts(&before, &keys(&space, &dockerfile, &[]), what);
    }
    let change = |what: &str, change: &dyn Fn(&Path)| {
        let before = keys(&space, COPY, &[]);
        change(&space.path("context/src"));
        assert_counts(&before, &keys(&space, COPY, &[]), what);
    };
    let mode = |path: std::path::PathBuf, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode can be set");
    };
    change("the content of a file", &|src| {
        std::fs::write(src.join("app"), "1\n").expect("it can be written")
    });
    change("the mode of a file", &|src| mode(src.join("run.sh"), 0o755));
    change("the mode of a directory", &|src| mode(src.to_owned(), 0o700));
    change("the target of a link", &|src| {
        std::fs::remove_file(src.join("link")).expect("it can be removed");
        std::os::unix::fs::symlink("run.sh", src.join("link")).expect("a link can be made");
    });
    change("a file more", &|src| std::fs::write(src.join("new"), "").expect("it can be written"));
    change("a file less", &|src| std::fs::remove_file(src.join("new")).expect("it can be removed"));
    change("an empty directory", &|src| std::fs::create_dir(src.join("empty")).expect("it can be made"));
    change("what .dockerignore names", &|src| {
        std::fs::write(src.join("../.dockerignore"), "src/run.sh\n").expect("it can be written");
    });
    let here = |text: &str, name: &str| {
        keys(&space, &format!("FROM busybox\nCOPY <<{name} /d/\n{text}\n{name}\n"), &[])
    };
    assert_counts(&here("a", "E"), &here("b", "E"), "the content of a here-document");
    assert_counts(&here("a", "E"), &here("a", "F"), "the name of a here-document");
}

#[test]
fn what_is_no_ingredient() {
    let space = space();
    let (run, copy) = (keys(&space, RUN, &[]), keys(&space, COPY, &[]));
    let same_run = |what: &str, dockerfile: &str, words: &[&str]| {
        assert_counts_not(&run, &keys(&space, dockerfile, words), what);
    };
    same_run("the name of a stage", &RUN.replace("FROM busybox", "FROM busybox AS name"), &[]);
    same_run(
        "the name of an image",
        &RUN.replace("FROM busybox", "FROM docker.io/library/busybox:latest"),
        &[],
    );
    same_run("a comment", &RUN.replace("RUN", "# why\n\nRUN"), &[]);
    same_run("how a line is broken", &RUN.replace("none --mount", "none \\\n  --mount"), &[]);
    same_run(
        "the order of flags",
        &RUN.replace(
            "--network=none --mount=type=cache,target=/c",
            "--mount=target=/c,type=cache --network=none",
        ),
        &[],
    );
    same_run(
        "what the image is started with",
        &RUN.replace("RUN", "CMD [\"x\"]\nEXPOSE 80\nLABEL a=b\nRUN"),
        &[],
    );
    same_run("ENV instead of ARG", &RUN.replace("ARG A=1", "ENV A=1"), &[]);
    same_run("what other stages do", &format!("FROM busybox AS other\nRUN true\n{RUN}"), &[]);
    same_run("how a cache is shared", &RUN.replace("target=/c", "target=/c,sharing=locked"), &[]);
    for words in [
        &["-t", "another/name:1"][..],
        &["--label", "a=b"],
        &["--build-arg", "http_proxy=http://user:password@proxy"],
        &["-j", "1"],
        &["-o", "type=tar,dest=out.tar"],
        &["--pull"],
    ] {
        same_run(&words.join(" "), RUN, words);
    }
    let hosts = ["--add-host", "a:10.0.0.1", "--add-host", "b:10.0.0.2"];
    let turned = ["--add-host", "b:10.0.0.2", "--add-host", "a:10.0.0.1"];
    assert_counts_not(&keys(&space, RUN, &hosts), &keys(&space, RUN, &turned), "the order of --add-host");
    let mounts =
        |first: &str, second: &str| format!("FROM busybox\nRUN --mount={first} --mount={second} true\n");
    let (cache, bind) = ("type=cache,target=/c", "type=bind,source=src,target=/a");
    let in_order = keys(&space, &mounts(cache, bind), &[]);
    assert_counts_not(&in_order, &keys(&space, &mounts(bind, cache), &[]), "the order of --mount");
    let secret = "FROM busybox\nRUN --mount=type=secret,id=s true\n";
    let value = |value: &str| {
        space.write("secret", value);
        keys(&space, secret, &["--secret", "id=s,src=secret"])
    };
    assert_counts_not(&value("one"), &value("two"), "the value of a secret");

    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(86_400);
    std::fs::File::open(space.path("context/src/app"))
        .expect("it is there")
        .set_modified(old)
        .expect("a time can be set");
    assert_counts_not(&copy, &keys(&space, COPY, &[]), "the time of a file");
    space.write("context/src/notes.md", "edited\n");
    space.write("context/elsewhere", "new\n");
    assert_counts_not(&copy, &keys(&space, COPY, &[]), "a file that is not copied");
}

/// Another directory, store, home, language, time zone and name of the machine, and files with
/// other inodes and times.
#[test]
fn the_machine_and_the_place_are_no_ingredients() {
    let (here, there) = (space(), space());
    let before = [RUN, COPY].map(|dockerfile| keys(&here, dockerfile, &[]));
    std::fs::rename(there.path("context"), there.path("moved")).expect("it can be moved");
    for (dockerfile, before) in [RUN, COPY].iter().zip(&before) {
        there.write("moved/Dockerfile", dockerfile);
        for (strategy, before) in STRATEGIES.iter().zip(before) {
            let plan = there.dbuild(["plan", "--json", "--strategy", strategy, "."]);
            let plan =
                plan.current_dir(there.path("moved")).env("LANG", "de_DE.UTF-8").env("TZ", "Asia/Tokyo");
            let plan = plan.env("USER", "else").env("HOSTNAME", "elsewhere").run().expect_ok().json();
            let last =
                plan["steps"].as_array().and_then(|steps| steps.last()).expect("there are steps").clone();
            assert_eq!(last["key"].as_str(), Some(before.as_str()), "{strategy}: {last:#}");
        }
    }
}

/// As fast as it can be done: within one tick of the file system's clock a file that is written
/// twice has one ctime.
#[test]
fn a_file_that_keeps_its_size_and_time_is_noticed_however_fast_it_changes() {
    let space = space();
    space.write("context/Dockerfile", COPY);
    let file = space.path("context/src/app");
    let time = std::fs::metadata(&file).expect("it is there").modified().expect("there are times");
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..20_u8 {
        std::fs::write(&file, [b'a' + round, b'\n']).expect("it can be written");
        let file = std::fs::File::options().write(true).open(&file).expect("it is there");
        file.set_modified(time).expect("a time can be set");
        let plan = space.dbuild(["plan", "--json", "context"]).run().expect_ok().json();
        let last = plan["steps"].as_array().and_then(|steps| steps.last()).expect("there are steps").clone();
        assert!(seen.insert(last["key"].to_string()), "round {round}: {last:#}");
    }
}
