//! The figures as one SVG: a row for each measure, a column for each strategy, the sizes from left
//! to right, a line for each policy. Lines differ by shape of their points and by dashes, not by
//! colour alone; every point has its value as a title.

use std::fmt::Write as _;

use dbuild_support::units::Bytes;

use crate::result::{BELADY, BOUND, Replay, Row};
use crate::units::{limit, percent, seconds};

const PANEL_WIDTH: f64 = 250.0;
const PANEL_HEIGHT: f64 = 130.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 64.0;
const GAP: f64 = 56.0;

/// Colours for both themes; the class names are those of [`series_class`].
const STYLE: &str = "\
.lab{--ink:#1f2328;--soft:#59636e;--line:#d1d9e0;--a:#0550ae;--b:#953800;--c:#116329;--d:#6639ba;--e:#59636e;\
font:12px system-ui,sans-serif}\
@media(prefers-color-scheme:dark){.lab{--ink:#e6edf3;--soft:#9198a1;--line:#3d444d;--a:#79c0ff;--b:#ffa657;\
--c:#7ee787;--d:#d2a8ff;--e:#9198a1}}\
.lab text{fill:var(--ink)}.lab .soft{fill:var(--soft)}.lab .grid{stroke:var(--line)}\
.lab polyline{fill:none;stroke-width:1.8}\
.lab .s0{stroke:var(--a)}.lab .s1{stroke:var(--b)}.lab .s2{stroke:var(--c)}\
.lab .belady{stroke:var(--d);stroke-dasharray:6 3}.lab .bound{stroke:var(--e);stroke-dasharray:2 3}\
.lab .p{fill:none;stroke-width:1.8;stroke-dasharray:none}";

/// A measure: its name, its value, and how it is written.
struct Measure {
    name: &'static str,
    of: fn(&Row) -> Option<f64>,
    text: fn(f64) -> String,
}

const MEASURES: [Measure; 3] = [
    Measure {
        name: "seconds rebuilt (less is better)",
        of: |row| Some(row.rebuilt_ms as f64),
        text: |value| seconds(value.round() as u64),
    },
    Measure { name: "hit rate (more is better)", of: |row| Some(row.hit_rate), text: percent },
    Measure {
        name: "bytes stored at the end",
        of: |row| row.stored.map(|stored| stored as f64),
        text: |value| Bytes(value.round() as u64).to_string(),
    },
];

/// The plots as an SVG element that can also stand alone in a file.
pub fn svg(replay: &Replay) -> String {
    let (strategies, policies, sizes) = (replay.strategies(), replay.policies(), replay.sizes());
    let width = LEFT + strategies.len() as f64 * (PANEL_WIDTH + 24.0);
    let height = TOP + MEASURES.len() as f64 * (PANEL_HEIGHT + GAP) + 8.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"lab\" role=\"img\" aria-labelledby=\"lab-title lab-desc\" \
         viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\n<title id=\"lab-title\">Cache strategies \
         and eviction policies</title>\n<desc id=\"lab-desc\">For each strategy and cache size: seconds rebuilt, hit rate and \
         bytes stored, a line for each policy. The same figures are in the table.</desc>\n<style>{STYLE}</style>\n"
    );
    legend(&mut out, &policies);
    for (row, measure) in MEASURES.iter().enumerate() {
        let values = replay.rows.iter().filter_map(|row| (measure.of)(row));
        let highest = values.fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        let top = TOP + row as f64 * (PANEL_HEIGHT + GAP);
        for (column, strategy) in strategies.iter().enumerate() {
            let left = LEFT + column as f64 * (PANEL_WIDTH + 24.0);
            let panel = Panel { replay, measure, strategy, sizes: &sizes, left, top, highest };
            panel.draw(&mut out, &policies, column == 0);
        }
    }
    out.push_str("</svg>\n");
    out
}

/// Writing to a text cannot fail.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {{ let _ = writeln!($out, $($arg)*); }};
}

fn legend(out: &mut String, policies: &[&str]) {
    let mut x = LEFT;
    for (index, policy) in policies.iter().enumerate() {
        let class = series_class(index, policy);
        put!(out, "<polyline class=\"{class}\" points=\"{x},14 {},14\"/>", x + 28.0);
        point(out, index, &class, x + 14.0, 14.0, "");
        put!(out, "<text x=\"{}\" y=\"18\">{policy}</text>", x + 34.0);
        x += 48.0 + 7.0 * policy.len() as f64;
    }
}

