//! ADD of files of servers.

use std::os::unix::fs::MetadataExt as _;

use dbuild_integration_tests::{TestSpace, Unpacked, WebFile, WebServer, run};

const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// The lines of the requests so far.
fn lines(server: &WebServer) -> Vec<String> {
    server.take_requests().into_iter().map(|request| request.line).collect()
}

fn sha256(bytes: &[u8]) -> String {
    let space = TestSpace::offline();
    let path = space.write("sum", bytes);
    let text = run(std::process::Command::new("sha256sum").arg(path)).expect_ok().stdout;
    format!("sha256:{}", text.split(' ').next().unwrap())
}

#[test]
fn a_file_is_0600_has_the_servers_time_and_is_not_unpacked() {
    let (space, server) = (TestSpace::offline(), WebServer::start());
    let mut gzip = vec![0x1f, 0x8b, 8];
    gzip.extend([0; 20]);
    server.put("/dir/a.gz", WebFile::new(gzip).with("Last-Modified", MODIFIED));
    server.put("/b%20c", WebFile::new("b"));
    server.put("/", WebFile::new("root"));
    let text = format!(
        "FROM scratch\nADD {} /x/\nADD {} /x/\nADD {} /plain\nADD --chmod=0644 --chown=5:6 {} /mode\n",
        server.url("/dir/a.gz?name=other"),
        server.url("/b%20c"),
        server.url("/dir/a.gz"),
        server.url("/"),
    );
    space.build(&text, ["-q"]).run().expect_ok();
    let image = Unpacked::new(&space, "app");
    let file = std::fs::metadata(image.rootfs.join("x/a.gz")).unwrap();
    assert_eq!((file.mode() & 0o7777, file.mtime(), file.len()), (0o600, 784_111_777, 23));
    let other = std::fs::metadata(image.rootfs.join("x/b c")).unwrap();
    assert_eq!((other.mode() & 0o7777, other.mtime()), (0o600, 0), "a file without a time is from 1970");
    assert_eq!(std::fs::metadata(image.rootfs.join("plain")).unwrap().len(), 23);
    let mode = std::fs::metadata(image.rootfs.join("mode")).unwrap();
    assert_eq!((mode.mode() & 0o7777, mode.uid(), mode.gid()), (0o644, 5, 6));
    let history = image.config["history"][0]["created_by"].as_str().unwrap();
    assert_eq!(history, format!("ADD {} /x/ # buildkit", server.url("/dir/a.gz?name=other")));
}

#[test]
fn the_server_is_asked_each_time_and_content_decides() {
    let (space, server) = (TestSpace::new(), WebServer::start());
    let text = format!("FROM busybox\nADD {} /a\nRUN cat /a\n", server.url("/a"));
    let build = || space.build(&text, [] as [&str; 0]).run().expect_ok();
    server.put("/a", WebFile::new("1").with("ETag", "\"1\""));
    build();
    assert_eq!(lines(&server), ["GET /a HTTP/1.1"]);
    build().stderr_has(&["fetch", "CACHED"]).lacks(&["DONE"]);
    let again = server.take_requests();
    assert!(again.len() == 1 && again[0].head.contains("if-none-match: \"1\""), "{again:?}");
    // Another tag and the same bytes: nothing runs again.
    server.put("/a", WebFile::new("1").with("ETag", "\"2\""));
    build().stderr_has(&["RUN cat /a\n", "CACHED"]);
    assert_eq!(space.run_in("app", &["cat", "/a"]), "1");
    server.put("/a", WebFile::new("2").with("ETag", "\"3\""));
    build();
    assert_eq!(space.run_in("app", &["cat", "/a"]), "2");
    // And back: what was built from these bytes is still known.
    server.put("/a", WebFile::new("1"));
    build().stderr_has(&["RUN cat /a\n"]).lacks(&["#3 DONE"]);
    assert_eq!(space.run_in("app", &["cat", "/a"]), "1");
}

#[test]
fn a_checksum_that_is_known_asks_nobody() {
    let (space, server) = (TestSpace::new(), WebServer::start());
    server.put("/a", WebFile::new("hello"));
    let right = sha256(b"hello");
    let text =
        |path: &str, sum: &str| format!("FROM scratch\nADD --checksum={sum} {} /a\n", server.url(path));
    space.build(&text("/a", &right), ["-q"]).run().expect_ok();
    assert_eq!(lines(&server).len(), 1);
    space.build(&text("/a", &right), ["-q"]).run().expect_ok();
    space.build(&text("/moved/a", &right), ["-q"]).run().expect_ok();
    assert_eq!(lines(&server), [] as [&str; 0], "the bytes are here");
    let wrong = sha256(b"other");
    let failed = space.build(&text("/a", &wrong), [] as [&str; 0]).run().expect_code(1);
    let shown = format!("{}:2", "context/Dockerfile");
    failed.stderr_has(&[&shown, "is not the file", &wrong, &right, &format!("--checksum={right}")]);
}

