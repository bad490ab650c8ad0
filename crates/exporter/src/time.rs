//! Times as OCI writes them.

use std::time::SystemTime;

use dbuild_layer::Mtime;

/// RFC 3339 in UTC, with a fraction only where there is one: `1970-01-01T00:00:00Z`.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let mtime = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => Mtime { secs: after.as_secs() as i64, nanos: after.subsec_nanos() },
        // Nothing that is built is older; what claims to be is cut to the epoch.
        Err(_) => Mtime::default(),
    };
    mtime.rfc3339()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::rfc3339;

    #[test]
    fn times_are_written_as_rfc_3339() {
        let at = |millis| rfc3339(SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_700_000_000_120), "2023-11-14T22:13:20.12Z");
        assert_eq!(at(4_107_542_399_000), "2100-02-28T23:59:59Z");
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00Z");
    }
}
