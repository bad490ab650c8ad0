//! Pushing: what is sent, what is not, and to whom.

use dbuild_digest::BlobDigest;
use dbuild_oci::Descriptor;
use dbuild_oci::media_type::OCI_MANIFEST;

use super::fake::{Content, Fake, Reply, Seen};
use super::{Bench, words};

/// An image in the store of the bench.
fn image(bench: &Bench, layer: &[u8]) -> Descriptor {
    let content = Content::app(layer);
    let manifest = content.manifest("latest");
    for bytes in content.blobs.values().chain([&manifest]) {
        bench.store.put_blob(bytes).unwrap();
    }
    Descriptor::new(OCI_MANIFEST, BlobDigest::of(&manifest), manifest.len() as u64)
}

#[tokio::test]
async fn what_is_there_is_not_sent_again() {
    let fake = Fake::good(Content::default()).await;
    let bench = Bench::new();
    let layer = vec![7; 3 << 20];
    let image = image(&bench, &layer);
    let pushed = bench.registry.push(&image, &fake.app(), &[], &|_, _| {}).await.unwrap();
    assert_eq!(pushed.reference, format!("{}/app:latest@{}", fake.host, image.digest));
    assert_eq!((pushed.sent_blobs, pushed.present_blobs), (2, 0));
    assert!(pushed.sent_bytes > 3 << 20);
    assert_eq!(fake.content.lock().unwrap().blobs[&BlobDigest::of(&layer).to_string()], layer);
    assert_eq!(fake.content.lock().unwrap().manifest("latest"), Content::app(&layer).manifest("latest"));
    let again = bench.registry.push(&image, &fake.app(), &[], &|_, _| {}).await.unwrap();
    assert_eq!((again.sent_bytes, again.sent_blobs, again.present_blobs), (0, 0, 2));
}

#[tokio::test]
async fn layers_of_a_base_on_the_same_registry_are_mounted() {
    let mounts =
        |seen: &Seen, _| (seen.method == "POST" && seen.path.contains("mount=")).then(|| Reply::new(201, ""));
    let fake = Fake::new(Content::default(), mounts).await;
    let bench = Bench::new();
    let image = image(&bench, b"layer");
    let bases = [format!("{}/base:1", fake.host), "debian:12".to_owned()];
    let pushed = bench.registry.push(&image, &fake.app(), &bases, &|_, _| {}).await.unwrap();
    assert_eq!((pushed.sent_blobs, pushed.present_blobs), (0, 2));
    assert!(fake.requests().iter().any(|request| request.ends_with("&from=base")), "{:?}", fake.requests());
}

#[tokio::test]
async fn an_upload_that_fails_is_begun_again() {
    let torn = |seen: &Seen, before| (seen.method == "PUT" && before == 0).then(|| Reply::new(502, ""));
    let fake = Fake::new(Content::default(), torn).await;
    let bench = Bench::new();
    let image = image(&bench, b"layer");
    bench.registry.push(&image, &fake.app(), &[], &|_, _| {}).await.unwrap();
    assert_eq!(fake.content.lock().unwrap().blobs.len(), 2);
}

#[tokio::test]
async fn upload_addresses_elsewhere_get_no_credentials() {
    let elsewhere = Fake::good(Content::default()).await;
    let target = elsewhere.host.clone();
    let fake = Fake::new(Content::default(), move |seen, _| match seen.headers.get("authorization") {
        None => Some(Reply::new(401, "").with("WWW-Authenticate", "Basic realm=x")),
        Some(_) if seen.method == "POST" => {
            Some(Reply::new(202, "").with("Location", format!("http://{target}/upload/2?state=y")))
        }
        Some(_) => None,
    })
    .await;
    let bench = Bench::with_logins(&[(&fake.host, r#"{"auth":"YW5uOm9uZQ=="}"#)]);
    let image = image(&bench, b"layer");
    bench.registry.push(&image, &fake.app(), &[], &|_, _| {}).await.unwrap();
    assert_eq!(elsewhere.requests().len(), 2);
    assert!(elsewhere.seen().iter().all(|seen| !seen.headers.contains_key("authorization")));
}

#[tokio::test]
async fn refusals_name_the_image() {
    let bench = Bench::new();
    let image = image(&bench, b"layer");
    let fake = Fake::new(Content::default(), |_, _| {
        Some(Reply::new(401, "").with("WWW-Authenticate", "Basic realm=x"))
    })
    .await;
    let error = bench.registry.push(&image, &fake.app(), &[], &|_, _| {}).await.unwrap_err();
    insta::assert_snapshot!(words(error, &[(&fake.host, "HOST")]), @r"
    cannot push HOST/app:latest: HOST: not authorized (no credentials are known for it)
      help: check the name, or log in if the image is private: `docker login HOST` or `podman login HOST`
    ");
    let missing = Descriptor { digest: BlobDigest::of(b"?"), ..image };
    let error = bench.registry.push(&missing, &fake.app(), &[], &|_, _| {}).await.unwrap_err();
    insta::assert_snapshot!(words(error, &[(&fake.host, "HOST")]), @"cannot push HOST/app:latest: the store has no blob sha256:: build or pull the image again");
}
