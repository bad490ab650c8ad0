//! Builds for other processors, and for several at once.

use std::path::Path;
use std::process::Command;

use dbuild_integration_tests::{TestSpace, run};
use serde_json::Value;

const TWO: &str = "linux/amd64,linux/arm64/v8";

/// The stage of the build platform runs; those of the targets only copy.
const CROSS: &str = "\
FROM --platform=$BUILDPLATFORM busybox AS once
RUN head -c 8 /dev/urandom | od -An -tx1 > /random
FROM --platform=$BUILDPLATFORM busybox AS build
ARG TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT BUILDPLATFORM
RUN echo $TARGETPLATFORM $TARGETOS $TARGETARCH [$TARGETVARIANT] $BUILDPLATFORM > /for
FROM scratch
COPY --from=once /random /
COPY --from=build /for /
";

fn native() -> &'static str {
    if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" }
}

#[test]
fn files_of_each_platform_are_in_a_directory_of_their_own() {
    let space = TestSpace::new();
    space.build(CROSS, ["--platform", "linux/arm,linux/arm64/v8", "-o", "files"]).run().expect_ok();
    let arm = format!("linux/arm/v7 linux arm [v7] {}\n", native());
    assert_eq!(space.read("files/linux_arm_v7/for"), arm);
    assert_eq!(space.read("files/linux_arm64/for"), format!("linux/arm64 linux arm64 [] {}\n", native()));
    // What does not depend on the target ran once.
    assert_eq!(space.read("files/linux_arm_v7/random"), space.read("files/linux_arm64/random"));
    // One platform alone is written as it is.
    space.build(CROSS, ["--platform", "linux/riscv64", "-o", "one"]).run().expect_ok();
    assert!(space.read("one/for").starts_with("linux/riscv64 "));
}

#[test]
fn several_platforms_are_one_index() {
    let space = TestSpace::new();
    let words = [
        "--platform",
        TWO,
        "-o",
        "type=oci,dest=image.tar",
        "-o",
        "type=oci,tar=false,dest=layout",
        "-o",
        "type=image",
    ];
    space.build(CROSS, words).run().expect_ok();
    let platforms = |manifests: &Value| -> Vec<String> {
        let of = |entry: &Value| {
            let platform = &entry["platform"];
            format!("{}/{}", platform["os"].as_str().unwrap(), platform["architecture"].as_str().unwrap())
        };
        manifests.as_array().expect("a list").iter().map(of).collect()
    };
    let both = ["linux/amd64", "linux/arm64"];
    for place in [format!("oci-archive:{}", space.path("image.tar").display()), oci(&space.path("layout"))] {
        let index = run(Command::new("skopeo").args(["inspect", "--raw", &place])).expect_ok().json();
        assert_eq!(platforms(&index["manifests"]), both, "{index}");
        for arch in ["amd64", "arm64"] {
            let inspect = ["--override-arch", arch, "inspect", "--config", &place];
            let config = run(Command::new("skopeo").args(inspect)).expect_ok().json();
            assert_eq!(config["architecture"], arch);
        }
    }
    let listed = space.dbuild(["images", "--json"]).run().expect_ok().json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    // The index can be a base again, and each platform finds its own.
    let again = "FROM app\nCOPY --from=app /for /copy\n";
    space.write("context/Dockerfile", again);
    space.dbuild(["build", "--platform", TWO, "-o", "again", "context"]).run().expect_ok();
    assert!(space.read("again/linux_arm64/copy").starts_with("linux/arm64 "));
    assert!(space.read("again/linux_amd64/copy").starts_with("linux/amd64 "));
}

fn oci(layout: &Path) -> String {
    let index: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let name = index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap();
    format!("oci:{}:{name}", layout.display())
}

#[test]
fn an_index_is_pushed_whole() {
    use dbuild_integration_tests::{Bases, Registry};

    let space = TestSpace::new();
    let name = format!("{}/platforms/cross:1", Registry::shared(Bases::Small).address());
    space.write("context/Dockerfile", CROSS);
    space.dbuild(["build", "--platform", TWO, "-t", &name, "--push", "context"]).run().expect_ok();
    let raw = ["inspect", "--tls-verify=false", "--raw", &format!("docker://{name}")];
    let index = run(Command::new("skopeo").args(raw)).expect_ok().json();
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2), "{index}");
}

#[test]
fn what_holds_one_image_refuses_several_before_anything_runs() {
    let space = TestSpace::offline();
    let outcome = space.build(CROSS, ["--platform", TWO, "-o", "type=docker,dest=image.tar"]).run();
    outcome.expect_code(2).stderr_has(&["takes one image, and this build makes an index", "type=oci"]);
    space.build(CROSS, ["--platform", TWO, "--load"]).run().expect_code(2).stderr_has(&["`docker load`"]);
    let outcome = space.build(CROSS, ["--platform", "amd46"]).run().expect_code(2);
    outcome.stderr_has(&["`amd46` is not a platform"]);
}

/// The first bytes of a program for RISC-V.
fn foreign_program() -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(64, 0);
    bytes[16] = 2;
    bytes[18] = 243;
    bytes
}

#[test]
fn a_foreign_program_needs_an_emulator() {
    let space = TestSpace::offline();
    space.write("context/app", foreign_program());
    let text = "FROM scratch AS tools\nCOPY --chmod=755 app /bin/app\nRUN [\"app\", \"--version\"]\n";
    // An emulator may be registered here; then the program, which is none, fails in another way.
    if std::fs::read_dir("/proc/sys/fs/binfmt_misc").is_ok_and(|dir| dir.count() > 2) {
        space.build(text, ["--platform", "linux/riscv64"]).run().expect_code(1);
        return;
    }
    let outcome = space.build(text, ["--platform", "linux/riscv64"]).run().expect_code(1);
    outcome.stderr_has(&[
        "exec format error: it was made for riscv64",
        "context/Dockerfile:3:1",
        "stage `tools` is for linux/riscv64, and this machine is",
        "apt install qemu-user-static binfmt-support",
    ]);
}
