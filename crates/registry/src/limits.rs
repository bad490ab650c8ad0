//! How long, how often and how much: the bounds of everything that is asked of a registry.

use std::time::Duration;

/// The bounds that a registry is held to.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How often a request is tried with one host.
    pub attempts: u32,
    /// How often, where nothing listens at all: enough for a restart, not for a train without a
    /// network.
    pub connect_attempts: u32,
    /// The wait before the second attempt; it doubles from there.
    pub first_delay: Duration,
    /// The longest wait. A registry that asks (`Retry-After`) for more is given up at once.
    pub max_delay: Duration,
    /// To open a connection.
    pub connect: Duration,
    /// Without a byte in either direction.
    pub stall: Duration,
    /// Bytes a second that a body must bring on average over [`Limits::window`]; less is a stall,
    /// too.
    pub floor: u64,
    /// The time over which the rate of a body is taken. Only time in which we wait for the other
    /// side counts.
    pub window: Duration,
    /// Requests at a time to one host.
    pub connections: usize,
    /// A manifest or index, in bytes.
    pub manifest_bytes: u64,
    /// An image's config, in bytes.
    pub config_bytes: u64,
    /// The answer of a token server, in bytes.
    pub token_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attempts: 4,
            connect_attempts: 2,
            first_delay: Duration::from_millis(250),
            max_delay: Duration::from_secs(60),
            connect: Duration::from_secs(5),
            stall: Duration::from_secs(20),
            floor: 1 << 10,
            window: Duration::from_secs(60),
            connections: 6,
            manifest_bytes: 4 << 20,
            config_bytes: 16 << 20,
            token_bytes: 1 << 20,
        }
    }
}

impl Limits {
    /// The wait after a number of failed attempts, or `None` when it is time to give up.
    pub(crate) fn delay(&self, failed: u32, problem: &crate::Problem) -> Option<Duration> {
        let attempts = match problem {
            crate::Problem::Unreachable { .. } => self.connect_attempts,
            problem if problem.is_transient() => self.attempts,
            _ => return None,
        };
        if failed >= attempts {
            return None;
        }
        let backoff = self.first_delay.saturating_mul(1 << (failed - 1).min(16)).min(self.max_delay);
        match problem.retry_after() {
            Some(asked) if asked > self.max_delay => None,
            Some(asked) => Some(asked.max(backoff)),
            None => Some(backoff),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Limits;
    use crate::Problem;

    #[test]
    fn waits_grow_and_end() {
        let limits = Limits::default();
        let busy =
            |seconds: Option<u64>| Problem::RateLimited { retry_after: seconds.map(Duration::from_secs) };
        let waits: Vec<_> = (1..=5).map(|n| limits.delay(n, &busy(None)).map(|d| d.as_millis())).collect();
        assert_eq!(waits, [Some(250), Some(500), Some(1000), None, None]);
        assert_eq!(limits.delay(1, &busy(Some(7))), Some(Duration::from_secs(7)), "Retry-After is honoured");
        assert_eq!(limits.delay(1, &busy(Some(3600))), None, "but not for an hour");
        assert_eq!(limits.delay(1, &Problem::NotFound("x".into())), None);
        let unreachable = Problem::Unreachable { cause: crate::Unreachable::Refused, text: "x".into() };
        assert!(limits.delay(1, &unreachable).is_some());
        assert!(limits.delay(2, &unreachable).is_none());
    }
}
