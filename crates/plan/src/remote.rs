//! URLs as people may see them.

/// A URL without the user and password that it may hold: what progress views, the journal and
/// errors show.
pub fn shown_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rsplit_once('@') {
        // `ssh://git@host/…` holds no secret, and does not work without its user.
        Some((user, _)) if !user.contains(':') && matches!(scheme, "ssh" | "git") => url.to_owned(),
        Some((_, host)) => format!("{scheme}://xxxxx@{host}{}", &rest[end..]),
        None => url.to_owned(),
    }
}

/// Whether a text is the full id of a git object: SHA-1 or SHA-256.
pub fn is_commit_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::{is_commit_id, shown_url};

    #[test]
    fn passwords_are_not_shown() {
        for (url, shown) in [
            ("https://h/a?b=c#d", "https://h/a?b=c#d"),
            ("https://u:p@h:1/a@b", "https://xxxxx@h:1/a@b"),
            ("https://token@h/a", "https://xxxxx@h/a"),
            ("https://u:p@s@h", "https://xxxxx@h"),
            ("https://h?u@x", "https://h?u@x"),
            ("ssh://git@h/a", "ssh://git@h/a"),
            ("ssh://git:p@h/a", "ssh://xxxxx@h/a"),
            ("git@h:a", "git@h:a"),
        ] {
            assert_eq!(shown_url(url), shown);
        }
    }

    #[test]
    fn commit_ids_are_whole() {
        assert!(is_commit_id(&"0aF".repeat(20)[..40]) && is_commit_id(&"b".repeat(64)));
        for text in ["", "abc", &"g".repeat(40), &"a".repeat(41)] {
            assert!(!is_commit_id(text), "{text}");
        }
    }
}
