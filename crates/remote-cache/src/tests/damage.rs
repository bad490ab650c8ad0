//! What is damaged, missing or a lie is a miss with a reason; nothing else is lost.

use std::fs;
use std::path::{Path, PathBuf};

use dbuild_digest::BlobDigest;

use super::servers::{RegistryServer, S3Server, files};
use super::{Machine, StepResult, directory, hit, look_up_one, result};
use crate::format::compress::compress;
use crate::format::manifest::RecordManifest;
use crate::{Answer, ErrorKind, Published, Refusal, RemoteCache};

const WHAT: [&str; 4] = ["manifest", "record", "index", "layer"];

async fn published(machine: &Machine, dir: &Path) -> (StepResult, StepResult, [PathBuf; 4]) {
    let cache = machine.cache(&directory(dir));
    let (damaged, whole) = (result("damaged"), result("whole"));
    machine.publish(&cache, &damaged).await.unwrap();
    machine.publish(&cache, &whole).await.unwrap();
    cache.finish().await.unwrap();
    let blob = |digest: &BlobDigest| dir.join("blobs/sha256").join(digest.hex());
    let tag = cache.inner.record_tag(&damaged.record.key);
    let manifest = cache.inner.place.manifest(&tag).await.unwrap().unwrap();
    let parsed = RecordManifest::parse(&manifest).unwrap();
    let layer = parsed.layer.clone().unwrap();
    let all = [BlobDigest::of(&manifest), parsed.config.digest, parsed.index.digest, layer.digest];
    (damaged, whole, all.map(|digest| blob(&digest)))
}

/// Where the damage is noticed: at the look-up, at the index, or at the layer.
async fn noticed(cache: &RemoteCache, result: &StepResult) -> String {
    let answer = look_up_one(cache, &result.record.key).await;
    let hit = match &answer {
        Answer::Refused(refusal) => return format!("look-up: {refusal}"),
        other => hit(other).clone(),
    };
    if let Err(error) = cache.index(&hit).await {
        assert!(matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Gone), "{error}");
        return "index".to_owned();
    }
    let error = cache.fetch_layer(&hit, None, &|_| {}).await.expect_err("the layer is damaged");
    assert!(matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Gone), "{error}");
    "layer".to_owned()
}

#[tokio::test]
async fn damage_of_any_file_is_a_miss() {
    type Damage = fn(&Path);
    let kinds: [(&str, Damage); 4] = [
        ("flipped", |path| {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("cut", |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
        }),
        ("longer", |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes.extend_from_slice(&[0; 100]);
            fs::write(path, bytes).unwrap();
        }),
        ("gone", |path| fs::remove_file(path).unwrap()),
    ];
    let mut seen = String::new();
    for (kind, damage) in kinds {
        for (at, what) in WHAT.iter().enumerate() {
            let (machine, dir) = (Machine::new(), tempfile::tempdir().unwrap());
            let (damaged, whole, paths) = published(&machine, dir.path()).await;
            damage(&paths[at]);
            let reader = Machine::new();
            let cache = reader.cache(&directory(dir.path()));
            seen.push_str(&format!("{kind} {what}: {}\n", noticed(&cache, &damaged).await));
            assert_eq!(reader.store.has_blob(&damaged.layer.digest), None, "nothing of it is kept");
            hit(&look_up_one(&cache, &whole.record.key).await);
        }
    }
    insta::assert_snapshot!(seen, @"
    flipped manifest: look-up: the record is damaged
    flipped record: look-up: the record is damaged
    flipped index: index
    flipped layer: layer
    cut manifest: look-up: the record is damaged
    cut record: look-up: the record is damaged
    cut index: index
    cut layer: layer
    longer manifest: look-up: the record is damaged
    longer record: look-up: the record is damaged
    longer index: index
    longer layer: layer
    gone manifest: look-up: the record is missing
    gone record: look-up: the record is missing
    gone index: index
    gone layer: layer
    ");
}

#[tokio::test]
async fn a_damaged_record_is_published_anew() {
    let (machine, dir) = (Machine::new(), tempfile::tempdir().unwrap());
    let (damaged, _, paths) = published(&machine, dir.path()).await;
    fs::remove_file(&paths[1]).unwrap();
    let cache = machine.cache(&directory(dir.path()));
    assert!(matches!(machine.publish(&cache, &damaged).await.unwrap(), Published::Sent { .. }));
    let cache = Machine::new();
    hit(&look_up_one(&cache.cache(&directory(dir.path())), &damaged.record.key).await);
}

#[tokio::test]
async fn a_key_that_leads_to_another_steps_record_is_a_miss() {
    let server = RegistryServer::start();
    let machine = Machine::new();
    let cache = machine.cache(&server.location());
    let (ours, theirs) = (result("ours"), result("theirs"));
    machine.publish(&cache, &ours).await.unwrap();
    machine.publish(&cache, &theirs).await.unwrap();
    let place = &cache.inner.place;
    let theirs_bytes = place.manifest(&cache.inner.record_tag(&theirs.record.key)).await.unwrap().unwrap();
    place.put_manifest(&cache.inner.record_tag(&ours.record.key), theirs_bytes).await.unwrap();
    let answer = look_up_one(&machine.cache(&server.location()), &ours.record.key).await;
    assert!(matches!(answer, Answer::Refused(Refusal::OtherKey)), "{answer:?}");
}

#[tokio::test]
async fn an_index_of_another_layer_is_refused() {
    let (machine, dir) = (Machine::new(), tempfile::tempdir().unwrap());
    let cache = machine.cache(&directory(dir.path()));
    let (ours, theirs) = (result("ours"), result("them"));
    machine.publish(&cache, &ours).await.unwrap();
    machine.publish(&cache, &theirs).await.unwrap();
    let (place, tag) = (&cache.inner.place, cache.inner.record_tag(&ours.record.key));
    let manifest = String::from_utf8(place.manifest(&tag).await.unwrap().unwrap()).unwrap();
    let [from, to] = [&ours, &theirs].map(|one| BlobDigest::of(&compress(&one.tree.encode())).to_string());
    place.put_manifest(&tag, manifest.replace(&from, &to).into_bytes()).await.unwrap();
    let cache = machine.cache(&directory(dir.path()));
    let answer = look_up_one(&cache, &ours.record.key).await;
    let error = cache.index(hit(&answer)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().ends_with("its index is another layer's"), "{error}");
}

#[tokio::test]
async fn what_a_bucket_lost_is_a_miss() {
    let server = S3Server::start().await;
    let machine = Machine::new();
    let cache = machine.cache(&server.location());
    let result = result("a");
    machine.publish(&cache, &result).await.unwrap();
    let blobs = files(&server.bucket_dir());
    let layer = blobs.iter().find(|path| path.ends_with(result.layer.digest.hex())).unwrap();
    let mut bytes = fs::read(layer).unwrap();
    bytes[0] ^= 1;
    fs::write(layer, bytes).unwrap();
    let cache = machine.cache(&server.location());
    let reader = Machine::new();
    let other = reader.cache(&server.location());
    let answer = look_up_one(&other, &result.record.key).await;
    let error = other.fetch_layer(hit(&answer), None, &|_| {}).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    assert_eq!(reader.store.has_blob(&result.layer.digest), None);
    fs::remove_dir_all(server.bucket_dir()).unwrap();
    let error = cache.look_up(&[result.record.key]).await;
    assert!(error.is_err() || matches!(error.unwrap()[0], Answer::Absent | Answer::Refused(_)));
}
