//! What a registry can do wrong, and what is made of it.

use std::io::Read as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dbuild_digest::BlobDigest;
use dbuild_scheduler::BlobSource as _;
use dbuild_store::Incoming;

use super::fake::{Content, Fake, Reply, Seen};
use super::{Bench, amd64, words};
use crate::PullPolicy::CheckTag;
use crate::resolve::with_retries;
use crate::{Config, Credentials, HostConfig, Limits, Problem, Unreachable};

/// Pulls `app` from a registry that answers some requests in its own way; gives the error's words,
/// if there is one.
async fn pull(
    content: Content,
    handler: impl Fn(&Seen, usize) -> Option<Reply> + Send + Sync + 'static,
) -> Result<usize, String> {
    let fake = Fake::new(content, handler).await;
    let bench = Bench::new();
    let pulled = bench.registry.pull(&fake.app(), &amd64(), CheckTag, &|_, _| {}).await;
    let left = bench.store.has_blob(&layer());
    assert_eq!(left.is_some(), pulled.is_ok(), "a layer is there whole or not at all");
    pulled.map(|_| fake.requests().len()).map_err(|error| words(error, &[(&fake.host, "HOST")]))
}

fn layer() -> BlobDigest {
    BlobDigest::of(LAYER)
}

const LAYER: &[u8] = b"the layer";

fn app() -> Content {
    Content::app(LAYER)
}

fn is_layer(seen: &Seen) -> bool {
    seen.path.contains(&layer().to_string())
}

/// Answers requests for the manifest.
fn manifest(reply: Reply) -> impl Fn(&Seen, usize) -> Option<Reply> {
    move |seen, _| seen.path.contains("/manifests/").then(|| reply.clone())
}

/// Answers requests for the layer.
fn blob(reply: Reply) -> impl Fn(&Seen, usize) -> Option<Reply> {
    move |seen, _| is_layer(seen).then(|| reply.clone())
}

