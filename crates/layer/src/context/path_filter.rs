//! Which paths of a context somebody will select, step by step along a walk.

use crate::context::glob;
use crate::context::ignore::clean;
use crate::{MAX_PATH, TreePath};

/// Patterns for paths. A path is wanted if a pattern matches it or a directory above it.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// `None`: everything.
    patterns: Option<Vec<Vec<Part>>>,
    grown: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Box<[u8]>),
    Pattern(Box<[u8]>),
    /// `**`: everything from here.
    Rest,
}

/// Where a directory stands in a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Everything below is wanted.
    All,
    /// The next name must match this part of this pattern.
    At(usize, usize),
}

impl Wanted {
    pub(crate) fn new(wanted: Option<&[String]>) -> Self {
        let patterns = wanted.map(|wanted| wanted.iter().map(|path| parts(path.as_bytes())).collect());
        Self { patterns, grown: false }
    }

    pub(crate) fn is_all(&self) -> bool {
        self.patterns.is_none()
    }

    /// Whether symlinks led to more since this was last asked.
    pub(crate) fn has_grown(&mut self) -> bool {
        std::mem::take(&mut self.grown)
    }

    /// What the root of the context is.
    pub(crate) fn start(&self) -> Vec<State> {
        match &self.patterns {
            None => vec![State::All],
            Some(patterns) => (0..patterns.len()).map(|pattern| self.at(pattern, 0)).collect(),
        }
    }

    /// What a name in a directory is: where its own entries stand, and for which patterns it is the last part.
    /// `None`: nobody wants it.
    pub(crate) fn step(&self, states: &[State], name: &[u8]) -> Option<(Vec<State>, Vec<usize>)> {
        if states.contains(&State::All) {
            return Some((vec![State::All], Vec::new()));
        }
        let patterns = self.patterns.as_ref()?;
        let mut next = Vec::new();
        let mut selected = Vec::new();
        for state in states {
            let State::At(pattern, part) = *state else { continue };
            let matches = match &patterns[pattern][part] {
                Part::Literal(literal) => **literal == *name,
                Part::Pattern(text) => glob::matches(text, name),
                Part::Rest => true,
            };
            if matches {
                let state = self.at(pattern, part + 1);
                if state == State::All {
                    selected.push(pattern);
                }
                if !next.contains(&state) {
                    next.push(state);
                }
            }
        }
        (!next.is_empty()).then_some((next, selected))
    }

    /// A symlink on the way of wanted paths: where it leads is wanted too, with what is left of the patterns.
    pub(crate) fn follow(&mut self, dir: &TreePath, target: &[u8], states: &[State], selected: Vec<usize>) {
        let Some(patterns) = &mut self.patterns else { return };
        let mut written = Vec::new();
        if target.first() != Some(&b'/') {
            written.extend_from_slice(dir.as_bytes());
            written.push(b'/');
        }
        written.extend_from_slice(target);
        let Ok(leads_to) = TreePath::clean(&written) else { return };
        let prefix: Vec<Part> = leads_to.components().map(|name| Part::Literal(name.into())).collect();
        let mut rests: Vec<Vec<Part>> = Vec::new();
        if !selected.is_empty() {
            rests.push(Vec::new());
        }
        for state in states {
            if let State::At(pattern, part) = state {
                rests.push(patterns[*pattern][*part..].to_vec());
            }
        }
        for rest in rests {
            let pattern: Vec<Part> = prefix.iter().cloned().chain(rest).collect();
            // A link to itself would grow for ever.
            if pattern.len() <= MAX_PATH / 2 && !patterns.contains(&pattern) {
                patterns.push(pattern);
                self.grown = true;
            }
        }
    }

    fn at(&self, pattern: usize, part: usize) -> State {
        let parts = self.patterns.as_ref().map_or(&[][..], |patterns| &patterns[pattern]);
        match parts.get(part) {
            None | Some(Part::Rest) => State::All,
            Some(_) => State::At(pattern, part),
        }
    }
}

fn parts(path: &[u8]) -> Vec<Part> {
    let cleaned = clean(&[b"/", path].concat());
    let components = cleaned.split(|byte| *byte == b'/').filter(|component| !component.is_empty());
    components
        .map(|component| match component {
            deep if deep.windows(2).any(|two| two == b"**") => Part::Rest,
            pattern if glob::has_wildcards(pattern) => Part::Pattern(pattern.into()),
            literal => Part::Literal(literal.into()),
        })
        .collect()
}
