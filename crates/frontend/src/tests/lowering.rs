//! What instructions become.

use insta::assert_snapshot;

use dbuild_plan::{CopySource, StepId, StepKind, Unpack};

use super::{args, build, built, config, history, steps, with_args};
use crate::{BuildArgs, NamedContext};

fn plan(text: &str) -> String {
    steps(&built(text, &args()).plan)
}

#[test]
fn a_small_project_becomes_a_plan() {
    let text = "FROM debian:12 AS build\n\
        ARG VERSION=1.2\n\
        WORKDIR /src\n\
        COPY Makefile src/ ./\n\
        RUN make VERSION=$VERSION\n\
        FROM scratch\n\
        COPY --from=build --chown=1000 /src/app bin/\n\
        ENTRYPOINT [\"/bin/app\"]\n";
    assert_snapshot!(plan(text), @r#"
    stage 0 build from debian:12 (0..4)
    stage 1 stage-1 from scratch (5..6)
    0 [0] FROM debian:12
       image docker.io/library/debian:12 linux/amd64
    1 [0] WORKDIR /src
       workdir on 0 /src user ""
    2 [0] load build context
       context None wanted Some(["Makefile", "src"])
    3 [0] COPY Makefile src/ ./
       copy on 1 2:"Makefile" 2:"src" to /src/ chown None chmod None link false parents false exclude [] unpack Some(false)
    4 [0] RUN make VERSION=$VERSION
       run on 3 ["/bin/sh", "-c", "make VERSION=$VERSION"] in /src user "" net Default Sandbox
         env [("PATH", "/bin"), ("VERSION", "1.2")] args ["VERSION"]
    5 [1] FROM scratch
       scratch
    6 [1] COPY --from=build --chown=1000 /src/app bin/
       copy on 5 4:"src/app" to /bin/ chown Some("1000") chmod None link false parents false exclude [] unpack Some(false)
    "#);
    assert_snapshot!(history(text, &args()), @r#"
    + COPY --chown=1000 /src/app bin/ # buildkit
    - ENTRYPOINT ["/bin/app"]
    "#);
}

#[test]
fn copies_become_steps() {
    let text = "FROM scratch\n\
        WORKDIR /w\n\
        COPY --link --chmod=u+x --exclude=*.md --exclude=$X ../a ./b/. c\n\
        COPY --parents ./x/./y/*.txt /z /dest/\n\
        COPY --link a .\n\
        COPY [\"a b\", \"c\"]\n\
        ADD --chmod=0600 a.tar /t\n\
        ADD --unpack=false b.tar /t/.\n\
        ADD --checksum=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 https://h/p/f.tgz /t/\n\
        ADD --unpack https://h/g.tgz /t/\n\
        ADD --keep-git-dir https://h/r.git#v1:sub /r\n\
        RUN --mount=target=/m true\n";
    assert_snapshot!(plan(text), @r#"
    stage 0 stage-0 from scratch (0..15)
    0 [0] FROM scratch
       scratch
    1 [0] WORKDIR /w
       workdir on 0 /w user ""
    2 [0] load build context
       context None wanted None
    3 [0] COPY --link --chmod=u+x --exclude=*.md --exclude=$X ../a ./b/. c
       copy on 1 2:"a" 2:"b" to /w/c chown None chmod Some("u+x") link false parents false exclude ["*.md", "$X"] unpack Some(false)
    4 [0] COPY --parents ./x/./y/*.txt /z /dest/
       copy on 3 2:"x/./y/*.txt" 2:"z" to /dest/ chown None chmod None link false parents true exclude [] unpack Some(false)
    5 [0] COPY --link a .
       copy on 4 2:"a" to /w/ chown None chmod None link true parents false exclude [] unpack Some(false)
    6 [0] COPY ["a b", "c"]
       copy on 5 2:"a b" to /w/c chown None chmod None link false parents false exclude [] unpack Some(false)
    7 [0] ADD --chmod=0600 a.tar /t
       copy on 6 2:"a.tar" to /t chown None chmod Some("0600") link false parents false exclude [] unpack None
    8 [0] ADD --unpack=false b.tar /t/.
       copy on 7 2:"b.tar" to /t/. chown None chmod None link false parents false exclude [] unpack Some(false)
    9 [0] fetch https://h/p/f.tgz
       FetchStep { url: "https://h/p/f.tgz", file_name: "f.tgz", checksum: Some(BlobDigest(e3b0c44298fc)) }
    10 [0] ADD --checksum=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 https://h/p/f.tgz /t/
       copy on 8 9:"f.tgz" to /t/ chown None chmod None link false parents false exclude [] unpack Some(false)
    11 [0] fetch https://h/g.tgz
       FetchStep { url: "https://h/g.tgz", file_name: "g.tgz", checksum: None }
    12 [0] ADD --unpack https://h/g.tgz /t/
       copy on 10 11:"g.tgz" to /t/ chown None chmod None link false parents false exclude [] unpack Some(true)
    13 [0] checkout https://h/r.git#v1:sub
       GitStep { remote: "https://h/r.git", reference: Some("v1"), commit: None, subdir: Some("sub"), keep_git_dir: false, checksum: None, fetch_by_commit: false, submodules: true, commit_time: false }
    14 [0] ADD --keep-git-dir https://h/r.git#v1:sub /r
       copy on 12 13:"" to /r chown None chmod None link false parents false exclude [] unpack Some(false)
    15 [0] RUN --mount=target=/m true
       run on 14 ["/bin/sh", "-c", "true"] in /w user "" net Default Sandbox
         env [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")] args []
         /m bind 2:/ writable false
    "#);
}

#[test]
fn the_context_is_read_as_far_as_it_is_needed() {
    assert_snapshot!(plan("FROM scratch\nCOPY a ./b/../c d/* /x/\nADD /e https://h/f /\n"), @r#"
    stage 0 stage-0 from scratch (0..4)
    0 [0] FROM scratch
       scratch
    1 [0] load build context
       context None wanted Some(["a", "c", "d/*", "e"])
    2 [0] COPY a ./b/../c d/* /x/
       copy on 0 1:"a" 1:"c" 1:"d/*" to /x/ chown None chmod None link false parents false exclude [] unpack Some(false)
    3 [0] fetch https://h/f
       FetchStep { url: "https://h/f", file_name: "f", checksum: None }
    4 [0] ADD /e https://h/f /
       copy on 2 1:"e" 3:"f" to / chown None chmod None link false parents false exclude [] unpack None
    "#);
    assert_snapshot!(plan("FROM scratch\nCOPY a /x\nCOPY . /y\n"), @r#"
    stage 0 stage-0 from scratch (0..3)
    0 [0] FROM scratch
       scratch
    1 [0] load build context
       context None wanted None
    2 [0] COPY a /x
       copy on 0 1:"a" to /x chown None chmod None link false parents false exclude [] unpack Some(false)
    3 [0] COPY . /y
       copy on 2 1:"" to /y chown None chmod None link false parents false exclude [] unpack Some(false)
    "#);
}

#[test]
fn each_source_says_what_becomes_of_an_archive() {
    let unpacks = |instruction: &str| {
        let plan = built(&format!("FROM scratch\n{instruction}\n"), &args()).plan;
        let copy = plan.steps().find_map(|(_, step)| match &step.kind {
            StepKind::Copy(copy) => Some(copy.clone()),
            _ => None,
        });
        let sources = copy.unwrap().sources.into_iter().map(|source| match source {
            CopySource::Path { unpack, .. } => unpack,
            CopySource::Inline(_) => panic!("a file of the Dockerfile is no archive"),
        });
        sources.collect::<Vec<_>>()
    };
    assert_eq!(unpacks("ADD a.tar https://h/b.tar /"), [Unpack::ByDefault, Unpack::Never]);
    assert_eq!(unpacks("ADD --unpack a.tar https://h/b.tar /"), [Unpack::Always, Unpack::Always]);
    assert_eq!(unpacks("ADD --unpack=false a.tar https://h/b.tar /"), [Unpack::Never, Unpack::Never]);
    assert_eq!(unpacks("COPY a.tar /"), [Unpack::Never]);
}

#[test]
fn here_documents_become_files_and_scripts() {
    let text = "FROM scratch\n\
        ARG NAME=world\n\
        COPY <<one <<-\"two\" a /d/\n\
        hello $NAME \\$x 'q'\n\
        one\n\
        \t\tkeep $NAME\n\
        \ttwo\n\
        RUN <<EOF\n\
        set -e\n\
        EOF\n\
        RUN <<-EOF\n\
        \t#!/usr/bin/env python3\n\
        \tprint()\n\
        EOF\n\
        RUN cat <<A 3<<B\n\
        a\n\
        A\n\
        b\n\
        B\n";
    assert_snapshot!(plan(text), @r#"
    stage 0 stage-0 from scratch (0..5)
    0 [0] FROM scratch
       scratch
    1 [0] load build context
       context None wanted Some(["a"])
    2 [0] COPY <<one <<-"two" a /d/ (hello $NAME \$x 'q')
       copy on 0 1:"a" <<one "hello world $x 'q'\n" <<two "keep $NAME\n" to /d/ chown None chmod None link false parents false exclude [] unpack Some(false)
    3 [0] RUN <<EOF (set -e)
       run on 2 ["/bin/sh", "-c", "set -e\n"] in / user "" net Default Sandbox
         env [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("NAME", "world")] args ["NAME"]
    4 [0] RUN <<-EOF (#!/usr/bin/env python3...)
       run on 3 ["/bin/sh", "-c", "/dev/pipes/EOF"] in / user "" net Default Sandbox
         env [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("NAME", "world")] args ["NAME"]
    5 [0] RUN cat <<A 3<<B (a)
       run on 4 ["/bin/sh", "-c", "cat <<A 3<<B\na\nA\nb\nB"] in / user "" net Default Sandbox
         env [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("NAME", "world")] args ["NAME"]
    "#);
    assert_snapshot!(history(text, &args()), @"
    - ARG NAME=world
    + COPY a <<one <<two /d/ # buildkit
    + RUN |1 NAME=world /bin/sh -c set -e
     # buildkit
    + RUN |1 NAME=world /bin/sh -c /dev/pipes/EOF # buildkit
    + RUN |1 NAME=world /bin/sh -c cat <<A 3<<B
    a
    A
    b
    B # buildkit
    ");
}

#[test]
fn runs_carry_their_environment() {
    let text = "FROM python:3\n\
        ARG A=1 B\n\
        ENV C=$A D=2\n\
        ARG D=3\n\
        ENV LANG=x\n\
        SHELL [\"/bin/bash\", \"-c\"]\n\
        USER 7\n\
        RUN echo  $A \\\n    $B\n\
        RUN [\"a\", \"b c\"]\n\
        RUN --network=none --security=insecure x\n";
    assert_snapshot!(plan(text), @r#"
    stage 0 stage-0 from python:3 (0..3)
    0 [0] FROM python:3
       image docker.io/library/python:3 linux/amd64
    1 [0] RUN echo $A $B
       run on 0 ["/bin/bash", "-c", "echo  $A     $B"] in /srv user "7" net Default Sandbox
         env [("PATH", "/bin"), ("A", "1"), ("C", "1"), ("D", "3"), ("LANG", "x")] args ["A", "D"]
    2 [0] RUN ["a", "b c"]
       run on 1 ["a", "b c"] in /srv user "7" net Default Sandbox
         env [("PATH", "/bin"), ("A", "1"), ("C", "1"), ("D", "3"), ("LANG", "x")] args ["A", "D"]
    3 [0] RUN --network=none --security=insecure x
       run on 2 ["/bin/bash", "-c", "x"] in /srv user "7" net None Insecure
         env [("PATH", "/bin"), ("A", "1"), ("C", "1"), ("D", "3"), ("LANG", "x")] args ["A", "D"]
    "#);
    assert_snapshot!(history(text, &with_args(&[("B", "given")])), @"
    + base
    - ARG A=1 B=given
    - ENV C=1 D=2
    - ARG D=3
    - ENV LANG=x
    - SHELL [/bin/bash -c]
    - USER 7
    + RUN |3 A=1 B=given D=3 /bin/bash -c echo  $A     $B # buildkit
    + RUN |3 A=1 B=given D=3 a b c # buildkit
    + RUN |3 A=1 B=given D=3 /bin/bash -c x # buildkit
    ");
}

#[test]
fn mounts_are_lowered() {
    let text = "FROM debian AS tools\n\
        FROM scratch\n\
        WORKDIR /w\n\
        ARG ID=k\n\
        RUN --mount=type=bind,from=tools,source=/usr,target=usr --mount=src=a,dst=/a,rw \\\n\
            --mount=type=cache,target=/root/.cache,id=$ID,sharing=locked,uid=5 --mount=type=cache,target=c,from=tools,src=x \\\n\
            --mount=type=tmpfs,target=/tmp,size=1m --mount=type=secret,id=a/tok --mount=type=secret,target=/s/key,mode=0444 \\\n\
            --mount=type=secret,id=t,env=TOKEN --mount=type=ssh --mount=type=bind,from=busybox,dst=/b true\n";
    assert_snapshot!(plan(text), @r#"
    stage 0 tools from debian (0..0)
    stage 1 stage-1 from scratch (1..5)
    0 [0] FROM debian
       image docker.io/library/debian:latest linux/amd64
    1 [1] FROM scratch
       scratch
    2 [1] WORKDIR /w
       workdir on 1 /w user ""
    3 [1] load build context
       context None wanted Some(["a"])
    4 [1] load image busybox
       image docker.io/library/busybox:latest linux/amd64
    5 [1] RUN --mount=type=bind,from=tools,source=/usr,target=usr --mount=src=a,dst=/a,rw --mount=type=cache,target=/root/.cache,id=$ID,sharing=locked,uid=5 --mount=type=cache,target=c,from=tools,src=x --mount=type=tmpfs,target=/tmp,size=1m --mount=type=secret,id=a/tok --mount=type=secret,target=/s/key,mode=0444 --mount=type=secret,id=t,env=TOKEN --mount=type=ssh --mount=type=bind,from=busybox,dst=/b true
       run on 2 ["/bin/sh", "-c", "true"] in /w user "" net Default Sandbox
         env [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("ID", "k"), ("SSH_AUTH_SOCK", "/run/buildkit/ssh_agent.0")] args ["ID"]
         /w/usr bind 0:/usr writable false
         /a bind 3:/a writable true
         /root/.cache Cache { id: "k", sharing: Locked, from: None, source: "/", readonly: false, mode: 493, uid: 5, gid: 0 }
         /w/c Cache { id: "c", sharing: Shared, from: Some(StepId(0)), source: "/x", readonly: false, mode: 493, uid: 0, gid: 0 }
         /tmp Tmpfs { size: Some(1048576) }
         /run/secrets/tok Secret { id: "a/tok", env: None, required: false, mode: 256, uid: 0, gid: 0 }
         /s/key Secret { id: "key", env: None, required: false, mode: 292, uid: 0, gid: 0 }
          Secret { id: "t", env: Some("TOKEN"), required: false, mode: 256, uid: 0, gid: 0 }
         /run/buildkit/ssh_agent.0 Ssh { id: "default", required: false, mode: 384, uid: 0, gid: 0 }
         /b bind 4:/ writable false
    "#);
}

#[test]
fn workdirs_are_made() {
    let text =
        "FROM scratch\nWORKDIR /\nWORKDIR /a//x/../y/\nUSER app\nWORKDIR b c/..\nWORKDIR $NOT\nCOPY a .\n";
    assert_snapshot!(plan(text), @r#"
    stage 0 stage-0 from scratch (0..5)
    0 [0] FROM scratch
       scratch
    1 [0] WORKDIR /a//x/../y/
       workdir on 0 /a/y user ""
    2 [0] WORKDIR b c/..
       workdir on 1 /a/y user "app"
    3 [0] WORKDIR $NOT
       workdir on 2 /a/y user "app"
    4 [0] load build context
       context None wanted Some(["a"])
    5 [0] COPY a .
       copy on 3 4:"a" to /a/y/ chown None chmod None link false parents false exclude [] unpack Some(false)
    "#);
    assert_snapshot!(history(text, &args()), @"
    - WORKDIR /
    + WORKDIR /a//x/../y/
    - USER app
    + WORKDIR /a/y
    + WORKDIR /a/y
    + COPY a . # buildkit
    ");
}

#[test]
fn the_config_is_written_as_buildkit_writes_it() {
    let text = "FROM python:3\n\
        LABEL a=1 \"b c\"='d e' a=2\n\
        ENV LANG=de PATH=$PATH:/x\n\
        EXPOSE 8000-8001 53/UDP $P\n\
        VOLUME [\"/v\", \"/w x\"]\n\
        VOLUME /y /z\n\
        STOPSIGNAL SIGINT\n\
        HEALTHCHECK --interval=1m30s --retries=3 CMD curl  -f $X\n\
        ONBUILD RUN <<E\n\
        x\n\
        E\n\
        USER a b\n\
        SHELL [\"/bin/bash\", \"-c\"]\n\
        CMD echo \"hi\"\n";
    let lowered = built(text, &with_args(&[("P", "1")]));
    let config = &lowered.plan.stages()[0].config;
    let json = serde_json::to_string_pretty(config).unwrap();
    assert_snapshot!(json, @r#"
    {
      "User": "a b",
      "ExposedPorts": {
        "53/udp": {},
        "8000/tcp": {},
        "8001/tcp": {}
      },
      "Env": [
        "PATH=/bin:/x",
        "LANG=de"
      ],
      "Cmd": [
        "/bin/bash",
        "-c",
        "echo \"hi\""
      ],
      "Volumes": {
        "/v": {},
        "/w x": {},
        "/y": {},
        "/z": {}
      },
      "WorkingDir": "/srv",
      "Labels": {
        "a": "2",
        "b c": "d e"
      },
      "StopSignal": "SIGINT",
      "Healthcheck": {
        "Test": [
          "CMD-SHELL",
          "curl  -f $X"
        ],
        "Interval": 90000000000,
        "Retries": 3
      },
      "Shell": [
        "/bin/bash",
        "-c"
      ],
      "OnBuild": [
        "RUN <<E\nx\nE"
      ],
      "ArgsEscaped": true
    }
    "#);
    assert_snapshot!(history(text, &args()), @r#"
    + base
    - LABEL a=1 b c=d e a=2
    - ENV LANG=de PATH=/bin:/x
    - EXPOSE [53/udp 8000/tcp 8001/tcp]
    - VOLUME [/v /w x]
    - VOLUME [/y /z]
    - STOPSIGNAL SIGINT
    - HEALTHCHECK {Test:[CMD-SHELL curl  -f $X] Interval:1m30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:3}
    - USER a b
    - SHELL [/bin/bash -c]
    - CMD ["/bin/bash" "-c" "echo \"hi\""]
    "#);
}

#[test]
fn entrypoint_clears_what_cmd_is_inherited() {
    assert_eq!(config("FROM python:3\n").cmd, Some(vec!["python3".to_owned()]));
    assert_eq!(config("FROM python:3\nENTRYPOINT [\"x\"]\n").cmd, None);
    assert_eq!(config("FROM python:3\nCMD [\"a\"]\nENTRYPOINT [\"x\"]\n").cmd, Some(vec!["a".to_owned()]));
    assert_eq!(config("FROM scratch AS a\nCMD [\"a\"]\nFROM a\nENTRYPOINT [\"x\"]\n").cmd, None);
    assert_eq!(config("FROM python:3\nCMD []\n").cmd, None);
    assert_eq!(config("FROM python:3\nHEALTHCHECK NONE\n").healthcheck.unwrap().test, ["NONE"]);
}

#[test]
fn path_is_always_there() {
    let default = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(config("FROM scratch\n").env, [default]);
    assert_eq!(config("FROM nopath\nENV A=1\n").env, [default, "A=1"]);
    assert_eq!(config("FROM debian\n").env, ["PATH=/bin"]);
    assert_eq!(config("FROM scratch\n").working_dir, "/");
    assert_eq!(config("FROM debian\n").working_dir, "");
}

#[test]
fn args_have_scopes() {
    let labels = |text: &str, args: &BuildArgs| {
        let lowered = built(text, args);
        let target = lowered.plan.targets()[0].stage;
        lowered.plan.stage(target).config.labels.get("v").cloned().unwrap_or_default()
    };
    let given = with_args(&[("A", "given"), ("TARGETARCH", "odd")]);
    for (text, plain, with_given) in [
        ("ARG A=1\nFROM scratch\nLABEL v=$A\n", "", ""),
        ("ARG A=1\nFROM scratch\nARG A\nLABEL v=$A\n", "1", "given"),
        ("ARG A=1\nFROM scratch\nARG A=2\nLABEL v=$A\n", "2", "given"),
        ("FROM scratch\nARG A\nLABEL v=x$A\n", "x", "xgiven"),
        ("FROM scratch\nARG A=1 B=$A\nLABEL v=$B\n", "1", "given"),
        ("FROM scratch\nENV A=env\nARG A=1\nLABEL v=$A\n", "1", "given"),
        ("FROM scratch\nARG A=1\nENV A=env\nLABEL v=$A\n", "env", "env"),
        ("FROM scratch AS b\nARG A=1\nFROM b\nLABEL v=$A\n", "1", "given"),
        ("FROM scratch AS b\nENV A=e\nARG A=1\nFROM b\nLABEL v=$A\n", "e", "e"),
        (
            "FROM scratch\nARG TARGETARCH TARGETPLATFORM\nLABEL v=$TARGETARCH-$TARGETPLATFORM\n",
            "amd64-linux/amd64",
            "odd-linux/amd64",
        ),
        ("FROM scratch\nLABEL v=x$TARGETARCH\n", "x", "x"),
        ("FROM scratch AS last\nARG TARGETSTAGE\nLABEL v=$TARGETSTAGE\n", "last", "last"),
        ("FROM scratch\nENV A=1 B=$A\nLABEL v=x$B\n", "x", "x"),
        ("ARG A=1\nARG B=${A}2\nFROM scratch\nARG B\nLABEL v=$B\n", "12", "given2"),
    ] {
        assert_eq!(labels(text, &args()), plain, "{text}");
        assert_eq!(labels(text, &given), with_given, "{text} with arguments");
    }
}

#[test]
fn env_keeps_its_place_in_the_config() {
    let found = config("FROM debian\nENV A=1 B=2\nENV A=3\nARG B=9\nENV PATH=/x\n");
    assert_eq!(found.env, ["PATH=/x", "A=3", "B=2"]);
}

#[test]
fn proxies_need_no_declaration() {
    let text = "FROM scratch\nRUN x\n";
    let lowered = built(text, &with_args(&[("http_proxy", "p")]));
    let StepKind::Run(run) = &lowered.plan.step(StepId(1)).kind else { panic!("{:?}", lowered.plan) };
    let pair = |name: &str| (name.to_owned(), "p".to_owned());
    assert_eq!(run.proxies, [pair("HTTP_PROXY"), pair("http_proxy")]);
    assert!(run.env.iter().all(|(_, value)| value != "p"));
    assert!(!history(text, &with_args(&[("http_proxy", "p")])).contains("proxy"));
}

#[test]
fn several_platforms_become_several_targets() {
    let mut args = args();
    args.platforms = ["linux/amd64", "linux/arm64"].iter().map(|p| p.parse().unwrap()).collect();
    let text = "FROM --platform=$BUILDPLATFORM debian AS b\nARG TARGETARCH\nRUN x $TARGETARCH\n\
        FROM debian\nCOPY --from=b a b\nCOPY c d\n";
    let (lowered, asked) = build(text, &args).unwrap();
    assert_eq!(
        asked,
        ["docker.io/library/debian:latest linux/amd64", "docker.io/library/debian:latest linux/arm64"]
    );
    assert_snapshot!(steps(&lowered.plan), @r#"
    stage 0 b from debian (0..1)
    stage 1 stage-1 from debian (2..5)
    stage 0 b from debian (6..7)
    stage 1 stage-1 from debian (8..10)
    0 [0] FROM debian
       image docker.io/library/debian:latest linux/amd64
    1 [0] RUN x $TARGETARCH
       run on 0 ["/bin/sh", "-c", "x $TARGETARCH"] in / user "" net Default Sandbox
         env [("PATH", "/bin"), ("TARGETARCH", "amd64")] args ["TARGETARCH"]
    2 [1] FROM debian
       image docker.io/library/debian:latest linux/amd64
    3 [1] COPY --from=b a b
       copy on 2 1:"a" to /b chown None chmod None link false parents false exclude [] unpack Some(false)
    4 [1] load build context
       context None wanted Some(["c"])
    5 [1] COPY c d
       copy on 3 4:"c" to /d chown None chmod None link false parents false exclude [] unpack Some(false)
    6 [2] FROM debian
       image docker.io/library/debian:latest linux/amd64
    7 [2] RUN x $TARGETARCH
       run on 6 ["/bin/sh", "-c", "x $TARGETARCH"] in / user "" net Default Sandbox
         env [("PATH", "/bin"), ("TARGETARCH", "arm64")] args ["TARGETARCH"]
    8 [3] FROM debian
       image docker.io/library/debian:latest linux/arm64
    9 [3] COPY --from=b a b
       copy on 8 7:"a" to /b chown None chmod None link false parents false exclude [] unpack Some(false)
    10 [3] COPY c d
       copy on 9 4:"c" to /d chown None chmod None link false parents false exclude [] unpack Some(false)
    "#);
    let targets: Vec<_> =
        lowered.plan.targets().iter().map(|t| (t.platform.to_string(), t.stage.0)).collect();
    assert_eq!(targets, [("linux/amd64".to_owned(), 1), ("linux/arm64".to_owned(), 3)]);
}

#[test]
fn named_contexts_stand_in() {
    let mut args = args();
    args.contexts.insert("src".to_owned(), NamedContext::Directory);
    args.contexts.insert("alpine".to_owned(), NamedContext::Image("debian:12".to_owned()));
    args.contexts.insert("dep".to_owned(), NamedContext::Image("oci-layout://x".to_owned()));
    args.contexts.insert("repo".to_owned(), NamedContext::Git("https://h/r.git#main".to_owned()));
    let text = "FROM scratch AS dep\nRUN never\nFROM alpine:latest\nCOPY --from=src a b\nCOPY --from=dep c d\n\
        COPY --from=repo e f\nRUN --mount=from=src,source=x,target=/x true\n";
    let (lowered, asked) = build(text, &args).unwrap();
    assert_eq!(asked, ["oci-layout://x linux/amd64", "docker.io/library/debian:12 linux/amd64"]);
    assert_snapshot!(steps(&lowered.plan), @r#"
    stage 0 dep from scratch (0..0)
    stage 1 stage-1 from alpine:latest (1..7)
    0 [0] FROM dep
       image oci-layout://x linux/amd64
    1 [1] FROM alpine:latest
       image docker.io/library/debian:12 linux/amd64
    2 [1] load context src
       context Some("src") wanted Some(["a", "x"])
    3 [1] COPY --from=src a b
       copy on 1 2:"a" to /b chown None chmod None link false parents false exclude [] unpack Some(false)
    4 [1] COPY --from=dep c d
       copy on 3 0:"c" to /d chown None chmod None link false parents false exclude [] unpack Some(false)
    5 [1] checkout https://h/r.git#main
       GitStep { remote: "https://h/r.git", reference: Some("main"), commit: None, subdir: None, keep_git_dir: false, checksum: None, fetch_by_commit: false, submodules: true, commit_time: false }
    6 [1] COPY --from=repo e f
       copy on 4 5:"e" to /f chown None chmod None link false parents false exclude [] unpack Some(false)
    7 [1] RUN --mount=from=src,source=x,target=/x true
       run on 6 ["/bin/sh", "-c", "true"] in / user "" net Default Sandbox
         env [("PATH", "/bin")] args []
         /x bind 2:/x writable false
    "#);
}

#[test]
fn steps_know_their_lines() {
    let text = "FROM scratch\n\nCOPY a \\\n  # c\n  /b\nRUN <<E\nx\nE\n";
    let lowered = built(text, &args());
    let source = crate::Source::new("Dockerfile", text);
    let lines: Vec<_> = lowered.sources.iter().map(|place| place.lines(&source)).collect();
    assert_eq!(lines, [(1, 1), (3, 5), (3, 5), (6, 8)]);
    assert_eq!(lowered.sources.len(), lowered.plan.len());
}

#[test]
fn labels_of_the_command_line_are_the_targets_alone() {
    let mut args = args();
    args.labels = vec![("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())];
    let lowered = built("FROM scratch AS b\nLABEL a=0\nFROM b\n", &args);
    assert_eq!(lowered.plan.stages()[0].config.labels["a"], "0");
    assert_eq!(lowered.plan.stages()[1].config.labels["a"], "2");
}
