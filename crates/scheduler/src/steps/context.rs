//! The step that reads a local directory, which other steps copy from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use dbuild_layer::{ContentIndex, Tree, walk_context};
use dbuild_plan::ContextStep;

use crate::error::StepError;
use crate::request::ContextDir;

/// The index of a context as far as the plan selects from it, and the directory where its files
/// are.
pub(crate) fn read_context(
    contexts: &BTreeMap<Option<String>, ContextDir>,
    step: &ContextStep,
    known: &dyn ContentIndex,
) -> Result<(Tree, PathBuf), StepError> {
    let ContextDir { root, ignore } =
        contexts.get(&step.name).ok_or(StepError::Internal("a context has no directory"))?;
    let tree = walk_context(root, ignore, step.wanted.as_deref(), known)
        .map_err(|error| StepError::Context { root: root.clone(), error })?;
    Ok((tree, root.clone()))
}
