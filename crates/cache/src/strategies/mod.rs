//! The built-in strategies, one file each, and what they share.

mod content;
mod linear;
mod output;
pub(crate) mod traced;

/// The worked example of `docs/concepts/cache-key.md`.
#[cfg(test)]
#[path = "../tests/whole.rs"]
pub(crate) mod whole;

use dbuild_plan::{MountKind, Step, StepId, StepKind};

use crate::{Ingredient, IngredientKind, Inputs, Sink, Strategy, UnknownInput};

/// The strategies that ask for nothing but inputs.
pub(crate) const BUILT_IN: &[&dyn Strategy] = &[
    &linear::LinearStrategy,
    &content::ContentStrategy,
    // The default is the last.
    &output::OutputStrategy,
];

/// The strategies that a build must be told to take.
pub(crate) const OPT_IN: &[&dyn Strategy] = &[&traced::TracedStrategy];

/// How a strategy looks at one source of a step.
struct StepSource {
    /// Counts through [`Step::sources`].
    index: usize,
    /// The step that it is taken from.
    from: StepId,
    /// All of that step's output is seen, not some paths of it.
    whole: bool,
}

/// The sources of a step in the order in which its words name them: a COPY's as written, mounts by
/// target.
fn sources(step: &Step) -> Vec<StepSource> {
    let StepKind::Run(run) = &step.kind else {
        let sources = step.sources().into_iter().enumerate();
        return sources.map(|(index, from)| StepSource { index, from, whole: false }).collect();
    };
    let mut mounts: Vec<(&str, StepSource)> = Vec::new();
    for mount in &run.mounts {
        if let MountKind::Bind { from, source, .. } | MountKind::Cache { from: Some(from), source, .. } =
            &mount.kind
        {
            let whole = source.bytes().all(|byte| byte == b'/');
            mounts.push((&mount.target, StepSource { index: mounts.len(), from: *from, whole }));
        }
    }
    mounts.sort_by_key(|(target, _)| *target);
    mounts.into_iter().map(|(_, source)| source).collect()
}

/// The sources of a step (as [`Step::sources`] counts them) whose part differs between two keys of
/// one strategy. All of them where the keys are not comparable, since the step had other sources.
pub fn changed_sources(step: &Step, before: &[Ingredient], after: &[Ingredient]) -> Vec<usize> {
    let sources = sources(step);
    let (before, after) = (parts(before), parts(after));
    let is_comparable = before.len() == sources.len() && after.len() == sources.len();
    let numbered = sources.iter().enumerate();
    let changed = numbered.filter(|(at, _)| !is_comparable || before[*at] != after[*at]);
    changed.map(|(_, source)| source.index).collect()
}

/// What each source gave to a key: [`add_selected`] and its like begin with an input.
fn parts(list: &[Ingredient]) -> Vec<&[Ingredient]> {
    let is_of_source = |one: &Ingredient| matches!(one.kind, IngredientKind::Input | IngredientKind::Path);
    let mut starts: Vec<usize> =
        (0..list.len()).filter(|at| list[*at].kind == IngredientKind::Input).collect();
    starts.push(list.len());
    let part = |pair: &[usize]| {
        let part = &list[pair[0]..pair[1]];
        &part[..part.iter().position(|one| !is_of_source(one)).unwrap_or(part.len())]
    };
    starts.windows(2).map(part).collect()
}

/// Adds each path that a source gives. The count goes first, so that paths cannot slide between
/// sources.
fn add_selected(source: &StepSource, inputs: &dyn Inputs, sink: &mut dyn Sink) -> Result<(), UnknownInput> {
    let paths = inputs.selected(source.index).ok_or(UnknownInput { input: source.from })?;
    sink.add(IngredientKind::Input, "paths selected", &paths.len().to_string());
    for path in paths {
        sink.add(IngredientKind::Path, &path.path, &path.digest);
    }
    Ok(())
}

/// Adds an input by its key.
fn add_key(
    kind: IngredientKind,
    name: &str,
    input: StepId,
    inputs: &dyn Inputs,
    sink: &mut dyn Sink,
) -> Result<(), UnknownInput> {
    let key = inputs.key(input).ok_or(UnknownInput { input })?;
    sink.add(kind, name, &key.to_string());
    Ok(())
}

/// Adds an input by what it contains.
fn add_output(
    kind: IngredientKind,
    name: &str,
    input: StepId,
    inputs: &dyn Inputs,
    sink: &mut dyn Sink,
) -> Result<(), UnknownInput> {
    let output = inputs.output(input).ok_or(UnknownInput { input })?;
    sink.add(kind, name, &output.to_string());
    Ok(())
}

/// Whether the parent is an ingredient: it is not of a `COPY --link`.
fn needs_parent(step: &Step) -> Option<StepId> {
    match &step.kind {
        StepKind::Copy(copy) if !crate::depends_on_parent(copy) => None,
        _ => step.parent(),
    }
}
