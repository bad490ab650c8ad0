//! Output of commands comes in pieces; people read lines.

use std::collections::HashMap;

use dbuild_events::LogStream;

/// Puts lines together, apart for each step and stream. A line ends at `\n`; of what a `\r`
/// overwrites only the last state is kept, as a terminal would show it.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    open: HashMap<(u32, bool), String>,
}

/// A line without an end that is longer than this is given out in pieces: memory stays bounded, and
/// nothing is lost.
const LONGEST: usize = 64 * 1024;

impl Lines {
    /// Takes a piece and returns the lines that it completes.
    pub(crate) fn push(&mut self, step: u32, stream: LogStream, text: &str) -> Vec<String> {
        let open = self.open.entry((step, stream == LogStream::Stderr)).or_default();
        open.push_str(text);
        let mut lines = Vec::new();
        if let Some(end) = open.rfind('\n') {
            let rest = open.split_off(end + 1);
            lines.extend(open.lines().map(visible));
            *open = rest;
        }
        if open.len() > LONGEST {
            lines.push(visible(&std::mem::take(open)));
        }
        lines
    }

    /// The lines of a step that have no end yet.
    pub(crate) fn finish(&mut self, step: u32) -> Vec<String> {
        let rests = [false, true].map(|stderr| self.open.remove(&(step, stderr)));
        rests.into_iter().flatten().filter(|line| !line.is_empty()).map(|line| visible(&line)).collect()
    }
}

fn visible(line: &str) -> String {
    line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use dbuild_events::LogStream::{Stderr, Stdout};

    use super::Lines;

    #[test]
    fn pieces_become_lines() {
        let mut lines = Lines::default();
        assert!(lines.push(1, Stdout, "a").is_empty());
        assert!(lines.push(1, Stderr, "e").is_empty());
        assert!(lines.push(2, Stdout, "other").is_empty());
        assert_eq!(lines.push(1, Stdout, "b\nc\r\n\nd"), ["ab", "c", ""]);
        assert_eq!(lines.push(1, Stdout, "10%\r20%\r30%\n"), ["30%"]);
        assert_eq!(lines.push(1, Stdout, "tail"), [""; 0]);
        assert_eq!(lines.finish(1), ["tail", "e"]);
        assert_eq!(lines.finish(1), [""; 0]);
    }

    #[test]
    fn a_line_without_end_does_not_fill_the_memory() {
        let mut lines = Lines::default();
        let piece = "x".repeat(50_000);
        let given: usize = (0..10).flat_map(|_| lines.push(1, Stdout, &piece)).map(|line| line.len()).sum();
        let rest: usize = lines.finish(1).iter().map(String::len).sum();
        assert_eq!(given + rest, 500_000);
        assert!(rest <= 65_536);
    }
}
