//! Builds that succeed: what the Dockerfile says is in the image, and nothing else.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use dbuild_integration_tests::{Registry, TestSpace, Unpacked};

#[test]
fn only_the_final_stage_is_in_the_image() {
    let space = TestSpace::new();
    space.write("context/greeting.txt", "hello\n");
    let dockerfile = "\
FROM busybox AS builder
WORKDIR /src
COPY greeting.txt .
RUN tr a-z A-Z < greeting.txt > /out.txt && echo rubbish > /rubbish.txt

FROM busybox
COPY --from=builder /out.txt /app/greeting
CMD [\"cat\", \"/app/greeting\"]
";
    space.build(dockerfile, [""; 0]).run().expect_ok();
    assert_eq!(space.run_in("app", &[]), "HELLO\n");
    let image = Unpacked::new(&space, "app");
    assert_eq!(image.read("/app/greeting"), "HELLO\n");
    for path in image.paths() {
        assert!(!path.contains("rubbish") && !path.starts_with("/src") && path != "/out.txt", "{path}");
    }
    assert_eq!(image.manifest["layers"].as_array().map(Vec::len), Some(2));
}

#[test]
fn an_image_can_be_made_of_nothing() {
    let space = TestSpace::new();
    let dockerfile = "FROM busybox AS b\nFROM scratch\nCOPY --from=b /bin/busybox /busybox\nENTRYPOINT [\"/busybox\", \"echo\"]\nCMD [\"one\"]\n";
    space.build(dockerfile, [""; 0]).run().expect_ok();
    assert_eq!(space.run_in("app", &[]), "one\n");
    assert_eq!(space.run_in("app", &["two"]), "two\n");
    let paths: Vec<String> = Unpacked::new(&space, "app").paths().into_iter().collect();
    assert_eq!(paths, ["/busybox"]);
}

#[test]
fn a_second_build_runs_nothing() {
    let space = TestSpace::new();
    space.write("context/a", "a");
    let dockerfile =
        "FROM busybox\nCOPY a /a\nRUN cat /proc/sys/kernel/random/uuid > /id\nRUN cp /id /copy\n";
    space.build(dockerfile, ["--iidfile", "first"]).run().expect_ok();
    space.build(dockerfile, ["--iidfile", "second"]).run().expect_ok().stderr_has(&["CACHED"]);
    assert_eq!(space.read("first"), space.read("second"));

    space.build(dockerfile, ["--iidfile", "third", "--no-cache"]).run().expect_ok();
    assert_ne!(space.read("first"), space.read("third"), "--no-cache runs the steps again");
}

#[test]
fn one_file_of_many_changed_gives_the_bytes_that_a_first_build_gives() {
    let space = TestSpace::new();
    let text = |n: usize| format!("{n} {}", "words that shrink, ".repeat(100 + n % 77));
    for n in 0..400 {
        space.write(format!("context/files/d{}/f{n}", n % 7), text(n));
    }
    // The command needs the files, so they are written.
    let dockerfile = "FROM busybox\nCOPY files /files\nRUN true\n";
    let layer = |store: &str| {
        let iid = format!("{store}.iid");
        let words = ["--store", store, "--iidfile", &iid];
        space.build(dockerfile, words).env("SOURCE_DATE_EPOCH", "1700000000").run().expect_ok();
        space.read(iid)
    };
    let first = layer("store");
    space.write("context/files/d3/f10", "changed, and of another length");
    std::fs::remove_file(space.path("context/files/d4/f11")).unwrap();
    let changed = layer("store");
    assert_ne!(first, changed);
    assert_eq!(changed, layer("another-store"));

    // The unchanged files are in the store once.
    let links = |path: &str| {
        let find = format!("find store/snapshots -path '*/files/{path}' -links +1 | wc -l");
        space.shell("", &find).expect_ok().stdout
    };
    assert_eq!([links("d5/f12").trim(), links("d3/f10").trim()], ["2", "0"]);

    // Should what is linked from be damaged, the context is still there.
    space.shell("", "rm store/snapshots/*/fs/files/d5/f12").expect_ok();
    space.write("context/files/d3/f10", "changed once more");
    let third = layer("store");
    assert_eq!(third, layer("yet-another-store"));
}

#[test]
fn more_layers_than_overlayfs_takes_are_merged_below() {
    let space = TestSpace::new();
    // What a layer of the merged part hides, and one above it, stays hidden.
    let steps: String = (0..150)
        .map(|n| format!("RUN echo {n} >> /all && echo {n} > /f{n} && rm -f /f{}\n", (n + 149) % 150))
        .collect();
    let last = "RUN [ $(wc -l < /all) = 150 ] && [ \"$(ls -d /f[0-9]*)\" = /f149 ] && ls -l /bin/busybox\n";
    space.build(&format!("FROM busybox\n{steps}{last}"), [""; 0]).run().expect_ok();
    assert_eq!(space.run_in("app", &["cat", "/f149"]), "149\n");
}

#[test]
fn a_change_runs_what_depends_on_it_and_nothing_else() {
    let space = TestSpace::new();
    space.write("context/early", "1");
    space.write("context/late", "1");
    let dockerfile = "\
FROM busybox
COPY early /early
RUN cat /proc/sys/kernel/random/uuid > /first
COPY late /late
RUN cat /proc/sys/kernel/random/uuid > /second
CMD cat /first /second
";
    let ids = |space: &TestSpace| -> Vec<String> {
        space.build(dockerfile, [""; 0]).run().expect_ok();
        space.run_in("app", &[]).lines().map(str::to_owned).collect()
    };
    let before = ids(&space);
    space.write("context/late", "2");
    let after = ids(&space);
    assert_eq!(before[0], after[0]);
    assert_ne!(before[1], after[1]);
}

#[test]
fn a_step_that_gives_the_same_again_stops_the_rebuild() {
    let space = TestSpace::new();
    let dockerfile = "\
FROM busybox AS b
COPY input /input
RUN cut -c1 /input > /first-letter

FROM busybox
COPY --from=b /first-letter /
RUN cat /proc/sys/kernel/random/uuid > /id
CMD cat /id
";
    space.write("context/input", "apple");
    space.build(dockerfile, ["--iidfile", "first"]).run().expect_ok();
    let before = space.run_in("app", &[]);
    space.write("context/input", "apricot");
    space.build(dockerfile, ["--iidfile", "second"]).run().expect_ok();
    assert_eq!(before, space.run_in("app", &[]));
    assert_eq!(space.read("first"), space.read("second"));
}

#[test]
fn a_change_that_keeps_size_and_mtime_is_noticed() {
    let space = TestSpace::new();
    let dockerfile = "FROM busybox\nCOPY file /file\nCMD cat /file\n";
    let file = space.write("context/file", "one");
    let modified = std::fs::metadata(&file).unwrap().modified().unwrap();
    space.build(dockerfile, [""; 0]).run().expect_ok();
    assert_eq!(space.run_in("app", &[]), "one");
    std::fs::write(&file, "two").unwrap();
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
    space.build(dockerfile, [""; 0]).run().expect_ok();
    assert_eq!(space.run_in("app", &[]), "two");
}

#[test]
fn stages_that_are_not_needed_are_not_run() {
    let space = TestSpace::new();
    let dockerfile = "\
FROM busybox AS broken
RUN false
FROM busybox AS wanted
RUN echo wanted > /which
FROM wanted AS last
RUN false
";
    space.build(dockerfile, ["--target", "wanted"]).run().expect_ok();
    assert_eq!(space.run_in("app", &["cat", "/which"]), "wanted\n");
    space.build(dockerfile, ["--target", "WANTED"]).run().expect_ok();
}

#[test]
fn independent_stages_run_side_by_side() {
    let space = TestSpace::new();
    let mut dockerfile = String::new();
    for number in 0..8 {
        dockerfile
            .push_str(&format!("FROM busybox AS s{number}\nRUN sleep 2 && echo {number} > /n{number}\n"));
    }
    dockerfile.push_str("FROM scratch\n");
    for number in 0..8 {
        dockerfile.push_str(&format!("COPY --from=s{number} /n{number} /\n"));
    }
    let start = Instant::now();
    space.build(&dockerfile, [""; 0]).run().expect_ok();
    // One after the other would take 16 seconds.
    assert!(start.elapsed() < Duration::from_secs(10), "it took {:?}", start.elapsed());
}

#[test]
fn sources_of_a_copy() {
    let space = TestSpace::new();
    space.write("context/here.txt", "here");
    space.write("other/there.txt", "there");
    let dockerfile = "\
FROM busybox
RUN echo zero > /zero.txt
FROM scratch
COPY here.txt /1
COPY --from=0 /zero.txt /2
COPY --from=other there.txt /3
COPY --from=busybox /etc/passwd /4
";
    space.build(dockerfile, ["--build-context", "other=other"]).run().expect_ok();
    let image = Unpacked::new(&space, "app");
    assert_eq!([image.read("/1"), image.read("/2"), image.read("/3")], ["here", "zero\n", "there"]);
    assert!(image.read("/4").starts_with("root:x:0:0"));
}

#[test]
fn the_words_of_a_dockerfile_reach_the_config() {
    let space = TestSpace::new();
    let dockerfile = "\
FROM busybox
ARG VERSION=1.0
ENV VERSION=$VERSION NAME=\"a b\"
LABEL version=$VERSION
WORKDIR /app/$VERSION
EXPOSE 80 53/udp
VOLUME /data
STOPSIGNAL SIGINT
SHELL [\"/bin/sh\", \"-ec\"]
HEALTHCHECK --interval=5s --retries=2 CMD true
USER app
ENTRYPOINT echo hello
";
    space.build(dockerfile, ["--build-arg", "VERSION=2.0", "--label", "who=me"]).run().expect_ok();
    let config = Unpacked::new(&space, "app").config["config"].clone();
    let env: Vec<&str> = config["Env"].as_array().unwrap().iter().filter_map(|word| word.as_str()).collect();
    assert_eq!(env[1..], ["VERSION=2.0", "NAME=a b"]);
    assert!(env[0].starts_with("PATH="));
    assert_eq!(config["Labels"], serde_json::json!({"version": "2.0", "who": "me"}));
    assert_eq!(config["WorkingDir"], "/app/2.0");
    assert_eq!(config["ExposedPorts"], serde_json::json!({"53/udp": {}, "80/tcp": {}}));
    assert_eq!(config["Volumes"], serde_json::json!({"/data": {}}));
    assert_eq!(config["StopSignal"], "SIGINT");
    assert_eq!(config["User"], "app");
    assert_eq!(config["Entrypoint"], serde_json::json!(["/bin/sh", "-ec", "echo hello"]));
    assert_eq!(config["Cmd"], serde_json::Value::Null);
}

#[test]
fn run_has_the_user_the_directory_and_the_environment_that_were_set() {
    let space = TestSpace::new();
    let dockerfile = "\
FROM busybox
ARG SECRETLESS=yes
ENV HELLO=world
WORKDIR /work
RUN chown 1000:1000 .
USER app
RUN id > /work/id && pwd > /work/pwd && echo $HELLO $SECRETLESS $HOME > /work/env
RUN [\"sh\", \"-c\", \"echo exec form > /work/exec\"]
";
    space.build(dockerfile, [""; 0]).run().expect_ok();
    let image = Unpacked::new(&space, "app");
    assert_eq!(image.read("/work/id"), "uid=1000(app) gid=1000(app) groups=29(audio),1000(app)\n");
    assert_eq!(image.read("/work/pwd"), "/work\n");
    assert_eq!(image.read("/work/env"), "world yes /home/app\n");
    assert_eq!(image.read("/work/exec"), "exec form\n");
}

#[test]
fn what_dockerignore_names_stays_outside() {
    let space = TestSpace::new();
    for path in ["keep.txt", "drop.log", "dir/drop.log", "dir/keep.log", "node_modules/x.js"] {
        space.write(format!("context/{path}"), path);
    }
    space
        .write("context/.dockerignore", "**/*.log\n!dir/keep.log\nnode_modules\nDockerfile\n.dockerignore\n");
    space.build("FROM scratch\nCOPY . /\n", [""; 0]).run().expect_ok();
    let paths: Vec<String> = Unpacked::new(&space, "app").paths().into_iter().collect();
    assert_eq!(paths, ["/dir", "/dir/keep.log", "/keep.txt"]);
}

#[test]
fn owners_and_modes_of_copies() {
    let space = TestSpace::new();
    space.write("context/file", "x");
    let dockerfile = "\
FROM busybox
COPY file /plain
COPY --chown=app file /named
COPY --chown=7:8 --chmod=0640 file /numbered
";
    space.build(dockerfile, [""; 0]).run().expect_ok();
    let image = Unpacked::new(&space, "app");
    let of = |name: &str| {
        let data = std::fs::metadata(image.rootfs.join(name)).unwrap();
        (data.uid(), data.gid(), data.mode() & 0o7777)
    };
    assert_eq!(
        [of("plain"), of("named"), of("numbered")],
        [(0, 0, 0o644), (1000, 1000, 0o644), (7, 8, 0o640)]
    );
}

#[test]
fn add_unpacks_archives() {
    let space = TestSpace::new();
    space.write("context/pack/inside/file", "packed");
    let mut tar = std::process::Command::new("tar");
    tar.args(["-C", "pack", "-czf", "archive.tgz", "inside"]).current_dir(space.path("context"));
    dbuild_integration_tests::run(&mut tar).expect_ok();
    space.build("FROM scratch\nADD archive.tgz /here\nCOPY archive.tgz /there\n", [""; 0]).run().expect_ok();
    let image = Unpacked::new(&space, "app");
    assert_eq!(image.read("/here/inside/file"), "packed");
    assert!(image.rootfs.join("there").is_file());
}

#[test]
fn onbuild_runs_in_the_child_of_an_image() {
    let space = TestSpace::new();
    let registry = Registry::start(&space.path("registry"));
    let base = format!("{}/team/base:1", registry.address());
    let dockerfile = "FROM busybox\nONBUILD COPY file /file\nONBUILD RUN cp /file /copy\n";
    space.write("context/file", "from the child");
    space.write("context/Dockerfile", dockerfile);
    space.dbuild(["build", "-t", &base, "--push", "context"]).run().expect_ok();

    let other = TestSpace::new();
    other.write("context/file", "from the child");
    other.build(&format!("FROM {base}\nCMD cat /copy\n"), [""; 0]).run().expect_ok();
    assert_eq!(other.run_in("app", &[]), "from the child");
    let child = Unpacked::new(&other, "app");
    assert_eq!(child.config["config"]["OnBuild"], serde_json::Value::Null);
}

#[test]
fn the_same_source_gives_the_same_image_in_another_store() {
    let dockerfile = "\
FROM busybox AS b
COPY . /src
RUN cat /src/* > /all && touch /all2
FROM busybox
WORKDIR /w
COPY --from=b /all /all2 /w/
RUN echo made > made && mkdir dir
";
    let digests: Vec<String> = (0..2)
        .map(|_| {
            let space = TestSpace::new();
            space.write("context/a", "a");
            space.write("context/b", "b");
            let build = space.build(dockerfile, ["--iidfile", "id"]).env("SOURCE_DATE_EPOCH", "1700000000");
            build.run().expect_ok();
            Unpacked::new(&space, "app").config["created"].as_str().unwrap().to_owned() + &space.read("id")
        })
        .collect();
    assert_eq!(digests[0], digests[1]);
    assert!(digests[0].starts_with("2023-11-14T22:13:20"), "{}", digests[0]);
}

#[test]
fn a_cached_base_does_when_its_registry_is_gone() {
    let space = TestSpace::new();
    let registry = Registry::start(&space.path("registry"));
    let base = format!("{}/base:1", registry.address());
    space.write("context/Dockerfile", "FROM busybox\nRUN echo base > /base\n");
    space.dbuild(["build", "-t", &base, "--push", "context"]).run().expect_ok();

    let other = TestSpace::new();
    let dockerfile = format!("FROM {base}\nRUN cat /base\n");
    other.build(&dockerfile, ["--iidfile", "before"]).run().expect_ok();
    drop(registry);
    other.build(&dockerfile, ["--iidfile", "after"]).run().expect_ok();
    other.build(&dockerfile, ["--pull=false", "--iidfile", "never"]).run().expect_ok();
    assert_eq!(other.read("before"), other.read("after"));
    assert_eq!(other.read("before"), other.read("never"));
}

#[test]
fn the_dockerfile_can_come_from_elsewhere() {
    let space = TestSpace::new();
    space.write("context/file", "x");
    space.write("docker/Other", "FROM busybox\nCOPY file /other\n");
    let build = |file: &str| space.dbuild(["build", "-t", "app", "-f", file, "context"]);
    build("docker/Other").run().expect_ok();
    assert_eq!(space.run_in("app", &["cat", "/other"]), "x");
    build("-").stdin("FROM busybox\nCOPY file /piped\n").run().expect_ok();
    assert_eq!(space.run_in("app", &["cat", "/piped"]), "x");
}

/// Steps that lock the same caches in different orders do not wait for each other for ever, and one
/// step may mount a cache twice.
#[test]
fn locked_caches_are_taken_in_one_order() {
    let space = TestSpace::new();
    let mount = |id: &str, target: &str| format!("--mount=type=cache,id={id},target={target},sharing=locked");
    let dockerfile = format!(
        "FROM busybox AS a\nRUN {} {} sleep 0.2\nFROM busybox AS b\nRUN {} {} sleep 0.3\n\
         FROM busybox\nCOPY --from=a /etc/passwd /a\nCOPY --from=b /etc/passwd /b\n\
         RUN {} {} echo shared > /one/file && cat /two/file\n",
        mount("x", "/1"),
        mount("y", "/2"),
        mount("y", "/1"),
        mount("x", "/2"),
        mount("z", "/one"),
        mount("z", "/two"),
    );
    space.build(&dockerfile, [""; 0]).run().expect_ok().stderr_has(&["shared"]);
}

#[test]
fn a_socket_in_the_context_is_an_empty_file() {
    let space = TestSpace::new();
    let _socket = std::os::unix::net::UnixListener::bind(space.path("context/socket")).unwrap();
    space.build("FROM busybox\nCOPY . /c\n", [""; 0]).run().expect_ok();
    assert_eq!(space.run_in("app", &["stat", "-c", "%F", "/c/socket"]), "regular empty file\n");
}

/// Files that are named without a directory lie where dbuild was started.
#[test]
fn outputs_may_be_bare_names() {
    let space = TestSpace::new();
    let words = ["-o", "type=tar,dest=files.tar", "-o", "type=oci,dest=image.tar", "--iidfile", "id"];
    space.build("FROM busybox\n", words).args(["--metadata-file", "metadata"]).run().expect_ok();
    for name in ["files.tar", "image.tar", "id", "metadata"] {
        assert!(space.path(name).is_file(), "{name}");
    }
}

#[test]
fn a_step_that_stands_in_two_stages_runs_once_and_waits_for_no_other_build() {
    let space = TestSpace::new();
    let dockerfile = "\
FROM busybox AS one
RUN sleep 0.5; cat /proc/sys/kernel/random/uuid > /id
FROM busybox AS two
RUN sleep 0.5; cat /proc/sys/kernel/random/uuid > /id
FROM busybox
COPY --from=one /id /one
COPY --from=two /id /two
";
    space.build(dockerfile, [""; 0]).run().expect_ok().lacks(&["waiting for another build"]);
    space.run_in("app", &["cmp", "/one", "/two"]);
}

#[test]
fn an_instruction_that_stands_twice_in_a_stage_gives_its_layer_twice() {
    let space = TestSpace::new();
    space.write("context/f", "one\n");
    let dockerfile = "FROM busybox\nRUN mkdir /x\nCOPY f /x/\nRUN rm /x/f && echo 2 > /x/g\nCOPY f /x/\nRUN cat /x/f /x/g > /both\n\
        RUN rm /x/f\nCOPY f /x/\nRUN rm /x/f\nRUN ls /x > /left\n";
    space.build(dockerfile, [""; 0]).run().expect_ok();
    assert_eq!(space.run_in("app", &["cat", "/both", "/left"]), "one\n2\ng\n");
}
