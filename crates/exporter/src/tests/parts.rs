//! Config, manifest and index.

use std::collections::BTreeMap;

use dbuild_digest::BlobDigest;
use dbuild_store::PackedLayer;

use super::{Bench, parts_of};
use crate::{MediaTypes, assemble, assemble_index, image_id, inspect, metadata};

/// A layer that is there, without a meaning.
fn layer(bench: &Bench, text: &str, media_type: &str) -> PackedLayer {
    let (digest, size) = bench.store.put_blob(text.as_bytes()).unwrap();
    PackedLayer {
        diff_id: BlobDigest::of(text.as_bytes()),
        digest,
        size,
        media_type: media_type.to_owned(),
        annotations: Default::default(),
    }
}

#[test]
fn the_same_parts_have_the_same_digest() {
    let bench = Bench::new();
    let docker = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    let mut parts = parts_of("linux/arm/v7", vec![layer(&bench, "one", docker)]);
    parts.base_config =
        Some(br#"{"author":"ann","os.version":"1","container":"gone","config":{"User":"x"}}"#.to_vec());
    parts.annotations = BTreeMap::from([("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())]);
    let image = assemble(&bench.store, &parts).unwrap();
    let other = Bench::new();
    layer(&other, "one", docker);
    assert_eq!(assemble(&other.store, &parts).unwrap(), image);
    let config = bench.store.read_blob(&image.config.unwrap(), 1 << 20).unwrap();
    insta::assert_snapshot!(String::from_utf8(config).unwrap(), @r#"{"architecture":"arm","author":"ann","config":{"Env":["PATH=/bin"],"Cmd":["/app/main"]},"created":"2023-11-14T22:13:20Z","history":[{"created":"2023-11-14T22:13:20Z","created_by":"COPY . /"},{"created":"2023-11-14T22:13:20Z","created_by":"CMD [\"/app/main\"]","empty_layer":true}],"os":"linux","os.version":"1","rootfs":{"diff_ids":["sha256:7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"],"type":"layers"},"variant":"v7"}"#);
    parts.config.author = Some("bob".to_owned());
    let config =
        bench.store.read_blob(&assemble(&bench.store, &parts).unwrap().config.unwrap(), 1 << 20).unwrap();
    assert!(
        String::from_utf8(config).unwrap().contains(r#""author":"bob","config":{"Env":"#),
        "MAINTAINER goes first"
    );
    let manifest = bench.store.read_blob(&image.digest, 1 << 20).unwrap();
    insta::assert_snapshot!(String::from_utf8(manifest).unwrap(), @r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:008f26f3f161025f5a7cfd35c5c6c37b4792a1cc43a1be911886d83ff77b3eda","size":440},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed","size":3}],"annotations":{"a":"1","b":"2"}}"#);
}

#[test]
fn dockers_media_types_are_written_on_request() {
    let bench = Bench::new();
    let mut parts =
        parts_of("linux/amd64", vec![layer(&bench, "one", "application/vnd.oci.image.layer.v1.tar+gzip")]);
    parts.media_types = MediaTypes::Docker;
    let image = assemble(&bench.store, &parts).unwrap();
    assert_eq!(image.media_type, "application/vnd.docker.distribution.manifest.v2+json");
    let manifest = &inspect(&bench.store, &image).unwrap().images[0].manifest;
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.docker.container.image.v1+json");
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.docker.image.rootfs.diff.tar.gzip");
}

#[test]
fn what_does_not_fit_is_told() {
    let bench = Bench::new();
    let one = layer(&bench, "one", "application/vnd.oci.image.layer.v1.tar");
    let mut short = parts_of("linux/amd64", vec![one.clone()]);
    short.layers.push(one);
    insta::assert_snapshot!(assemble(&bench.store, &short).unwrap_err(), @"the image of linux/amd64 does not fit together: 2 layers, but a history of 1");
    let gone = PackedLayer { digest: BlobDigest::of(b"gone"), ..short.layers[0].clone() };
    let missing = parts_of("linux/amd64", vec![gone]);
    let error = assemble(&bench.store, &missing).unwrap_err().to_string();
    assert!(error.contains("is not in the store"), "{error}");
}

#[test]
fn metadata_speaks_as_buildx_does() {
    let bench = Bench::new();
    let image = bench.image("linux/amd64");
    let names = super::names(&["app", "localhost:5000/app:1"]);
    let members = metadata(Some(&image), &names, Some("b1"));
    assert_eq!(members["containerimage.digest"], image.digest.to_string());
    assert_eq!(members["containerimage.config.digest"], image_id(&image).to_string());
    assert_eq!(members["image.name"], "docker.io/library/app:latest,localhost:5000/app:1");
    assert_eq!(members["containerimage.descriptor"]["size"], image.size);
    assert_eq!(metadata(None, &[], Some("b1")).to_string(), r#"{"buildx.build.ref":"b1"}"#);
    let index = assemble_index(&bench.store, &[image], &BTreeMap::new(), MediaTypes::Oci).unwrap();
    assert_eq!(image_id(&index), index.digest, "an index has no config");
    let path = bench.path("iid");
    crate::write_iidfile(&path, &index, &crate::Waiting::default()).unwrap();
    assert_eq!(super::read(&path), index.digest.to_string());
}
