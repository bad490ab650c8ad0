//! Files, tar, the store, and engines.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use dbuild_layer::Stack;
use dbuild_oci::Platform;

use super::{Bench, names, read};
use crate::{Engine, Export, ExportError, Image, OutputSpec, Waiting, Written, find_engine};

fn export(
    bench: &Bench,
    spec: &str,
    image: Option<&Image>,
    files: &[(Platform, Stack)],
    engine: Option<&Engine>,
) -> Result<Written, ExportError> {
    let spec: OutputSpec = spec.parse().unwrap();
    let names = names(&["app:1"]);
    let store = &bench.store;
    Export {
        store,
        spec: &spec,
        image,
        names: &names,
        files,
        multi_platform: files.len() > 1,
        clamp_mtime: None,
        owners: false,
        engine,
        waiting: Waiting::default(),
    }
    .write(None)
}

fn stack(bench: &Bench, name: &str, files: &[(&str, &str)]) -> Stack {
    Stack::new(vec![bench.layer(name, files).0])
}

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

#[test]
fn files_appear_whole_or_are_added() {
    let bench = Bench::new();
    let files = [(platform("linux/amd64"), stack(&bench, "one", &[("a/b", "text")]))];
    let dest = bench.path("out/files");
    export(&bench, dest.to_str().unwrap(), None, &files, None).unwrap();
    assert_eq!(read(&dest.join("a/b")), "text");
    assert_eq!(fs::read_dir(bench.path("out")).unwrap().count(), 1, "nothing is left beside it");
    fs::write(dest.join("mine"), "mine").unwrap();
    export(&bench, dest.to_str().unwrap(), None, &files, None).unwrap();
    assert_eq!(read(&dest.join("mine")), "mine");
}

#[test]
fn each_platform_gets_its_directory() {
    let bench = Bench::new();
    let files = [
        (platform("linux/amd64"), stack(&bench, "one", &[("a", "amd64")])),
        (platform("linux/arm/v7"), stack(&bench, "two", &[("a", "armv7")])),
    ];
    let dest = bench.path("files");
    export(&bench, dest.to_str().unwrap(), None, &files, None).unwrap();
    assert_eq!(read(&dest.join("linux_amd64/a")), "amd64");
    assert_eq!(read(&dest.join("linux_arm_v7/a")), "armv7");
    let tar = format!("type=tar,dest={}", bench.path("x.tar").display());
    export(&bench, &tar, None, &files, None).unwrap();
    let mut archive = tar::Archive::new(fs::File::open(bench.path("x.tar")).unwrap());
    let path = |entry: std::io::Result<tar::Entry<'_, fs::File>>| {
        entry.unwrap().path().unwrap().display().to_string()
    };
    let paths: Vec<String> = archive.entries().unwrap().map(path).collect();
    assert_eq!(paths, ["linux_amd64/", "linux_amd64/a", "linux_arm_v7/", "linux_arm_v7/a"]);
    let shared = export(&bench, &format!("{tar},platform-split=false"), None, &files, None).unwrap_err();
    assert!(shared.to_string().contains("cannot share a directory"), "{shared}");
}

#[test]
fn a_tar_holds_the_files() {
    let bench = Bench::new();
    let files = [(platform("linux/amd64"), stack(&bench, "one", &[("a/b", "text")]))];
    let path = bench.path("files.tar");
    let written = export(&bench, &format!("type=tar,dest={}", path.display()), None, &files, None).unwrap();
    assert_eq!(written.bytes, Some(fs::metadata(&path).unwrap().len()));
    let mut tar = tar::Archive::new(fs::File::open(&path).unwrap());
    let paths: Vec<String> =
        tar.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
    assert!(paths.contains(&"a/b".to_owned()), "{paths:?}");
}

#[test]
fn images_are_tagged_in_the_store() {
    let bench = Bench::new();
    let image = bench.image("linux/amd64");
    let written = export(&bench, "type=image,name=ignored", Some(&image), &[], None).unwrap();
    assert_eq!(written.what, "image app:1");
    assert_eq!(bench.store.image("app:1").unwrap().digest(), Some(image.digest));
}

#[test]
fn foreign_directories_are_left_alone() {
    let bench = Bench::new();
    let image = bench.image("linux/amd64");
    fs::create_dir(bench.path("mine")).unwrap();
    fs::write(bench.path("mine/notes"), "").unwrap();
    let spec = format!("type=oci,tar=false,dest={}", bench.path("mine").display());
    let error = export(&bench, &spec, Some(&image), &[], None).unwrap_err();
    insta::assert_snapshot!(bench.words(error), @"DIR/mine: not empty, and not an OCI layout: name a new directory");
}

#[test]
fn a_damaged_blob_is_not_exported() {
    let bench = Bench::new();
    let image = bench.image("linux/amd64");
    let config = bench.store.blob_path(&image.config.unwrap());
    let mut bytes = fs::read(&config).unwrap();
    bytes[0] ^= 1;
    fs::remove_file(&config).unwrap();
    fs::write(&config, bytes).unwrap();
    for kind in ["type=oci", "type=docker", "type=oci,tar=false"] {
        let spec = format!("{kind},dest={}", bench.path("out").display());
        assert!(export(&bench, &spec, Some(&image), &[], None).is_err(), "{kind}");
        assert!(!bench.path("out/index.json").exists());
    }
}

#[test]
fn an_engine_is_found_and_fed() {
    let bench = Bench::new();
    let image = bench.image("linux/amd64");
    let bin = bench.path("bin");
    fs::create_dir(&bin).unwrap();
    assert!(matches!(find_engine(bin.as_os_str()), Err(ExportError::NoEngine)));
    let script = |name: &str, text: &str| {
        let path = bin.join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    script("podman", &format!("cat > {}; echo Loaded image: app:1", bench.path("got.tar").display()));
    let engine = find_engine(bin.as_os_str()).unwrap();
    assert_eq!(engine.name(), "podman");
    let written = export(&bench, "type=docker", Some(&image), &[], Some(&engine)).unwrap();
    assert_eq!(
        (written.what.as_str(), written.notes.as_slice()),
        ("loaded into podman", ["Loaded image: app:1".to_owned()].as_slice())
    );
    assert_eq!(
        crate::load(&Bench::new().store, &bench.path("got.tar"), &Waiting::default()).unwrap()[0]
            .image
            .digest,
        image.digest
    );

    script("docker", "echo Cannot connect to the Docker daemon >&2; exit 1");
    let engine = find_engine(bin.as_os_str()).unwrap();
    let error = export(&bench, "type=docker", Some(&image), &[], Some(&engine)).unwrap_err();
    insta::assert_snapshot!(error, @r"
    `docker load` failed (exit status: 1):
    Cannot connect to the Docker daemon
    ");
    let error = export(&bench, "type=docker", Some(&image), &[], None).unwrap_err();
    insta::assert_snapshot!(error, @"--load needs `docker` or `podman` in PATH, and neither is there: leave out --load, and the image is in dbuild's own store; or write it with `--output type=docker,dest=FILE`");
}
