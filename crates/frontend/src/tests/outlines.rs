//! What can be built, and what it takes. The files are those of BuildKit's tests.

use super::{args, base_image, with_args};
use crate::{BuildArgs, Outline, Resolved, Source, needed, outline, parse, targets};

fn outline_of(text: &str, args: &BuildArgs) -> Outline {
    let ast = parse(&Source::new("Dockerfile", text)).into_result().unwrap();
    let mut resolved = Resolved::default();
    for request in needed(&ast, args, &resolved).unwrap() {
        resolved.insert(&request, base_image(&request));
    }
    outline(&ast, args, &resolved).unwrap()
}

fn shown(text: &str, outline: &Outline) -> Vec<String> {
    let source = Source::new("", text);
    let args = outline.args.iter().map(|arg| {
        let line = source.line_of(arg.span.start);
        let (value, description) =
            (arg.value.as_deref().unwrap_or("-"), arg.description.as_deref().unwrap_or("-"));
        format!("{line} {}={value} {description}", arg.name)
    });
    let mounts = outline
        .secrets
        .iter()
        .chain(&outline.ssh)
        .map(|mount| format!("{} {} {}", source.line_of(mount.span.start), mount.id, mount.required));
    args.chain(mounts).collect()
}

#[test]
fn arguments_are_those_that_the_target_takes() {
    let text = "
ARG inherited=box
ARG inherited2=box2
ARG unused=abc${inherited2}
# sfx is a suffix
ARG sfx=\"usy${inherited}\"

FROM b${sfx} AS first
# this is not assigned to anything
ARG FOO=123
# BAR is a number
ARG BAR=456
RUN true

FROM alpine${unused} AS second
ARG BAZ
RUN true

FROM scratch AS third
ARG ABC=a
# check=skip=all
ARG password
# alternate_password will show up in the outline
# check=skip=all
ARG alternate_password

# target defines build target
FROM third AS target
COPY --from=first /etc/passwd /

FROM second
";
    let args = BuildArgs { target: Some("target".to_owned()), ..with_args(&[("BAR", "678")]) };
    let found = outline_of(text, &args);
    assert_eq!(
        (found.name.as_deref(), found.description.as_deref()),
        (Some("target"), Some("defines build target"))
    );
    assert_eq!(
        shown(text, &found),
        [
            "2 inherited=box -",
            "6 sfx=usybox is a suffix",
            "10 FOO=123 -",
            "12 BAR=678 is a number",
            "20 ABC=a -",
            "22 password=- -",
            "25 alternate_password=- will show up in the outline",
        ]
    );
}

#[test]
fn arguments_are_followed_through_others() {
    let text = "
ARG FOO=123
ARG ABC=abc
ARG DEF=def
ARG FOO=${FOO}${ABC}
ARG BAR=${FOO}456
ARG FOO=${FOO}456${BAR}
FROM scratch
ARG FOO
ARG INFOO=123
ARG INBAR=${INFOO}456
ARG INFOO=${INFOO}456${INBAR}
";
    assert_eq!(
        shown(text, &outline_of(text, &args())),
        [
            "3 ABC=abc -",
            "6 BAR=123abc456 -",
            "7 FOO=123abc456123abc456 -",
            "11 INBAR=123456 -",
            "12 INFOO=123456123456 -",
        ]
    );
}

#[test]
fn secrets_and_agents_are_those_of_the_stages_that_are_needed() {
    let text = "
FROM busybox AS first
RUN --mount=type=secret,target=/etc/passwd,required=true --mount=type=ssh true

FROM alpine AS second
RUN --mount=type=secret,id=unused --mount=type=ssh,id=ssh2 true

FROM scratch AS third
ARG BAR
RUN --mount=type=secret,id=second${BAR} true

FROM third AS target
COPY --from=first /foo /
RUN --mount=type=ssh,id=ssh3,required true

FROM second
";
    let args = BuildArgs { target: Some("target".to_owned()), ..with_args(&[("BAR", "678")]) };
    let found = shown(text, &outline_of(text, &args));
    assert_eq!(
        found,
        ["9 BAR=678 -", "3 passwd true", "10 second678 false", "3 default false", "14 ssh3 true"]
    );
}

#[test]
fn targets_are_listed() {
    let text = "
# build defines stage for compiling the binary
FROM --platform=$BUILDPLATFORM alpine AS build
FROM busybox AS Second
FROM $X
# binary returns the compiled binary
FROM second AS binary
";
    let ast = parse(&Source::new("Dockerfile", text)).ast;
    let found: Vec<String> = targets(&ast)
        .iter()
        .map(|t| format!("{:?} {} {:?} {} {:?}", t.name, t.default, t.description, t.base, t.platform))
        .collect();
    assert_eq!(
        found,
        [
            "Some(\"build\") false Some(\"defines stage for compiling the binary\") alpine Some(\"$BUILDPLATFORM\")",
            "Some(\"second\") false None busybox None",
            "None false None $X None",
            "Some(\"binary\") true Some(\"returns the compiled binary\") second None",
        ]
    );
}
