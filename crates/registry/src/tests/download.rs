//! Files of servers that are no registries.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::sync::atomic::{AtomicU64, Ordering};

use dbuild_digest::BlobDigest;
use dbuild_scheduler::{Credential, Download, Downloaded, RemoteSource as _};
use dbuild_store::Validators;

use super::fake::{Content, Fake, Reply, Seen, nobody};
use super::limits;
use crate::Remotes;

const LONG_AGO: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

async fn server(handler: impl Fn(&Seen, usize) -> Option<Reply> + Send + Sync + 'static) -> Fake {
    Fake::new(Content::default(), handler).await
}

/// What a download gives, and what it wrote.
async fn download(what: &Download<'_>) -> (Result<Downloaded, String>, String) {
    let mut file = tempfile::tempfile().unwrap();
    let done = Remotes::new(limits(), "git").download(what, &file, &|_, _| ()).await;
    let told = |error: dbuild_scheduler::BlobSourceError| {
        let hint = error.downcast_ref::<crate::RemoteError>().and_then(crate::RemoteError::hint);
        format!("{error}\n  help: {}", hint.unwrap_or_default())
    };
    (done.map_err(told), text_of(&mut file))
}

fn text_of(file: &mut File) -> String {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

fn plain(url: &str) -> Download<'_> {
    Download { url, shown: url, known: None, credential: None }
}

#[tokio::test]
async fn bytes_come_with_what_the_server_says_of_them() {
    let reply = || Reply::new(200, "hello").with("ETag", "W/\"1\"").with("Last-Modified", LONG_AGO);
    let server = server(move |_, _| Some(reply())).await;
    let (done, text) = download(&plain(&format!("http://{}/f", server.host))).await;
    let validators =
        Validators { etag: Some("W/\"1\"".to_owned()), last_modified: Some(LONG_AGO.to_owned()) };
    let digest = BlobDigest::of(b"hello");
    assert_eq!(done, Ok(Downloaded::Bytes { digest, modified: Some(784_111_777), validators }));
    assert_eq!(text, "hello");
}

#[tokio::test]
async fn a_file_that_was_just_changed_is_not_known_by_its_time() {
    let server = server(|seen, _| {
        let date = if seen.path == "/old" { "Sun, 06 Nov 1994 08:50:37 GMT" } else { LONG_AGO };
        Some(Reply::new(200, "x").with("Last-Modified", LONG_AGO).with("Date", date))
    })
    .await;
    for (path, known) in [("/new", false), ("/old", true)] {
        let (done, _) = download(&plain(&format!("http://{}{path}", server.host))).await;
        let Ok(Downloaded::Bytes { validators, .. }) = done else { panic!("{done:?}") };
        assert_eq!(validators.last_modified.is_some(), known, "{path}");
    }
}

#[tokio::test]
async fn what_is_known_is_not_sent_again() {
    let server = server(|seen, _| {
        let known = seen.headers.get("if-none-match").is_some_and(|tag| tag == "\"1\"");
        let since = seen.headers.get("if-modified-since").is_some_and(|time| time == LONG_AGO);
        Some(match seen.path.as_str() {
            "/tag" if known => Reply::new(304, ""),
            "/time" if since => Reply::new(304, ""),
            // A server that does not understand the question.
            "/all" => Reply::new(200, "all of it").with("ETag", "\"1\""),
            _ => Reply::new(200, "other").with("ETag", "\"2\""),
        })
    })
    .await;
    let tag = Validators { etag: Some("\"1\"".to_owned()), last_modified: Some("never".to_owned()) };
    let time = Validators { etag: None, last_modified: Some(LONG_AGO.to_owned()) };
    for (path, known) in [("/tag", &tag), ("/time", &time), ("/all", &tag)] {
        let url = format!("http://{}{path}", server.host);
        let (done, text) = download(&Download { known: Some(known), ..plain(&url) }).await;
        assert_eq!((done, text.as_str()), (Ok(Downloaded::Unchanged), ""), "{path}");
    }
    let url = format!("http://{}/changed", server.host);
    let (done, text) = download(&Download { known: Some(&tag), ..plain(&url) }).await;
    assert!(matches!(done, Ok(Downloaded::Bytes { .. })) && text == "other");
}

