//! Where the boxes stand: a lane for each stage, a column for each step on the longest path to it.
//!
//! A step stands right of everything that it needs. The steps of one stage form a chain, so a lane
//! has one row; what belongs to no stage alone stands in a lane of its own, with as many rows as it
//! needs.

use std::collections::{BTreeMap, HashMap};

use crate::{Build, Stage, Step};

/// A laid out graph.
pub(crate) struct Layout<'a> {
    pub(crate) lanes: Vec<Lane<'a>>,
    pub(crate) boxes: Vec<Placed<'a>>,
    /// From the number of a box to the number of a box.
    pub(crate) edges: Vec<(usize, usize)>,
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

/// A stage, or (`None`) what belongs to no stage alone.
pub(crate) struct Lane<'a> {
    pub(crate) stage: Option<&'a Stage>,
    pub(crate) first_row: usize,
    pub(crate) rows: usize,
    /// The numbers of its boxes.
    pub(crate) boxes: Vec<usize>,
}

impl Lane<'_> {
    /// What it is called: with the platform, where there are several, and whether it was needed.
    pub(crate) fn name(&self) -> String {
        let Some(stage) = self.stage else { return "shared".to_owned() };
        let platform = stage.platform.as_ref().map(|platform| format!(" ({platform})")).unwrap_or_default();
        let skipped = if stage.reached { "" } else { " (skipped)" };
        format!("{}{platform}{skipped}", stage.name)
    }
}

/// A step and its place.
pub(crate) struct Placed<'a> {
    pub(crate) step: &'a Step,
    pub(crate) column: usize,
    pub(crate) row: usize,
}

impl<'a> Layout<'a> {
    pub(crate) fn of(build: &'a Build) -> Self {
        let depths = depths(build);
        let mut of_stage: BTreeMap<Option<u32>, Vec<&Step>> = BTreeMap::new();
        for step in build.visible() {
            of_stage.entry(step.stage).or_default().push(step);
        }
        let mut layout =
            Self { lanes: Vec::new(), boxes: Vec::new(), edges: Vec::new(), columns: 0, rows: 0 };
        if let Some(shared) = of_stage.remove(&None) {
            layout.lane(None, &shared, &depths);
        }
        for stage in &build.stages {
            let steps = of_stage.remove(&Some(stage.id)).unwrap_or_default();
            layout.lane(Some(stage), &steps, &depths);
        }
        let numbers: HashMap<u32, usize> =
            layout.boxes.iter().enumerate().map(|(number, placed)| (placed.step.id, number)).collect();
        for (to, placed) in layout.boxes.iter().enumerate() {
            let from = placed.step.inputs.iter().filter_map(|input| numbers.get(input));
            layout.edges.extend(from.map(|from| (*from, to)));
        }
        layout.edges.dedup();
        layout
    }

    fn lane(&mut self, stage: Option<&'a Stage>, steps: &[&'a Step], depths: &HashMap<u32, usize>) {
        let first_row = self.rows;
        let mut taken: HashMap<usize, usize> = HashMap::new();
        let mut boxes = Vec::new();
        for step in steps {
            let column = depths.get(&step.id).copied().unwrap_or(0);
            let row = taken.entry(column).or_default();
            boxes.push(self.boxes.len());
            self.boxes.push(Placed { step, column, row: first_row + *row });
            *row += 1;
            self.columns = self.columns.max(column + 1);
        }
        let rows = taken.into_values().max().unwrap_or(1);
        self.rows += rows;
        self.lanes.push(Lane { stage, first_row, rows, boxes });
    }
}

/// The length of the longest path to each step. Inputs come before their users, as the plan numbers
/// them; others count as not there.
fn depths(build: &Build) -> HashMap<u32, usize> {
    let mut depths = HashMap::new();
    for step in &build.steps {
        // FROM scratch has no box and takes no column.
        let below = step.inputs.iter().filter_map(|input| depths.get(input).copied());
        let scratch = usize::from(step.kind != "scratch");
        let depth = below.max().unwrap_or(0) + scratch;
        depths.insert(step.id, depth);
    }
    depths.values_mut().for_each(|depth| *depth = depth.saturating_sub(1));
    depths
}