#[test]
fn archives_are_unpacked_when_told_so() {
    let (space, server) = (TestSpace::offline(), WebServer::start());
    space.write("tree/in/f", "f");
    let tar = space.path("a.tgz");
    run(std::process::Command::new("tar").arg("czf").arg(&tar).arg("-C").arg(space.path("tree")).arg("in"))
        .expect_ok();
    server.put("/a.tgz", WebFile::new(std::fs::read(tar).unwrap()));
    let url = server.url("/a.tgz");
    space
        .build(&format!("FROM scratch\nADD --unpack=true {url} /x\nADD {url} /y\n"), ["-q"])
        .run()
        .expect_ok();
    let image = Unpacked::new(&space, "app");
    assert_eq!(image.read("/x/in/f"), "f");
    assert!(image.rootfs.join("y").is_file());
}

#[test]
fn redirects_are_followed_and_a_password_stays_at_home() {
    let (space, server, other) = (TestSpace::offline(), WebServer::start(), WebServer::start());
    other.put("/b", WebFile::new("there"));
    server.put("/a", WebFile::new("").status(302).with("Location", other.url("/b")));
    let url = server.url("/a").replace("http://", "http://ann:hunter2@");
    let done = space.build(&format!("FROM scratch\nADD {url} /x/\n"), [] as [&str; 0]).run().expect_ok();
    let first = server.take_requests();
    assert!(first[0].head.contains("authorization: Basic"), "{first:?}");
    let second = other.take_requests();
    assert!(!second[0].head.contains("authorization"), "{second:?}");
    assert_eq!(Unpacked::new(&space, "app").read("/x/a"), "there", "the name is that of the URL as written");
    done.stderr_has(&["fetch http://xxxxx@127.0.0.1"]);
}

#[test]
fn a_token_comes_from_a_secret() {
    let (space, server) = (TestSpace::offline(), WebServer::start());
    server.put("/a", WebFile::new("x"));
    let text = format!("FROM scratch\nADD {} /x\n", server.url("/a"));
    let args = ["-q", "--secret", "id=HTTP_AUTH_TOKEN_127.0.0.1,env=TOKEN"];
    space.build(&text, args).env("TOKEN", "hunter2").run().expect_ok();
    let seen = server.take_requests();
    assert!(seen[0].head.contains("authorization: Bearer hunter2"), "{seen:?}");
}

#[test]
fn proxies_of_the_environment_are_used() {
    let (space, proxy) = (TestSpace::offline(), WebServer::start());
    proxy.put("http://files.invalid/a", WebFile::new("by proxy"));
    let build = space.build("FROM scratch\nADD http://files.invalid/a /a\n", ["-q"]);
    build.env("http_proxy", proxy.url("")).env("no_proxy", "").run().expect_ok();
    assert_eq!(Unpacked::new(&space, "app").read("/a"), "by proxy");
    assert_eq!(lines(&proxy), ["GET http://files.invalid/a HTTP/1.1"]);
}

#[test]
fn what_cannot_be_fetched_is_told_with_its_line() {
    let (space, server) = (TestSpace::offline(), WebServer::start());
    let fails = |url: &str, words: &[&str]| {
        let arg = format!("URL={url}");
        let text = "FROM scratch\nARG URL\nADD $URL /x\n";
        let failed =
            space.build(text, ["--build-arg", &arg]).env("no_proxy", "*").env("http_proxy", "").run();
        failed.expect_code(1).stderr_has(&["context/Dockerfile:3"]).stderr_has(words).lacks(&["hunter2"]);
    };
    let missing = server.url("/missing").replace("http://", "http://ann:hunter2@");
    fails(&missing, &["/missing: its server does not have it (status 404)"]);
    assert_eq!(lines(&server).len(), 1, "what is not there is not asked for again");
    server.put("/secret", WebFile::new("").status(401));
    fails(&server.url("/secret"), &["asks for a password", "HTTP_AUTH_TOKEN_127.0.0.1"]);
    server.put("/loop", WebFile::new("").status(302).with("Location", "/loop"));
    fails(&server.url("/loop"), &["redirects more than 10 times"]);
    let port = dbuild_integration_tests::free_port();
    fails(&format!("http://127.0.0.1:{port}/a"), &["its server cannot be reached", "check the network"]);
    fails(&format!("https://{}/a", server.address()), &["its server cannot be reached"]);
}

#[test]
fn a_password_of_a_url_is_in_no_journal() {
    let (space, server) = (TestSpace::offline(), WebServer::start());
    server.put("/a", WebFile::new("x"));
    let url = server.url("/a").replace("http://", "http://ann:hunter2@");
    // The text of the Dockerfile is kept as it is; what a variable holds is not.
    let text = "FROM scratch AS a\nARG URL\nADD $URL /x\nFROM scratch\nCOPY --from=a /x /x\n";
    space.build(text, ["-q", "--build-arg", &format!("URL={url}")]).run().expect_ok();
    for name in ["store/dbuild.db", "store/dbuild.db-wal"] {
        let bytes = std::fs::read(space.path(name)).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("hunter2"), "{name}");
    }
}

#[test]
fn plan_asks_no_server() {
    let (space, server) = (TestSpace::offline(), WebServer::start());
    server.put("/a", WebFile::new("x"));
    let text = format!("FROM scratch\nADD {} /x\n", server.url("/a"));
    space.build(&text, ["-q"]).run().expect_ok();
    server.take_requests();
    let plan = space.dbuild(["plan", "context"]).run().expect_ok();
    plan.stdout_has(&["UNKNOWN", "the server is asked whether the file has changed"]);
    assert_eq!(lines(&server), [] as [&str; 0]);
}
