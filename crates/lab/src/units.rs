//! Sizes, times and shares as people read them.

/// Bytes in decimal units, three digits.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = if unit == 0 || value >= 99.95 || value.fract() == 0.0 { 0 } else { 1 };
    format!("{value:.decimals$}{}", units[unit])
}

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
    size.map_or_else(|| "no limit".to_owned(), bytes)
}

#[cfg(test)]
mod tests {
    use super::{bytes, percent, seconds};

    #[test]
    fn units() {
        let sizes = [0, 999, 1000, 1500, 99_960, 600_000_000, 2_340_000_000].map(bytes);
        assert_eq!(sizes, ["0B", "999B", "1kB", "1.5kB", "100kB", "600MB", "2.3GB"]);
        assert_eq!([0, 400, 28_000, 97_500, 1_502_500].map(seconds), ["0s", "0.4s", "28s", "97.5s", "1502s"]);
        assert_eq!(percent(0.6418), "64.2%");
    }
}
