//! Why two keys differ, in words.

use std::cmp::Ordering;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{Hash as _, Hasher as _};

use serde::{Deserialize, Serialize};

use crate::{Ingredient, IngredientKind};

/// One ingredient that differs between two keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What it is.
    pub kind: IngredientKind,
    /// Which one of its kind.
    pub name: String,
    /// How it differs.
    #[serde(flatten)]
    pub change: Change,
}

/// How an ingredient differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// Only the later key has it.
    Added {
        /// Its value.
        after: String,
    },
    /// Only the earlier key has it.
    Removed {
        /// Its value.
        before: String,
    },
    /// Both have it, with different values.
    Changed {
        /// The earlier value.
        before: String,
        /// The later value.
        after: String,
    },
    /// Both have the same ingredients of this kind, in another order.
    Reordered,
}

/// The ingredients that differ between two lists, in the order in which a reader wants them: a
/// step's own words first, then its inputs. Empty if and only if the lists are equal.
pub fn explain(before: &[Ingredient], after: &[Ingredient]) -> Vec<Difference> {
    let earlier = numbered(before);
    let later = numbered(after);
    let mut differences = Vec::new();
    for (id, value) in &earlier {
        let (kind, change) = match later.get(id) {
            Some(now) if now.value == value.value => continue,
            Some(now) => {
                (now.kind, Change::Changed { before: value.value.clone(), after: now.value.clone() })
            }
            None => (value.kind, Change::Removed { before: value.value.clone() }),
        };
        differences.push(Difference { kind, name: id.1.to_owned(), change });
    }
    for (id, value) in later.iter().filter(|(id, _)| !earlier.contains_key(*id)) {
        let change = Change::Added { after: value.value.clone() };
        differences.push(Difference { kind: value.kind, name: id.1.to_owned(), change });
    }
    // The number of paths differs only together with a path.
    if differences.iter().any(|difference| difference.kind == IngredientKind::Path) {
        differences.retain(|difference| difference.name != "paths selected");
    }
    differences.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    if differences.is_empty() {
        differences.extend(reordered(before, after));
    }
    differences
}

/// How alike two lists are, from 0 (nothing in common) to 1000 (equal), for finding the record that
/// a reader would call the step's earlier version.
pub fn similarity(before: &[Ingredient], after: &[Ingredient]) -> u32 {
    similarity_beside(before, after, 0)
}

/// [`similarity`] of lists from which so many paths were left out that both have alike.
pub fn similarity_beside(before: &[Ingredient], after: &[Ingredient], same_paths: u64) -> u32 {
    let earlier = numbered(before);
    let later = numbered(after);
    let (mut common, mut all) = (0_u64, 0_u64);
    // A thousand paths say no more about which step this is than its command does.
    let (mut common_paths, mut all_paths) = (same_paths * 1000, same_paths * 1000);
    for (id, value) in &earlier {
        let like = later.get(id).map_or(0, |now| alike(id.0, &value.value, &now.value));
        if id.0 == IngredientKind::Path {
            (common_paths, all_paths) = (common_paths + like, all_paths + 1000);
        } else {
            (common, all) = (common + like * weight(id.0), all + 1000 * weight(id.0));
        }
    }
    for id in later.keys().filter(|id| !earlier.contains_key(*id)) {
        match id.0 {
            IngredientKind::Path => all_paths += 1000,
            kind => all += 1000 * weight(kind),
        }
    }
    if let Some(share) = (common_paths * 1000).checked_div(all_paths) {
        common += share * PATHS_WEIGHT;
        all += 1000 * PATHS_WEIGHT;
    }
    let share = (common * 1000).checked_div(all).unwrap_or(1000);
    u32::try_from(share).unwrap_or(0)
}

/// How alike two texts are, from 0 to 1000, by the words that they share in order of nothing.
pub fn text_similarity(a: &str, b: &str) -> u32 {
    if a == b {
        return 1000;
    }
    TextWords::of(a).similarity(&TextWords::of(b))
}

/// The words of a text, for comparing it with many.
#[derive(Clone, Debug)]
pub struct TextWords {
    /// A hash of the text.
    text: u64,
    first: Option<u64>,
    /// Hashes of the words, sorted.
    words: Vec<u64>,
}

