//! The lessons: each command of the text is run in the lesson's project, and prints what the text
//! says.
//!
//! A block that begins with ```` ```console ```` holds commands (after `$
//! `) and what they print, both outputs together. A line `…` stands for any lines. ```` ```console
//! any order ```` is for steps that run side by side: each line of the text is there, wherever.
//! Times and digests are compared by their form only, sizes within a fifth.

use dbuild_integration_tests::{Bases, Outcome, TestSpace, workspace};

/// One command of a text.
struct Example {
    line: usize,
    command: String,
    expected: Vec<String>,
    any_order: bool,
}

/// The examples of a text, in order.
fn examples(text: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let (mut inside, mut any_order) = (false, false);
    for (index, line) in text.lines().enumerate() {
        if let Some(info) = line.strip_prefix("```") {
            inside = !inside && info.starts_with("console");
            any_order = info.ends_with("any order");
        } else if let (true, Some(command)) = (inside, line.strip_prefix("$ ")) {
            let (command, expected) = (command.to_owned(), Vec::new());
            examples.push(Example { line: index + 1, command, expected, any_order });
        } else if inside {
            let example = examples.last_mut().expect("a block begins with a command");
            // A backslash at its end continues a command.
            if example.expected.is_empty() && example.command.ends_with('\\') {
                example.command.push('\n');
                example.command.push_str(line);
            } else {
                example.expected.push(line.to_owned());
            }
        }
    }
    examples
}

impl Example {
    /// Why what was printed is not what the text says.
    fn differs(&self, printed: &str) -> Option<String> {
        let printed: Vec<&str> = printed.lines().map(str::trim_end).collect();
        let mut rest = &printed[..];
        let mut skip = false;
        for expected in &self.expected {
            if expected.trim() == "…" {
                skip = true;
                continue;
            }
            let found = if self.any_order {
                printed.iter().any(|line| same(expected, line)).then_some(0)
            } else if skip {
                rest.iter().position(|line| same(expected, line)).map(|at| at + 1)
            } else {
                rest.first().is_some_and(|line| same(expected, line)).then_some(1)
            };
            let Some(used) = found else { return Some(format!("it should print: {expected}")) };
            rest = &rest[used..];
            skip = false;
        }
        let more = !self.any_order && !skip && !rest.is_empty();
        more.then(|| format!("it should print no more than that, and prints: {}", rest[0]))
    }
}

/// Whether two lines say the same. Runs of spaces do not count, since columns are as wide as their
/// contents.
fn same(expected: &str, line: &str) -> bool {
    let (expected, line): (Vec<&str>, Vec<&str>) =
        (expected.split_whitespace().collect(), line.split_whitespace().collect());
    expected.len() == line.len() && expected.iter().zip(&line).all(|(a, b)| same_word(a, b))
}

fn same_word(expected: &str, word: &str) -> bool {
    let trim = |word: &str| word.trim_matches(['(', ')', ',', ':', '.', ';', '`']).to_owned();
    let (a, b) = (trim(expected), trim(word));
    expected == word
        || (seconds(&a).is_some() && seconds(&b).is_some())
        || (is_digest(&a) && is_digest(&b))
        || matches!((bytes(&a), bytes(&b)), (Some(a), Some(b)) if (a - b).abs() <= 0.2 * a.max(b))
}

/// `0.13s`, `12ms`, or the `1.039` in front of a line that a step printed.
fn seconds(word: &str) -> Option<f64> {
    let bare = word.split_once('.').filter(|(_, decimals)| decimals.len() == 3).map(|_| word);
    let number = word.strip_suffix("ms").or_else(|| word.strip_suffix('s')).or(bare)?;
    number.contains(|c: char| c.is_ascii_digit()).then(|| number.parse().ok()).flatten()
}

fn is_digest(word: &str) -> bool {
    let hex = word.strip_prefix("sha256:").unwrap_or(word);
    hex.len() >= 12 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn bytes(word: &str) -> Option<f64> {
    let units = [("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("B", 1.0)];
    let (number, unit) = units.iter().find_map(|(name, unit)| Some((word.strip_suffix(name)?, unit)))?;
    Some(number.parse::<f64>().ok()? * unit)
}

/// Writes lesson `number`, and does what its text says.
#[track_caller]
fn walk_through(number: usize, bases: Bases) {
    let space = TestSpace::with_bases(bases);
    let word = number.to_string();
    space.dbuild(["demo", "--lesson", &word, "project"]).run().expect_ok();
    let text = space.read("project/LESSON.md");
    let examples = examples(&text);
    assert!(!examples.is_empty(), "lesson {number} has no example");
    for example in examples {
        let Outcome { stdout: printed, .. } = space.shell("project", &example.command);
        if let Some(why) = example.differs(&printed) {
            panic!("lesson {number}, line {}: {why}\n$ {}\n{printed}", example.line, example.command);
        }
    }
}

#[test]
fn each_lesson_has_a_test() {
    let count = std::fs::read_dir(workspace().join("fixtures/lessons")).expect("there are lessons").count();
    let here = include_str!("lessons.rs").matches("\n    walk_through(").count();
    assert_eq!(count, here);
}

#[test]
fn lesson_1() {
    walk_through(1, Bases::Small);
}

#[test]
fn lesson_2() {
    walk_through(2, Bases::Small);
}

#[test]
fn lesson_3() {
    walk_through(3, Bases::Small);
}

#[test]
fn lesson_4() {
    walk_through(4, Bases::Small);
}

#[test]
fn lesson_5() {
    walk_through(5, Bases::Small);
}

#[test]
fn lesson_6() {
    walk_through(6, Bases::Small);
}

#[test]
fn lesson_7() {
    walk_through(7, Bases::Small);
}

#[test]
fn lesson_8() {
    walk_through(8, Bases::All);
}

#[test]
fn lesson_9() {
    walk_through(9, Bases::Small);
}

#[test]
fn lesson_10() {
    walk_through(10, Bases::Small);
}

#[test]
fn lesson_11() {
    walk_through(11, Bases::Small);
}

#[test]
fn a_wrong_text_is_noticed() {
    let example = |text: &str| examples(text).remove(0);
    let printed = "one 0.1s\ntwo 1.00MB sha256:0123456789ab\nthree\n";
    let agrees = |text: &str| example(&format!("```console\n$ x\n{text}\n```\n")).differs(printed).is_none();
    assert!(agrees("one 2.0s\ntwo 1.05MB sha256:ffffffffffff\nthree"));
    assert!(agrees("…\nthree") && agrees("one 0.2s\n…"));
    assert!(!agrees("one 0.2s\nthree") && !agrees("one 0.2s") && !agrees("…\nfour"));
    assert!(!agrees("one 2.0s\ntwo 2.00MB sha256:ffffffffffff\nthree"));
    let unordered =
        |text: &str| example(&format!("```console any order\n$ x\n{text}\n```\n")).differs(printed);
    assert!(unordered("three\none 0.3s").is_none() && unordered("four").is_some());
}
