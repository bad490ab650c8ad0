//! What the steps of a build did to their file systems, from the indexes of their layers.
//!
//! The journal says which snapshot a step led to; the store has its index for as long as it is
//! kept. A step whose layer was collected has no contents, and the readers say so. A file counts as
//! shipped when the image holds its bytes, wherever they stand there; this is the rule by which the
//! scheduler sums up the stages.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use dbuild_digest::{BlobDigest, ContentDigest, SnapshotId};
use dbuild_layer::{Entry, EntryKind, LayerFiles, Stack, StackLayer, Tree, TreePath};
use dbuild_store::Store;
use serde::Serialize;

use crate::{Build, State, Step};

/// Where the indexes of layers come from.
pub trait Trees {
    /// The layer that a step made.
    fn of_snapshot(&self, id: &SnapshotId) -> Option<Arc<Tree>>;
    /// A layer of an image, by the chain id of the layer and all below it.
    fn of_chain(&self, chain: &BlobDigest) -> Option<Arc<Tree>>;
}

impl Trees for Store {
    fn of_snapshot(&self, id: &SnapshotId) -> Option<Arc<Tree>> {
        self.snapshot(id).map(|snapshot| snapshot.tree)
    }

    fn of_chain(&self, chain: &BlobDigest) -> Option<Arc<Tree>> {
        self.base_snapshot(chain).map(|snapshot| snapshot.tree)
    }
}

/// No layer is known.
#[derive(Clone, Copy, Debug)]
pub struct NoTrees;

impl Trees for NoTrees {
    fn of_snapshot(&self, _: &SnapshotId) -> Option<Arc<Tree>> {
        None
    }

    fn of_chain(&self, _: &BlobDigest) -> Option<Arc<Tree>> {
        None
    }
}

/// What the steps of one build did, by step.
#[derive(Debug, Default)]
pub struct Contents {
    steps: BTreeMap<u32, StepContents>,
}

/// What one step did to its file system.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StepContents {
    /// The paths, in order.
    pub changes: Vec<Change>,
    /// The bytes of its layer's files.
    pub made: u64,
    /// What of them is in the image.
    pub shipped: u64,
    /// The bytes of files that it took away or replaced; they stay in the layers below.
    pub hidden: u64,
}

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// It was not there before.
    Added,
    /// It was there, with another content or other attributes.
    Changed,
    /// It is gone.
    Removed,
}

/// One path that a step added, changed or removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// From the root, with a slash.
    pub path: String,
    /// What happened.
    pub operation: Operation,
    /// `file`, `dir`, `link`, `hardlink` or `special`, after the step; of what is gone, before it.
    pub kind: &'static str,
    /// Permission bits.
    pub mode: u32,
    /// The owner and the group.
    pub owner: (u32, u32),
    /// The bytes of a file; 0 of anything else.
    pub size: u64,
    /// The bytes of the file that was there before.
    pub before: Option<u64>,
    /// The image holds its bytes.
    pub shipped: bool,
    /// The digest of a file's bytes.
    #[serde(skip)]
    pub content: Option<ContentDigest>,
}

/// A path and its bytes, for lists of the largest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PathBytes {
    /// The path.
    pub path: String,
    /// The step that made it.
    pub step: u32,
    /// Its bytes.
    pub size: u64,
    /// The image holds them.
    pub shipped: bool,
}

/// The bytes of a whole build. What is in several places is counted once:
/// `base + made = shipped + left`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// What the images that it begins with hold.
    pub base: u64,
    /// What its steps made anew.
    pub made: u64,
    /// What of both is in the image.
    pub shipped: u64,
    /// What is not.
    pub left: u64,
}

impl Contents {
    /// Reads the trees of a build.
    pub fn of(build: &Build, trees: &dyn Trees) -> Self {
        let layers: HashMap<u32, Vec<Arc<Tree>>> =
            build.steps.iter().filter_map(|step| Some((step.id, layers_of(step, trees)?))).collect();
        let shipped = Shipped::of(build, &layers);
        let mut steps = BTreeMap::new();
        for step in build.steps.iter().filter(|step| layers.contains_key(&step.id)) {
            let chain = build.chain(step.id);
            // Without all that is below, nobody can say what a step added.
            let below: Option<Vec<StackLayer>> = chain
                .iter()
                .skip(1)
                .rev()
                .map(|below| stack_layers(below, &layers))
                .collect::<Option<Vec<_>>>()
                .map(|parts| parts.concat());
            let Some(below) = below else { continue };
            steps.insert(
                step.id,
                StepContents::of(&layers[&step.id], Stack::new(below), &shipped, step.stage),
            );
        }
        Self { steps }
    }

