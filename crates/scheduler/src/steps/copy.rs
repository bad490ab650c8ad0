//! The steps that only move files: COPY, ADD and WORKDIR.

use std::sync::Arc;

use dbuild_cache::{definition, depends_on_parent};
use dbuild_events::Event;
use dbuild_layer::{
    CopyRequest, Selection, Source, StackLayer, WrittenLayer, copy, copy_unwritten, make_dir, users,
};
use dbuild_plan::{CopySource, CopyStep, StepId, StepKind, WorkdirStep};

use crate::cache::step_inputs::StepInputs;
use crate::error::StepError;
use crate::worker::{Content, Executed, Shared};

/// From so many files on, an earlier result is looked at.
const WORTH_A_LOOK: usize = 100;

impl Shared {
    pub(crate) fn copy(
        &self,
        id: StepId,
        step: &CopyStep,
        inputs: &StepInputs<'_>,
    ) -> Result<Executed, StepError> {
        self.copying(step, inputs, |request, selections| {
            if self.leaves(id, selections) {
                let borrowed = copy_unwritten(&request)
                    .map_err(|error| StepError::Copy { error, from: None })?
                    .map(Arc::new);
                if let Some(borrowed) = borrowed {
                    let tree = Arc::clone(borrowed.tree());
                    return Ok(Executed { content: Content::Borrowed(borrowed), tree, unkeyed: false });
                }
            }
            let earlier = self.earlier(id, selections);
            let mut request = CopyRequest { earlier: earlier.as_ref(), ..request };
            let done = self.copied(&request);
            if done.is_err() && request.earlier.take().is_some() {
                // Should it have been the earlier result, the context is still as good.
                return self.copied(&request);
            }
            done
        })
    }

    /// Does something with what a COPY asks for.
    pub(crate) fn copying<T>(
        &self,
        step: &CopyStep,
        inputs: &StepInputs<'_>,
        work: impl FnOnce(CopyRequest<'_>, &[Arc<Selection>]) -> Result<T, StepError>,
    ) -> Result<T, StepError> {
        let parent = depends_on_parent(step).then(|| inputs.stack_of(step.parent)).transpose()?;
        let selections: Vec<Arc<Selection>> =
            (0..path_count(step)).map(|at| inputs.selection(at)).collect::<Result<_, _>>()?;
        let mut selected = selections.iter();
        let mut sources = Vec::new();
        for source in &step.sources {
            sources.push(match source {
                CopySource::Path { from, .. } => {
                    let selection =
                        selected.next().ok_or(StepError::Internal("a source was not selected"))?;
                    Source::Selected { selection, unpack: self.unpacks(step, *from) }
                }
                CopySource::Inline(file) => {
                    Source::Inline { name: &file.name, content: file.content.as_bytes() }
                }
            });
        }
        let chown = step.chown.as_deref().map(|words| users::owner(parent.as_ref(), words)).transpose()?;
        let request = CopyRequest {
            parent: parent.as_ref(),
            chown,
            chmod: step.chmod.as_deref(),
            ..CopyRequest::new(sources, &step.dest)
        };
        work(request, &selections)
    }

    pub(crate) fn copied(&self, request: &CopyRequest<'_>) -> Result<Executed, StepError> {
        let draft = self.store().new_snapshot()?;
        let made = copy(request, &draft.fs_dir(), self.store().flavor())
            .map_err(|error| StepError::Copy { error, from: None })?;
        self.told(draft, made)
    }

    /// What the same instruction gave last: most files of a context are as they were then. For a few files it is not
    /// worth the look.
    fn earlier(&self, id: StepId, selections: &[Arc<Selection>]) -> Option<StackLayer> {
        if selections.iter().map(|selection| selection.live_paths()).sum::<usize>() < WORTH_A_LOOK {
            return None;
        }
        let step = self.plan().step(id);
        if !self.request.cache.allows(self.plan(), step) {
            return None;
        }
        self.store()
            .latest_result(&definition(step))
            .filter(|snapshot| snapshot.dir.is_some())
            .map(|snapshot| snapshot.layer())
    }

    pub(crate) fn workdir(&self, step: &WorkdirStep, inputs: &StepInputs<'_>) -> Result<Executed, StepError> {
        let parent = inputs.stack_of(step.parent)?;
        // As --chown reads it: `USER 7` is 7:7 here, and a user that does not exist yet is root.
        let owner = match step.user.as_str() {
            "" => (0, 0),
            words => users::owner(Some(&parent), words)?,
        };
        let draft = self.store().new_snapshot()?;
        let made = make_dir(&parent, &step.path, owner.0, owner.1, &draft.fs_dir(), self.store().flavor())
            .map_err(|error| StepError::Copy { error, from: None })?;
        self.told(draft, made)
    }

    fn told(&self, draft: dbuild_store::SnapshotDraft, made: WrittenLayer) -> Result<Executed, StepError> {
        let WrittenLayer { tree, changed, notes } = made;
        for text in notes {
            self.emit(Event::Note { text });
        }
        if let Some(first) = changed.first() {
            let more =
                if changed.len() > 1 { format!(" and {} more", changed.len() - 1) } else { String::new() };
            let text =
                format!("{first}{more} changed while it was copied: this step will run again next time");
            self.emit(Event::warning(text));
        }
        Ok(Executed { unkeyed: !changed.is_empty(), ..Executed::written(draft, tree) })
    }

    /// ADD unpacks local archives; whatever comes from a server only when it is told to.
    fn unpacks(&self, step: &CopyStep, from: StepId) -> bool {
        let is_local = matches!(self.plan().step(from).kind, StepKind::Context(_));
        step.unpack.unwrap_or(is_local)
    }
}

fn path_count(step: &CopyStep) -> usize {
    step.sources.iter().filter(|source| matches!(source, CopySource::Path { .. })).count()
}
