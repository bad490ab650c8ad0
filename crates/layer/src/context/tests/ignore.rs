use proptest::prelude::*;

use super::Ignore;
use crate::TreePath;
use crate::testing::at;

/// The path as a walk sees it, directory by directory; must agree with asking for it alone.
fn ignored(patterns: &str, path: &str) -> bool {
    let ignore = Ignore::parse(patterns.as_bytes()).unwrap();
    let path = at(path);
    let mut above: Vec<TreePath> = path.ancestors().filter(|above| !above.is_root()).collect();
    above.reverse();
    let mut matched = super::MatchedPatterns::default();
    for dir in &above {
        matched = ignore.matches_below(dir, &matched).1;
    }
    let walked = ignore.matches_below(&path, &matched).0;
    assert_eq!(walked, ignore.matches(&path), "{patterns:?} {path}");
    walked
}

#[test]
fn tables_of_moby() {
    for (patterns, path, expected) in [
        ("**", "file", true),
        ("**", "dir/file", true),
        ("**/", "file", true),
        ("**/**", "dir/file", true),
        ("dir/**", "dir/file", true),
        ("dir/**", "dir/dir2/file", true),
        ("dir/**", "dir", false),
        ("**/dir2/*", "dir/dir2/file", true),
        ("**/dir2/**", "dir/dir2/dir2/file", true),
        ("**file", "dir/file", true),
        ("**file", "dir/dir/file", true),
        ("**/file", "file", true),
        ("**/file", "a/file", true),
        ("**/file", "afile", false),
        ("**file*", "dir/dir/file.txt", true),
        ("**/**/*.txt", "dir/dir/file.txt", true),
        ("a**/*.txt", "a/file.txt", true),
        ("a**/*.txt", "a/dir/file.txt", true),
        ("a/*.txt", "a/dir/file.txt", false),
        ("a/*.txt", "a/file.txt", true),
        ("a[b-d]e", "ae", false),
        ("a[b-d]e", "ace", true),
        ("a[^b-d]e", "aze", true),
        ("a?c", "abc", true),
        ("a?c", "a/c", false),
        ("a\\*b", "a*b", true),
        ("a\\*b", "axb", false),
        (".*", ".foo", true),
        (".*", "foo", false),
        ("abc.def", "abcdef", false),
        ("abc.def", "abcZdef", false),
        ("abc?def", "abcZdef", true),
        ("**/foo/bar", "foo/bar", true),
        ("**/foo/bar", "dir/dir2/foo/bar", true),
        ("abc/**", "abc", false),
        ("abc/**/def", "abc/def", true),
        ("abc/**/def", "abc/x/y/def", true),
        ("node_modules", "node_modules/x/y", true),
        ("node_modules", "a/node_modules", false),
        ("/abs", "abs", true),
        ("./rel/../x/", "x/y", true),
        ("dir\n!dir/keep", "dir/keep", false),
        ("dir\n!dir/keep", "dir/other", true),
        ("dir\n!dir/keep\ndir/keep/not", "dir/keep/not", true),
        ("!a\na", "a", true),
        ("*\n!src\nsrc/*.log", "src/a.log", true),
        ("*\n!src\nsrc/*.log", "src/a.c", false),
        ("a/b/c", "a/b", false),
        ("*/c", "b/c/d", true),
        ("(x)+.y", "(x)+.y", true),
    ] {
        assert_eq!(ignored(patterns, path), expected, "{patterns:?} {path}");
    }
}

/// 27
#[test]
fn bom_crlf_comments_and_white_space_say_nothing() {
    let ignore = Ignore::parse(b"\xef\xbb\xbfa\r\n\r\n# b\n  c  \n #d\n! a/x\n").unwrap();
    let ignored = |path| ignore.matches(&at(path));
    assert!(ignored("a") && ignored("c") && ignored("#d"));
    assert!(!ignored("b") && !ignored("# b") && !ignored("a/x"));
}

