//! Builds that fail: exit 1 (wrong usage: 2), one error that names what is wrong, and a store that
//! goes on working.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use dbuild_integration_tests::{Registry, TestSpace};

/// Builds this Dockerfile, expects exit 1 and these words, and that the next build in the same
/// store succeeds.
#[track_caller]
fn check(dockerfile: &str, args: &[&str], expected: &[&str]) {
    let space = TestSpace::new();
    space.write("context/present.txt", "x");
    space
        .build(dockerfile, args)
        .run()
        .expect_code(1)
        .stderr_has(&["error"])
        .stderr_has(expected)
        .lacks(&["panicked"]);
    space.build("FROM busybox\nRUN echo fine\n", [""; 0]).run().expect_ok();
}

#[test]
fn the_dockerfile_or_the_context_is_missing() {
    let space = TestSpace::offline();
    space.dbuild(["build", "context"]).run().expect_code(1).stderr_has(&["Dockerfile"]);
    space
        .dbuild(["build", "-f", "nowhere/Dockerfile", "context"])
        .run()
        .expect_code(1)
        .stderr_has(&["nowhere/Dockerfile"]);
    space.dbuild(["build", "no-such-context"]).run().expect_code(1).stderr_has(&["no-such-context"]);
    space.write("context/Dockerfile", "# nothing but a comment\n");
    space.dbuild(["build", "context"]).run().expect_code(1).stderr_has(&["Dockerfile"]);
}

#[test]
fn a_base_does_not_exist() {
    check("FROM no-such-image:9\nRUN true\n", &[], &["no-such-image", "Dockerfile:1"]);
}

#[test]
fn a_stage_does_not_exist() {
    check("FROM busybox AS build\n", &["--target", "biuld"], &["biuld", "build"]);
    check(
        "FROM busybox AS builder\nFROM busybox\nCOPY --from=5 /etc/passwd /\n",
        &[],
        &["Dockerfile:3", "5"],
    );
}

#[test]
fn a_file_does_not_exist() {
    check("FROM busybox\nCOPY prezent.txt /\n", &[], &["prezent.txt", "Dockerfile:2", "present.txt"]);
    check("FROM busybox AS b\nFROM busybox\nCOPY --from=b /nowhere /\n", &[], &["/nowhere", "Dockerfile:3"]);
}

#[test]
fn an_instruction_or_a_flag_is_unknown() {
    check("FROM busybox\nCOPPY a b\n", &[], &["COPPY", "Dockerfile:2", "COPY"]);
    check("FROM busybox\nCOPY --form=b a b\n", &[], &["--form", "Dockerfile:2", "--from"]);
    check("RUN true\nFROM busybox\n", &[], &["Dockerfile:1", "FROM"]);
}

#[test]
fn a_command_fails() {
    let dockerfile = "FROM busybox\nRUN echo before-the-end && exit 7\nRUN echo never\n";
    check(dockerfile, &[], &["before-the-end", "Dockerfile:2", "exit 7", "7"]);
    check("FROM busybox\nRUN [\"/no/such/program\"]\n", &[], &["/no/such/program", "Dockerfile:2"]);
}

#[test]
fn a_step_that_was_done_is_kept_when_a_later_one_fails() {
    let space = TestSpace::new();
    let start = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /id\n";
    space.build(&format!("{start}RUN false\n"), [""; 0]).run().expect_code(1);
    space.build(&format!("{start}CMD cat /id\n"), [""; 0]).run().expect_ok().stderr_has(&["CACHED"]);
}

#[test]
fn wrong_usage_is_told_apart() {
    let space = TestSpace::offline();
    for words in [
        &["build"][..],
        &["build", "--no-such-flag", "."],
        &["no-such-command"],
        &["build", "-j", "zero", "."],
    ] {
        space.dbuild(words).run().expect_code(2);
    }
}

#[test]
fn a_registry_cannot_be_reached() {
    let space = TestSpace::offline();
    let build = space.build("FROM busybox\n", [""; 0]);
    build.run().expect_code(1).stderr_has(&["busybox", "127.0.0.1:1"]).lacks(&["panicked"]);
}

