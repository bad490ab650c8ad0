//! A better error for a source that a context does not have: is it ignored, or is it called otherwise?
//!
//! A context is walked only as far as the plan selects from it, so the walk that failed knows no names beside the missing
//! one. This module walks again, reading no file.

use std::path::Path;

use dbuild_digest::ContentDigest;
use dbuild_layer::{
    AskedFile, ContentIndex, CopyError, Files, LearnedFile, SelectOptions, Stack, StackLayer, select,
    walk_context,
};
use dbuild_plan::{CopySource, Step, StepKind};

use crate::error::StepError;
use crate::worker::Shared;

impl Shared {
    /// The same error, or one that says more.
    pub(crate) fn explain_missing(&self, step: &Step, error: StepError) -> StepError {
        let StepError::Copy { error: CopyError::NotFound { path, near: None }, from } = error else {
            return error;
        };
        let unchanged = |near| StepError::Copy {
            error: CopyError::NotFound { path: path.clone(), near },
            from: from.clone(),
        };
        let StepKind::Copy(copy) = &step.kind else { return unchanged(None) };
        let contexts = copy.sources.iter().filter_map(|source| match source {
            CopySource::Path { from, path: written } if *written == path => {
                match &self.plan().step(*from).kind {
                    StepKind::Context(context) => self.request.contexts.get(&context.name),
                    _ => None,
                }
            }
            _ => None,
        });
        for context in contexts {
            let relative = path.trim_start_matches('/');
            if std::fs::symlink_metadata(context.root.join(relative)).is_ok() {
                let from = Some(" in the build context: its ignore file leaves it out".to_owned());
                return StepError::Copy { error: CopyError::NotFound { path, near: None }, from };
            }
            let Ok(tree) = walk_context(&context.root, &context.ignore, None, &Unread) else { continue };
            let files = Files::Live(context.root.clone());
            let stack = Stack::new(vec![StackLayer { tree: tree.into(), files }]);
            if let Err(CopyError::NotFound { near: Some(near), .. }) =
                select(&stack, &path, &SelectOptions::default())
            {
                return unchanged(Some(near));
            }
        }
        unchanged(None)
    }
}

/// Answers for every file, so that none is read: only names matter here.
struct Unread;

impl ContentIndex for Unread {
    fn get_many<'a>(
        &self,
        _root: &Path,
        files: &mut dyn Iterator<Item = AskedFile<'a>>,
    ) -> Vec<Option<ContentDigest>> {
        files.map(|_| Some(ContentDigest::from_bytes([0; 32]))).collect()
    }

    fn put_many<'a>(&self, _root: &Path, _files: &mut dyn Iterator<Item = LearnedFile<'a>>) {}
}
