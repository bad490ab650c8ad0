//! Steps that are not executed: the result of each is a digest of what it would have read.
//!
//! The context is real: a COPY selects paths and contents as a build does. Of everything else a
//! file system is known as a list of [`Layer`]s, each with the digest of what made it. A RUN reads
//! all of them, and writes anywhere; a rule of the cost file can say less. A base image and a
//! download never change under one name.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use dbuild_cache::{
    Ingredient, IngredientKind, SelectedPath, SelectedPaths, base_output, definition, scratch_output,
};
use dbuild_digest::{BlobDigest, ContentDigest, Framed, StepKey, TreeDigest};
use dbuild_layer::{CopyError, LayerFiles, Stack, StackLayer, Tree, TreePath, select};
use dbuild_plan::{BaseImage, ContextStep, CopySource, CopyStep, Step, StepId, StepKind};
use dbuild_scheduler::{InputReader, Knowledge, KnownResult, Lookup, Source, StepError};

use crate::context::Blobs;
use crate::cost::{Costs, Rule};
use crate::world::World;

/// Knows the context of one commit, and what steps would give.
pub(crate) struct Simulated<'a> {
    context: &'a Arc<Tree>,
    blobs: &'a mut Blobs,
    costs: &'a Costs,
    /// The bytes of what was selected from other steps, by the line that stands for it.
    selected: RefCell<HashMap<String, u64>>,
}

/// A file system of a simulation.
#[derive(Clone)]
pub(crate) enum SimFiles {
    /// The build context.
    Context(Stack),
    /// Layers, the lowest first.
    Layers(Arc<Vec<Layer>>),
}

/// What is known of a layer.
#[derive(Clone)]
pub(crate) struct Layer {
    digest: TreeDigest,
    bytes: u64,
    writes: Writes,
}

#[derive(Clone)]
enum Writes {
    /// It may have written anywhere.
    Anywhere,
    /// It wrote these paths, and gave all that is below them.
    Paths(Vec<TreePath>),
    /// It wrote something into this directory.
    Into(TreePath),
    /// It is a copy of these paths of the context.
    Copied(Arc<Vec<Copied>>),
}

/// A path that was copied from the context.
struct Copied {
    path: TreePath,
    /// All of it that is not a time.
    line: String,
    /// The content of a file.
    content: Option<ContentDigest>,
}

impl<'a> Simulated<'a> {
    pub(crate) fn new(context: &'a Arc<Tree>, blobs: &'a mut Blobs, costs: &'a Costs) -> Self {
        Self { context, blobs, costs, selected: RefCell::default() }
    }
}

impl World for Simulated<'_> {
    fn bytes(&self, gave: &KnownResult<SimFiles>) -> u64 {
        match &gave.files {
            Some(SimFiles::Layers(layers)) => layers.last().map_or(0, |layer| layer.bytes),
            _ => 0,
        }
    }
}

impl InputReader for Simulated<'_> {
    type Files = SimFiles;
    type Selection = Arc<Vec<SelectedPath>>;

    fn select(&self, source: &Source<'_>, files: &SimFiles) -> Result<Option<Self::Selection>, StepError> {
        let (path, options) = source.pattern().ok_or(StepError::Internal("a source without a path"))?;
        let paths = match files {
            SimFiles::Context(stack) => {
                let selected = select(stack, &path, &options).map_err(|error| in_context(error, source))?;
                let items = selected.items();
                items
                    .map(|item| {
                        SelectedPath::new(item.path, item.kind, item.mode, item.uid, item.gid, &item.rest)
                    })
                    .collect()
            }
            SimFiles::Layers(layers) => {
                let (path, bytes) = from_layers(layers, &path)?;
                if let Some(bytes) = bytes {
                    self.selected.borrow_mut().insert(path.digest.clone(), bytes);
                }
                vec![path]
            }
        };
        Ok(Some(Arc::new(paths)))
    }

    fn paths(&self, selection: Self::Selection) -> SelectedPaths {
        Box::new((0..selection.len()).map(move |at| selection[at].clone()))
    }
}

fn in_context(error: CopyError, source: &Source<'_>) -> StepError {
    let name = match &source.plan.step(source.from).kind {
        StepKind::Context(ContextStep { name: Some(name), .. }) => format!(" in the context `{name}`"),
        _ => " in the build context".to_owned(),
    };
    StepError::Copy { error, from: Some(name) }
}

