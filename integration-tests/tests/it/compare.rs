//! Graphs of Dockerfiles and comparisons of what they give.

use dbuild_integration_tests::TestSpace;

const SINGLE: &str = "FROM busybox\nRUN echo hello > /hello; touch /junk\n";
const MULTI: &str = "FROM busybox AS maker\nRUN echo hello > /hello; touch /junk\nFROM scratch AS final\nCOPY --from=maker /hello /hello\n";

#[test]
fn graphs_are_drawn_before_anything_is_built() {
    let space = TestSpace::new();
    space.write("context/Dockerfile", MULTI);
    let draw = |format: &str| space.dbuild(["graph", "--format", format, "context"]).run().expect_ok();
    draw("text").stdout_has(&["maker", "#1 RUN echo hello", "final", "▶"]).lacks(&["cached"]);
    draw("dot").stdout_has(&["digraph build", "s1 -> s3"]);
    draw("mermaid").stdout_has(&["flowchart LR", "s1 --> s3"]);
    draw("svg").stdout_has(&["<svg xmlns=", "COPY --from=maker"]);
    let history = space.dbuild(["history"]).run().expect_ok();
    assert_eq!(history.stdout.lines().count(), 1, "nothing was built\n{history}");
    let graph = space.dbuild(["graph", "--json", "context"]).run().expect_ok().json();
    assert_eq!(graph["steps"][1]["inputs"], serde_json::json!([0]), "{graph}");
    space.dbuild(["graph", "--format", "png", "context"]).run().expect_code(2);
    space.dbuild(["graph", "elsewhere"]).run().expect_code(1).stderr_has(&["elsewhere"]);
}

#[test]
fn single_and_multi_stage_are_compared() {
    let space = TestSpace::new();
    space.write("context/single.dockerfile", SINGLE);
    space.write("context/multi.dockerfile", MULTI);
    let words = ["compare", "context/single.dockerfile", "context/multi.dockerfile"];
    let told = space.dbuild(words).run().expect_ok();
    told.stdout_has(&["left behind", "shells", "+ [maker 2/2] RUN echo hello", "- [stage-0 2/2]"]);
    let compared = space.dbuild(words).args(["--json"]).run().expect_ok().json();
    let (a, b) = (&compared["a"]["inventory"], &compared["b"]["inventory"]);
    assert_eq!(b["files"], 1, "{compared}");
    assert_eq!(b["shells"], serde_json::json!([]), "{compared}");
    assert!(a["shells"].as_array().expect("a list").iter().any(|path| path == "/bin/sh"), "{compared}");
    assert!(compared["a"]["image_bytes"].as_u64() > compared["b"]["image_bytes"].as_u64(), "{compared}");

    // Two stages of one Dockerfile, and an image against a build.
    let stages = ["compare", "-f", "context/multi.dockerfile", "--context", "context", "maker", "final"];
    space.dbuild(stages).run().expect_ok().stdout_has(&["what          maker"]);
    space.build(SINGLE, [""; 0]).run().expect_ok();
    space.dbuild(["compare", "app", "latest"]).run().expect_ok().stdout_has(&["(image)", "files"]);
    let nothing = space.dbuild(["compare", "no-such-thing", "latest"]).run().expect_code(1);
    nothing.stderr_has(&["no-such-thing", "dbuild history"]);
}

#[test]
fn what_an_edit_changed_is_told() {
    let space = TestSpace::new();
    space.build(MULTI, [""; 0]).run().expect_ok();
    space.build(&MULTI.replace("echo hello", "echo goodbye"), [""; 0]).run().expect_ok();
    let builds = space.dbuild(["history", "--json"]).run().expect_ok().json();
    let id = |index: usize| builds[index]["id"].as_str().expect("an id");
    let told = space.dbuild(["compare", id(1), id(0)]).run().expect_ok();
    told.stdout_has(&["~ [maker 2/2] RUN echo goodbye", "was: RUN echo hello", "~ /hello", "6B -> 8B"]);
}
