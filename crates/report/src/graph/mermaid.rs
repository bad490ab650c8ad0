//! The graph for Mermaid, which Markdown viewers draw.

use std::fmt::Write as _;

use super::dot::LABEL;
use super::layout::Layout;
use super::signed_note;
use crate::Build;
use crate::columns::fit;

/// The graph of a build as a Mermaid flowchart.
pub fn mermaid(build: &Build) -> String {
    let layout = Layout::of(build);
    let mut out = String::from("flowchart LR\n");
    for (number, lane) in layout.lanes.iter().enumerate() {
        let _ = writeln!(out, "  subgraph stage{number}[\"{}\"]", escaped(&lane.name()));
        if lane.boxes.is_empty() {
            let _ = writeln!(out, "    empty{number}[\" \"]");
        }
        for index in &lane.boxes {
            let step = layout.boxes[*index].step;
            let note = signed_note(step);
            let note = if note.is_empty() { note } else { format!("<br/>{}", escaped(&note)) };
            let _ = writeln!(out, "    s{}[\"{}{note}\"]", step.id, escaped(&fit(&step.text, LABEL)));
        }
        out.push_str("  end\n");
    }
    for (from, to) in &layout.edges {
        let (from, to) = (layout.boxes[*from].step, layout.boxes[*to].step);
        let _ = writeln!(out, "  s{} --> s{}", from.id, to.id);
    }
    out
}

/// Mermaid takes entities by number for whatever has a meaning of its own.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            c if c.is_alphanumeric() || " ._-=:/,()+!…".contains(c) => out.push(c),
            c if c.is_control() => out.push(' '),
            c => {
                let _ = write!(out, "#{};", u32::from(c));
            }
        }
    }
    out
}
