//! Pushing: what is sent, what is not, and to whom.

use dbuild_digest::BlobDigest;
use dbuild_oci::Descriptor;
use dbuild_oci::media_type::OCI_MANIFEST;

use super::fake::{Content, Fake, Reply, Seen};
use super::{Bench, limits, words};
use crate::endpoint::Endpoint;
use crate::hosts::Hosts;
use crate::repository_client::RepositoryClient;
use crate::{Config, Credentials, HostConfig, KeyPair};

/// An image in the store of the bench.
pub(super) fn image(bench: &Bench, layer: &[u8]) -> Descriptor {
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
      help: check the name, or log in if the image is private: `dbuild login HOST`
    ");
    let missing = Descriptor { digest: BlobDigest::of(b"?"), ..image };
    let error = bench.registry.push(&missing, &fake.app(), &[], &|_, _| {}).await.unwrap_err();
    insta::assert_snapshot!(words(error, &[(&fake.host, "HOST")]), @"cannot push HOST/app:latest: the store has no blob sha256:: build or pull the image again");
}

/// The client for `app` at a host, if `oci-client` may carry its requests.
async fn client(host: &str, settings: HostConfig, authorization: Option<&str>) -> Option<RepositoryClient> {
    let config = Config { registry: [(host.to_owned(), settings)].into() };
    let endpoint = Endpoint::upstream(&config, &format!("{host}/app").parse().unwrap());
    let hosts = Hosts::new(config, Credentials::none(), limits());
    RepositoryClient::new(&hosts, &endpoint, authorization.map(str::to_owned)).await.unwrap()
}

#[tokio::test]
async fn oci_client_carries_what_it_can_authorized_by_us() {
    let fake = Fake::good(Content::default()).await;
    // The second looks like a token that has run out long ago; that is for the registry to say.
    for header in ["Basic YW5uOm9uZQ==", "Bearer e30.eyJleHAiOjF9.x", "Bearer opaque"] {
        let client = client(&fake.host, HostConfig::default(), Some(header)).await.unwrap();
        let digest = BlobDigest::of(b"x");
        assert_eq!(client.has_blob(&digest).await.unwrap(), Some(false));
        let seen = fake.seen();
        assert_eq!(fake.take_requests(), [format!("HEAD /v2/app/blobs/{digest}")], "it asks nobody else");
        assert_eq!(seen[0].headers["authorization"], header);
    }
}

#[tokio::test]
async fn oci_client_is_not_given_what_it_cannot_take() {
    let host = "127.0.0.1:1";
    assert!(client(host, HostConfig::default(), None).await.is_some());
    assert!(client(host, HostConfig::default(), Some("Bearer a\nb")).await.is_none(), "it would panic");
    assert!(client(host, HostConfig::default(), Some("Negotiate x")).await.is_none());
    let pem = |name: &str| [env!("CARGO_MANIFEST_DIR"), "src/tests/tls", name].iter().collect();
    let keypair = vec![KeyPair { key: pem("key.pem"), cert: pem("cert.pem") }];
    assert!(client(host, HostConfig { keypair, ..HostConfig::default() }, None).await.is_none());
}

#[tokio::test]
async fn answers_without_location_are_answers() {
    let silent = |seen: &Seen, _: usize| (seen.method == "PUT").then(|| Reply::new(201, ""));
    let fake = Fake::new(Content::default(), silent).await;
    let client = client(&fake.host, HostConfig::default(), None).await.unwrap();
    let name = BlobDigest::of(b"m").to_string();
    let media_type = reqwest::header::HeaderValue::from_static(OCI_MANIFEST);
    for name in [name.as_str(), "latest"] {
        let put = client.put_manifest(name, &media_type, bytes::Bytes::from_static(b"m")).await;
        assert_eq!(put.unwrap(), Some(()), "{name}");
    }
    // A blob that was stored so is there, and is not sent a second time.
    let fake = Fake::new(Content::default(), |seen, before| match seen.method.as_str() {
        "PUT" => Some(Reply::new(201, "")),
        "HEAD" if before > 0 => Some(Reply::new(200, "")),
        _ => None,
    })
    .await;
    let bench = Bench::new();
    let image = image(&bench, b"layer");
    bench.registry.push(&image, &fake.app(), &[], &|_, _| {}).await.unwrap();
    let uploads = fake.requests().iter().filter(|request| request.contains("PUT /upload")).count();
    assert_eq!(uploads, 2);
}

#[tokio::test]
async fn a_push_hears_what_oci_client_does_not_show() {
    let bench = Bench::new();
    let image = image(&bench, b"layer");
    let busy = |seen: &Seen, _: usize| {
        (seen.method == "POST").then(|| Reply::new(429, "slow down").with("Retry-After", 3600))
    };
    let fake = Fake::new(Content::default(), busy).await;
    let error = bench.registry.push(&image, &fake.app(), &[], &|_, _| {}).await.unwrap_err();
    assert!(error.to_string().ends_with("too many requests; it asks us to wait 3600 s"), "{error}");
    // An error page is read to a limit, and shown as one line.
    let page = vec![b'x'; 1 << 20];
    let fake = Fake::new(Content::default(), move |seen, _| {
        (seen.method == "PUT").then(|| Reply::new(418, page.clone()))
    })
    .await;
    let error = bench.registry.push(&image, &fake.app(), &[], &|_, _| {}).await.unwrap_err().to_string();
    assert!(error.contains("it answered with status 418") && error.len() < 20 << 10, "{}", error.len());
}

#[tokio::test]
async fn a_token_that_runs_out_during_a_push_is_renewed() {
    let given = std::sync::atomic::AtomicUsize::new(0);
    let fake = Fake::new(Content::default(), move |seen, _| {
        if seen.path.starts_with("/token") {
            let number = given.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            return Some(Reply::new(200, format!(r#"{{"token":"tok{number}"}}"#)));
        }
        // Manifests want the second token.
        let wanted = if seen.path.contains("/manifests/") { "Bearer tok2" } else { "Bearer tok1" };
        let is_wanted = seen.headers.get("authorization").is_some_and(|header| header == wanted);
        let challenge = format!(r#"Bearer realm="http://{}/token""#, seen.headers["host"]);
        (!is_wanted).then(|| Reply::new(401, "").with("WWW-Authenticate", challenge))
    })
    .await;
    let bench = Bench::new();
    let image = image(&bench, b"layer");
    bench.registry.push(&image, &fake.app(), &[], &|_, _| {}).await.unwrap();
    assert_eq!(fake.requests().iter().filter(|request| request.contains("/token")).count(), 2);
    assert!(fake.content.lock().unwrap().manifests.contains_key("latest"));
}

#[tokio::test]
async fn a_registry_that_takes_a_blob_and_says_nothing_is_a_stall() {
    let silent = Reply { stall: Some(0), ..Reply::new(500, "x") };
    let fake =
        Fake::new(Content::default(), move |seen, _| (seen.method == "PUT").then(|| silent.clone())).await;
    let bench = Bench::new();
    let image = image(&bench, b"layer");
    let error = bench.registry.push(&image, &fake.app(), &[], &|_, _| {}).await.unwrap_err();
    assert!(error.to_string().contains("it stopped sending for 0.4 s"), "{error}");
}
