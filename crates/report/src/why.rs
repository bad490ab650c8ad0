//! Why a step of a build ran: what of its key was new, and what that goes back to.
//!
//! A step that ran because its parent, or a stage that it copies from, was another one is not
//! explained by saying so. The causes are followed down to what changed outside: a file, a word of
//! the Dockerfile, an argument, an image. Steps that ran say themselves what was new of them. Of
//! steps that were cached, and were still other results than before, the explained step says it
//! (`inputs` of its event). What neither says is not known, and is not guessed.

use std::fmt::Write as _;

use dbuild_cache::{Change, Difference, IngredientKind};
use dbuild_events::{ImageChange, InputCause, InputChange};
use serde::Serialize;

use crate::{Build, State, Step};

/// Why a step ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Why {
    /// The step.
    pub step: u32,
    /// It was executed; else there is nothing to explain.
    pub ran: bool,
    /// All of it in one sentence.
    pub sentence: String,
    /// What it goes back to; the first is the one that the sentence names.
    pub causes: Vec<Cause>,
    /// One ingredient of its own key that differs from its earlier version, each.
    pub differences: Vec<String>,
}

/// Something that changed outside of the build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// What, as a clause: `src/app.py changed (content)`.
    pub what: String,
    /// The steps from the asked one to the one that sees the change.
    pub way: Vec<u32>,
    /// Both digests in full, where an image took the place of another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageChange>,
}

/// Maximum number of causes named in one sentence.
const MOST_CAUSES: usize = 3;

impl Build {
    /// Why a step of the build ran.
    pub fn why<'a>(&'a self, step: &'a Step) -> Why {
        let ran = step.ran() && step.kind != "context";
        let mut causes = Causes { build: self, found: Vec::new() };
        match step.kind.as_str() {
            _ if !ran => {}
            "image" => causes.of_image(step),
            _ => causes.follow(step, &mut vec![step.id]),
        }
        let causes = causes.found;
        let sentence = match causes.first() {
            _ if !ran => format!("{} {}", self.name(step), unexplained(step)),
            None => format!("{} ran; the journal does not say why", self.name(step)),
            Some(_) => {
                let verb = match step.kind.as_str() {
                    "image" => "was pulled",
                    _ if step.differences.is_empty() => "ran",
                    _ => "ran again",
                };
                format!("{} {verb} because {}", self.name(step), self.all_in_one(&causes))
            }
        };
        Why { step: step.id, ran, sentence, causes, differences: step.reasons.clone() }
    }

    /// The causes as one clause. What several steps see is said once.
    fn all_in_one(&self, causes: &[Cause]) -> String {
        let mut named: Vec<&Cause> = Vec::new();
        for cause in causes {
            if named.iter().all(|other| other.what != cause.what) {
                named.push(cause);
            }
        }
        let clauses: Vec<String> = named.iter().take(MOST_CAUSES).map(|cause| self.clause(cause)).collect();
        let mut words = clauses.join(", and because ");
        if named.len() > MOST_CAUSES {
            let _ = write!(words, ", and for {} more reasons", named.len() - MOST_CAUSES);
        }
        words
    }

    /// A cause with the step that sees it, where that is another one than the asked.
    pub fn clause(&self, cause: &Cause) -> String {
        let last = cause.way.last().filter(|_| cause.way.len() > 1).and_then(|id| self.step(*id));
        let Some(step) = last.filter(|step| !cause.what.contains(&step.text)) else {
            return cause.what.clone();
        };
        let cached = if step.is_cached_result() { ", which was CACHED from another build" } else { "" };
        match step.lines {
            Some((line, _)) => format!("{}, via {} at line {line}{cached}", cause.what, step.text),
            None => format!("{}, via {}{cached}", cause.what, step.text),
        }
    }

    /// Bracket and instruction.
    fn name(&self, step: &Step) -> String {
        format!("{} {}", step.label, step.text)
    }
}

/// What is found on the way down from one step.
struct Causes<'a> {
    build: &'a Build,
    found: Vec<Cause>,
}

impl<'a> Causes<'a> {
    /// Finds what the differences of a step that ran go back to. `way` ends with the step.
    fn follow(&mut self, step: &'a Step, way: &mut Vec<u32>) {
        if step.differences.is_empty() {
            let reason = step.reasons.first().map_or("nobody said why", String::as_str);
            let what = match way.len() {
                1 => reason.to_owned(),
                _ => reason.replacen(" it ", &format!(" {} ", in_its_line(step)), 1),
            };
            return self.push(what, way);
        }
        self.trace(step, step, &step.differences, way);
    }