struct Panel<'a> {
    replay: &'a Replay,
    measure: &'a Measure,
    strategy: &'a str,
    sizes: &'a [Option<u64>],
    left: f64,
    top: f64,
    highest: f64,
}

impl Panel<'_> {
    fn draw(&self, out: &mut String, policies: &[&str], is_first: bool) {
        let (left, top) = (self.left, self.top);
        let bottom = top + PANEL_HEIGHT;
        put!(
            out,
            "<text x=\"{left}\" y=\"{}\"><tspan font-weight=\"600\">{}</tspan> {}</text>",
            top - 10.0,
            self.strategy,
            self.measure.name
        );
        for part in 0..=2 {
            let (value, y) =
                (self.highest * f64::from(part) / 2.0, bottom - PANEL_HEIGHT * f64::from(part) / 2.0);
            put!(
                out,
                "<line class=\"grid\" x1=\"{left}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\"/>",
                left + PANEL_WIDTH
            );
            if is_first {
                let (x, y) = (left - 6.0, y + 4.0);
                put!(
                    out,
                    "<text class=\"soft\" x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{}</text>",
                    (self.measure.text)(value)
                );
            }
        }
        for (index, size) in self.sizes.iter().enumerate() {
            let (x, y) = (self.x(index), bottom + 16.0);
            put!(
                out,
                "<text class=\"soft\" x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{}</text>",
                limit(*size)
            );
        }
        for (index, policy) in policies.iter().enumerate() {
            self.line(out, index, policy);
        }
    }

    fn line(&self, out: &mut String, index: usize, policy: &str) {
        let class = series_class(index, policy);
        let mut points: Vec<(f64, f64, String)> = Vec::new();
        for (place, size) in self.sizes.iter().enumerate() {
            let row = self.replay.row(self.strategy, policy, *size);
            let Some(value) = row.and_then(|row| (self.measure.of)(row)) else { continue };
            // Where a policy has no value of its own, there is no line.
            if size.is_none() && points.is_empty() && self.sizes.len() > 1 {
                return;
            }
            let y = self.top + PANEL_HEIGHT * (1.0 - value / self.highest);
            let title =
                format!("{} {policy}, {}: {}", self.strategy, limit(*size), (self.measure.text)(value));
            points.push((self.x(place), y, title));
        }
        let line: Vec<String> = points.iter().map(|(x, y, _)| format!("{x:.1},{y:.1}")).collect();
        put!(out, "<polyline class=\"{class}\" points=\"{}\"/>", line.join(" "));
        for (x, y, title) in &points {
            point(out, index, &class, *x, *y, title);
        }
    }

    fn x(&self, place: usize) -> f64 {
        self.left + PANEL_WIDTH * (place as f64 + 0.5) / self.sizes.len() as f64
    }
}

fn series_class(index: usize, policy: &str) -> String {
    match policy {
        BELADY => "belady".to_owned(),
        BOUND => "bound".to_owned(),
        _ => format!("s{}", index % 3),
    }
}

/// A point in the shape of its line.
fn point(out: &mut String, shape: usize, class: &str, x: f64, y: f64, title: &str) {
    let (l, r, t, b) = (x - 4.0, x + 4.0, y - 4.0, y + 4.0);
    let path = match shape % 5 {
        0 => format!("M{l:.1} {t:.1}H{r:.1}V{b:.1}H{l:.1}Z"),
        1 => format!("M{x:.1} {t:.1}L{r:.1} {b:.1}H{l:.1}Z"),
        2 => format!("M{l:.1} {y:.1}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z"),
        3 => format!("M{x:.1} {t:.1}L{r:.1} {y:.1}L{x:.1} {b:.1}L{l:.1} {y:.1}Z"),
        _ => format!("M{l:.1} {t:.1}L{r:.1} {b:.1}M{l:.1} {b:.1}L{r:.1} {t:.1}"),
    };
    put!(out, "<path class=\"p {class}\" d=\"{path}\"><title>{title}</title></path>");
}
