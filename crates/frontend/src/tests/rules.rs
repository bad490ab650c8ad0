//! Each rule, where it speaks and where it must be silent. What each means is as in BuildKit's own
//! tests of it.

use std::sync::Arc;

use super::checking::findings;
use super::{args, with_args};
use crate::{BuildArgs, Ignored, RULES};

/// A rule, files in which it finds something (with the lines), and files in which nothing is found
/// at all.
struct Case {
    rule: &'static str,
    found: &'static [(&'static str, &'static [u32])],
    silent: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        rule: "StageNameCasing",
        found: &[("FROM scratch AS BadName\n", &[1]), ("FROM scratch AS a\nFROM a AS b_C\n", &[2])],
        silent: &["FROM scratch AS base-1\n", "# check=skip=StageNameCasing\nFROM scratch AS Bad\n"],
    },
    Case {
        rule: "FromAsCasing",
        found: &[
            ("FROM scratch as base\n", &[1]),
            ("from scratch AS base\nfrom scratch as base2\n", &[1]),
            ("FROM scratch aS base\n", &[1]),
        ],
        silent: &["FROM scratch AS base\n", "from scratch as base\n", "FROM scratch\n"],
    },
    Case {
        rule: "NoEmptyContinuation",
        found: &[("FROM scratch\nCOPY a \\\n\n.\n", &[3]), ("FROM scratch\nCOPY a \\\n \n\t\n.\n", &[3])],
        silent: &[
            "FROM scratch\nCOPY a \\\n.\n",
            "FROM scratch\nCOPY a \\\n# why\n.\n",
            "FROM scratch\nCOPY <<E /\na \\\n\nb\nE\n",
        ],
    },
    Case {
        rule: "ConsistentInstructionCasing",
        found: &[
            ("From scratch\nUSER a\n", &[1]),
            ("FROM scratch\ncopy a /a\nCOPY b /b\n", &[2]),
            ("from scratch\nCOPY a /a\ncopy b /b\n", &[2]),
            ("from scratch\nCOPY a /a\nCOPY b /b\n", &[1]),
            ("frOM scratch as base\nfrom scratch as base2\n", &[1]),
        ],
        silent: &[
            "from scratch\ncopy a /a\n",
            "FROM scratch\nCOPY a /a\n",
            "FROM debian\nRUN <<E\nenv\nE\n",
            "arg a\nFROM scratch\nUSER b\n",
            "FROM scratch\nONBUILD copy a /\n",
        ],
    },
    Case {
        rule: "DuplicateStageName",
        found: &[("FROM scratch AS b\nFROM scratch AS b\n", &[2])],
        silent: &["FROM scratch AS b1\nFROM scratch AS b2\n", "FROM scratch\nFROM scratch\n"],
    },
    Case {
        rule: "ReservedStageName",
        found: &[("FROM scratch AS scratch\nFROM scratch AS context\n", &[1, 2])],
        silent: &["FROM scratch\nFROM scratch AS a\n", "FROM scratch AS contexts\n"],
    },
    Case {
        rule: "JSONArgsRecommended",
        found: &[("FROM scratch\nCMD mycommand\n", &[2]), ("FROM scratch\nENTRYPOINT mycommand\n", &[2])],
        silent: &[
            "FROM scratch\nCMD [\"a\"]\nENTRYPOINT [\"b\"]\n",
            "FROM scratch\nSHELL [\"/sh\"]\nCMD mycommand\n",
            "FROM scratch AS base\nSHELL [\"/sh\"]\nFROM base\nENTRYPOINT mycommand\n",
            "FROM scratch\n# check=skip=JSONArgsRecommended\nCMD mycommand\n",
            "FROM scratch\nHEALTHCHECK CMD mycommand\n",
        ],
    },
    Case {
        rule: "MaintainerDeprecated",
        found: &[("FROM scratch\nMAINTAINER me@example.org\n", &[2])],
        silent: &[
            "FROM scratch\nLABEL org.opencontainers.image.authors=me\n",
            "FROM scratch\n# check=skip=MaintainerDeprecated\nMAINTAINER me\n",
        ],
    },
    Case {
        rule: "UndefinedArgInFrom",
        found: &[
            ("ARG tag=latest\nFROM busybox:${tag}${version} AS b\n", &[2]),
            ("FROM debian:12$a$a\n", &[1]),
        ],
        silent: &[
            "ARG base=scratch\nFROM $base\n",
            "ARG BUILDPLATFORM=linux/amd64\nFROM --platform=$BUILDPLATFORM scratch\n",
            "FROM --platform=$BUILDPLATFORM scratch\n",
            "ARG DEBUG\nFROM scratch${DEBUG}\n",
            "ARG DEBUG\nFROM scra${DEBUG:-tch}\n",
            "ARG DEBUG=\"\"\nFROM scratch${DEBUG-@bogus}\n",
        ],
    },
    Case {
        rule: "WorkdirRelativePath",
        found: &[("FROM scratch\nWORKDIR app/\n", &[2]), ("FROM debian\nWORKDIR a\nWORKDIR b\n", &[2])],
        silent: &[
            "FROM scratch AS a\nWORKDIR /app\nFROM a AS b\nWORKDIR sub/\n",
            "FROM scratch\n# check=skip=WorkdirRelativePath\nWORKDIR app/\n",
            "FROM scratch\nARG D=/x\nWORKDIR $D\n",
        ],
    },
    Case {
        rule: "UndefinedVar",
        found: &[
            ("FROM debian\nCOPY $foo .\nARG foo=bar\nRUN echo $foo\n", &[2]),
            ("FROM debian\nENV PATH=$PAHT:/tmp/bin\n", &[2]),
            ("FROM scratch AS a\nARG x\nFROM scratch\nCOPY $x /\n", &[4]),
            ("FROM scratch\nCOPY $x$x /\n", &[2]),
            ("FROM scratch\nUSER ${u}\nWORKDIR /$w\nVOLUME $v/a\n", &[2, 3, 4]),
        ],
        silent: &[
            "FROM scratch\nARG foo\nCOPY Dockerfile${foo} .\n",
            "FROM debian AS base\nARG foo=Dockerfile\nFROM base\nCOPY $foo .\n",
            "FROM debian\nRUN echo $HOMEE\n",
            "FROM debian\nENV A=$PATH\n",
            "FROM debian\nCMD [\"$NOPE\"]\n",
            "FROM scratch\nCOPY <<'E' /\n$x\nE\n",
            "FROM scratch\nLABEL a='$x' b=\\$x\n",
        ],
    },
    Case {
        rule: "MultipleInstructionsDisallowed",
        found: &[
            (
                "FROM scratch\nENTRYPOINT [\"a\"]\nENTRYPOINT [\"b\"]\nCMD [\"a\"]\nCMD [\"b\"]\n\
                 HEALTHCHECK CMD [\"a\"]\nHEALTHCHECK CMD [\"b\"]\n",
                &[2, 4, 6],
            ),
            ("FROM scratch\nCMD [\"a\"]\nUSER x\nCMD [\"b\"]\nCMD [\"c\"]\n", &[2, 4]),
        ],
        silent: &[
            "FROM scratch AS a\nENTRYPOINT [\"a\"]\nCMD [\"a\"]\nFROM a AS b\nENTRYPOINT [\"b\"]\nCMD [\"b\"]\n",
            "FROM scratch\nCMD [\"a\"]\nONBUILD CMD [\"b\"]\n",
        ],
    },
    Case {
        rule: "LegacyKeyValueFormat",
        found: &[("FROM scratch\nENV testkey value\nLABEL key value\n", &[2, 3])],
        silent: &[
            "FROM scratch\nENV testkey=value\nLABEL key=value\n",
            "FROM scratch AS a\nFROM a AS b\nENV testkey value\nFROM a AS c\n",
            "FROM scratch\n# check=skip=LegacyKeyValueFormat\nENV testkey value\n",
        ],
    },
    Case {
        // What it finds needs an image of another platform: see `checking.rs`.
        rule: "InvalidBaseImagePlatform",
        found: &[],
        silent: &["FROM debian\n", "FROM scratch\n"],
    },
    Case {
        rule: "RedundantTargetPlatform",
        found: &[
            ("FROM --platform=$TARGETPLATFORM scratch\n", &[1]),
            ("FROM --platform=${TARGETPLATFORM} scratch\n", &[1]),
        ],
        silent: &[
            "# check=skip=RedundantTargetPlatform\nFROM --platform=$TARGETPLATFORM scratch\n",
            "FROM --platform=$BUILDPLATFORM scratch\n",
            "FROM --platform=$TARGETOS/$TARGETARCH scratch\n",
        ],
    },
    Case {
        rule: "SecretsUsedInArgOrEnv",
        found: &[(
            "FROM scratch\nARG SECRET_PASSPHRASE\nENV SUPER_Secret=foo\nENV password=bar secret=baz\n\
             ARG super_duper_secret_token=foo auth=bar\nENV apikey=bar sunflower=foo\nENV git_key=\n",
            &[2, 3, 4, 4, 5, 5, 6, 7],
        )],
        silent: &[
            "FROM scratch\nENV PUBLIC_KEY=\nARG public_token\nARG SECRET_PASSPHRASE_FILE\n",
            "FROM scratch\nENV password_file=bar secret_File=baz\nARG AUTH_MODULE_VERSION\nENV MONKEY=a TOKENS=b\n",
            "FROM scratch\n# check=skip=SecretsUsedInArgOrEnv // as intended\nENV password=bar\n",
            "FROM scratch\n# check=skip=all // here only\nARG password\n",
        ],
    },
    Case {
        rule: "InvalidDefaultArgInFrom",
        // Found only where the command line mends it: see below.
        found: &[],
        silent: &[
            "ARG VERSION=\"latest\"\nFROM busybox:${VERSION}\n",
            "ARG V=\"\"\nFROM busybox:stable${V}\n",
            "ARG V\nFROM busybox:stable${V}\n",
        ],
    },
    Case {
        rule: "FromPlatformFlagConstDisallowed",
        found: &[
            ("FROM --platform=linux/amd64 scratch\n", &[1]),
            ("FROM --platform=linux/amd64 scratch AS build\n", &[1]),
        ],
        silent: &[
            "FROM --platform=linux/amd64 scratch AS my_amd64_stage\n",
            "FROM --platform=linux/amd64 scratch AS linux\n",
            "ARG P=linux/amd64\nFROM --platform=$P scratch\n",
        ],
    },
    Case {
        // With an ignore file that names `Dockerfile` and `*.md`.
        rule: "CopyIgnoredFile",
        found: &[
            ("FROM scratch\nCOPY Dockerfile .\nADD ./Dockerfile /windy\n", &[2, 3]),
            ("FROM scratch\nCOPY /a.md b /\n", &[2]),
        ],
        silent: &[
            "FROM scratch AS base\nCOPY a /Dockerfile\nFROM base\nCOPY --from=base /Dockerfile /\n",
            "FROM scratch\nCOPY . .\n",
            "FROM scratch\nCOPY <<a.md /\nE\na.md\n",
            "# check=skip=CopyIgnoredFile\nFROM scratch\nCOPY a.md /\n",
        ],
    },
    Case {
        rule: "InvalidDefinitionDescription",
        found: &[(
            "# check=experimental=InvalidDefinitionDescription\n# bar this is the bar\nARG foo=bar\n\
             # BasE this is the BasE image\nFROM scratch AS base\n# a bad comment\nARG version=latest\n\
             # a bad comment\nARG foo=baz bar=qux baz=quux\n",
            &[2, 4, 6, 8],
        )],
        silent: &[
            "# check=experimental=all\n# foo this is the foo\nARG foo=bar\n\n# base is the base\nFROM scratch AS base\n\
             # version is a number\nARG version=latest\n# baz is one of three\nARG foo=baz bar=qux baz=quux\n#\n\
             ARG bit=bat\n# something else\nCOPY a .\n",
            "# anything\nARG foo=bar\n# anything\nFROM scratch AS base\n",
            "# check=skip=all;experimental=InvalidDefinitionDescription\n# foo is it\nARG foo\nFROM scratch\n",
        ],
    },
    Case {
        rule: "ExposeProtoCasing",
        found: &[("FROM scratch\nEXPOSE 80/TcP 8080/TCP 8080/udp\n", &[2, 2])],
        silent: &["FROM scratch\nEXPOSE 80 80/tcp 53/udp 9/sctp 1-3/tcp\n"],
    },
    Case {
        rule: "ExposeInvalidFormat",
        found: &[("FROM scratch\nEXPOSE 127.0.0.1:80:80 [::1]:8080:8080 5000:5000 8000\n", &[2, 2, 2])],
        silent: &["FROM scratch\nEXPOSE 8000 8001-8002\n"],
    },
];

