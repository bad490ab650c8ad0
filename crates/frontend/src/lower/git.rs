//! Sources that are git repositories, and the names of files that are fetched.

use dbuild_plan::GitStep;

/// A git source of ADD.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GitSource {
    pub(crate) remote: String,
    pub(crate) reference: Option<String>,
    pub(crate) subdir: Option<String>,
    pub(crate) keep_git_dir: Option<bool>,
    pub(crate) checksum: Option<String>,
}

impl GitSource {
    pub(crate) fn into_step(self) -> GitStep {
        GitStep {
            remote: self.remote,
            reference: self.reference,
            subdir: self.subdir,
            keep_git_dir: self.keep_git_dir.unwrap_or(false),
            checksum: self.checksum,
        }
    }
}

/// The step of a named context that is a git repository.
pub(crate) fn parse(remote: &str) -> Option<Result<GitStep, String>> {
    git_source(remote).map(|source| source.map(GitSource::into_step))
}

/// The step of a remote that is taken as it is.
pub(crate) fn plain(remote: &str) -> GitStep {
    GitSource { remote: remote.to_owned(), ..GitSource::default() }.into_step()
}

/// Whether a source is fetched by HTTP, if it is not a git repository.
pub(crate) fn is_http(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

/// Reads a git source: `git@host:path`, `ssh://`, `git://`, and `https://….git`. `None`: it is something else.
pub(crate) fn git_source(source: &str) -> Option<Result<GitSource, String>> {
    let (address, fragment) = match source.split_once('#') {
        Some((address, fragment)) => (address, Some(fragment)),
        None => (source, None),
    };
    let (address, query) = match address.split_once('?') {
        Some((address, query)) => (address, Some(query)),
        None => (address, None),
    };
    let remote = match address.split_once("://") {
        Some((scheme, rest)) => {
            let scheme = scheme.to_ascii_lowercase();
            let path = rest.split_once('/').map_or("", |(_, path)| path);
            let is_git = match scheme.as_str() {
                "http" | "https" => path.ends_with(".git"),
                "ssh" | "git" => true,
                _ => false,
            };
            is_git.then(|| format!("{scheme}://{rest}"))?
        }
        None => is_scp_style(address).then(|| address.to_owned())?,
    };
    let mut found = GitSource { remote, ..GitSource::default() };
    if let Some(fragment) = fragment.filter(|fragment| !fragment.is_empty()) {
        let fragment = decoded(fragment);
        let (reference, subdir) = fragment.split_once(':').unwrap_or((&fragment, ""));
        found.reference = Some(reference.to_owned()).filter(|reference| !reference.is_empty());
        found.subdir = Some(super::paths::source(subdir)).filter(|subdir| !subdir.is_empty());
    }
    Some(with_query(found, query.unwrap_or_default()))
}

/// `user@host:path`.
fn is_scp_style(address: &str) -> bool {
    let Some((user, rest)) = address.split_once('@') else {
        return false;
    };
    let Some((host, _)) = rest.split_once(':') else {
        return false;
    };
    let all = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    all(user, "-_") && all(host, "-.")
}

fn with_query(mut found: GitSource, query: &str) -> Result<GitSource, String> {
    let mut seen: Vec<&str> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value);
        if seen.contains(&key) {
            return Err(format!("`{key}` is given twice"));
        }
        seen.push(key);
        if value.is_empty() && !matches!(key, "submodules" | "keep-git-dir" | "fetch-by-commit") {
            return Err(format!("`{key}` has no value"));
        }
        match key {
            "ref" => set(&mut found.reference, value, "reference")?,
            "tag" => set(&mut found.reference, prefixed("refs/tags/", value), "reference")?,
            "branch" => set(&mut found.reference, prefixed("refs/heads/", value), "reference")?,
            "subdir" => set(&mut found.subdir, super::paths::source(&value), "subdirectory")?,
            "checksum" | "commit" => set(&mut found.checksum, value, "commit")?,
            "keep-git-dir" => {
                let keep = match value.as_str() {
                    "" | "1" | "true" => true,
                    "0" | "false" => false,
                    _ => return Err(format!("`{key}` is true or false")),
                };
                found.keep_git_dir = Some(keep);
            }
            "submodules" | "fetch-by-commit" | "mtime" => {}
            _ => return Err(format!("`{key}` is not an option of a git source")),
        }
    }
    Ok(found)
}

fn prefixed(prefix: &str, name: String) -> String {
    if name.starts_with(prefix) { name } else { format!("{prefix}{name}") }
}

fn set(slot: &mut Option<String>, value: String, what: &str) -> Result<(), String> {
    match slot {
        Some(old) if *old != value => Err(format!("the {what} is given twice: `{old}` and `{value}`")),
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

/// The name that a fetched file gets: the last component of the URL's path.
pub(crate) fn file_name(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    let path = decoded(path);
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if matches!(name, "" | "." | "..") || name.contains('\0') {
        "__unnamed__".to_owned()
    } else {
        name.to_owned()
    }
}

/// Percent-decoding; what is not encoded rightly stays.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| after.get(..2)).flatten();
        let value = escaped
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match value {
            Some(value) => {
                bytes.push(value);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{file_name, git_source};

    #[test]
    fn git_sources_are_told_from_others() {
        let parts = |text: &str| {
            let source = git_source(text)?.ok()?;
            Some((source.remote, source.reference, source.subdir))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            parts("https://h/a.git#v1:sub/dir"),
            Some(("https://h/a.git".to_owned(), some("v1"), some("sub/dir")))
        );
        assert_eq!(parts("git@h:a/b#main"), Some(("git@h:a/b".to_owned(), some("main"), None)));
        assert_eq!(parts("ssh://git@h/a"), Some(("ssh://git@h/a".to_owned(), None, None)));
        assert_eq!(
            parts("https://h/a.git?tag=v1&subdir=x"),
            Some(("https://h/a.git".to_owned(), some("refs/tags/v1"), some("x")))
        );
        for text in ["https://h/a.tar.gz", "a/b.git", "./git@h:x", "github.com/a/b", "ftp://h/a.git", "a@b"] {
            assert_eq!(git_source(text), None, "{text}");
        }
        for text in ["https://h/a.git?x=1", "https://h/a.git?tag=a&branch=b", "git@h:a?ref="] {
            assert!(git_source(text).is_some_and(|source| source.is_err()), "{text}");
        }
    }

    #[test]
    fn fetched_files_have_names() {
        for (url, name) in [
            ("https://h/a/b.tar?x=/y", "b.tar"),
            ("https://h/a/b/", "b"),
            ("https://h", "__unnamed__"),
            ("https://h/", "__unnamed__"),
            ("https://h/a%20b", "a b"),
            ("https://h/x/..", "__unnamed__"),
        ] {
            assert_eq!(file_name(url), name, "{url}");
        }
    }
}
