//! `dbuild check` of a context.

use dbuild_integration_tests::TestSpace;
use serde_json::{Value, json};

const POOR: &str = "FROM scratch AS Build\nMAINTAINER me\nFROM busybox\nCOPY --from=build /é$x /\n";

fn with(dockerfile: &str) -> TestSpace {
    let space = TestSpace::new();
    space.write("context/Dockerfile", dockerfile);
    space
}

#[test]
fn findings_point_and_are_counted() {
    let space = with(POOR);
    let outcome = space.dbuild(["check", "context"]).run().expect_code(1);
    assert_eq!(outcome.stderr, "", "{outcome}");
    outcome.stdout_has(&[
        "warning[StageNameCasing]: the stage's name `Build`",
        "1 | FROM scratch AS Build\n  |                 ^^^^^",
        "warning[MaintainerDeprecated]",
        "warning[UndefinedVar]: the variable `$x`",
        "\nchecked context/Dockerfile: 3 warnings\n",
    ]);
    let fine = with("FROM busybox\nRUN exit 1\n");
    let outcome = fine.dbuild(["check", "context"]).run().expect_ok();
    assert_eq!(outcome.stdout, "checked context/Dockerfile: no warnings\n", "{outcome}");
}

#[test]
fn every_stage_is_looked_at_unless_one_is_named() {
    let space = with("FROM scratch AS a\nLABEL x y\nFROM scratch AS b\nLABEL x=y\n");
    space
        .dbuild(["check", "context"])
        .run()
        .expect_code(1)
        .stdout_has(&["LegacyKeyValueFormat", ": 1 warning\n"]);
    space.dbuild(["check", "--target", "b", "context"]).run().expect_ok();
}

/// Lines that bring something back do not hide what the others leave out.
#[test]
fn copies_of_ignored_files_are_found_beside_exceptions() {
    let space = TestSpace::offline();
    for path in ["secret.txt", "keep/f", "dir/sub/g", "dir/h"] {
        space.write(format!("context/{path}"), "");
    }
    let warns = |ignore: &str, source: &str| {
        space.write("context/.dockerignore", ignore);
        space.write("context/Dockerfile", format!("FROM scratch\nCOPY {source} /o/\n"));
        space.dbuild(["check", "context"]).run().stdout.contains("CopyIgnoredFile")
    };
    for (ignore, source) in [
        ("secret.txt", "secret.txt"),
        ("secret.txt\n!keep", "secret.txt"),
        ("secret.txt\n!no-such", "secret.txt"),
        ("secret.txt\n!**/*.md", "secret.txt"),
        ("*.txt\n!keep/f", "secret.txt"),
        ("dir\n!dir/sub", "dir/h"),
        ("dir\n!dir/none", "dir"),
        ("*.txt", "*.txt"),
    ] {
        assert!(warns(ignore, source), "{ignore:?} {source}");
    }
    for (ignore, source) in [
        ("*\n!keep", "keep"),
        ("*\n!keep/f", "keep/f"),
        ("*\n!keep/f", "keep"),
        ("dir\n!dir/sub", "dir/sub"),
        ("dir\n!dir/sub", "dir/sub/g"),
        ("dir\n!dir/sub", "dir"),
        ("*\n!**/*.txt", "secret.txt"),
        ("*\n!**/*.txt", "*.txt"),
        ("keep/*\n!keep/f", "keep/f"),
        ("*\n!keep", "."),
    ] {
        assert!(!warns(ignore, source), "{ignore:?} {source}");
    }
}

#[test]
fn errors_are_part_of_the_answer() {
    let space = with("FROM scratch AS Build\nMAINTAINER me\nBADCMD\n");
    let outcome = space.dbuild(["check", "context"]).run().expect_code(1);
    outcome.stdout_has(&["StageNameCasing", "MaintainerDeprecated", "BADCMD", ": 1 error, 2 warnings\n"]);
    let missing = with("FROM no-such-image:1\nMAINTAINER me\n");
    let outcome = missing.dbuild(["check", "context"]).run().expect_code(1);
    outcome.stdout_has(&["MaintainerDeprecated", "no-such-image:1", ": 1 error, 1 warning\n"]);
    space
        .dbuild(["check", "no-such-thing"])
        .run()
        .expect_code(1)
        .stderr_has(&["the store has no image `no-such-thing`", "usually `.`"]);
}

#[test]
fn findings_stand_beside_an_error() {
    let space = with("ARG X\nFROM $X AS Final\nCOPY a /\n");
    let outcome = space.dbuild(["check", "context"]).run().expect_code(1);
    outcome.stdout_has(&[
        "warning[InvalidDefaultArgInFrom]",
        "warning[StageNameCasing]",
        "error: the name of the base image is empty",
        ": 1 error, 2 warnings\n",
    ]);
    let missing = with("FROM scratch AS a\nLABEL k v\nCOPY $y /\nFROM no-such-image:1 AS B\nRUN true\n");
    let outcome = missing.dbuild(["build", "--check", "context"]).run().expect_code(1);
    outcome.stdout_has(&["LegacyKeyValueFormat", "UndefinedVar", "StageNameCasing", "no-such-image:1"]);
}

