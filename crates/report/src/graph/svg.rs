//! The graph as SVG: lanes, boxes and curves. The report shows the same drawing.

use std::fmt::Write as _;

use dbuild_support::escape;
use dbuild_support::units::Bytes;

use super::layout::{Lane, Layout, Placed};
use super::note;
use crate::columns::fit;
use crate::{Build, Step};

/// The style of the drawing; it knows light and dark.
pub(crate) const STYLE: &str = include_str!("../html/graph.css");

const WIDTH: usize = 176;
const HEIGHT: usize = 46;
const GAP: usize = 28;
const LEFT: usize = 16;
const LANE_TOP: usize = 32;
const LANE_BOTTOM: usize = 14;
const ROW_GAP: usize = 10;
const LANE_GAP: usize = 10;
/// Characters that fit into a box.
const CHARACTERS: usize = 22;

/// The graph of a build as a file of its own.
pub fn svg(build: &Build) -> String {
    let figure = figure(build);
    let colors = include_str!("../html/colors.css");
    figure.replacen(
        '>',
        &format!("><style>{colors}{STYLE}</style><rect class=\"ground\" width=\"100%\" height=\"100%\"/>"),
        1,
    )
}

/// The drawing, styled by whatever page it is in. Every text is escaped.
pub(crate) fn figure(build: &Build) -> String {
    let layout = Layout::of(build);
    let places = Places::of(&layout);
    let mut out = String::new();
    let (width, height) = (places.width, places.height);
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"graph\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"group\" aria-label=\"The steps of the build, a lane for each stage\">\
         <defs><pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
         <rect class=\"unhatched\" width=\"6\" height=\"6\"/><path class=\"hatch\" d=\"M0 0V6\"/></pattern></defs>"
    );
    for (lane, top) in layout.lanes.iter().zip(&places.tops) {
        draw_lane(&mut out, lane, *top, &places);
    }
    // Edges cross lanes, and not what is written there.
    for (from, to) in &layout.edges {
        draw_edge(&mut out, &layout.boxes[*from], &layout.boxes[*to], &places);
    }
    for (lane, top) in layout.lanes.iter().zip(&places.tops) {
        draw_lane_name(&mut out, lane, *top);
    }
    for placed in &layout.boxes {
        draw_box(&mut out, placed, &places);
    }
    out.push_str("</svg>");
    out
}

/// Where rows and lanes begin.
struct Places {
    tops: Vec<usize>,
    rows: Vec<usize>,
    width: usize,
    height: usize,
}

impl Places {
    fn of(layout: &Layout<'_>) -> Self {
        let (mut tops, mut rows, mut y) = (Vec::new(), Vec::new(), 0);
        for lane in &layout.lanes {
            debug_assert_eq!(lane.first_row, rows.len());
            tops.push(y);
            // A stage that is not needed has no boxes: its name is enough.
            let body = if lane.boxes.is_empty() {
                0
            } else {
                lane.rows * (HEIGHT + ROW_GAP) - ROW_GAP + LANE_BOTTOM
            };
            for row in 0..lane.rows {
                rows.push(y + LANE_TOP + row * (HEIGHT + ROW_GAP));
            }
            y += LANE_TOP + body + LANE_GAP;
        }
        let width = LEFT * 2 + (layout.columns.max(2) * (WIDTH + GAP)) - GAP;
        Self { tops, rows, width, height: y.saturating_sub(LANE_GAP).max(LANE_TOP) }
    }

    fn lane_height(&self, at: usize, top: usize) -> usize {
        self.tops.get(at + 1).map_or(self.height, |next| next - LANE_GAP) - top
    }

    fn of_box(&self, placed: &Placed<'_>) -> (usize, usize) {
        (LEFT + placed.column * (WIDTH + GAP), self.rows.get(placed.row).copied().unwrap_or_default())
    }
}

fn draw_lane(out: &mut String, lane: &Lane<'_>, top: usize, places: &Places) {
    let at = places.tops.iter().position(|other| *other == top).unwrap_or_default();
    let (width, height) = (places.width, places.lane_height(at, top));
    let _ = write!(
        out,
        "<g class=\"{class}\"><rect class=\"lane-ground\" x=\"0.5\" y=\"{y}.5\" width=\"{w}\" height=\"{h}\" rx=\"8\"/></g>",
        class = lane_class(lane),
        y = top,
        w = width - 1,
        h = height.saturating_sub(1),
    );
}

