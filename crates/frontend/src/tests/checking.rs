//! The 22 checks.

use insta::assert_snapshot;

use super::{args, build, errors, with_args};
use crate::{BuildArgs, Ignored, Source, check, parse, render};

/// The findings of a file: rule, line and the words that are underlined.
pub(super) fn findings(text: &str, args: &BuildArgs) -> Vec<String> {
    let (lowered, _) = build(text, args).unwrap_or_else(|found| panic!("{}", super::show(text, &found)));
    let source = Source::new("Dockerfile", text);
    let line = |w: &crate::Diagnostic| w.line(&source).unwrap_or(0);
    let words = |w: &crate::Diagnostic| source.slice(w.labels[0].span).to_owned();
    lowered.warnings.iter().map(|w| format!("{}:{} {}", line(w), w.rule.unwrap_or("-"), words(w))).collect()
}

fn check_rule(text: &str, expected: &[&str]) {
    assert_eq!(findings(text, &args()), expected, "{text}");
}

#[test]
fn casing() {
    check_rule("FROM scratch AS Build\n", &["1:StageNameCasing Build"]);
    check_rule("FROM scratch as b\nUSER x\n", &["1:FromAsCasing as"]);
    check_rule("from scratch AS b\nuser x\n", &["1:FromAsCasing AS"]);
    check_rule("From scratch as b\nUSER x\n", &["1:ConsistentInstructionCasing From"]);
    check_rule("FROM scratch\nuser x\nUSER y\n", &["2:ConsistentInstructionCasing user"]);
    check_rule("from scratch\nuser x\nUSER y\n", &["3:ConsistentInstructionCasing USER"]);
    check_rule("arg a\nFROM scratch\nUSER x\n", &[]);
}

#[test]
fn names_of_stages() {
    check_rule("FROM scratch AS a\nFROM scratch AS a\n", &["2:DuplicateStageName a"]);
    check_rule("FROM scratch AS scratch\n", &["1:ReservedStageName scratch"]);
    check_rule("FROM scratch AS context\n", &["1:ReservedStageName context"]);
}

#[test]
fn old_ways() {
    check_rule("FROM scratch\nMAINTAINER me\n", &["2:MaintainerDeprecated MAINTAINER"]);
    check_rule("FROM scratch\nENV a b c\n", &["2:LegacyKeyValueFormat a b c"]);
    check_rule("FROM scratch\nLABEL a b\n", &["2:LegacyKeyValueFormat a b"]);
    check_rule("FROM debian\nCMD a b\n", &["2:JSONArgsRecommended a b"]);
    check_rule("FROM debian\nENTRYPOINT a\n", &["2:JSONArgsRecommended a"]);
    check_rule("FROM debian\nSHELL [\"a\"]\nCMD a b\n", &[]);
    check_rule("FROM scratch\nCOPY a \\\n\n  b\n", &["3:NoEmptyContinuation "]);
}

#[test]
fn variables() {
    check_rule("FROM scratch\nLABEL a=x$NOPE\n", &["2:UndefinedVar $NOPE"]);
    check_rule("FROM scratch\nARG V\nLABEL a=$V b=${W:-}\n", &["3:UndefinedVar ${W:-}"]);
    check_rule("FROM scratch\nCOPY <<E <<'F' /\n$x\nE\n$y\nF\n", &["3:UndefinedVar $x\nE\n"]);
    check_rule("FROM debian$TGA\n", &["1:UndefinedArgInFrom $TGA"]);
    check_rule("ARG A\nFROM a$A\n", &[]);
    assert_eq!(findings("ARG A\nFROM $A\n", &with_args(&[("A", "x")])), ["2:InvalidDefaultArgInFrom $A"]);
    check_rule(
        "FROM scratch\nARG DB_PASSWORD\nENV API_TOKEN=x KEY_FILE=y\n",
        &["2:SecretsUsedInArgOrEnv DB_PASSWORD", "3:SecretsUsedInArgOrEnv API_TOKEN"],
    );
}

#[test]
fn platforms() {
    check_rule("FROM --platform=$TARGETPLATFORM a\n", &["1:RedundantTargetPlatform $TARGETPLATFORM"]);
    check_rule("FROM --platform=linux/arm64 a\n", &["1:FromPlatformFlagConstDisallowed linux/arm64"]);
    check_rule("FROM --platform=linux/arm64 a AS b-arm64\n", &[]);
    check_rule("FROM --platform=$BUILDPLATFORM a\n", &[]);
}

