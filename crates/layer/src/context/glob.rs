//! Wildcards as Go's `path/filepath.Match` understands them: `*`, `?`, `[a-z]`, `[^a]`, `\`.

/// A pattern that no name can match because it is malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` is not a pattern: {reason}")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Whether a path has unescaped wildcards.
pub(crate) fn has_wildcards(path: &[u8]) -> bool {
    let mut bytes = path.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

/// Whether a pattern has a class that takes a slash, as `[^a]` does, or holds one: then it does not
/// go by components.
pub(crate) fn has_slash_class(pattern: &[u8]) -> bool {
    let mut at = 0;
    while let Some(byte) = pattern.get(at) {
        match byte {
            b'\\' => at += 2,
            b'[' => {
                let end = class_end(&pattern[at..]).unwrap_or(1);
                let class = pattern.get(at + 1..at + end - 1).unwrap_or_default();
                if class.contains(&b'/') || in_class(class, u32::from('/')) {
                    return true;
                }
                at += end;
            }
            _ => at += 1,
        }
    }
    false
}

/// Whether the whole of `name` matches the whole of `pattern`. `*` and `?` do not match a slash. A
/// malformed pattern matches nothing.
pub(crate) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    // The classical walk with one point to go back to: `*` takes one more character each time.
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let stepped = match pattern.get(p) {
            None if n == name.len() => return true,
            None => None,
            Some(b'*') => {
                retry = Some((p, n));
                p += 1;
                continue;
            }
            Some(_) => match_one(&pattern[p..], &name[n..]),
        };
        match (stepped, &mut retry) {
            (Some((in_pattern, in_name)), _) => {
                p += in_pattern;
                n += in_name;
            }
            (None, Some((star, from))) if *from < name.len() && name[*from] != b'/' => {
                *from += 1;
                p = *star + 1;
                n = *from;
            }
            _ => return false,
        }
    }
}

/// Says what is wrong with a pattern.
pub(crate) fn check(pattern: &str) -> Result<(), PatternError> {
    let shown = || pattern.chars().take(200).collect();
    check_bytes(pattern.as_bytes()).map_err(|reason| PatternError { pattern: shown(), reason })
}

pub(crate) fn check_bytes(bytes: &[u8]) -> Result<(), &'static str> {
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if at + 1 == bytes.len() => return Err("it ends in a backslash"),
            b'\\' => at += 2,
            b'[' => {
                at += class_end(&bytes[at..])
                    .ok_or("a `[` in it is not closed, is empty, or has a `-` without two ends")?;
            }
            _ => at += 1,
        }
    }
    Ok(())
}

/// The length of a class without its `[`, if `after` continues one.
pub(crate) fn class_length(after: &[u8]) -> Option<usize> {
    class_end(&[b"[", after].concat()).map(|length| length - 1)
}

/// How many bytes of `name` one `?` or one whole class matches.
pub(crate) fn match_char(pattern: &[u8], name: &[u8]) -> Option<usize> {
    match_one(pattern, name).filter(|(taken, _)| *taken == pattern.len()).map(|(_, length)| length)
}

/// Matches one character: how far pattern and name advance.
fn match_one(pattern: &[u8], name: &[u8]) -> Option<(usize, usize)> {
    let (character, length) = first_char(name)?;
    match pattern[0] {
        b'?' => (character != u32::from('/')).then_some((1, length)),
        b'[' => {
            let end = class_end(pattern)?;
            // A slash is matched by a class that names it, as in Go.
            in_class(&pattern[1..end - 1], character).then_some((end, length))
        }
        b'\\' => {
            let escaped = *pattern.get(1)?;
            (escaped == name[0]).then_some((2, 1))
        }
        plain => (plain == name[0]).then_some((1, 1)),
    }
}

/// The length of a class, from `[` to after its `]`, if it is one: single characters and ranges
/// with two ends.
fn class_end(pattern: &[u8]) -> Option<usize> {
    let after = pattern.get(1..)?;
    let mut rest = after.strip_prefix(b"^").unwrap_or(after);
    let mut is_first = true;
    loop {
        match rest.first()? {
            b']' if !is_first => return Some(pattern.len() - rest.len() + 1),
            b']' | b'-' => return None,
            _ => {}
        }
        class_char(&mut rest)?;
        if let Some(mut after) = rest.strip_prefix(b"-") {
            if matches!(after.first()?, b']' | b'-') {
                return None;
            }
            class_char(&mut after)?;
            rest = after;
        }
        is_first = false;
    }
}

