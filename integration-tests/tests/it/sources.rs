//! What comes from elsewhere and is not what it says, or does not come: layers that lie, mirrors
//! that are down.

use std::net::TcpListener;
use std::path::Path;

use dbuild_digest::BlobDigest;
use dbuild_integration_tests::{Bases, Registry, TestSpace, WebFile, WebServer};
use serde_json::{Value, json};

/// A layout of an image from scratch with this file.
fn layout(space: &TestSpace, name: &str, content: &str) {
    space.write("context/file", content);
    let output = format!("type=oci,dest={name},tar=false");
    space.build("FROM scratch\nCOPY file /file\n", ["-o", &output]).run().expect_ok();
}

fn blob(layout: &Path, digest: &Value) -> Value {
    let hex = digest.as_str().unwrap().trim_start_matches("sha256:");
    serde_json::from_slice(&std::fs::read(layout.join("blobs/sha256").join(hex)).unwrap()).unwrap()
}

/// Puts a document among a layout's blobs; its descriptor.
fn put(layout: &Path, media_type: &str, document: &Value) -> Value {
    let bytes = document.to_string();
    let digest = BlobDigest::of(bytes.as_bytes());
    std::fs::write(layout.join("blobs/sha256").join(digest.hex()), &bytes).unwrap();
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
}

/// The manifest and config of a layout's only image.
fn image(layout: &Path) -> (Value, Value) {
    let index: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let manifest = blob(layout, &index["manifests"][0]["digest"]);
    let config = blob(layout, &manifest["config"]["digest"]);
    (manifest, config)
}

/// Replaces a layout's only image.
fn replace(layout: &Path, mut manifest: Value, config: &Value) {
    manifest["config"] = put(layout, "application/vnd.oci.image.config.v1+json", config);
    let mut manifest = put(layout, "application/vnd.oci.image.manifest.v1+json", &manifest);
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    std::fs::write(layout.join("index.json"), index.to_string()).unwrap();
}

#[test]
fn an_image_that_claims_another_ones_layer_over_its_own_bytes_is_refused() {
    let space = TestSpace::new();
    layout(&space, "good", "good\n");
    layout(&space, "evil", "evil\n");
    let (_, good) = image(&space.path("good"));
    let (manifest, mut config) = image(&space.path("evil"));
    config["rootfs"] = good["rootfs"].clone();
    replace(&space.path("evil"), manifest, &config);
    let dockerfiles = [
        // Its files are needed, or only its blobs.
        "FROM base\nCOPY --from=base /file /copy\n",
        "FROM base\nLABEL a=b\n",
        "FROM base AS used\nFROM scratch\nCOPY --from=used /file /copy\n",
    ];
    for is_known in [false, true] {
        let contexts =
            |name: &str| [format!("--build-context=base=oci-layout://{name}"), "--no-cache".to_owned()];
        for dockerfile in dockerfiles {
            if is_known {
                space.build(dockerfile, contexts("good")).run().expect_ok();
            }
            let refused = space.build(dockerfile, contexts("evil")).run().expect_code(1);
            refused.stderr_has(&["its content is sha256:", "the image's config says sha256:"]);
        }
    }
}

#[test]
fn a_layer_of_an_unknown_media_type_is_refused_by_its_name() {
    let space = TestSpace::new();
    layout(&space, "odd", "odd\n");
    let (mut manifest, config) = image(&space.path("odd"));
    manifest["layers"][0]["mediaType"] = json!("application/vnd.example.squashfs");
    replace(&space.path("odd"), manifest, &config);
    let refused = space.build("FROM base\n", ["--build-context=base=oci-layout://odd"]).run();
    refused.expect_code(1).stderr_has(&["unknown media type `application/vnd.example.squashfs`"]);
}

#[test]
fn a_mirror_that_is_down_in_any_way_is_passed_over() {
    let good = Registry::shared(Bases::Small).address();
    let page = "<html>portal</html>";
    for (what, file) in [
        ("a page", Some(WebFile::new(page).with("Content-Type", "text/html"))),
        ("an empty document", Some(WebFile::new("{}").with("Content-Type", "application/json"))),
        ("403", Some(WebFile::new(page).status(403))),
        ("404", Some(WebFile::new(page).status(404))),
        ("401 without a challenge", Some(WebFile::new(page).status(401))),
        ("503", Some(WebFile::new(page).status(503))),
        ("nobody there", None),
    ] {
        let server = WebServer::start();
        let address = match &file {
            Some(_) => server.address(),
            None => TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string(),
        };
        let paths = ["manifests/latest?ns=docker.io", "manifests/latest"];
        for path in paths {
            if let Some(file) = &file {
                server.put(&format!("/v2/library/busybox/{path}"), file.clone());
            }
        }
        let mirrors = format!("[registry.\"docker.io\"]\nmirrors = [\"{address}\", \"{good}\"]\n");
        let space = TestSpace::with_config(&mirrors);
        let outcome = space.build("FROM busybox\nRUN echo ok > /o\n", [""; 0]).run();
        assert_eq!(outcome.code(), Some(0), "{what}\n{outcome}");
    }
}

