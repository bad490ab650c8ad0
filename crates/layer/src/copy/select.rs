//! What a COPY source selects, before anything is copied. The list is what keys are made of and
//! what [`crate::copy`] then copies, so the two cannot differ.

use std::collections::{HashMap, HashSet};
use std::ops::Deref;

use dbuild_support::edit_distance::nearest_name;

use crate::context::glob;
use crate::context::ignore::MatchedPatterns;
use crate::{
    Entry, EntryKind, Ignore, LayerError, LayerFiles, PatternError, ResolveError, Stack, StackEntry, TreePath,
};

/// How a source is selected.
#[derive(Clone, Debug, Default)]
pub struct SelectOptions {
    /// Patterns below each source that are left out (`--exclude`).
    pub exclude: Vec<String>,
    /// Source paths keep their parents, from the root or from a `/./` (`--parents`).
    pub parents: bool,
    /// The path is a name, whatever characters it has, as the source of a mount is.
    pub literal: bool,
}

/// A COPY or ADD that cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A source that is not there. Also when it is ignored, which the caller can tell.
    #[error("`{path}` is not there{}", near.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
    NotFound {
        /// The source as written.
        path: String,
        /// A path that is there and looks like it.
        near: Option<String>,
    },
    /// With `--parents`, a source without wildcards of which nothing is left.
    #[error(
        "`{path}` selects nothing: --parents takes paths as they are written, through no symlink, and not what --exclude leaves out"
    )]
    Nothing {
        /// The source as written.
        path: String,
    },
    /// With `--parents` or `--exclude`, a symlink at the top of the file system that leads to
    /// nothing.
    #[error(
        "`{path}` is a symlink to something that is not there, which --parents and --exclude do not take at the top of a source"
    )]
    Dangling {
        /// Its path.
        path: TreePath,
    },
    /// A pattern of `--exclude` or of a source.
    #[error("{0}")]
    Pattern(#[from] PatternError),
    /// A mode that is neither octal nor symbolic.
    #[error("`{0}` is not a mode: write it in octal (0755) or as chmod takes it (u=rwx,go=rx)")]
    Mode(String),
    /// A directory would have to replace something else, or the other way round.
    #[error("cannot copy to {path}: {why}")]
    Destination {
        /// Where.
        path: TreePath,
        /// Why not.
        why: DestinationConflict,
    },
    /// Reading or writing failed.
    #[error("{0}")]
    Layer(#[from] LayerError),
}

/// What stands in the way of a copy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DestinationConflict {
    /// The source has a file.
    #[error("a directory stands there, which a file does not replace")]
    Directory,
    /// The source has a directory. Links are followed on the way to the destination, not inside a
    /// tree that is copied.
    #[error("a symlink to `{target}` stands there, where the source has a directory")]
    Link {
        /// Where it leads, as written.
        target: String,
    },
    /// The source has a directory.
    #[error("a file stands there, where the source has a directory")]
    File,
}

impl From<ResolveError> for CopyError {
    fn from(error: ResolveError) -> Self {
        Self::Layer(error.into())
    }
}

/// What one source selects.
#[derive(Clone, Debug)]
pub struct Selection {
    pub(crate) source: Stack,
    pub(crate) matches: Vec<Match>,
}

/// One path that a source means; a wildcard can mean several.
#[derive(Clone, Debug)]
pub(crate) struct Match {
    /// The path as it was named or matched, symlinks not followed.
    pub(crate) named: TreePath,
    /// The path and what is below it, in order; the first is the path itself, with an empty `rel`.
    pub(crate) items: Vec<Item>,
}

/// Small, since there is one for each path of a context: what is at the path is looked up in the
/// source.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Below the match.
    rel: TreePath,
    layer: u32,
    /// Where in the layer's index; `None` for a root that is in none.
    at: Option<u32>,
    /// The item of the same match that is another name of the same, if there is one before this.
    linked_to: Option<u32>,
    has_links: bool,
    only_parent: bool,
}

