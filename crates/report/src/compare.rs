//! Two builds side by side: their figures, and step by step what is different.
//!
//! Steps are matched within stages of the same name (the two target stages match whatever their
//! names are): first those with the same words, in order; then, between those, steps of the same
//! kind, as one that was edited.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use dbuild_support::units::{Bytes, Seconds};
use serde::Serialize;

use crate::columns::columns;
use crate::{Build, Change, Contents, Inventory, Operation, State, Step};

/// Two builds.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The first.
    pub a: Side,
    /// The second.
    pub b: Side,
    /// Their steps, matched, in the order of the second, then what only the first has.
    pub steps: Vec<Pair>,
}

/// The figures of one build.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Side {
    /// The journal's name for it.
    pub id: String,
    /// What was built.
    pub title: String,
    /// When it began, in milliseconds since 1970.
    pub started_ms: u64,
    /// How it ended, in a word.
    pub outcome: String,
    /// How long it took.
    pub duration_ms: u64,
    /// Steps that were cached.
    pub cached: usize,
    /// Steps that were cached or executed.
    pub steps: usize,
    /// The size of what was written.
    pub image_bytes: u64,
    /// The files of the image, unpacked.
    pub unpacked_bytes: u64,
    /// What all stages began with or made.
    pub made_bytes: u64,
    /// What of it is not in the image.
    pub left_bytes: u64,
    /// What is in the image, where its layers are known.
    pub inventory: Option<Inventory>,
}

/// A step of both builds, or of one.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    /// The stage.
    pub stage: String,
    /// In the first build.
    pub a: Option<StepSide>,
    /// In the second.
    pub b: Option<StepSide>,
    /// The differences of their layers, where both are known.
    pub files: Option<Difference>,
    /// Both have the same key, so nothing can be different.
    pub same: bool,
}

/// A step in one build.
#[derive(Clone, Debug, Serialize)]
pub struct StepSide {
    /// Its number.
    pub id: u32,
    /// `[build 2/5]`.
    pub label: String,
    /// The instruction.
    pub text: String,
    /// How it ended.
    pub state: State,
    /// How long it took.
    pub duration_ms: u64,
    /// The unpacked size of its layer.
    pub layer_bytes: u64,
    /// Why it was executed.
    pub reasons: Vec<String>,
}

/// What one layer has that another has not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// How many paths only the second has.
    pub only_b: usize,
    /// How many paths only the first has.
    pub only_a: usize,
    /// Number of paths that are different.
    pub differ: usize,
    /// Some of them, each with its sign: `+` only the second, `-` only the first, `~` different.
    pub examples: Vec<String>,
}

/// Maximum number of paths named.
const EXAMPLES: usize = 20;

impl Comparison {
    /// Compares two builds. The inventories are whoever's business it is to read images.
    pub fn of(a: (&Build, &Contents), b: (&Build, &Contents)) -> Self {
        let mut steps = Vec::new();
        for (name, in_a, in_b) in stages(a.0, b.0) {
            for (left, right) in matched(&in_a, &in_b) {
                let files = left.zip(right).and_then(|(left, right)| {
                    Some(Difference::of(&a.1.step(left.id)?.changes, &b.1.step(right.id)?.changes))
                });
                let same =
                    left.zip(right).is_some_and(|(left, right)| left.key.is_some() && left.key == right.key);
                let side = |step: Option<&Step>| step.map(StepSide::of);
                steps.push(Pair { stage: name.clone(), a: side(left), b: side(right), files, same });
            }
        }
        Self { a: Side::of(a.0), b: Side::of(b.0), steps }
    }
}

impl Side {
    fn of(build: &Build) -> Self {
        let (cached, steps) = build.cached();
        let image = build.exports.iter().find(|export| export.digest.is_some()).or(build.exports.first());
        let sum = |of: fn(&crate::StageBytes) -> u64| {
            build.stages.iter().filter_map(|stage| stage.bytes.as_ref()).map(of).sum()
        };
        let outcome = match build.outcome {
            Some(dbuild_events::Outcome::Done) => "done",
            Some(dbuild_events::Outcome::Failed) => "failed",
            Some(dbuild_events::Outcome::Canceled) => "canceled",
            None => "unfinished",
        };
        Self {
            id: build.id.clone(),
            title: build.title(),
            started_ms: build.started_ms,
            outcome: outcome.to_owned(),
            duration_ms: build.duration_ms,
            cached,
            steps,
            image_bytes: image.map_or(0, |image| image.size),
            unpacked_bytes: image.map_or(0, |image| image.unpacked),
            made_bytes: sum(|bytes| bytes.base + bytes.made),
            left_bytes: sum(|bytes| bytes.left),
            inventory: None,
        }
    }
}

