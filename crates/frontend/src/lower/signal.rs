//! The signals that STOPSIGNAL takes.

const NAMES: [&str; 36] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE",
    "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU",
    "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

/// A number that is not 0, or a name with or without `SIG`.
pub(crate) fn is_valid(text: &str) -> bool {
    if let Ok(number) = text.parse::<i64>() {
        return number != 0;
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |prefix: &str, most: u32| {
        let digits = name.strip_prefix(prefix).filter(|digits| !digits.starts_with('0'));
        digits.is_some_and(|digits| {
            digits.bytes().all(|b| b.is_ascii_digit())
                && digits.parse::<u32>().is_ok_and(|n| (1..=most).contains(&n))
        })
    };
    NAMES.contains(&name) || offset("RTMIN+", 15) || offset("RTMAX-", 14)
}

/// All names without `SIG`.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.into_iter()
}

#[cfg(test)]
mod tests {
    use super::is_valid;

    #[test]
    fn signals_are_known() {
        for text in ["SIGTERM", "term", "9", "-9", "RTMIN+15", "SIGRTMAX-14", "sigkill", "+5"] {
            assert!(is_valid(text), "{text}");
        }
        for text in ["", "0", "SIGFOO", "RTMIN+16", "RTMIN+0", "RTMAX-", "9x"] {
            assert!(!is_valid(text), "{text}");
        }
    }
}