fn lane_class(lane: &Lane<'_>) -> &'static str {
    if lane.stage.is_some_and(|stage| !stage.reached) { "lane unneeded" } else { "lane" }
}

/// What a lane is called, and what is to be said of it.
fn draw_lane_name(out: &mut String, lane: &Lane<'_>, top: usize) {
    let (name, about) = match lane.stage {
        None => ("shared".to_owned(), "what belongs to no stage alone".to_owned()),
        Some(stage) => {
            let platform = stage.platform.as_ref().map(|platform| format!(" {platform}")).unwrap_or_default();
            let about = match (&stage.skipped, &stage.bytes) {
                _ if !stage.reached => {
                    format!("SKIPPED: {}", stage.skipped.as_deref().unwrap_or("the target does not need it"))
                }
                (_, Some(bytes)) => format!(
                    "made {}, shipped {}, left behind {}",
                    Bytes(bytes.made),
                    Bytes(bytes.shipped),
                    Bytes(bytes.left)
                ),
                _ => String::new(),
            };
            (format!("{}{platform}", stage.name), about)
        }
    };
    let _ = write!(
        out,
        "<g class=\"{class}\"><text class=\"lane-name\" x=\"{LEFT}\" y=\"{base}\">{}<tspan class=\"lane-about\" dx=\"10\">{}</tspan></text></g>",
        escape::html(&fit(&name, 40)),
        escape::html(&about),
        class = lane_class(lane),
        base = top + 21,
    );
}

fn draw_edge(out: &mut String, from: &Placed<'_>, to: &Placed<'_>, places: &Places) {
    let ((x1, y1), (x2, y2)) = (places.of_box(from), places.of_box(to));
    let (x1, y1, y2) = (x1 + WIDTH, y1 + HEIGHT / 2, y2 + HEIGHT / 2);
    let critical = if from.step.critical && to.step.critical && to.step.waited_for == Some(from.step.id) {
        " critical"
    } else {
        ""
    };
    let shared = if from.step.stage.is_none() { " shared" } else { "" };
    let bend = GAP / 2 + (x2.saturating_sub(x1 + GAP) / 4).min(60);
    let tip = x2.saturating_sub(5);
    let _ = write!(
        out,
        "<g class=\"way{critical}{shared}\" data-from=\"{}\" data-to=\"{}\">\
         <path class=\"edge\" d=\"M{x1} {y1}C{} {y1} {} {y2} {tip} {y2}\"/><path class=\"tip\" d=\"M{x2} {y2}l-7 -4v8z\"/></g>",
        from.step.id,
        to.step.id,
        x1 + bend,
        tip.saturating_sub(bend),
    );
}

fn draw_box(out: &mut String, placed: &Placed<'_>, places: &Places) {
    let step = placed.step;
    let (x, y) = places.of_box(placed);
    let state = state_class(step);
    let critical = if step.critical { " critical" } else { "" };
    let note = note(step);
    let (sign, word) = (step.state.sign(), step.state.word());
    // What is written in the box first, as it stands there; then the word, unless that was it.
    let note = match note.as_str() {
        "" => word.to_owned(),
        note if note.starts_with(word) => note.to_owned(),
        note => format!("{note}, {word}"),
    };
    let _ = write!(
        out,
        "<g class=\"step {state}{critical}\" data-step=\"{id}\" role=\"button\" tabindex=\"-1\" aria-label=\"{label}\">\
         <title>{title}</title><rect class=\"box\" x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"6\"/>\
         <rect class=\"mark\" x=\"{x}\" y=\"{y}\" width=\"5\" height=\"{HEIGHT}\" rx=\"2.5\"/>\
         <text class=\"what\" aria-hidden=\"true\" x=\"{tx}\" y=\"{ty}\">{what}</text>\
         <text class=\"how\" aria-hidden=\"true\" x=\"{tx}\" y=\"{hy}\">{sign} {how}</text></g>",
        id = step.id,
        label = escape::html(&format!("{} {}, {note}", step.label, step.text)),
        title = escape::html(&format!("{} {}", step.label, step.text)),
        tx = x + 13,
        ty = y + 19,
        hy = y + 36,
        what = escape::html(&fit(&step.text, CHARACTERS)),
        how = escape::html(if note.is_empty() { word } else { &note }),
    );
}

/// The word by which the style knows the state of a step.
pub(crate) fn state_class(step: &Step) -> &'static str {
    match step.state {
        crate::State::Waiting => "waiting",
        crate::State::Running => "running",
        crate::State::Cached => "cached",
        crate::State::Done => "done",
        crate::State::Skipped => "skipped",
        crate::State::Canceled => "canceled",
        crate::State::Failed => "failed",
    }
}
