//! What `--no-cache` and its like do: the table of `docs/concepts/cache-key.md`, tried with the
//! program.

use std::collections::BTreeMap;

use dbuild_integration_tests::{Outcome, TestSpace, workspace};

/// A stage `a` whose RUN gives something else each time, two steps that need it, and a stage that
/// does not.
const DOCKERFILE: &str = "\
FROM busybox AS a
RUN --mount=type=cache,target=/c echo x >> /c/f; wc -l < /c/f > /count; cat /proc/sys/kernel/random/uuid > /given
FROM a AS on
RUN cp /given /given-on
FROM busybox AS apart
RUN echo apart > /apart
FROM busybox
COPY --from=a /given /count /from-a/
COPY --from=on /given-on /from-on/
COPY --from=apart /apart /
";

const STRATEGIES: [&str; 3] = ["linear", "content", "output"];

/// What the steps did, by the words of the table.
fn did(outcome: &Outcome) -> BTreeMap<&'static str, bool> {
    let steps = [
        ("a", "RUN --mount=type=cache"),
        ("`FROM a`", "RUN cp /given"),
        ("`COPY --from=a`", "COPY --from=a "),
        ("apart", "RUN echo apart"),
    ];
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    let is_cached = |text: &str| {
        let head = lines.iter().find(|line| line.starts_with('#') && line.contains(text));
        let number =
            head.and_then(|line| line.split(' ').next()).unwrap_or_else(|| panic!("{text}\n{outcome}"));
        lines.iter().any(|line| *line == format!("{number} CACHED"))
    };
    steps.into_iter().map(|(name, text)| (name, !is_cached(text))).collect()
}

/// The rows of the table: the flags, and for each strategy what runs, and whether the cache mount
/// begins anew.
fn rows() -> Vec<(String, Vec<String>, bool)> {
    let text = std::fs::read_to_string(workspace().join("docs/concepts/cache-key.md")).unwrap();
    let (_, section) = text.split_once("## What the flags do\n").expect("the section is there");
    let section = section.split("\n## ").next().unwrap_or_default();
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    let lines: Vec<Vec<String>> = section.lines().filter(|line| line.starts_with('|')).map(cells).collect();
    assert_eq!(lines[0][1..4], STRATEGIES.map(|name| format!("`{name}`")));
    let rows = lines[2..].iter().map(|cells| (cells[0].clone(), cells[1..4].to_vec(), cells[4] == "yes"));
    rows.collect()
}

#[test]
fn the_table_of_flags_holds_under_each_strategy() {
    let rows = rows();
    assert_eq!(rows.len(), 5, "{rows:?}");
    for (number, strategy) in STRATEGIES.into_iter().enumerate() {
        let space = TestSpace::new();
        let build = |flags: &[&str]| {
            space.write("context/Dockerfile", DOCKERFILE);
            let words = ["build", "--progress", "plain", "--strategy", strategy, "-o", "out", "context"];
            space.dbuild(words).args(flags).run().expect_ok()
        };
        let given = || ["out/from-a/given", "out/from-on/given-on"].map(|path| space.read(path));
        build(&[]);
        for (flags, runs, anew) in &rows {
            let [before, _] = given();
            let words: Vec<&str> =
                flags.trim_matches('`').split(' ').filter(|word| *word != "none").collect();
            let outcome = build(&words);
            let ran: Vec<&str> =
                did(&outcome).into_iter().filter(|(_, ran)| *ran).map(|(name, _)| name).collect();
            let expected = &runs[number];
            let expected: Vec<&str> = match expected.as_str() {
                "nothing" => Vec::new(),
                "all" => vec!["`COPY --from=a`", "`FROM a`", "a", "apart"],
                words => words.split(", ").collect(),
            };
            let mut expected = expected;
            expected.sort_unstable();
            assert_eq!(ran, expected, "{flags} under {strategy}\n{outcome}");
            // Whatever ran, what is given is one and the same for all that need it.
            let [from_a, from_on] = given();
            assert_eq!(from_a, from_on, "{flags} under {strategy}");
            assert_eq!(from_a != before, ran.contains(&"a"), "{flags} under {strategy}");
            let count = space.read("out/from-a/count");
            assert!(!*anew || count.trim() == "1", "{flags} under {strategy}: {count}");
        }
        // The directory that was begun anew is kept, and taken up by the next step that runs.
        space.write("context/Dockerfile", DOCKERFILE.replace("echo x >>", "echo y >>"));
        let words = ["build", "--strategy", strategy, "-o", "out", "context"];
        space.dbuild(words).run().expect_ok();
        assert_eq!(space.read("out/from-a/count").trim(), "2", "{strategy}");
    }
}

#[test]
fn steps_of_one_build_share_the_mount_that_was_begun_anew() {
    let space = TestSpace::new();
    let text = "FROM busybox\nRUN --mount=type=cache,target=/c echo 1 >> /c/f\n\
                RUN --mount=type=cache,target=/c,sharing=locked echo 2 >> /c/f\n\
                RUN --mount=type=cache,target=/c,id=/c,sharing=private cat /c/f > /seen\n";
    for _ in 0..2 {
        space.build(text, ["--no-cache", "-o", "out"]).run().expect_ok();
        assert_eq!(space.read("out/seen"), "1\n2\n");
    }
}

/// A build of the stage alone gives its result to a later build of all.
#[test]
fn a_stage_that_ran_again_in_a_build_of_its_own_is_seen_by_the_next_one() {
    for strategy in STRATEGIES {
        let space = TestSpace::new();
        let build = |flags: &[&str]| {
            let words = ["--strategy", strategy, "-o", "out"];
            space.build(DOCKERFILE, words).args(flags).run().expect_ok()
        };
        build(&[]);
        let first = space.read("out/from-on/given-on");
        build(&["--no-cache-filter", "A", "--target", "a", "-o", "type=cacheonly"]);
        let plan = space.dbuild(["plan", "--strategy", strategy, "context"]).run().expect_ok();
        let told = build(&["--explain"]);
        let [from_a, from_on] = ["out/from-a/given", "out/from-on/given-on"].map(|path| space.read(path));
        assert!(from_a == from_on && from_on != first, "{strategy}\n{told}");
        let is_by_key = strategy != "output";
        assert_eq!(told.stderr.contains("made from an earlier result of RUN --mount"), is_by_key, "{told}");
        assert_eq!(plan.stdout.contains("made from an earlier result of RUN --mount"), is_by_key, "{plan}");
        build(&[]).stderr_has(&["9 of 9 steps cached"]);
    }
}

#[test]
fn a_filter_that_names_no_stage_is_warned_of() {
    let space = TestSpace::offline();
    let text = "FROM scratch AS Build\nCOPY Dockerfile /\n";
    space
        .build(text, ["--no-cache-filter", "BUILD,stage-0"])
        .run()
        .expect_ok()
        .stderr_has(&["warning: `--no-cache-filter stage-0`: there is no such stage"]);
    let slip = space.build(text, ["--no-cache-filter=biuld"]).run().expect_ok();
    slip.stderr_has(&["`--no-cache-filter biuld`: there is no such stage: did you mean `build`?"]);
}
