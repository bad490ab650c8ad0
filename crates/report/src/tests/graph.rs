use super::{columns, dot, fit, mermaid, svg, text};
use crate::Build;
use crate::model::tests::events;

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
    assert!(drawn.contains(r#"s1 [label="RUN echo \"a\\b\" <script>; [x]\n1.00s, 10B""#), "{drawn}");
    assert!(drawn.contains("s2 -> s5;") && drawn.contains("unneeded (skipped)"), "{drawn}");
    let drawn = mermaid(&build);
    assert!(
        drawn.contains("s1[\"RUN echo #34;a#92;b#34; #60;script#62;#59; #91;x#93;<br/>1.00s, 10B\"]"),
        "{drawn}"
    );
    assert!(drawn.contains("s1 --> s4"), "{drawn}");
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