#[test]
fn findings_that_are_errors_are_the_error_of_the_build() {
    let space = with("# check=error=true\nFROM scratch AS Final\nMAINTAINER me\n");
    let found = space.dbuild(["check", "--format", "json", "context"]).run().expect_code(1).json();
    let message = "lint violation found for rules: MaintainerDeprecated, StageNameCasing";
    assert_eq!(found["buildError"], json!({"message": message, "location": {}}), "{found}");
    assert_eq!(found["warnings"].as_array().map(Vec::len), Some(2));
    let fine = with("# check=error=true\nFROM scratch AS final\n");
    let found = fine.dbuild(["check", "--format", "json", "context"]).run().expect_ok().json();
    assert_eq!(found.get("buildError"), None);
}

#[test]
fn json_is_as_buildx_writes_it() {
    let space = with(POOR);
    let found = space.dbuild(["check", "--format", "json", "context"]).run().expect_code(1).json();
    let warnings = found["warnings"].as_array().expect("a list");
    let rules: Vec<&Value> = warnings.iter().map(|warning| &warning["ruleName"]).collect();
    assert_eq!(rules, ["StageNameCasing", "MaintainerDeprecated", "UndefinedVar"]);
    assert_eq!(warnings[0]["url"], "https://docs.docker.com/go/dockerfile/rule/stage-name-casing/");
    for member in ["description", "detail"] {
        assert!(warnings.iter().all(|warning| warning[member].is_string()), "{found}");
    }
    // Characters, not bytes.
    let place = json!({ "ranges": [{ "start": { "line": 4, "character": 20 }, "end": { "line": 4, "character": 22 } }] });
    assert_eq!(warnings[2]["location"], place);
    assert_eq!(found["sources"][0]["filename"], "context/Dockerfile");
    assert_eq!(found["sources"][0]["language"], "Dockerfile");
    assert!(found["sources"][0]["data"].as_str().is_some_and(|data| data.starts_with("RlJPTSBzY3JhdGNo")));
    assert_eq!(found.get("buildError"), None);

    let broken = with("FROM scratch\nBADCMD x\n");
    let found = broken.dbuild(["check", "--format=json", "context"]).run().expect_code(1).json();
    assert!(found["buildError"]["message"].as_str().is_some_and(|text| text.contains("BADCMD")), "{found}");
    assert_eq!(found["buildError"]["location"]["ranges"][0]["start"]["line"], 2);
}

#[test]
fn sarif_has_its_shape() {
    let space = with(&format!("# check=error=true\n{POOR}FROM scratch AS build\n"));
    let log = space.dbuild(["check", "--format", "sarif", "context"]).run().expect_code(1).json();
    assert_eq!(log["version"], "2.1.0");
    assert!(log["$schema"].as_str().is_some_and(|uri| uri.ends_with("sarif-schema-2.1.0.json")));
    let [run] = log["runs"].as_array().expect("runs").as_slice() else { panic!("{log}") };
    let driver = &run["tool"]["driver"];
    assert_eq!(driver["name"], "dbuild");
    let rules = driver["rules"].as_array().expect("rules");
    assert_eq!(rules.len(), 23, "Docker's, and errors");
    let results = run["results"].as_array().expect("results");
    assert_eq!(results.len(), 4, "{log}");
    for result in results {
        let index = result["ruleIndex"].as_u64().expect("an index") as usize;
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(result["message"]["text"].as_str().is_some_and(|text| !text.is_empty()));
        assert_eq!(result["level"], "error");
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "context/Dockerfile");
        let number = |name: &str| place["region"][name].as_u64().expect("a number");
        assert!(number("startLine") >= 2 && number("startColumn") >= 1);
        let (start, end) =
            ((number("startLine"), number("startColumn")), (number("endLine"), number("endColumn")));
        assert!(start < end, "{result}");
    }
    let other = &results.iter().find(|result| result["ruleId"] == "DuplicateStageName").expect("found")["relatedLocations"];
    assert_eq!(other[0]["physicalLocation"]["region"]["startLine"], 2);
    assert_eq!(other[0]["message"]["text"], "the first one");
}

