//! `--strategy traced`: each rule of `docs/concepts/traced.md`, tried with the program.

use dbuild_integration_tests::{Outcome, TestSpace};

/// A context, a command over it, an edit, and whether the command must run again.
struct Case {
    rule: &'static str,
    command: &'static str,
    /// A shell line in the context.
    edit: &'static str,
    runs: bool,
}

const fn hit(rule: &'static str, command: &'static str, edit: &'static str) -> Case {
    Case { rule, command, edit, runs: false }
}

const fn miss(rule: &'static str, command: &'static str, edit: &'static str) -> Case {
    Case { rule, command, edit, runs: true }
}

const CASES: &[Case] = &[
    hit("what was not read does not count", "cat src/a > /out", "echo x > README"),
    miss("content counts", "cat src/a > /out", "echo x > src/a"),
    miss("a listing counts", "ls src > /out", "echo x > src/new"),
    hit("a listing has names alone", "for f in src/*; do echo $f; done > /out", "echo x > src/a"),
    hit("a directory that is passed through is not listed", "cat src/a > /out", "echo x > src/new"),
    miss("absence counts", "test -e extra || echo none > /out", "echo x > extra"),
    miss("absence of what is above counts", "cat no/file > /out || true", "mkdir no"),
    hit("access asks for no content", "test -r src/a && echo yes > /out", "true"),
    miss(
        "a time that was asked for counts by content",
        "[ src/a -nt /etc/passwd ]; echo > /out",
        "echo x > src/a",
    ),
    miss("a mode counts", "test -x src/a && echo yes > /out; true", "chmod 755 src/a"),
    miss("the target of a link counts", "cat link > /out", "ln -sfn src/b link"),
    miss("what a link leads to counts", "cat link > /out", "echo x > src/a"),
    hit("what a link does not lead to does not count", "cat link > /out", "echo x > src/b"),
    miss(
        "a link to a directory counts",
        "cat dir/a > /out",
        "mkdir other; echo x > other/a; ln -sfn other dir",
    ),
    miss(
        "a link that the command made is followed",
        "ln -s /app/src /l; cat /l/a > /out; rm /l",
        "echo x > src/a",
    ),
    miss(
        "so is a link behind it",
        "ln -s /app/dir /l; cat /l/a > /out; rm /l",
        "mkdir o; echo y > o/a; ln -sfn o dir",
    ),
    miss("a program counts", "./run > /out", "echo 'echo other' >> run"),
    miss(
        "its interpreter counts",
        "cp run /r; /r > /out",
        "echo 'echo z; exec /bin/sh \"$@\"' > sh; chmod 755 sh",
    ),
    hit("what it wrote itself is no input", "echo own > new; cat new > /out", "echo x > README"),
    miss("what it overwrites counts", "echo own > src/a", "echo x > src/a"),
    miss("what it appends to counts", "echo own >> src/a", "echo x > src/a"),
    miss("what it removes counts", "rm -f src/a", "rm src/a"),
    miss("what it renames counts", "mv src/a /out", "echo x > src/a"),
    miss("what it links counts", "ln src/a /app/hard", "echo x > src/a"),
    miss("what it makes must be free", "mkdir -p made; echo x > made/a", "mkdir made; echo y > made/b"),
    miss("a change of mode keeps the content", "chmod 700 src/a", "echo x > src/a"),
    miss("relative paths are found", "cd src; cat ./../src/a > /out", "echo x > src/a"),
    miss("a descriptor of a directory leads on", "cd /app/src && cd . && cat a > /out", "echo x > src/a"),
    miss("/proc/self/cwd leads on", "cat /proc/self/cwd/src/a > /out", "echo x > src/a"),
    miss("/proc/self/fd leads on", "exec 3< src; cat /proc/self/fd/3/a > /out", "echo x > src/a"),
    miss("children count", "sh -c 'sh -c \"cat src/a\"' > /out", "echo x > src/a"),
    miss("pipes count", "cat src/a | cat > /out", "echo x > src/a"),
    miss("the users of the image count", "id > /out", "true; echo 'new:x:7:7::/:/bin/sh' > passwd"),
];

fn context(space: &TestSpace) {
    space.shell(
        "context",
        "set -e; rm -rf ./*; mkdir src; echo a > src/a; echo b > src/b; echo text > README; ln -s src/a link; \
         ln -s src dir; printf '#!/app/sh\\necho run\\n' > run; chmod 755 run; \
         printf '#!/bin/sh\\nexec /bin/sh \"$@\"\\n' > sh; chmod 755 sh; \
         printf 'root:x:0:0:root:/root:/bin/sh\\n' > passwd",
    );
}

fn build(space: &TestSpace, dockerfile: &str, flags: &[&str]) -> Outcome {
    space.build(dockerfile, ["--strategy", "traced"]).args(flags).run().expect_ok()
}

/// Whether a step was executed.
fn ran(outcome: &Outcome, text: &str) -> bool {
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    let head = lines.iter().find(|line| line.starts_with('#') && line.contains(text));
    let number = head.and_then(|line| line.split(' ').next()).unwrap_or_else(|| panic!("{text}\n{outcome}"));
    !lines.iter().any(|line| *line == format!("{number} CACHED"))
}

