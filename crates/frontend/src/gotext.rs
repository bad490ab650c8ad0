//! Texts as Go writes and reads them, since they are in the history of images: durations and quoted
//! strings.

const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads `1h30m`, `1.5s`, `-2ms`, `0`: nanoseconds.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if text == "0" {
        return Some(0);
    }
    if text.is_empty() {
        return None;
    }
    let mut total: i64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_len);
        let unit_len = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        let unit = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        total = total.checked_add(scaled(number, unit)?)?;
        rest = after;
    }
    Some(if negative { -total } else { total })
}

fn scaled(number: &str, unit: i64) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut value = whole.checked_mul(unit)?;
    let mut place = unit as f64;
    for digit in fraction.bytes() {
        place /= 10.0;
        value = value.checked_add((place * f64::from(digit - b'0')).round() as i64)?;
    }
    Some(value)
}

/// Writes nanoseconds: `1h30m0s`, `1.5s`, `500ms`, `0s`.
pub(crate) fn duration(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let all = nanoseconds.unsigned_abs();
    let with_fraction = |unit: u64, name: &str| {
        let (whole, part) = (all / unit, all % unit);
        let digits = format!("{part:0width$}", width = unit.ilog10() as usize);
        let digits = digits.trim_end_matches('0');
        let dot = if digits.is_empty() { "" } else { "." };
        format!("{sign}{whole}{dot}{digits}{name}")
    };
    match all {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{all}ns"),
        1_000..1_000_000 => with_fraction(1_000, "µs"),
        1_000_000..1_000_000_000 => with_fraction(1_000_000, "ms"),
        _ => {
            let minutes = all / 60_000_000_000;
            let seconds = duration_seconds(all % 60_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

fn duration_seconds(nanoseconds: u64) -> String {
    let digits = format!("{:09}", nanoseconds % 1_000_000_000);
    let digits = digits.trim_end_matches('0');
    let dot = if digits.is_empty() { "" } else { "." };
    format!("{}{dot}{digits}s", nanoseconds / 1_000_000_000)
}

/// A list as `%q` writes it: `["a" "b"]`.
pub(crate) fn quoted_list(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("[{}]", words.join(" "))
}

/// A list as `%v` writes it: `[a b]`.
pub(crate) fn list(words: &[String]) -> String {
    format!("[{}]", words.join(" "))
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if is_unprintable(c) && u32::from(c) > 0xffff => {
                out.push_str(&format!("\\U{:08x}", u32::from(c)))
            }
            c if is_unprintable(c) => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Among what is not ASCII: controls, white space, what is private or has no meaning.
fn is_unprintable(c: char) -> bool {
    !c.is_ascii()
        && (c.is_control()
            || c.is_whitespace()
            || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
            || matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}' | '\u{fffe}'..='\u{ffff}')
            || c >= '\u{e0000}')
}

#[cfg(test)]
mod tests {
    use super::{duration, parse_duration, quoted_list};

    #[test]
    fn durations_are_read_and_written() {
        const SECOND: i64 = 1_000_000_000;
        for (text, nanoseconds, written) in [
            ("30s", 30 * SECOND, "30s"),
            ("1m30s", 90 * SECOND, "1m30s"),
            ("1.5h", 5400 * SECOND, "1h30m0s"),
            ("500ms", SECOND / 2, "500ms"),
            ("1.25s", SECOND + SECOND / 4, "1.25s"),
            ("1500us", SECOND / 1000 * 3 / 2, "1.5ms"),
            ("3µs", 3000, "3µs"),
            ("7ns", 7, "7ns"),
            ("-2s", -2 * SECOND, "-2s"),
            ("0", 0, "0s"),
            (".5s", SECOND / 2, "500ms"),
        ] {
            assert_eq!(parse_duration(text), Some(nanoseconds), "{text}");
            assert_eq!(duration(nanoseconds), written, "{text}");
        }
        for text in ["", "5", "s", "1x", "1.2.3s", ".s", "99999999999h", "1s-", "5 s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn strings_are_quoted() {
        let words = ["a", "b \"c\"\\", "\n\u{1}é\u{a0}"].map(str::to_owned);
        assert_eq!(quoted_list(&words), r#"["a" "b \"c\"\\" "\n\x01é\u00a0"]"#);
        assert_eq!(quoted_list(&[]), "[]");
    }
}
