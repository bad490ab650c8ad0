//! The names of images: the grammar of OCI's distribution specification, and Docker's short forms
//! of it.

use std::fmt;
use std::str::FromStr;

use dbuild_digest::BlobDigest;

const DEFAULT_REGISTRY: &str = "docker.io";
/// Longest name in bytes, of registry and repository together.
const LONGEST_NAME: usize = 255;

/// The name of an image in full: a registry, a repository, and a tag or a digest (or both; the
/// digest then decides).
///
/// `debian` is read as `docker.io/library/debian:latest`, which is also how it is displayed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<BlobDigest>,
}

/// A text that is not the name of an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not the name of an image: {reason}")]
pub struct ReferenceError {
    text: String,
    reason: String,
    /// The name that was probably meant.
    pub suggestion: Option<String>,
}

/// A reason why a text is not a name, and the name that was probably meant.
struct Fault {
    reason: String,
    suggestion: Option<String>,
}

impl Reference {
    /// `host` or `host:port`; Docker's own registry is `docker.io`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path in the registry: `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag. `None` only where there is a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest that the reference is pinned to.
    pub fn digest(&self) -> Option<BlobDigest> {
        self.digest
    }

    /// The last part of a manifest's address: the digest, else the tag.
    pub fn tag_or_digest(&self) -> String {
        match (self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// The name and the tag alone.
    #[must_use]
    pub fn without_digest(&self) -> Self {
        Self { digest: None, ..self.clone() }
    }

    /// The short form that people write: `debian:12` for `docker.io/library/debian:12`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let short = full.strip_prefix("docker.io/").map(|rest| rest.strip_prefix("library/").unwrap_or(rest));
        match short {
            // A short form that would be read as something else stays long.
            Some(short) if short.parse::<Self>().as_ref() == Ok(self) => short.to_owned(),
            _ => full,
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    /// Reads a name and adds what people leave out: the registry, `library/`, and the tag `latest`
    /// where there is neither tag nor digest.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|Fault { reason, suggestion }| ReferenceError {
            // The text may be an expanded variable of any length.
            text: text.chars().take(100).collect(),
            reason,
            suggestion,
        })
    }
}

impl From<&str> for Fault {
    fn from(reason: &str) -> Self {
        Self { reason: reason.to_owned(), suggestion: None }
    }
}

fn parse(text: &str) -> Result<Reference, Fault> {
    if text.is_empty() {
        return Err("it is empty".into());
    }
    if let Some(scheme) = ["https://", "http://"].into_iter().find(|scheme| text.starts_with(scheme)) {
        let rest = &text[scheme.len()..];
        let suggestion = rest.parse::<Reference>().is_ok().then(|| rest.to_owned());
        return Err(Fault { reason: format!("it is written without `{scheme}`"), suggestion });
    }
    if text.len() == 64 && text.bytes().all(is_hex) {
        return Err("64 hexadecimal digits are an id; write `name@sha256:…`".into());
    }
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(parse_digest(digest)?)),
        None => (text, None),
    };
    let (registry, rest) = split_registry(name);
    let (repository, tag) = match rest.rsplit_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (rest, None),
    };
    check_repository(text, registry, repository)?;
    if let Some(tag) = tag
        && !is_tag(tag)
    {
        return Err("a tag is made of letters, digits, `_`, `.` and `-`, and is at most 128 long".into());
    }
    let registry = registry.unwrap_or(DEFAULT_REGISTRY);
    check_registry(registry)?;
    let is_default = registry == DEFAULT_REGISTRY || registry == "index.docker.io";
    let registry = if is_default { DEFAULT_REGISTRY } else { registry };
    let prefix = if is_default && !repository.contains('/') { "library/" } else { "" };
    let repository = format!("{prefix}{repository}");
    if registry.len() + 1 + repository.len() > LONGEST_NAME {
        return Err("it is longer than 255 characters".into());
    }
    let tag = tag.or_else(|| digest.is_none().then_some("latest")).map(str::to_owned);
    Ok(Reference { registry: registry.to_owned(), repository, tag, digest })
}

/// The part in front of the first slash is a registry if it cannot be the beginning of a
/// repository.
fn split_registry(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((registry, rest))
            if registry.contains(['.', ':'])
                || registry == "localhost"
                || registry.chars().any(char::is_uppercase) =>
        {
            (Some(registry), rest)
        }
        _ => (None, name),
    }
}

fn check_registry(registry: &str) -> Result<(), Fault> {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (registry, None),
    };
    if port.is_some_and(|port| !port.bytes().all(|b| b.is_ascii_digit()) || port.parse::<u16>().is_err()) {
        return Err("the registry's port is not a number up to 65535".into());
    }
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'),
        None => host.split('.').all(|part| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !part.starts_with('-')
                && !part.ends_with('-')
        }),
    };
    if is_host { Ok(()) } else { Err("the registry is not a host name with an optional port".into()) }
}

fn check_repository(text: &str, registry: Option<&str>, repository: &str) -> Result<(), Fault> {
    if repository.is_empty() {
        return Err("the repository is missing".into());
    }
    if repository.chars().any(char::is_uppercase) {
        let start = registry.map_or(0, |registry| registry.len() + 1);
        let lower = repository.to_lowercase();
        let suggestion = format!("{}{lower}{}", &text[..start], &text[start + repository.len()..]);
        // Some capitals have no small letter.
        let is_right = !lower.chars().any(char::is_uppercase) && suggestion.parse::<Reference>().is_ok();
        return Err(Fault {
            reason: "a repository is written in lower case".to_owned(),
            suggestion: is_right.then_some(suggestion),
        });
    }
    if repository.split('/').all(is_path_component) {
        return Ok(());
    }
    Err("between slashes stand letters and digits, with single `.`, `_`, `__` or dashes between them".into())
}

fn is_path_component(component: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    is_word(*first)
        && is_word(*last)
        && bytes.split(|b| is_word(*b)).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
        })
}

fn is_tag(tag: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !tag.is_empty()
        && tag.len() <= 128
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|b| is_word(b) || b == b'.' || b == b'-')
}

fn parse_digest(digest: &str) -> Result<BlobDigest, Fault> {
    if let Some((algorithm @ ("sha384" | "sha512"), _)) = digest.split_once(':') {
        let reason = format!("its digest is a {algorithm}, and dbuild knows sha256 alone");
        return Err(Fault { reason, suggestion: None });
    }
    digest.parse().map_err(|_| {
        "what follows `@` is not a digest such as `sha256:` and 64 lower-case hexadecimal digits".into()
    })
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
#[path = "tests/reference.rs"]
mod tests;
