//! Values of flags that are more than a text.

use std::str::FromStr;
use std::time::Duration;

use dbuild_support::csv::csv_fields;

/// A boolean as Go's flags read it.
pub(crate) fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

/// `NAME=VALUE`, or `NAME` alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyValue {
    pub(crate) key: String,
    pub(crate) value: Option<String>,
}

impl FromStr for KeyValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text, None),
        };
        if key.is_empty() {
            return Err("expected NAME=VALUE".to_owned());
        }
        Ok(Self { key: key.to_owned(), value })
    }
}

/// `NAME=SOURCE` of `--build-context`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedContextArg {
    pub(crate) name: String,
    pub(crate) source: String,
}

impl FromStr for NamedContextArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, source)) if !name.is_empty() && !source.is_empty() => {
                Ok(Self { name: name.to_owned(), source: source.to_owned() })
            }
            _ => Err("expected NAME=DIRECTORY, NAME=docker-image://REFERENCE or NAME=oci-layout://DIR:TAG"
                .to_owned()),
        }
    }
}

/// `METHOD[,format=FORMAT][,ignorestatus=BOOL]` of `--call`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) json: bool,
    /// Findings do not fail the command.
    pub(crate) ignore_status: bool,
}

/// What is done with a Dockerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Build,
    Check,
    Outline,
    Targets,
}

impl FromStr for Call {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut call = Self { method: Method::Build, json: false, ignore_status: false };
        let fields = csv_fields(text).map_err(|error| error.to_string())?;
        for field in fields.iter().map(|field| field.text.as_str()) {
            match field.split_once('=').unwrap_or((field, "")) {
                ("build", "") => call.method = Method::Build,
                ("check" | "lint", "") => call.method = Method::Check,
                ("outline", "") => call.method = Method::Outline,
                ("targets", "") => call.method = Method::Targets,
                ("format", "json") => call.json = true,
                ("format", "text") => call.json = false,
                ("ignorestatus", "" | "true" | "1") => call.ignore_status = true,
                ("ignorestatus", "false" | "0") => call.ignore_status = false,
                _ => {
                    return Err(format!(
                        "`{field}` is not known: expected build, check, outline or targets, and format=text, \
                         format=json or ignorestatus=true"
                    ));
                }
            }
        }
        Ok(call)
    }
}

/// A number of bytes: `500000`, `512k`, `10GB`, `1.5GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ByteSize(pub(crate) u64);

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || "expected a size such as 500MB, 10GB or 1.5GiB".to_owned();
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let number: f64 = text[..digits].parse().map_err(|_| error())?;
        let factor: f64 = match text[digits..].trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1.0,
            "k" | "kb" => 1e3,
            "m" | "mb" => 1e6,
            "g" | "gb" => 1e9,
            "t" | "tb" => 1e12,
            "ki" | "kib" => 1024.0,
            "mi" | "mib" => 1_048_576.0,
            "gi" | "gib" => 1_073_741_824.0,
            "ti" | "tib" => 1_099_511_627_776.0,
            _ => return Err(error()),
        };
        // Sizes are rounded to whole bytes; a size beyond 2^64 saturates, which keeps everything.
        Ok(Self((number * factor).round() as u64))
    }
}

/// A time span: `90s`, `30m`, `24h`, `7d`, `2w`; a bare number is seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Age(pub(crate) Duration);

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || "expected a time such as 30m, 24h or 7d".to_owned();
        let mut total = 0_u64;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let number: u64 = rest[..digits].parse().map_err(|_| error())?;
            rest = &rest[digits..];
            let unit = rest.chars().next();
            let seconds = match unit {
                None | Some('s') => 1,
                Some('m') => 60,
                Some('h') => 3600,
                Some('d') => 86_400,
                Some('w') => 604_800,
                Some(_) => return Err(error()),
            };
            rest = &rest[unit.map_or(0, char::len_utf8)..];
            total = number.checked_mul(seconds).and_then(|add| total.checked_add(add)).ok_or_else(error)?;
        }
        if text.is_empty() { Err(error()) } else { Ok(Self(Duration::from_secs(total))) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Age, ByteSize, KeyValue};

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("0", 0), ("12", 12), ("1k", 1000), ("1.5GiB", 1_610_612_736), ("10GB", 10_000_000_000)]
        {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "x", "1x", "-1", "1.2.3"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn ages() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("1h30m", 5400), ("7d", 604_800)] {
            assert_eq!(text.parse(), Ok(Age(Duration::from_secs(seconds))), "{text}");
        }
        for text in ["", "h", "1y", "1.5h"] {
            assert!(text.parse::<Age>().is_err(), "{text}");
        }
    }

    #[test]
    fn key_values() {
        assert_eq!("A=b=c".parse(), Ok(KeyValue { key: "A".to_owned(), value: Some("b=c".to_owned()) }));
        assert_eq!("A".parse(), Ok(KeyValue { key: "A".to_owned(), value: None }));
        assert!("=x".parse::<KeyValue>().is_err());
    }
}
