//! How faults are shown.

use insta::assert_snapshot;

use super::{args, errors, targeting, with_args};

#[test]
fn unknown_instructions_are_guessed() {
    assert_snapshot!(errors("FROM scratch\nCPOY a b\nRUM x\nXYZZY\n", &args()), @r"
    error: `CPOY` is not an instruction
     --> Dockerfile:2:1
      |
    2 | CPOY a b
      | ^^^^
      |
      = help: did you mean `COPY`?

    error: `RUM` is not an instruction
     --> Dockerfile:3:1
      |
    3 | RUM x
      | ^^^
      |
      = help: did you mean `RUN`?

    error: `XYZZY` is not an instruction
     --> Dockerfile:4:1
      |
    4 | XYZZY
      | ^^^^^
      |
      = help: if this continues the line above, that line must end with the escape character `\`
    ");
}

#[test]
fn unknown_flags_are_guessed() {
    assert_snapshot!(errors("FROM scratch\nCOPY --chwn=1 --bogus a b\nUSER --x y\n", &args()), @"
    error: COPY has no flag `--chwn`
     --> Dockerfile:2:6
      |
    2 | COPY --chwn=1 --bogus a b
      |      ^^^^^^^^
      |
      = help: did you mean `--chown`?

    error: COPY has no flag `--bogus`
     --> Dockerfile:2:15
      |
    2 | COPY --chwn=1 --bogus a b
      |               ^^^^^^^
      |
      = help: COPY knows `--chown`, `--chmod`, `--link`, `--exclude`, `--from`, `--parents`

    error: USER has no flag `--x`
     --> Dockerfile:3:6
      |
    3 | USER --x y
      |      ^^^
      |
      = help: USER takes no flags
    ");
}

#[test]
fn flags_need_their_values() {
    assert_snapshot!(errors("FROM scratch\nCOPY --chown --link=maybe --link --link a b\n", &args()), @"
    error: `--chown` needs a value
     --> Dockerfile:2:6
      |
    2 | COPY --chown --link=maybe --link --link a b
      |      ^^^^^^^
      |
      = help: write `--chown=…`, without white space around `=`

    error: `--link` is true or false
     --> Dockerfile:2:14
      |
    2 | COPY --chown --link=maybe --link --link a b
      |              ^^^^^^^^^^^^
      |
      = help: write `--link`, `--link=true` or `--link=false`

    error: `--link` is given twice
     --> Dockerfile:2:27
      |
    2 | COPY --chown --link=maybe --link --link a b
      |                           ^^^^^^
      |
      = help: keep one of them

    error: `--link` is given twice
     --> Dockerfile:2:34
      |
    2 | COPY --chown --link=maybe --link --link a b
      |                                  ^^^^^^
      |
      = help: keep one of them
    ");
}

#[test]
fn words_of_continued_lines_are_underlined() {
    assert_snapshot!(errors("FROM scratch\nCOPY --link \\\n  # why\n  --frm=x \\\n  a b\n", &args()), @r"
    error: COPY has no flag `--frm`
     --> Dockerfile:4:3
      |
    4 |   --frm=x \
      |   ^^^^^^^
      |
      = help: did you mean `--from`?
    ");
}

#[test]
fn from_takes_one_image() {
    assert_snapshot!(errors("FROM\nFROM a b\nFROM a AS 1x\nFROM a on b\n", &args()), @"
    error: FROM needs an image
     --> Dockerfile:1:1
      |
    1 | FROM
      | ^^^^
      |
      = help: write `FROM image` or `FROM image AS name`

    error: FROM takes one image, and a name after AS
     --> Dockerfile:2:8
      |
    2 | FROM a b
      |        ^ this is neither
      |
      = help: write `FROM image` or `FROM image AS name`

    error: `1x` cannot be the name of a stage
     --> Dockerfile:3:11
      |
    3 | FROM a AS 1x
      |           ^^
      |
      = help: a name begins with a letter; letters, digits, `-`, `_` and `.` follow

    error: FROM takes one image, and a name after AS
     --> Dockerfile:4:8
      |
    4 | FROM a on b
      |        ^^^^ this is neither
      |
      = help: write `FROM image` or `FROM image AS name`
    ");
}

#[test]
fn here_documents_must_end() {
    assert_snapshot!(errors("FROM scratch\nRUN <<EOF\necho\n EOF\n", &args()), @"
    error: the here-document `EOF` does not end
     --> Dockerfile:3:1
      |
    3 | / echo
    4 | |  EOF
      | |____^
      |
      = help: write `EOF` alone on a line where it ends
    ");
}

#[test]
fn arrays_hold_strings_only() {
    assert_snapshot!(errors("FROM scratch\nRUN [\"a\", 1]\nSHELL bash -c\n", &args()), @r#"
    error: the exec form is a JSON array of strings only
     --> Dockerfile:2:5
      |
    2 | RUN ["a", 1]
      |     ^^^^^^^^ an element is not a string
      |
      = help: put each element into double quotes, or drop the brackets to use the shell form

    error: SHELL takes a JSON array only
     --> Dockerfile:3:7
      |
    3 | SHELL bash -c
      |       ^^^^^^^
      |
      = help: write `SHELL ["bash", "-c"]`
    "#);
}

#[test]
fn files_need_a_stage() {
    assert_snapshot!(errors("", &args()), @"
    error: the Dockerfile is empty
     --> Dockerfile:1:1
      |
    1 |
      | ^
      |
      = help: begin with `FROM image`
    ");
    assert_snapshot!(errors("# only a comment\n", &args()), @"
    error: the Dockerfile has no instructions
     --> Dockerfile:1:1
      |
    1 | # only a comment
      | ^
      |
      = help: begin with `FROM image`
    ");
    assert_snapshot!(errors("ARG A=1\nRUN x\nFROM a\n", &args()), @"
    error: RUN comes before the first FROM
     --> Dockerfile:2:1
      |
    2 | RUN x
      | ^^^
      |
      = help: only ARG may stand before FROM; begin with `FROM image`
    ");
    assert_snapshot!(errors("ARG A=1\n", &args()), @"
    error: no stage is opened
     --> Dockerfile:1:1
      |
    1 | ARG A=1
      | ^^^^^^^
      |
      = help: add `FROM image` after this
    ");
}

#[test]
fn pairs_need_names_and_values() {
    assert_snapshot!(errors("FROM scratch\nENV A\nENV A=1 B\nLABEL =x\nARG =x\nARG\n", &args()), @"
    error: ENV needs a name and a value
     --> Dockerfile:2:5
      |
    2 | ENV A
      |     ^ there is no value
      |
      = help: write `ENV name=value`

    error: `=` is missing
     --> Dockerfile:3:9
      |
    3 | ENV A=1 B
      |         ^ expected `name=value`
      |
      = help: write `ENV name=value …`, and quote a value that holds white space

    error: a name is missing before `=`
     --> Dockerfile:4:8
      |
    4 | LABEL =x
      |        ^

    error: a name is missing before `=`
     --> Dockerfile:5:5
      |
    5 | ARG =x
      |     ^^

    error: ARG needs at least one argument
     --> Dockerfile:6:1
      |
    6 | ARG
      | ^^^
      |
      = help: for example `ARG VERSION=1.0`
    ");
}

#[test]
fn expansion_points_into_words() {
    assert_snapshot!(errors("FROM scratch\nENV A=x\"${B:?must be given}\"y\n", &args()), @r#"
    error: B: must be given
     --> Dockerfile:2:9
      |
    2 | ENV A=x"${B:?must be given}"y
      |         ^^^^^^^^^^^^^^^^^^^
      |
      = help: give it a value with ARG, ENV or --build-arg
    "#);
    assert_snapshot!(errors("FROM scratch\nCOPY a \\\n  /x/${B#\\q}\n", &args()), @r"
    error: `\q` is not an escape of a pattern
     --> Dockerfile:3:6
      |
    3 |   /x/${B#\q}
      |      ^^^^^^^
    ");
    assert_snapshot!(errors("ARG T\nFROM a:$T\n", &args()), @"
    error: `a:` is not the name of an image: a tag is made of letters, digits, `_`, `.` and `-`, and is at most 128 long
     --> Dockerfile:2:6
      |
    2 | FROM a:$T
      |      ^^^^ expanded from `a:$T`
    ");
    assert_snapshot!(errors("FROM scratch\nWORKDIR /a/${B\n", &args()), @"
    error: `}` is missing
     --> Dockerfile:2:12
      |
    2 | WORKDIR /a/${B
      |            ^^^
      |
      = help: a variable is written `${NAME}`, `${NAME:-default}` or `${NAME:+value}`
    ");
    assert_snapshot!(errors("ARG V\nFROM $V\n", &args()), @"
    error: the name of the base image is empty
     --> Dockerfile:2:6
      |
    2 | FROM $V
      |      ^^ after expansion
      |
      = help: give the ARG a default, or use `--build-arg`
    ");
}

#[test]
fn mounts_point_at_their_options() {
    let text = "FROM scratch\nRUN --mount=type=bnd,target=/x true\n";
    assert_snapshot!(errors(text, &args()), @"
    error: `bnd` is not a type of mounts
     --> Dockerfile:2:18
      |
    2 | RUN --mount=type=bnd,target=/x true
      |                  ^^^
      |
      = help: did you mean `bind`?
    ");
    assert_snapshot!(errors("FROM scratch\nRUN --mount=type=bind,from=$X,target=/x true\n", &args()), @"
    error: `from` of a mount cannot hold a variable
     --> Dockerfile:2:28
      |
    2 | RUN --mount=type=bind,from=$X,target=/x true
      |                            ^^
      |
      = help: name a stage: `FROM $IMAGE AS tools` before this one, and `from=tools` here
    ");
    assert_snapshot!(errors("FROM scratch\nRUN --mount=type=bind true\n", &args()), @"
    error: a mount cannot cover the root
     --> Dockerfile:2:13
      |
    2 | RUN --mount=type=bind true
      |             ^^^^^^^^^
      |
      = help: give it a `target` below the root, such as `target=/src`
    ");
    assert_snapshot!(errors("FROM scratch\nRUN --network=hst --security=none true\n", &args()), @"
    error: `--network` cannot be `hst`
     --> Dockerfile:2:15
      |
    2 | RUN --network=hst --security=none true
      |               ^^^
      |
      = help: did you mean `host`?

    error: `--security` cannot be `none`
     --> Dockerfile:2:30
      |
    2 | RUN --network=hst --security=none true
      |                              ^^^^
      |
      = help: expected `sandbox`, `insecure`
    ");
    assert_snapshot!(errors("FROM scratch\nRUN --device=gpu true\n", &args()), @"
    error: `--device` is not supported
     --> Dockerfile:2:14
      |
    2 | RUN --device=gpu true
      |              ^^^
      |
      = note: devices would be passed into the step from this machine, which dbuild does not do
    ");
}

#[test]
fn stages_are_guessed() {
    let text = "FROM scratch AS build\nFROM scratch AS test\n";
    assert_snapshot!(errors(text, &targeting("biuld")), @"
    error: there is no stage `biuld` to build
     |
     = help: did you mean `build`?
    ");
    assert_snapshot!(errors(text, &targeting("release")), @"
    error: there is no stage `release` to build
     |
     = help: the stages are `build`, `test`
    ");
    assert_snapshot!(errors("FROM scratch\nCOPY --from=3 a b\n", &args()), @"
    error: there is no stage number 3
     --> Dockerfile:2:13
      |
    2 | COPY --from=3 a b
      |             ^
      |
      = help: stages are counted from 0; the last one here is 0
    ");
    assert_snapshot!(errors("FROM Debian:12\n", &args()), @"
    error: `Debian:12` is not the name of an image: a repository is written in lower case
     --> Dockerfile:1:6
      |
    1 | FROM Debian:12
      |      ^^^^^^^^^
      |
      = help: did you mean `debian:12`?
    ");
}

#[test]
fn order_of_stages_is_told_with_both_places() {
    let forward = "FROM scratch AS a\nCOPY --from=b /x /\nFROM scratch AS b\nFROM a\n";
    assert_snapshot!(errors(forward, &args()), @"
    error: the stage `b` comes after `a`, which takes from it
     --> Dockerfile:2:13
      |
    2 | COPY --from=b /x /
      |             ^
    3 | FROM scratch AS b
      | ----------------- `b` begins here
      |
      = help: move `b` before `a`
    ");
    let circle = "FROM scratch AS a\nCOPY --from=b /x /\nFROM scratch AS b\nCOPY --from=a /x /\n";
    assert_snapshot!(errors(circle, &args()), @"
    error: the stages `a` and `b` need each other
     --> Dockerfile:2:13
      |
    2 | COPY --from=b /x /
      |             ^ `a` needs `b`
    3 |
    4 | COPY --from=a /x /
      |             - `b` needs `a`
      |
      = help: move what both need into a stage of its own, before them
    ");
    assert_snapshot!(errors("FROM scratch AS a\nCOPY --from=a /x /\n", &args()), @"
    error: the stage `a` takes from itself
     --> Dockerfile:2:13
      |
    1 | FROM scratch AS a
      | ----------------- the stage begins here
    2 | COPY --from=a /x /
      |             ^
      |
      = help: name an earlier stage, or split this one
    ");
}

#[test]
fn values_are_checked() {
    assert_snapshot!(errors("FROM scratch\nSTOPSIGNAL SIGTREM\n", &args()), @"
    error: `SIGTREM` is not a signal
     --> Dockerfile:2:12
      |
    2 | STOPSIGNAL SIGTREM
      |            ^^^^^^^
      |
      = help: did you mean `SIGTERM`?
    ");
    assert_snapshot!(errors("FROM scratch\nEXPOSE 80/ip\n", &args()), @"
    error: `80/ip` is not a port: the protocol is none of tcp, udp and sctp
     --> Dockerfile:2:8
      |
    2 | EXPOSE 80/ip
      |        ^^^^^
      |
      = help: write a port, a range or a protocol too: `8080`, `8000-8010`, `53/udp`
    ");
    assert_snapshot!(errors("FROM scratch\nCOPY --chmod=888 a b\n", &args()), @"
    error: `888` is not a mode
     --> Dockerfile:2:14
      |
    2 | COPY --chmod=888 a b
      |              ^^^
      |
      = help: write an octal number up to 7777, such as `0755`, or a symbolic mode such as `u+x`
    ");
    assert_snapshot!(errors("FROM scratch\nHEALTHCHECK --interval=5 --retries=x CMD a\n", &args()), @"
    error: `5` is not a duration
     --> Dockerfile:2:24
      |
    2 | HEALTHCHECK --interval=5 --retries=x CMD a
      |                        ^
      |
      = help: write a number and a unit, such as `30s`, `1m30s` or `500ms`

    error: `--retries` is a number, 0 or more
     --> Dockerfile:2:36
      |
    2 | HEALTHCHECK --interval=5 --retries=x CMD a
      |                                    ^
    ");
    assert_snapshot!(errors("FROM scratch\nCOPY https://h/a /\n", &args()), @"
    error: COPY cannot take from a URL
     --> Dockerfile:2:6
      |
    2 | COPY https://h/a /
      |      ^^^^^^^^^^^
      |
      = help: use ADD
    ");
    assert_snapshot!(errors("FROM scratch\nADD --checksum=sha256:1 a /\n", &args()), @"
    error: `--checksum` is for URLs and git repositories only
     --> Dockerfile:2:16
      |
    2 | ADD --checksum=sha256:1 a /
      |                ^^^^^^^^ - this is a path
    ");
    assert_snapshot!(errors("FROM --platform=$P scratch\n", &with_args(&[])), @"
    error: the platform is empty
     --> Dockerfile:1:17
      |
    1 | FROM --platform=$P scratch
      |                 ^^ after expansion
    ");
}

#[test]
fn triggers_of_bases_point_at_from() {
    assert_snapshot!(errors("FROM badtrigger\n", &args()), @"
    error: `RUM` is not an instruction
     --> Dockerfile:1:6
      |
    1 | FROM badtrigger
      |      ^^^^^^^^^^
      |
      = note: this is a trigger of ONBUILD: `RUM x`
      = help: did you mean `RUN`?
    ");
    assert_snapshot!(errors("FROM scratch AS a\nONBUILD ENV A=${B?}\nFROM a\n", &args()), @"
    error: B: it must be set
     --> Dockerfile:3:6
      |
    3 | FROM a
      |      ^
      |
      = note: this is a trigger of ONBUILD: `ENV A=${B?}`
      = help: give it a value with ARG, ENV or --build-arg
    ");
    assert_snapshot!(errors("FROM scratch\nONBUILD ONBUILD RUN x\nONBUILD ENV x\n", &args()), @"
    error: ONBUILD cannot trigger ONBUILD
     --> Dockerfile:2:9
      |
    2 | ONBUILD ONBUILD RUN x
      |         ^^^^^^^
      |
      = help: a trigger is any other instruction, such as RUN or COPY

    error: ENV needs a name and a value
     --> Dockerfile:3:13
      |
    3 | ONBUILD ENV x
      |             ^ there is no value
      |
      = help: write `ENV name=value`
    ");
}

#[test]
fn hostile_texts_are_shown_in_part() {
    let text = format!("FROM scratch\nRUN --{} x\n", "x\u{1b}[31m".repeat(5000));
    let shown = errors(&text, &args());
    assert!(shown.len() < 4000, "{}", shown.len());
    assert!(!shown.contains('\u{1b}'));
}