    /// What a step did; `None` where its layer or one below it is gone, or was never there.
    pub fn step(&self, id: u32) -> Option<&StepContents> {
        self.steps.get(&id)
    }

    /// The sums of a build, if the layers of all steps that are done are known.
    pub fn totals(&self, build: &Build) -> Option<Totals> {
        let has_layer = |step: &&Step| {
            matches!(step.state, State::Done | State::Cached)
                && !matches!(step.kind.as_str(), "context" | "scratch")
        };
        let mut totals = Totals::default();
        let mut seen: HashMap<ContentDigest, bool> = HashMap::new();
        let (images, others): (Vec<&Step>, Vec<&Step>) =
            build.steps.iter().filter(has_layer).partition(|step| step.image.is_some());
        for step in images.iter().chain(&others) {
            for change in &self.steps.get(&step.id)?.changes {
                let Some(content) = change.content.filter(|_| change.operation != Operation::Removed) else {
                    continue;
                };
                let shipped = seen.entry(content).or_insert_with(|| {
                    *(if step.image.is_some() { &mut totals.base } else { &mut totals.made }) += change.size;
                    false
                });
                if change.shipped && !std::mem::replace(shipped, true) {
                    totals.shipped += change.size;
                }
            }
        }
        totals.left = totals.base + totals.made - totals.shipped;
        Some(totals)
    }

    /// The largest files of all steps, the largest first.
    pub fn largest(&self, count: usize) -> Vec<PathBytes> {
        let of_step = |(step, contents): (&u32, &StepContents)| {
            let step = *step;
            let present = contents.changes.iter().filter(|c| c.operation != Operation::Removed && c.size > 0);
            let mut paths: Vec<PathBytes> = present
                .map(|change| PathBytes {
                    path: change.path.clone(),
                    step,
                    size: change.size,
                    shipped: change.shipped,
                })
                .collect();
            keep_largest(&mut paths, count);
            paths
        };
        let mut all: Vec<PathBytes> = self.steps.iter().flat_map(of_step).collect();
        // Several stages can begin with the same image, and several steps be the same.
        let mut seen = HashSet::new();
        all.retain(|file| seen.insert((file.path.clone(), file.size)));
        keep_largest(&mut all, count);
        all
    }
}

fn keep_largest(paths: &mut Vec<PathBytes>, count: usize) {
    paths.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.path.cmp(&b.path)));
    paths.truncate(count);
}

/// The layers that a step brings, lowest first; `None` where one is not known.
fn layers_of(step: &Step, trees: &dyn Trees) -> Option<Vec<Arc<Tree>>> {
    if let Some(image) = &step.image {
        return image.layers.iter().map(|layer| trees.of_chain(&layer.chain)).collect();
    }
    if step.kind == "scratch" {
        return Some(Vec::new());
    }
    Some(vec![trees.of_snapshot(step.snapshot.as_ref()?)?])
}

fn stack_layers(step: &Step, layers: &HashMap<u32, Vec<Arc<Tree>>>) -> Option<Vec<StackLayer>> {
    let trees = layers.get(&step.id)?;
    Some(trees.iter().map(|tree| StackLayer { tree: Arc::clone(tree), files: LayerFiles::Absent }).collect())
}

/// What the images of a build hold.
#[derive(Default)]
struct Shipped {
    /// The digests of their files' contents.
    contents: HashSet<ContentDigest>,
    /// The stages that they are built on: all of those is in them.
    stages: HashSet<u32>,
}

impl Shipped {
    fn of(build: &Build, layers: &HashMap<u32, Vec<Arc<Tree>>>) -> Self {
        let mut shipped = Self::default();
        for target in &build.targets {
            let last = build.stages.iter().filter(|stage| stage.name == *target).filter_map(|stage| {
                build.steps.iter().rfind(|step| step.stage == Some(stage.id)).map(|step| step.id)
            });
            for step in last.flat_map(|last| build.chain(last)) {
                shipped.stages.extend(step.stage);
                let trees = layers.get(&step.id).into_iter().flatten();
                let files = trees.flat_map(|tree| tree.entries()).filter_map(content);
                shipped.contents.extend(files.map(|(digest, _)| digest));
            }
        }
        shipped
    }

