//! Sizes and times as people read them.

use std::fmt;
use std::time::Duration;

/// A number of bytes in decimal units, as Docker prints them: `78.3MB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["kB", "MB", "GB", "TB", "PB", "EB"];
        if self.0 < 1000 {
            return f.pad(&format!("{}B", self.0));
        }
        let mut value = self.0 as f64 / 1000.0;
        let mut unit = 0;
        // 999.95 would be rounded to four digits.
        while value >= 999.5 && unit + 1 < units.len() {
            value /= 1000.0;
            unit += 1;
        }
        // Three digits say enough.
        let decimals = if value < 9.995 {
            2
        } else if value < 99.95 {
            1
        } else {
            0
        };
        f.pad(&format!("{value:.decimals$}{}", units[unit]))
    }
}

/// A time in seconds: `0.42s`, `73.1s`, `12m04s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        let text = match self.0.as_secs() {
            0..10 => format!("{seconds:.2}s"),
            10..600 => format!("{seconds:.1}s"),
            600..3600 => format!("{}m{:02}s", self.0.as_secs() / 60, self.0.as_secs() % 60),
            whole => format!("{}h{:02}m", whole / 3600, whole / 60 % 60),
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Bytes, Seconds};

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.00kB"),
            (1234, "1.23kB"),
            (78_340_000, "78.3MB"),
            (490_000_000, "490MB"),
            (999_499, "999kB"),
            (999_600, "1.00MB"),
            (1_590_000_000, "1.59GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        assert_eq!(format!("{:>8}", Bytes(5)), "      5B");
    }

    #[test]
    fn times() {
        for (millis, text) in
            [(0, "0.00s"), (420, "0.42s"), (73_100, "73.1s"), (724_000, "12m04s"), (7_260_000, "2h01m")]
        {
            assert_eq!(Seconds(Duration::from_millis(millis)).to_string(), text);
        }
    }
}