/// Says what is wrong with the ranges of a pattern that [`check_bytes`] takes: moby makes regular
/// expressions of the patterns of an ignore file, and these know no range that goes backwards.
pub(crate) fn check_ranges(bytes: &[u8]) -> Result<(), &'static str> {
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'[' => {
                let end = class_end(&bytes[at..]).unwrap_or(1);
                if ranges(bytes.get(at + 1..at + end - 1).unwrap_or_default())
                    .1
                    .iter()
                    .any(|(low, high)| low > high)
                {
                    return Err("a range in it goes backwards");
                }
                at += end;
            }
            _ => at += 1,
        }
    }
    Ok(())
}

/// The ranges between the brackets of a class, and whether it is negated.
fn ranges(class: &[u8]) -> (bool, Vec<(u32, u32)>) {
    let (negated, mut rest) = match class.strip_prefix(b"^") {
        Some(rest) => (true, rest),
        None => (false, class),
    };
    let mut found = Vec::new();
    while let Some(low) = class_char(&mut rest) {
        let high = match rest.strip_prefix(b"-") {
            Some(after) => {
                rest = after;
                class_char(&mut rest).unwrap_or(low)
            }
            None => low,
        };
        found.push((low, high));
    }
    (negated, found)
}

fn in_class(class: &[u8], character: u32) -> bool {
    let (negated, ranges) = ranges(class);
    ranges.iter().any(|(low, high)| (low..=high).contains(&&character)) != negated
}

fn class_char(rest: &mut &[u8]) -> Option<u32> {
    if let Some(after) = rest.strip_prefix(b"\\") {
        *rest = after;
    }
    let (character, length) = first_char(rest)?;
    *rest = &rest[length..];
    Some(character)
}

/// The first character and its length; a byte that is no UTF-8 counts as a character of its own.
fn first_char(bytes: &[u8]) -> Option<(u32, usize)> {
    let first = *bytes.first()?;
    if first < 0x80 {
        return Some((u32::from(first), 1));
    }
    let head = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
    };
    match valid.chars().next() {
        Some(character) => Some((u32::from(character), character.len_utf8())),
        // Above all characters, so that it equals none.
        None => Some((0x11_0000 + u32::from(first), 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::{check, has_wildcards, matches};

    /// The table of Go's own documentation and tests, as facts.
    #[test]
    fn go_match_table() {
        for (pattern, name, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "abc", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^b-d]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("a[^a][^a][^a]b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "z", false),
            ("[-]", "-", false),
            ("[x-]", "x", false),
            ("[-x]", "x", false),
            ("[\\-x]", "x", true),
            ("[a-b-c]", "a", false),
            ("[]a]", "]", false),
            ("[^]", "a", false),
            ("*x", "xxx", true),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("**", "a", true),
            ("a/**", "a/b/c", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn wildcards_are_seen_unless_escaped() {
        assert!(has_wildcards(b"a*") && has_wildcards(b"a?") && has_wildcards(b"[a]"));
        assert!(!has_wildcards(b"a\\*b") && !has_wildcards(b"abc]"));
    }

    #[test]
    fn malformed_patterns_are_named() {
        assert!(check("a[").is_err() && check("a\\").is_err() && check("[]").is_err());
        for pattern in ["[-]", "[a-]", "[-a]", "[a-b-c]", "[^]", "[^-]", "[a\\"] {
            assert!(check(pattern).is_err(), "{pattern}");
        }
        for pattern in ["a[b]\\*?", "[a-c]", "[\\-]", "[a\\-]", "[^a-cx]", "[\\]]", "[z-a]"] {
            assert!(check(pattern).is_ok(), "{pattern}");
        }
        assert!(super::check_ranges(b"x[z-a]").is_err() && super::check_ranges(b"[a-z][\\]-a]").is_ok());
    }

    #[test]
    fn a_class_that_takes_a_slash_is_known() {
        for (component, expected) in
            [("a[^b]", true), ("[.-0]", true), ("[^/]", true), ("[a-c]*", false), ("\\[^b]", false)]
        {
            assert_eq!(super::has_slash_class(component.as_bytes()), expected, "{component}");
        }
    }

    #[test]
    fn many_stars_do_not_take_forever() {
        assert!(!matches(&b"*a".repeat(60), &b"a".repeat(59)));
    }
}
