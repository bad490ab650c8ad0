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