#[test]
fn the_rest() {
    check_rule("FROM debian\nWORKDIR a\nWORKDIR b\n", &["2:WorkdirRelativePath a"]);
    check_rule("FROM debian\nWORKDIR /a\nWORKDIR b\n", &[]);
    check_rule("FROM debian\nCMD [\"a\"]\nCMD [\"b\"]\n", &["2:MultipleInstructionsDisallowed CMD [\"a\"]"]);
    check_rule(
        "FROM scratch\nEXPOSE 80/TCP 1:2\n",
        &["2:ExposeProtoCasing 80/TCP", "2:ExposeInvalidFormat 1:2"],
    );
    let ignored = Some(Ignored(std::sync::Arc::new(|path| path == "a.md")));
    let with_ignored = BuildArgs { ignored, ..args() };
    assert_eq!(findings("FROM scratch\nCOPY ./a.md b /\n", &with_ignored), ["2:CopyIgnoredFile ./a.md"]);
    let experimental = "# check=experimental=all\n# other\nFROM scratch AS a\n# B is c\nARG B\n";
    check_rule(experimental, &["2:InvalidDefinitionDescription # other"]);
    check_rule("# other\nFROM scratch AS a\n", &[]);
}

#[test]
fn bases_of_other_platforms_are_told() {
    let text = "FROM debian\n";
    let ast = parse(&Source::new("Dockerfile", text)).into_result().unwrap();
    let mut resolved = crate::Resolved::default();
    let requests = crate::needed(&ast, &args(), &resolved).unwrap();
    let mut image = super::base_image(&requests[0]);
    image.platform = "linux/arm64".parse().unwrap();
    resolved.insert(&requests[0], image);
    let warnings = crate::lower(&ast, &args(), &resolved).unwrap().warnings;
    assert_eq!(warnings.iter().map(|w| w.rule).collect::<Vec<_>>(), [Some("InvalidBaseImagePlatform")]);
}

/// Its shell, PATH and paths are others: it is not built as if it were of Linux.
#[test]
fn an_image_of_windows_is_refused_wherever_it_is_taken_from() {
    for text in ["FROM nano\n", "FROM scratch\nCOPY --from=nano / /\n"] {
        let ast = parse(&Source::new("Dockerfile", text)).into_result().unwrap();
        let mut resolved = crate::Resolved::default();
        let requests = crate::needed(&ast, &args(), &resolved).unwrap();
        let mut image = super::base_image(&requests[0]);
        image.platform = "windows/amd64".parse().unwrap();
        resolved.insert(&requests[0], image);
        let errors = crate::lower(&ast, &args(), &resolved).unwrap_err();
        assert_eq!(errors.0[0].message, "the platform `windows/amd64` is not supported", "{text}");
    }
}

#[test]
fn checks_can_be_skipped() {
    check_rule("# check=skip=all\nFROM scratch AS Build\nMAINTAINER me\n", &[]);
    check_rule(
        "# check=skip=StageNameCasing\nFROM scratch AS Build\nMAINTAINER me\n",
        &["3:MaintainerDeprecated MAINTAINER"],
    );
    check_rule(
        "FROM scratch\n# check=skip=MaintainerDeprecated\nMAINTAINER me\nMAINTAINER you\n",
        &["4:MaintainerDeprecated MAINTAINER"],
    );
    assert_snapshot!(errors("# check=error=true\nFROM scratch\nMAINTAINER me\n", &args()), @"
    error[MaintainerDeprecated]: MAINTAINER is deprecated in favor of a label
     --> Dockerfile:3:1
      |
    3 | MAINTAINER me
      | ^^^^^^^^^^
      |
      = help: write `LABEL org.opencontainers.image.authors=…`
    ");
    assert_snapshot!(errors("# check=skip\nFROM scratch\n", &args()), @"
    error: `skip` is not an option of checks
     --> Dockerfile:1:9
      |
    1 | # check=skip
      |         ^^^^
      |
      = help: write `# check=skip=RuleOne,RuleTwo;error=true`
    ");
}

#[test]
fn findings_are_shown_with_their_rule() {
    let source = Source::new("Dockerfile", "FROM scratch AS a\nFROM a AS A\n");
    let shown: Vec<String> =
        check(&parse(&source).ast, &args()).iter().map(|w| render(w, &source, false)).collect();
    assert_snapshot!(shown.join("\n"), @"
    warning[DuplicateStageName]: two stages are named `a`
     --> Dockerfile:2:11
      |
    1 | FROM scratch AS a
      |                 - the first one
    2 | FROM a AS A
      |           ^
      |
      = help: give each stage a name of its own; the last of one name counts
    warning[StageNameCasing]: the stage's name `A` is not in lower case
     --> Dockerfile:2:11
      |
    2 | FROM a AS A
      |           ^
      |
      = help: write stage names in lower case
    ");
}

#[test]
fn another_language_is_told() {
    check_rule("# syntax=docker/dockerfile:1.7-labs\nFROM scratch\n", &[]);
    check_rule("# syntax=tonistiigi/xx\nFROM scratch\n", &["1:- tonistiigi/xx"]);
}
