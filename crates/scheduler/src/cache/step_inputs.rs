//! What a strategy asks about a step's inputs. In a build all of it is known, and what has to be
//! looked into is pulled and unpacked; in a forecast some of it is missing. Both answer here, so
//! that they cannot come to different keys.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use dbuild_cache::{IngredientList, Inputs, SelectedPath, SelectedPaths, Sink, Strategy, is_external};
use dbuild_digest::{StepKey, TreeDigest};
use dbuild_layer::{SelectOptions, Selection, Stack, items_of_selection, select};
use dbuild_plan::{CopySource, CopyStep, MountKind, Plan, Step, StepId, StepKind};

use crate::error::StepError;
use crate::layers::filesystem::{FileSystem, StepResult};
use crate::steps::image::Bases;

/// Looks into the file systems that steps give.
pub trait InputReader {
    /// A file system, as far as it is known.
    type Files: Clone;
    /// What a source selects.
    type Selection: Clone + 'static;

    /// What a source selects from these files. `None`: that cannot be known before something was
    /// done.
    fn select(&self, source: &Source<'_>, files: &Self::Files) -> Result<Option<Self::Selection>, StepError>;

    /// The paths of a selection, complete and sorted, as [`Inputs::selected`] wants them.
    fn paths(&self, selection: Self::Selection) -> SelectedPaths;
}

/// One source of a step: what a path of a COPY or a mount of a RUN takes from another step.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The step.
    pub step: &'a Step,
    /// Counts through [`Step::sources`].
    pub index: usize,
    /// The step that it takes from.
    pub from: StepId,
}

/// What is known of one input of a step.
#[derive(Clone, Debug)]
pub(crate) struct InputState<F> {
    /// With all that it stands on.
    pub(crate) key: Option<StepKey>,
    pub(crate) output: Option<TreeDigest>,
    pub(crate) files: Option<F>,
}

/// The inputs of one step that is about to be keyed, and what its sources select. Each selection is
/// made once, when a strategy first asks, and used again when the step is executed.
pub(crate) struct StepInputs<'a, S: InputReader = Bases> {
    plan: &'a Plan,
    step: &'a Step,
    files: &'a S,
    inputs: Vec<(StepId, InputState<S::Files>)>,
    selections: RefCell<Vec<Option<S::Selection>>>,
    /// The inputs that a strategy asked for by their keys, in the order of the first question.
    known_by_key: RefCell<Vec<StepId>>,
    /// The first thing that went wrong while a strategy asked; it is reported when the key is.
    error: RefCell<Option<StepError>>,
    /// The source that it is about.
    failed_source: Cell<Option<usize>>,
}

impl<'a, S: InputReader> StepInputs<'a, S> {
    /// `inputs` are in the order of [`Step::inputs`].
    pub(crate) fn new(
        plan: &'a Plan,
        step: &'a Step,
        files: &'a S,
        inputs: Vec<InputState<S::Files>>,
    ) -> Self {
        let inputs = step.inputs().into_iter().zip(inputs).collect();
        let selections = RefCell::new(vec![None; step.sources().len()]);
        Self {
            plan,
            step,
            files,
            inputs,
            selections,
            known_by_key: RefCell::default(),
            error: RefCell::new(None),
            failed_source: Cell::new(None),
        }
    }

    /// What is known of an input.
    pub(crate) fn state(&self, id: StepId) -> Result<&InputState<S::Files>, StepError> {
        let found = self.inputs.iter().find(|(input, _)| *input == id);
        found.map(|(_, state)| state).ok_or(StepError::Internal("a step asked for what is no input of it"))
    }

    /// The inputs that the key has by their keys, and not by what they contain, and what they
    /// contain. The error is an input of which that is not known yet.
    pub(crate) fn known_by_key(&self) -> Result<Vec<(StepId, TreeDigest)>, StepId> {
        let asked = self.known_by_key.borrow();
        let outputs = asked.iter().map(|id| {
            let output = self.state(*id).ok().and_then(|state| state.output);
            output.map(|output| (*id, output)).ok_or(*id)
        });
        outputs.collect()
    }

