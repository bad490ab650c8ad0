use super::{AbsenceReason, explain_absence, is_ignored};
use crate::Ignore;
use crate::testing::{Space, at};

#[test]
fn what_leaves_a_path_out_is_known_with_its_line() {
    let space = Space::new();
    let dir = space.files(
        "c",
        &[
            "a.log = 1",
            "d/f = 1",
            "d/keep/x = 1",
            "e/sub/f = 1",
            "pkg/shared -> ../shared",
            "shared/f = 1",
            "l -> gone/x",
            "loop -> loop",
        ],
    );
    let ignore = Ignore::parse(b"# comment\n*.log\n\nd\n!d/keep\nshared\n").unwrap();
    let why = |path: &str| {
        explain_absence(&dir, &ignore, path).unwrap().map(|absence| {
            let link = absence.link.map(|(link, target)| format!(" through {link} -> {target}"));
            let by = match absence.why {
                AbsenceReason::Ignored(by) => format!("line {} {}", by.line, by.text),
                other => format!("{other:?}"),
            };
            format!("{}: {by}{}", absence.path, link.unwrap_or_default())
        })
    };
    let expected = [
        ("a.log", Some("/a.log: line 2 *.log")),
        ("d/f", Some("/d/f: line 4 d")),
        ("d/keep/x", None),
        ("d/keep/y", Some("/d/keep/y: NotOnDisk")),
        ("d", None),
        ("pkg/shared", Some("/shared: line 6 shared through /pkg/shared -> ../shared")),
        ("pkg/shared/f", Some("/shared: line 6 shared through /pkg/shared -> ../shared")),
        ("l", Some("/gone: NotOnDisk through /l -> gone/x")),
        ("e/sub/f/g", Some("/e/sub/f: NotADirectory")),
        ("e/nothing/g", Some("/e/nothing: NotOnDisk")),
        ("loop", None),
    ];
    for (path, expected) in expected {
        assert_eq!(why(path).as_deref(), expected, "{path}");
    }
    assert!(is_ignored(&dir, &ignore, &at("d/f")).unwrap());
    assert!(
        !is_ignored(&dir, &ignore, &at("d")).unwrap() && !is_ignored(&dir, &ignore, &at("no.log")).unwrap()
    );
}
