//! Which hosts get which credentials.

use super::fake::{Content, Fake, Reply, Seen};
use super::{Bench, amd64, words};
use crate::PullPolicy::CheckTag;

/// ann:one
const BASIC: &str = "Basic YW5uOm9uZQ==";
const LOGIN: &str = r#"{"auth":"YW5uOm9uZQ=="}"#;

fn authorization(seen: &Seen) -> &str {
    seen.headers.get("authorization").map_or("", String::as_str)
}

/// Wants Basic.
fn basic(seen: &Seen, _: usize) -> Option<Reply> {
    (authorization(seen) != BASIC)
        .then(|| Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"here\""))
}

/// Wants a token that `/token` on the same host gives; `accept` says which.
fn bearer(accept: impl Fn(&str) -> bool, token: Reply) -> impl Fn(&Seen, usize) -> Option<Reply> {
    move |seen, _| {
        if seen.path.starts_with("/token") {
            return Some(token.clone());
        }
        let challenge = format!(r#"Bearer realm="http://{}/token?x=1",service="svc""#, seen.headers["host"]);
        (!accept(authorization(seen))).then(|| Reply::new(401, "").with("WWW-Authenticate", challenge))
    }
}

#[tokio::test]
async fn basic_credentials_are_sent_where_they_are_for() {
    let fake = Fake::new(Content::app(b"layer"), basic).await;
    let bench = Bench::with_logins(&[(&fake.host, LOGIN)]);
    bench.registry.pull(&fake.app(), &amd64(), CheckTag, &|_, _| {}).await.unwrap();
    assert_eq!(fake.requests().len(), 4, "one refusal, then what was learnt is kept");
    let error = Bench::new().registry.resolve(&fake.app(), &amd64(), CheckTag).await.unwrap_err();
    insta::assert_snapshot!(words(error, &[(&fake.host, "HOST")]), @r"
    cannot pull HOST/app:latest: HOST: not authorized (no credentials are known for it)
      help: check the name, or log in if the image is private: `dbuild login HOST`
    ");
}

#[tokio::test]
async fn wrong_credentials_are_told_with_their_place() {
    let fake = Fake::new(Content::app(b"layer"), basic).await;
    let bench = Bench::with_logins(&[(&fake.host, r#"{"auth":"YW5uOnR3bw=="}"#)]);
    let error = bench.registry.resolve(&fake.app(), &amd64(), CheckTag).await.unwrap_err();
    let dir = bench.directory();
    insta::assert_snapshot!(words(error, &[(&fake.host, "HOST"), (&dir, "DIR")]), @r"
    cannot pull HOST/app:latest: HOST: not authorized with the credentials of DIR/config.json
      help: log in again, with an account that may do this: `dbuild login HOST`
    ");
}

#[tokio::test]
async fn tokens_are_fetched_with_credentials_and_kept() {
    let token = Reply::new(200, r#"{"access_token":"tok","expires_in":300}"#);
    let fake = Fake::new(Content::app(b"layer"), bearer(|header| header == "Bearer tok", token)).await;
    let bench = Bench::with_logins(&[(&fake.host, LOGIN)]);
    bench.registry.pull(&fake.app(), &amd64(), CheckTag, &|_, _| {}).await.unwrap();
    let asked: Vec<Seen> = fake.seen().into_iter().filter(|seen| seen.path.starts_with("/token")).collect();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path, "/token?x=1&service=svc&scope=repository%3Aapp%3Apull&account=ann");
    assert_eq!(authorization(&asked[0]), BASIC);
}

#[tokio::test]
async fn a_token_that_has_run_out_is_renewed() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let given = AtomicUsize::new(0);
    let fake = Fake::new(Content::app(b"layer"), move |seen, _| {
        if seen.path.starts_with("/token") {
            let number = given.fetch_add(1, Ordering::Relaxed) + 1;
            return Some(Reply::new(200, format!(r#"{{"token":"tok{number}"}}"#)));
        }
        // The layer wants the second token.
        let wanted = if seen.path.contains("/blobs/") { "Bearer tok2" } else { "Bearer tok1" };
        let challenge = format!(r#"Bearer realm="http://{}/token""#, seen.headers["host"]);
        (authorization(seen) != wanted).then(|| Reply::new(401, "").with("WWW-Authenticate", challenge))
    })
    .await;
    Bench::new().registry.pull(&fake.app(), &amd64(), CheckTag, &|_, _| {}).await.unwrap();
}

#[tokio::test]
async fn identity_tokens_are_traded() {
    let token = Reply::new(200, r#"{"access_token":"tok"}"#);
    let fake = Fake::new(Content::app(b"layer"), bearer(|header| header == "Bearer tok", token)).await;
    let bench = Bench::with_logins(&[(&fake.host, r#"{"auth":"","identitytoken":"re/fresh"}"#)]);
    bench.registry.resolve(&fake.app(), &amd64(), CheckTag).await.unwrap();
    let asked = fake.seen().into_iter().find(|seen| seen.path.starts_with("/token")).unwrap();
    assert_eq!(asked.method, "POST");
    assert_eq!(
        String::from_utf8(asked.body).unwrap(),
        "grant_type=refresh_token&client_id=dbuild&refresh_token=re%2Ffresh&scope=repository%3Aapp%3Apull&service=svc"
    );
}

#[tokio::test]
async fn token_servers_are_not_trusted_either() {
    for (reply, what) in [
        (Reply::new(401, ""), "not authorized (no credentials are known for it)"),
        (Reply::new(200, "{}"), "its token server 127.0.0.1 gave no token"),
        (Reply::new(200, "{\"token\":\"a\\nb\"}"), "its token server 127.0.0.1 gave no token"),
        (Reply::new(200, vec![b' '; (1 << 20) + 1]), "the token is larger than 1048576 bytes"),
        (Reply::new(500, ""), "it failed with status 500 (\"from its token server 127.0.0.1\")"),
    ] {
        let fake = Fake::new(Content::app(b"layer"), bearer(|_| false, reply)).await;
        let error =
            Bench::new().registry.resolve(&fake.app(), &amd64(), CheckTag).await.unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_port() {
    let elsewhere = Fake::good(Content::app(b"layer")).await;
    let target = elsewhere.host.clone();
    let fake = Fake::new(Content::app(b"layer"), move |seen, n| {
        let redirect = || Reply::new(307, "").with("Location", format!("http://{target}{}", seen.path));
        basic(seen, n).or_else(|| seen.path.contains("/blobs/").then(redirect))
    })
    .await;
    let bench = Bench::with_logins(&[(&fake.host, LOGIN), (&elsewhere.host, r#"{"auth":"Ym9iOnR3bw=="}"#)]);
    bench.registry.pull(&fake.app(), &amd64(), CheckTag, &|_, _| {}).await.unwrap();
    assert_eq!(elsewhere.requests().len(), 2);
    assert!(elsewhere.seen().iter().all(|seen| authorization(seen).is_empty()), "neither ours nor theirs");
}

#[tokio::test]
async fn a_mirror_does_not_get_the_registrys_credentials() {
    let mirror = Fake::new(Content::app(b"layer"), basic).await;
    let upstream = Fake::new(Content::app(b"layer"), basic).await;
    let bench = Bench::with_logins(&[(&upstream.host, LOGIN)]).mirrored(&upstream.host, &mirror.host);
    bench.registry.resolve(&upstream.app(), &amd64(), CheckTag).await.unwrap();
    assert!(!mirror.requests().is_empty());
    assert!(mirror.seen().iter().all(|seen| authorization(seen).is_empty()));
}