#[test]
fn what_to_try_comes_from_the_cause() {
    let space = TestSpace::with_config("[registry.\"docker.io\"]\nmirrors = []\n");
    let unknown = space.build("FROM no-such-host.invalid/app\n", [""; 0]).run().expect_code(1);
    unknown.lacks(&["http = true"]).stderr_has(&["has no address", "check the spelling"]);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gone = space.build(&format!("FROM {nobody}/app\n"), [""; 0]).run().expect_code(1);
    gone.stderr_has(&["Connection refused", "check that"]);
}

/// Reading a system's certificates takes longer than a build in which nothing has changed.
#[test]
fn a_registry_on_plain_http_is_asked_without_certificates() {
    let space = TestSpace::new();
    let build = || {
        let build = space.build("FROM busybox\nRUN true\n", ["-t", "app"]);
        build.env("SSL_CERT_FILE", "/nowhere").env("SSL_CERT_DIR", "/nowhere").run().expect_ok()
    };
    build();
    build().stderr_has(&["CACHED"]);
}

/// `ann` with the password `secret`, as `htpasswd -B` writes it.
const USERS: &str = "ann:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

#[test]
fn a_login_is_tried_and_kept_where_docker_keeps_it() {
    let space = TestSpace::new();
    let registry = Registry::start_for_users(&space.path("registry"), &space.write("users", USERS));
    let host = registry.address();
    let call = |words: &[&str]| space.dbuild(words).env("DOCKER_CONFIG", space.path("docker"));
    let log_in = |password: &str| {
        call(&["login", "-u", "ann", "--password-stdin", host]).stdin(format!("{password}\n")).run()
    };
    let name = format!("{host}/app");
    space.build("FROM busybox\n", ["-t", &name]).run().expect_ok();
    call(&["push", &name]).run().expect_code(1).stderr_has(&[&format!("`dbuild login {host}`")]);
    log_in("wrong").expect_code(1).stderr_has(&["not authorized", "check the user and the password"]);
    assert!(!space.path("docker/config.json").exists(), "nothing is kept of a login that failed");

    // What the file holds besides stays, and it is its owner's alone.
    space.write("docker/config.json", r#"{"HttpHeaders":{"a":"b"}}"#);
    log_in("secret").expect_ok().stdout_has(&["as ann", "config.json"]).lacks(&["secret"]);
    let kept: Value = serde_json::from_str(&space.read("docker/config.json")).unwrap();
    assert_eq!(kept["auths"][host]["auth"], "YW5uOnNlY3JldA==");
    assert_eq!(kept["HttpHeaders"]["a"], "b");
    let mode = std::fs::metadata(space.path("docker/config.json")).unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    call(&["push", &name]).run().expect_ok();

    call(&["logout", host]).run().expect_ok().stdout_has(&["logged out"]);
    call(&["push", &name]).run().expect_code(1);
    call(&["logout", host]).run().expect_ok().stdout_has(&["not logged in"]);

    // A helper that the file names keeps it instead; it writes what it is handed into a file.
    let helper = "#!/bin/sh\n{ echo \"$1\"; cat; echo; } >> \"$DOCKER_CONFIG/asked\"\n";
    let path = space.write("bin/docker-credential-test", helper);
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    space.write("docker/config.json", r#"{"credsStore":"test"}"#);
    let bin = format!("{}:/usr/bin:/bin", space.path("bin").display());
    let helped = |words: &[&str]| call(words).env("PATH", &bin);
    let told = helped(&["login", "-u", "ann", "-p", "secret", host]).run().expect_ok();
    told.stdout_has(&["docker-credential-test"]).stderr_has(&["a password on the command line"]);
    helped(&["logout", host]).run().expect_ok();
    let asked = space.read("docker/asked");
    let stored = format!(r#"{{"Secret":"secret","ServerURL":"{host}","Username":"ann"}}"#);
    assert_eq!(asked, format!("store\n{stored}\nerase\n{host}\n"));
    assert!(!space.read("docker/config.json").contains("c2VjcmV0"), "no password is in the file");
}

#[test]
fn a_login_needs_a_user_and_a_password() {
    let space = TestSpace::offline();
    space.dbuild(["login", "h.example"]).run().expect_code(2).stderr_has(&["--username USER"]);
    let without = space.dbuild(["login", "-u", "a", "h.example"]).run();
    without.expect_code(2).stderr_has(&["--password-stdin"]);
    let empty = space.dbuild(["login", "-u", "a", "--password-stdin", "h.example"]).run();
    empty.expect_code(2).stderr_has(&["the password is empty"]);
    let unreached = space.dbuild(["login", "-u", "a", "-p", "b", "127.0.0.1:1"]).run();
    unreached.expect_code(1).stderr_has(&["127.0.0.1:1: it cannot be reached: Connection refused"]);
}
