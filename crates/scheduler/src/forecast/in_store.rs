//! What is known without doing anything: the store's records and indexes, and the contexts as they
//! are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dbuild_cache::SelectedPaths;
use dbuild_digest::{ContentDigest, Framed, StepKey, TreeDigest};
use dbuild_layer::{Entry, EntryKind, Selection, Tree, TreePath};
use dbuild_plan::{BaseImage, ContextStep, StepId};
use dbuild_store::Store;

use crate::cache::step_inputs::{InputReader, Source, select_from, selected_paths};
use crate::cache::traces::differing_read;
use crate::error::StepError;
use crate::forecast::{Knowledge, KnownResult, Lookup, TracedResult};
use crate::layers::filesystem::{Base, FileSystem};
use crate::request::{ContextDir, TracedNetwork};
use crate::steps::context::read_context;
use crate::steps::image::present;

/// The knowledge of a store. Nothing is pulled, unpacked or counted as used.
#[derive(Debug)]
pub struct InStore<'a> {
    store: &'a Store,
    contexts: &'a BTreeMap<Option<String>, ContextDir>,
    /// Files that are taken to have another content, and whether a step wants them.
    touched: Vec<(PathBuf, bool)>,
    traced_network: TracedNetwork,
}

impl<'a> InStore<'a> {
    /// The store and the contexts as they are.
    pub fn new(store: &'a Store, contexts: &'a BTreeMap<Option<String>, ContextDir>) -> Self {
        Self { store, contexts, touched: Vec::new(), traced_network: TracedNetwork::default() }
    }

    /// What becomes of a RUN that used the network, where nothing else has changed.
    pub fn with_traced_network(mut self, traced_network: TracedNetwork) -> Self {
        self.traced_network = traced_network;
        self
    }

    /// Takes these files (absolute; of a directory all files in it) to have a content that they
    /// never had.
    pub fn touching(mut self, files: impl IntoIterator<Item = PathBuf>) -> Self {
        self.touched.extend(files.into_iter().map(|file| (file, false)));
        self
    }

    /// The touched files that no step of the forecast takes from a context.
    pub fn untaken(&self) -> impl Iterator<Item = &Path> {
        self.touched.iter().filter(|(_, taken)| !taken).map(|(file, _)| file.as_path())
    }

    fn touch(&mut self, root: &Path, tree: Tree) -> Result<Tree, StepError> {
        let mut entries: Option<Vec<Entry>> = None;
        for (file, taken) in &mut self.touched {
            let Ok(relative) = file.strip_prefix(root) else { continue };
            let path = std::os::unix::ffi::OsStrExt::as_bytes(relative.as_os_str());
            let Ok(path) = TreePath::clean(path) else { continue };
            if tree.subtree(&path).is_empty() {
                continue;
            }
            *taken = true;
            let entries = entries.get_or_insert_with(|| tree.entries().to_vec());
            entries.iter_mut().filter(|entry| entry.path.starts_with(&path)).for_each(change);
        }
        match entries {
            Some(entries) => Ok(Tree::from_entries(entries).map_err(dbuild_layer::LayerError::from)?),
            None => Ok(tree),
        }
    }
}

/// Gives an entry a content that no file has.
fn change(entry: &mut Entry) {
    match &mut entry.kind {
        EntryKind::File { content, .. } => {
            let mut framed = Framed::new("touched", 1);
            framed.bytes(content.as_bytes());
            *content = ContentDigest::from_bytes(framed.finish());
        }
        EntryKind::Symlink { target } => *target = [&**target, b" (touched)"].concat().into(),
        _ => {}
    }
}

impl InputReader for InStore<'_> {
    type Files = FileSystem;
    type Selection = Arc<Selection>;

    fn select(&self, source: &Source<'_>, files: &FileSystem) -> Result<Option<Arc<Selection>>, StepError> {
        files.stack_if_present(self.store).map(|stack| select_from(source, &stack)).transpose()
    }

    fn paths(&self, selection: Arc<Selection>) -> SelectedPaths {
        selected_paths(selection)
    }
}

impl Knowledge for InStore<'_> {
    fn scratch(&mut self) -> FileSystem {
        FileSystem::new(Base::Empty)
    }

    fn image(&mut self, id: StepId, image: &BaseImage) -> (FileSystem, bool) {
        let is_here = present(self.store, image).is_some();
        (FileSystem::new(Base::Image(id, Arc::new(image.clone()))), is_here)
    }

    fn context(&mut self, context: &ContextStep) -> Result<(TreeDigest, FileSystem), StepError> {
        let (tree, root) = read_context(self.contexts, context, self.store)?;
        let tree = self.touch(&root, tree)?;
        Ok((tree.digest(), FileSystem::new(Base::Context(Arc::new(tree), root))))
    }

    fn record(&mut self, lookup: &Lookup<'_, FileSystem>) -> Option<KnownResult<FileSystem>> {
        self.result(&lookup.key, lookup)
    }

    fn traced(&mut self, lookup: &Lookup<'_, FileSystem>, step: &StepKey) -> TracedResult<FileSystem> {
        let traces = self.store.traces(step).unwrap_or_default();
        if traces.is_empty() {
            return TracedResult::Different(None);
        }
        let parent = lookup.below.and_then(|below| below.stack_if_present(self.store));
        let Some(parent) = parent else { return TracedResult::Unknown };
        let mut deciding = None;
        for trace in traces {
            match differing_read(&trace, &parent, self.traced_network) {
                Some(read) => deciding = deciding.or(Some(read)),
                None => {
                    if let Some(result) = self.result(&trace.record, lookup) {
                        return TracedResult::Same(result);
                    }
                }
            }
        }
        TracedResult::Different(deciding)
    }

    fn took_ms(&self, definition: &StepKey) -> Option<u64> {
        self.store.expected_duration(definition).map(|known| known.as_millis() as u64)
    }
}

impl InStore<'_> {
    /// What a key led to, on what is below a step.
    fn result(&self, key: &StepKey, lookup: &Lookup<'_, FileSystem>) -> Option<KnownResult<FileSystem>> {
        let (record, snapshot) = self.store.peek(key)?;
        let files = snapshot.files();
        Some(KnownResult {
            layer: record.layer,
            layer_is_empty: snapshot.tree.is_empty(),
            files: lookup.below.map(|below| below.with(lookup.id, snapshot, files)),
            made_from: record.made_from,
            duration_ms: record.duration_ms,
        })
    }
}
