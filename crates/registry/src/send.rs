//! Sends a document to a server of the user's choice: the trace of a build to a collector.
//!
//! Nothing of a build depends on it, so it has little time and little patience: a server that
//! cannot be reached is asked once, and one that says that it is busy is asked again only as long
//! as there is time. Redirects are not followed: the headers can hold credentials, which are for
//! the server that was named. Proxies come from the environment; this machine itself is never asked
//! through one.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use dbuild_support::escape::one_line;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Response, StatusCode, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::authorities::tls_config;
use crate::config::is_loopback;
use crate::http::{chain, client_builder, retry_after};

/// More of an answer is not read.
const MAX_ANSWER: usize = 16 << 10;
/// Before a busy server that names no time is asked again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// What is sent, and where.
#[derive(Clone)]
pub struct Post {
    /// http or https.
    pub url: String,
    /// Further headers; they can hold credentials, and are in no error.
    pub headers: Vec<(String, String)>,
    /// The type of the body.
    pub content_type: &'static str,
    /// The document.
    pub body: Bytes,
    /// A file of certificates in PEM that are trusted besides the system's.
    pub ca: Option<PathBuf>,
    /// All of it must be over by then.
    pub within: Duration,
}

/// Why a server did not take it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SendError {
    /// The URL, a header or the certificates are not what they should be.
    #[error("{0}")]
    Unusable(String),
    /// There is no connection.
    #[error("{host} cannot be reached: {why}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// The reason.
        why: String,
    },
    /// It took too long.
    #[error("{host} did not answer within {within:?}")]
    TooLate {
        /// Host and port.
        host: String,
        /// The time that it had.
        within: Duration,
    },
    /// It answered, and not with success.
    #[error("{host} answered {status}{}", if .said.is_empty() { String::new() } else { format!(": {said}") })]
    Refused {
        /// Host and port.
        host: String,
        /// The status.
        status: u16,
        /// The beginning of what it said.
        said: String,
    },
}

/// Sends it. `Ok` is the beginning of the body of an answer with a status of success.
pub async fn send(post: &Post) -> Result<Bytes, SendError> {
    let deadline = Instant::now() + post.within;
    let url = match Url::parse(&post.url) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => url,
        _ => return Err(SendError::Unusable("the endpoint is no URL with http:// or https://".to_owned())),
    };
    let host = match (url.host_str().unwrap_or_default(), url.port_or_known_default()) {
        (host, Some(port)) => format!("{host}:{port}"),
        (host, None) => host.to_owned(),
    };
    let headers = headers(post)?;
    let unreachable =
        |error: &reqwest::Error| SendError::Unreachable { host: host.clone(), why: chain(error) };
    let mut authorities = Vec::new();
    if let Some(path) = &post.ca {
        let unusable =
            |why: String| SendError::Unusable(format!("certificates of {}: {why}", path.display()));
        let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
        let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        authorities = parsed.map_err(|error| unusable(chain(&error)))?;
    }
    let tls = tls_config(authorities).map_err(|error| SendError::Unusable(chain(&error)))?;
    let mut builder = client_builder(post.within).tls_backend_preconfigured(tls);
    if is_loopback(&host) {
        builder = builder.no_proxy();
    }
    let client = builder.build().map_err(|error| unreachable(&error))?;
    let mut pause = FIRST_PAUSE;
    loop {
        let request = client.post(url.clone()).headers(headers.clone()).body(post.body.clone());
        let too_late = |_| SendError::TooLate { host: host.clone(), within: post.within };
        let sent = timeout_at(deadline, request.send()).await.map_err(too_late)?;
        let response = sent.map_err(|error| unreachable(&error.without_url()))?;
        let (status, after) = (response.status(), retry_after(response.headers()));
        let said = timeout_at(deadline, beginning(response)).await;
        if status.is_success() {
            // It has taken it, whatever becomes of its answer.
            return Ok(said.unwrap_or_default());
        }
        let next = Instant::now() + after.unwrap_or(pause);
        if !is_busy(status) || next >= deadline {
            let said = said.unwrap_or_default();
            let said = one_line(&String::from_utf8_lossy(&said));
            return Err(SendError::Refused { host, status: status.as_u16(), said });
        }
        sleep_until(next).await;
        pause *= 2;
    }
}

fn headers(post: &Post) -> Result<HeaderMap, SendError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &post.headers {
        let parsed = (name.parse::<HeaderName>(), value.parse::<HeaderValue>());
        let (Ok(name), Ok(mut value)) = parsed else {
            return Err(SendError::Unusable(format!("`{name}` with its value is no header")));
        };
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(post.content_type));
    Ok(headers)
}

/// What OTLP has for answers after which one may try again.
fn is_busy(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}

async fn beginning(mut response: Response) -> Bytes {
    let mut read = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        read.extend(chunk);
        if read.len() > MAX_ANSWER {
            read.truncate(MAX_ANSWER);
            break;
        }
    }
    Bytes::from(read)
}

impl std::fmt::Debug for Post {
    /// Without headers and body.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Post")
            .field("bytes", &self.body.len())
            .field("within", &self.within)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::{Post, SendError, send};

    fn sent(url: &str, headers: &[(&str, &str)]) -> Result<Bytes, SendError> {
        let post = Post {
            url: url.to_owned(),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            content_type: "text/plain",
            body: Bytes::from_static(b"x"),
            ca: None,
            within: Duration::from_secs(5),
        };
        assert!(!format!("{post:?}").contains("hidden"));
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(send(&post))
    }

    #[test]
    fn what_cannot_be_sent_is_said_before_anything_is_opened() {
        for url in ["", "collector:4317", "ftp://a/b", "http://", "/v1/traces"] {
            assert!(matches!(sent(url, &[]), Err(SendError::Unusable(_))), "{url}");
        }
        let wrong = sent("http://127.0.0.1:1/", &[("x-token", "hidden\n")]).unwrap_err();
        assert_eq!(wrong.to_string(), "`x-token` with its value is no header");
    }

    #[test]
    fn a_port_that_nobody_listens_on_is_named_without_the_path() {
        let text =
            sent("http://127.0.0.1:1/hidden?token=hidden", &[("a", "hidden")]).unwrap_err().to_string();
        assert!(text.starts_with("127.0.0.1:1 cannot be reached: ") && !text.contains("hidden"), "{text}");
    }
}
