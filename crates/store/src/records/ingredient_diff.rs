//! What two lists of ingredients do not have in common, without reading what they have.
//!
//! Lists are kept in pieces that are cut where their content says so
//! ([`crate::records::ingredient_chunks`]), and the next version of a COPY of 200,000 files has all
//! but one of them. A piece of both is neither read nor held: the paths in it are the same, with
//! the same contents, and in the same order. What is left is short, and says all that the whole
//! lists would: every ingredient that is no path, and every path of a name that the rest of one of
//! them has.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash as _, Hasher as _};

use dbuild_cache::{Ingredient, IngredientKind, IngredientList, Sink};

use crate::records::ingredient_chunks::{ChunkId, Cutter};

/// The pieces of a list, and of which paths they are.
pub(crate) struct Outline {
    /// With the number of their ingredients.
    pieces: Vec<(ChunkId, usize)>,
    /// A hash of each path, and 0 for what is none.
    names: Vec<u64>,
}

/// What is left of two lists.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    pub(crate) before: Vec<Ingredient>,
    pub(crate) after: Vec<Ingredient>,
    /// Number of paths left out because both have them alike.
    pub(crate) same: u64,
}

/// A piece of the earlier list.
enum Part {
    Own(Vec<Ingredient>),
    /// The later list has it, here among its pieces.
    Shared(usize),
}

impl Outline {
    pub(crate) fn of(list: &dyn IngredientList) -> Self {
        let mut outlining = OutlineBuilder {
            cutter: Cutter::new(),
            length: 0,
            outline: Self { pieces: Vec::new(), names: Vec::new() },
        };
        list.walk(&mut outlining);
        let last = outlining.cutter.end();
        outlining.ended(last);
        outlining.outline
    }

    /// What is left of the list that has these pieces and of the one of this outline. `None` if a
    /// piece cannot be read.
    pub(crate) fn apart(
        &self,
        before: &[ChunkId],
        list: &dyn IngredientList,
        mut read: impl FnMut(&ChunkId) -> Option<Vec<Ingredient>>,
    ) -> Option<Rest> {
        let places: HashMap<&ChunkId, usize> =
            self.pieces.iter().enumerate().map(|(at, (id, _))| (id, at)).collect();
        let mut shared = vec![false; self.pieces.len()];
        let mut parts = Vec::with_capacity(before.len());
        // In the order of both, so that what is numbered by its order has the same number.
        let mut next = 0;
        for id in before {
            parts.push(match places.get(id) {
                Some(at) if *at >= next => {
                    shared[*at] = true;
                    next = *at + 1;
                    Part::Shared(*at)
                }
                _ => Part::Own(read(id)?),
            });
        }
        let names = self.names_apart(&parts, &shared);
        let mut taking = RestBuilder {
            of: self,
            shared,
            names,
            at: 0,
            piece: 0,
            ends: 0,
            kept: HashMap::new(),
            rest: Rest::default(),
        };
        taking.ends = self.pieces.first().map_or(0, |(_, length)| *length);
        list.walk(&mut taking);
        let RestBuilder { mut kept, mut rest, .. } = taking;
        for part in parts {
            match part {
                Part::Own(items) => rest.before.extend(items),
                Part::Shared(at) => rest.before.extend(kept.remove(&at).unwrap_or_default()),
            }
        }
        Some(rest)
    }

    /// The paths of the pieces that only one of both has.
    fn names_apart(&self, parts: &[Part], shared: &[bool]) -> HashSet<u64> {
        let mut names = HashSet::new();
        for part in parts {
            if let Part::Own(items) = part {
                names.extend(items.iter().map(|item| name_of(item.kind, &item.name)));
            }
        }
        let mut rest = self.names.as_slice();
        for ((_, length), shared) in self.pieces.iter().zip(shared) {
            let (piece, after) = rest.split_at((*length).min(rest.len()));
            rest = after;
            if !shared {
                names.extend(piece);
            }
        }
        // What is no path is never left out.
        names.insert(0);
        names
    }
}

fn name_of(kind: IngredientKind, name: &str) -> u64 {
    if kind != IngredientKind::Path {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish() | 1
}

struct OutlineBuilder {
    cutter: Cutter,
    /// Length of the piece that is being walked.
    length: usize,
    outline: Outline,
}

impl OutlineBuilder {
    fn ended(&mut self, id: Option<ChunkId>) {
        if let Some(id) = id {
            self.outline.pieces.push((id, std::mem::take(&mut self.length)));
        }
    }
}

impl Sink for OutlineBuilder {
    fn add(&mut self, kind: IngredientKind, name: &str, value: &str) {
        self.length += 1;
        self.outline.names.push(name_of(kind, name));
        let id = self.cutter.add(kind, name, value);
        self.ended(id);
    }
}

/// Takes of the later list what is left of it.
struct RestBuilder<'a> {
    of: &'a Outline,
    shared: Vec<bool>,
    names: HashSet<u64>,
    /// How far the list was walked, in which piece that is, and where the piece ends.
    at: usize,
    piece: usize,
    ends: usize,
    /// What is not left out of pieces that both have.
    kept: HashMap<usize, Vec<Ingredient>>,
    rest: Rest,
}

impl Sink for RestBuilder<'_> {
    fn add(&mut self, kind: IngredientKind, name: &str, value: &str) {
        let is_shared = self.shared.get(self.piece).is_some_and(|shared| *shared);
        let is_apart = self.of.names.get(self.at).is_none_or(|name| self.names.contains(name));
        match (is_shared, is_apart) {
            (true, false) => self.rest.same += 1,
            (true, true) => {
                self.kept.entry(self.piece).or_default().add(kind, name, value);
                self.rest.after.add(kind, name, value);
            }
            (false, _) => self.rest.after.add(kind, name, value),
        }
        self.at += 1;
        if self.at == self.ends {
            self.piece += 1;
            self.ends += self.of.pieces.get(self.piece).map_or(0, |(_, length)| *length);
        }
    }
}

#[cfg(test)]
#[path = "tests/ingredient_diff.rs"]
mod tests;
