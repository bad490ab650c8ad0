//! Image references: what people write, and the one spelling that dbuild keeps.

use std::fmt;
use std::str::FromStr;

use dbuild_digest::BlobDigest;

/// Where an image is: a registry, a repository, and a tag or a digest (or both; the digest then decides).
///
/// `debian:12` is read as `docker.io/library/debian:12`, which is also how it is displayed. A reference
/// without tag and digest gets the tag `latest`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<BlobDigest>,
}

/// A text that does not name an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an image reference: {problem}")]
pub struct ReferenceError {
    text: String,
    problem: String,
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

    /// The tag, if there is one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest that the reference is pinned to.
    pub fn digest(&self) -> Option<BlobDigest> {
        self.digest
    }

    /// The last part of a manifest's address: the digest, else the tag.
    pub(crate) fn tag_or_digest(&self) -> String {
        match (self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// The name and the tag alone.
    pub(crate) fn without_digest(&self) -> Self {
        Self { digest: None, ..self.clone() }
    }

    /// The short spelling that people use: `debian:12` for `docker.io/library/debian:12`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let short = full.strip_prefix("docker.io/").unwrap_or(&full);
        short.strip_prefix("library/").filter(|rest| !rest.contains('/')).unwrap_or(short).to_owned()
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

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|problem| ReferenceError {
            // The text may be an expanded variable of any length.
            text: text.chars().take(120).collect(),
            problem,
        })
    }
}

fn parse(text: &str) -> Result<Reference, String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if let Some(scheme) = ["https://", "http://"].into_iter().find(|scheme| text.starts_with(scheme)) {
        return Err(format!("write it without `{scheme}`"));
    }
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest.parse::<BlobDigest>().map_err(|e| e.to_string())?)),
        None => (text, None),
    };
    // A colon after the last slash opens a tag; one before it is a port.
    let colon = name.rfind(':').filter(|at| !name[*at..].contains('/') && !name[*at..].contains(']'));
    let (name, tag) = match colon {
        Some(at) => (&name[..at], Some(&name[at + 1..])),
        None => (name, None),
    };
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    let (registry, path) = split_registry(name)?;
    let repository = match registry {
        "docker.io" if !path.contains('/') => format!("library/{path}"),
        _ => path.to_owned(),
    };
    check_repository(&repository)?;
    let tag = tag.map(str::to_owned).or_else(|| digest.is_none().then(|| "latest".to_owned()));
    Ok(Reference { registry: registry.to_owned(), repository, tag, digest })
}

/// The first part is a registry if it looks like a host; a bare word such as `library` is not.
fn split_registry(name: &str) -> Result<(&str, &str), String> {
    let Some((first, rest)) = name.split_once('/') else {
        return Ok(("docker.io", name));
    };
    let is_host = first == "localhost" || first.contains(['.', ':']);
    if !is_host {
        return Ok(("docker.io", name));
    }
    let valid = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    if !first.chars().all(valid) || first.starts_with(['-', '.', ':']) {
        return Err(format!("`{first}` is not a registry's host name"));
    }
    let port = first.rsplit_once(':').filter(|(_, port)| !port.contains(']')).map(|(_, port)| port);
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(format!("`{first}` has no valid port"));
    }
    let registry = match first {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    };
    Ok((registry, rest))
}

fn check_tag(tag: &str) -> Result<(), String> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    match tag {
        "" => Err("nothing follows the `:`".to_owned()),
        _ if tag.len() > 128 => Err("the tag is longer than 128 characters".to_owned()),
        _ if !tag.bytes().all(valid) || tag.starts_with(['.', '-']) => {
            Err(format!("`{tag}` is not a tag (letters, digits, `_`, `.` and `-`)"))
        }
        _ => Ok(()),
    }
}

fn check_repository(repository: &str) -> Result<(), String> {
    if repository.len() > 255 {
        return Err("the name is longer than 255 characters".to_owned());
    }
    if repository.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(format!("the name must be in lower case: `{}`", repository.to_ascii_lowercase()));
    }
    let word = |part: &str| {
        let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = part.as_bytes();
        let separators = |b: &u8| b"._-".contains(b);
        edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || separators(b))
            && !["..", "___", "._", "_.", "-.", ".-", "-_", "_-"].iter().any(|bad| part.contains(bad))
    };
    match repository.split('/').find(|part| !word(part)) {
        Some("") => Err("a part of the name is empty".to_owned()),
        Some(part) => {
            Err(format!("`{part}` is not a name (lower-case letters, digits, and `.` `_` `-` inside)"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::Reference;

    #[test]
    fn what_people_write_gets_one_spelling() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (text, full, familiar) in [
            ("debian", "docker.io/library/debian:latest", "debian:latest"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            ("bitnami/redis", "docker.io/bitnami/redis:latest", "bitnami/redis:latest"),
            ("index.docker.io/library/a", "docker.io/library/a:latest", "a:latest"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest"),
            ("[::1]:5000/a/b:1", "[::1]:5000/a/b:1", "[::1]:5000/a/b:1"),
            ("ghcr.io/a/b_c/d--e:V1.0", "ghcr.io/a/b_c/d--e:V1.0", "ghcr.io/a/b_c/d--e:V1.0"),
            (&format!("a@{digest}"), &format!("docker.io/library/a@{digest}"), &format!("a@{digest}")),
            (&format!("a:1@{digest}"), &format!("docker.io/library/a:1@{digest}"), &format!("a:1@{digest}")),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!((reference.to_string().as_str(), reference.familiar().as_str()), (full, familiar));
            assert_eq!(reference.to_string().parse(), Ok(reference), "{text}");
        }
    }

    #[test]
    fn what_is_no_reference_is_told_why() {
        let error = |text: &str| text.parse::<Reference>().unwrap_err().to_string();
        insta::assert_snapshot!(error("Debian"), @"`Debian` is not an image reference: the name must be in lower case: `library/debian`");
        insta::assert_snapshot!(error("https://a.b/c"), @"`https://a.b/c` is not an image reference: write it without `https://`");
        insta::assert_snapshot!(error("a:"), @"`a:` is not an image reference: nothing follows the `:`");
        insta::assert_snapshot!(error("a b"), @"`a b` is not an image reference: `a b` is not a name (lower-case letters, digits, and `.` `_` `-` inside)");
        insta::assert_snapshot!(error("a@sha256:1"), @"`a@sha256:1` is not an image reference: `sha256:1` is not a digest: expected `sha256:` and 64 lower-case hexadecimal digits");
        for text in ["", "/", "a//b", "a/", "-a", "a:b:c/d/", "host:99999/a", "a..b", "../a", "a:.x"] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
        assert!(error(&"x ".repeat(5000)).len() < 11_000);
    }
}
