//! Logical lines to a keyword, flags and arguments.

use std::ops::Range;

use crate::lines::LogicalLine;
use crate::source::Word;

/// The characters at which BuildKit cuts words of most instructions.
pub(crate) fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// A flag before the arguments: `--name=value`, its quotes removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flag {
    /// All of it, with `--`.
    pub(crate) word: Word,
}

impl Flag {
    /// The name, without `--`.
    pub(crate) fn name(&self) -> &str {
        let text = self.word.text.strip_prefix("--").unwrap_or(&self.word.text);
        text.split_once('=').map_or(text, |(name, _)| name)
    }

    /// The value, if there is an `=`.
    pub(crate) fn value(&self) -> Option<Word> {
        let at = self.word.text.find('=')? + 1;
        let text = &self.word.text[at..];
        Some(Word::new(text, self.word.part(at..self.word.text.len())))
    }
}

/// A line taken apart, its arguments not yet.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) keyword: Word,
    pub(crate) flags: Vec<Flag>,
    /// The rest of the line, trimmed, as a range of the line's text.
    pub(crate) args: Range<usize>,
}

/// Takes a part of a line apart.
pub(crate) fn split_command(line: &LogicalLine, range: Range<usize>, escape: char) -> Command {
    let range = line.trim(range);
    let text = &line.text[range.clone()];
    let keyword_len = text.find(is_blank).unwrap_or(text.len());
    let keyword = line.word(range.start..range.start + keyword_len);
    let after = &text[keyword_len..];
    let rest = range.end - after.trim_start_matches(is_blank).len();
    let (flags, args_start) = split_flags(line, rest..range.end, escape);
    Command { keyword, flags, args: line.trim(args_start..range.end) }
}

/// Reads flags, and tells where the rest begins. Quotes and escapes are removed from flags.
fn split_flags(line: &LogicalLine, range: Range<usize>, escape: char) -> (Vec<Flag>, usize) {
    let mut flags = Vec::new();
    let mut at = range.start;
    loop {
        let rest = &line.text[at..range.end];
        at = range.end - rest.trim_start().len();
        if !line.text[at..range.end].starts_with("--") {
            return (flags, at);
        }
        let (word, end) = unquoted(&line.text[at..range.end], escape);
        let span = line.span(at..at + end);
        at += end;
        // `--` alone ends the flags, so that arguments may begin with dashes.
        if word == "--" {
            return (flags, at);
        }
        flags.push(Flag { word: Word::new(word, span) });
    }
}

/// One word without its quotes and escapes, and where it ends.
fn unquoted(text: &str, escape: char) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if c == escape {
            // At the end of the line there is nothing to escape.
            word.extend(chars.next().map(|(_, escaped)| escaped));
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_some() {
            word.push(c);
        } else if c == '\'' || c == '"' {
            quote = Some(c);
        } else if c.is_whitespace() {
            return (word, at);
        } else {
            word.push(c);
        }
    }
    (word, text.len())
}

/// Words as `FROM`, `COPY`, `EXPOSE` and others have them: cut at blanks, quotes are ordinary
/// characters.
pub(crate) fn blank_separated(line: &LogicalLine, range: Range<usize>) -> Vec<Word> {
    let mut words = Vec::new();
    let mut at = range.start;
    for piece in line.text[range].split(is_blank) {
        if !piece.is_empty() {
            words.push(line.word(at..at + piece.len()));
        }
        at += piece.len() + 1;
    }
    words
}

/// Words as `ENV`, `LABEL` and `ARG` have them: quotes group and are kept, as is what is escaped.
pub(crate) fn quoted_words(line: &LogicalLine, range: Range<usize>, escape: char) -> Vec<Word> {
    let text = &line.text[range.clone()];
    let mut words = Vec::new();
    // Where the word began, and its text: an escape at the very end of the line is left out of it.
    let mut current: Option<(usize, String)> = None;
    let mut quote = None;
    let mut chars = text.char_indices().peekable();
    let finish = |current: &mut Option<(usize, String)>, end: usize, words: &mut Vec<Word>| {
        if let Some((start, word)) = current.take()
            && !word.is_empty()
        {
            words.push(Word::new(word, line.span(range.start + start..range.start + end)));
        }
    };
    while let Some((at, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            finish(&mut current, at, &mut words);
            continue;
        }
        let (_, word) = current.get_or_insert_with(|| (at, String::new()));
        if c == escape && quote != Some('\'') {
            if let Some((_, escaped)) = chars.next() {
                word.extend([c, escaped]);
            }
            continue;
        }
        word.push(c);
        match quote {
            Some(open) if open == c => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            _ => {}
        }
    }
    finish(&mut current, text.len(), &mut words);
    words
}

