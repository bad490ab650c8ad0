//! Sources that are git repositories, and the names of files that are fetched.

use dbuild_plan::{FetchStep, GitStep, is_commit_id};

/// A git source of ADD.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GitSource {
    pub(crate) remote: String,
    pub(crate) reference: Option<String>,
    pub(crate) subdir: Option<String>,
    pub(crate) keep_git_dir: Option<bool>,
    pub(crate) checksum: Option<String>,
    pub(crate) submodules: Option<bool>,
    pub(crate) fetch_by_commit: bool,
    pub(crate) commit_time: bool,
}

impl GitSource {
    pub(crate) fn into_step(self) -> GitStep {
        GitStep {
            remote: self.remote,
            reference: self.reference,
            commit: None,
            // A directory of a repository is no repository.
            keep_git_dir: self.keep_git_dir.unwrap_or(false) && self.subdir.is_none(),
            subdir: self.subdir,
            checksum: self.checksum,
            submodules: self.submodules.unwrap_or(true),
            fetch_by_commit: self.fetch_by_commit,
            commit_time: self.commit_time,
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

/// Reads a build context that is a git repository; `None`: it is something else. For a context,
/// though not in a Dockerfile, `github.com/user/name` is one too.
pub fn git_context(text: &str) -> Option<Result<GitStep, String>> {
    let source = match text.strip_prefix("github.com/") {
        Some(rest) => read(&format!("https://github.com/{rest}"), true),
        None => read(text, false),
    };
    source.map(|source| source.map(GitSource::into_step))
}

/// Reads a git source: `git@host:path`, `ssh://`, `git://`, and `https://….git`. `None`: it is
/// something else.
pub(crate) fn git_source(source: &str) -> Option<Result<GitSource, String>> {
    read(source, false)
}

/// As [`git_source`]; `any_path`: a path need not end in `.git`.
fn read(source: &str, any_path: bool) -> Option<Result<GitSource, String>> {
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
                "http" | "https" => any_path || path.ends_with(".git"),
                "ssh" | "git" => true,
                _ => false,
            };
            is_git.then(|| format!("{scheme}://{rest}"))?
        }
        None => is_scp_style(address).then(|| address.to_owned())?,
    };
    let mut found = GitSource { remote, ..GitSource::default() };
    if let Some(fragment) = fragment.filter(|fragment| !fragment.is_empty()) {
        let fragment = percent_decoded(fragment);
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
        let value = percent_decoded(value);
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
            "keep-git-dir" => found.keep_git_dir = Some(truth(key, &value)?),
            "submodules" => found.submodules = Some(truth(key, &value)?),
            "fetch-by-commit" => found.fetch_by_commit = truth(key, &value)?,
            "mtime" => match value.as_str() {
                "checkout" => found.commit_time = false,
                "commit" => found.commit_time = true,
                _ => return Err("`mtime` is checkout or commit".to_owned()),
            },
            _ => return Err(format!("`{key}` is not an option of a git source")),
        }
    }
    check_ids(&found)?;
    Ok(found)
}

/// What git would take for an option, and what can be no commit.
fn check_ids(found: &GitSource) -> Result<(), String> {
    if let Some(reference) = found.reference.as_ref().filter(|reference| reference.starts_with('-')) {
        return Err(format!("`{reference}` is not a valid reference"));
    }
    check_commit(found.checksum.as_deref().unwrap_or("0"))?;
    let whole = |id: &Option<String>| id.as_deref().is_some_and(is_commit_id);
    if found.fetch_by_commit && !whole(&found.checksum) && !whole(&found.reference) {
        return Err("`fetch-by-commit` needs the full id of a commit".to_owned());
    }
    Ok(())
}

/// A commit's id, or the beginning of one.
pub(crate) fn check_commit(text: &str) -> Result<(), String> {
    let right = !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if right {
        Ok(())
    } else {
        Err(format!("`{}` is not a commit", text.chars().take(80).collect::<String>()))
    }
}

/// As Go reads a truth; a name without a value is true.
fn truth(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("`{key}` is true or false")),
    }
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

/// The step of a context that is a file of a server: `context` is what BuildKit calls it.
pub fn fetched_context(url: &str) -> FetchStep {
    FetchStep { url: url.to_owned(), file_name: "context".to_owned(), checksum: None }
}

/// The name that a fetched file gets: the last component of the URL's path.
pub(crate) fn file_name(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    let path = percent_decoded(path);
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if matches!(name, "" | "." | "..") || name.contains('\0') {
        "__unnamed__".to_owned()
    } else {
        name.to_owned()
    }
}

/// Percent-decoding; what is not encoded rightly stays.
pub fn percent_decoded(text: &str) -> String {
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
    use super::{file_name, git_context, git_source};

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
        for text in [
            "https://h/a.git?x=1",
            "https://h/a.git?tag=a&branch=b",
            "git@h:a?ref=",
            "git@h:a#-x",
            "git@h:a?checksum=main",
            "git@h:a?submodules=maybe",
            "git@h:a?mtime=now",
            "git@h:a?ref=main&fetch-by-commit=1&checksum=abc",
        ] {
            assert!(git_source(text).is_some_and(|source| source.is_err()), "{text}");
        }
    }

    #[test]
    fn options_of_a_git_source() {
        let step = |text: &str| git_source(text).unwrap().unwrap().into_step();
        let plain = step("https://h/a.git");
        assert!(plain.submodules && !plain.keep_git_dir && !plain.fetch_by_commit && !plain.commit_time);
        let all = step("https://h/a.git?submodules=false&keep-git-dir&mtime=commit&commit=abc1");
        assert!(!all.submodules && all.keep_git_dir && all.commit_time);
        assert_eq!(all.checksum.as_deref(), Some("abc1"));
        assert!(!step("https://h/a.git?keep-git-dir=1&subdir=x").keep_git_dir, "a subdirectory has none");
        let id = "a".repeat(40);
        assert!(step(&format!("https://h/a.git?fetch-by-commit=1&checksum={id}")).fetch_by_commit);
    }

    #[test]
    fn contexts_know_github() {
        let remote = |text| git_context(text).map(|step| step.unwrap().remote);
        assert_eq!(remote("github.com/a/b#v1").as_deref(), Some("https://github.com/a/b"));
        assert_eq!(remote("git@github.com:a/b").as_deref(), Some("git@github.com:a/b"));
        assert_eq!(remote("./github.com/a/b"), None);
        assert_eq!(remote("https://github.com/a/b"), None, "a page, not a repository");
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