    /// The same of a step whose inputs `root` tells: itself, or a step that was cached.
    fn trace(&mut self, root: &'a Step, at: &'a Step, differences: &[Difference], way: &mut Vec<u32>) {
        let parent = at.inputs.first().copied();
        let edges: Vec<&'a InputChange> = root.changes.iter().filter(|change| change.of == at.id).collect();
        let (of_parent, of_sources): (Vec<_>, Vec<_>) =
            edges.into_iter().partition(|change| Some(change.step) == parent);
        let (paths, others): (Vec<&Difference>, Vec<&Difference>) =
            differences.iter().partition(|difference| difference.kind == IngredientKind::Path);
        let of_kind = |kind| {
            let changed = |one: &&&Difference| matches!(one.change, Change::Changed { .. });
            others.iter().filter(changed).any(|difference| difference.kind == kind)
        };
        // First what the step sees itself.
        for difference in &others {
            if !matches!(difference.kind, IngredientKind::Parent | IngredientKind::Input) {
                self.push(clause(difference), way);
            }
        }
        let is_explained = !of_sources.is_empty();
        let from_outside = of_sources.iter().any(|change| change.cause == InputCause::Outside);
        let from_stage = self.build.stage_source(at).filter(|_| !self.build.takes_from_outside(at));
        if let Some(first) = paths.first()
            && (from_outside || (!is_explained && from_stage.is_none()))
        {
            let what = match paths.len() {
                1 => clause(first),
                count => format!("{} and {} more", clause(first), count - 1),
            };
            self.push(what, way);
        }
        match of_parent.first() {
            Some(change) => self.input(root, at, change, way),
            None if of_kind(IngredientKind::Parent) => self.unexplained(at, parent, way),
            None => {}
        }
        for change in of_sources.iter().filter(|change| change.cause != InputCause::Outside) {
            self.input(root, at, change, way);
        }
        if !is_explained && (of_kind(IngredientKind::Input) || (!paths.is_empty() && from_stage.is_some())) {
            self.unexplained(at, from_stage.or(self.build.stage_source(at)), way);
        }
    }

    /// Goes on with an input that `root` tells of.
    fn input(&mut self, root: &'a Step, at: &'a Step, change: &'a InputChange, way: &mut Vec<u32>) {
        let Some(input) = self.build.step(change.step).filter(|input| !way.contains(&input.id)) else {
            return;
        };
        way.push(input.id);
        match &change.cause {
            InputCause::Ran if input.ran() => self.follow(input, way),
            InputCause::Ran | InputCause::Outside => self.push(format!("{} is another", input.text), way),
            InputCause::Image(image) => {
                self.push(image.to_string(), way);
                if let Some(cause) = self.found.last_mut() {
                    cause.image = Some(image.clone());
                }
            }
            InputCause::Replaced { before } => {
                let it = if way.len() == 2 { "it".to_owned() } else { in_its_line(at) };
                let how = if at.inputs.first() == Some(&input.id) { "follows" } else { "takes files from" };
                way.pop();
                self.push(format!("{it} now {how} {} instead of {before}", input.text), way);
                way.push(input.id);
            }
            InputCause::Cached { differences } => {
                let known = self.found.len();
                self.trace(root, input, differences, way);
                if self.found.len() == known {
                    self.push(format!("{} is another result than before", in_its_line(input)), way);
                }
            }
            InputCause::Forgotten if input.kind == "image" => {
                let name = image_name(input);
                self.push(
                    format!("{name} is another image, and which one it was is not known any more"),
                    way,
                );
            }
            InputCause::Forgotten => {
                let name = in_its_line(input);
                let what = "is another result than before, and what that was made of is not known any more";
                self.push(format!("{name} {what}"), way);
            }
        }
        way.pop();
    }

    /// Goes on with an input of which nothing is recorded, as in journals of earlier versions.
    fn unexplained(&mut self, at: &'a Step, input: Option<u32>, way: &mut Vec<u32>) {
        let Some(input) = input.and_then(|id| self.build.step(id)).filter(|input| !way.contains(&input.id))
        else {
            return self.push("what it stands on is another".to_owned(), way);
        };
        if input.kind == "image" {
            way.push(input.id);
            self.push(format!("the image {} is another one", image_name(input)), way);
        } else if input.ran() {
            way.push(input.id);
            self.follow(input, way);
        } else {
            let of = if at.inputs.first() == Some(&input.id) { "stands on" } else { "takes from" };
            return self.push(format!("it {of} another step than before: {}", self.build.name(input)), way);
        }
        way.pop();
    }

    /// An image that was pulled: those who stand on it know which one it was before.
    fn of_image(&mut self, step: &'a Step) {
        let changes = self.build.steps.iter().flat_map(|other| &other.changes);
        let change = changes.filter(|change| change.step == step.id).find_map(|change| match &change.cause {
            InputCause::Image(image) => Some(image.clone()),
            _ => None,
        });
        let what = match &change {
            Some(change) => change.to_string(),
            None => "a step needed its files, and they were not here".to_owned(),
        };
        self.found.push(Cause { what, way: vec![step.id], image: change });
    }

