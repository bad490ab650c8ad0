//! Config, manifest and index.

use std::collections::BTreeMap;

use dbuild_digest::BlobDigest;
use dbuild_oci::{HistoryEntry, MediaTypes};
use dbuild_store::PackedLayer;

use super::{Bench, parts_of};
use crate::{assemble, assemble_index, dated, image_id, inspect, metadata};

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

#[test]
fn every_entry_of_a_history_has_a_time() {
    let entry = |created: Option<&str>, empty_layer| HistoryEntry {
        created: created.map(str::to_owned),
        empty_layer,
        ..HistoryEntry::default()
    };
    let base = br#"{"created":"2020-01-01T00:00:00Z"}"#;
    let dated = |history: &[HistoryEntry], layers: &[Option<u64>], base, epoch| {
        let (history, created) = dated(history, layers, base, epoch);
        let times = history
            .iter()
            .map(|entry| entry.created.as_deref().unwrap_or("-").get(..4).unwrap_or("-").to_owned());
        (times.collect::<Vec<_>>().join(" "), created.map(|text| text[..4].to_owned()))
    };
    let year = |year: u64| Some((year - 1970) * 365 * 86_400_000 + 40 * 86_400_000);
    let of_base = [entry(Some("2019-05-05T00:00:00Z"), false), entry(Some("2021-05-05T00:00:00Z"), true)];
    let with = |more: &[bool]| {
        [&of_base[..], &more.iter().map(|empty| entry(None, *empty)).collect::<Vec<_>>()].concat()
    };
    let some = |text: &str| Some(text.to_owned());
    // Nothing new, or no layer: the base's time.
    assert_eq!(dated(&of_base, &[None], Some(base), None), ("2019 2021".to_owned(), some("2021")));
    assert_eq!(dated(&with(&[true]), &[None], Some(base), None), ("2019 2021 2021".to_owned(), some("2021")));
    let layers = [None, year(2024), year(2023)];
    let found = dated(&with(&[true, false, true, false, true]), &layers, Some(base), None);
    assert_eq!(found, ("2019 2021 2021 2024 2024 2023 2023".to_owned(), some("2023")));
    // A base without times, or without a history.
    let bare = [entry(None, false), entry(None, true), entry(None, false)];
    assert_eq!(
        dated(&bare, &[None, year(2024)], Some(base), None),
        ("2020 2020 2024".to_owned(), some("2024"))
    );
    assert_eq!(dated(&bare[..2], &[None], Some(base), None), ("2020 2020".to_owned(), some("2020")));
    // On scratch.
    let scratch = [entry(None, true), entry(None, false)];
    assert_eq!(dated(&scratch, &[year(2024)], None, None), ("2024 2024".to_owned(), some("2024")));
    assert_eq!(dated(&scratch[..1], &[], None, None), ("-".to_owned(), None));
    assert_eq!(dated(&[], &[], None, None), (String::new(), None));
    // SOURCE_DATE_EPOCH is the time of what is new, and of nothing else.
    let found = dated(&with(&[true, false]), &[None, year(2024)], Some(base), Some(0));
    assert_eq!(found, ("2019 2021 1970 1970".to_owned(), some("1970")));
    assert_eq!(dated(&of_base, &[None], Some(base), Some(0)), ("2019 2021".to_owned(), some("2021")));
    assert_eq!(dated(&[], &[], None, Some(0)).1, some("1970"));
}