/// A registry that answers every request with this head.
fn answering(head: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let _ = stream.read(&mut [0; 4096]);
            let _ = write!(stream, "HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    address
}

#[test]
fn a_registry_refuses_or_fails() {
    for (head, expected) in [("401 Unauthorized", "authorized"), ("500 Internal Server Error", "500")] {
        let address = answering(head);
        let space = TestSpace::offline();
        let build = space.build(&format!("FROM {address}/team/image:1\n"), [""; 0]);
        build
            .run()
            .expect_code(1)
            .stderr_has(&[&format!("{address}/team/image:1"), expected])
            .lacks(&["panicked"]);
    }
}

/// The largest blob in the storage of a docker-registry: the layer of what was pushed last.
fn largest_blob(storage: &Path) -> PathBuf {
    let mut found = Vec::new();
    let mut rest = vec![storage.join("docker/registry/v2/blobs")];
    while let Some(dir) = rest.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                rest.push(entry.path());
            } else {
                found.push((entry.metadata().unwrap().len(), entry.path()));
            }
        }
    }
    found.into_iter().max().unwrap().1
}

#[test]
fn a_registry_lies_about_a_layer() {
    let flip = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    };
    let truncate = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    for (how, damage) in [("flipped", &flip as &dyn Fn(&mut Vec<u8>)), ("truncated", &truncate)] {
        let maker = TestSpace::new();
        let storage = maker.path("registry");
        let registry = Registry::start(&storage);
        let base = format!("{}/base:1", registry.address());
        let dockerfile = "FROM scratch\nCOPY --from=busybox /bin/busybox /bin/sh\n";
        maker.write("context/Dockerfile", dockerfile);
        maker.dbuild(["build", "-t", &base, "--push", "context"]).run().expect_ok();
        let blob = largest_blob(&storage);
        let whole = std::fs::read(&blob).unwrap();
        let mut bytes = whole.clone();
        damage(&mut bytes);
        std::fs::write(&blob, bytes).unwrap();

        let space = TestSpace::new();
        let dockerfile = format!("FROM {base}\nRUN [\"/bin/sh\", \"-c\", \"echo fine\"]\n");
        let outcome = space.build(&dockerfile, [""; 0]).run().expect_code(1).lacks(&["panicked"]);
        assert!(outcome.stderr.contains(&base), "{how}: the reference is named\n{outcome}");
        let place = "context/Dockerfile:1:";
        assert!(outcome.stderr.contains(place), "{how}: it is FROM that cannot be done\n{outcome}");
        std::fs::write(&blob, whole).unwrap();
        space.build(&dockerfile, [""; 0]).run().expect_ok();
    }
}

/// What is wrong with the command line is told before anything runs.
#[test]
fn names_and_places_of_outputs_are_checked_first() {
    let space = TestSpace::new();
    space.write("context/directory/file", "");
    for words in [
        &["-t", "Bad Name"][..],
        &["--iidfile", "no/such/directory/id"],
        &["-o", "type=tar,dest=context/directory"],
        &["--allow", "everything"],
    ] {
        let build = space.build("FROM busybox\nRUN echo it ran\n", words);
        build.run().expect_code(2).stderr_has(&[words[1].split('=').next_back().unwrap()]).lacks(&["it ran"]);
    }
}

