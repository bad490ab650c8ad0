//! Times: the clock in milliseconds, and a moment as text.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The time now, in milliseconds since 1970. A clock before 1970 counts as 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A moment in UTC as RFC 3339, with a fraction only where there is one: `1970-01-01T00:00:00Z`.
///
/// `seconds` count from 1970; years beyond ±9999 are cut to the nearest that can be written.
pub fn rfc3339(seconds: i64, nanoseconds: u32) -> String {
    let limit = |seconds: i64| if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    let nanoseconds = i32::try_from(nanoseconds).unwrap_or(0);
    Timestamp::new(seconds, nanoseconds).unwrap_or_else(|_| limit(seconds)).to_string()
}

/// A moment as RFC 3339 in UTC, from milliseconds since 1970.
pub fn rfc3339_ms(ms: u64) -> String {
    let (seconds, millis) = (ms / 1000, (ms % 1000) as u32);
    rfc3339(i64::try_from(seconds).unwrap_or(i64::MAX), millis * 1_000_000)
}

/// A moment as RFC 3339 in UTC. One before 1970 is written as 1970: nothing that is built is older.
pub fn rfc3339_of(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
}

/// A moment in the time zone of this machine, as listings show it: `2026-11-30 20:41:08`.
///
/// `ms` counts from 1970; what lies beyond the year 9999 is `-`.
pub fn local(ms: u64) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let zoned = at.map(|at| at.to_zoned(TimeZone::system()));
    zoned.map_or_else(|| "-".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{local, rfc3339, rfc3339_ms, rfc3339_of};

    #[test]
    fn moments_are_written_as_rfc_3339() {
        assert_eq!(rfc3339_ms(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339_ms(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339_ms(1_700_000_000_120), "2023-11-14T22:13:20.12Z");
        assert_eq!(rfc3339_ms(4_107_542_399_000), "2100-02-28T23:59:59Z");
        assert_eq!(
            rfc3339_of(UNIX_EPOCH + Duration::from_millis(1_700_000_000_120)),
            "2023-11-14T22:13:20.12Z"
        );
        assert_eq!(rfc3339_of(UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(-1, 0), "1969-12-31T23:59:59Z");
        assert_eq!(rfc3339(1_000_000, 500), "1970-01-12T13:46:40.0000005Z");
    }

    #[test]
    fn moments_out_of_range_are_cut() {
        assert!(rfc3339(i64::MAX, 0).starts_with("9999-12-30"));
        assert!(rfc3339(i64::MIN, 0).starts_with("-009999-01-02"));
        assert_eq!(local(u64::MAX), "-");
    }
}
