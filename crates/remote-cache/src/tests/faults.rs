//! Places that do not answer, or not as they should: an error of a kind, in time.

use std::time::{Duration, Instant};

use dbuild_registry::Credentials;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::servers::{RegistryServer, S3Server};
use super::{Machine, directory, result};
use crate::{Answer, CacheOptions, ErrorKind, Location, RemoteCacheError, S3Location};

/// Looks a key up, and tries to publish.
async fn both(machine: &Machine, location: &Location) -> (Option<ErrorKind>, Option<ErrorKind>) {
    let kind = |error: RemoteCacheError| {
        assert!(!error.to_string().is_empty());
        error.kind()
    };
    let key = result("a").record.key;
    let looked = machine.cache(location).look_up(&[key]).await.err().map(kind);
    let published = machine.publish(&machine.cache(location), &result("a")).await.err().map(kind);
    (looked, published)
}

/// A server that gives one answer to every request; `None`: none at all.
async fn answering(answer: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while stream.read(&mut request).await.is_ok_and(|count| count > 0) {
                    match answer {
                        Some(answer) => {
                            if stream.write_all(answer.as_bytes()).await.is_err() {
                                return;
                            }
                        }
                        None => std::future::pending().await,
                    }
                }
            });
        }
    });
    address
}

fn places(address: &str) -> [Location; 2] {
    let s3 = S3Location {
        bucket: "b".to_owned(),
        endpoint_url: Some(format!("http://{address}")),
        use_path_style: true,
        name: "cache".to_owned(),
        access_key_id: Some("a".to_owned()),
        secret_access_key: Some("b".to_owned()),
        ..S3Location::default()
    };
    [Location::Registry { reference: format!("{address}/app:cache") }, Location::S3(s3)]
}

#[tokio::test]
async fn answers_that_are_none_have_a_kind() {
    for (answer, expected) in [
        ("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", ErrorKind::NoRight),
        ("HTTP/1.1 429 Too Many Requests\r\nretry-after: 3600\r\ncontent-length: 0\r\n\r\n", ErrorKind::Busy),
    ] {
        let address = answering(Some(answer)).await;
        for location in places(&address) {
            let machine = Machine::new();
            let (looked, published) = both(&machine, &location).await;
            assert_eq!((looked, published), (Some(expected), Some(expected)), "{location} {answer}");
        }
    }
}

#[tokio::test]
async fn a_bucket_that_vanished_is_gone() {
    let answer =
        "HTTP/1.1 404 Not Found\r\ncontent-length: 38\r\n\r\n<Error><Code>NoSuchBucket</Code></Error>";
    let answer = answer.replace("38", &"<Error><Code>NoSuchBucket</Code></Error>".len().to_string());
    let address = answering(Some(answer.leak())).await;
    let [_, bucket] = places(&address);
    let (looked, published) = both(&Machine::new(), &bucket).await;
    assert_eq!((looked, published), (Some(ErrorKind::Gone), Some(ErrorKind::Gone)));
}

#[tokio::test]
async fn nonsense_is_a_miss() {
    let address = answering(Some("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n[]}")).await;
    let [registry, _] = places(&address);
    let machine = Machine::new();
    let cache = machine.cache(&registry);
    let answer = super::look_up_one(&cache, &result("a").record.key).await;
    assert!(matches!(answer, Answer::Refused(_)), "{answer:?}");
    assert!(cache.catalogue_trouble().await.is_some());
}

#[tokio::test]
async fn a_place_that_cannot_be_reached_is_given_up_in_time() {
    // Nothing listens; it listens and is silent.
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let silent = answering(None).await;
    for (address, expected) in [(closed, ErrorKind::Unreachable), (silent, ErrorKind::Timeout)] {
        for location in places(&address) {
            let machine = Machine::new();
            let options =
                CacheOptions { first_answer: Duration::from_millis(600), ..CacheOptions::default() };
            let began = Instant::now();
            let error =
                machine.open(&location, options).look_up(&[result("a").record.key]).await.unwrap_err();
            assert_eq!(error.kind(), expected, "{error}");
            assert!(began.elapsed() < Duration::from_secs(2), "{location}: {:?}", began.elapsed());
        }
    }
}

#[tokio::test]
async fn those_who_may_not_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let passwords = dir.path().join("htpasswd");
    // The user `ci` with the password `secret`.
    let line = "ci:$2y$05$c4WoMPo3SXsafkva.HHa6u7b1XOWKqA7XZANDrnv4IVny/8ABNR66\n";
    std::fs::write(&passwords, line).unwrap();
    let auth = format!("auth: {{htpasswd: {{realm: r, path: {}}}}}\n", passwords.display());
    let server = RegistryServer::with(&auth);
    let (looked, published) = both(&Machine::new(), &server.location()).await;
    assert_eq!((looked, published), (Some(ErrorKind::NoRight), Some(ErrorKind::NoRight)));
    let login = dir.path().join("config.json");
    std::fs::write(&login, format!("{{\"auths\":{{\"{}\":{{\"auth\":\"Y2k6c2VjcmV0\"}}}}}}", server.host))
        .unwrap();
    let machine = Machine::with_credentials(Credentials::from_files(vec![login]));
    assert_eq!(both(&machine, &server.location()).await, (None, None));

    // A bucket with another secret.
    let server = S3Server::start().await;
    let wrong = S3Location { secret_access_key: Some("wrong".to_owned()), ..server.s3() };
    let (looked, published) = both(&Machine::new(), &Location::S3(wrong)).await;
    assert_eq!((looked, published), (Some(ErrorKind::NoRight), Some(ErrorKind::NoRight)));
    // A directory that cannot be made.
    let file = tempfile::NamedTempFile::new().unwrap();
    let (_, published) = both(&Machine::new(), &directory(&file.path().join("below"))).await;
    assert!(published.is_some());
}

#[test]
fn locations_that_are_none_are_refused_before_anybody_is_asked() {
    let machine = Machine::new();
    let error = |location: Location| {
        let opened =
            crate::RemoteCache::open(&location, CacheOptions::default(), &machine.registry, &machine.store);
        opened.unwrap_err().to_string()
    };
    let named = |tag: &str| Location::Directory { path: "/c".into(), tag: tag.to_owned() };
    insta::assert_snapshot!(error(named("a b")), @"`/c` cannot be a cache: `a b` is no tag");
    insta::assert_snapshot!(error(named(&"x".repeat(61))), @"`/c` cannot be a cache: the tag has more than 60 characters");
    let pinned = format!("localhost/a@sha256:{}", "0".repeat(64));
    assert!(
        error(Location::Registry { reference: pinned }).ends_with("it is pinned to a digest; name a tag")
    );
    let s3 = S3Location {
        bucket: "b".to_owned(),
        secret_access_key: Some("hidden".to_owned()),
        ..S3Location::default()
    };
    assert!(!error(Location::S3(s3)).contains("hidden"));
}
