//! A better error for a source that a context does not have: what leaves it out, where its way
//! ends, or what it may be called.
//!
//! A context is walked only as far as the plan selects from it, so the walk that failed knows no
//! names beside the missing one, or only those that other steps select. This module looks at the
//! context itself, reading no file.

use std::path::Path;

use dbuild_digest::ContentDigest;
use dbuild_layer::{
    Absence, AbsenceReason, AskedFile, ContentIndex, CopyError, LayerFiles, LearnedFile, SelectOptions,
    Stack, StackLayer, explain_absence, select, walk_context,
};
use dbuild_plan::{Step, StepKind};

use crate::error::StepError;
use crate::request::ContextDir;
use crate::steps::step_context::StepContext;

/// The same error, or one that says more of the source that was not found.
pub(crate) fn explain_not_found(
    context: &StepContext,
    step: &Step,
    failed_source: Option<usize>,
    error: StepError,
) -> StepError {
    let StepError::Copy { error: CopyError::NotFound { path, near }, from: Some(place) } = error else {
        return error;
    };
    let source = failed_source.and_then(|index| step.sources().get(index).copied());
    let from = source.and_then(|source| match &context.plan().step(source).kind {
        StepKind::Context(step) => context.request.contexts.get(&step.name),
        _ => None,
    });
    let Some(context) = from else {
        return StepError::Copy { error: CopyError::NotFound { path, near }, from: Some(place) };
    };
    let absence = explain_absence(&context.root, &context.ignore, &path).ok().flatten();
    let why = absence.as_ref().map(|absence| reason(absence, &path, context)).unwrap_or_default();
    let near = match absence {
        Some(Absence { why: AbsenceReason::NotOnDisk, link: None, path }) => {
            near_name(context, &String::from_utf8_lossy(path.as_bytes()))
        }
        _ => None,
    };
    let from = Some(format!("{place}{why}"));
    StepError::Copy { error: CopyError::NotFound { path, near }, from }
}

/// Why a path is not there, as the end of a sentence; empty where there is no more to say.
fn reason(absence: &Absence, path: &str, context: &ContextDir) -> String {
    let name = |path: &dyn std::fmt::Display| path.to_string().trim_start_matches('/').to_owned();
    let end = name(&absence.path);
    let is_asked = end == path.trim_matches('/');
    let through = absence.link.as_ref().map(|(link, target)| {
        let link = name(link);
        format!("`{link}` is a symlink to `{target}`, and ")
    });
    let end = match is_asked {
        true => "it".to_owned(),
        false => format!("`{end}`"),
    };
    let fact = match &absence.why {
        AbsenceReason::NotOnDisk if is_asked && absence.link.is_none() => return String::new(),
        AbsenceReason::NotOnDisk => format!("{end} is not there"),
        AbsenceReason::Ignored(by) => {
            let file = context.ignore.file().unwrap_or("the ignore file");
            format!("line {} of {file}, `{}`, leaves {end} out", by.line, by.text)
        }
        AbsenceReason::Device => format!("{end} is a device, which no context has"),
        AbsenceReason::NotADirectory => format!("{end} is not a directory"),
    };
    format!(": {}{fact}", through.unwrap_or_default())
}

/// The name in the whole context that looks most like the missing one.
fn near_name(context: &ContextDir, path: &str) -> Option<String> {
    let tree = walk_context(&context.root, &context.ignore, None, &UnreadFiles).ok()?;
    let files = LayerFiles::Live(context.root.clone());
    let stack = Stack::new(vec![StackLayer { tree: tree.into(), files }]);
    let options = SelectOptions { literal: true, ..SelectOptions::default() };
    match select(&stack, path, &options) {
        Err(CopyError::NotFound { near, .. }) => near,
        _ => None,
    }
}

/// Answers for every file, so that none is read: only names matter here.
struct UnreadFiles;

impl ContentIndex for UnreadFiles {
    fn get_many<'a>(
        &self,
        _root: &Path,
        files: &mut dyn Iterator<Item = AskedFile<'a>>,
    ) -> Vec<Option<ContentDigest>> {
        files.map(|_| Some(ContentDigest::from_bytes([0; 32]))).collect()
    }

    fn put_many<'a>(&self, _root: &Path, _files: &mut dyn Iterator<Item = LearnedFile<'a>>) {}
}
