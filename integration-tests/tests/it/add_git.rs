//! ADD of git repositories.

use std::os::unix::fs::MetadataExt as _;

use dbuild_integration_tests::{GitServer, TestSpace, Unpacked};

const NO: [&str; 0] = [];

fn place() -> (TestSpace, GitServer) {
    let space = TestSpace::offline();
    let server = GitServer::start(&space.path("git"));
    (space, server)
}

#[test]
fn a_branch_that_has_not_moved_is_a_hit_and_one_that_has_is_a_miss() {
    let (space, server) = place();
    let repository = server.repository("app");
    repository.commit(&[("f", "1"), ("sub/g", "2")]);
    let text = format!("FROM scratch\nADD {} /src\n", server.url("app"));
    space.build(&text, NO).run().expect_ok();
    assert_eq!(
        Unpacked::new(&space, "app").paths().into_iter().collect::<Vec<_>>(),
        ["/src", "/src/f", "/src/sub", "/src/sub/g"]
    );
    server.take_connections();
    space.build(&text, NO).run().expect_ok().lacks(&["DONE"]);
    assert_eq!(server.take_connections(), 1, "it is asked what the branch names, and no more");
    repository.commit(&[("f", "3")]);
    space.build(&text, ["-t", "moved"]).run().expect_ok();
    let image = Unpacked::new(&space, "moved");
    assert_eq!(image.read("/src/f"), "3");
    assert_eq!(std::fs::metadata(image.rootfs.join("src/f")).unwrap().mode() & 0o7777, 0o644);
    // A commit that touches nothing of it runs nothing after it.
    repository.commit(&[]);
    space.build(&text, NO).run().expect_ok().stderr_has(&["/src\n", "#2 CACHED"]);
}

#[test]
fn a_commit_that_is_here_asks_nobody() {
    let (space, server) = place();
    let repository = server.repository("app");
    let first = repository.commit(&[("f", "1")]);
    let second = repository.commit(&[("f", "2")]);
    let build = |reference: &str| {
        space
            .build(&format!("FROM scratch\nADD {}#{reference} /\n", server.url("app")), NO)
            .run()
            .expect_ok();
        Unpacked::new(&space, "app").read("/f")
    };
    assert_eq!(build(&first), "1", "a commit that no branch names any more");
    server.take_connections();
    for dir in ["app.bundle", "app.oci"] {
        std::fs::remove_dir_all(space.path(dir)).unwrap();
    }
    assert_eq!(build(&first), "1");
    assert_eq!(server.take_connections(), 0);
    // The same commit by a branch: it is asked what that names, but nothing is fetched.
    repository.git(&["branch", "old", &first]);
    for dir in ["app.bundle", "app.oci"] {
        std::fs::remove_dir_all(space.path(dir)).unwrap();
    }
    assert_eq!(build("old"), "1");
    assert_eq!(server.take_connections(), 1);
    assert_ne!(first, second);
}

#[test]
fn references_subdirectories_and_options() {
    let (space, server) = place();
    let repository = server.repository("app");
    repository.commit(&[("f", "main"), ("docs/a", "docs of main")]);
    repository.git(&["checkout", "--quiet", "-b", "work/v2"]);
    let v2 = repository.commit(&[("f", "v2")]);
    repository.git(&["tag", "-a", "-m", "a tag", "v2.0"]);
    repository.git(&["tag", "light"]);
    repository.git(&["checkout", "--quiet", "main"]);
    let url = server.url("app");
    let sources = [
        url.clone(),
        format!("{url}#work/v2"),
        format!("{url}#v2.0"),
        format!("{url}?tag=light"),
        format!("{url}?branch=work/v2&subdir=docs"),
        format!("{url}#main:docs"),
        format!("--checksum={} {url}#v2.0", &v2[..12]),
        format!("{url}?commit={v2}&fetch-by-commit=1"),
    ];
    let mut text = "FROM scratch\n".to_owned();
    for (index, source) in sources.iter().enumerate() {
        text.push_str(&format!("ADD {source} /{index}\n"));
    }
    space.build(&text, NO).run().expect_ok();
    let image = Unpacked::new(&space, "app");
    let read = |path: &str| image.read(path);
    assert_eq!(
        ["/0/f", "/1/f", "/2/f", "/3/f", "/6/f", "/7/f"].map(read),
        ["main", "v2", "v2", "v2", "v2", "v2"]
    );
    assert_eq!(["/4/a", "/5/a"].map(read), ["docs of main"; 2]);
    assert!(image.paths().iter().all(|path| !path.contains(".git")), "{:?}", image.paths());
    let files = image.paths().into_iter().filter(|path| path.starts_with("/4/")).collect::<Vec<_>>();
    assert_eq!(files, ["/4/a"], "of a subdirectory nothing else comes");
}

#[test]
fn the_git_directory_is_kept_when_told_so() {
    let (space, server) = place();
    let repository = server.repository("app");
    repository.commit(&[("f", "0")]);
    let commit = repository.commit(&[("f", "1")]);
    let text = format!("FROM scratch\nADD --keep-git-dir=true {} /src\n", server.url("app"));
    space.build(&text, NO).run().expect_ok();
    let image = Unpacked::new(&space, "app");
    assert_eq!(image.read("/src/.git/HEAD").trim(), commit);
    assert!(image.read("/src/.git/config").contains(&server.url("app")));
    for gone in ["/src/.git/FETCH_HEAD", "/src/.git/hooks"] {
        assert!(!image.paths().contains(gone), "{gone}");
    }
    let clone = dbuild_integration_tests::GitRepository { dir: image.rootfs.join("src") };
    assert_eq!(clone.git(&["log", "--format=%H"]), commit, "one commit deep");
    assert_eq!(clone.git(&["status", "--porcelain"]), "");
}

