//! The graph for Graphviz.

use std::fmt::Write as _;

use super::layout::Layout;
use super::signed_note;
use crate::columns::fit;
use crate::{Build, State, Step};

/// A box is no wider than this, in columns: a command can be pages long.
pub(super) const LABEL: usize = 100;

/// The graph of a build in the DOT language.
pub fn dot(build: &Build) -> String {
    let layout = Layout::of(build);
    let mut out = String::from(
        "digraph build {\n  rankdir=LR;\n  node [shape=box, fontname=\"monospace\", fontsize=11];\n",
    );
    for (number, lane) in layout.lanes.iter().enumerate() {
        let style = match lane.stage {
            None => "dotted",
            Some(stage) if !stage.reached => "dashed",
            Some(_) => "rounded",
        };
        let label = quoted(&lane.name());
        let _ = writeln!(out, "  subgraph cluster_{number} {{\n    label={label}; style={style};");
        if lane.boxes.is_empty() {
            let _ = writeln!(out, "    empty_{number} [label=\"\", shape=none];");
        }
        for index in &lane.boxes {
            let step = layout.boxes[*index].step;
            let _ = writeln!(
                out,
                "    s{} [label={}, style={}];",
                step.id,
                quoted(&label_of(step)),
                style_of(step)
            );
        }
        out.push_str("  }\n");
    }
    for (from, to) in &layout.edges {
        let (from, to) = (layout.boxes[*from].step, layout.boxes[*to].step);
        let _ = writeln!(out, "  s{} -> s{};", from.id, to.id);
    }
    out.push_str("}\n");
    out
}

fn label_of(step: &Step) -> String {
    let (text, note) = (fit(&step.text, LABEL), signed_note(step));
    if note.is_empty() { text } else { format!("{text}\n{note}") }
}

fn style_of(step: &Step) -> &'static str {
    match step.state {
        State::Cached => "\"rounded,filled\"",
        State::Failed => "bold",
        State::Canceled | State::Skipped => "dashed",
        _ => "solid",
    }
}

/// A quoted string. Graphviz reads escapes and, in labels, entities as HTML has them.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            '&' => out.push_str("&amp;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