/// A path of a simulated file system: the digest of all layers that may have something to do with
/// it, and its bytes, where one step is known to have written it.
fn from_layers(layers: &[Layer], written: &str) -> Result<(SelectedPath, Option<u64>), StepError> {
    // A pattern means what is below the directory that it begins in.
    let literal: Vec<&str> =
        written.split('/').take_while(|part| !part.contains(['*', '?', '[', '\\'])).collect();
    let path = TreePath::clean(literal.join("/").as_bytes())
        .map_err(|_| StepError::Internal("a source that is no path"))?;
    let related = |one: &TreePath| one.starts_with(&path) || path.starts_with(one);
    let mut framed = Framed::new("lab selection", 1);
    framed.str(written);
    let (mut bytes, mut is_known) = (0, true);
    for layer in layers.iter().rev() {
        match &layer.writes {
            Writes::Paths(paths) if !paths.iter().any(related) => continue,
            Writes::Into(directory) if !related(directory) => continue,
            Writes::Copied(files) => {
                for file in files.iter().filter(|file| file.path.starts_with(&path)) {
                    framed.str(&file.line);
                    is_known = false;
                }
                continue;
            }
            Writes::Anywhere => is_known = false,
            Writes::Paths(_) | Writes::Into(_) => bytes += layer.bytes,
        }
        framed.bytes(layer.digest.as_bytes());
        if matches!(&layer.writes, Writes::Paths(paths) if paths.iter().any(|one| path.starts_with(one))) {
            let digest = ContentDigest::from_bytes(framed.finish());
            return Ok((selected(written, digest), is_known.then_some(bytes)));
        }
    }
    Ok((selected(written, ContentDigest::from_bytes(framed.finish())), None))
}

fn selected(written: &str, digest: ContentDigest) -> SelectedPath {
    SelectedPath::new(written, "file", 0o644, 0, 0, &digest.to_string())
}

impl Knowledge for Simulated<'_> {
    fn scratch(&mut self) -> SimFiles {
        SimFiles::Layers(Arc::new(Vec::new()))
    }

    fn image(&mut self, _: StepId, image: &BaseImage) -> (SimFiles, bool) {
        let bytes = image.layers.iter().map(|layer| layer.size).sum();
        let layer = Layer { digest: base_output(image), bytes, writes: Writes::Anywhere };
        (SimFiles::Layers(Arc::new(vec![layer])), true)
    }

    fn context(&mut self, context: &ContextStep) -> Result<(TreeDigest, SimFiles), StepError> {
        if context.name.is_some() {
            return Err(StepError::Internal("a replay knows no context but the commit's own"));
        }
        let layer = StackLayer { tree: Arc::clone(self.context), files: LayerFiles::Absent };
        Ok((scratch_output(), SimFiles::Context(Stack::new(vec![layer]))))
    }

    fn record(&mut self, _: &Lookup<'_, SimFiles>) -> Option<KnownResult<SimFiles>> {
        None
    }

    /// Asked under the strategy `output`: its ingredients say all that the step could see.
    fn executed(&mut self, asked: &Lookup<'_, SimFiles>) -> Option<KnownResult<SimFiles>> {
        let step = asked.plan.step(asked.id);
        let below = match asked.below {
            Some(SimFiles::Layers(layers)) => Arc::clone(layers),
            _ => Arc::default(),
        };
        let rule = self.costs.rule(asked.plan, step);
        let digest = self.gives(step, rule, asked.ingredients, &below);
        let (writes, copied) = match &step.kind {
            StepKind::Copy(copy) => self.copied(copy, asked),
            StepKind::Workdir(workdir) => (into(&workdir.path), Some(0)),
            _ => {
                let known = rule.and_then(|rule| rule.writes.clone());
                (known.map_or(Writes::Anywhere, Writes::Paths), None)
            }
        };
        let (duration_ms, bytes) = self.costs.of(asked.plan, step, copied);
        let mut layers = below.to_vec();
        layers.push(Layer { digest, bytes, writes });
        let files = Some(SimFiles::Layers(Arc::new(layers)));
        Some(KnownResult { layer: digest, layer_is_empty: false, files, made_from: Vec::new(), duration_ms })
    }

    /// What is downloaded is one thing for its words, at every commit.
    fn pinned<'s>(&self, step: &'s Step) -> Option<Cow<'s, Step>> {
        let mut pinned = step.clone();
        let made_up = definition(step);
        match &mut pinned.kind {
            StepKind::Fetch(fetch) if fetch.checksum.is_none() => {
                fetch.checksum = Some(BlobDigest::of(made_up.as_bytes()));
            }
            StepKind::Git(git) => git.commit = Some(made_up.hex()),
            _ => return Some(Cow::Borrowed(step)),
        }
        Some(Cow::Owned(pinned))
    }

    fn took_ms(&self, _: &StepKey) -> Option<u64> {
        None
    }
}

