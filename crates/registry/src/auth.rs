//! Authorization: what a registry asks for, and the tokens that answer it.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_auth::ChallengeParser;
use reqwest::Method;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

use crate::config::is_loopback;
use crate::credentials::{Credential, Found};
use crate::endpoint::Endpoint;
use crate::error::Problem;
use crate::hosts::Hosts;
use crate::http::{answer_of, parse_url, retry_after, send_once};

/// An answer to a challenge, and where it came from (for errors).
#[derive(Clone, Default)]
pub(crate) struct Fresh {
    pub header: Option<String>,
    pub source: Option<String>,
    pub trouble: Option<String>,
}

/// Answers the challenge of a 401: with Basic, or with a token that the named token server gives.
pub(crate) async fn authorize(
    hosts: &Hosts,
    endpoint: &Endpoint,
    scopes: &[String],
    headers: &HeaderMap,
) -> Result<Fresh, Problem> {
    let challenge = challenge(headers);
    let credentials = hosts.credentials.clone();
    let (host, repository) = (endpoint.host.clone(), endpoint.repository.clone());
    let found = tokio::task::spawn_blocking(move || credentials.lookup(&host, &repository))
        .await
        .map_err(|error| Problem::Local(error.to_string()))?;
    let fresh = Fresh { header: None, source: found.source.clone(), trouble: found.trouble.clone() };
    let tokens = &hosts.get(&endpoint.host)?.tokens;
    let (header, until) = match (challenge, &found.credential) {
        (Some(Challenge::Basic), Some(Credential::Basic { user, password })) => {
            (format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))), None)
        }
        (Some(Challenge::Bearer { realm, service }), _) => {
            let (token, lifetime) = token(hosts, endpoint, &realm, service, scopes, &found).await?;
            (format!("Bearer {token}"), Some(Instant::now() + lifetime))
        }
        _ => return Err(Problem::Unauthorized { used: fresh.source, unreadable: fresh.trouble }),
    };
    tokens.keep(scopes, header.clone(), until);
    Ok(Fresh { header: Some(header), ..fresh })
}

enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

/// The challenge that we can answer best: Bearer before Basic.
fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let mut basic = None;
    for header in headers.get_all(WWW_AUTHENTICATE) {
        for challenge in ChallengeParser::new(header.to_str().ok()?).flatten() {
            let parameter = |name: &str| {
                let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped())
            };
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                return Some(Challenge::Bearer { realm: parameter("realm")?, service: parameter("service") });
            }
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
    }
    basic
}

#[derive(serde::Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

async fn token(
    hosts: &Hosts,
    endpoint: &Endpoint,
    realm: &str,
    service: Option<String>,
    scopes: &[String],
    found: &Found,
) -> Result<(String, Duration), Problem> {
    let mut url = parse_url(realm)?;
    let host = url.host_str().unwrap_or_default().to_owned();
    let secret = found.credential.is_some();
    // Where the registry is asked under TLS, its token server is too. (A token server on another
    // host is part of the protocol: Docker's own is one. The registry that names it is the one that
    // the credentials are for.)
    let plain_allowed = endpoint.origin.starts_with("http://") || is_loopback(&host);
    if !(url.scheme() == "https" || url.scheme() == "http" && (plain_allowed || !secret)) {
        return Err(Problem::Malformed(format!("it asks to send credentials in the clear, to {host}")));
    }
    let name = url.port().map_or(host.clone(), |port| format!("{host}:{port}"));
    let mut parameters: Vec<(&str, &str)> =
        service.iter().map(|service| ("service", service.as_str())).collect();
    parameters.extend(scopes.iter().map(|scope| ("scope", scope.as_str())));
    let request = match &found.credential {
        Some(Credential::IdentityToken(token)) => {
            // In the OAuth form, scopes are one value with spaces.
            let scope = scopes.join(" ");
            let mut form = reqwest::Url::parse("form:").map_err(|e| Problem::Local(e.to_string()))?;
            form.query_pairs_mut()
                .append_pair("grant_type", "refresh_token")
                .append_pair("client_id", "dbuild")
                .append_pair("refresh_token", token)
                .append_pair("scope", &scope)
                .extend_pairs(service.iter().map(|service| ("service", service)));
            let body = form.query().unwrap_or_default().to_owned();
            let builder = hosts.request(&name, Method::POST, url)?;
            builder.header("Content-Type", "application/x-www-form-urlencoded").body(body)
        }
        Some(Credential::Basic { user, password }) => {
            url.query_pairs_mut().extend_pairs(&parameters).append_pair("account", user);
            hosts.request(&name, Method::GET, url)?.basic_auth(user, Some(password))
        }
        None => {
            url.query_pairs_mut().extend_pairs(&parameters);
            hosts.request(&name, Method::GET, url)?
        }
    };
    let response = send_once(hosts.limits.stall, request, None).await?;
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers());
    match status {
        200 => {}
        400 | 401 | 403 => {
            return Err(Problem::Unauthorized {
                used: found.source.clone(),
                unreadable: found.trouble.clone(),
            });
        }
        429 => return Err(Problem::RateLimited { retry_after }),
        status => {
            let message = format!("from its token server {host}");
            return Err(Problem::Server { status, message, retry_after });
        }
    }
    let answer = answer_of(response, &hosts.limits).body("the token", hosts.limits.token_bytes).await?;
    // What is in there is a secret: the error does not show it.
    let malformed = || Problem::Malformed(format!("its token server {host} gave no token"));
    let answer: TokenAnswer = serde_json::from_slice(&answer).map_err(|_| malformed())?;
    let token =
        answer.token.or(answer.access_token).filter(|token| !token.is_empty()).ok_or_else(malformed)?;
    if !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(malformed());
    }
    // The specification's default, and a margin, so that a token does not run out on its way.
    let lifetime = Duration::from_secs(answer.expires_in.unwrap_or(60).clamp(10, 86_400) - 5);
    Ok((token, lifetime))
}
