//! The lists that flags and mounts take: one line of CSV, as Go's `encoding/csv` reads it, which
//! Docker, buildx and BuildKit use.

use std::ops::Range;

/// One element of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvField {
    /// The text without its quotes.
    pub text: String,
    /// Where the element stands in the line, quotes included.
    pub at: Range<usize>,
}

/// A line that is no list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct CsvError {
    /// Where the quote stands that is at fault.
    pub at: usize,
    /// What is wrong, as a clause.
    pub reason: &'static str,
}

const NOT_CLOSED: &str = "this quote is never closed";
const NOT_AT_THE_END: &str = "a quoted element ends before a comma; write a quote inside of it twice";
const INSIDE: &str = "a quote stands inside an element that does not begin with one";

/// Cuts a line at its commas. An element in double quotes may hold commas, and doubled quotes. An
/// empty line has one empty element.
pub fn csv_fields(line: &str) -> Result<Vec<CsvField>, CsvError> {
    // Values of variables and files often bring the end of their line along.
    let line = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
    let mut fields = Vec::new();
    let mut start = 0;
    loop {
        let rest = &line[start..];
        let (text, len) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (text, len) =
                    quoted_text(quoted).map_err(|(at, reason)| CsvError { at: start + at, reason })?;
                (text, len + 1)
            }
            None => {
                let len = rest.find(',').unwrap_or(rest.len());
                if let Some(at) = rest[..len].find('"') {
                    return Err(CsvError { at: start + at, reason: INSIDE });
                }
                (rest[..len].to_owned(), len)
            }
        };
        fields.push(CsvField { text, at: start..start + len });
        start += len + 1;
        if start > line.len() {
            return Ok(fields);
        }
    }
}

/// After the opening quote: the text, and the length up to and with the closing one. Positions of
/// errors count the opening quote.
fn quoted_text(quoted: &str) -> Result<(String, usize), (usize, &'static str)> {
    let mut text = String::new();
    let mut rest = quoted;
    loop {
        let Some((before, after)) = rest.split_once('"') else { return Err((0, NOT_CLOSED)) };
        text.push_str(before);
        match after.chars().next() {
            None | Some(',') => return Ok((text, quoted.len() - after.len())),
            Some('"') => text.push('"'),
            Some(_) => return Err((quoted.len() - after.len(), NOT_AT_THE_END)),
        }
        rest = &after[1..];
    }
}

#[cfg(test)]
mod tests {
    use super::{CsvError, INSIDE, NOT_AT_THE_END, NOT_CLOSED, csv_fields};

    #[test]
    fn lists_are_cut_as_go_cuts_them() {
        let texts = |line: &str| {
            let fields = csv_fields(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            fields.into_iter().map(|field| field.text).collect::<Vec<_>>()
        };
        assert_eq!(texts("a,b=c,,"), ["a", "b=c", "", ""]);
        assert_eq!(texts(""), [""]);
        assert_eq!(texts("\"\""), [""]);
        assert_eq!(texts("\"a,b\",c"), ["a,b", "c"]);
        assert_eq!(texts("\"id=a\",\"src=x,\"\"y\"\",z\""), ["id=a", "src=x,\"y\",z"]);
        assert_eq!(texts(" a, b "), [" a", " b "]);
        assert_eq!(texts("a,b\r\n"), ["a", "b"]);
        assert_eq!(texts("\u{fc},\"\u{e4},\""), ["\u{fc}", "\u{e4},"]);
    }

    #[test]
    fn elements_know_their_places() {
        let at = |line: &str| csv_fields(line).unwrap().into_iter().map(|field| field.at).collect::<Vec<_>>();
        assert_eq!(at("ab,\"c,d\",e"), [0..2, 3..8, 9..10]);
    }

    #[test]
    fn what_is_no_list_says_where() {
        for (line, at, reason) in [
            ("a\"b", 1, INSIDE),
            ("x,a=\"b,c\"", 4, INSIDE),
            ("x,\"a", 2, NOT_CLOSED),
            ("\"a\"\"", 0, NOT_CLOSED),
            ("x,\"a\"b", 4, NOT_AT_THE_END),
        ] {
            assert_eq!(csv_fields(line), Err(CsvError { at, reason }), "{line}");
        }
    }
}
