//! Which stage is meant, and which are needed.

use super::{args, build, built, errors, history, steps, targeting, with_args};

/// The images that a build asks for, in order.
fn asked(text: &str, args: &crate::BuildArgs) -> Vec<String> {
    build(text, args).map(|(_, asked)| asked).unwrap_or_default()
}

/// The names of the stages that are lowered.
fn reached(text: &str, args: &crate::BuildArgs) -> Vec<String> {
    let lowered = built(text, args);
    let stages = lowered.plan.stages().iter().filter(|stage| stage.last.is_some());
    stages.map(|stage| stage.name.clone()).collect()
}

#[test]
fn only_what_the_target_needs_is_reached() {
    let text = "FROM a AS one\nFROM b AS two\nFROM one AS three\nCOPY --from=two a b\nFROM c AS four\n";
    assert_eq!(reached(text, &args()), ["four"]);
    assert_eq!(reached(text, &targeting("three")), ["one", "two", "three"]);
    assert_eq!(reached(text, &targeting("THREE")), ["one", "two", "three"]);
    assert_eq!(
        asked(text, &targeting("three")),
        ["docker.io/library/a:latest linux/amd64", "docker.io/library/b:latest linux/amd64"]
    );
    let all = crate::BuildArgs { all_stages: true, ..args() };
    assert_eq!(asked(text, &all).len(), 3);
}

#[test]
fn names_are_looked_up_as_buildkit_does() {
    // FROM does not fold case, `--from` does.
    assert_eq!(
        reached("FROM scratch AS Two\nFROM scratch\nCOPY --from=TWO a b\n", &args()),
        ["two", "stage-1"]
    );
    assert!(errors("FROM scratch AS Two\nFROM Two\n", &args()).contains("lower case"));
    // Of two stages with one name the last one wins, for FROM the last one before.
    let text = "FROM a AS x\nFROM x AS y\nFROM b AS x\nFROM scratch\nCOPY --from=x a b\nCOPY --from=y a b\n";
    assert_eq!(
        asked(text, &args()),
        ["docker.io/library/a:latest linux/amd64", "docker.io/library/b:latest linux/amd64"]
    );
    assert_eq!(built(text, &args()).plan.stages()[1].base_stage.map(|id| id.0), Some(0));
    // A stage named scratch shadows scratch.
    assert_eq!(
        asked("FROM a AS scratch\nFROM scratch\n", &args()),
        ["docker.io/library/a:latest linux/amd64"]
    );
    // A number is a stage for COPY, and an image for a mount.
    let text = "FROM a\nFROM scratch\nCOPY --from=0 a b\nRUN --mount=from=0,target=/x true\n";
    assert_eq!(
        asked(text, &args()),
        ["docker.io/library/a:latest linux/amd64", "docker.io/library/0:latest linux/amd64"]
    );
    // What is no stage is an image.
    assert_eq!(
        asked("FROM scratch\nCOPY --from=nginx:1 a b\n", &args()),
        ["docker.io/library/nginx:1 linux/amd64"]
    );
}

#[test]
fn a_bad_name_is_harmless_where_it_is_not_needed() {
    assert_eq!(reached("FROM scratch\nCOPY --from=nowhere a b\nFROM scratch AS x\n", &args()), ["x"]);
    assert_eq!(reached("FROM scratch\nCOPY --from=x a b\nFROM scratch AS x\n", &args()), ["x"]);
    assert!(errors("FROM scratch\nCOPY --from=7 a b\nFROM scratch AS x\n", &args()).contains("number 7"));
    assert!(errors("FROM scratch\nCOPY --from=x\nFROM scratch AS x\n", &args()).contains("source"));
    assert_eq!(reached("FROM scratch\nRUN --mount=type=no x\nFROM scratch AS x\n", &args()), ["x"]);
    assert_eq!(reached("FROM scratch\nSTOPSIGNAL no\nFROM scratch AS x\n", &args()), ["x"]);
}

#[test]
fn a_number_is_no_target() {
    assert!(errors("FROM scratch AS a\nFROM scratch\n", &targeting("0")).contains("no stage `0`"));
}

#[test]
fn from_expands_global_args() {
    let text = "ARG BASE=debian\nARG TAG\nFROM ${BASE}:${TAG:-12}\n";
    assert_eq!(asked(text, &args()), ["docker.io/library/debian:12 linux/amd64"]);
    assert_eq!(asked(text, &with_args(&[("TAG", "13")])), ["docker.io/library/debian:13 linux/amd64"]);
    let text = "FROM --platform=linux/$TARGETARCH/v2 a AS b\nFROM b\nFROM --platform=$BUILDPLATFORM b\n";
    assert_eq!(asked(text, &args()), ["docker.io/library/a:latest linux/amd64/v2"]);
}

