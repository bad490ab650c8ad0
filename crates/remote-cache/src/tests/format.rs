//! The bytes of the format: golden files, which change with its version alone.

use std::path::Path;

use dbuild_digest::BlobDigest;
use dbuild_oci::Descriptor;

use super::result;
use crate::format::catalogue::{StoredRecord, decode, encode};
use crate::format::compress::{compress, decompress};
use crate::format::manifest::{RecordManifest, catalogue_blob, catalogue_manifest};
use crate::format::{CATALOGUE, INDEX, RECORD_CONFIG};
use crate::{Refusal, RemoteRecord};

/// Compares with `golden/NAME`, or writes it where `DBUILD_WRITE_GOLDEN` is set.
fn golden(name: &str, bytes: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/golden").join(name);
    if std::env::var_os("DBUILD_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, bytes).unwrap();
    }
    let expected = std::fs::read(&path).unwrap();
    assert!(bytes == expected, "{name} is another: {}", String::from_utf8_lossy(bytes));
}

fn stored() -> StoredRecord {
    let result = result("golden");
    // The version of dbuild is not the format's.
    let config = String::from_utf8(result.record.to_json()).unwrap();
    let config =
        config.replace(&format!("\"dbuild\":\"{}\"", env!("CARGO_PKG_VERSION")), "\"dbuild\":\"0.1.0\"");
    // What a compressor makes of an index may change with its version.
    let index = b"an index".to_vec();
    let blob = |media_type: &str, bytes: &[u8]| {
        Descriptor::new(media_type, BlobDigest::of(bytes), bytes.len() as u64)
    };
    let layer = Descriptor::new(result.layer.media_type.clone(), result.layer.digest, result.layer.size);
    let manifest = RecordManifest::new(
        &result.record.key,
        blob(RECORD_CONFIG, config.as_bytes()),
        blob(INDEX, &index),
        Some(layer),
    );
    StoredRecord {
        key: result.record.key,
        definition: result.record.definition,
        created_ms: result.record.created_ms,
        manifest: manifest.to_json(),
        config: config.into_bytes(),
        index: Some(index),
    }
}

#[test]
fn the_format_does_not_drift() {
    let stored = stored();
    golden("record.json", &stored.config);
    golden("manifest.json", &stored.manifest);
    golden("index", &result("golden").tree.encode());
    let unpacked = decompress(&encode([&stored].into_iter()), 1 << 20, "it").unwrap();
    golden("catalogue", &unpacked);
    let catalogue = Descriptor::new(CATALOGUE, BlobDigest::of(b"x"), 1);
    golden("catalogue.json", &catalogue_manifest(&catalogue));
}

#[test]
fn what_was_written_is_read() {
    let stored = stored();
    let record = RemoteRecord::parse(&stored.config, &stored.key).unwrap();
    assert_eq!(record.text, "RUN make golden");
    assert_eq!(RecordManifest::parse(&stored.manifest).unwrap().blobs().count(), 3);
    assert_eq!(decode(&encode([&stored].into_iter())).unwrap(), [stored]);
    let blob = Descriptor::new(CATALOGUE, BlobDigest::of(b"x"), 1);
    assert_eq!(catalogue_blob(&catalogue_manifest(&blob)).unwrap(), blob);
}

#[test]
fn a_record_is_what_its_key_says_or_nothing() {
    let stored = stored();
    let text = String::from_utf8(stored.config.clone()).unwrap();
    let parse = |text: &str| RemoteRecord::parse(text.as_bytes(), &stored.key).unwrap_err();
    // Each part of the key, changed.
    for (from, to) in [
        ("make\\\",\\\"golden", "make\\\",\\\"evil"),
        ("\"strategy\":\"output\"", "\"strategy\":\"other\""),
        ("\"strategy_version\":7", "\"strategy_version\":8"),
        ("\"k\":\"command\"", "\"k\":\"script\""),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        assert_eq!(parse(&changed), Refusal::OtherKey, "{from}");
    }
    let other = result("other");
    assert_eq!(RemoteRecord::parse(&other.record.to_json(), &stored.key), Err(Refusal::OtherKey));
    assert_eq!(parse(&text.replacen("\"format\":1", "\"format\":2", 1)), Refusal::Version(2));
    assert_eq!(parse("{}"), Refusal::Damaged("the record"));
    assert_eq!(parse(&text[..text.len() - 1]), Refusal::Damaged("the record"));
}

#[test]
fn manifests_of_others_are_none_of_ours() {
    let manifest = String::from_utf8(stored().manifest).unwrap();
    let parse = |text: String| RecordManifest::parse(text.as_bytes()).unwrap_err();
    let ours = "application/vnd.dbuild.cache.record.v1\"";
    assert_eq!(parse(manifest.replacen(ours, "application/x\"", 1)), Refusal::NoRecord);
    assert_eq!(
        parse(manifest.replacen("+json\",\"digest", "+xml\",\"digest", 1)),
        Refusal::Damaged("the manifest")
    );
    // A signature is made over lines, so no media type may hold one.
    let lines = manifest.replacen("v1.tar+gzip", "v1.tar+gzip\\nblob", 1);
    assert_eq!(parse(lines), Refusal::Damaged("the manifest"));
    assert_eq!(parse("[]".to_owned()), Refusal::Damaged("the manifest"));
    // A layer may have any size; what is read into memory may not.
    let huge = manifest.replacen("\"size\":660", "\"size\":660000000", 1);
    assert_eq!(parse(huge), Refusal::TooLarge("the record"));
}

#[test]
fn what_grows_when_it_is_unpacked_is_bounded() {
    let bomb = compress(&vec![0; 64 << 20]);
    assert!(bomb.len() < 100_000);
    assert_eq!(decompress(&bomb, 1 << 20, "it"), Err(Refusal::TooLarge("it")));
    assert_eq!(decode(&bomb), Err(Refusal::TooLarge("the catalogue")));
}

#[test]
fn a_catalogue_that_was_cut_or_changed_is_refused_whole() {
    let packed = encode([&stored()].into_iter());
    let unpacked = decompress(&packed, 1 << 20, "it").unwrap();
    for cut in [1, 10, unpacked.len() / 2, unpacked.len() - 1] {
        let error = decode(&compress(&unpacked[..cut])).unwrap_err();
        assert_eq!(error, Refusal::Damaged("the catalogue"), "{cut}");
    }
    assert!(decode(&packed[..packed.len() - 1]).is_err());
    assert_eq!(decode(b"nonsense"), Err(Refusal::Damaged("the catalogue")));
    assert_eq!(decode(&compress(b"")).unwrap(), []);
}

#[test]
fn a_catalogue_keeps_the_newest_within_its_bounds() {
    let one = stored();
    let records: Vec<StoredRecord> = (0..12_000_u64)
        .map(|at| StoredRecord { created_ms: at, config: vec![b'x'; 10], index: None, ..one.clone() })
        .collect();
    let kept = decode(&encode(records.iter())).unwrap();
    assert_eq!(kept.len(), 10_000);
    assert_eq!((kept[0].created_ms, kept[9_999].created_ms), (11_999, 2_000));
    let large = StoredRecord { config: vec![0; 300 << 10], ..stored() };
    assert_eq!(decode(&encode([&large].into_iter())).unwrap(), [], "a large one is fetched by itself");
}
