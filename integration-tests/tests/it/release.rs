//! What `scripts/release.sh` makes is what users install: a package for Debian, and a program that
//! needs nothing around it.

use std::path::PathBuf;
use std::process::Command;

use dbuild_integration_tests::{TestSpace, run, workspace};

/// The only file of a release whose name begins and ends so.
fn released(begin: &str, end: &str) -> PathBuf {
    let dir = workspace().join("target/packages");
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| {
        panic!("{}: {error}\n(`scripts/release.sh --profile dev` makes a release)", dir.display())
    });
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.starts_with(begin) && name.ends_with(end));
    assert_eq!(names.len(), 1, "{begin}*{end}: {names:?}");
    dir.join(&names[0])
}

fn program() -> PathBuf {
    released("dbuild-", "-linux-gnu")
}

#[test]
fn the_package_is_installed_in_debian() {
    let space = TestSpace::new();
    std::fs::copy(released("dbuild_", ".deb"), space.path("context/dbuild.deb")).unwrap();
    let dockerfile = "\
FROM ubuntu
COPY dbuild.deb /
RUN dpkg -i /dbuild.deb && dbuild version
RUN bash -c '. /usr/share/bash-completion/completions/dbuild && complete -p dbuild'
RUN dpkg -r dbuild && ! command -v dbuild
# This base leaves documents out when a package is installed.
RUN dpkg-deb -x /dbuild.deb /all
RUN gzip -dc /all/usr/share/man/man1/dbuild-build.1.gz | grep -q SYNOPSIS
RUN grep -q CycloneDX /all/usr/share/doc/dbuild/*.cdx.json
";
    space.build(dockerfile, ["--progress", "plain"]).run().expect_ok().stderr_has(&["dbuild 0."]);
}

/// As root and as somebody else, with nothing around it, among the libraries of musl, and among
/// those of Debian: it builds, and it runs what it built.
#[test]
fn the_program_builds_wherever_it_is_put() {
    let space = TestSpace::new();
    std::fs::copy(program(), space.path("context/dbuild")).unwrap();
    space.write("context/inner/Dockerfile", "FROM scratch\nCOPY dbuild /\nRUN [\"/dbuild\", \"version\"]\n");
    std::fs::copy(program(), space.path("context/inner/dbuild")).unwrap();
    let build = "RUN --security=insecure --mount=type=tmpfs,target=/store \
                 [\"/dbuild\", \"build\", \"--store\", \"/store/s\", \"--progress\", \"plain\", \"/inner\"]";
    for base in ["scratch", "alpine", "ubuntu"] {
        let dockerfile =
            format!("FROM {base}\nCOPY dbuild /\nCOPY inner /inner\n{build}\nUSER 1000\n{build}\n");
        let built = space.build(&dockerfile, ["--allow", "security.insecure", "--progress", "plain"]);
        let built = built.run().expect_ok();
        let ran = built.stderr.lines().filter(|line| line.ends_with("dbuild 0.1.0")).count();
        assert_eq!(ran, 2, "{base}: {built}");
    }
}

/// Names are resolved, without a library for it.
#[test]
fn the_program_finds_addresses_in_an_empty_image() {
    let space = TestSpace::new();
    std::fs::copy(program(), space.path("context/dbuild")).unwrap();
    let dockerfile = "FROM scratch\nCOPY dbuild /\nRUN --mount=type=tmpfs,target=/store \
                      [\"/dbuild\", \"--store\", \"/store/s\", \"pull\", \"localhost:1/x\"]\n";
    space.build(dockerfile, [""; 0]).run().expect_code(1).stderr_has(&["Connection refused"]);
}

#[test]
fn a_release_says_what_it_is_made_of() {
    let (list, sums) = (released("dbuild-", ".cdx.json"), released("SHA256SUMS", ""));
    let list: serde_json::Value = serde_json::from_slice(&std::fs::read(list).unwrap()).unwrap();
    let components = list["components"].as_array().unwrap();
    let named = |name: &str| components.iter().find(|component| component["name"] == name);
    assert!(named("petgraph").unwrap()["hashes"][0]["content"].as_str().unwrap().len() == 64);
    assert!(named("dbuild-layer").is_some());
    assert!(named("insta").is_none(), "what only tests is no part of it");
    assert!(components.iter().all(|component| component["licenses"][0]["expression"].is_string()));
    let checked = run(Command::new("sha256sum").arg("-c").arg(&sums).current_dir(sums.parent().unwrap()));
    checked.expect_ok().stdout_has(&[".deb: OK", ".tar.gz: OK"]);
    let archive = run(Command::new("tar").arg("-tzf").arg(released("dbuild-", ".tar.gz"))).expect_ok();
    archive.stdout_has(&["/bin/dbuild", "/share/man/man1/dbuild.1.gz", "/share/doc/dbuild/LICENSE-MIT"]);
}