#[test]
fn a_build_argument_says_which_rules_apply() {
    let space = with("# check=skip=all\nFROM scratch AS Build\n");
    space.dbuild(["check", "context"]).run().expect_ok();
    let words = ["check", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=JSONArgsRecommended", "context"];
    space.dbuild(words).run().expect_code(1).stdout_has(&["StageNameCasing"]);
    let words = ["check", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip", "context"];
    space
        .dbuild(words)
        .run()
        .expect_code(1)
        .stdout_has(&["BUILDKIT_DOCKERFILE_CHECK", "`skip` is not an option of checks"]);
}

#[test]
fn check_and_call_are_flags_of_build() {
    let space = with(POOR);
    space.dbuild(["build", "--check", "context"]).run().expect_code(1).stdout_has(&[": 3 warnings\n"]);
    space.dbuild(["build", "--call=check", "context"]).run().expect_code(1).stdout_has(&["StageNameCasing"]);
    space.dbuild(["build", "--call=check,ignorestatus=true", "context"]).run().expect_ok();
    let found = space.dbuild(["build", "--call", "lint,format=json", "context"]).run().expect_code(1).json();
    assert_eq!(found["warnings"].as_array().map(Vec::len), Some(3));
    space
        .dbuild(["build", "--call=chekc", "context"])
        .run()
        .expect_code(2)
        .stderr_has(&["`chekc`", "outline"]);
    // Nothing was built.
    assert_eq!(space.dbuild(["images", "--json"]).run().expect_ok().json(), json!([]));
}

const PARAMETERS: &str = "\
# VERSION is what is built
ARG VERSION=1
FROM busybox:${VERSION}x AS tools
RUN --mount=type=secret,id=token,required --mount=type=ssh true
FROM scratch AS docs
# app is what is shipped
FROM scratch AS app
ARG LEVEL
COPY --from=tools / /
";

#[test]
fn targets_are_listed() {
    let space = with(PARAMETERS);
    let outcome = space.dbuild(["build", "--call=targets", "context"]).run().expect_ok();
    assert_eq!(
        outcome.stdout,
        "\
TARGET          BASE                  DESCRIPTION
tools           busybox:${VERSION}x
docs            scratch
app (default)   scratch               is what is shipped
"
    );
    let list = space.dbuild(["build", "--call=targets,format=json", "context"]).run().expect_ok().json();
    let app = json!({
        "name": "app", "default": true, "description": "is what is shipped", "base": "scratch",
        "location": { "ranges": [{ "start": { "line": 7 }, "end": { "line": 7, "character": 19 } }] },
    });
    assert_eq!(list["targets"][2], app);
    assert_eq!(list["sources"].as_array().map(Vec::len), Some(1));
}

#[test]
fn an_outline_tells_what_a_target_takes() {
    let space = with(&PARAMETERS.replace("busybox:${VERSION}x", "busybox:${VERSION}"));
    let words = ["build", "--call=outline", "--build-arg=VERSION=latest", "--build-arg=LEVEL=3", "context"];
    let outcome = space.dbuild(words).run().expect_ok();
    assert_eq!(
        outcome.stdout,
        "\
TARGET: app
DESCRIPTION: is what is shipped

BUILD ARG   VALUE    DESCRIPTION
VERSION     latest   is what is built
LEVEL       3

SECRET   REQUIRED
token    true

SSH       REQUIRED
default
"
    );
    let words = ["build", "--call=outline,format=json", "--target=docs", "context"];
    let found = space.dbuild(words).run().expect_ok().json();
    assert_eq!(found["name"], "docs");
    assert_eq!((found.get("args"), found.get("secrets")), (None, None), "{found}");
}

#[test]
fn slips_of_the_finger_are_named() {
    let space = with("FROM scratch AS build\nFROM scratch\nARG VERSION\nCOPY --from=biuld / /\n");
    let outcome = space.dbuild(["build", "--build-arg=VERSOIN=1", "context"]).run().expect_code(1);
    outcome.stderr_has(&["COPY --from=biuld", "did you mean the stage `build`?"]);
    space.write(
        "context/Dockerfile",
        "# syntax=example.com/other\nFROM scratch\nARG VERSION\nCOPY Dockerfile /\n",
    );
    let outcome =
        space.dbuild(["build", "--progress=plain", "--build-arg=VERSOIN=1", "context"]).run().expect_ok();
    outcome.stderr_has(&[
        "the build argument `VERSOIN` is not used",
        "did you mean `VERSION`?",
        "the frontend `example.com/other` is not used",
    ]);
    // Remarks are no findings.
    let outcome = space.dbuild(["check", "--build-arg=VERSOIN=1", "context"]).run().expect_ok();
    outcome.stdout_has(&["no warnings"]).stderr_has(&["VERSOIN", "example.com/other"]);
}

/// As with Docker, a name is an image before it is a directory.
#[test]
fn an_image_goes_before_a_directory_of_its_name() {
    let space = TestSpace::new();
    let dockerfile = "FROM busybox\nWORKDIR here\nCMD [\"no-such-program\"]\n";
    space.build(dockerfile, ["-t", "context"]).run().expect_ok();
    space.dbuild(["check", "context"]).run().expect_code(1).stdout_has(&["no-such-program"]);
    space.dbuild(["check", "./context"]).run().expect_code(1).stdout_has(&["WorkdirRelativePath"]);
    let compared = space.dbuild(["compare", "context", "context"]).run().expect_ok();
    compared.lacks(&["WORKDIR here"]);
}
