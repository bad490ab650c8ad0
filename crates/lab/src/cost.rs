//! What a simulated step costs and gives: the rules of a cost file, what a store remembers, and
//! defaults.

use std::collections::HashMap;
use std::path::Path;

use dbuild_cache::definition;
use dbuild_digest::StepKey;
use dbuild_layer::{Ignore, TreePath};
use dbuild_plan::{Plan, Step, StepKind};
use dbuild_store::Store;
use serde::Deserialize;

use crate::LabError;

/// What the steps of a simulation cost.
#[derive(Debug, Default)]
pub struct Costs {
    rules: Vec<Rule>,
    /// By definition: milliseconds and bytes.
    known: HashMap<StepKey, (u64, u64)>,
}

/// A rule of the cost file. The first one that fits a step counts.
#[derive(Debug)]
pub(crate) struct Rule {
    text: Option<String>,
    stage: Option<String>,
    seconds: Option<f64>,
    megabytes: Option<f64>,
    /// What a RUN gives depends on these paths alone (and on its own words and the base image).
    pub(crate) reads: Option<Ignore>,
    /// Lines that begin with these do not count in what is read.
    pub(crate) comments: Vec<String>,
    /// Where a RUN writes. `None`: anywhere.
    pub(crate) writes: Option<Vec<TreePath>>,
    /// What a RUN gives depends on its own words alone.
    pub(crate) same_output: bool,
    /// Stands for the words of a RUN: whatever they are, they give the same.
    pub(crate) gives: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    step: Vec<RuleText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RuleText {
    text: Option<String>,
    stage: Option<String>,
    seconds: Option<f64>,
    megabytes: Option<f64>,
    reads: Option<Vec<String>>,
    #[serde(default)]
    comments: Vec<String>,
    writes: Option<Vec<String>>,
    #[serde(default)]
    same_output: bool,
    gives: Option<String>,
}

impl Costs {
    /// Reads a cost file.
    pub fn read(path: &Path) -> Result<Self, LabError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| LabError::ReadCosts { path: path.to_owned(), error })?;
        Self::parse(&text).map_err(|problem| LabError::Costs { path: path.to_owned(), problem })
    }

    /// The rules of a cost file's text, or what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        let rules =
            file.step.into_iter().enumerate().map(|(index, rule)| {
                Rule::new(rule).map_err(|problem| format!("rule {}: {problem}", index + 1))
            });
        Ok(Self { rules: rules.collect::<Result<_, _>>()?, known: HashMap::new() })
    }

    /// Takes for steps that no rule names what a store remembers of steps with the same words.
    #[must_use]
    pub fn with_store(mut self, store: &Store) -> Self {
        // The latest record of a definition comes first.
        for entry in store.record_entries().unwrap_or_default() {
            let record = entry.record;
            self.known.entry(record.definition).or_insert((record.duration_ms, entry.size));
        }
        self
    }

    pub(crate) fn rule(&self, plan: &Plan, step: &Step) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.fits(plan, step))
    }

    /// How many milliseconds a step takes, and how many bytes it gives. `copied` are those that a
    /// COPY takes, as far as that is known.
    pub(crate) fn of(&self, plan: &Plan, step: &Step, copied: Option<u64>) -> (u64, u64) {
        let rule = self.rule(plan, step);
        let known = self.known.get(&definition(step));
        let (default_ms, default_bytes) = defaults(&step.kind);
        let ms = match (rule.and_then(|rule| rule.seconds), known) {
            (Some(seconds), _) => (seconds * 1e3).round() as u64,
            (None, Some((ms, _))) => *ms,
            (None, None) => default_ms,
        };
        let bytes = match (rule.and_then(|rule| rule.megabytes), copied, known) {
            (Some(megabytes), ..) => (megabytes * 1e6).round() as u64,
            (None, Some(copied), _) => copied,
            (None, None, Some((_, bytes))) => *bytes,
            (None, None, None) => default_bytes,
        };
        (ms, bytes)
    }
}

