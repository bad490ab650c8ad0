//! Build contexts from elsewhere.

use std::path::Path;

use dbuild_integration_tests::{GitServer, TestSpace, Unpacked, WebFile, WebServer, run};

const DOCKERFILE: &str = "FROM scratch\nCOPY a /a\nCOPY .dockerignore /i\n";

/// An archive of a context whose `.dockerignore` ignores all; it does not count.
fn archive(space: &TestSpace, compress: &str) -> Vec<u8> {
    space.write("tree/Dockerfile", DOCKERFILE);
    space.write("tree/a", "content");
    space.write("tree/.dockerignore", "*");
    let path = space.path("context.tar");
    let mut tar = std::process::Command::new("tar");
    tar.args([compress, "-cf"]).arg(&path).arg("-C").arg(space.path("tree")).arg(".");
    run(&mut tar).expect_ok();
    std::fs::read(path).unwrap()
}

fn unpacked(space: &TestSpace) -> Unpacked {
    for dir in ["app.bundle", "app.oci"] {
        if space.path(dir).exists() {
            std::fs::remove_dir_all(space.path(dir)).unwrap();
        }
    }
    Unpacked::new(space, "app")
}

#[test]
fn an_archive_on_standard_input_is_a_context() {
    let space = TestSpace::offline();
    for compress in ["--no-auto-compress", "--gzip", "--bzip2", "--xz", "--zstd"] {
        let bytes = archive(&space, compress);
        let build = space.dbuild(["build", "--progress", "plain", "-t", "app", "-"]).stdin(bytes);
        build.run().expect_ok();
        assert_eq!(unpacked(&space).read("/a"), "content", "{compress}");
    }
    // A Dockerfile that is not called so.
    space.write("tree/other", "FROM scratch\nCOPY a /b\n");
    let bytes = archive(&space, "--gzip");
    space.dbuild(["build", "-q", "-t", "app", "-f", "other", "-"]).stdin(bytes.clone()).run().expect_ok();
    assert_eq!(unpacked(&space).read("/b"), "content");
    let failed = space.dbuild(["build", "-f", "missing", "-"]).stdin(bytes).run().expect_code(1);
    failed.stderr_has(&["there is no Dockerfile at missing"]);
}

#[test]
fn a_dockerfile_on_standard_input_has_an_empty_context() {
    let space = TestSpace::offline();
    let build = |text: &str| space.dbuild(["build", "-q", "-t", "app", "-"]).stdin(text).run();
    build("FROM scratch\nCOPY <<E /a\nhello\nE\n").expect_ok();
    assert_eq!(unpacked(&space).read("/a"), "hello\n");
    build("FROM scratch\nCOPY . /x/\n").expect_ok();
    assert_eq!(unpacked(&space).paths().into_iter().collect::<Vec<_>>(), ["/x"]);
    build("FROM scratch\nBAD\n").expect_code(1).stderr_has(&["-:2"]);
    build("").expect_code(2).stderr_has(&["standard input is empty"]);
    let both = space.dbuild(["build", "-f", "-", "-"]).stdin("FROM scratch\n").run();
    both.expect_code(2).stderr_has(&["cannot be both"]);
}

#[test]
fn a_dockerfile_on_standard_input_with_a_directory() {
    let space = TestSpace::offline();
    space.write("context/a", "of the directory");
    let build = space.dbuild(["build", "-q", "-t", "app", "-f", "-", "context"]);
    build.stdin("FROM scratch\nCOPY a /a\n").run().expect_ok();
    assert_eq!(unpacked(&space).read("/a"), "of the directory");
}

#[test]
fn a_url_is_an_archive_or_a_dockerfile() {
    let (space, server) = (TestSpace::offline(), WebServer::start());
    server.put("/c.tgz", WebFile::new(archive(&space, "--gzip")).with("ETag", "\"1\""));
    server.put("/Dockerfile", WebFile::new("FROM scratch\nCOPY context /me\n"));
    let build = |url: &str| space.dbuild(["build", "--progress", "plain", "-t", "app", url]).run();
    build(&server.url("/c.tgz")).expect_ok();
    assert_eq!(unpacked(&space).read("/a"), "content");
    build(&server.url("/c.tgz")).expect_ok().lacks(&["[stage-0 1/2] COPY a /a\n#2 DONE"]);
    build(&server.url("/Dockerfile")).expect_ok();
    assert_eq!(unpacked(&space).read("/me"), "FROM scratch\nCOPY context /me\n");
    build(&server.url("/gone")).expect_code(1).stderr_has(&["the context", "/gone", "status 404"]);
}

