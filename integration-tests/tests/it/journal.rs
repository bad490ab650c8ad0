//! What the store remembers of builds, and the commands that tell of it.

use dbuild_integration_tests::TestSpace;

/// Two builds of two stages: one that is done, one whose `maker 2` fails.
pub(crate) fn space_with_builds() -> TestSpace {
    let space = TestSpace::new();
    let dockerfile = |last: &str| {
        format!(
            "FROM busybox AS maker\nRUN echo from-the-maker; echo made > /made\nFROM busybox AS unneeded\n\
             FROM scratch AS app\nCOPY --from=maker /made /made\n{last}"
        )
    };
    space.build(&dockerfile(""), [""; 0]).run().expect_ok();
    let failing = dockerfile("").replace("echo from-the-maker", "echo before-the-end; exit 7");
    space.build(&failing, [""; 0]).run().expect_code(1);
    space
}

#[test]
fn history_lists_builds_and_logs_shows_what_they_wrote() {
    let space = space_with_builds();
    let history =
        space.dbuild(["history"]).run().expect_ok().stdout_has(&["done", "failed", "-t app context"]);
    assert_eq!(history.stdout.lines().count(), 3, "{history}");
    let builds = space.dbuild(["history", "--json"]).run().expect_ok().json();
    let id = |index: usize| builds[index]["id"].as_str().expect("an id").to_owned();
    assert_eq!(builds[0]["outcome"], "failed", "the latest first: {builds}");
    assert_eq!(builds[1]["outcome"], "done", "{builds}");

    space.dbuild(["logs"]).run().expect_ok().stdout_has(&["before-the-end", "exit code 7", "failed"]);
    space
        .dbuild(["logs", &id(1)])
        .run()
        .expect_ok()
        .stdout_has(&["from-the-maker"])
        .lacks(&["before-the-end"]);
    space.dbuild(["logs", &id(1), "maker 2"]).run().expect_ok().stdout_has(&["from-the-maker"]);
    // A word that names no build is a step of the latest one.
    space.dbuild(["logs", "maker"]).run().expect_ok().stdout_has(&["before-the-end", "FROM busybox"]);
    let logged = space.dbuild(["logs", "maker 2", "--json"]).run().expect_ok().json();
    assert_eq!(logged[0]["lines"][0]["text"], "before-the-end", "{logged}");
    assert_eq!(logged[0]["state"], "failed", "{logged}");
}

#[test]
fn what_the_journal_does_not_have_is_said() {
    let space = TestSpace::offline();
    space.dbuild(["history"]).run().expect_ok().stdout_has(&["BUILD"]);
    space.dbuild(["logs"]).run().expect_code(1).stderr_has(&["no build", "dbuild build"]);
    let space = space_with_builds();
    space
        .dbuild(["logs", "latest", "linker"])
        .run()
        .expect_code(1)
        .stderr_has(&["no step `linker`", "maker, app"]);
    space.dbuild(["logs", "zzzz", "maker"]).run().expect_code(1).stderr_has(&["zzzz", "dbuild history"]);
}
