//! The report: one HTML file that needs nothing else.
//!
//! The page is a template with the graph drawn in, the build as JSON in a data block, and a script
//! that shows it. Nothing in it is asked of a network, and the content security policy forbids it:
//! only the page's own style and script, named by their hashes, may run. So no text of a build can
//! do anything but be read, whatever it contains; it is escaped all the same.

mod data;
mod rows;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use data::PageData;
use dbuild_digest::BlobDigest;
use dbuild_support::escape;
use serde::Serialize;

use crate::graph::{STYLE, columns_of, figure, text};
use crate::{Build, Comparison, Contents};

const PAGE: &str = include_str!("../html/page.html");
const COMPARE: &str = include_str!("../html/compare.html");
const COLORS: &str = include_str!("../html/colors.css");
const CSS: &str = include_str!("../html/page.css");
/// Boxes that a browser draws at once without effort.
const LARGE: usize = 400;
/// A drawing with more columns of boxes cannot be read on paper, where it is as wide as the page at
/// most.
const PAPER: usize = 5;
/// The characters that a line of paper has.
const PAPER_LINE: usize = 108;
/// Later files use what earlier ones define.
const SCRIPTS: [&str; 8] = [
    include_str!("../html/base.js"),
    include_str!("../html/tree.js"),
    include_str!("../html/step.js"),
    include_str!("../html/time.js"),
    include_str!("../html/bytes.js"),
    include_str!("../html/graph.js"),
    include_str!("../html/find.js"),
    include_str!("../html/page.js"),
];
const COMPARE_SCRIPTS: [&str; 2] = [include_str!("../html/base.js"), include_str!("../html/compare.js")];

/// The report of one build.
pub fn page(build: &Build, contents: &Contents) -> String {
    let title = format!("{} · dbuild report", build.title());
    // A large graph is not for a browser to draw whole: the script shows the part that is in sight.
    let graph = match build.visible().count() {
        0..=LARGE => figure(build),
        _ => format!("<template id=\"whole-graph\">{}</template>", figure(build)),
    };
    let paper = on_paper(build);
    let parts = Parts { title: &title, graph: &graph, paper: &paper, scripts: &SCRIPTS };
    assemble(PAGE, &parts, &PageData::of(build, contents))
}

/// The report of two builds side by side.
pub fn compare_page(comparison: &Comparison) -> String {
    let title = format!("{} and {} · dbuild report", comparison.a.title, comparison.b.title);
    assemble(COMPARE, &Parts { title: &title, graph: "", paper: "", scripts: &COMPARE_SCRIPTS }, comparison)
}

/// The graph for paper where the drawing is too wide for it: in lines of text.
fn on_paper(build: &Build) -> String {
    let steps = build.visible().count();
    if steps > LARGE {
        let id = escape::html(&build.id);
        return format!(
            "<p class=\"paper\">{steps} steps are too many for paper: \
             <code>dbuild graph --build {id} --format svg</code> draws them all.</p>"
        );
    }
    if columns_of(build) <= PAPER {
        return String::new();
    }
    format!("<pre class=\"paper\">{}</pre>", escape::html(&text(build, PAPER_LINE)))
}

struct Parts<'a> {
    title: &'a str,
    graph: &'a str,
    /// The graph as it is printed; empty where the drawing is.
    paper: &'a str,
    scripts: &'a [&'a str],
}

fn assemble(template: &str, parts: &Parts<'_>, data: &impl Serialize) -> String {
    let style = format!("{COLORS}{STYLE}{CSS}");
    let script = format!("\"use strict\";\n(() => {{\n{}}})();\n", parts.scripts.concat());
    let policy = format!(
        "default-src 'none'; style-src '{}'; script-src '{}'; base-uri 'none'; form-action 'none'",
        source_hash(&style),
        source_hash(&script)
    );
    let mut out = String::new();
    let mut rest = template;
    // Each slot is filled once, and what was filled in is not looked at again: a Dockerfile may
    // hold the name of a slot.
    while let Some((before, (name, after))) =
        rest.split_once("{{").and_then(|(before, after)| Some((before, after.split_once("}}")?)))
    {
        out.push_str(before);
        match name {
            "title" => out.push_str(&escape::html(parts.title)),
            "policy" => out.push_str(&policy),
            "style" => out.push_str(&style),
            "script" => out.push_str(&script),
            "graph" => out.push_str(parts.graph),
            "paper" => out.push_str(parts.paper),
            "data" => out.push_str(&json(data)),
            _ => {}
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// JSON that cannot end the element that it is in.
fn json(data: &impl Serialize) -> String {
    // Of texts, numbers and lists alone: cannot fail.
    let text = serde_json::to_string(data).unwrap_or_default();
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
    out
}

/// How a policy names an inline style or script.
fn source_hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(BlobDigest::of(text.as_bytes()).as_bytes()))
}

#[cfg(test)]
#[path = "../tests/page.rs"]
mod tests;
