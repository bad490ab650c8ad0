//! The authorization headers that a host accepted.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Headers that a host accepted, by what they are good for.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Mutex<HashMap<Vec<String>, Kept>>);

struct Kept {
    header: String,
    until: Option<Instant>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("until", &self.until).finish_non_exhaustive()
    }
}

impl Tokens {
    pub(crate) fn get(&self, scopes: &[String]) -> Option<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.get(scopes)?;
        found.until.is_none_or(|until| Instant::now() < until).then(|| found.header.clone())
    }

    pub(crate) fn keep(&self, scopes: &[String], header: String, until: Option<Instant>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(scopes.to_vec(), Kept { header, until });
    }
}