    fn holds(&self, tree: &Tree, entry: &Entry, stage: Option<u32>) -> bool {
        stage.is_some_and(|stage| self.stages.contains(&stage))
            || tree
                .file_of(entry)
                .and_then(content)
                .is_some_and(|(digest, _)| self.contents.contains(&digest))
    }
}

/// The digest and the bytes of a file that has any.
fn content(entry: &Entry) -> Option<(ContentDigest, u64)> {
    match &entry.kind {
        EntryKind::File { size, content } if *size > 0 => Some((*content, *size)),
        _ => None,
    }
}

impl StepContents {
    fn of(layers: &[Arc<Tree>], mut below: Stack, shipped: &Shipped, stage: Option<u32>) -> Self {
        let mut contents = Self::default();
        // The layers of an image are shown as one: what it begins with.
        let mut changes: BTreeMap<TreePath, Change> = BTreeMap::new();
        for tree in layers {
            for entry in tree.entries() {
                contents.entry(tree, entry, &below, shipped, stage, &mut changes);
            }
            below = below.with(StackLayer { tree: Arc::clone(tree), files: LayerFiles::Absent });
        }
        if layers.len() > 1 {
            changes.retain(|_, change| change.operation != Operation::Removed);
            changes.values_mut().for_each(|change| change.operation = Operation::Added);
            contents.hidden = 0;
        }
        contents.changes = changes.into_values().collect();
        contents
    }

    fn entry(
        &mut self,
        tree: &Tree,
        entry: &Entry,
        below: &Stack,
        shipped: &Shipped,
        stage: Option<u32>,
        changes: &mut BTreeMap<TreePath, Change>,
    ) {
        if entry.kind == EntryKind::Whiteout {
            return self.remove(&entry.path, below, changes, |_| true);
        }
        let size = if let EntryKind::File { size, .. } = entry.kind { size } else { 0 };
        let holds = shipped.holds(tree, entry, stage);
        self.made += size;
        self.shipped += if holds { size } else { 0 };
        let old = below.lookup(&entry.path);
        let is_new = !changes.contains_key(&entry.path);
        // A directory is in a layer because something in it changed.
        let stays = |old: &Entry| entry.is_dir() && entry.same_but_path_and_time(old);
        let opaque = matches!(entry.kind, EntryKind::Dir { opaque: true });
        if old.is_some_and(|old| old.entry.is_dir() && (opaque || !entry.is_dir())) {
            self.remove(&entry.path, below, changes, |path| *path != entry.path && tree.get(path).is_none());
        }
        if entry.path.is_root() || old.is_some_and(|old| is_new && stays(old.entry)) {
            return;
        }
        let before = old.map(|old| old.file().map_or(0, |file| file.size));
        self.hidden += before.unwrap_or(0);
        let operation = if old.is_some() { Operation::Changed } else { Operation::Added };
        let change = change(entry, operation, size, before.filter(|_| size > 0), holds);
        changes.insert(entry.path.clone(), change);
    }

    fn remove(
        &mut self,
        path: &TreePath,
        below: &Stack,
        changes: &mut BTreeMap<TreePath, Change>,
        gone: impl Fn(&TreePath) -> bool,
    ) {
        for found in below.walk(path).into_iter().filter(|found| gone(&found.entry.path)) {
            let size = found.file().map_or(0, |file| file.size);
            self.hidden += size;
            let change = change(found.entry, Operation::Removed, size, None, false);
            changes.insert(found.entry.path.clone(), change);
        }
    }
}

fn change(entry: &Entry, operation: Operation, size: u64, before: Option<u64>, shipped: bool) -> Change {
    let kind = match entry.kind {
        EntryKind::File { .. } => "file",
        EntryKind::Dir { .. } => "dir",
        EntryKind::Symlink { .. } => "link",
        EntryKind::Hardlink { .. } => "hardlink",
        _ => "special",
    };
    Change {
        path: entry.path.to_string(),
        operation,
        kind,
        mode: entry.mode,
        owner: (entry.uid, entry.gid),
        size,
        before,
        shipped,
        content: content(entry).map(|(digest, _)| digest),
    }
}

#[cfg(test)]
#[path = "tests/contents.rs"]
pub(crate) mod tests;