#[test]
fn copy_from_may_hold_a_global_variable() {
    let text = "ARG WHERE=tools\nFROM scratch AS tools\nFROM scratch\nCOPY --from=$WHERE a b\n";
    assert_eq!(reached(text, &args()), ["tools", "stage-1"]);
    for text in [
        "FROM scratch\nCOPY --from=$WHERE a b\n",
        "ARG W=a\nFROM scratch\nENV W=b\nCOPY --from=$W a b\n",
        "ARG W=a\nFROM scratch\nARG W=b\nCOPY --from=$W a b\n",
    ] {
        assert!(errors(text, &args()).contains("not sure"), "{text}");
    }
}

#[test]
fn triggers_run_first_and_are_not_handed_on() {
    let text = "FROM trigger AS a\nRUN own\nFROM a\n";
    let plan = steps(&built(text, &args()).plan);
    let order: Vec<&str> =
        plan.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).collect();
    assert_eq!(
        order,
        [
            "0 [0] FROM trigger",
            "1 [0] load build context",
            "2 [0] COPY . /src",
            "3 [0] RUN make -C /src",
            "4 [0] RUN own"
        ]
    );
    // ONBUILD itself leaves no trace in the history.
    let text = "FROM scratch AS a\nONBUILD ENV A=1\nENV B=2\nFROM a AS b\nENV C=3\nFROM b\n";
    assert_eq!(history(text, &targeting("b")), "- ENV B=2\n- ENV A=1\n- ENV C=3");
    assert_eq!(history(text, &args()), "- ENV B=2\n- ENV A=1\n- ENV C=3");
    let stages = built(text, &args()).plan.stages().to_vec();
    assert_eq!(stages[0].config.on_build, ["ENV A=1"]);
    assert!(stages[1].config.on_build.is_empty());
}

#[test]
fn triggers_can_name_more_images_and_stages() {
    let text = "FROM debian AS hidden\nFROM chain\n";
    assert_eq!(
        asked(text, &args()),
        ["docker.io/library/chain:latest linux/amd64", "docker.io/library/debian:latest linux/amd64"]
    );
    let text = "FROM chain\n";
    assert_eq!(
        asked(text, &args()),
        ["docker.io/library/chain:latest linux/amd64", "docker.io/library/hidden:latest linux/amd64"]
    );
}

#[test]
fn circles_are_errors_even_where_they_are_not_needed() {
    let text = "FROM scratch AS a\nCOPY --from=b x y\nFROM scratch AS b\nCOPY --from=a x y\nFROM scratch\n";
    assert!(errors(text, &args()).contains("need each other"));
}

/// A step is told with what holds there, not with what comes after it; a stage begins with what its
/// base ends with.
#[test]
fn what_holds_at_a_step_is_known() {
    let text = "FROM scratch AS a\nCOPY a /\nARG V=1\nENV E=$V\nWORKDIR /w\nUSER 7\nSHELL [\"/s\", \"-c\"]\nCOPY b /\nENV L=2\n\
                FROM a\nCOPY --from=a c /\n";
    let lowered = built(text, &crate::BuildArgs::default());
    let told = lowered.plan.steps().map(|(id, step)| match lowered.setting_of(id) {
        Some(at) => {
            let env = at.env.iter().filter(|(name, _)| name != "PATH").map(|(n, v)| format!("{n}={v}"));
            let env = env.collect::<Vec<_>>().join(" ");
            format!("{}: [{env}] user {:?} in {} by {:?}", step.text, at.user, at.workdir, at.shell)
        }
        None => format!("{}: nothing", step.text),
    });
    let told: Vec<String> = told.collect();
    assert_eq!(
        told,
        [
            "FROM scratch: [] user \"\" in / by []",
            "load build context: nothing",
            "COPY a /: [] user \"\" in / by []",
            "WORKDIR /w: [V=1 E=1] user \"\" in /w by []",
            "COPY b /: [V=1 E=1] user \"7\" in /w by [\"/s\", \"-c\"]",
            "COPY --from=a c /: [V=1 E=1 L=2] user \"7\" in /w by [\"/s\", \"-c\"]",
        ]
    );
}
