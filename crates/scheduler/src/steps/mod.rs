//! The execution of each kind of step: from what it is handed ([`StepContext`], [`StepInputs`]) to
//! what it gives ([`Executed`]). Nothing here knows of the cache's records, but for what a server
//! gave before.

pub(crate) mod context;
pub(crate) mod copy;
pub(crate) mod copy_not_found;
pub(crate) mod executed;
pub(crate) mod image;
pub(crate) mod remote;
pub(crate) mod run;
pub(crate) mod step_context;
pub(crate) mod workdir;

use std::sync::Arc;

use dbuild_layer::Selection;
use dbuild_plan::{Step, StepId, StepKind};

use crate::cache::step_inputs::StepInputs;
use crate::error::StepError;
use crate::schedule::cancel::Cancel;
use crate::steps::copy::copy;
use crate::steps::executed::Executed;
use crate::steps::remote::{check_out, fetch};
use crate::steps::run::run;
use crate::steps::step_context::StepContext;
use crate::steps::workdir::workdir;

/// Executes a step. `stays_unwritten` decides whether the files of a COPY that selects this stay
/// where they are.
pub(crate) fn execute(
    context: &StepContext,
    (id, step): (StepId, &Step),
    inputs: &StepInputs<'_>,
    stays_unwritten: &dyn Fn(&[Arc<Selection>]) -> bool,
    cancel: &Cancel,
) -> Result<Executed, StepError> {
    match &step.kind {
        StepKind::Copy(step) => copy(context, (id, step), inputs, stays_unwritten),
        StepKind::Run(step) => run(context, (id, step), inputs, cancel),
        StepKind::Workdir(step) => workdir(context, step, inputs),
        StepKind::Fetch(step) => fetch(context, id, step, cancel),
        StepKind::Git(step) => check_out(context, id, step, cancel),
        StepKind::Image(_) | StepKind::Scratch | StepKind::Context(_) => {
            Err(StepError::Internal("a step that has no layer was to be executed"))
        }
    }
}
