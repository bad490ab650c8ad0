//! Waiting for the other end of a pipe.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ExportError;

/// How often is looked whether there is something new.
pub(super) const TURN: Duration = Duration::from_millis(100);
/// Nothing is said about a pipe before it was silent for this long.
const QUIET: Duration = Duration::from_secs(2);
/// A pipe that is silent for longer is given up.
const LIMIT: Duration = Duration::from_secs(300);

/// The caller's part in waiting for a pipe: it says so, and knows whether the user has had enough.
#[derive(Clone)]
pub struct Waiting {
    tell: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    quiet: Duration,
    limit: Option<Duration>,
}

impl Waiting {
    /// `tell` is called with what is waited for, again and again once that takes longer than a
    /// moment; when it returns false, the waiting ends with an error.
    pub fn new(tell: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self { tell: Arc::new(tell), quiet: QUIET, limit: Some(LIMIT) }
    }

    /// The same without an end: for standard input, which nobody names by mistake.
    #[must_use]
    pub fn without_limit(self) -> Self {
        Self { limit: None, ..self }
    }

    /// The same with other bounds.
    #[cfg(test)]
    pub(super) fn bounded(self, quiet: Duration, limit: Duration) -> Self {
        Self { quiet, limit: Some(limit), ..self }
    }

    /// One turn of waiting since `began` has passed.
    pub(super) fn turn(&self, began: Instant, words: &str) -> io::Result<()> {
        let passed = began.elapsed();
        if passed >= self.quiet && !(self.tell)(&format!("waiting for {words}")) {
            return Err(io::Error::other(ExportError::Interrupted));
        }
        match self.limit.filter(|limit| passed >= *limit) {
            Some(limit) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{} seconds were waited for {words}", limit.as_secs()),
            )),
            None => Ok(()),
        }
    }
}

impl Default for Waiting {
    /// Waits without a word.
    fn default() -> Self {
        Self::new(|_| true)
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("limit", &self.limit).finish_non_exhaustive()
    }
}
