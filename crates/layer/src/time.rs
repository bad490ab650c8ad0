//! Times as text.

use crate::Mtime;

impl Mtime {
    /// RFC 3339 in UTC, with a fraction only where there is one: `1970-01-01T00:00:00Z`.
    pub fn rfc3339(self) -> String {
        let (days, clock) = (self.secs.div_euclid(86_400), self.secs.rem_euclid(86_400));
        // Civil date of a day number, in a calendar whose years begin in March (so that leap days are last).
        let z = days + 719_468;
        let (era, day_of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
        let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        if self.nanos > 0 {
            text.push_str(format!(".{:09}", self.nanos).trim_end_matches('0'));
        }
        text.push('Z');
        text
    }
}