/// One selected path and what is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SelectedEntry<'a> {
    /// Below the match.
    pub(crate) rel: &'a TreePath,
    /// As the source has it.
    pub(crate) entry: &'a Entry,
    /// Kind of the entry; a hardlink has the kind of its file.
    pub(crate) kind: &'a EntryKind,
    /// Which file of the source it is, if it is one: its layer and its first path there.
    pub(crate) file: Option<(usize, &'a TreePath)>,
    /// What it is one name of: its layer and the first path there.
    pub(crate) first_name: (usize, &'a TreePath),
    /// The match may have more names of it.
    pub(crate) has_links: bool,
    /// A directory that is there only because something below it is.
    pub(crate) only_parent: bool,
}

/// One selected path, as keys and explanations want it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectedItem {
    /// The path as the source names it, and below.
    pub path: String,
    /// `file`, `hardlink`, `dir`, `symlink`, `fifo`, `char`, `block`; `parent` for a directory that
    /// is there only because something below it is.
    pub kind: &'static str,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The content digest, the link's target or the device, then extended attributes: all else but
    /// times.
    pub rest: String,
    /// The content digest of a file.
    pub content: Option<dbuild_digest::ContentDigest>,
}

/// Finds what a source means in a tree. `path` is relative to the tree's root, possibly with
/// wildcards, with a trailing `/.` or, with `parents`, a `/./`. A wildcard may match nothing; a
/// literal path must be there.
pub fn select(source: &Stack, path: &str, options: &SelectOptions) -> Result<Selection, CopyError> {
    let exclude = Ignore::from_patterns(&options.exclude)?;
    let (base, include, literal) = match options.parents {
        true => {
            let (base, pattern) = path.split_once("/./").unwrap_or(("/", path));
            let pattern = TreePath::clean(pattern.as_bytes()).map_err(ResolveError::from)?;
            let literal = !glob::has_wildcards(base.as_bytes()) && !glob::has_wildcards(pattern.as_bytes());
            if literal {
                require(source, path, &[base.as_bytes(), b"/", pattern.as_bytes()].concat(), false)?;
            }
            let text = String::from_utf8_lossy(pattern.as_bytes()).into_owned();
            (base, Some(Ignore::from_patterns(&[text])?), literal)
        }
        false => (path, None, false),
    };
    let mut matches = Vec::new();
    for named in named_paths(source, base, options.literal)? {
        let resolved = source.resolve(named.as_bytes(), true)?;
        let Some(found) = resolved.found else {
            return Err(not_found(source, &String::from_utf8_lossy(named.as_bytes())));
        };
        let filter = Filter { include: include.as_ref(), exclude: &exclude };
        let mut items = items_of(source, &resolved.path, found, &filter);
        link(source, &mut items);
        if named.is_root() && !filter.is_empty() {
            refuse_dangling(source, &items)?;
        }
        items.shrink_to_fit();
        matches.push(Match { items, named });
    }
    let below = |one: &Match| one.items.iter().any(|item| !item.rel.is_root());
    if literal && !matches.iter().any(below) {
        return Err(CopyError::Nothing { path: path.to_owned() });
    }
    Ok(Selection { source: source.clone(), matches })
}

/// The paths that a source means, wildcards expanded and symlinks at the end not followed.
fn named_paths(source: &Stack, path: &str, literal: bool) -> Result<Vec<TreePath>, CopyError> {
    let clean = TreePath::clean(path.as_bytes()).map_err(ResolveError::from)?;
    let components: Vec<&[u8]> = clean.components().collect();
    let is_pattern = |component: &&[u8]| !literal && glob::has_wildcards(component);
    let Some(first) = components.iter().position(is_pattern) else {
        require(source, path, clean.as_bytes(), true)?;
        return Ok(vec![clean]);
    };
    let pattern = components[first..].join(&b'/');
    // Of a context, a malformed pattern says what is read; elsewhere it merely matches nothing.
    if source.layers().iter().any(|layer| matches!(layer.files, LayerFiles::Live(_))) {
        glob::check(&String::from_utf8_lossy(&pattern))?;
    }
    let base = source.resolve(components[..first].join(&b'/'), true)?;
    if base.found.is_none() {
        return Err(not_found(source, &String::from_utf8_lossy(&components[..first].join(&b'/'))));
    }
    let mut named: Vec<TreePath> = Vec::new();
    for found in source.walk(&base.path) {
        let path = &found.entry.path;
        if named.last().is_some_and(|last| path.starts_with(last)) {
            continue;
        }
        let below = path.strip_prefix(&base.path).unwrap_or_default();
        if !below.is_root() && glob::matches(&pattern, below.as_bytes()) {
            named.push(path.clone());
        }
    }
    Ok(named)
}