#[test]
fn every_rule_holds() {
    let mut wrong = Vec::new();
    let space = TestSpace::new();
    for Case { rule, command, edit, runs } in CASES {
        context(&space);
        let dockerfile =
            format!("FROM busybox\nWORKDIR /app\nCOPY . .\nRUN cp passwd /etc/passwd\nRUN {command}\n");
        build(&space, &dockerfile, &[]);
        space.shell("context", edit);
        let second = build(&space, &dockerfile, &[]);
        if ran(&second, &format!("RUN {command}")) != *runs {
            wrong.push(format!("{rule} (expected runs: {runs})"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A context, and a build of it whose RUN reads one file.
fn built(command: &str) -> (TestSpace, String) {
    let space = TestSpace::new();
    context(&space);
    let dockerfile = format!("FROM busybox\nWORKDIR /app\nCOPY . .\nRUN {command}\nRUN cat /out > /last\n");
    build(&space, &dockerfile, &[]);
    (space, dockerfile)
}

#[test]
fn a_hit_is_laid_on_the_new_parent() {
    let (space, dockerfile) = built("cat src/a > /out");
    space.write("context/README", "new text\n");
    let outcome = build(&space, &dockerfile, &["--quiet=false"]);
    outcome.stderr_has(&["note: RUN cat src/a > /out is not run again, since none of the "]);
    assert_eq!(space.run_in("app", &["cat", "/out", "/last", "/app/README"]), "a\na\nnew text\n");
}

#[test]
fn the_read_that_decides_is_named() {
    let (space, dockerfile) = built("cat src/a > /out; test -e extra || true");
    space.write("context/README", "new text\n");
    space.write("context/src/a", "other\n");
    let plan = |space: &TestSpace| {
        space.write("context/Dockerfile", &dockerfile);
        space.dbuild(["plan", "--strategy", "traced", "context"]).run().expect_ok()
    };
    let built = build(&space, &dockerfile, &["--explain"]);
    built.stderr_has(&["it read /app/src/a, which changed"]);
    space.dbuild(["why", ":4"]).run().expect_ok().stdout_has(&[
        "RUN cat src/a > /out; test -e extra || true ran again because it read /app/src/a, which changed",
    ]);
    // Here the longest trace is told something else, and the second is not.
    space.write("context/src/a", "a\n");
    let back = build(&space, &dockerfile, &[]);
    assert!(!ran(&back, "RUN cat src/a"), "{back}");
    space.write("context/extra", "");
    build(&space, &dockerfile, &["--explain"]).stderr_has(&["it read /app/extra, which is new"]);
    plan(&space).lacks(&["MISS", "UNKNOWN"]);
}

#[test]
fn a_step_that_cannot_be_traced_says_why() {
    let (space, dockerfile) = built("chroot / true; echo > /out");
    space.write("context/README", "new text\n");
    let again = build(&space, &dockerfile, &[]);
    assert!(ran(&again, "RUN chroot"), "{again}");
    again.stderr_has(&[
        "RUN chroot / true; echo > /out is not traced: it changed its root directory (chroot)",
    ]);
}

#[test]
fn no_cache_asks_no_trace() {
    let (space, dockerfile) = built("cat src/a > /out");
    space.write("context/README", "new text\n");
    assert!(ran(&build(&space, &dockerfile, &["--no-cache"]), "RUN cat src/a"));
}

#[test]
fn the_network_can_make_a_miss() {
    let command = "wget -q -O /dev/null http://127.0.0.1:1/ || echo none > /out";
    let (space, dockerfile) = built(command);
    space.write("context/README", "1\n");
    let hit = build(&space, &dockerfile, &[]);
    assert!(!ran(&hit, "RUN wget"), "{hit}");
    hit.stderr_has(&["has changed; it used the network then"]);
    space.write("context/README", "2\n");
    let miss = build(&space, &dockerfile, &["--traced-network=miss", "--explain"]);
    assert!(ran(&miss, "RUN wget"), "{miss}");
    miss.stderr_has(&["it read the network, which may have changed"]);
    // A step without a network cannot have used it.
    let none = format!("FROM busybox\nWORKDIR /app\nCOPY . .\nRUN --network=none {command}\n");
    build(&space, &none, &[]);
    space.write("context/README", "3\n");
    let hit = build(&space, &none, &["--traced-network=miss"]);
    assert!(!ran(&hit, "RUN --network=none wget"), "{hit}");
}

#[test]
fn mounts_are_inputs_as_under_output() {
    let command = "--mount=type=cache,target=/c --mount=type=bind,source=src,target=/s \
                   echo >> /c/n; cat /s/a > /out";
    let (space, dockerfile) = built(command);
    space.write("context/README", "1\n");
    assert!(!ran(&build(&space, &dockerfile, &[]), "RUN --mount"), "a cache mount is no input");
    // The whole of a bind mount counts, read or not.
    space.write("context/src/b", "new\n");
    assert!(ran(&build(&space, &dockerfile, &[]), "RUN --mount"));
}