#[test]
fn a_repository_is_a_context() {
    let space = TestSpace::offline();
    let server = GitServer::start(&space.path("git"));
    let repository = server.repository("app");
    repository.commit(&[("a", "main"), ("sub/Dockerfile", "FROM scratch\nCOPY a /a\n"), ("sub/a", "sub")]);
    repository.commit(&[("Dockerfile", "FROM scratch\nCOPY . /\n")]);
    let build = |context: &str, more: &[&str]| {
        space.dbuild(["build", "-q", "-t", "app"]).args(more).args([context]).run().expect_ok();
        unpacked(&space)
    };
    let url = server.url("app");
    let paths = build(&url, &[]).paths();
    assert!(paths.contains("/a") && !paths.contains("/.git"), "{paths:?}");
    assert_eq!(build(&format!("{url}#main:sub"), &[]).read("/a"), "sub");
    assert_eq!(build(&url, &["-f", "sub/Dockerfile"]).read("/a"), "main");
    let link = Path::new("/etc/hostname");
    std::os::unix::fs::symlink(link, repository.dir.join("out")).unwrap();
    repository.commit(&[]);
    let failed = space.dbuild(["build", "-f", "out", url.as_str()]).run().expect_code(1);
    failed.stderr_has(&["a symlink that leads out of it"]);
}

#[test]
fn named_contexts_come_from_elsewhere_too() {
    let (space, server) = (TestSpace::offline(), WebServer::start());
    let git = GitServer::start(&space.path("git"));
    git.repository("lib").commit(&[("l", "library")]);
    server.put("/f", WebFile::new("file"));
    let text = "FROM scratch\nCOPY --from=lib l /l\nCOPY --from=web context /f\n";
    let lib = format!("lib={}", git.url("lib"));
    let web = format!("web={}", server.url("/f"));
    space.build(text, ["--build-context", &lib, "--build-context", &web]).run().expect_ok();
    let image = unpacked(&space);
    assert_eq!((image.read("/l"), image.read("/f")), ("library".to_owned(), "file".to_owned()));
}

#[test]
fn an_image_of_a_layout_is_a_named_context() {
    let space = TestSpace::offline();
    // Made with another store: nothing but the layout is shared.
    let make = |tag: &str, content: &str| {
        let text = format!("FROM scratch\nENV FROM_LAYOUT={tag}\nCOPY <<E /in/a\n{content}\nE\n");
        space.write("base/Dockerfile", text);
        let words =
            ["build", "-q", "-t", &format!("base:{tag}"), "-o", "type=oci,tar=false,dest=lay:out", "base"];
        space.dbuild(words).env("DBUILD_STORE", space.path("other")).run().expect_ok();
    };
    make("v1", "first");
    let text = "FROM base\nCOPY --from=base /in/a /b\n";
    let build =
        |image: &str| space.build(text, ["--build-context", &format!("base=oci-layout://{image}")]).run();
    build("lay:out").expect_ok();
    assert_eq!(unpacked(&space).read("/b"), "first\n");
    make("v2", "second");
    build("lay:out:v2").expect_ok();
    let image = unpacked(&space);
    assert_eq!((image.read("/in/a"), image.read("/b")), ("second\n".to_owned(), "second\n".to_owned()));
    space.dbuild(["inspect", "app"]).run().expect_ok().stdout_has(&["FROM_LAYOUT=v2"]);
    let index: serde_json::Value = serde_json::from_str(&space.read("lay:out/index.json")).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
    build(&format!("lay:out@{digest}")).expect_ok();
    assert_eq!(unpacked(&space).read("/b"), "first\n");

    let here = ["context/Dockerfile:1", "`v1`, `v2`"];
    build("lay:out:v3").expect_code(1).stderr_has(&["no image is called `v3`"]).stderr_has(&here);
    build("lay:out").expect_code(1).stderr_has(&["name one with `:TAG`"]).stderr_has(&here);
    let missing = format!("lay:out@sha256:{}", "0".repeat(64));
    build(&missing).expect_code(1).stderr_has(&["the blob sha256:0000", "is missing"]);
    build("context").expect_code(1).stderr_has(&["not the directory of an OCI image layout"]);
    build("lay:out@sha256:12").expect_code(2).stderr_has(&["expected oci-layout://DIR"]);

    // A damaged blob is no base. No store has it yet.
    let blob = space.path(format!("lay:out/blobs/sha256/{}", digest.strip_prefix("sha256:").unwrap()));
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[0] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    let words = ["--build-context", "base=oci-layout://lay:out:v1"];
    let damaged = space.build(text, words).env("DBUILD_STORE", space.path("third")).run();
    damaged.expect_code(1).stderr_has(&["the file is damaged"]);
}
