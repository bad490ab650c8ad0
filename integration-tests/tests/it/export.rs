//! What is written is what other tools read.

use std::process::Command;

use dbuild_integration_tests::{TestSpace, Unpacked, run};

const DOCKERFILE: &str = "\
FROM busybox AS b
RUN mkdir /out && echo hello > /out/file && ln -s file /out/link && ln /out/file /out/hard && chmod 4755 /out/file
FROM scratch
COPY --from=b /out /out
COPY --from=busybox /bin/busybox /bin/sh
CMD [\"/bin/sh\", \"-c\", \"echo started\"]
";

fn inspect(reference: &str) -> serde_json::Value {
    run(Command::new("skopeo").args(["inspect", "--config", reference])).expect_ok().json()
}

#[test]
fn an_oci_archive_and_directory() {
    let space = TestSpace::new();
    space.build(DOCKERFILE, ["-o", "type=oci,dest=image.tar"]).run().expect_ok();
    space.build(DOCKERFILE, ["-o", "type=oci,tar=false,dest=layout"]).run().expect_ok();
    let archive = inspect(&format!("oci-archive:{}", space.path("image.tar").display()));
    let index: serde_json::Value = serde_json::from_str(&space.read("layout/index.json")).unwrap();
    let name = index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"]
        .as_str()
        .unwrap()
        .to_owned();
    let layout = inspect(&format!("oci:{}:{name}", space.path("layout").display()));
    assert_eq!(archive["rootfs"], layout["rootfs"]);
    assert_eq!(archive["config"]["Cmd"][2], "echo started");
    let unpacked = Unpacked::from_layout(&space.path("layout"), &name, &space.path("bundle"));
    assert_eq!(unpacked.read("/out/link"), "hello\n");
}

#[test]
fn a_docker_archive() {
    let space = TestSpace::new();
    space.build(DOCKERFILE, ["-o", "type=docker,dest=image.tar"]).run().expect_ok();
    let config = inspect(&format!("docker-archive:{}", space.path("image.tar").display()));
    assert_eq!(config["config"]["Cmd"][2], "echo started");
    run(Command::new("tar").arg("-tf").arg(space.path("image.tar")))
        .expect_ok()
        .stdout_has(&["manifest.json"]);
}

#[test]
fn no_step_sees_the_archive_that_is_written_meanwhile_and_a_failed_build_leaves_none() {
    let space = TestSpace::new();
    let dockerfile = "FROM busybox\nCOPY . /context\nRUN ls -A /context > /seen && ! grep tar /seen\n";
    space.build(dockerfile, ["-o", "type=oci,dest=context/app.tar"]).run().expect_ok();
    assert!(space.path("context/app.tar").exists());
    space
        .build("FROM busybox\nRUN exit 3\n", ["-o", "type=oci,dest=context/failed.tar"])
        .run()
        .expect_code(1);
    let names = std::fs::read_dir(space.path("context")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let archives: Vec<String> = names.filter(|name| name.contains(".tar")).collect();
    assert_eq!(archives, ["app.tar"]);
}

#[test]
fn layers_are_compressed_as_the_output_says() {
    let space = TestSpace::new();
    let check = |options: &str, programs: [&str; 2]| {
        let output = format!("type=oci,dest=layout,tar=false,{options}");
        space.build("FROM busybox\nRUN echo hello > /hello\n", ["-o", &output]).run().expect_ok();
        let json = |path: &str| -> serde_json::Value { serde_json::from_str(&space.read(path)).unwrap() };
        let blob = |descriptor: &serde_json::Value| {
            let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            format!("layout/blobs/sha256/{digest}")
        };
        let manifest = json(&blob(&json("layout/index.json")["manifests"][0]));
        let config = json(&blob(&manifest["config"]));
        // Other programs find in them the tars whose digests the config has.
        for (at, program) in programs.into_iter().enumerate() {
            let layer = &manifest["layers"][at];
            let kind = match program {
                "cat" => "layer.v1.tar",
                "gzip" => "layer.v1.tar+gzip",
                _ => "layer.v1.tar+zstd",
            };
            let found = layer["mediaType"].as_str().unwrap();
            assert!(found.ends_with(kind), "{options}: {found}");
            let unpack = if program == "cat" { "cat".to_owned() } else { format!("{program} -dc") };
            let sum = space.shell("", &format!("{unpack} < {} | sha256sum", blob(layer)));
            let diff_id = config["rootfs"]["diff_ids"][at].as_str().unwrap();
            sum.expect_ok().stdout_has(&[diff_id.strip_prefix("sha256:").unwrap()]);
        }
        std::fs::remove_dir_all(space.path("layout")).unwrap();
    };
    check("compression=gzip,compression-level=9", ["gzip", "gzip"]);
    check("compression=uncompressed", ["gzip", "cat"]);
    check("compression=uncompressed,force-compression=true", ["cat", "cat"]);
    check("compression=zstd,force-compression=true", ["zstd", "zstd"]);
}

#[test]
fn estargz_says_where_each_file_is() {
    let space = TestSpace::new();
    let output = "type=oci,dest=layout,tar=false,compression=estargz,force-compression=true";
    let dockerfile = "FROM busybox\nRUN echo hello > /hello\n";
    let layers = || {
        space.build(dockerfile, ["-o", output]).run().expect_ok();
        let unpacked = Unpacked::from_layout(&space.path("layout"), "latest", &space.path("bundle"));
        assert_eq!(unpacked.read("/hello"), "hello\n");
        for (at, layer) in unpacked.manifest["layers"].as_array().unwrap().iter().enumerate() {
            assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
            let hex = layer["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            let blob = format!("layout/blobs/sha256/{hex}");
            let bytes = std::fs::read(space.path(&blob)).unwrap();
            let footer = &bytes[bytes.len() - 51..];
            assert_eq!(&footer[32..38], b"STARGZ");
            let at_byte = usize::from_str_radix(std::str::from_utf8(&footer[16..32]).unwrap(), 16).unwrap();
            let table = format!("tail -c +{} {blob} | gzip -dc | tar -xOf - stargz.index.json", at_byte + 1);
            let digest = layer["annotations"]["containerd.io/snapshot/stargz/toc.digest"].as_str().unwrap();
            let digest = digest.strip_prefix("sha256:").unwrap();
            space.shell("", &format!("{table} | sha256sum")).expect_ok().stdout_has(&[digest]);
            let size = layer["annotations"]["io.containers.estargz.uncompressed-size"].as_str().unwrap();
            space.shell("", &format!("gzip -dc {blob} | wc -c")).expect_ok().stdout_has(&[size]);
            let diff_id = unpacked.config["rootfs"]["diff_ids"][at].as_str().unwrap();
            let sum = space.shell("", &format!("gzip -dc {blob} | sha256sum")).expect_ok();
            sum.stdout_has(&[diff_id.strip_prefix("sha256:").unwrap()]);
        }
        for dir in ["layout", "bundle"] {
            std::fs::remove_dir_all(space.path(dir)).unwrap();
        }
        unpacked.manifest["layers"].clone()
    };
    assert_eq!(layers(), layers());
}

#[test]
fn estargz_can_be_built_upon() {
    let space = TestSpace::new();
    let output = "type=oci,dest=layout,tar=false,compression=estargz,force-compression=true";
    space.build("FROM busybox\nRUN echo hello > /hello\n", ["-o", output]).run().expect_ok();
    let base = ["--build-context", "base=oci-layout://layout"];
    let text = "FROM base\nRUN ls -A / > /list\n";
    let layers = |output: &str| {
        // A store that has seen nothing of it.
        let build = space.build(text, base).args(["-o", output]).env("DBUILD_STORE", space.path("other"));
        build.run().expect_ok();
        let unpacked = Unpacked::from_layout(&space.path("on"), "latest", &space.path("bundle"));
        // The table and the landmark are how the layers are written, and no files of the image.
        let list = unpacked.read("/list");
        assert!(list.contains("hello\n") && !list.contains("stargz") && !list.contains("landmark"), "{list}");
        for dir in ["on", "bundle"] {
            std::fs::remove_dir_all(space.path(dir)).unwrap();
        }
        unpacked.manifest["layers"].as_array().unwrap().clone()
    };
    let plain = layers("type=oci,dest=on,tar=false");
    let again = layers("type=oci,dest=on,tar=false,compression=estargz,force-compression=true");
    let of = Unpacked::from_layout(&space.path("layout"), "latest", &space.path("bundle"));
    let of_base = of.manifest["layers"].as_array().unwrap();
    assert_eq!(plain[..2], of_base[..], "the base is passed on with what is said of it");
    assert_eq!(again[..2], of_base[..], "and is not packed again");
    assert!(plain[2]["annotations"].is_null() && again[2]["annotations"].is_object());
}

#[test]
fn files_in_a_directory_and_in_a_tar() {
    use std::os::unix::fs::MetadataExt;

    let space = TestSpace::new();
    space.build(DOCKERFILE, ["-o", "type=local,dest=files"]).run().expect_ok();
    assert_eq!(space.read("files/out/link"), "hello\n");
    let file = std::fs::metadata(space.path("files/out/file")).unwrap();
    assert_eq!((file.mode() & 0o7777, file.nlink()), (0o4755, 2));
    assert!(std::fs::symlink_metadata(space.path("files/out/link")).unwrap().is_symlink());

    space.build(DOCKERFILE, ["-o", "short"]).run().expect_ok();
    assert_eq!(space.read("short/out/file"), "hello\n");

    space.build(DOCKERFILE, ["-o", "type=tar,dest=files.tar"]).run().expect_ok();
    let list = run(Command::new("tar").arg("-tvf").arg(space.path("files.tar"))).expect_ok();
    list.stdout_has(&["out/file", "out/link -> file", "out/hard link to out/file", "-rwsr-xr-x"]);
}

#[test]
fn a_tar_to_standard_output() {
    let space = TestSpace::new();
    space.write("context/Dockerfile", DOCKERFILE);
    let mut build = space.dbuild(["build", "-o", "type=tar,dest=-", "context"]).into_command();
    let output = build.output().unwrap();
    assert!(output.status.success());
    assert_eq!(&output.stdout[257..262], b"ustar");
}

#[test]
fn runc_runs_what_umoci_unpacked() {
    let space = TestSpace::new();
    space.build(DOCKERFILE, [""; 0]).run().expect_ok();
    let image = Unpacked::new(&space, "app");
    let bundle = image.rootfs.parent().unwrap().to_owned();
    // The terminal that umoci asks for is not there.
    let config = bundle.join("config.json");
    let mut spec: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&config).unwrap()).unwrap();
    spec["process"]["terminal"] = false.into();
    std::fs::write(&config, spec.to_string()).unwrap();
    let name = format!("dbuild-test-{}", std::process::id());
    let mut runc = Command::new("runc");
    runc.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    runc.arg("--root").arg(space.path("runc")).args(["run", "--bundle"]).arg(&bundle).arg(&name);
    assert_eq!(run(&mut runc).expect_ok().stdout, "started\n");
}

#[test]
fn files_about_the_build() {
    let space = TestSpace::new();
    let files = ["--iidfile", "id", "--metadata-file", "metadata.json", "-t", "second:2"];
    space.build(DOCKERFILE, files).run().expect_ok();
    let metadata: serde_json::Value = serde_json::from_str(&space.read("metadata.json")).unwrap();
    let id = space.read("id");
    assert!(id.starts_with("sha256:"), "{id}");
    assert!(metadata["containerimage.digest"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(metadata["containerimage.config.digest"], id.trim());
    assert_eq!(space.run_in("second:2", &[]), "started\n");
}

#[test]
fn an_image_survives_save_and_load() {
    let space = TestSpace::new();
    space.build(DOCKERFILE, [""; 0]).run().expect_ok();
    for format in ["oci", "docker"] {
        let file = format!("{format}.tar");
        space.dbuild(["save", "--format", format, "-o", &file, "app"]).run().expect_ok();
        let other = TestSpace::offline();
        other.dbuild(["load", "-i"]).args([space.path(&file)]).run().expect_ok();
        assert_eq!(other.run_in("app", &[]), "started\n", "{format}");
    }
}
