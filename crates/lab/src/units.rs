//! Sizes, times and shares as people read them.

use dbuild_support::units::Bytes;

/// Milliseconds as seconds.
pub(crate) fn seconds(ms: u64) -> String {
    let seconds = ms as f64 / 1e3;
    let decimals = if ms.is_multiple_of(1000) || ms >= 100_000 { 0 } else { 1 };
    format!("{seconds:.decimals$}s")
}

/// A share as a percentage.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// A size, or that there is none.
pub(crate) fn limit(size: Option<u64>) -> String {
    size.map_or_else(|| "no limit".to_owned(), |size| Bytes(size).to_string())
}

#[cfg(test)]
mod tests {
    use super::{limit, percent, seconds};

    #[test]
    fn units() {
        assert_eq!([0, 400, 28_000, 97_500, 1_502_500].map(seconds), ["0s", "0.4s", "28s", "97.5s", "1502s"]);
        assert_eq!([None, Some(600_000_000), Some(1 << 30)].map(limit), ["no limit", "600MB", "1.07GB"]);
        assert_eq!(percent(0.6418), "64.2%");
    }
}