impl TextWords {
    /// Takes a text apart.
    pub fn of(text: &str) -> Self {
        let mut words: Vec<u64> = text.split_whitespace().map(hash).collect();
        let first = words.first().copied();
        words.sort_unstable();
        Self { text: hash(text), first, words }
    }

    /// Names the first word.
    pub fn first(&self) -> Option<u64> {
        self.first
    }

    /// See [`text_similarity`].
    pub fn similarity(&self, other: &Self) -> u32 {
        if self.text == other.text {
            return 1000;
        }
        let (mut a, mut b) = (self.words.iter().peekable(), other.words.iter().peekable());
        let mut common = 0;
        while let (Some(one), Some(two)) = (a.peek(), b.peek()) {
            match one.cmp(two) {
                Ordering::Less => drop(a.next()),
                Ordering::Greater => drop(b.next()),
                Ordering::Equal => {
                    a.next();
                    b.next();
                    common += 2;
                }
            }
        }
        // Equal words in another order or spacing are not an equal text.
        u32::try_from(common * 999 / (self.words.len() + other.words.len()).max(1)).unwrap_or(0)
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

const PATHS_WEIGHT: u64 = 8;

fn weight(kind: IngredientKind) -> u64 {
    match kind {
        IngredientKind::Instruction | IngredientKind::Command | IngredientKind::Destination => 12,
        IngredientKind::Source | IngredientKind::Parent | IngredientKind::Base | IngredientKind::Remote => 4,
        _ => 1,
    }
}

/// How alike two values of one ingredient are, from 0 to 1000. Having it at all counts for
/// something.
fn alike(kind: IngredientKind, before: &str, after: &str) -> u64 {
    match kind {
        _ if before == after => 1000,
        IngredientKind::Instruction => 0,
        IngredientKind::Command => u64::from(text_similarity(&command_words(before), &command_words(after))),
        _ => 300,
    }
}

type Numbered<'a> = BTreeMap<(IngredientKind, &'a str, usize), &'a Ingredient>;

/// The ingredients by kind, name and, where several share both, their number.
fn numbered(list: &[Ingredient]) -> Numbered<'_> {
    let mut seen: HashMap<(IngredientKind, &str), usize> = HashMap::with_capacity(list.len());
    let entries = list.iter().map(|one| {
        let count = seen.entry((merged(one.kind), &one.name)).or_default();
        *count += 1;
        ((merged(one.kind), one.name.as_str(), *count), one)
    });
    entries.collect()
}

/// ARG and ENV are one to the key, so a variable that moves between them has not changed.
fn merged(kind: IngredientKind) -> IngredientKind {
    if kind == IngredientKind::Argument { IngredientKind::Variable } else { kind }
}

fn reordered(before: &[Ingredient], after: &[Ingredient]) -> Option<Difference> {
    let first = before
        .iter()
        .zip(after)
        .find(|(a, b)| (merged(a.kind), &a.name, &a.value) != (merged(b.kind), &b.name, &b.value))?;
    Some(Difference { kind: first.1.kind, name: String::new(), change: Change::Reordered })
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, change } = self;
        let name = &escaped(name);
        if let Change::Reordered = change {
            return write!(f, "the order of {kind}");
        }
        match kind {
            IngredientKind::Path => return display_path(f, name, change),
            IngredientKind::Parent => {
                return f.write_str(match change {
                    Change::Added { .. } => "what is below counts now",
                    Change::Removed { .. } => "what is below does not count any more",
                    _ => "the parent",
                });
            }
            IngredientKind::Read => {
                let what = match change {
                    Change::Added { .. } => "is new",
                    Change::Removed { .. } => "is gone",
                    Change::Changed { .. } if !name.starts_with('/') => "may have changed",
                    _ => "changed",
                };
                return write!(f, "it read {name}, which {what}");
            }
            IngredientKind::Inline | IngredientKind::Script => {
                return match change {
                    Change::Added { .. } => write!(f, "{kind} {name}: new"),
                    Change::Removed { .. } => write!(f, "{kind} {name}: gone"),
                    _ => write!(f, "{kind} {name}: content"),
                };
            }
            IngredientKind::Input if name == "stage" => return f.write_str("the stage that files come from"),
            _ => {}
        }
        write!(f, "{kind}")?;
        if !name.is_empty() {
            write!(f, " {name}")?;
        }
        let shown = |value: &str| shown(*kind, value);
        match change {
            Change::Added { after } if after.is_empty() => f.write_str(": new"),
            Change::Added { after } => write!(f, ": new, {}", shown(after)),
            Change::Removed { before } if before.is_empty() => f.write_str(": gone"),
            Change::Removed { before } => write!(f, ": gone, was {}", shown(before)),
            Change::Changed { before, after } => {
                let (before, after) = shortened_pair(&shown(before), &shown(after));
                write!(f, " {before} → {after}")
            }
            Change::Reordered => Ok(()),
        }
    }
}

