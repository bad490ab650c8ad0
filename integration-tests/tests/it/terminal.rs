//! The live view in terminals of several widths.

use dbuild_integration_tests::{Terminal, TestSpace};

const LONG: &str = "a-stage-with-quite-a-long-name";

fn dockerfile(last: &str) -> String {
    format!(
        "FROM busybox AS {LONG}\nRUN echo first; echo '編譯器 編譯器 編譯器 編譯器 編譯器 編譯器 編譯器 編譯器'; printf 'a %0100d\\n' 7; sleep 0.5\n\
         FROM scratch AS {LONG}-2\nCOPY --from={LONG} /bin/busybox /a/long/path/that/takes/some/room/on/a/line\n{last}"
    )
}

fn start(space: &TestSpace, dockerfile: &str, columns: u16, no_color: &str) -> Terminal {
    space.write("context/Dockerfile", dockerfile);
    let call = space.dbuild(["build", "-t", "app", "context"]);
    let call = if no_color.is_empty() { call } else { call.env("NO_COLOR", no_color) };
    Terminal::start(call.into_command(), columns)
}

/// Whether anything was coloured: a control sequence that ends with an `m`.
fn is_colored(raw: &str) -> bool {
    let ends = raw.split("\u{1b}[").skip(1).filter_map(|rest| rest.chars().find(char::is_ascii_alphabetic));
    ends.into_iter().any(|end| end == 'm')
}

#[test]
fn the_view_fits_into_terminals_of_any_width() {
    let space = TestSpace::new();
    for (round, columns) in [40, 80, 200].into_iter().enumerate() {
        // Other words each time, so that nothing is cached.
        let text = dockerfile("").replace("first", &format!("first{round}"));
        let mut terminal = start(&space, &text, columns, "");
        terminal.wait_for("編譯器");
        let running = terminal.screen.text();
        assert!(running.contains("RUNNING") && running.contains('/'), "{columns}\n{running}");
        assert_eq!(terminal.screen.wrapped(), Vec::<String>::new(), "{columns}: while it runs");
        assert_eq!(terminal.finish(), Some(0), "{}", terminal.screen.text());
        let screen = terminal.screen.text();
        assert!(screen.contains("DONE") && screen.contains("steps cached"), "{columns}\n{screen}");
        assert!(
            screen.contains(" 2/2] RUN"),
            "{columns}: the name of the stage leaves room for the instruction\n{screen}"
        );
        assert!(
            screen.contains(&format!("  {LONG}\n")) || columns == 200,
            "{columns}: names are whole\n{screen}"
        );
        assert!(!screen.contains("RUNNING"), "{columns}: nothing is left of what ran\n{screen}");
        let wrapped = terminal.screen.wrapped();
        assert!(
            wrapped.iter().all(|line| line.starts_with("digest:") || line.starts_with("note:")),
            "{columns}: {wrapped:?}"
        );
        assert!(is_colored(&terminal.raw), "{:?}", terminal.raw);
    }
}

#[test]
fn no_color_is_heard_and_a_failure_is_told() {
    let space = TestSpace::new();
    for (no_color, columns) in [("1", 80), ("", 40)] {
        let mut terminal = start(
            &space,
            &dockerfile("RUN no-such-program").replace("FROM scratch", "FROM busybox"),
            columns,
            no_color,
        );
        assert_eq!(terminal.finish(), Some(1));
        let screen = terminal.screen.text();
        assert!(screen.contains("ERROR") && !screen.contains("RUNNING"), "{screen}");
        assert!(screen.contains("no-such-program"), "{screen}");
        assert_eq!(is_colored(&terminal.raw), no_color.is_empty(), "{:?}", terminal.raw);
    }
}

#[test]
fn states_are_told_apart_by_words_where_there_is_no_colour() {
    let space = TestSpace::new();
    space.build(crate::page::KNOWN, [""; 0]).run().expect_ok();
    for columns in [40, 80] {
        let mut terminal = start(&space, &crate::page::failing(), columns, "1");
        assert_eq!(terminal.finish(), Some(1));
        let screen = terminal.screen.text();
        for words in [
            "CACHED   [known 2/2]",
            "CANCELED [slow 2/3]",
            "ERROR    [broken 1/1]",
            "SKIPPED  [unneeded]",
            "CACHED   [known 1/2]",
        ] {
            assert!(screen.contains(words), "{words}\n{screen}");
        }
        assert!(screen.contains("DONE     [made 2/2]") || screen.contains("CACHED   [made 2/2]"), "{screen}");
        assert!(!is_colored(&terminal.raw), "{:?}", terminal.raw);
    }
}

#[test]
fn the_view_follows_the_window() {
    let space = TestSpace::new();
    let text = dockerfile("").replace("sleep 0.5", "sleep 1; echo second; sleep 1");
    let mut terminal = start(&space, &text, 120, "1");
    terminal.wait_for("RUNNING");
    terminal.wait_for("編譯器");
    terminal.resize(50);
    terminal.wait_for("second");
    terminal.resize(100);
    assert_eq!(terminal.finish(), Some(0), "{}", terminal.screen.text());
    let screen = terminal.screen.text();
    assert!(!screen.contains("RUNNING") && !screen.contains("   | "), "nothing is left over\n{screen}");
    assert!(screen.contains("DONE") && screen.contains("steps cached"), "{screen}");
}

#[test]
fn the_graph_is_no_wider_than_the_terminal() {
    let space = TestSpace::new();
    space.write("context/Dockerfile", dockerfile(""));
    for columns in [40, 80, 200] {
        let mut terminal = Terminal::start(space.dbuild(["graph", "context"]).into_command(), columns);
        assert_eq!(terminal.finish(), Some(0), "{}", terminal.screen.text());
        assert_eq!(terminal.screen.wrapped(), Vec::<String>::new());
        let screen = terminal.screen.text();
        assert!(screen.contains("FROM busybox") && screen.contains('▶'), "{screen}");
    }
}

/// Where nothing is piped in, a build would wait without a word.
#[test]
fn what_is_read_from_a_terminal_is_said() {
    let space = TestSpace::offline();
    space.write("x.Dockerfile", "FROM scratch\n");
    for (words, told) in [
        (["-f", "x.Dockerfile", "-"], "the context, an archive"),
        (["-f", "-", "."], "the Dockerfile is read"),
    ] {
        let call = space.dbuild(["build"]).args(words);
        let mut terminal = Terminal::start(call.into_command(), 200);
        terminal.wait_for(told);
        assert!(terminal.screen.text().contains("standard input; Ctrl-D ends it"));
        terminal.type_line("\u{4}");
        let code = terminal.finish();
        assert!(matches!(code, Some(1 | 2)), "{code:?} {}", terminal.screen.text());
    }
}
