//! COPY and ADD: what they ask for, as `dbuild_layer` takes it, and the layer that they give.

use std::sync::Arc;

use dbuild_cache::{definition, depends_on_parent};
use dbuild_events::Event;
use dbuild_layer::{CopyRequest, Selection, Source, StackLayer, WrittenLayer, copy_unwritten, users};
use dbuild_plan::{CopySource, CopyStep, StepId};
use dbuild_store::SnapshotDraft;

use crate::cache::step_inputs::StepInputs;
use crate::error::StepError;
use crate::steps::executed::Executed;
use crate::steps::step_context::StepContext;

/// Number of files from which on an earlier result is looked at.
const WORTH_A_LOOK: usize = 100;

/// Executes a COPY. Where `stays_unwritten` says so of what it selects, only its index is made.
pub(crate) fn copy(
    context: &StepContext,
    (id, step): (StepId, &CopyStep),
    inputs: &StepInputs<'_>,
    stays_unwritten: &dyn Fn(&[Arc<Selection>]) -> bool,
) -> Result<Executed, StepError> {
    with_copy_request(step, inputs, |request, selections| {
        if stays_unwritten(selections) {
            let files = copy_unwritten(&request).map_err(|error| StepError::Copy { error, from: None })?;
            if let Some(files) = files {
                return Ok(Executed::unwritten(files));
            }
        }
        let earlier = earlier_result(context, id, selections);
        let mut request = CopyRequest { earlier: earlier.as_ref(), ..request };
        let done = write_copy(context, &request);
        if done.is_err() && request.earlier.take().is_some() {
            // Should it have been the earlier result, the context is still as good.
            return write_copy(context, &request);
        }
        done
    })
}

/// Hands what a COPY asks for to `work`.
pub(crate) fn with_copy_request<T>(
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
            CopySource::Path { unpack, .. } => {
                let selection = selected.next().ok_or(StepError::Internal("a source was not selected"))?;
                Source::Selected { selection, unpack: unpack.is_wanted() }
            }
            CopySource::Inline(file) => Source::Inline { name: &file.name, content: file.content.as_bytes() },
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

/// Writes the files of a COPY.
pub(crate) fn write_copy(context: &StepContext, request: &CopyRequest<'_>) -> Result<Executed, StepError> {
    let draft = context.store().new_snapshot()?;
    let made = dbuild_layer::copy(request, &draft.fs_dir(), context.store().flavor())
        .map_err(|error| StepError::Copy { error, from: None })?;
    Ok(copied(context, draft, made))
}

/// What the same instruction gave last: most files of a context are as they were then. For a few
/// files it is not worth the look.
fn earlier_result(context: &StepContext, id: StepId, selections: &[Arc<Selection>]) -> Option<StackLayer> {
    if selections.iter().map(|selection| selection.live_paths()).sum::<usize>() < WORTH_A_LOOK {
        return None;
    }
    let step = context.plan().step(id);
    if !context.may_use_cache(step) {
        return None;
    }
    context
        .store()
        .latest_result(&definition(step))
        .filter(|snapshot| snapshot.dir.is_some())
        .map(|snapshot| snapshot.layer())
}

/// A layer that was written, once its notes are reported.
pub(crate) fn copied(context: &StepContext, draft: SnapshotDraft, made: WrittenLayer) -> Executed {
    let WrittenLayer { tree, changed, notes } = made;
    for text in notes {
        context.emit(Event::Note { text });
    }
    if let Some(first) = changed.first() {
        let more = if changed.len() > 1 { format!(" and {} more", changed.len() - 1) } else { String::new() };
        let text = format!("{first}{more} changed while it was copied: this step will run again next time");
        context.emit(Event::warning(text));
    }
    Executed { unkeyed: !changed.is_empty(), ..Executed::written(draft, tree) }
}

fn path_count(step: &CopyStep) -> usize {
    step.sources.iter().filter(|source| matches!(source, CopySource::Path { .. })).count()
}
