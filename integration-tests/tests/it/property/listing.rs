//! What `tool list` printed, and how two of them differ.

use std::collections::BTreeMap;

/// One path of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    kind: String,
    mode: String,
    owner: String,
    secs: i64,
    nanos: u32,
    /// Size and digest, target, device; and the capability.
    rest: String,
    inode: String,
}

/// A tree by its paths.
#[derive(Clone, Debug, Default)]
pub(super) struct Listing(BTreeMap<String, Line>);

/// In what a later view of a tree may differ.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tolerance {
    /// Times have no fractions.
    pub(super) whole_seconds: bool,
    /// Everything belongs to somebody else.
    pub(super) any_owner: bool,
    /// What a RUN took apart by opening it for writing, and left as it was in everything, may be
    /// linked again.
    pub(super) linked_again: bool,
}

impl Listing {
    pub(super) fn parse(text: &str) -> Self {
        Self(text.lines().map(parse_line).collect())
    }

    /// How many paths there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Without times.
    pub(super) fn without_times(mut self) -> Self {
        self.0.values_mut().for_each(|line| (line.secs, line.nanos) = (0, 0));
        self
    }

    /// Without sockets, which no layer holds.
    pub(super) fn without_sockets(mut self) -> Self {
        self.0.retain(|_, line| line.kind != "socket");
        self
    }

    /// Without what is mounted in either, and all below it.
    pub(super) fn without_mounts(mut self, other: &Self) -> Self {
        let is_mount = |(path, line): (&String, &Line)| (line.kind == "mount").then(|| path.clone());
        let mounts: Vec<String> = self.0.iter().chain(&other.0).filter_map(is_mount).collect();
        let below = |path: &str, mount: &str| {
            path.strip_prefix(mount).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.0.retain(|path, _| !mounts.iter().any(|mount| below(path, mount)));
        self
    }

    /// What is different in a later view of the same tree, a line each, beginning with the path.
    pub(super) fn differences(&self, later: &Self, tolerance: Tolerance) -> Vec<String> {
        let mut found = Vec::new();
        for (path, line) in &self.0 {
            match later.0.get(path) {
                None => found.push(format!("{path}: is missing; it was {line:?}")),
                Some(other) if shown(line, tolerance) != shown(other, tolerance) => {
                    found.push(format!("{path}: was {line:?}\n  and is {other:?}"));
                }
                Some(_) => {}
            }
        }
        for (path, line) in later.0.iter().filter(|(path, _)| !self.0.contains_key(*path)) {
            found.push(format!("{path}: appeared: {line:?}"));
        }
        let (mine, theirs) = (self.first_names(), later.first_names());
        for (path, first) in &mine {
            if let (Some(one), Some(other)) = (theirs.get(path), theirs.get(first))
                && one != other
            {
                found.push(format!("{path}: was a hard link of {first} and is none"));
            }
        }
        for (path, first) in &theirs {
            let (Some(line), Some(other)) = (self.0.get(*path), self.0.get(*first)) else { continue };
            let same = Line { inode: String::new(), ..line.clone() }
                == Line { inode: String::new(), ..other.clone() };
            if line.inode != other.inode && !(tolerance.linked_again && same) {
                found.push(format!("{path}: became a hard link of {first}"));
            }
        }
        found
    }

    /// The first path of each inode that is no directory's, by path.
    fn first_names(&self) -> BTreeMap<&str, &str> {
        let mut first: BTreeMap<&str, &str> = BTreeMap::new();
        let lines = self.0.iter().filter(|(_, line)| line.kind != "dir");
        lines.map(|(path, line)| (&**path, *first.entry(&line.inode).or_insert(path))).collect()
    }
}

fn shown(line: &Line, tolerance: Tolerance) -> Line {
    let mut line = Line { inode: String::new(), ..line.clone() };
    if tolerance.whole_seconds {
        line.nanos = 0;
    }
    if tolerance.any_owner {
        line.owner.clear();
    }
    line
}

fn parse_line(text: &str) -> (String, Line) {
    let words: Vec<&str> = text.split(' ').collect();
    let (path, kind) = (words[0].to_owned(), words[1].to_owned());
    let word = |at: usize| words.get(at).copied().unwrap_or_default();
    let (secs, nanos) = word(4).split_once('.').unwrap_or(("0", "0"));
    let line = Line {
        kind,
        mode: word(2).to_owned(),
        owner: word(3).to_owned(),
        secs: secs.parse().expect("seconds"),
        nanos: nanos.parse().expect("nanoseconds"),
        rest: words.get(6..).unwrap_or_default().join(" "),
        inode: word(5).to_owned(),
    };
    (path, line)
}

#[test]
fn every_kind_of_difference_is_told() {
    let one = "a file 0644 0:0 5.5 1:1 1:aa -\nb file 0644 0:0 5.5 1:1 1:aa -\nc link 0777 0:0 5.0 1:2 x -\n\
               s socket 0755 0:0 5.0 1:3 - -\nm mount\nm/x file 0644 0:0 5.0 1:7 1:aa -";
    let seen = Listing::parse(one).without_sockets();
    let seen = seen.clone().without_mounts(&seen);
    assert_eq!(seen.len(), 3);
    let told = |from: &str, to: &str, tolerance: Tolerance| {
        let later = Listing::parse(&one.replace(from, to)).without_sockets();
        seen.differences(&later.clone().without_mounts(&seen).without_mounts(&later), tolerance)
    };
    assert!(told("", "", Tolerance::default()).is_empty());
    for (from, to) in [
        ("a file 0644", "a file 0600"),
        ("a file 0644 0:0", "a file 0644 1:0"),
        ("a file 0644 0:0 5.5", "a file 0644 0:0 5.6"),
        ("1:aa -\nb", "1:ab -\nb"),
        ("x -", "y -"),
        ("b file 0644 0:0 5.5 1:1", "b file 0644 0:0 5.5 1:9"),
        ("c link 0777 0:0 5.0 1:2", "c link 0777 0:0 5.0 1:1"),
        ("c link 0777 0:0 5.0 1:2 x -\n", ""),
        ("s socket", "s file"),
    ] {
        assert_eq!(told(from, to, Tolerance::default()).len(), 1, "{from} {to}");
    }
    let seconds = Tolerance { whole_seconds: true, ..Tolerance::default() };
    assert!(told("a file 0644 0:0 5.5", "a file 0644 0:0 5.0", seconds).is_empty());
    assert!(told("0:0", "7:7", Tolerance { any_owner: true, ..Tolerance::default() }).is_empty());
}