fn require(source: &Stack, written: &str, path: &[u8], follow: bool) -> Result<(), CopyError> {
    match source.resolve(path, follow) {
        Ok(resolved) if resolved.found.is_some() => Ok(()),
        Err(error @ (ResolveError::TooManyLinks(_) | ResolveError::Path(_))) => Err(error.into()),
        Ok(_) | Err(ResolveError::NotADirectory(_)) => Err(not_found(source, written)),
    }
}

/// BuildKit follows the symlinks that lie at the top of a file system when it makes the key of a
/// filtered copy.
fn refuse_dangling(source: &Stack, items: &[Item]) -> Result<(), CopyError> {
    let is_link = |item: &&Item| matches!(look(source, item).kind, EntryKind::Symlink { .. });
    for item in items.iter().filter(|item| item.rel.components().count() == 1).filter(is_link) {
        if !source.resolve(item.rel.as_bytes(), true).is_ok_and(|resolved| resolved.found.is_some()) {
            return Err(CopyError::Dangling { path: item.rel.clone() });
        }
    }
    Ok(())
}

struct Filter<'a> {
    include: Option<&'a Ignore>,
    exclude: &'a Ignore,
}

impl Filter<'_> {
    fn takes(
        &self,
        rel: &TreePath,
        parent: &(MatchedPatterns, MatchedPatterns),
    ) -> (bool, (MatchedPatterns, MatchedPatterns)) {
        let (included, by_include) = match self.include {
            Some(include) => include.matches_below(rel, &parent.0),
            None => (true, MatchedPatterns::default()),
        };
        let (excluded, by_exclude) = self.exclude.matches_below(rel, &parent.1);
        (included && !excluded, (by_include, by_exclude))
    }

    fn is_empty(&self) -> bool {
        self.include.is_none() && self.exclude.is_empty()
    }
}

fn items_of(source: &Stack, top: &TreePath, found: StackEntry<'_>, filter: &Filter<'_>) -> Vec<Item> {
    let mut items = vec![item(TreePath::root(), &found, false)];
    if !found.entry.is_dir() {
        return items;
    }
    // The directories that lead to the current entry, with what matched them, and whether they were
    // taken.
    let mut above: Vec<(TreePath, (MatchedPatterns, MatchedPatterns), Option<Item>)> = Vec::new();
    for found in source.walk(top) {
        let rel = found.entry.path.strip_prefix(top).unwrap_or_default();
        if rel.is_root() {
            continue;
        }
        if filter.is_empty() {
            items.push(item(rel, &found, false));
            continue;
        }
        while above.last().is_some_and(|(dir, ..)| !rel.starts_with(dir)) {
            above.pop();
        }
        let nothing = (MatchedPatterns::default(), MatchedPatterns::default());
        let parent = above.last().map_or(&nothing, |(_, matched, _)| matched);
        let (taken, matched) = filter.takes(&rel, parent);
        if taken {
            for (.., pending) in &mut above {
                items.extend(pending.take());
            }
            items.push(item(rel.clone(), &found, false));
        }
        if found.entry.is_dir() {
            let pending = (!taken).then(|| item(rel.clone(), &found, true));
            above.push((rel, matched, pending));
        }
    }
    items
}