    /// The error that made a strategy stop, if that was the reason.
    pub(crate) fn take_error(&self) -> Option<StepError> {
        self.error.borrow_mut().take()
    }

    /// The source that could not be selected, counted through [`Step::sources`].
    pub(crate) fn failed_source(&self) -> Option<usize> {
        self.failed_source.get()
    }

    fn select(&self, index: usize) -> Result<Option<S::Selection>, StepError> {
        if let Some(known) = self.selections.borrow().get(index).and_then(Clone::clone) {
            return Ok(Some(known));
        }
        let from = *self.step.sources().get(index).ok_or(StepError::Internal("no such source"))?;
        let Some(files) = &self.state(from)?.files else { return Ok(None) };
        let source = Source { plan: self.plan, step: self.step, index, from };
        let made = self.files.select(&source, files)?;
        self.selections.borrow_mut()[index].clone_from(&made);
        Ok(made)
    }
}

impl<'a> StepInputs<'a, Bases> {
    /// The inputs of a step in a build, where everything is known. `results` are in the order of
    /// [`Step::inputs`].
    pub(crate) fn of_results(
        plan: &'a Plan,
        step: &'a Step,
        bases: &'a Bases,
        results: &[Arc<StepResult>],
    ) -> Self {
        let states = results.iter().map(|result| InputState {
            key: Some(result.standing),
            output: Some(result.output),
            files: Some(Arc::clone(result)),
        });
        Self::new(plan, step, bases, states.collect())
    }

    /// What an input contains.
    pub(crate) fn output_of(&self, id: StepId) -> Result<TreeDigest, StepError> {
        self.state(id)?.output.ok_or(StepError::Internal("an input is not done"))
    }

    /// The file system of an input.
    pub(crate) fn files_of(&self, id: StepId) -> Result<&FileSystem, StepError> {
        let output = self.state(id)?.files.as_ref().ok_or(StepError::Internal("an input is not done"))?;
        Ok(&output.files)
    }

    /// The file system of an input, unpacked.
    pub(crate) fn stack_of(&self, id: StepId) -> Result<Stack, StepError> {
        self.files_of(id)?.stack(self.files)
    }

    /// The steps that the step takes sources from.
    pub(crate) fn mounted(&self) -> Vec<StepId> {
        self.step.sources()
    }

    /// What a source selects; `source` counts through [`Step::sources`].
    pub(crate) fn selection(&self, source: usize) -> Result<Arc<Selection>, StepError> {
        self.select(source)?.ok_or(StepError::Internal("an input is not done"))
    }
}

/// What a step's key was made of, made again each time it is walked: of 200,000 files it is not
/// held while they are copied.
#[derive(Clone, Copy)]
pub(crate) struct StepIngredients<'a> {
    pub(crate) strategy: &'a dyn Strategy,
    pub(crate) step: &'a Step,
    /// Those with which the key was made: they know everything, and what was selected does not
    /// change.
    pub(crate) inputs: &'a dyn Inputs,
}

impl IngredientList for StepIngredients<'_> {
    fn walk(&self, sink: &mut dyn Sink) {
        if let Err(unknown) = self.strategy.ingredients(self.step, self.inputs, sink) {
            tracing::debug!("a step that has a key does not know its ingredients: {unknown}");
        }
    }
}

