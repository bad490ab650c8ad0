//! The names of images: OCI's grammar, and Docker's short forms of it.

use std::fmt;
use std::str::FromStr;

const DEFAULT_DOMAIN: &str = "docker.io";
/// Of domain and path together.
const LONGEST_NAME: usize = 255;

/// The name of an image in full: `docker.io/library/debian:12`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// The registry, with its port where one is given.
    pub domain: String,
    /// The repository.
    pub path: String,
    /// The tag.
    pub tag: Option<String>,
    /// The digest, with its algorithm.
    pub digest: Option<String>,
}

/// A text that is not the name of an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not the name of an image: {reason}")]
pub struct ReferenceError {
    text: String,
    reason: String,
    /// The same name as it would be right, where that can be told.
    pub suggestion: Option<String>,
}

impl FromStr for Reference {
    type Err = ReferenceError;

    /// Reads a name and adds what Docker leaves out: the registry and `library/`, but no tag.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |reason: &str| ReferenceError {
            text: text.chars().take(100).collect(),
            reason: reason.to_owned(),
            suggestion: None,
        };
        if text.is_empty() {
            return Err(fail("it is empty"));
        }
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(fail("64 hexadecimal digits are an id; write `name@sha256:…`"));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        if let Some(digest) = digest
            && !is_digest(digest)
        {
            return Err(fail("what follows `@` is not a digest such as `sha256:` and 64 hexadecimal digits"));
        }
        let (domain, rest) = split_domain(name);
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        if path.is_empty() {
            return Err(fail("the repository is missing"));
        }
        if path.chars().any(char::is_uppercase) {
            let start = domain.map_or(0, |domain| domain.len() + 1);
            let lower = path.to_lowercase();
            let suggestion = format!("{}{lower}{}", &text[..start], &text[start + path.len()..]);
            // Some capitals have no small letter.
            let is_right = !lower.chars().any(char::is_uppercase) && suggestion.parse::<Self>().is_ok();
            return Err(ReferenceError {
                suggestion: is_right.then_some(suggestion),
                ..fail("a repository is written in lower case")
            });
        }
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(fail("a tag is made of letters, digits, `_`, `.` and `-`, and is at most 128 long"));
        }
        if !path.split('/').all(is_path_component) {
            let reason =
                "between slashes stand letters and digits, with single `.`, `_`, `__` or dashes between them";
            return Err(fail(reason));
        }
        let domain = domain.unwrap_or(DEFAULT_DOMAIN);
        if !is_domain(domain) {
            return Err(fail("the registry is not a host name with an optional port"));
        }
        let is_default = domain == DEFAULT_DOMAIN || domain == "index.docker.io";
        let path =
            if is_default && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        let domain = if is_default { DEFAULT_DOMAIN } else { domain };
        if domain.len() + 1 + path.len() > LONGEST_NAME {
            return Err(fail("it is longer than 255 characters"));
        }
        Ok(Self {
            domain: domain.to_owned(),
            path,
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }
}

impl Reference {
    /// The same with the tag `latest` where there is neither tag nor digest.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    /// The short form: without `docker.io/library/`.
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
        write!(f, "{}/{}", self.domain, self.path)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

/// The name of an image in full: `debian` is `docker.io/library/debian:latest`.
pub fn normalize(text: &str) -> Result<String, ReferenceError> {
    Ok(text.parse::<Reference>()?.or_latest().to_string())
}

/// What is before the first slash is a registry if it cannot be the beginning of a repository.
fn split_domain(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((domain, rest))
            if domain.contains(['.', ':'])
                || domain == "localhost"
                || domain.chars().any(char::is_uppercase) =>
        {
            (Some(domain), rest)
        }
        _ => (None, name),
    }
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (domain, None),
    };
    if port.is_some_and(|port| port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit())) {
        return false;
    }
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
    }
    host.split('.').all(|part| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    })
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

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else {
        return false;
    };
    let len = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    hex.len() == len && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::{Reference, normalize};

    #[test]
    fn short_names_are_completed() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let with_digest = format!("debian@{digest}");
        let full_digest = format!("docker.io/library/debian@{digest}");
        for (text, full) in [
            ("debian", "docker.io/library/debian:latest"),
            ("debian:12", "docker.io/library/debian:12"),
            ("user/app", "docker.io/user/app:latest"),
            ("docker.io/debian", "docker.io/library/debian:latest"),
            ("index.docker.io/library/debian:1", "docker.io/library/debian:1"),
            ("localhost/a", "localhost/a:latest"),
            ("localhost:5000/a/b__c/d-e.f:v1", "localhost:5000/a/b__c/d-e.f:v1"),
            ("gcr.io/x/y", "gcr.io/x/y:latest"),
            ("HOST/x", "HOST/x:latest"),
            ("[::1]:5000/x", "[::1]:5000/x:latest"),
            (with_digest.as_str(), full_digest.as_str()),
        ] {
            assert_eq!(normalize(text).as_deref(), Ok(full), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let id = "a".repeat(64);
        let long = "a".repeat(300);
        for text in [
            "",
            "Debian",
            "a b",
            "a:",
            ":a",
            "a::b",
            "a/",
            "/a",
            "a//b",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "a:b c",
            "a@b",
            "a@sha256:12",
            "a.b:x/c",
            "a_.b",
            &id,
            &long,
            "ü",
            "a:-b",
            "http://a/b",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
        let error = "Me/App:1".parse::<Reference>().map(drop).map_err(|error| error.suggestion);
        assert!(error.is_err());
        let suggestion = |text: &str| text.parse::<Reference>().unwrap_err().suggestion;
        assert_eq!(suggestion("App").as_deref(), Some("app"));
        assert_eq!(suggestion("A.b/A.b/C:1").as_deref(), Some("A.b/a.b/c:1"));
        assert_eq!(suggestion("𝔻"), None, "a capital without a small letter");
    }

    #[test]
    fn familiar_names_are_short() {
        for (text, short) in
            [("docker.io/library/debian:12", "debian:12"), ("a/b", "a/b"), ("gcr.io/a", "gcr.io/a")]
        {
            assert_eq!(text.parse::<Reference>().map(|r| r.familiar()), Ok(short.to_owned()));
        }
    }
}