fn with_ignore_file() -> BuildArgs {
    let ignored = |path: &str| path == "Dockerfile" || path.ends_with(".md");
    BuildArgs { ignored: Some(Ignored(Arc::new(ignored))), ..args() }
}

#[test]
fn each_rule_speaks_where_it_should_and_nowhere_else() {
    let mut rules: Vec<&str> = CASES.iter().map(|case| case.rule).collect();
    rules.sort_unstable();
    let mut all: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
    all.sort_unstable();
    assert_eq!(rules, all, "a rule has no case");
    for Case { rule, found, silent } in CASES {
        for (text, lines) in *found {
            let expected: Vec<String> = lines.iter().map(|line| format!("{line}:{rule}")).collect();
            let found: Vec<String> = findings(text, &with_ignore_file())
                .iter()
                .map(|finding| finding.split(' ').next().unwrap_or_default().to_owned())
                .collect();
            assert_eq!(found, expected, "{text}");
        }
        for text in *silent {
            let found = findings(text, &with_ignore_file());
            let other = found.iter().filter(|finding| finding.contains(rule)).count();
            assert_eq!(other, 0, "{text}{found:?}");
        }
    }
}

#[test]
fn defaults_of_from_are_tried_without_the_command_line() {
    for (text, name, value) in [
        ("ARG VERSION\nFROM busybox:$VERSION\n", "VERSION", "latest"),
        ("ARG IMAGE\nFROM $IMAGE\n", "IMAGE", "busybox"),
        ("ARG SFX=\"box:\"\nFROM busy${SFX}\n", "SFX", "box:latest"),
    ] {
        let found = findings(text, &with_args(&[(name, value)]));
        assert!(
            matches!(found.as_slice(), [one] if one.starts_with("2:InvalidDefaultArgInFrom")),
            "{found:?}"
        );
    }
    let mended = with_args(&[("V", "-musl")]);
    assert!(findings("ARG V=\"\"\nFROM busybox:stable${V}\n", &mended).is_empty());
}

