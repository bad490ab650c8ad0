//! The connections of a bucket: our client below `object_store`, with our bounds.
//!
//! `object_store` would keep the status of a failed answer to itself, not know `Retry-After`, and
//! read an error page of any size. So its own retries are off; here an answer that is a failure
//! becomes a [`Problem`], which [`problem_of`] finds again below its errors.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dbuild_support::escape::one_line;
use futures_util::StreamExt as _;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use reqwest::Client;
use tokio::time::timeout;

use crate::authorities::tls_config;
use crate::error::Problem;
use crate::http::{MAX_ERROR_BYTES, chain, client_builder, no_client, no_settings, retry_after};
use crate::limits::Limits;
use crate::unreachable::cause;

/// Makes the clients of a bucket.
#[derive(Debug)]
pub(crate) struct Connector {
    pub limits: Arc<Limits>,
    /// The server is this machine, to which no proxy leads.
    pub is_loopback: bool,
}

/// Sends the requests of a bucket.
#[derive(Debug)]
struct Service {
    client: Client,
    limits: Arc<Limits>,
}

/// What an error of `object_store` holds, where a request got no answer, or one of failure.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Answered(Problem);

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        let unusable =
            |problem| object_store::Error::Generic { store: "S3", source: Box::new(Answered(problem)) };
        let tls = tls_config(Vec::new()).map_err(|error| unusable(no_settings(&chain(&error))))?;
        let mut builder = client_builder(self.limits.connect)
            .read_timeout(self.limits.stall)
            .tls_backend_preconfigured(tls);
        if self.is_loopback {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| unusable(no_client(&error)))?;
        Ok(HttpClient::new(Service { client, limits: self.limits.clone() }))
    }
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let mut failed = 0;
        loop {
            let problem = match self.once(request.clone()).await {
                Ok(response) => return Ok(response),
                Err(problem) => problem,
            };
            failed += 1;
            let Some(delay) = self.limits.delay(failed, &problem) else {
                // Of this kind, so that it is not tried again.
                return Err(HttpError::new(HttpErrorKind::Unknown, Answered(problem)));
            };
            tracing::debug!(%problem, ?delay, "trying again");
            tokio::time::sleep(delay).await;
        }
    }
}

impl Service {
    async fn once(&self, request: HttpRequest) -> Result<HttpResponse, Problem> {
        // A body that moves slowly is bounded by the read timeout once it was sent.
        let patience = self.limits.stall + Duration::from_millis(request.body().content_length() as u64 / 64);
        let response = match timeout(patience, self.client.call(request)).await {
            Ok(response) => response.map_err(|error| no_answer(&error, self.limits.stall))?,
            Err(_) => return Err(Problem::Stalled(patience)),
        };
        let status = response.status();
        // What `object_store` has a meaning for: not modified, there already, not what was
        // expected.
        if status.is_success() || matches!(status.as_u16(), 304 | 409 | 412) {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let retry_after = retry_after(&parts.headers);
        let (mut page, mut body) = (Vec::new(), body.bytes_stream());
        while let Ok(Some(Ok(piece))) = timeout(self.limits.stall, body.next()).await {
            page.extend_from_slice(&piece);
            if page.len() as u64 > MAX_ERROR_BYTES {
                break;
            }
        }
        let message = code_of(&String::from_utf8_lossy(&page)).map(one_line).unwrap_or_default();
        Err(match status.as_u16() {
            401 => Problem::Unauthorized { used: None, unreadable: None },
            403 => Problem::Forbidden { message },
            404 if message == "NoSuchBucket" => Problem::NotFound("the bucket".to_owned()),
            // The kind that `object_store` finds.
            404 => Problem::NotFound(String::new()),
            429 => Problem::RateLimited { retry_after },
            503 if message == "SlowDown" => Problem::RateLimited { retry_after },
            status @ (408 | 500..=599) => Problem::Server { status, message, retry_after },
            301 | 307 | 308 => Problem::Malformed("it is in another region, or elsewhere".to_owned()),
            status => Problem::Unexpected { status, message },
        })
    }
}

/// The code of an S3 error document.
fn code_of(body: &str) -> Option<&str> {
    let (_, rest) = body.split_once("<Code>")?;
    rest.split_once("</Code>").map(|(code, _)| code)
}

fn no_answer(error: &HttpError, stall: Duration) -> Problem {
    match error.kind() {
        HttpErrorKind::Timeout => Problem::Stalled(stall),
        _ => Problem::Unreachable { cause: cause(error), text: chain(error) },
    }
}

/// What is wrong, of an error of `object_store`.
pub(crate) fn problem_of(error: &object_store::Error) -> Problem {
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(Answered(problem)) = error.downcast_ref() {
            return problem.clone();
        }
        if let Some(error) = error.downcast_ref::<HttpError>()
            && error.source().is_none_or(|source| !source.is::<Answered>())
        {
            // A body that ended early.
            return no_answer(error, Duration::ZERO);
        }
        next = error.source();
    }
    Problem::Local(chain(error))
}

#[cfg(test)]
mod tests {
    use super::code_of;

    #[test]
    fn the_code_of_an_error_document_is_read() {
        assert_eq!(code_of("<?xml?><Error><Code>NoSuchBucket</Code></Error>"), Some("NoSuchBucket"));
        assert_eq!(code_of("<html>"), None);
    }
}
