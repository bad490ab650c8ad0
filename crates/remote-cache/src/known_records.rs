//! What is known of a cache while it is open: the list of its tags, its catalogue, and what
//! look-ups found.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dbuild_digest::StepKey;

use crate::ErrorKind;
use crate::format::catalogue::StoredRecord;
use crate::hit::Answer;

/// What came of the first request.
#[derive(Debug)]
pub(crate) enum Loaded {
    State(Arc<KnownRecords>),
    /// It is not asked again: a build waits once for a cache that does not answer.
    Failed {
        kind: ErrorKind,
        text: String,
        hint: Option<String>,
    },
}

/// What is known of a cache.
#[derive(Debug, Default)]
pub(crate) struct KnownRecords {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The keys that are there, and when they were written. `None`: the place gives no list.
    pub tags: Option<HashMap<StepKey, Option<u64>>>,
    /// Records as they are stored.
    pub stored: HashMap<StepKey, Arc<StoredRecord>>,
    /// What look-ups found.
    pub answers: HashMap<StepKey, Answer>,
    /// Keys that were published by this process.
    pub published: HashSet<StepKey>,
    /// Why the catalogue that is there could not be read.
    pub trouble: Option<String>,
}

impl KnownRecords {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KnownRecords {
    pub(crate) fn new(known: Known) -> Self {
        Self { known: Mutex::new(known) }
    }
}
