use super::{dot, mermaid, svg, text};
use crate::columns::{columns, fit};
use crate::reader::tests::events;
use crate::{Build, State};

fn build() -> Build {
    Build::of(&events())
}

#[test]
fn text_shows_lanes_and_rails() {
    insta::assert_snapshot!(text(&build(), 60), @"
            left
        ┌── #0 FROM busybox                             = cached
    ┌───┼── #1 RUN sleep 1                          + 1.00s, 10B
    │   │   right
    │ ┌─┴─▶ #2 RUN sleep 3                          + 3.00s, 20B
    │ │     unneeded  - skipped: the target does not need it
    │ │     app
    └─┼───▶ #4 COPY --from=left /a /a               + 0.01s, 10B
      └───▶ #5 COPY --from=right /b /b              + 0.01s, 20B
    ");
}

#[test]
fn text_stays_within_the_width() {
    let mut build = build();
    build.steps[1].text =
        "RUN 編譯 程式 && echo 🎉 and a great many further words that no terminal has room for".to_owned();
    for width in [20, 40, 80, 200] {
        for line in text(&build, width).lines() {
            assert!(columns(line) <= width, "{width}: {} {line}", columns(line));
        }
    }
    assert_eq!(fit("編譯", 3), "編…");
    assert_eq!(fit("abc", 0), "");
}

#[test]
fn more_rails_than_fit_are_written_out() {
    let drawn = text(&build(), 20);
    assert!(drawn.lines().all(|line| columns(line) <= 20), "{drawn}");
}

#[test]
fn dot_and_mermaid_name_every_step_and_quote_all_words() {
    let mut build = build();
    build.steps[1].text = "RUN echo \"a\\b\" <script>; [x]".to_owned();
    let drawn = dot(&build);
    assert!(drawn.contains(r#"s1 [label="RUN echo \"a\\b\" <script>; [x]\n+ 1.00s, 10B""#), "{drawn}");
    assert!(drawn.contains("s2 -> s5;") && drawn.contains("unneeded (skipped)"), "{drawn}");
    let drawn = mermaid(&build);
    assert!(
        drawn.contains("s1[\"RUN echo #34;a#92;b#34; #60;script#62;#59; #91;x#93;<br/>+ 1.00s, 10B\"]"),
        "{drawn}"
    );
    assert!(drawn.contains("s1 --> s4"), "{drawn}");
}

/// What stands between the quotes of a line that defines a label.
fn label<'a>(drawn: &'a str, line: &str, open: &str, close: &str) -> &'a str {
    let line = drawn.lines().find(|one| one.trim_start().starts_with(line)).expect("a line");
    line.split_once(open).and_then(|(_, rest)| rest.rsplit_once(close)).expect("a label").0
}

#[test]
fn names_that_mean_something_to_a_drawing_program_are_only_names() {
    // Checked by hand with Graphviz 2.43 and Mermaid 11: both draw the words as they stand here.
    for (text, in_dot, in_mermaid) in [
        ("RUN end", "RUN end", "RUN end"),
        ("RUN a \"b\" 'c' `d`", r#"RUN a \"b\" 'c' `d`"#, "RUN a #34;b#34; #39;c#39; #96;d#96;"),
        (r"RUN \N \G \l \", r"RUN \\N \\G \\l \\", "RUN #92;N #92;G #92;l #92;"),
        ("RUN &lt; &amp; #35;", "RUN &amp;lt; &amp;amp; #35;", "RUN #38;lt#59; #38;amp#59; #35;35#59;"),
        (
            "RUN %% {a} [b] <c> | d",
            "RUN %% {a} [b] <c> | d",
            "RUN #37;#37; #123;a#125; #91;b#93; #60;c#62; #124; d",
        ),
        ("RUN 編譯器 é 🎉", "RUN 編譯器 é 🎉", "RUN 編譯器 é #127881;"),
        ("RUN a\tb\u{7}", "RUN a b ", "RUN a b "),
    ] {
        let mut build = build();
        build.steps[1].text = text.to_owned();
        build.stages[0].name = text.trim_start_matches("RUN ").to_owned();
        let drawn = dot(&build);
        assert_eq!(label(&drawn, "s1 [", "label=\"", "\\n+ 1.00s, 10B\", style=solid"), in_dot);
        assert_eq!(format!("RUN {}", label(&drawn, "label", "label=\"", "\"; style=")), in_dot);
        let drawn = mermaid(&build);
        assert_eq!(label(&drawn, "s1[", "[\"", "<br/>"), in_mermaid);
        assert_eq!(format!("RUN {}", label(&drawn, "subgraph stage0", "[\"", "\"]")), in_mermaid);
    }
    let mut build = build();
    build.steps[1].text = format!("RUN {}", "very long ".repeat(1000));
    build.stages[0].platform = Some("linux/arm64".to_owned());
    for drawn in [dot(&build), mermaid(&build)] {
        assert!(drawn.lines().all(|line| columns(line) < 200), "{drawn}");
        assert!(drawn.contains("left (linux/arm64)"), "{drawn}");
    }
}

#[test]
fn every_drawing_tells_states_apart_by_a_sign() {
    let mut build = build();
    build.steps.retain(|step| step.kind != "scratch");
    let states = [
        (State::Cached, "= cached"),
        (State::Done, "+ 1.00s"),
        (State::Failed, "! failed after 1.00s"),
        (State::Canceled, "/ canceled"),
        (State::Skipped, "- skipped"),
    ];
    for (step, (state, _)) in build.steps.iter_mut().zip(states) {
        (step.state, step.duration_ms, step.layer_bytes) = (state, 1000, 0);
    }
    for drawn in [text(&build, 100), dot(&build), mermaid(&build), svg(&build)] {
        for (state, sign) in states {
            assert!(drawn.contains(sign), "{state:?} as {sign:?}\n{drawn}");
        }
    }
}

#[test]
fn svg_is_whole_and_harmless() {
    let mut build = build();
    build.steps[1].text = "RUN </text><script>alert(1)</script>\u{1}".to_owned();
    build.stages[0].name = "<b>&".to_owned();
    let drawn = svg(&build);
    assert!(!drawn.contains("<script") && !drawn.contains("<b>") && !drawn.contains('\u{1}'), "{drawn}");
    assert_eq!(drawn.matches("data-step=").count(), 5, "a box for each step but scratch");
    assert!(drawn.contains("SKIPPED: the target does not need it"), "{drawn}");
}
