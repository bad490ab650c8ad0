//! Files of HTTP servers: what `ADD https://…` and contexts at URLs name.
//!
//! Other than with registries there are no tokens and no mirrors. Proxies come from the
//! environment, as everywhere; this machine itself is never asked through one. A password in the
//! URL goes to its own host and to no other.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use dbuild_digest::BlobHasher;
use dbuild_scheduler::{Credential, Download, Downloaded};
use dbuild_store::Validators;
use reqwest::header::{
    AUTHORIZATION, DATE, ETAG, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION,
};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};

use crate::authorities::tls_config;
use crate::config::is_loopback;
use crate::error::{Problem, RemoteError};
use crate::http::{self, http_date, parse_url, same_origin};
use crate::limits::Limits;

/// As many as Go's client follows, and so BuildKit.
const MAX_REDIRECTS: usize = 10;

/// `Last-Modified` counts seconds: a file that was changed less than this before it was sent may
/// have been changed again in the same second.
const OLD_ENOUGH: Duration = Duration::from_secs(60);

/// The clients, made when they are first needed.
#[derive(Debug, Default)]
pub(crate) struct Downloads {
    proxied: OnceLock<Client>,
    direct: OnceLock<Client>,
}

impl Downloads {
    /// Fetches a file, again after what may pass.
    pub(crate) async fn fetch(
        &self,
        limits: &Limits,
        what: &Download<'_>,
        into: &File,
        progress: &(dyn Fn(u64, Option<u64>) + Send + Sync),
    ) -> Result<Downloaded, RemoteError> {
        let mut failed = 0;
        loop {
            let problem = match self.attempt(limits, what, into, progress).await {
                Ok(downloaded) => return Ok(downloaded),
                Err(problem) => problem,
            };
            failed += 1;
            match limits.delay(failed, &problem) {
                Some(delay) => tokio::time::sleep(delay).await,
                None => return Err(RemoteError::Download { url: what.shown.to_owned(), problem }),
            }
        }
    }

    async fn attempt(
        &self,
        limits: &Limits,
        what: &Download<'_>,
        into: &File,
        progress: &(dyn Fn(u64, Option<u64>) + Send + Sync),
    ) -> Result<Downloaded, Problem> {
        let response = self.follow(limits, what).await?;
        let status = response.status();
        if status == StatusCode::NOT_MODIFIED && what.known.is_some() {
            return Ok(Downloaded::Unchanged);
        }
        if !status.is_success() {
            return Err(refusal(response, limits).await);
        }
        let validators = validators(response.headers());
        // Some servers send all of it, and the tag that they were asked about.
        let known = what.known.and_then(|known| known.etag.as_deref());
        if known.is_some() && known.map(opaque) == validators.etag.as_deref().map(opaque) {
            return Ok(Downloaded::Unchanged);
        }
        let modified = header(response.headers(), LAST_MODIFIED).and_then(http_date);
        let modified = modified.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        let digest = receive(response, limits, into, progress).await?;
        let modified = modified.map(|since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        Ok(Downloaded::Bytes { digest, modified, validators })
    }

    /// Sends the request, and again to where it is redirected.
    async fn follow(&self, limits: &Limits, what: &Download<'_>) -> Result<Response, Problem> {
        let home = parse_url(what.url)?;
        let mut url = home.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.client(&url, limits)?.get(url.clone());
            if let Some(credential) = what.credential.filter(|_| same_origin(&home, &url)) {
                request = match credential {
                    Credential::Header(value) => request.header(AUTHORIZATION, value),
                    Credential::Token(token) => request.bearer_auth(token),
                };
            }
            if let Some(known) = what.known {
                request = conditional(request, known);
            }
            let response = http::send_once(limits.stall, request, None).await?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let next = header(response.headers(), LOCATION).and_then(|target| url.join(target).ok());
            let next = next.filter(|next| matches!(next.scheme(), "http" | "https"));
            url = next.ok_or_else(|| Problem::Malformed("it redirects to nowhere".to_owned()))?;
        }
        Err(Problem::Malformed(format!("it redirects more than {MAX_REDIRECTS} times")))
    }

    fn client(&self, url: &Url, limits: &Limits) -> Result<&Client, Problem> {
        let direct = url.host_str().is_some_and(is_loopback);
        let slot = if direct { &self.direct } else { &self.proxied };
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        let tls = tls_config(Vec::new()).map_err(|error| http::no_settings(&http::chain(&error)))?;
        let builder = http::client_builder(limits.connect).tls_backend_preconfigured(tls);
        let builder = if direct { builder.no_proxy() } else { builder };
        let client = builder.build().map_err(|error| http::no_client(&error))?;
        Ok(slot.get_or_init(|| client))
    }
}

/// Asks for the bytes only if they are others than those that are known.
fn conditional(request: RequestBuilder, known: &Validators) -> RequestBuilder {
    match (&known.etag, &known.last_modified) {
        (Some(etag), _) => request.header(IF_NONE_MATCH, etag),
        (None, Some(time)) => request.header(IF_MODIFIED_SINCE, time),
        (None, None) => request,
    }
}

fn validators(headers: &HeaderMap) -> Validators {
    let text = |name| header(headers, name).map(str::to_owned);
    let sent = header(headers, DATE).and_then(http_date).unwrap_or_else(SystemTime::now);
    let is_old = |time: &str| {
        let age = http_date(time).and_then(|time| sent.duration_since(time).ok());
        age.is_some_and(|age| age >= OLD_ENOUGH)
    };
    Validators { etag: text(ETAG), last_modified: text(LAST_MODIFIED).filter(|time| is_old(time)) }
}

/// Whether a tag is weak makes no difference for comparing two of them.
fn opaque(etag: &str) -> &str {
    etag.trim_start_matches("W/")
}

fn header(headers: &HeaderMap, name: reqwest::header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Writes the body, from the beginning of the file.
async fn receive(
    response: Response,
    limits: &Limits,
    mut into: &File,
    progress: &(dyn Fn(u64, Option<u64>) + Send + Sync),
) -> Result<dbuild_digest::BlobDigest, Problem> {
    let local = |error: std::io::Error| {
        let kind = error.kind();
        Problem::from(std::io::Error::new(kind, format!("cannot write what it sends: {error}")))
    };
    into.set_len(0).map_err(local)?;
    into.seek(SeekFrom::Start(0)).map_err(local)?;
    let total = response.content_length();
    let mut answer = http::answer_of(response, limits);
    let mut hasher = BlobHasher::default();
    let mut got = 0;
    progress(0, total);
    loop {
        match answer.chunk().await {
            Ok(Some(bytes)) => {
                into.write_all(&bytes).map_err(local)?;
                hasher.update(&bytes);
                got += bytes.len() as u64;
                progress(got, total);
            }
            Ok(None) => return Ok(hasher.finish()),
            Err(Problem::Unreachable { .. }) => return Err(Problem::Cut { got }),
            Err(problem) => return Err(problem),
        }
    }
}

/// What an answer means that is not the file. Pages of errors are for browsers: the status says
/// enough.
async fn refusal(response: Response, limits: &Limits) -> Problem {
    let retry_after = http::retry_after(response.headers());
    match response.status().as_u16() {
        401 => Problem::Unauthorized { used: None, unreadable: None },
        403 => Problem::Forbidden { message: String::new() },
        404 | 410 => Problem::NotFound("this file".to_owned()),
        429 => Problem::RateLimited { retry_after },
        status @ (408 | 500..=599) => {
            let message = http::error_message(response, limits).await;
            Problem::Server { status, message, retry_after }
        }
        status => Problem::Unexpected { status, message: String::new() },
    }
}
