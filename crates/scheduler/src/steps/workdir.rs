//! WORKDIR: a directory.

use dbuild_layer::{make_dir, users};
use dbuild_plan::WorkdirStep;

use crate::cache::step_inputs::StepInputs;
use crate::error::StepError;
use crate::steps::copy::copied;
use crate::steps::executed::Executed;
use crate::steps::step_context::StepContext;

pub(crate) fn workdir(
    context: &StepContext,
    step: &WorkdirStep,
    inputs: &StepInputs<'_>,
) -> Result<Executed, StepError> {
    let parent = inputs.stack_of(step.parent)?;
    // As --chown reads it: `USER 7` is 7:7 here, and a user that does not exist yet is root.
    let (uid, gid) = match step.user.as_str() {
        "" => (0, 0),
        words => users::owner(Some(&parent), words)?,
    };
    let draft = context.store().new_snapshot()?;
    let made = make_dir(&parent, &step.path, uid, gid, &draft.fs_dir(), context.store().flavor())
        .map_err(|error| StepError::Copy { error, from: None })?;
    Ok(copied(context, draft, made))
}