#[test]
fn a_build_argument_that_nothing_takes_is_told() {
    let told = |text: &str, given: &[(&str, &str)]| {
        let (lowered, _) = super::build(text, &with_args(given)).unwrap();
        lowered
            .warnings
            .iter()
            .map(|w| format!("{}; {}", w.message, w.help.clone().unwrap_or_default()))
            .collect()
    };
    let found: Vec<String> =
        told("ARG A\nFROM scratch\nARG VERSION\n", &[("A", "1"), ("VERSOIN", "2"), ("X", "3")]);
    assert_eq!(
        found,
        [
            "the build argument `VERSOIN` is not used: no ARG declares it; did you mean `VERSION`?",
            "the build argument `X` is not used: no ARG declares it; declare it with `ARG X` in the stage that uses it",
        ]
    );
    let found: Vec<String> = told("FROM scratch\n", &[("BUILDKIT_SANDBOX_HOSTNAM", "h")]);
    assert_eq!(
        found,
        [
            "the build argument `BUILDKIT_SANDBOX_HOSTNAM` is not used: no ARG declares it; did you mean `BUILDKIT_SANDBOX_HOSTNAME`?"
        ]
    );
    // A stage that is not built declares, too, and some need no declaration.
    let given = [
        ("A", ""),
        ("http_proxy", ""),
        ("TARGETARCH", "x"),
        ("SOURCE_DATE_EPOCH", "1"),
        ("BUILDKIT_INLINE_CACHE", ""),
    ];
    let found: Vec<String> = told("FROM scratch AS a\nARG A\nFROM scratch\n", &given);
    assert!(found.is_empty(), "{found:?}");
}