#[test]
fn submodules_come_too() {
    let (space, server) = place();
    server.repository("inner").commit(&[("i", "inner")]);
    let middle = server.repository("middle");
    middle.commit(&[("m", "middle")]);
    middle.git(&["submodule", "--quiet", "add", &server.url("inner"), "inner"]);
    middle.commit(&[]);
    let outer = server.repository("outer");
    outer.commit(&[("o", "outer")]);
    outer.git(&["submodule", "--quiet", "add", "../middle.git", "lib/middle"]);
    // Relative to the remote, which this repository does not have itself.
    let modules = std::fs::read_to_string(outer.dir.join(".gitmodules")).unwrap();
    assert!(modules.contains("../middle.git"), "{modules}");
    outer.commit(&[]);
    let url = server.url("outer");
    let text = format!("FROM scratch\nADD {url} /all\nADD {url}?submodules=false /bare\n");
    space.build(&text, NO).run().expect_ok();
    let image = Unpacked::new(&space, "app");
    assert_eq!(image.read("/all/lib/middle/inner/i"), "inner");
    assert!(!image.paths().contains("/bare/lib/middle/m"));
    assert!(!image.paths().iter().any(|path| path.ends_with("/.git")), "{:?}", image.paths());
}

#[test]
fn a_repository_cannot_reach_files_of_this_machine() {
    let (space, server) = place();
    let secret = server.repository("secret");
    secret.commit(&[("s", "secret")]);
    let evil = server.repository("evil");
    evil.commit(&[("f", "f")]);
    evil.git(&["submodule", "--quiet", "add", &format!("file://{}", secret.dir.display()), "s"]);
    evil.commit(&[]);
    let text = format!("FROM scratch\nADD {} /\n", server.url("evil"));
    space
        .build(&text, NO)
        .run()
        .expect_code(1)
        .stderr_has(&["context/Dockerfile:2", "transport 'file' not allowed"]);
}

#[test]
fn errors_name_the_repository_and_what_to_try() {
    let (space, server) = place();
    let repository = server.repository("app");
    let commit = repository.commit(&[("f", "1")]);
    let url = server.url("app");
    let fails = |source: &str, words: &[&str]| {
        let text = format!("FROM scratch\n\nADD {source} /x\n");
        space.build(&text, NO).run().expect_code(1).stderr_has(&["context/Dockerfile:3"]).stderr_has(words);
    };
    fails(&format!("{url}#gone"), &[&url, "it has no branch or tag `gone`", "check the spelling"]);
    fails(&format!("{url}#{}", &commit[..8]), &["a commit is named by its id in full"]);
    fails(&format!("{url}#main:nowhere"), &["it has no directory `nowhere`"]);
    fails(
        &format!("--checksum={} {url}", "0".repeat(40)),
        &["is not the commit that was asked for", &commit],
    );
    fails(&format!("{url}#{}", "1".repeat(40)), &["cannot check out"]);
    fails(&server.url("missing"), &["cannot read", "check the spelling of the repository"]);
}

#[test]
fn without_git_it_is_said() {
    let (space, server) = place();
    server.repository("app").commit(&[("f", "1")]);
    let text = format!("FROM scratch\nADD {} /x\n", server.url("app"));
    let mut command = space.build(&text, NO).into_command();
    // mount and others are not needed by root.
    command.env("PATH", space.path("home"));
    dbuild_integration_tests::run(&mut command)
        .expect_code(1)
        .stderr_has(&["git is not installed", "apt install git"]);
}

#[test]
fn ssh_gets_the_builds_agent_and_nothing_of_the_user() {
    use std::os::unix::fs::PermissionsExt as _;
    let space = TestSpace::offline();
    let server = GitServer::start(&space.path("git"));
    server.repository("app").commit(&[("f", "by ssh")]);
    // Stands for ssh: notes what it is told, and answers for the host.
    let script = "#!/bin/sh\nprintf '%s\\n' \"$SSH_AUTH_SOCK\" \"$@\" >> \"$0.log\"\nfor last; do :; done\ncd \"${0%/*}/../git\"\nexec sh -c \"$last\"\n";
    let fake = space.write("bin/ssh", script);
    std::fs::set_permissions(&fake, std::fs::Permissions::from_mode(0o755)).unwrap();
    let text = "FROM scratch\nADD git@example.invalid:app.git /x\n";
    let agent = std::os::unix::net::UnixListener::bind(space.path("agent")).unwrap();
    let build = space.build(text, ["--ssh", &format!("default={}", space.path("agent").display())]);
    let path = format!("{}:{}", space.path("bin").display(), std::env::var("PATH").unwrap());
    build.env("PATH", path).run().expect_ok();
    assert_eq!(Unpacked::new(&space, "app").read("/x/f"), "by ssh");
    let log = space.read("bin/ssh.log");
    for words in ["BatchMode=yes", "IdentityFile=none", "-F\n/dev/null", "git@example.invalid"] {
        assert!(log.contains(words), "{log}");
    }
    assert!(log.starts_with('/'), "an agent is there: {log}");
    drop(agent);
}