impl Simulated<'_> {
    /// The digest of the layer that a step would make.
    fn gives(
        &mut self,
        step: &Step,
        rule: Option<&Rule>,
        list: &[Ingredient],
        below: &[Layer],
    ) -> TreeDigest {
        let mut framed = Framed::new("lab layer", 1);
        let is_run = matches!(step.kind, StepKind::Run(_));
        let name = rule.and_then(|rule| rule.gives.as_deref()).filter(|_| is_run);
        match name {
            Some(name) => framed.str(name),
            None => framed.bytes(definition(step).as_bytes()),
        };
        if is_run && rule.is_some_and(|rule| rule.same_output) {
            return TreeDigest::from_bytes(framed.finish());
        }
        // A RUN sees all that is below it, unless a rule says what it reads; no other step does.
        let reads = rule.and_then(|rule| Some((rule, rule.reads.as_ref()?)));
        let sees_all = is_run && reads.is_none();
        let counts = |kind| match kind {
            IngredientKind::Parent => sees_all,
            // What is selected is seen, also where the step's own words do not count.
            IngredientKind::Path | IngredientKind::Input => true,
            _ => name.is_none(),
        };
        for one in list.iter().filter(|one| counts(one.kind)) {
            framed.str(&one.name).str(&one.value);
        }
        let (Some((rule, globs)), true) = (reads, is_run) else {
            return TreeDigest::from_bytes(framed.finish());
        };
        for layer in below {
            match &layer.writes {
                Writes::Copied(files) => {
                    for file in files.iter().filter(|file| globs.matches(&file.path)) {
                        framed.bytes(file.path.as_bytes());
                        match file.content {
                            Some(content) => {
                                framed.bytes(self.blobs.code(content, &rule.comments).as_bytes());
                            }
                            None => {
                                framed.str(&file.line);
                            }
                        }
                    }
                }
                Writes::Paths(paths) if paths.iter().any(|path| globs.matches(path)) => {
                    framed.bytes(layer.digest.as_bytes());
                }
                Writes::Into(path) if globs.matches(path) => {
                    framed.bytes(layer.digest.as_bytes());
                }
                Writes::Paths(_) | Writes::Into(_) => {}
                Writes::Anywhere => {
                    framed.bytes(layer.digest.as_bytes());
                }
            }
        }
        TreeDigest::from_bytes(framed.finish())
    }

    /// What a COPY writes, and how many bytes, as its ingredients tell.
    fn copied(&self, copy: &CopyStep, asked: &Lookup<'_, SimFiles>) -> (Writes, Option<u64>) {
        let inline = |source: &CopySource| match source {
            CopySource::Inline(file) => file.content.len() as u64,
            CopySource::Path { .. } => 0,
        };
        let mut bytes = Some(copy.sources.iter().map(inline).sum::<u64>());
        let mut files = Vec::new();
        let mut is_of_context = true;
        for (from, group) in groups(copy, asked.ingredients) {
            if matches!(asked.plan.step(from).kind, StepKind::Context(_)) {
                placed(copy, &group, &mut files);
                let sizes = group.iter().filter_map(|one| self.blobs.size(&content_of(&one.value)?));
                bytes = bytes.map(|bytes| bytes + sizes.sum::<u64>());
            } else {
                is_of_context = false;
                let known: Option<u64> =
                    group.iter().map(|one| self.selected.borrow().get(&one.value).copied()).sum();
                bytes = bytes.zip(known).map(|(bytes, more)| bytes + more);
            }
        }
        let writes = if is_of_context { Writes::Copied(Arc::new(files)) } else { into(&copy.dest) };
        (writes, bytes)
    }
}

fn into(path: &str) -> Writes {
    TreePath::clean(path.as_bytes()).map_or(Writes::Anywhere, Writes::Into)
}

/// The ingredients of each source of a COPY: the strategy `output` counts them and then names them,
/// one source after the other.
fn groups<'a>(copy: &CopyStep, list: &'a [Ingredient]) -> Vec<(StepId, Vec<&'a Ingredient>)> {
    let sources = copy.sources.iter().filter_map(|source| match source {
        CopySource::Path { from, .. } => Some(*from),
        CopySource::Inline(_) => None,
    });
    let mut sources = sources.into_iter();
    let mut groups: Vec<(StepId, Vec<&Ingredient>)> = Vec::new();
    for one in list {
        match one.kind {
            IngredientKind::Input => groups.extend(sources.next().map(|from| (from, Vec::new()))),
            IngredientKind::Path => {
                groups.iter_mut().last().into_iter().for_each(|(_, group)| group.push(one))
            }
            _ => {}
        }
    }
    groups
}

/// Where the paths of one source go.
fn placed(copy: &CopyStep, group: &[&Ingredient], files: &mut Vec<Copied>) {
    let into_directory = copy.dest.ends_with('/') || copy.dest.ends_with("/.");
    let mut top: Option<&str> = None;
    for one in group {
        let path = one.name.as_str();
        let below = top.and_then(|top| match top {
            "" => Some(path),
            top => path.strip_prefix(top)?.strip_prefix('/'),
        });
        let target = match below {
            _ if copy.parents => format!("{}/{path}", copy.dest),
            Some(below) => format!("{}/{below}", copy.dest),
            None if one.value.starts_with("dir ") => {
                top = Some(path);
                copy.dest.clone()
            }
            None if into_directory => {
                format!("{}/{}", copy.dest, path.rsplit('/').next().unwrap_or(path))
            }
            None => copy.dest.clone(),
        };
        if let Ok(path) = TreePath::clean(target.as_bytes()) {
            files.push(Copied { path, line: one.value.clone(), content: content_of(&one.value) });
        }
    }
}

/// The content of a file, as the line of a selected path has it.
fn content_of(line: &str) -> Option<ContentDigest> {
    line.strip_prefix("file ")?.split(' ').nth(2)?.parse().ok()
}
