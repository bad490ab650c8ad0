//! Printing and parsing agree, and no input makes anything panic.

use proptest::prelude::*;

use super::args;
use crate::{Resolved, Source, lower, needed, parse, render};

/// The AST as text without spans.
fn shape(ast: &crate::Dockerfile) -> String {
    let text = format!("{ast:#?}");
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find('@') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let first = digits(&after[1..]);
        let span = after[1 + first..].strip_prefix("..").map(|end| (first, digits(end)));
        let len = match span {
            Some((first, second)) if first > 0 && second > 0 => 1 + first + 2 + second,
            _ => {
                out.push('@');
                1
            }
        };
        rest = &after[len..];
    }
    out + rest
}

fn agree(text: &str) {
    let first = parse(&Source::new("Dockerfile", text));
    if !first.diagnostics.is_empty() {
        return;
    }
    let mut ast = first.ast;
    // Blank lines inside an instruction are not printed.
    ast.instructions.iter_mut().for_each(|instruction| instruction.blanks.clear());
    let printed = ast.to_string();
    let again = parse(&Source::new("Dockerfile", printed.as_str()));
    assert!(again.diagnostics.is_empty(), "{text:?} printed as {printed:?}: {:?}", again.diagnostics);
    assert_eq!(shape(&again.ast), shape(&ast), "{text:?} printed as {printed:?}");
}

/// Everything that can be done with a text.
fn exercise(text: &str) {
    let source = Source::new("Dockerfile", text);
    let parsed = parse(&source);
    for diagnostic in &parsed.diagnostics {
        let shown = render(diagnostic, &source, false);
        assert!(shown.len() < 60_000, "{}", shown.len());
        for label in &diagnostic.labels {
            assert!(text.get(label.span.range()).is_some(), "{diagnostic:?}");
        }
    }
    for instruction in &parsed.ast.instructions {
        assert!(text.get(instruction.span.range()).is_some());
    }
    let found = crate::check(&parsed.ast, &args()).into_iter();
    let resolved = Resolved::default();
    let errors = match needed(&parsed.ast, &args(), &resolved) {
        Ok(_) => {
            lower(&parsed.ast, &args(), &resolved).map_or_else(|errors| errors.0, |lowered| lowered.warnings)
        }
        Err(errors) => errors.0,
    };
    for diagnostic in found.chain(errors) {
        assert!(!render(&diagnostic, &source, true).is_empty());
    }
}

#[test]
fn written_files_are_printed_alike() {
    for text in [
        "# syntax=docker/dockerfile:1\n# escape=`\n# a\nFROM a AS b\nRUN a `\n  b\n",
        "FROM a\nRUN <<A <<-B cat\nx\nA\n\ty\n\tB\nCOPY <<\"C\" /c\r\nz\r\nC\r\n",
        "FROM a\nONBUILD RUN <<E\nx\nE\n",
        "FROM a\nRUN x \\\u{a0}\n",
        "FROM a\nRUN x \\\\\nRUN y",
        "#\n# escape=`\nFROM a\n",
        "FROM a\nENV a=\"b c\" d='e' f=g\\ h\nENV old form\nHEALTHCHECK NONE\n",
    ] {
        let parsed = parse(&Source::new("Dockerfile", text));
        assert_eq!(parsed.diagnostics, [], "{text:?}");
        agree(text);
        exercise(text);
    }
}

#[test]
fn a_continuation_into_the_end_of_the_file_is_printed_as_one() {
    agree("FROM r\nENV a \\ \\");
    agree("# escape=`\nFROM r\nENV a ` \t`\n\n");
    agree("FROM r\nENV a b \\\\ \nUSER c");
}

#[test]
fn deep_and_long_inputs_end() {
    exercise(&format!("FROM scratch\n{}RUN x\n", "ONBUILD ".repeat(20_000)));
    exercise(&format!("FROM scratch\nENV A={}\n", "${A:-".repeat(10_000)));
    exercise(&format!("FROM scratch\nRUN {}\n", "[".repeat(60_000)));
    exercise(&format!("FROM scratch\nRUN {}\n", "<<A ".repeat(10_000)));
    exercise(&format!("FROM scratch\n{}", "BOGUS\n".repeat(5_000)));
    let doubling = "ENV A=$A$A$A$A$A$A$A$A$A$A\n".repeat(30);
    exercise(&format!("FROM scratch\nENV A=xxxxxxxxxx\n{doubling}"));
    exercise(&format!("FROM scratch\nEXPOSE {}\n", "0-65535 ".repeat(1000)));
    let stages: String = (0..500).map(|n| format!("FROM scratch AS s{n}\nWORKDIR /a\nENV A=b\n")).collect();
    exercise(&stages);
}

/// Texts that are nearly Dockerfiles.
fn nearly() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "FROM scratch", "FROM a AS b", "RUN ", "COPY ", "ADD ", "ENV ", "ARG ", "LABEL ", "ONBUILD ", "CMD ",
            "WORKDIR ", "USER ", "EXPOSE ", "VOLUME ", "SHELL ", "HEALTHCHECK ", "STOPSIGNAL ", "ENTRYPOINT ",
        ]),
        6 => prop::sample::select(vec![
            "\n", "\n", "\n", "\r\n", " ", " ", "\t", "\\\n", "\\", "`", "#", "# escape=`\n", "# check=skip=all\n",
            "\u{feff}", "\"", "'", "=", "--", "--from=", "--mount=", "type=cache,", "target=/x", "--chown=1", "<<EOF",
            "<<-E", "EOF\n", "E\n", "$", "${", "}", ":-", "##", "%", "//", "/", "[", "]", "[\"a\", \"b\"]", "a", "b",
            "a=b", "/x", "0", "80", "-", "é", "\u{a0}", "CMD x", "NONE", "--interval=1s ", "AS ", ",", "*",
        ]),
        1 => prop::sample::select(vec!["\u{0}", "\u{7f}", "\u{2028}", "\u{10ffff}", "\u{85}", "\u{b}", "ß"]),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nearly_right_files_do_not_panic_and_print_alike(text in nearly()) {
        exercise(&text);
        agree(&text);
        let text = format!("FROM scratch\n{text}");
        exercise(&text);
        agree(&text);
    }

    #[test]
    fn any_text_is_survived(text in "(?s).{0,200}") {
        exercise(&text);
        agree(&text);
    }
}
