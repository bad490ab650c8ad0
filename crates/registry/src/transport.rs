//! Requests to registries: authorization, redirects, and the problems that answers stand for.
//!
//! Everything of a pull goes through here, and of a push what `oci-client` does not carry (see
//! `repository_client`). It knows nothing of images.

use reqwest::header::{AUTHORIZATION, HeaderMap, LOCATION};
use reqwest::{Body, Client, Method, Response, StatusCode};

use crate::auth;
use crate::config::Config;
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::error::Problem;
use crate::hosts::Hosts;
use crate::http::{
    Activity, Answer, answer_of, error_message, parse_url, retry_after, same_origin, send_once,
};
use crate::limits::Limits;

const MAX_REDIRECTS: usize = 5;

/// Sends requests to registries.
#[derive(Debug)]
pub(crate) struct Transport {
    pub hosts: Hosts,
}

/// A request that can be sent again. Its body is a closure for that reason.
pub(crate) struct Request<'a> {
    pub method: Method,
    pub url: String,
    pub headers: HeaderMap,
    /// What the token must allow: `repository:library/debian:pull`.
    pub scopes: Vec<String>,
    /// Makes the body anew for each time that the request is sent.
    pub body: Option<&'a (dyn Fn() -> Body + Send + Sync)>,
    /// Touched whenever bytes move, for bodies that take longer than the stall timeout.
    pub activity: Option<&'a Activity>,
}

impl<'a> Request<'a> {
    pub(crate) fn new(method: Method, url: String, scope: String) -> Self {
        Self { method, url, headers: HeaderMap::new(), scopes: vec![scope], body: None, activity: None }
    }

    pub(crate) fn pull(method: Method, endpoint: &Endpoint, path: &str) -> Self {
        Self::new(method, endpoint.url(path), format!("repository:{}:pull", endpoint.repository))
    }

    pub(crate) fn push(method: Method, endpoint: &Endpoint, url: String) -> Self {
        Self::new(method, url, format!("repository:{}:pull,push", endpoint.repository))
    }
}

impl Transport {
    pub(crate) fn new(config: Config, credentials: Credentials, limits: Limits) -> Self {
        Self { hosts: Hosts::new(config, credentials, limits) }
    }

    /// Sends a request to an endpoint, authorized as far as the endpoint asks for it, and follows
    /// redirects. `Ok` is an answer with a status of success.
    pub(crate) async fn send(&self, endpoint: &Endpoint, request: &Request<'_>) -> Result<Answer, Problem> {
        let host = self.hosts.get(&endpoint.host)?;
        let permit = host.permits.clone().acquire_owned().await.map_err(|e| Problem::Local(e.to_string()))?;
        let mut authorization = host.tokens.get(&request.scopes);
        let mut renewed = None;
        loop {
            let response = self.follow(endpoint, &host.client, request, authorization.as_deref()).await?;
            if response.status() == StatusCode::UNAUTHORIZED && renewed.is_none() {
                // A token that has run out and one that was never asked for look the same.
                let fresh =
                    auth::authorize(&self.hosts, endpoint, &request.scopes, response.headers()).await?;
                authorization = fresh.header.clone();
                renewed = Some(fresh);
                continue;
            }
            if response.status().is_success() {
                return Ok(answer_of(response, &self.hosts.limits).holding(permit));
            }
            return Err(self.problem(response, request, renewed).await);
        }
    }

    async fn follow(
        &self,
        endpoint: &Endpoint,
        client: &Client,
        request: &Request<'_>,
        authorization: Option<&str>,
    ) -> Result<Response, Problem> {
        let mut url = parse_url(&request.url)?;
        let home = parse_url(&endpoint.origin)?;
        for _ in 0..=MAX_REDIRECTS {
            let mut builder =
                client.request(request.method.clone(), url.clone()).headers(request.headers.clone());
            // Upload sessions and redirects may lead elsewhere; our credentials may not.
            if let Some(authorization) = authorization.filter(|_| same_origin(&home, &url)) {
                builder = builder.header(AUTHORIZATION, authorization);
            }
            if let Some(body) = request.body {
                builder = builder.body(body());
            }
            let response = send_once(self.hosts.limits.stall, builder, request.activity).await?;
            let redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            if !redirect || request.method == Method::PUT || request.method == Method::POST {
                return Ok(response);
            }
            let target = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let next = target.and_then(|target| url.join(target).ok());
            let next = next.ok_or_else(|| Problem::Malformed("it redirects to nowhere".to_owned()))?;
            if !matches!(next.scheme(), "http" | "https")
                || (url.scheme() == "https" && next.scheme() == "http")
            {
                return Err(Problem::Malformed(format!(
                    "it redirects from {} to {}",
                    url.scheme(),
                    next.scheme()
                )));
            }
            url = next;
        }
        Err(Problem::Malformed(format!("it redirects more than {MAX_REDIRECTS} times")))
    }

    async fn problem(
        &self,
        response: Response,
        request: &Request<'_>,
        renewed: Option<auth::Fresh>,
    ) -> Problem {
        let status = response.status();
        let retry_after = retry_after(response.headers());
        let message = error_message(response, &self.hosts.limits).await;
        match status.as_u16() {
            401 => {
                let fresh = renewed.unwrap_or_default();
                Problem::Unauthorized { used: fresh.source, unreadable: fresh.trouble }
            }
            403 => Problem::Forbidden { message },
            404 => Problem::NotFound(what(&request.url)),
            429 => Problem::RateLimited { retry_after },
            408 | 500..=599 => Problem::Server { status: status.as_u16(), message, retry_after },
            status => Problem::Unexpected { status, message },
        }
    }
}

/// What an address asks for, in words: the end of its path.
fn what(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let mut parts = path.rsplit('/');
    let last = parts.next().unwrap_or_default();
    match parts.next() {
        Some("manifests") => format!("`{last}`"),
        Some("blobs") => format!("the blob {last}"),
        _ => "what we asked for".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::what;

    #[test]
    fn addresses_are_put_in_words() {
        assert_eq!(what("http://h/v2/a/manifests/latest?ns=x"), "`latest`");
        assert_eq!(what("http://h/v2/a/blobs/sha256:00"), "the blob sha256:00");
    }
}