/// `src/app.py: content`, `run.sh: mode 0644 → 0755`.
fn display_path(f: &mut fmt::Formatter<'_>, path: &str, change: &Change) -> fmt::Result {
    let path = if path.is_empty() { "." } else { path };
    let (before, after) = match change {
        Change::Added { .. } => return write!(f, "{path}: new"),
        Change::Removed { .. } => return write!(f, "{path}: gone"),
        Change::Changed { before, after } => (before, after),
        Change::Reordered => return Ok(()),
    };
    let [kind, mode, owner, rest] = fields(before);
    let [new_kind, new_mode, new_owner, new_rest] = fields(after);
    let mut words: Vec<String> = Vec::new();
    if kind == new_kind {
        if rest != new_rest {
            words.push(match kind {
                "file" => "content".to_owned(),
                "symlink" => format!("target {} → {}", escaped(rest), escaped(new_rest)),
                _ => "what it is".to_owned(),
            });
        }
    } else {
        words.push(format!("{kind} → {new_kind}"));
    }
    for (what, old, new) in [("mode", mode, new_mode), ("owner", owner, new_owner)] {
        if old != new {
            words.push(format!("{what} {old} → {new}"));
        }
    }
    write!(f, "{path}: {}", words.join(", "))
}

/// The four parts of a line that [`crate::SelectedPath::new`] wrote.
fn fields(digest: &str) -> [&str; 4] {
    let mut parts = digest.splitn(4, ' ');
    std::array::from_fn(|_| parts.next().unwrap_or(""))
}

/// A value as people read it.
fn shown(kind: IngredientKind, value: &str) -> String {
    match kind {
        IngredientKind::Command => format!("`{}`", escaped(&command_words(value))),
        IngredientKind::Base => value.get(..19).unwrap_or(value).to_owned(),
        _ if value.is_empty() => "(empty)".to_owned(),
        _ => escaped(value),
    }
}

/// The command of a shell form alone, else the arguments between spaces.
fn command_words(json: &str) -> String {
    match serde_json::from_str::<Vec<String>>(json) {
        Ok(argv) => match argv.as_slice() {
            [.., flag, command] if argv.len() > 2 && flag.ends_with('c') => command.clone(),
            argv => argv.join(" "),
        },
        Err(_) => json.to_owned(),
    }
}

/// Control characters of other people's texts do not reach a terminal.
fn escaped(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let plain = !c.is_control();
            plain.then_some(c).into_iter().chain((!plain).then(|| c.escape_default()).into_iter().flatten())
        })
        .collect()
}

/// Two long texts that start alike are cut so that the place where they part is seen.
fn shortened_pair(before: &str, after: &str) -> (String, String) {
    const LONGEST: usize = 120;
    if before.chars().count().max(after.chars().count()) <= LONGEST {
        return (before.to_owned(), after.to_owned());
    }
    let same = before.chars().zip(after.chars()).take_while(|(a, b)| a == b).count();
    let start = same.saturating_sub(20);
    let cut = |text: &str| {
        let middle: String = text.chars().skip(start).take(LONGEST).collect();
        let head = if start > 0 { "…" } else { "" };
        let tail = if text.chars().count() > start + LONGEST { "…" } else { "" };
        format!("{head}{middle}{tail}")
    };
    (cut(before), cut(after))
}