/// Milliseconds and bytes of a step of which nothing else is known.
fn defaults(kind: &StepKind) -> (u64, u64) {
    match kind {
        StepKind::Run(_) => (5_000, 20_000_000),
        StepKind::Fetch(_) | StepKind::Git(_) => (2_000, 1_000_000),
        StepKind::Copy(_) => (100, 1_000_000),
        StepKind::Image(_) | StepKind::Context(_) | StepKind::Scratch | StepKind::Workdir(_) => (1, 0),
    }
}

impl Rule {
    fn new(text: RuleText) -> Result<Self, String> {
        let RuleText { text, stage, seconds, megabytes, reads, comments, writes, same_output, gives } = text;
        if text.is_none() && stage.is_none() {
            return Err("it fits every step: give it `text`, `stage` or both".to_owned());
        }
        for (name, number) in [("seconds", seconds), ("megabytes", megabytes)] {
            if number.is_some_and(|number| !(0.0..1e9).contains(&number)) {
                return Err(format!("`{name}` is not a number from 0 to a billion"));
            }
        }
        if same_output && (reads.is_some() || !comments.is_empty()) {
            return Err(
                "`same-output` says that nothing is read: leave `reads` and `comments` out".to_owned()
            );
        }
        if reads.is_none() && !comments.is_empty() {
            return Err("`comments` are those of files that `reads` names".to_owned());
        }
        let relative = |pattern: &String| pattern.trim_start_matches('/').to_owned();
        let reads = reads.map(|reads| {
            let patterns: Vec<String> = reads.iter().map(relative).collect();
            Ignore::from_patterns(&patterns).map_err(|error| format!("`reads`: {error}"))
        });
        let writes = writes.map(|writes| {
            let paths = writes.iter().map(|path| TreePath::clean(path.as_bytes()));
            paths.collect::<Result<Vec<_>, _>>().map_err(|error| format!("`writes`: {error}"))
        });
        Ok(Self {
            text,
            stage,
            seconds,
            megabytes,
            reads: reads.transpose()?,
            comments,
            writes: writes.transpose()?,
            same_output,
            gives,
        })
    }

    fn fits(&self, plan: &Plan, step: &Step) -> bool {
        let stage = &plan.stage(step.stage).name;
        self.text.as_ref().is_none_or(|pattern| matches(pattern, &step.text))
            && self.stage.as_ref().is_none_or(|pattern| matches(pattern, stage))
    }
}

/// Whether a text fits a pattern in which `*` stands for any characters.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(head) else { return false };
    let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    tail.is_empty() || ends.into_iter().any(|at| matches(tail, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::{Costs, matches};

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text) in
            [("RUN npm*", "RUN npm ci"), ("*ci*", "RUN npm ci"), ("a*b*c", "abbc"), ("*", "")]
        {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("RUN npm", "RUN npm ci"), ("a*b", "abc"), ("*x", ""), ("é*e", "ée é")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_wrong_cost_file_is_refused() {
        let error = |text: &str| Costs::parse(text).unwrap_err();
        has(&error("[[step]]\nsecond = 3\n"), &["unknown field `second`", "line 2"]);
        has(&error("[[step]]\nseconds = 3\n"), &["rule 1: it fits every step"]);
        has(&error("[[step]]\ntext = \"x\"\nseconds = -1\n"), &["`seconds` is not a number"]);
        has(&error("[[step]]\ntext = \"x\"\ncomments = [\"#\"]\n"), &["rule 1: `comments`"]);
        let both = "[[step]]\ntext = \"x\"\nreads = []\nsame-output = true\n";
        has(&error(both), &["`same-output` says that nothing is read"]);
        assert!(Costs::parse("").is_ok());
    }

    #[test]
    fn the_cost_file_of_the_documentation_is_one() {
        let text = include_str!("../../../docs/guide/laboratory.md");
        let block = text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let costs = Costs::parse(block).unwrap();
        assert_eq!(costs.rules.len(), 1);
        assert!(costs.rules[0].reads.is_some() && costs.rules[0].gives.is_some());
    }

    fn has(text: &str, parts: &[&str]) {
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
}
