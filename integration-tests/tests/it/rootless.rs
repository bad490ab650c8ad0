//! The same builds as an ordinary user, with and without sub-ids.
//!
//! Whoever runs the tests is root; the user exists only in files that are mounted over `/etc` for
//! one command.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use dbuild_integration_tests::{Outcome, TestSpace, binary, run};

const USER: u32 = 54321;

/// A space that belongs to the user, with the program in it.
pub(crate) fn space() -> Option<TestSpace> {
    if !rustix::process::geteuid().is_root() {
        // The other tests are rootless then.
        return None;
    }
    let space = TestSpace::new();
    std::fs::copy(binary(), space.path("dbuild")).unwrap();
    run(Command::new("chown").args(["-R", &USER.to_string()]).arg(space.root())).expect_ok();
    Some(space)
}

/// Runs dbuild as the user.
#[track_caller]
pub(crate) fn as_user(space: &TestSpace, sub_ids: bool, words: &[&str]) -> Outcome {
    as_user_with(space, if sub_ids { "dbuild-test:700000:65536" } else { "" }, words)
}

/// Runs dbuild as the user with these lines in `/etc/subuid` and `/etc/subgid`.
#[track_caller]
fn as_user_with(space: &TestSpace, ids: &str, words: &[&str]) -> Outcome {
    let append = |name: &str, line: String| {
        let text = std::fs::read_to_string(format!("/etc/{name}")).unwrap_or_default();
        space.write(format!("etc/{name}"), format!("{text}{line}\n"))
    };
    append("passwd", format!("dbuild-test:x:{USER}:{USER}::{}:/bin/sh", space.path("home").display()));
    append("group", format!("dbuild-test:x:{USER}:"));
    append("subuid", ids.to_owned());
    append("subgid", ids.to_owned());

    let script = format!(
        "cd {root} && for f in passwd group subuid subgid; do \
           [ -e /etc/$f ] || : > /etc/$f; mount --bind etc/$f /etc/$f; done && \
         exec setpriv --reuid {USER} --regid {USER} --clear-groups ./dbuild \"$@\"",
        root = space.root().display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "dbuild"]).args(words);
    command.env("HOME", space.path("home")).env("DBUILD_STORE", space.path("store"));
    command.env("DBUILD_CONFIG", space.path("config.toml")).current_dir("/");
    run(&mut command)
}

const DOCKERFILE: &str = "\
FROM busybox AS b
RUN id -u > /id && echo made > /made
FROM busybox
COPY --from=b /id /made /
RUN rm /made && cat /proc/sys/kernel/random/uuid > /uuid
CMD cat /id
";

#[test]
fn with_sub_ids() {
    let Some(space) = space() else { return };
    let dockerfile = format!("{DOCKERFILE}RUN chown app:audio /id && su app -c 'id -u' > /su\n");
    space.write("context/Dockerfile", dockerfile);
    as_user(&space, true, &["build", "-t", "app", "context"]).expect_ok();
    as_user(&space, true, &["run", "app", "cat", "/id", "/su"]).expect_ok().stdout_has(&["0\n1000\n"]);
    as_user(&space, true, &["build", "-t", "app", "-o", "files", "context"])
        .expect_ok()
        .stderr_has(&["CACHED"]);
    // No file of the store belongs to root: the user could not have made it.
    assert_ne!(std::fs::metadata(space.path("store")).unwrap().uid(), 0);
}

#[test]
fn with_one_id() {
    let Some(space) = space() else { return };
    space.write("context/Dockerfile", DOCKERFILE);
    as_user(&space, false, &["build", "-t", "app", "context"]).expect_ok();
    as_user(&space, false, &["run", "app"]).expect_ok().stdout_has(&["0\n"]);
    as_user(&space, false, &["build", "-t", "app", "context"]).expect_ok().stderr_has(&["CACHED"]);
}

#[test]
fn a_shell_where_a_command_failed() {
    for sub_ids in [true, false] {
        let Some(space) = space() else { return };
        let dockerfile = "FROM busybox\nRUN --mount=type=cache,target=/c --mount=type=bind,target=/src \\\n\
                          --mount=type=secret,id=s echo warm > /c/file; echo half > /half; exit 3\n";
        space.write("context/Dockerfile", dockerfile);
        space.write("secret", "hidden-value");
        let secret = ["--secret", "id=s,src=secret"];
        let words = |words: &[&'static str]| [words, &secret].concat();
        as_user(&space, sub_ids, &[&words(&["build"])[..], &["context"]].concat()).expect_code(1);
        let line = "cat /c/file /half /run/secrets/s; ls /src; touch /src/x || echo readonly";
        let outcome = as_user(&space, sub_ids, &words(&["shell", "--failed", "-c", line])).expect_ok();
        assert_eq!(outcome.stdout, "warm\nhalf\nhidden-valueDockerfile\nreadonly\n", "sub-ids: {sub_ids}");
    }
}

#[test]
fn with_one_id_a_command_that_needs_more_says_where_they_come_from() {
    let Some(space) = space() else { return };
    for (command, sub_ids, is_told) in [
        ("chown 1000:1000 /bin", false, true),
        ("su app -c true", false, true),
        ("false", false, false),
        // Who has more ids is not told of them, whatever a command says.
        ("echo Operation not permitted; exit 3", true, false),
    ] {
        space.write("context/Dockerfile", format!("FROM busybox\nRUN {command}\n"));
        let failed = as_user(&space, sub_ids, &["build", "context"]).expect_code(1);
        match is_told {
            true => drop(failed.stderr_has(&["/etc/subuid and /etc/subgid", "dbuild doctor"])),
            false => drop(failed.lacks(&["/etc/subuid"])),
        }
    }
    let told = as_user(&space, false, &["doctor"]);
    told.stdout_has(&["missing  sub-ids", "usermod --add-subuids"]);
}

#[test]
fn sub_ids_that_collide_are_told_by_doctor() {
    let Some(space) = space() else { return };
    let twice = format!("700000:65536\ndbuild-test:{}:10", 765_535);
    let told = as_user_with(&space, &format!("dbuild-test:{twice}"), &["doctor"]);
    told.stdout_has(&[
        "missing  sub-ids",
        "the ranges 700000-765535 and 765535-765544 in /etc/subuid overlap",
    ]);
    let own = as_user_with(&space, &format!("dbuild-test:{}:1000", USER - 10), &["doctor"]);
    own.stdout_has(&["missing  sub-ids", &format!("has your own id {USER}")]);
}
