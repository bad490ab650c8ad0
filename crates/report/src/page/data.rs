//! What the page shows, as its script reads it: the build, and for each step what it changed.

use std::collections::BTreeMap;

use serde::Serialize;

use super::rows::Rows;
use crate::{Build, Contents, LogLine, PathBytes, Totals};

/// The rows of all steps together; each step gets its share.
const ALL_ROWS: usize = 40_000;
/// A step has at most so many, and at least so many.
const ROWS: (usize, usize) = (2_000, 40);
/// Lines of output that the page has of a step, at its beginning and at its end.
const LOG: (usize, usize) = (200, 800);
/// Of all steps together.
const ALL_LOG: usize = 40_000;
/// Characters of a line.
const LONGEST: usize = 4_000;
const LARGEST: usize = 40;

#[derive(Serialize)]
pub(crate) struct PageData {
    title: String,
    version: &'static str,
    build: Build,
    /// The numbers of the steps in the order in which they were done.
    order: Vec<u32>,
    contents: BTreeMap<u32, Rows>,
    largest: Vec<PathBytes>,
    /// Of the whole build, each content counted once; `None` where a layer is not known.
    totals: Option<Totals>,
    /// How many lines of a step's output the page leaves out after the first.
    left_out: BTreeMap<u32, (usize, usize)>,
}

impl PageData {
    pub(crate) fn of(build: &Build, contents: &Contents) -> Self {
        let order: Vec<u32> = build.in_order().iter().map(|step| step.id).collect();
        let limit = (ALL_ROWS / order.len().max(1)).clamp(ROWS.1, ROWS.0);
        let rows = build
            .steps
            .iter()
            .filter_map(|step| Some((step.id, Rows::of(contents.step(step.id)?, limit))))
            .collect();
        let title = build.title();
        let mut shortened = build.clone();
        let left_out = shorten(&mut shortened);
        Self {
            title,
            version: env!("CARGO_PKG_VERSION"),
            build: shortened,
            order,
            contents: rows,
            largest: contents.largest(LARGEST),
            totals: contents.totals(build),
            left_out,
        }
    }
}

/// Shortens the logs of a build to what a page can hold. Gives, by step, after which line how many
/// are left out.
fn shorten(build: &mut Build) -> BTreeMap<u32, (usize, usize)> {
    let share = (ALL_LOG / build.steps.len().max(1)).clamp(40, LOG.0 + LOG.1);
    let head = LOG.0.min(share / 2);
    let mut left_out = BTreeMap::new();
    for step in &mut build.steps {
        for line in step.log.iter_mut().filter(|line| line.text.len() > LONGEST) {
            line.text = line.text.chars().take(LONGEST).chain(['…']).collect();
        }
        if step.log.len() > share {
            let out = step.log.len() - share;
            let _: Vec<LogLine> = step.log.drain(head..head + out).collect();
            left_out.insert(step.id, (head, out));
        }
    }
    left_out
}