impl StepSide {
    fn of(step: &Step) -> Self {
        Self {
            id: step.id,
            label: step.label.clone(),
            text: step.text.clone(),
            state: step.state,
            duration_ms: step.duration_ms,
            layer_bytes: step.layer_bytes,
            reasons: step.reasons.clone(),
        }
    }
}

impl Difference {
    fn of(a: &[Change], b: &[Change]) -> Self {
        let index = |changes: &[Change]| -> BTreeMap<String, Change> {
            changes.iter().map(|change| (change.path.clone(), change.clone())).collect()
        };
        let (a, b) = (index(a), index(b));
        let mut difference = Self::default();
        for path in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
            let sign = match (a.get(path), b.get(path)) {
                (Some(a), Some(b)) if same(a, b) => continue,
                (Some(_), Some(_)) => {
                    difference.differ += 1;
                    '~'
                }
                (Some(_), None) => {
                    difference.only_a += 1;
                    '-'
                }
                _ => {
                    difference.only_b += 1;
                    '+'
                }
            };
            if difference.examples.len() < EXAMPLES {
                difference.examples.push(format!("{sign} {path}"));
            }
        }
        difference
    }

    /// How many paths there are.
    pub fn count(&self) -> usize {
        self.only_a + self.only_b + self.differ
    }
}

fn same(a: &Change, b: &Change) -> bool {
    let gone = |change: &Change| change.operation == Operation::Removed;
    let facts = |change: &Change| (change.kind, change.mode, change.owner, change.size, change.content);
    gone(a) == gone(b) && facts(a) == facts(b)
}

/// A stage by its name in the second build, with its steps in both.
type StagePair<'a> = (String, Vec<&'a Step>, Vec<&'a Step>);

fn stages<'a>(a: &'a Build, b: &'a Build) -> Vec<StagePair<'a>> {
    let steps = |build: &'a Build, stage: Option<u32>| -> Vec<&'a Step> {
        build.visible().filter(|step| step.stage == stage).collect()
    };
    let mut left: Vec<(String, bool, Vec<&Step>)> = a
        .stages
        .iter()
        .map(|stage| (stage.name.clone(), a.targets.contains(&stage.name), steps(a, Some(stage.id))))
        .collect();
    let mut pairs = vec![("shared".to_owned(), steps(a, None), steps(b, None))];
    // A stage without steps was not needed: of two targets of one Dockerfile each side has stages
    // that the other has not.
    for stage in &b.stages {
        let in_b = steps(b, Some(stage.id));
        if in_b.is_empty() {
            continue;
        }
        let is_target = b.targets.contains(&stage.name);
        let named = left.iter().position(|(name, _, steps)| *name == stage.name && !steps.is_empty());
        let other = named.or_else(|| left.iter().position(|(_, target, _)| *target && is_target));
        let in_a = other.map(|at| left.remove(at).2).unwrap_or_default();
        pairs.push((stage.name.clone(), in_a, in_b));
    }
    pairs.extend(left.into_iter().map(|(name, _, steps)| (name, steps, Vec::new())));
    pairs
}

/// Pairs the steps of a stage.
fn matched<'a>(a: &[&'a Step], b: &[&'a Step]) -> Vec<(Option<&'a Step>, Option<&'a Step>)> {
    // The lengths of the longest common sequences of the rests.
    let mut lengths = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            lengths[i][j] = if a[i].text == b[j].text {
                lengths[i + 1][j + 1] + 1
            } else {
                lengths[i + 1][j].max(lengths[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let (mut from_a, mut from_b) = (Vec::new(), Vec::new());
    let mut pairs = Vec::new();
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i].text == b[j].text {
            edited(&mut pairs, std::mem::take(&mut from_a), std::mem::take(&mut from_b));
            pairs.push((Some(a[i]), Some(b[j])));
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && lengths[i + 1][j] >= lengths[i][j + 1]) {
            from_a.push(a[i]);
            i += 1;
        } else {
            from_b.push(b[j]);
            j += 1;
        }
    }
    edited(&mut pairs, from_a, from_b);
    pairs
}

fn edited<'a>(pairs: &mut Vec<(Option<&'a Step>, Option<&'a Step>)>, mut a: Vec<&'a Step>, b: Vec<&'a Step>) {
    for step in b {
        let twin = a.iter().position(|other| other.kind == step.kind).map(|at| a.remove(at));
        pairs.push((twin, Some(step)));
    }
    pairs.extend(a.into_iter().map(|step| (Some(step), None)));
}

/// How much more or less the second is: `-78%`; nothing where that says nothing.
fn change(a: u64, b: u64) -> String {
    if a == 0 || a == b {
        return String::new();
    }
    let percent = (b as f64 - a as f64) / a as f64 * 100.0;
    if percent > 1000.0 { format!("{:.0} times", b as f64 / a as f64) } else { format!("{percent:+.0}%") }
}

