//! Builds that are begun again: since the files of a result that was found in the cache are
//! damaged, or since files that were not written would have had to be.
//!
//! What makes a build begin again is mended first: a damaged result is forgotten, so that its step
//! runs; files are all written from then on. What the build has done is found in the cache. Events
//! that it would emit once more are left out.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use dbuild_digest::StepKey;
use dbuild_events::{Event, EventSink};
use dbuild_layer::LayerError;
use dbuild_plan::{Plan, StepId, StepKind};

use crate::error::StepError;
use crate::request::Request;

/// What a build failed of that may be mended.
enum RetryCause<'a> {
    /// The files of a layer are not what was made.
    Damaged(&'a LayerError),
    /// A file that was not written changed before it was packed, or is needed by another step.
    Unwritten(&'a LayerError),
    /// A layer of another machine is missing or damaged.
    Remote(StepKey),
}

impl<'a> RetryCause<'a> {
    fn of(error: &'a StepError) -> Option<Self> {
        if let Some(key) = error.of_remote_layer() {
            return Some(Self::Remote(*key));
        }
        match error.of_layer()? {
            error @ LayerError::Damaged { .. } => Some(Self::Damaged(error)),
            error @ (LayerError::Changed { .. } | LayerError::NotUnpacked { .. }) => {
                Some(Self::Unwritten(error))
            }
            _ => None,
        }
    }
}

/// Whether a step's error is not yet the build's: it may begin again.
pub(crate) fn may_be_retried(request: &Request, error: &StepError) -> bool {
    match RetryCause::of(error) {
        Some(RetryCause::Damaged(_) | RetryCause::Remote(_)) => true,
        Some(RetryCause::Unwritten(_)) => request.unwritten.is_some(),
        None => false,
    }
}

/// A request as it stands for the next attempt.
pub(crate) struct Retry {
    request: Request,
    /// Attempts that are left: a disk that spoils everything must have an end.
    left: usize,
}

impl Retry {
    pub(crate) fn new(mut request: Request) -> Self {
        request.events = DedupEvents::new(Arc::clone(&request.plan), request.events);
        let left = request.plan.len();
        Self { request, left }
    }

    pub(crate) fn request(&self) -> Request {
        self.request.clone()
    }

    /// Mends what made an attempt fail. `false`: the failure stands, and was reported.
    pub(crate) fn mend(&mut self, id: StepId, error: &StepError) -> bool {
        match RetryCause::of(error) {
            Some(RetryCause::Unwritten(cause)) if self.request.unwritten.is_some() => {
                if let LayerError::Changed { .. } = cause {
                    self.request.events.emit(Event::Note { text: format!("{cause}: once more") });
                }
                self.request.unwritten = None;
                true
            }
            Some(RetryCause::Damaged(cause)) => {
                let mended = self.forget_damaged(cause);
                if !mended {
                    let error = error.to_string();
                    self.request.events.emit(Event::StepFailed { step: id.0, error });
                }
                mended
            }
            Some(RetryCause::Remote(key)) => {
                let forgotten = self.forget_remote(&key, error);
                if !forgotten {
                    self.request.events.emit(Event::StepFailed { step: id.0, error: error.to_string() });
                }
                forgotten
            }
            Some(RetryCause::Unwritten(_)) | None => false,
        }
    }

    /// Forgets a result of another machine whose layer cannot be used.
    fn forget_remote(&mut self, key: &StepKey, error: &StepError) -> bool {
        if self.left == 0 || self.request.store.forget_record(key).is_err() {
            return false;
        }
        self.left -= 1;
        if let Some(remote) = &self.request.remote_results {
            remote.refuse(key);
        }
        self.request.events.emit(Event::warning(format!("{error}; its step runs")));
        true
    }

    /// Forgets the result whose files are damaged; `false` where it is none of the store's.
    pub(crate) fn forget_damaged(&mut self, damage: &LayerError) -> bool {
        let LayerError::Damaged { dir, path, why } = damage else { return false };
        if self.left == 0 || !matches!(self.request.store.forget_snapshot(dir), Ok(true)) {
            return false;
        }
        self.left -= 1;
        self.request.events.emit(Event::warning(format!(
            "a result of the cache is damaged, and its step runs again: {path} is not what was made ({why})"
        )));
        true
    }
}

/// A build's listener that hears only once what each attempt finds.
struct DedupEvents {
    plan: Arc<Plan>,
    events: Arc<dyn EventSink>,
    heard: Mutex<HashSet<(EventKind, u32)>>,
}

#[derive(PartialEq, Eq, Hash)]
enum EventKind {
    Skipped,
    Explained,
    Started,
    Ended,
}

impl DedupEvents {
    fn new(plan: Arc<Plan>, events: Arc<dyn EventSink>) -> Arc<Self> {
        Arc::new(Self { plan, events, heard: Mutex::default() })
    }
}

impl EventSink for DedupEvents {
    fn emit(&self, event: Event) {
        let is_context = |step: u32| matches!(self.plan.step(StepId(step)).kind, StepKind::Context(_));
        let (kind, of, may_repeat) = match &event {
            Event::StageSkipped { stage, .. } => (EventKind::Skipped, *stage, false),
            Event::StepExplained { step, .. } => (EventKind::Explained, *step, false),
            Event::StepStarted { step } if is_context(*step) => (EventKind::Started, *step, false),
            Event::StepCached { step, .. } => (EventKind::Ended, *step, false),
            // What ran in vain runs again.
            Event::StepFinished { step, .. } => (EventKind::Ended, *step, !is_context(*step)),
            _ => return self.events.emit(event),
        };
        let is_new = self.heard.lock().unwrap_or_else(PoisonError::into_inner).insert((kind, of));
        if is_new || may_repeat {
            self.events.emit(event);
        }
    }
}