/// A JSON array of strings.
#[derive(Debug)]
pub(crate) enum Json {
    /// It is one.
    Strings(Vec<Word>),
    /// It is an array with something else in it.
    Mixed,
    /// It is no JSON array: the shell form is meant.
    No,
}

/// Reads the exec form.
pub(crate) fn json_array(line: &LogicalLine, range: Range<usize>) -> Json {
    let text = &line.text[range.clone()];
    let body = text.trim_start();
    if !body.starts_with('[') {
        return Json::No;
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(body) else {
        return Json::No;
    };
    let start = range.start + (text.len() - body.len());
    let mut places = string_literals(body).into_iter();
    let mut words = Vec::with_capacity(values.len());
    for value in values {
        let serde_json::Value::String(value) = value else {
            return Json::Mixed;
        };
        let place = places.next().unwrap_or(0..body.len());
        words.push(Word::new(value, line.span(start + place.start..start + place.end)));
    }
    Json::Strings(words)
}

/// Where the string literals of a valid JSON array of strings stand, quotes included.
fn string_literals(json: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut open = None;
    let mut bytes = json.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match (byte, open) {
            (b'"', None) => open = Some(at),
            (b'"', Some(start)) => {
                found.push(start..at + 1);
                open = None;
            }
            (b'\\', Some(_)) => {
                bytes.next();
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Json, blank_separated, json_array, quoted_words, split_command};
    use crate::lines::LogicalLine;
    use crate::source::Span;

    fn line(text: &str) -> LogicalLine {
        LogicalLine::fixed(text, Span::new(0, 0))
    }

    #[test]
    fn flags_end_where_arguments_begin() {
        let check = |text: &str, flags: &[&str], args: &str| {
            let line = line(text);
            let command = split_command(&line, 0..text.len(), '\\');
            let found: Vec<_> = command.flags.iter().map(|flag| flag.word.text.as_str()).collect();
            assert_eq!(found, flags, "{text}");
            assert_eq!(&line.text[command.args], args, "{text}");
        };
        check("RUN make --fast", &[], "make --fast");
        check("RUN --a=b  --c make", &["--a=b", "--c"], "make");
        check("RUN --a=\"b c\" d", &["--a=b c"], "d");
        check("RUN --a='b \" c'\\ e d", &["--a=b \" c e"], "d");
        check("RUN -- --x", &[], "--x");
        check("RUN --a=b", &["--a=b"], "");
        check("RUN", &[], "");
        check("RUN --a\\", &["--a"], "");
        check("COPY --chown=ü a b", &["--chown=ü"], "a b");
    }

    #[test]
    fn words_keep_quotes() {
        let check = |text: &str, expected: &[&str]| {
            let found: Vec<_> =
                quoted_words(&line(text), 0..text.len(), '\\').into_iter().map(|w| w.text).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("a=b c=d", &["a=b", "c=d"]);
        check("a=\"b c\" d='e \"f'", &["a=\"b c\"", "d='e \"f'"]);
        check("a=b\\ c d", &["a=b\\ c", "d"]);
        check("a=\"b\\\" c\"", &["a=\"b\\\" c\""]);
        check("a='b\\' c", &["a='b\\'", "c"]);
        check("a=b\\", &["a=b"]);
        check("a=\"b c", &["a=\"b c"]);
        check("\"\" x", &["\"\"", "x"]);
        check("  ", &[]);
    }

    #[test]
    fn blanks_separate() {
        let text = "a  \"b\tc\" d";
        let found: Vec<_> = blank_separated(&line(text), 0..text.len()).into_iter().map(|w| w.text).collect();
        assert_eq!(found, ["a", "\"b", "c\"", "d"]);
    }

    #[test]
    fn json_is_told_from_shell() {
        for (text, expected) in [
            ("[]", Some(Some(vec![]))),
            (r#"["a", "b\"c"]"#, Some(Some(vec!["a", "b\"c"]))),
            (r#"["a", 1]"#, Some(None)),
            (r#"["a", null]"#, Some(None)),
            ("[a]", None),
            ("['a']", None),
            (r#"["a"] x"#, None),
            ("[ -f x ] && y", None),
            ("x", None),
        ] {
            let found = match json_array(&line(text), 0..text.len()) {
                Json::Strings(words) => Some(Some(words.into_iter().map(|w| w.text).collect::<Vec<_>>())),
                Json::Mixed => Some(None),
                Json::No => None,
            };
            let expected = expected.map(|e| e.map(|e| e.into_iter().map(str::to_owned).collect::<Vec<_>>()));
            assert_eq!(found, expected, "{text}");
        }
    }
}
