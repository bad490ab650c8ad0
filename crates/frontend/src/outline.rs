//! What a Dockerfile offers to its users: its targets, and the arguments, secrets and agents that
//! one takes.

use std::collections::BTreeSet;

use crate::ast::Dockerfile;
use crate::diagnostics::Diagnostics;
use crate::lower::{self, OutlineArg, OutlineMount};
use crate::request::{BuildArgs, Resolved};
use crate::source::Span;

/// A stage that can be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetInfo {
    /// Its name, in lower case.
    pub name: Option<String>,
    /// It is what is built when no target is named.
    pub default: bool,
    /// What the comment above it says of it.
    pub description: Option<String>,
    /// What FROM names, not expanded.
    pub base: String,
    /// The platform of FROM, not expanded.
    pub platform: Option<String>,
    /// The FROM.
    pub span: Span,
}

/// The stages of a file, in order.
pub fn targets(ast: &Dockerfile) -> Vec<TargetInfo> {
    let stages = ast.stages();
    let last = stages.len().saturating_sub(1);
    let target = |stage: &crate::StageView<'_>| TargetInfo {
        name: stage.name(),
        default: stage.index == last,
        description: stage.description().map(str::to_owned),
        base: stage.from.image.text.clone(),
        platform: stage.from.platform.as_ref().map(|platform| platform.text.clone()),
        span: stage.opening.line.span,
    };
    stages.iter().map(target).collect()
}

/// What a target takes, its own and what the stages that it needs take; each list in the order of
/// the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// The target's name, in lower case.
    pub name: Option<String>,
    /// What the comment above the target says of it.
    pub description: Option<String>,
    /// Build arguments.
    pub args: Vec<OutlineArg>,
    /// Secrets of `RUN --mount=type=secret`.
    pub secrets: Vec<OutlineMount>,
    /// Agents of `RUN --mount=type=ssh`.
    pub ssh: Vec<OutlineMount>,
}

/// The outline of the target that `args` name, for the first of their platforms.
pub fn outline(ast: &Dockerfile, args: &BuildArgs, resolved: &Resolved) -> Result<Outline, Diagnostics> {
    let capture = lower::capture(ast, args, resolved)?;
    let stages = ast.stages();
    let Some(target) = stages.get(capture.target) else {
        return Ok(Outline::default());
    };
    let mut named = BTreeSet::new();
    let mut found: Vec<OutlineArg> = Vec::new();
    // What a later stage says of a name stands for what an earlier one says, and both for the
    // global scope.
    for arg in capture.stage_args.into_iter().rev().chain(capture.global_args) {
        if named.insert(arg.name.clone()) {
            found.push(arg);
        }
    }
    found.sort_by_key(|arg| arg.span);
    Ok(Outline {
        name: target.name(),
        description: target.description().map(str::to_owned),
        args: found,
        secrets: once_each(capture.secrets),
        ssh: once_each(capture.ssh),
    })
}

fn once_each(mut mounts: Vec<OutlineMount>) -> Vec<OutlineMount> {
    let mut named = BTreeSet::new();
    mounts.retain(|mount| named.insert(mount.id.clone()));
    mounts.sort_by_key(|mount| mount.span);
    mounts
}