impl Comparison {
    /// What is compared, in both, and how much it changed.
    fn rows(&self) -> Vec<[String; 4]> {
        let (a, b) = (&self.a, &self.b);
        let text =
            |name: &str, a: &str, b: &str| [name.to_owned(), a.to_owned(), b.to_owned(), String::new()];
        let mut rows = vec![text("", &a.id, &b.id), text("what", &a.title, &b.title)];
        let built = a.steps + b.steps > 0;
        if built {
            let time = |side: &Side| Seconds(Duration::from_millis(side.duration_ms)).to_string();
            let cached = |side: &Side| format!("{} of {}", side.cached, side.steps);
            rows.push(text("result", &a.outcome, &b.outcome));
            rows.push(["time".to_owned(), time(a), time(b), change(a.duration_ms, b.duration_ms)]);
            rows.push(text("cached", &cached(a), &cached(b)));
        }
        let mut sizes = |name: &str, of: fn(&Side) -> u64, unknown: fn(&Side) -> Option<&'static str>| {
            let shown = |side| unknown(side).map_or_else(|| Bytes(of(side)).to_string(), str::to_owned);
            let known = unknown(a).is_none() && unknown(b).is_none();
            let change = if known { change(of(a), of(b)) } else { String::new() };
            rows.push([name.to_owned(), shown(a), shown(b), change]);
        };
        // A build that did not come to its end has no image, and nobody has added up its bytes.
        let none = |side: &Side| (side.image_bytes == 0).then_some("none");
        sizes("image", |side| side.image_bytes, none);
        sizes("unpacked", |side| side.unpacked_bytes, none);
        if built {
            let unknown = |side: &Side| (side.outcome != "done").then_some("unknown");
            sizes("made", |side| side.made_bytes, unknown);
            sizes("left behind", |side| side.left_bytes, unknown);
        }
        if let (Some(a), Some(b)) = (&a.inventory, &b.inventory) {
            let changes = |name: &str| {
                if name == "files" { change(a.files as u64, b.files as u64) } else { String::new() }
            };
            let both = a.rows().into_iter().zip(b.rows());
            rows.extend(both.map(|((name, a), (_, b))| [name.to_owned(), a, b, changes(name)]));
        }
        rows
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        let width = |at: usize| rows.iter().map(|row| columns(&row[at])).max().unwrap_or(0).min(40);
        let (of_a, of_b) = (width(1), width(2));
        let padded =
            |text: &str, width: usize| format!("{text}{:1$}", "", width.saturating_sub(columns(text)));
        for [name, a, b, change] in &rows {
            let line = format!("{}  {}  {}  {change}", padded(name, 12), padded(a, of_a), padded(b, of_b));
            writeln!(f, "{}", line.trim_end())?;
        }
        if !self.steps.is_empty() {
            writeln!(f, "\nsteps, + only the second has, - only the first has, ~ edited:")?;
        }
        for pair in &self.steps {
            write!(f, "{pair}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = |side: &StepSide| match side.state {
            State::Done => Seconds(Duration::from_millis(side.duration_ms)).to_string(),
            state => state.word().to_owned(),
        };
        match (&self.a, &self.b) {
            (Some(a), Some(b)) => {
                let sign = if a.text != b.text { '~' } else { ' ' };
                writeln!(f, "{sign} {} {}", b.label, b.text)?;
                if a.text != b.text {
                    writeln!(f, "    was: {}", a.text)?;
                }
                if how(a) != how(b) || a.layer_bytes != b.layer_bytes {
                    let sizes = format!("{} -> {}", Bytes(a.layer_bytes), Bytes(b.layer_bytes));
                    writeln!(f, "    {} -> {}, {sizes}", how(a), how(b))?;
                }
                b.reasons.iter().try_for_each(|reason| writeln!(f, "    because: {reason}"))?;
            }
            (Some(a), None) => writeln!(f, "- {} {}: {}, {}", a.label, a.text, how(a), Bytes(a.layer_bytes))?,
            (None, Some(b)) => writeln!(f, "+ {} {}: {}, {}", b.label, b.text, how(b), Bytes(b.layer_bytes))?,
            (None, None) => {}
        }
        let Some(files) = self.files.as_ref().filter(|files| files.count() > 0) else { return Ok(()) };
        files.examples.iter().take(5).try_for_each(|example| writeln!(f, "      {example}"))?;
        match files.count().saturating_sub(5) {
            0 => Ok(()),
            more => writeln!(f, "      and {more} more paths"),
        }
    }
}

#[cfg(test)]
#[path = "tests/compare.rs"]
mod tests;
