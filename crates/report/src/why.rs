//! Why a step of a build ran: what of its key was new, and what that goes back to.
//!
//! A step that ran because its parent, or a stage that it copies from, was another one is not explained by saying so. The
//! causes are followed down, through the steps that ran, to what changed outside: a file, a word of the Dockerfile, an argument,
//! an image.

use std::fmt::Write as _;

use dbuild_cache::{Change, Difference, IngredientKind};
use serde::Serialize;

use crate::{Build, State, Step};

/// Why a step ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Why {
    /// The step.
    pub step: u32,
    /// It was carried out; else there is nothing to explain.
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
}

impl Build {
    /// Why a step of the build ran.
    pub fn why(&self, step: &Step) -> Why {
        let ran =
            matches!(step.state, State::Done | State::Failed | State::Running) && step.kind != "context";
        let mut causes = Vec::new();
        if ran {
            self.follow(step, &mut vec![step.id], &mut causes);
        }
        let sentence = match causes.split_first() {
            _ if !ran => format!("{} {}", self.name(step), unexplained(step)),
            None => format!("{} ran; the journal does not say why", self.name(step)),
            Some((first, rest)) => {
                let again = if step.differences.is_empty() { "ran" } else { "ran again" };
                let what = &first.what;
                let mut sentence = format!("{} {again} because {what}{}", self.name(step), self.via(first));
                for cause in rest.iter().take(2) {
                    let _ = write!(sentence, ", and because {}{}", cause.what, self.via(cause));
                }
                if rest.len() > 2 {
                    let _ = write!(sentence, ", and for {} more reasons", rest.len() - 2);
                }
                sentence
            }
        };
        Why { step: step.id, ran, sentence, causes, differences: step.reasons.clone() }
    }

    /// Bracket and instruction.
    fn name(&self, step: &Step) -> String {
        format!("{} {}", step.label, step.text)
    }

    fn via(&self, cause: &Cause) -> String {
        let last = cause.way.last().filter(|_| cause.way.len() > 1).and_then(|id| self.step(*id));
        let Some(step) = last else { return String::new() };
        match step.lines {
            Some((line, _)) => format!(", via {} at line {line}", step.text),
            None => format!(", via {}", step.text),
        }
    }

    /// Finds what a step's differences go back to. `way` ends with the step.
    fn follow(&self, step: &Step, way: &mut Vec<u32>, causes: &mut Vec<Cause>) {
        if step.differences.is_empty() {
            let what = match step.kind.as_str() {
                "image" => format!("the image {} is another one", image_name(step)),
                _ => step.reasons.first().cloned().unwrap_or_else(|| "nobody said why".to_owned()),
            };
            return push(causes, what, way);
        }
        let (paths, others): (Vec<&Difference>, Vec<&Difference>) =
            step.differences.iter().partition(|difference| difference.kind == IngredientKind::Path);
        for difference in others {
            match difference.kind {
                IngredientKind::Parent => self.down(step, step.inputs.first().copied(), way, causes),
                IngredientKind::Input => self.down(step, self.stage_source(step), way, causes),
                _ => push(causes, clause(difference), way),
            }
        }
        let Some(first) = paths.first() else { return };
        match self.stage_source(step).filter(|_| !self.takes_from_outside(step)) {
            Some(source) => self.down(step, Some(source), way, causes),
            None => {
                let what = match paths.len() {
                    1 => clause(first),
                    count => format!("{} and {} more", clause(first), count - 1),
                };
                push(causes, what, way);
            }
        }
    }

    /// Goes on with an input; one that did not run is a cause itself.
    fn down(&self, step: &Step, input: Option<u32>, way: &mut Vec<u32>, causes: &mut Vec<Cause>) {
        let Some(input) = input.and_then(|id| self.step(id)).filter(|input| !way.contains(&input.id)) else {
            return push(causes, "what it stands on is another".to_owned(), way);
        };
        let ran = matches!(input.state, State::Done | State::Failed | State::Running);
        if !ran && input.kind != "image" {
            let of = if step.inputs.first() == Some(&input.id) { "stands on" } else { "takes from" };
            return push(causes, format!("it {of} another step than before: {}", self.name(input)), way);
        }
        way.push(input.id);
        self.follow(input, way, causes);
        way.pop();
    }

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
        for (index, cause) in self.causes.iter().filter(|cause| cause.way.len() > 1).enumerate() {
            let head = if index == 0 { "goes back to:" } else { "" };
            let way: Vec<String> = cause
                .way
                .iter()
                .rev()
                .filter_map(|id| build.step(*id))
                .map(|step| build.name(step))
                .collect();
            let _ = write!(text, "\n  {head:14}{} -> {}", cause.what, way.join(" -> "));
        }
        text
    }
}

fn push(causes: &mut Vec<Cause>, what: String, way: &[u32]) {
    if !causes.iter().any(|cause| cause.what == what && cause.way.last() == way.last()) {
        causes.push(Cause { what, way: way.to_vec() });
    }
}

fn image_name(step: &Step) -> String {
    step.image.as_ref().map_or_else(|| step.text.clone(), |image| image.reference.clone())
}

/// A step that did not run.
fn unexplained(step: &Step) -> String {
    match (step.kind.as_str(), step.state) {
        ("context", _) => "is read in every build".to_owned(),
        (_, State::Cached) => "was cached: nothing of its key had changed".to_owned(),
        (_, state) => format!("did not run: {}", state.word()),
    }
}

/// A difference as a clause: `src/app.py changed (content)`.
fn clause(difference: &Difference) -> String {
    let words = difference.to_string();
    match (&difference.kind, &difference.change) {
        (IngredientKind::Path, change) => {
            let (path, how) = words.rsplit_once(": ").unwrap_or((&words, ""));
            match change {
                Change::Added { .. } => format!("{path} is new"),
                Change::Removed { .. } => format!("{path} is gone"),
                _ => format!("{path} changed ({how})"),
            }
        }
        (_, Change::Changed { .. }) => match words.split_once(": content") {
            Some((what, "")) => format!("{what} changed"),
            _ => format!("{words} changed"),
        },
        (_, Change::Reordered) => format!("{words} changed"),
        _ => words.replacen(": new", " is new", 1).replacen(": gone", " is gone", 1),
    }
}