fn item(rel: TreePath, found: &StackEntry<'_>, only_parent: bool) -> Item {
    let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Item {
        rel,
        layer: small(found.layer),
        at: found.index().map(small),
        linked_to: None,
        has_links: false,
        only_parent,
    }
}

/// Finds the names that are hard links of each other. What has one name is not looked at.
fn link(source: &Stack, items: &mut [Item]) {
    let is_link = |item: &&Item| matches!(look(source, item).entry.kind, EntryKind::Hardlink { .. });
    let linked: HashSet<_> = items.iter().filter(is_link).map(|item| look(source, item).first_name).collect();
    if linked.is_empty() {
        return;
    }
    let mut first = HashMap::new();
    let mut links = Vec::new();
    for (at, item) in (0..).zip(items.iter()) {
        let name = look(source, item).first_name;
        if linked.contains(&name) {
            let first = *first.entry(name).or_insert(at);
            links.push((at as usize, (first != at).then_some(first)));
        }
    }
    for (at, linked_to) in links {
        (items[at].linked_to, items[at].has_links) = (linked_to, true);
    }
}

fn look<'a>(source: &'a Stack, item: &'a Item) -> SelectedEntry<'a> {
    let layer = item.layer as usize;
    let tree = source.layers().get(layer).map(|layer| &*layer.tree);
    let found = item
        .at
        .and_then(|at| StackEntry::at(tree?, layer, at as usize))
        .unwrap_or_else(StackEntry::plain_root);
    let (first, kind) = (found.first_name(), found.kind());
    let first_name = (layer, &first.path);
    let file = matches!(kind, EntryKind::File { .. }).then_some(first_name);
    let (has_links, only_parent) = (item.has_links, item.only_parent);
    SelectedEntry { rel: &item.rel, entry: found.entry, kind, file, first_name, has_links, only_parent }
}

impl Selection {
    /// Everything that was selected, sorted by path: what is copied depends on this and on times
    /// alone.
    pub fn items(&self) -> impl ExactSizeIterator<Item = SelectedItem> {
        items_of_selection(self)
    }

    /// The paths of one match, the match itself first.
    pub(crate) fn paths<'a>(&'a self, one: &'a Match) -> impl Iterator<Item = SelectedEntry<'a>> {
        one.items.iter().map(|item| look(&self.source, item))
    }

    fn all_paths(&self) -> impl Iterator<Item = SelectedEntry<'_>> {
        self.matches.iter().flat_map(|one| self.paths(one))
    }

    fn item(&self, one: usize, at: usize) -> Option<SelectedItem> {
        let one = self.matches.get(one)?;
        let item = one.items.get(at)?;
        let linked_to = item.linked_to.and_then(|first| one.items.get(first as usize));
        Some(described(&one.named, &look(&self.source, item), linked_to.map(|first| &first.rel)))
    }

    /// How many paths were selected from directories of the user's, which can change.
    pub fn live_paths(&self) -> usize {
        let layers = self.source.layers();
        let live = |(layer, _): &(usize, &TreePath)| {
            layers.get(*layer).is_some_and(|layer| matches!(layer.files, LayerFiles::Live(_)))
        };
        self.all_paths().filter_map(|selected| selected.file).filter(live).count()
    }

    /// Whether all files that were selected are where they came from, in directories of the user's.
    pub fn is_of_contexts(&self) -> bool {
        let layers = self.source.layers();
        let mut files = self.all_paths().filter_map(|selected| selected.file);
        files.all(|(layer, _)| {
            let files = layers.get(layer).map(|layer| &layer.files);
            matches!(files, Some(LayerFiles::Live(_) | LayerFiles::Unwritten(_)))
        })
    }

    /// How many paths were selected.
    pub fn len(&self) -> usize {
        self.matches.iter().map(|one| one.items.len()).sum()
    }

    /// Whether nothing was selected (a wildcard without a match).
    pub fn is_empty(&self) -> bool {
        self.matches.is_empty()
    }

    /// The bytes of all selected files.
    pub fn size(&self) -> u64 {
        let size = |selected: SelectedEntry<'_>| match selected.kind {
            EntryKind::File { size, .. } => *size,
            _ => 0,
        };
        self.all_paths().map(size).sum()
    }
}

