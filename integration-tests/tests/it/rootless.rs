//! The same builds as an ordinary user, with and without sub-ids.
//!
//! Whoever runs the tests is root; the user exists only in files that are mounted over `/etc` for one command.

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
    let append = |name: &str, line: String| {
        let text = std::fs::read_to_string(format!("/etc/{name}")).unwrap_or_default();
        space.write(format!("etc/{name}"), format!("{text}{line}\n"))
    };
    append("passwd", format!("dbuild-test:x:{USER}:{USER}::{}:/bin/sh", space.path("home").display()));
    append("group", format!("dbuild-test:x:{USER}:"));
    let ids = if sub_ids { format!("dbuild-test:{}:65536", 700_000) } else { String::new() };
    append("subuid", ids.clone());
    append("subgid", ids);

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
