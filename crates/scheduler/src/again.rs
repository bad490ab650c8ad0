//! A build that is begun again, since a result that it found in the cache was damaged.

use std::sync::Arc;

use dbuild_layer::LayerError;
use dbuild_plan::{Plan, StepId, StepKind};
use dbuild_store::{Event, EventSink};

use crate::error::StepError;
use crate::request::Request;

/// Whether the error is a damaged result, which is no longer known now.
pub(crate) fn forget_damaged(request: &Request, error: &StepError) -> bool {
    let StepError::DamagedResult(id, LayerError::Damaged { path, why, .. }) = error else { return false };
    if request.store.forget_snapshot(id).is_err() {
        return false;
    }
    request.events.emit(Event::warning(format!(
        "a result of the cache is damaged, and its step runs again: {path} is not what was made ({why})"
    )));
    true
}

/// The build's listener, who has heard already of what is found a second time.
pub(crate) fn again(request: &Request) -> Arc<dyn EventSink> {
    Arc::new(Again { plan: Arc::clone(&request.plan), events: Arc::clone(&request.events) })
}

struct Again {
    plan: Arc<Plan>,
    events: Arc<dyn EventSink>,
}

impl EventSink for Again {
    fn emit(&self, event: Event) {
        let is_context = |step: u32| matches!(self.plan.step(StepId(step)).kind, StepKind::Context(_));
        let heard = match &event {
            Event::StepCached { .. } | Event::StageSkipped { .. } => true,
            Event::StepStarted { step } | Event::StepFinished { step, .. } => is_context(*step),
            _ => false,
        };
        if !heard {
            self.events.emit(event);
        }
    }
}