#[tokio::test]
async fn a_clear_no_is_not_asked_twice() {
    let denied = r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;
    insta::assert_snapshot!(pull(app(), manifest(Reply::new(403, denied))).await.unwrap_err(), @r#"
    cannot pull HOST/app:latest: HOST: access denied ("requested access to the resource is denied")
      help: ask the owner of the repository for access
    "#);
    insta::assert_snapshot!(pull(app(), manifest(Reply::new(418, "short and\nstout\u{7}"))).await.unwrap_err(), @r#"cannot pull HOST/app:latest: HOST: it answered with status 418 ("short and stout")"#);
    insta::assert_snapshot!(pull(app(), blob(Reply::new(404, ""))).await.unwrap_err(), @r"
    cannot pull a layer (286aab53bbc3) of HOST/app:latest: HOST: it does not have the blob sha256:
      help: check the spelling of the name and the tag
    ");
}

#[tokio::test]
async fn a_failing_registry_is_tried_again() {
    let twice = |seen: &Seen, before| {
        (seen.path.contains("/manifests/") && before < 2).then(|| Reply::new(500, "<html>"))
    };
    assert_eq!(pull(app(), twice).await, Ok(5));
    insta::assert_snapshot!(pull(app(), manifest(Reply::new(500, "<html>"))).await.unwrap_err(), @r"
    cannot pull HOST/app:latest: HOST: it failed with status 500
      help: try again later, or another mirror
    ");
}

#[tokio::test]
async fn retry_after_is_honoured_within_reason() {
    let begun = Instant::now();
    let once = |seen: &Seen, before| {
        (seen.path.contains("/manifests/") && before == 0).then(|| Reply::new(429, "").with("Retry-After", 1))
    };
    assert_eq!(pull(app(), once).await, Ok(4));
    assert!(begun.elapsed().as_secs() >= 1);
    insta::assert_snapshot!(pull(app(), manifest(Reply::new(429, "").with("Retry-After", 3600))).await.unwrap_err(), @r"
    cannot pull HOST/app:latest: HOST: too many requests; it asks us to wait 3600 s
      help: wait, log in (accounts have higher limits), or name a mirror in the configuration
    ");
}

#[tokio::test]
async fn a_torn_body_is_asked_for_again() {
    let cut = Reply { cut: Some(3), ..Reply::new(200, LAYER) };
    let reply = cut.clone();
    assert_eq!(
        pull(app(), move |seen, before| (is_layer(seen) && before < 2).then(|| reply.clone())).await,
        Ok(5)
    );
    insta::assert_snapshot!(pull(app(), blob(cut)).await.unwrap_err(), @r"
    cannot pull a layer (286aab53bbc3) of HOST/app:latest: HOST: the connection ended after 3 of 9 bytes of sha256:
      help: try again later, or another mirror
    ");
    let short = Reply { chunked: true, ..Reply::new(200, &LAYER[..4]) };
    insta::assert_snapshot!(pull(app(), blob(short)).await.unwrap_err(), @r"
    cannot pull a layer (286aab53bbc3) of HOST/app:latest: HOST: the connection ended after 4 of 9 bytes of sha256:
      help: try again later, or another mirror
    ");
}

/// A registry that gives `first` bytes of the layer, and then what `rest` answers to a request for
/// more.
async fn torn(
    first: usize,
    rest: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
) -> (Result<(), String>, Vec<Option<String>>) {
    let cut = Reply { cut: Some(first), ..Reply::new(200, LAYER) };
    let ranged = move |seen: &Seen| match seen.headers.contains_key("range") {
        true => rest(seen),
        false => cut.clone(),
    };
    let whole_later = move |seen: &Seen, before| match before {
        0 | 1 if is_layer(seen) => Some(ranged(seen)),
        _ => None,
    };
    let fake = Fake::new(app(), whole_later).await;
    let bench = Bench::new();
    let incoming = Incoming::default();
    let size = LAYER.len() as u64;
    let fetched = bench.registry.fetch(&fake.app(), &layer(), size, "x/y", Some(&incoming), &|_| {}).await;
    assert_eq!(bench.store.has_blob(&layer()).is_some(), fetched.is_ok());
    incoming.close();
    if let Some(mut reader) = incoming.next(0).filter(|_| fetched.is_ok()) {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, LAYER, "a follower sees the blob, however often it was asked for");
    }
    let ranges = fake.seen().iter().map(|seen| seen.headers.get("range").cloned()).collect();
    (fetched.map_err(|error| error.to_string()), ranges)
}

fn rest_of_layer(there: usize) -> Reply {
    let range = format!("bytes {there}-{}/{}", LAYER.len() - 1, LAYER.len());
    Reply::new(206, &LAYER[there..]).with("Content-Range", range)
}

#[tokio::test]
async fn a_torn_download_goes_on_where_it_ended() {
    let (fetched, ranges) = torn(3, |_| rest_of_layer(3)).await;
    assert_eq!((fetched, ranges), (Ok(()), vec![None, Some("bytes=3-".to_owned())]));
}

#[tokio::test]
async fn a_download_that_gets_on_is_not_given_up() {
    let limits = Limits { attempts: 2, first_delay: Duration::from_millis(1), ..Limits::default() };
    let tried = |steps: &'static [u64]| {
        let limits = limits.clone();
        async move {
            let count = AtomicUsize::new(0);
            let attempt = || {
                let at = count.fetch_add(1, Ordering::Relaxed);
                Box::pin(async move {
                    let torn = |mib: &u64| Problem::Truncated {
                        digest: layer(),
                        got: *mib << 20,
                        expected: 99 << 20,
                    };
                    steps.get(at).map_or(Ok(()), |got| Err(torn(got)))
                }) as _
            };
            with_retries(&limits, attempt).await.map_err(|problem| problem.to_string())
        }
    };
    assert_eq!(tried(&[1, 2, 3, 5, 8, 9]).await, Ok(()));
    assert!(tried(&[1, 2, 2, 2, 3]).await.is_err(), "the same place twice");
    // One that begins anew each time comes no farther.
    assert!(tried(&[5, 1, 2, 3, 4]).await.is_err());
}

#[tokio::test]
async fn a_server_that_cannot_go_on_begins_anew() {
    for reply in [
        Reply::new(200, LAYER),
        Reply::new(416, ""),
        rest_of_layer(4),
        // The right place, the wrong bytes.
        Reply::new(206, "xxxxxx").with("Content-Range", "bytes 3-8/9"),
    ] {
        let answer = reply.clone();
        let (fetched, ranges) = torn(3, move |_| answer.clone()).await;
        assert_eq!(fetched, Ok(()), "{reply:?}");
        let asked = if reply.status == 200 { 2 } else { 3 };
        assert_eq!((ranges.len(), &ranges[1]), (asked, &Some("bytes=3-".to_owned())), "{reply:?}");
    }
}

#[tokio::test]
async fn silence_ends() {
    for stall in [
        Reply { stall: Some(3), ..Reply::new(200, LAYER) },
        Reply { stall: Some(0), ..Reply::new(200, LAYER) },
    ] {
        let error = pull(app(), blob(stall)).await.unwrap_err();
        insta::allow_duplicates! {
            insta::assert_snapshot!(error, @r"
            cannot pull a layer (286aab53bbc3) of HOST/app:latest: HOST: it stopped sending for 0.4 s
              help: try again later, or another mirror
            ");
        }
    }
}

#[tokio::test]
async fn other_bytes_are_refused() {
    insta::assert_snapshot!(pull(app(), blob(Reply::new(200, "123456789"))).await.unwrap_err(), @r"
    cannot pull a layer (286aab53bbc3) of HOST/app:latest: HOST: it sent other bytes than asked for: expected sha256:, got sha256:
      help: the registry or something on the way to it is broken or lies; nothing of this was kept
    ");
    insta::assert_snapshot!(pull(app(), blob(Reply::new(200, "0123456789"))).await.unwrap_err(), @r"
    cannot pull a layer (286aab53bbc3) of HOST/app:latest: HOST: it has 10 bytes for sha256:, where the manifest says 9
      help: the registry or something on the way to it is broken or lies; nothing of this was kept
    ");
    let endless = Reply { chunked: true, ..Reply::new(200, vec![b'x'; 1 << 20]) };
    insta::assert_snapshot!(pull(app(), blob(endless)).await.unwrap_err(), @r"
    cannot pull a layer (286aab53bbc3) of HOST/app:latest: HOST: what it sends for sha256: is larger than 9 bytes
      help: the registry or something on the way to it is broken or lies; nothing of this was kept
    ");
    let lie = Reply::new(200, app().manifest("latest")).with("Docker-Content-Digest", BlobDigest::of(b"x"));
    insta::assert_snapshot!(pull(app(), manifest(lie)).await.unwrap_err(), @r"
    cannot pull HOST/app:latest: HOST: it sent other bytes than asked for: expected sha256:, got sha256:
      help: the registry or something on the way to it is broken or lies; nothing of this was kept
    ");
}

#[tokio::test]
async fn manifests_are_bounded_and_must_be_manifests() {
    for chunked in [false, true] {
        let large = Reply { chunked, ..Reply::new(200, vec![b' '; (4 << 20) + 1]) };
        let error = pull(app(), manifest(large)).await.unwrap_err();
        insta::allow_duplicates! {
            insta::assert_snapshot!(error, @r"
            cannot pull HOST/app:latest: HOST: its manifest is larger than 4194304 bytes
              help: the registry or something on the way to it is broken or lies; nothing of this was kept
            ");
        }
    }
    insta::assert_snapshot!(pull(app(), manifest(Reply::new(200, "<html>"))).await.unwrap_err(), @r"
    cannot pull HOST/app:latest: HOST: its manifest is broken: expected value at line 1 column 1
      help: the registry or something on the way to it is broken or lies; nothing of this was kept
    ");
    insta::assert_snapshot!(pull(app(), manifest(Reply::new(200, r#"{"schemaVersion":1,"name":"app"}"#))).await.unwrap_err(), @"cannot pull HOST/app:latest: HOST: the image has a manifest of Docker's schema 1, which was given up in 2019 and carries no digests of its layers' contents; push the image again with a current tool");
}

#[tokio::test]
async fn redirects_are_followed_but_not_in_cycles() {
    let elsewhere = Fake::good(app()).await;
    let target = elsewhere.host.clone();
    let redirect = move |seen: &Seen, _| {
        is_layer(seen).then(|| Reply::new(307, "").with("Location", format!("http://{target}{}", seen.path)))
    };
    assert_eq!(pull(app(), redirect).await, Ok(3));
    assert_eq!(elsewhere.requests().len(), 1);
    let cycle = |seen: &Seen, _| is_layer(seen).then(|| Reply::new(302, "").with("Location", &seen.path));
    insta::assert_snapshot!(pull(app(), cycle).await.unwrap_err(), @r"
    cannot pull a layer (286aab53bbc3) of HOST/app:latest: HOST: it redirects more than 5 times
      help: the registry or something on the way to it is broken or lies; nothing of this was kept
    ");
}

/// What a mirror that is down may say to everything.
fn answers_of_a_dead_mirror() -> Vec<(&'static str, Reply)> {
    let page = "<html>portal</html>";
    let statuses = [503, 403, 404, 401, 500, 429, 418].map(|status| (page, Reply::new(status, page)));
    let pages = [
        ("a page", Reply::new(200, page).with("Content-Type", "text/html")),
        ("an empty document", Reply::new(200, "{}").with("Content-Type", "application/json")),
        ("nothing", Reply::new(200, "")),
        ("a closed connection", Reply { cut: Some(0), ..Reply::new(200, page) }),
        ("a redirect to nowhere", Reply::new(302, "").with("Location", "gopher://x")),
    ];
    statuses.into_iter().chain(pages).collect()
}

#[tokio::test]
async fn a_mirror_that_answers_anything_else_is_passed_over() {
    for (what, reply) in answers_of_a_dead_mirror() {
        let dead = Fake::new(Content::default(), move |_, _| Some(reply.clone())).await;
        let good = Fake::good(app()).await;
        let bench = Bench::with_mirrors("up.localhost:1", &[&dead.host, &good.host]);
        let image = bench.registry.pull("up.localhost:1/app", &amd64(), CheckTag, &|_, _| {}).await;
        assert_eq!(image.unwrap().layers[0].digest, layer(), "{what}");
        assert!(bench.store.has_blob(&layer()).is_some(), "{what}");
    }
}

#[tokio::test]
async fn each_host_that_was_asked_is_named_with_what_it_did() {
    let dead = Fake::new(Content::default(), |_, _| Some(Reply::new(200, "<html>"))).await;
    let upstream = Fake::good(Content::default()).await;
    let bench = Bench::with_mirrors(&upstream.host, &[&dead.host]);
    let error = bench.registry.resolve(&upstream.app(), &amd64(), CheckTag).await.unwrap_err();
    insta::assert_snapshot!(words(error, &[(&dead.host, "MIRROR"), (&upstream.host, "HOST")]), @r"
    cannot pull HOST/app:latest
      MIRROR: its manifest is broken: expected value at line 1 column 1
      HOST: it does not have `latest`
      help: check the spelling of the name and the tag
    ");
    // What a mirror gave is its fault, not the registry's.
    let odd = Fake::good(Content::several(&["s390x"])).await;
    let bench = Bench::with_mirrors("up.localhost:1", &[&odd.host]);
    let error = bench.registry.resolve("up.localhost:1/app", &amd64(), CheckTag).await.unwrap_err();
    insta::assert_snapshot!(words(error, &[(&odd.host, "MIRROR")]), @r"
    cannot pull up.localhost:1/app:latest: MIRROR: there is no image for linux/amd64; it has linux/s390x
      help: pass `--platform linux/s390x`, or take another image
    ");
}

#[tokio::test]
async fn what_to_try_comes_from_the_cause() {
    let (gone, plain) = (super::fake::nobody().await, Fake::good(app()).await);
    for (host, http, cause) in [
        ("no-such-host.invalid", None, Unreachable::NoAddress),
        (&*gone, None, Unreachable::Refused),
        (&*plain.host, Some(false), Unreachable::NotTls),
    ] {
        let settings = HostConfig { http, ..HostConfig::default() };
        let bench =
            Bench::with(Config { registry: [(host.to_owned(), settings)].into() }, Credentials::none());
        let error = bench.registry.resolve(&format!("{host}/app"), &amd64(), CheckTag).await.unwrap_err();
        let hint = error.hint().unwrap();
        let crate::RegistryError::Failed(failed) = &error else { panic!("{error}") };
        let Some(Problem::Unreachable { cause: found, .. }) = failed.problem() else { panic!("{error}") };
        assert_eq!(*found, cause, "{error}");
        assert_eq!(hint.contains("http = true"), cause != Unreachable::NoAddress, "{hint}");
    }
}

/// A server that gives a byte of the layer now and then, each time that it is asked.
async fn drip(pause: Duration) -> (String, tokio::task::JoinHandle<()>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let serving = tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut asked = [0; 4096];
                let length = connection.read(&mut asked).await.unwrap_or(0);
                let asked = String::from_utf8_lossy(&asked[..length]).to_ascii_lowercase();
                let from = asked.split_once("range: bytes=").and_then(|(_, rest)| rest.split_once('-'));
                let from: usize = from.map_or(0, |(from, _)| from.parse().unwrap());
                let length = SLOW.len();
                let status = if from > 0 { "206 X" } else { "200 X" };
                let head = format!(
                    "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{length}\r\n\r\n",
                    length - from,
                    length - 1,
                );
                let _ = connection.write_all(head.as_bytes()).await;
                for byte in &SLOW[from..] {
                    if connection.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(pause).await;
                }
            });
        }
    });
    (host, serving)
}

const SLOW: &[u8] = &[7; 400];

#[tokio::test]
async fn a_server_that_gives_a_byte_now_and_then_is_a_stall_that_goes_on_where_it_ended() {
    let (host, serving) = drip(Duration::from_millis(4)).await;
    let fetch = |floor: u64, attempts: u32| {
        let host = host.clone();
        async move {
            let (window, max_delay) = (Duration::from_millis(100), Duration::from_millis(1));
            let limits = Limits { floor, attempts, window, max_delay, ..super::limits() };
            let bench = Bench::limited(limits);
            let (digest, size) = (BlobDigest::of(SLOW), SLOW.len() as u64);
            let furthest = AtomicUsize::new(0);
            let tell = |bytes: u64| {
                furthest.fetch_max(bytes as usize, Ordering::Relaxed);
            };
            let fetched =
                bench.registry.fetch(&format!("{host}/app"), &digest, size, "x/y", None, &tell).await;
            (fetched.map_err(|error| error.to_string()), furthest.load(Ordering::Relaxed))
        }
    };
    let (fetched, furthest) = fetch(1 << 20, 2).await;
    let error = fetched.unwrap_err();
    assert!(error.contains("it sends too slowly") && error.contains(&host), "{error}");
    assert!((10..400).contains(&furthest), "two windows of a hundred milliseconds: {furthest}");
    assert_eq!(fetch(1, 1).await.0, Ok(()), "slow, and above the floor");
    // Each attempt goes on where the last one ended, so that enough of them come to the end.
    assert_eq!(fetch(1 << 20, 60).await.0, Ok(()));
    serving.abort();
}

#[tokio::test]
async fn a_layer_of_an_unknown_media_type_is_refused_by_its_name() {
    let with = |media_type: &str| {
        let text = String::from_utf8(app().manifest("latest")).unwrap();
        let mut content = app();
        let text = text.replace("application/vnd.oci.image.layer.v1.tar", media_type);
        content.tag("latest", "application/vnd.oci.image.manifest.v1+json", text.into_bytes());
        pull(content, |_, _| None)
    };
    for known in [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar",
    ] {
        assert!(with(known).await.is_ok(), "{known}");
    }
    insta::assert_snapshot!(with("application/vnd.oci.image.layer.v1.tar+encrypted").await.unwrap_err(), @"cannot pull HOST/app:latest: HOST: its layer sha256: is of the unknown media type `application/vnd.oci.image.layer.v1.tar+encrypted`");
    assert!(with("application/vnd.example.squashfs").await.is_err());
}