/// An ignore file is only blamed where it leaves something out, and then with its line.
#[test]
fn what_leaves_a_source_out_is_named() {
    let space = TestSpace::offline();
    for path in ["pkg/main", "shared/b", "secret.txt", "named/f"] {
        space.write(format!("context/{path}"), path);
    }
    for (target, link) in [("../shared", "pkg/shared"), ("nowhere/x", "pkg/gone"), ("../pkg", "pkg/inside")] {
        std::os::unix::fs::symlink(target, space.path(format!("context/{link}"))).unwrap();
    }
    space.write("context/.dockerignore", "# nothing secret\n*.txt\nshared\n!shared/c\n");
    let says = |line: &str, expected: &str| {
        let dockerfile = format!("FROM scratch AS s\nFROM s\n{line}\n");
        space.build(&dockerfile, ["-q"]).run().expect_code(1).stderr_has(&[expected, "Dockerfile:3:"]);
    };
    says(
        "COPY secret.txt /",
        "no `secret.txt` in the build context: line 2 of .dockerignore, `*.txt`, leaves it out\n",
    );
    says(
        "COPY pkg/shared/b pkg /",
        "`pkg/shared` is a symlink to `../shared`, and line 3 of .dockerignore, `shared`, leaves `shared` out\n",
    );
    says("COPY pkg/g* /", "`pkg/gone` is a symlink to `nowhere/x`, and `pkg/nowhere` is not there\n");
    says("COPY pkg/main/x /", "no `pkg/main/x` in the build context: `pkg/main` is not a directory\n");
    says("RUN --mount=source=secret.txt,target=/s true", "line 2 of .dockerignore, `*.txt`, leaves it out\n");
    says("COPY nothing.txt /", "there is no `nothing.txt` in the build context\n");
    space.write("context/Own", "FROM scratch\nCOPY named/f /\n");
    space.write("context/Own.dockerignore", "named\n");
    let outcome = space.dbuild(["build", "-q", "-f", "context/Own", "context"]).run().expect_code(1);
    outcome.stderr_has(&["line 1 of Own.dockerignore, `named`, leaves `named` out\n"]);
    let args = ["-q", "--build-context", "other=context/shared"];
    space.write("context/shared/.dockerignore", "b");
    let outcome = space.build("FROM scratch\nCOPY --from=other b /\n", args).run().expect_code(1);
    outcome.stderr_has(&["no `b` in the context `other`: line 1 of .dockerignore, `b`, leaves it out\n"]);
}

#[test]
fn a_tree_is_not_copied_through_a_link_inside_it() {
    let space = TestSpace::offline();
    space.write("context/rootfs/opt/tool/f", "x");
    std::fs::create_dir_all(space.path("context/links/usr/opt")).unwrap();
    std::os::unix::fs::symlink("usr/opt", space.path("context/links/opt")).unwrap();
    let outcome = space.build("FROM scratch\nCOPY links /\nCOPY rootfs /\n", ["-q"]).run().expect_code(1);
    outcome.lacks(&[&space.path("store").display().to_string()]).stderr_has(&[
        "error: cannot copy to /opt: a symlink to `usr/opt` stands there, where the source has a directory",
        "Dockerfile:3:",
        "help: symlinks are followed on the way to the destination",
    ]);
    space.build("FROM scratch\nCOPY links /\nCOPY rootfs/opt /opt\n", ["-o", "out"]).run().expect_ok();
    assert_eq!(space.read("out/usr/opt/tool/f"), "x");
}

#[test]
fn ignore_files_that_are_none_are_named_with_their_line() {
    let space = TestSpace::offline();
    let says = |ignore: &[u8], expected: &[&str]| {
        space.write("context/.dockerignore", ignore);
        space.build("FROM scratch\nCOPY . /\n", ["-q"]).run().expect_code(1).stderr_has(expected);
    };
    says(b"a\n[a-]\n", &[".dockerignore:2: `[a-]` is not a pattern"]);
    says(b"*\n\n!/\n", &[".dockerignore:3: `!/` is not a pattern"]);
    says(b"\xff\xfea\0\n\0", &[".dockerignore: it is written in UTF-16", "save it as UTF-8"]);
    let utf16: Vec<u8> = "\u{feff}FROM scratch\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    space.write("context/Wide", utf16);
    let outcome = space.dbuild(["build", "-q", "-f", "context/Wide", "context"]).run().expect_code(1);
    outcome.stderr_has(&["context/Wide is written in UTF-16", "save it as UTF-8"]);
    let dockerfile = "FROM scratch\nCOPY --exclude=[a-] . /\n";
    space.write("context/.dockerignore", "");
    let outcome = space.build(dockerfile, ["-q"]).run().expect_code(1);
    outcome.stderr_has(&["`[a-]` is not a pattern", "Dockerfile:2:"]);
}
