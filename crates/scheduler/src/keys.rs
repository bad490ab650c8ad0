//! What a strategy asks about a step's inputs, answered from what is done. The same answers, with some of
//! them missing, make a forecast.

use std::cell::RefCell;
use std::sync::Arc;

use dbuild_cache::{Inputs, SelectedPath, is_external};
use dbuild_digest::{StepKey, TreeDigest};
use dbuild_layer::{SelectOptions, Selection, Stack, select};
use dbuild_plan::{CopySource, CopyStep, MountKind, Plan, Step, StepId, StepKind};

use crate::base::Bases;
use crate::error::StepError;
use crate::output::Output;

/// The inputs of one step that is about to be keyed, and what its sources select. Each selection is made once, when a
/// strategy first asks, and used again when the step is carried out.
pub(crate) struct StepInputs<'a> {
    plan: &'a Plan,
    step: &'a Step,
    bases: &'a Bases,
    inputs: Vec<(StepId, Arc<Output>)>,
    selections: RefCell<Vec<Option<Arc<Selection>>>>,
    /// The first thing that went wrong while a strategy asked; it is told when the key is.
    error: RefCell<Option<StepError>>,
}

impl<'a> StepInputs<'a> {
    /// `outputs` are in the order of [`Step::inputs`].
    pub(crate) fn new(plan: &'a Plan, step: &'a Step, bases: &'a Bases, outputs: Vec<Arc<Output>>) -> Self {
        let inputs = step.inputs().into_iter().zip(outputs).collect();
        let selections = RefCell::new(vec![None; step.sources().len()]);
        Self { plan, step, bases, inputs, selections, error: RefCell::new(None) }
    }

    /// An input.
    pub(crate) fn output_of(&self, id: StepId) -> Result<&Arc<Output>, StepError> {
        let found = self.inputs.iter().find(|(input, _)| *input == id);
        found.map(|(_, output)| output).ok_or(StepError::Internal("a step asked for what is no input of it"))
    }

    /// The file system of an input.
    pub(crate) fn stack_of(&self, id: StepId) -> Result<Stack, StepError> {
        self.output_of(id)?.files.stack(self.bases)
    }

    /// What a source selects; `source` counts through [`Step::sources`].
    pub(crate) fn selection(&self, source: usize) -> Result<Arc<Selection>, StepError> {
        if let Some(known) = self.selections.borrow().get(source).and_then(Clone::clone) {
            return Ok(known);
        }
        let made = Arc::new(self.select(source)?);
        self.selections.borrow_mut()[source] = Some(Arc::clone(&made));
        Ok(made)
    }

    /// The error that made a strategy stop, if that was the reason.
    pub(crate) fn take_error(&self) -> Option<StepError> {
        self.error.borrow_mut().take()
    }

    fn select(&self, source: usize) -> Result<Selection, StepError> {
        let from = *self.step.sources().get(source).ok_or(StepError::Internal("no such source"))?;
        let stack = self.stack_of(from)?;
        match &self.step.kind {
            StepKind::Copy(copy) => {
                let path = copied_path(copy, source).ok_or(StepError::Internal("a source without a path"))?;
                let options = SelectOptions { exclude: copy.exclude.clone(), parents: copy.parents };
                select(&stack, path, &options)
                    .map_err(|error| StepError::Copy { error, from: Some(self.place_of(from)) })
            }
            StepKind::Run(run) => {
                let sources = run.mounts.iter().filter_map(|mount| match &mount.kind {
                    MountKind::Bind { source, .. } | MountKind::Cache { from: Some(_), source, .. } => {
                        Some(source)
                    }
                    _ => None,
                });
                let path = sources.into_iter().nth(source).ok_or(StepError::Internal("no such mount"))?;
                // A mount's source is one path, never a pattern, and shows all that is below it.
                select(&stack, &literal(path), &SelectOptions::default())
                    .map_err(|error| StepError::Copy { error, from: Some(self.place_of(from)) })
            }
            _ => Err(StepError::Internal("a step without sources")),
        }
    }

    /// Where a source was looked for, as the end of a sentence.
    fn place_of(&self, from: StepId) -> String {
        let step = self.plan.step(from);
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

impl Inputs for StepInputs<'_> {
    fn key(&self, input: StepId) -> Option<StepKey> {
        self.output_of(input).ok().map(|output| output.key)
    }

    fn output(&self, input: StepId) -> Option<TreeDigest> {
        self.output_of(input).ok().map(|output| output.output)
    }

    fn selected(&self, source: usize) -> Option<Vec<SelectedPath>> {
        match self.selection(source) {
            Ok(selection) => Some(
                selection
                    .items()
                    .map(|item| {
                        SelectedPath::new(item.path, item.kind, item.mode, item.uid, item.gid, &item.rest)
                    })
                    .collect(),
            ),
            Err(error) => {
                self.error.borrow_mut().get_or_insert(error);
                None
            }
        }
    }

    fn is_external(&self, input: StepId) -> bool {
        is_external(&self.plan.step(input).kind)
    }
}

fn copied_path(copy: &CopyStep, source: usize) -> Option<&str> {
    let paths = copy.sources.iter().filter_map(|source| match source {
        CopySource::Path { path, .. } => Some(path.as_str()),
        CopySource::Inline(_) => None,
    });
    paths.into_iter().nth(source)
}

/// A path as a pattern that matches nothing else.
fn literal(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for c in path.chars() {
        if matches!(c, '*' | '?' | '[' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}
