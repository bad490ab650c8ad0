//! The way back.

use std::collections::BTreeMap;

use dbuild_oci::MediaTypes;

use super::{Bench, names, tar_of};
use crate::{Destination, ExportError, Waiting, assemble_index, load, save};

#[test]
fn what_is_saved_is_loaded_and_named() {
    let bench = Bench::new();
    let image = bench.image("linux/amd64");
    for docker in [false, true] {
        let path = bench.path("image.tar");
        save(
            &bench.store,
            &image,
            &names(&["app:1", "b/app:2"]),
            &Destination::Path(path.clone()),
            docker,
            &Waiting::default(),
        )
        .unwrap();
        let to = Bench::new();
        let loaded = load(&to.store, &path, &Waiting::default()).unwrap();
        assert_eq!(loaded.len(), 1);
        assert_eq!((loaded[0].image.digest, loaded[0].image.config), (image.digest, image.config));
        assert_eq!(loaded[0].names, names(&["app:1", "b/app:2"]));
        assert_eq!(to.store.image("app:1").unwrap().digest(), Some(image.digest));
    }
}

#[test]
fn a_compressed_archive_of_two_platforms_too() {
    use std::io::Write;
    let bench = Bench::new();
    let images = [bench.image("linux/amd64"), bench.image("linux/arm64")];
    let index = assemble_index(&bench.store, &images, &BTreeMap::new(), MediaTypes::Oci).unwrap();
    let path = bench.path("both.tar");
    save(
        &bench.store,
        &index,
        &names(&["app"]),
        &Destination::Path(path.clone()),
        false,
        &Waiting::default(),
    )
    .unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&std::fs::read(&path).unwrap()).unwrap();
    std::fs::write(&path, gzip.finish().unwrap()).unwrap();
    let to = Bench::new();
    let loaded = load(&to.store, &path, &Waiting::default()).unwrap();
    assert_eq!(loaded[0].image.digest, index.digest);
    assert_eq!(crate::inspect(&to.store, &loaded[0].image).unwrap().images.len(), 2);
}

#[test]
fn of_an_index_the_complete_platforms_are_loaded() {
    let bench = Bench::new();
    let images = [bench.image("linux/amd64"), bench.image("linux/arm64")];
    let index = assemble_index(&bench.store, &images, &BTreeMap::new(), MediaTypes::Oci).unwrap();
    std::fs::remove_file(bench.store.blob_path(&images[1].digest)).unwrap();
    let path = bench.path("half.tar");
    save(
        &bench.store,
        &index,
        &names(&["app"]),
        &Destination::Path(path.clone()),
        false,
        &Waiting::default(),
    )
    .unwrap();
    let to = Bench::new();
    assert_eq!(load(&to.store, &path, &Waiting::default()).unwrap()[0].image.digest, images[0].digest);
}

#[test]
fn damage_is_told_and_nothing_is_named() {
    let bench = Bench::new();
    let image = bench.image("linux/amd64");
    let path = bench.path("image.tar");
    save(
        &bench.store,
        &image,
        &names(&["app"]),
        &Destination::Path(path.clone()),
        false,
        &Waiting::default(),
    )
    .unwrap();
    let whole = std::fs::read(&path).unwrap();
    let config = bench.store.read_blob(&image.config.unwrap(), 1 << 20).unwrap();
    let at = whole.windows(config.len()).position(|window| window == config).unwrap();
    let mut flipped = whole.clone();
    flipped[at] ^= 1;
    std::fs::write(&path, &flipped).unwrap();
    let to = Bench::new();
    assert!(
        matches!(load(&to.store, &path, &Waiting::default()), Err(ExportError::Mismatch { expected, .. }) if Some(expected) == image.config)
    );
    for cut in [whole.len() / 2, 512, 100] {
        std::fs::write(&path, &whole[..cut]).unwrap();
        assert!(load(&to.store, &path, &Waiting::default()).is_err(), "{cut}");
    }
    assert_eq!(to.store.images().unwrap(), []);
}

#[test]
fn what_is_no_image_is_told() {
    let bench = Bench::new();
    let tell = |bytes: &[u8]| {
        std::fs::write(bench.path("file"), bytes).unwrap();
        bench.words(load(&bench.store, &bench.path("file"), &Waiting::default()).unwrap_err())
    };
    insta::assert_snapshot!(tell(b"#!/bin/sh\n"), @"DIR/file: neither an OCI image layout nor a docker archive");
    insta::assert_snapshot!(tell(&tar_of(&[("a", "b")])), @"DIR/file: neither an OCI image layout nor a docker archive");
    insta::assert_snapshot!(tell(&tar_of(&[("manifest.json", "[{}]")])), @"DIR/file: manifest.json cannot be read: missing field `Config` at line 1 column 3");
    insta::assert_snapshot!(tell(&tar_of(&[("index.json", "{\"manifests\":[]"), ("oci-layout", "{}")])), @"DIR/file: index.json cannot be read: EOF while parsing an object at line 1 column 15");
    insta::assert_snapshot!(tell(&leading_out()), @"DIR/file: it has paths that lead out of it");
    insta::assert_snapshot!(bench.words(load(&bench.store, &bench.path("none"), &Waiting::default()).unwrap_err()), @"cannot read DIR/none: No such file or directory (os error 2)");
    std::fs::create_dir(bench.path("empty")).unwrap();
    insta::assert_snapshot!(bench.words(load(&bench.store, &bench.path("empty"), &Waiting::default()).unwrap_err()), @"DIR/empty: neither an OCI image layout nor a docker archive");
}

/// A tar with a path that the tar crate would not write.
fn leading_out() -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    let name = b"../index.json";
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.set_size(0);
    header.set_cksum();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append(&header, std::io::empty()).unwrap();
    tar.into_inner().unwrap()
}