/// [`Selection::items`] of a selection that is shared, one at a time.
pub fn items_of_selection<S: Deref<Target = Selection>>(
    selection: S,
) -> impl ExactSizeIterator<Item = SelectedItem> {
    SelectedItems {
        left: selection.matches.iter().map(|one| one.items.len()).sum(),
        selection,
        one: 0,
        at: 0,
    }
}

struct SelectedItems<S> {
    selection: S,
    one: usize,
    at: usize,
    left: usize,
}

impl<S: Deref<Target = Selection>> Iterator for SelectedItems<S> {
    type Item = SelectedItem;

    fn next(&mut self) -> Option<SelectedItem> {
        loop {
            if let Some(item) = self.selection.item(self.one, self.at) {
                self.at += 1;
                self.left -= 1;
                return Some(item);
            }
            (self.one, self.at) = (self.one + 1, 0);
            if self.one >= self.selection.matches.len() {
                return None;
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<S: Deref<Target = Selection>> ExactSizeIterator for SelectedItems<S> {}

fn described(named: &TreePath, item: &SelectedEntry<'_>, linked_to: Option<&TreePath>) -> SelectedItem {
    let entry = item.entry;
    let mut content = None;
    let (mut kind, mut rest) = match item.kind {
        EntryKind::File { content: digest, .. } => {
            content = Some(*digest);
            ("file", digest.hex())
        }
        EntryKind::Dir { .. } if item.only_parent => ("parent", String::new()),
        EntryKind::Dir { .. } => ("dir", String::new()),
        EntryKind::Symlink { target } => ("symlink", escaped(target)),
        EntryKind::Fifo => ("fifo", String::new()),
        EntryKind::CharDevice { major, minor } => ("char", format!("{major}:{minor}")),
        EntryKind::BlockDevice { major, minor } => ("block", format!("{major}:{minor}")),
        EntryKind::Hardlink { .. } | EntryKind::Whiteout => ("none", String::new()),
    };
    if let Some(first) = linked_to {
        // Of a file there are only the digest and the name that it shares.
        let what = if kind == "file" { String::new() } else { format!("{kind} ") };
        (kind, rest) = ("hardlink", format!("{what}{rest} to {}", escaped(first.as_bytes())));
    }
    for (name, value) in &entry.xattrs {
        let value: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        let space = if rest.is_empty() { "" } else { " " };
        rest.push_str(&format!("{space}{}={value}", escaped(name)));
    }
    let path = escaped(named.join(item.rel).as_bytes());
    SelectedItem { path, kind, mode: entry.mode, uid: entry.uid, gid: entry.gid, rest, content }
}

/// Bytes as text in which nothing is lost and no space, line break or other control character is
/// left.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                plain if plain > ' ' && !plain.is_control() => text.push(plain),
                other => text.extend(other.escape_unicode()),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// The error for a missing source, with the path that looks most like it.
fn not_found(source: &Stack, written: &str) -> CopyError {
    let wanted = TreePath::clean(written.as_bytes()).unwrap_or_default();
    let name = String::from_utf8_lossy(wanted.file_name().unwrap_or_default());
    let parent = wanted.parent().unwrap_or_default();
    let siblings = match source.resolve(parent.as_bytes(), true) {
        Ok(resolved) => source.read_dir(&resolved.path),
        Err(_) => Vec::new(),
    };
    let names = siblings
        .iter()
        .filter_map(|found| Some(String::from_utf8_lossy(found.entry.path.file_name()?).into_owned()));
    let near = nearest_name(&name, names).map(|other| match parent.is_root() {
        true => other,
        false => format!("{}/{other}", String::from_utf8_lossy(parent.as_bytes())),
    });
    CopyError::NotFound { path: written.to_owned(), near }
}
