//! The graph of a build: laid out in lanes, and drawn as text, DOT, Mermaid and SVG. No external
//! program is asked.

mod dot;
mod layout;
mod mermaid;
mod svg;
mod text;

use std::time::Duration;

use dbuild_support::units::{Bytes, Seconds};

use crate::{Build, State, Step};

pub use dot::dot;
pub use mermaid::mermaid;
pub use svg::svg;
pub(crate) use svg::{STYLE, figure};
pub use text::text;

/// How many columns of boxes the drawing has.
pub(crate) fn columns_of(build: &Build) -> usize {
    layout::Layout::of(build).columns
}

/// What is said of a step beside its instruction: how it ended, its time, its size. Nothing of a
/// step that only was planned.
pub(crate) fn note(step: &Step) -> String {
    let time = Seconds(Duration::from_millis(step.duration_ms));
    let size = if step.layer_bytes > 0 { format!(", {}", Bytes(step.layer_bytes)) } else { String::new() };
    match step.state {
        State::Waiting => String::new(),
        State::Done => format!("{time}{size}"),
        State::Cached => format!("cached{size}"),
        State::Failed => format!("failed after {time}"),
        other => other.word().to_owned(),
    }
}

/// The note with the sign of the step's state before it; empty of a step that only was planned.
pub(crate) fn signed_note(step: &Step) -> String {
    let note = note(step);
    if note.is_empty() { note } else { format!("{} {note}", step.state.sign()) }
}

#[cfg(test)]
#[path = "../tests/graph.rs"]
mod tests;
