//! A build that is begun again, since the files of a result that it found in the cache are damaged.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use dbuild_events::{Event, EventSink};
use dbuild_layer::LayerError;
use dbuild_plan::{Plan, StepId, StepKind};

use crate::request::Request;

/// Forgets the result that is damaged; whether it was one of the store's.
pub(crate) fn forget_damaged(request: &Request, damage: &LayerError) -> bool {
    let LayerError::Damaged { dir, path, why } = damage else { return false };
    if !matches!(request.store.forget_snapshot(dir), Ok(true)) {
        return false;
    }
    request.events.emit(Event::warning(format!(
        "a result of the cache is damaged, and its step runs again: {path} is not what was made ({why})"
    )));
    true
}

/// A build's listener, who hears once what is found each time that the build is begun.
pub(crate) struct DedupEvents {
    plan: Arc<Plan>,
    events: Arc<dyn EventSink>,
    told: Mutex<HashSet<(What, u32)>>,
}

#[derive(PartialEq, Eq, Hash)]
enum What {
    Skipped,
    Explained,
    Started,
    Ended,
}

impl DedupEvents {
    pub(crate) fn new(plan: Arc<Plan>, events: Arc<dyn EventSink>) -> Arc<Self> {
        Arc::new(Self { plan, events, told: Mutex::default() })
    }
}

impl EventSink for DedupEvents {
    fn emit(&self, event: Event) {
        let is_context = |step: u32| matches!(self.plan.step(StepId(step)).kind, StepKind::Context(_));
        let (what, of, may_be_again) = match &event {
            Event::StageSkipped { stage, .. } => (What::Skipped, *stage, false),
            Event::StepExplained { step, .. } => (What::Explained, *step, false),
            Event::StepStarted { step } if is_context(*step) => (What::Started, *step, false),
            Event::StepCached { step, .. } => (What::Ended, *step, false),
            // What ran in vain runs again.
            Event::StepFinished { step, .. } => (What::Ended, *step, !is_context(*step)),
            _ => return self.events.emit(event),
        };
        let is_new = self.told.lock().unwrap_or_else(PoisonError::into_inner).insert((what, of));
        if is_new || may_be_again {
            self.events.emit(event);
        }
    }
}