    fn push(&mut self, what: String, way: &[u32]) {
        if !self.found.iter().any(|cause| cause.what == what && cause.way.last() == way.last()) {
            self.found.push(Cause { what, way: way.to_vec(), image: None });
        }
    }
}

impl Build {
    /// The first step besides the parent that a step takes files from, and that ran.
    fn stage_source(&self, step: &Step) -> Option<u32> {
        let sources = || step.inputs.iter().skip(1).copied().filter(|id| !self.is_outside(*id));
        let ran = |id: &u32| self.step(*id).is_some_and(|step| step.state == State::Done);
        sources().find(ran).or_else(|| sources().next())
    }

    fn takes_from_outside(&self, step: &Step) -> bool {
        step.inputs.iter().any(|id| self.is_outside(*id))
    }

    fn is_outside(&self, id: u32) -> bool {
        self.step(id).is_some_and(|step| matches!(step.kind.as_str(), "context" | "fetch" | "git"))
    }
}

impl Step {
    fn ran(&self) -> bool {
        matches!(self.state, State::Done | State::Failed | State::Running)
    }

    /// A result that an earlier build made.
    fn is_cached_result(&self) -> bool {
        self.state == State::Cached && self.kind != "image"
    }
}

impl Why {
    /// All that there is to say, over several lines.
    pub fn text(&self, build: &Build) -> String {
        let mut text = self.sentence.clone();
        if !self.ran || self.causes.is_empty() {
            return text;
        }
        for (index, line) in self.differences.iter().enumerate() {
            let head = if index == 0 { "what differs:" } else { "" };
            let _ = write!(text, "\n  {head:14}{line}");
        }
        let name = |step: &Step| {
            format!("{}{}", build.name(step), if step.is_cached_result() { " (CACHED)" } else { "" })
        };
        for (index, cause) in self.causes.iter().filter(|cause| cause.way.len() > 1).enumerate() {
            let head = if index == 0 { "goes back to:" } else { "" };
            let steps = cause.way.iter().rev().filter_map(|id| build.step(*id));
            let way: Vec<String> = steps.map(name).collect();
            let _ = write!(text, "\n  {head:14}{} -> {}", cause.what, way.join(" -> "));
        }
        text
    }
}

fn image_name(step: &Step) -> String {
    step.image.as_ref().map_or_else(|| step.text.clone(), |image| image.reference.clone())
}

/// `RUN make (line 4)`.
fn in_its_line(step: &Step) -> String {
    match step.lines {
        Some((line, _)) => format!("{} (line {line})", step.text),
        None => step.text.clone(),
    }
}

/// A step that did not run.
fn unexplained(step: &Step) -> String {
    match (step.kind.as_str(), step.state) {
        ("context", _) => "is read in every build".to_owned(),
        ("image", State::Cached) => "was not pulled: it is here, or no step needed its files".to_owned(),
        (_, State::Cached) => "was cached: nothing of its key had changed".to_owned(),
        (_, state) => format!("did not run: {}", state.word()),
    }
}

/// A difference as a clause: `src/app.py changed (content)`.
fn clause(difference: &Difference) -> String {
    let words = difference.to_string();
    match (&difference.kind, &difference.change) {
        (IngredientKind::Read, _) => words,
        (IngredientKind::Path, change) => {
            let (path, how) = words.rsplit_once(": ").unwrap_or((&words, ""));
            match change {
                Change::Added { .. } => format!("{path} is new"),
                Change::Removed { .. } => format!("{path} is gone"),
                _ => format!("{path} changed ({how})"),
            }
        }
        (_, Change::Changed { .. }) => {
            let subject = match difference.name.as_str() {
                "" => difference.kind.to_string(),
                name => format!("{} {name}", difference.kind),
            };
            match words.strip_prefix(&subject).map(|how| how.trim_start_matches(':')) {
                Some(" content") => format!("{subject} changed"),
                Some(how) => format!("{subject} changed:{how}"),
                None => format!("{words} changed"),
            }
        }
        (_, Change::Reordered) => format!("{words} changed"),
        (_, Change::Added { .. } | Change::Removed { .. }) => {
            for (head, tail, how) in
                [(": new, ", ")", " is new ("), (": gone, was ", ")", " is gone (it was ")]
            {
                if let Some((subject, value)) = words.split_once(head) {
                    return format!("{subject}{how}{value}{tail}");
                }
            }
            words.replacen(": new", " is new", 1).replacen(": gone", " is gone", 1)
        }
    }
}

#[cfg(test)]
#[path = "tests/why.rs"]
mod tests;