#[test]
fn malformed_patterns_are_errors_that_name_them() {
    for (text, message) in [
        ("a\n!\n", "line 2: `!` is not a pattern: nothing follows the `!`"),
        (
            "x[",
            "line 1: `x[` is not a pattern: a `[` in it is not closed, is empty, or has a `-` without two ends",
        ),
        ("x\\", "line 1: `x\\` is not a pattern: it ends in a backslash"),
    ] {
        assert_eq!(Ignore::parse(text.as_bytes()).unwrap_err().to_string(), message);
    }
    // As Go's `filepath.Match` and moby's patterns have it.
    for text in ["[a-]", "[-a]", "[]a]", "a/[a-b-c]", "[z-a]", "!/", "! //", "!/."] {
        let error = Ignore::parse(format!("# comment\n{text}").as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("line 2: `{text}` is not a pattern: ")), "{text}: {error}");
    }
    for text in ["[a-]", "[z-a]", "!/"] {
        assert!(Ignore::from_patterns(&[text]).is_err(), "{text}");
    }
    for text in ["[a-c]", "[\\-a]", "/", "!.", "!a/..", "[^a]"] {
        assert!(Ignore::parse(text.as_bytes()).is_ok(), "{text}");
    }
    for text in [&b"\xff\xfea\0"[..], b"\xfe\xff\0a", b"a\0\n\0", b"\0a\0b"] {
        assert!(Ignore::parse(text).unwrap_err().to_string().contains("UTF-16"));
    }
}

#[test]
fn the_pattern_that_decides_is_known() {
    let ignore = Ignore::parse(b"\xef\xbb\xbf# all\n*\r\n!src\nsrc/**/x\n").unwrap();
    let line = |path: &str| ignore.deciding_pattern(&at(path)).map(|by| (by.line, by.text));
    assert_eq!(line("a"), Some((2, "*".to_owned())));
    assert_eq!(line("a/b"), Some((2, "*".to_owned())));
    assert_eq!(line("src/a"), None);
    assert_eq!(line("src/a/x"), Some((4, "src/**/x".to_owned())));
}

#[test]
fn what_could_be_re_included_below_is_looked_into() {
    let check =
        |patterns: &str, dir: &str| Ignore::parse(patterns.as_bytes()).unwrap().may_reinclude_below(&at(dir));
    assert!(check("a\n!a/b/c", "a") && check("a\n!a/b/c", "a/b"));
    assert!(!check("a\n!a/b/c", "d") && !check("a", "a") && !check("a\n!ab", "a"));
    assert!(check("*\n!**/*.c", "any") && check("*\n!a/*/c", "a/b") && !check("*\n!a/*/c", "b"));
}

/// The same rules once more, as slowly and plainly as they can be said.
fn brute_force(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        b"**" | b"**/" => true,
        [b'*', b'*', rest @ ..] => {
            let rest = rest.strip_prefix(b"/").unwrap_or(rest);
            brute_force(rest, path)
                || (0..path.len()).any(|at| path[at] == b'/' && brute_force(rest, &path[at + 1..]))
        }
        [b'*', rest @ ..] => (0..=path.len())
            .take_while(|at| !path[..*at].contains(&b'/'))
            .any(|at| brute_force(rest, &path[at..])),
        [b'?', rest @ ..] => path.first().is_some_and(|byte| *byte != b'/') && brute_force(rest, &path[1..]),
        [byte, rest @ ..] => path.first() == Some(byte) && brute_force(rest, &path[1..]),
    }
}

proptest! {
    #[test]
    fn agrees_with_brute_force(
        first in "[ab?*]{1,3}",
        rest in proptest::collection::vec("[ab?]{1,2}|\\*|a\\*b", 0..3),
        deep in 0..3_usize,
        path in "[ab]{1,2}(/[ab]{1,2}){0,3}",
    ) {
        let mut parts = vec![first];
        parts.extend(rest);
        parts.insert(deep.min(parts.len() - 1) + 1, "**".to_owned());
        let pattern = parts.join("/");
        // `**x` at the start is moby's own: a bare suffix. The table above has it.
        prop_assume!(!pattern.starts_with("**"));
        let path = at(&path);
        let expected = std::iter::once(path.clone())
            .chain(path.ancestors().filter(|above| !above.is_root()))
            .any(|path| brute_force(pattern.as_bytes(), path.as_bytes()));
        prop_assert_eq!(Ignore::parse(pattern.as_bytes()).unwrap().matches(&path), expected, "{}", pattern);
    }
}
