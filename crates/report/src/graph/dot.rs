//! The graph for Graphviz.

use std::fmt::Write as _;

use super::layout::Layout;
use super::note;
use crate::{Build, State, Step};

/// The graph of a build in the DOT language.
pub fn dot(build: &Build) -> String {
    let layout = Layout::of(build);
    let mut out = String::from(
        "digraph build {\n  rankdir=LR;\n  node [shape=box, fontname=\"monospace\", fontsize=11];\n",
    );
    for (number, lane) in layout.lanes.iter().enumerate() {
        let (name, style) = match lane.stage {
            None => ("shared", "dotted"),
            Some(stage) if !stage.reached => (stage.name.as_str(), "dashed"),
            Some(stage) => (stage.name.as_str(), "rounded"),
        };
        let skipped = lane.stage.is_some_and(|stage| !stage.reached);
        let label = if skipped { format!("{name} (skipped)") } else { name.to_owned() };
        let _ = writeln!(out, "  subgraph cluster_{number} {{\n    label={}; style={style};", quoted(&label));
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
    let note = note(step);
    if note.is_empty() { step.text.clone() } else { format!("{}\n{note}", step.text) }
}

fn style_of(step: &Step) -> &'static str {
    match step.state {
        State::Cached => "\"rounded,filled\"",
        State::Failed => "bold",
        State::Canceled | State::Skipped => "dashed",
        _ => "solid",
    }
}

fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}