#[tokio::test]
async fn what_may_pass_is_tried_again_from_the_beginning() {
    let server = server(|seen, before| match (seen.path.as_str(), before) {
        ("/busy", 0) => Some(Reply::new(503, "")),
        ("/limited", 0) => Some(Reply::new(429, "").with("Retry-After", "1")),
        ("/cut", 0) => Some(Reply { cut: Some(7), ..Reply::new(200, "a longer text") }),
        ("/stall", 0) => Some(Reply { stall: Some(3), ..Reply::new(200, "hello") }),
        ("/never", _) => Some(Reply::new(500, "<html>")),
        _ => Some(Reply::new(200, "hello")),
    })
    .await;
    for path in ["/busy", "/limited", "/cut", "/stall"] {
        let (done, text) = download(&plain(&format!("http://{}{path}", server.host))).await;
        assert!(done.is_ok() && text == "hello", "{path}: {done:?} {text}");
    }
    server.take_requests();
    let (done, _) = download(&plain(&format!("http://{}/never", server.host))).await;
    assert!(done.unwrap_err().contains("status 500"));
    assert_eq!(server.requests().len(), 3, "bounded");
}

#[tokio::test]
async fn a_credential_goes_to_its_own_host_alone() {
    let other = server(|_, _| Some(Reply::new(200, "there"))).await;
    let to = format!("http://{}/f", other.host);
    let first = server(move |_, _| Some(Reply::new(307, "").with("Location", &to))).await;
    let url = format!("http://{}/f", first.host);
    let token = Credential::Token("t".to_owned());
    let (done, text) = download(&Download { credential: Some(&token), ..plain(&url) }).await;
    assert!(done.is_ok() && text == "there");
    assert_eq!(first.seen()[0].headers.get("authorization").map(String::as_str), Some("Bearer t"));
    assert_eq!(other.seen()[0].headers.get("authorization"), None);
}

#[tokio::test]
async fn errors_name_the_url_as_it_may_be_shown() {
    let gone = nobody().await;
    let url = format!("http://u:hunter2@{gone}/f");
    let (done, _) = download(&Download { shown: "http://xxxxx@HOST/f", ..plain(&url) }).await;
    let text = done.unwrap_err();
    assert!(text.starts_with("cannot download http://xxxxx@HOST/f: its server cannot be reached:"), "{text}");
    assert!(
        text.contains("\n  help: check the network and the name `HOST`") && !text.contains("hunter2"),
        "{text}"
    );
    let server = server(|_, _| Some(Reply::new(404, "<html>"))).await;
    let url = format!("http://{}/f", server.host);
    let (done, _) = download(&Download { shown: "URL", ..plain(&url) }).await;
    insta::assert_snapshot!(done.unwrap_err(), @r"
    cannot download URL: its server does not have it (status 404)
      help: check the spelling of the URL
    ");
    assert_eq!(server.requests().len(), 1, "what is not there is not asked for again");
}

#[tokio::test]
async fn progress_counts_bytes() {
    let server = server(|_, _| Some(Reply::new(200, "hello"))).await;
    let (seen, total) = (AtomicU64::new(0), AtomicU64::new(0));
    let progress = |bytes: u64, of: Option<u64>| {
        seen.store(bytes, Ordering::Relaxed);
        total.store(of.unwrap_or(0), Ordering::Relaxed);
    };
    let (url, file) = (format!("http://{}/f", server.host), tempfile::tempfile().unwrap());
    Remotes::new(limits(), "git").download(&plain(&url), &file, &progress).await.unwrap();
    assert_eq!((seen.into_inner(), total.into_inner()), (5, 5));
}