impl<S: InputReader> Inputs for StepInputs<'_, S> {
    fn key(&self, input: StepId) -> Option<StepKey> {
        let mut asked = self.known_by_key.borrow_mut();
        if !asked.contains(&input) {
            asked.push(input);
        }
        self.state(input).ok()?.key
    }

    fn output(&self, input: StepId) -> Option<TreeDigest> {
        self.state(input).ok()?.output
    }

    fn selected(&self, source: usize) -> Option<SelectedPaths> {
        match self.select(source) {
            Ok(selection) => selection.map(|selection| self.files.paths(selection)),
            Err(error) => {
                if self.error.borrow().is_none() {
                    self.error.replace(Some(error));
                    self.failed_source.set(Some(source));
                }
                None
            }
        }
    }

    fn is_external(&self, input: StepId) -> bool {
        is_external(&self.plan.step(input).kind)
    }
}

impl InputReader for Bases {
    type Files = Arc<StepResult>;
    type Selection = Arc<Selection>;

    fn select(
        &self,
        source: &Source<'_>,
        done: &Arc<StepResult>,
    ) -> Result<Option<Arc<Selection>>, StepError> {
        select_from(source, &done.files.stack(self)?).map(Some)
    }

    fn paths(&self, selection: Arc<Selection>) -> SelectedPaths {
        selected_paths(selection)
    }
}

/// The first input that contains something else than when a record was made, under the same key: a
/// step that ran again without the cache has given another result. `then` is empty in records of
/// earlier versions, which are believed.
pub(crate) fn outdated_input(now: &[(StepId, TreeDigest)], then: &[TreeDigest]) -> Option<StepId> {
    now.iter().zip(then).find(|((_, now), then)| now != *then).map(|((input, _), _)| *input)
}

/// What a source selects in a file system.
pub(crate) fn select_from(source: &Source<'_>, stack: &Stack) -> Result<Arc<Selection>, StepError> {
    let (path, options) = source.pattern().ok_or(StepError::Internal("a source without a path"))?;
    select(stack, &path, &options)
        .map(Arc::new)
        .map_err(|error| StepError::Copy { error, from: Some(source.place()) })
}

pub(crate) fn selected_paths(selection: Arc<Selection>) -> SelectedPaths {
    Box::new(
        items_of_selection(selection)
            .map(|item| SelectedPath::new(item.path, item.kind, item.mode, item.uid, item.gid, &item.rest)),
    )
}

impl Source<'_> {
    /// What is selected: a path, possibly with wildcards, and what is left out.
    pub fn pattern(&self) -> Option<(String, SelectOptions)> {
        match &self.step.kind {
            StepKind::Copy(copy) => {
                let (exclude, parents) = (copy.exclude.clone(), copy.parents);
                let options = SelectOptions { exclude, parents, literal: false };
                Some((copied_path(copy, self.index)?.to_owned(), options))
            }
            StepKind::Run(run) => {
                let mut sources = run.mounts.iter().filter_map(|mount| match &mount.kind {
                    MountKind::Bind { source, .. } | MountKind::Cache { from: Some(_), source, .. } => {
                        Some(source)
                    }
                    _ => None,
                });
                // A mount's source is one path, never a pattern, and shows all that is below it.
                let options = SelectOptions { literal: true, ..SelectOptions::default() };
                Some((sources.nth(self.index)?.clone(), options))
            }
            _ => None,
        }
    }

    /// Where a source is looked for, as the end of a sentence.
    pub(crate) fn place(&self) -> String {
        let step = self.plan.step(self.from);
        match &step.kind {
            StepKind::Context(context) => match &context.name {
                None => " in the build context".to_owned(),
                Some(name) => format!(" in the context `{name}`"),
            },
            StepKind::Image(image) => format!(" in the image {}", image.image.reference),
            StepKind::Fetch(_) | StepKind::Git(_) => format!(" in {}", step.text),
            _ => format!(" in the stage `{}`", self.plan.stage(step.stage).name),
        }
    }
}

fn copied_path(copy: &CopyStep, source: usize) -> Option<&str> {
    let paths = copy.sources.iter().filter_map(|source| match source {
        CopySource::Path { path, .. } => Some(path.as_str()),
        CopySource::Inline(_) => None,
    });
    paths.into_iter().nth(source)
}
