//! Expansion of variables, quotes and escapes as BuildKit's shell lexer does it.

mod pattern;

use std::ops::Range;

use pattern::Pattern;

/// The longest text that an expansion may give, in bytes. Variables that hold variables double at
/// each line, so a short Dockerfile could otherwise ask for all of the memory.
const LONGEST: usize = 1 << 20;
/// How deep `${a:-${b:-…}}` may nest.
const DEEPEST: usize = 64;

/// Where values come from.
pub(crate) trait Variables {
    /// The value of a variable; `None` where it is not set.
    fn get(&self, name: &str) -> Option<&str>;
}

/// No variable is set.
pub(crate) struct NoVariables;

impl Variables for NoVariables {
    fn get(&self, _: &str) -> Option<&str> {
        None
    }
}

/// What an expansion gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expansion {
    pub(crate) text: String,
    /// The text cut at white space that neither quotes nor escapes protect.
    pub(crate) words: Vec<String>,
    /// The variables that were read, and where.
    pub(crate) used: Vec<Use>,
}

/// A variable that an expansion read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) name: String,
    pub(crate) set: bool,
    /// Its range in the text that was expanded.
    pub(crate) range: Range<usize>,
}

/// Why a text cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExpandError {
    pub(crate) message: String,
    pub(crate) help: Option<&'static str>,
    /// Its range in the text that was expanded.
    pub(crate) range: Range<usize>,
}

/// How a text is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lexer {
    pub(crate) escape: char,
    /// Quotes stay in the text.
    pub(crate) raw_quotes: bool,
    /// Escapes stay in the text.
    pub(crate) raw_escapes: bool,
    /// Quotes are ordinary characters.
    pub(crate) ignore_quotes: bool,
    /// A variable that is not set stays in the text.
    pub(crate) keep_unset: bool,
}

impl Lexer {
    /// The lexer of instructions.
    pub(crate) fn new(escape: char) -> Self {
        Self { escape, raw_quotes: false, raw_escapes: false, ignore_quotes: false, keep_unset: false }
    }

    /// The lexer of the bodies of here-documents.
    pub(crate) fn heredoc_body() -> Self {
        Self { ignore_quotes: true, ..Self::new('\\') }
    }

    /// Expands a text.
    pub(crate) fn expand(self, text: &str, variables: &dyn Variables) -> Result<Expansion, ExpandError> {
        let mut scan = Scan { lexer: self, text, at: 0, depth: 0, variables, used: Vec::new() };
        let (text, words) = scan.until(None, self.raw_escapes)?;
        Ok(Expansion { text, words, used: scan.used })
    }
}

/// Cuts a text into words while it is made.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    current: String,
}

impl Words {
    /// Adds what may be cut.
    fn soft(&mut self, c: char) {
        if !c.is_whitespace() {
            self.current.push(c);
        } else if !self.current.is_empty() {
            self.done.push(std::mem::take(&mut self.current));
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.current.is_empty() {
            self.done.push(self.current);
        }
        self.done
    }
}

struct Scan<'a> {
    lexer: Lexer,
    text: &'a str,
    at: usize,
    depth: usize,
    variables: &'a dyn Variables,
    used: Vec<Use>,
}

type Result<T, E = ExpandError> = std::result::Result<T, E>;

impl Scan<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn error<T>(&self, start: usize, message: impl Into<String>, help: Option<&'static str>) -> Result<T> {
        let end = self.at.max(start + 1).min(self.text.len());
        Err(ExpandError { message: message.into(), help, range: start.min(end)..end })
    }

    /// Reads up to a character, or to the end of the text.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<(String, Vec<String>)> {
        let start = self.at;
        let mut text = String::new();
        let mut words = Words::default();
        let quotes = !self.lexer.ignore_quotes;
        while let Some(c) = self.peek() {
            if stop == Some(c) {
                self.next();
                return Ok((text, words.finish()));
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|c| words.soft(c));
                    text.push_str(&value);
                }
                '\'' | '"' if quotes => {
                    let value =
                        if c == '"' { self.double_quoted(raw_escapes)? } else { self.single_quoted()? };
                    words.current.push_str(&value);
                    text.push_str(&value);
                }
                '<' => {
                    let value = self.angle();
                    words.current.push_str(&value);
                    text.push_str(&value);
                }
                c if c == self.lexer.escape => {
                    self.next();
                    if raw_escapes {
                        words.current.push(c);
                        text.push(c);
                    }
                    // An escape at the very end escapes nothing.
                    words.current.extend(self.peek());
                    text.extend(self.next());
                }
                c => {
                    self.next();
                    words.soft(c);
                    text.push(c);
                }
            }
            if text.len() > LONGEST {
                let message = format!("this expands to more than {LONGEST} bytes");
                return self.error(start, message, Some("a variable may refer to itself many times over"));
            }
        }
        match stop {
            None => Ok((text, words.finish())),
            Some(stop) => self.error(start, format!("`{stop}` is missing"), None),
        }
    }

    fn single_quoted(&mut self) -> Result<String> {
        let start = self.at;
        self.next();
        let body = self.at;
        let Some(len) = self.text[body..].find('\'') else {
            self.at = self.text.len();
            return self.error(start, "the single quote is not closed", Some("add `'`, or write `\\'`"));
        };
        self.at = body + len + 1;
        let range = if self.lexer.raw_quotes { start..self.at } else { body..body + len };
        Ok(self.text[range].to_owned())
    }

    fn double_quoted(&mut self, raw_escapes: bool) -> Result<String> {
        let start = self.at;
        self.next();
        let mut text = String::new();
        if self.lexer.raw_quotes {
            text.push('"');
        }
        loop {
            match self.peek() {
                None => {
                    let help = Some("add `\"`, or write `\\\"`");
                    return self.error(start, "the double quote is not closed", help);
                }
                Some('"') => {
                    self.next();
                    if self.lexer.raw_quotes {
                        text.push('"');
                    }
                    return Ok(text);
                }
                Some('$') => text.push_str(&self.dollar()?),
                Some(c) if c == self.lexer.escape => {
                    self.next();
                    if raw_escapes {
                        text.push(c);
                    }
                    match self.peek() {
                        None => {}
                        Some(escaped) if escaped == '"' || escaped == '$' || escaped == c => {
                            text.extend(self.next());
                        }
                        // Others are not special inside quotes: the escape stays.
                        Some(_) => text.push(c),
                    }
                }
                Some(_) => text.extend(self.next()),
            }
            if text.len() > LONGEST {
                return self.error(start, format!("this expands to more than {LONGEST} bytes"), None);
            }
        }
    }

    /// `<<` takes the blanks after it along, so that `<< EOF` is one word.
    fn angle(&mut self) -> String {
        let start = self.at;
        self.next();
        if self.peek() == Some('<') {
            self.next();
            while matches!(self.peek(), Some('\t' | '\r' | ' ')) {
                self.next();
            }
        }
        self.text[start..self.at].to_owned()
    }

    fn dollar(&mut self) -> Result<String> {
        let start = self.at;
        self.next();
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            let value = self.value(&name, start);
            return Ok(match value {
                None if self.lexer.keep_unset => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        self.next();
        if self.depth >= DEEPEST {
            return self.error(start, format!("`${{` is nested more than {DEEPEST} deep"), None);
        }
        self.depth += 1;
        let value = self.braced(start);
        self.depth -= 1;
        value
    }

    /// After `${`.
    fn braced(&mut self, start: usize) -> Result<String> {
        const FORMS: Option<&str> =
            Some("a variable is written `${NAME}`, `${NAME:-default}` or `${NAME:+value}`");
        match self.peek() {
            None => return self.error(start, "`}` is missing", FORMS),
            Some('{' | '}' | ':') => {
                self.next();
                return self.error(start, "a variable's name is missing", FORMS);
            }
            Some(_) => {}
        }
        let name = self.name();
        let name_end = self.at;
        match self.next() {
            None => self.error(start, "`}` is missing", FORMS),
            Some('}') => Ok(match self.value(&name, start) {
                None if self.lexer.keep_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            Some('/') => self.replacement(&name, start),
            Some(':') => match self.next() {
                Some(operator @ ('-' | '+' | '?')) => self.default(&name, operator, true, start),
                _ => {
                    let operator = self.text[name_end..self.at].to_owned();
                    self.error(start, format!("`{operator}` is not an operator of `${{…}}`"), FORMS)
                }
            },
            Some(operator @ ('-' | '+' | '?')) => self.default(&name, operator, false, start),
            Some(operator @ ('#' | '%')) => self.trimmed(&name, operator, start),
            Some(operator) => {
                let help =
                    if name.is_empty() { FORMS } else { Some("expected `}` or an operator after the name") };
                self.error(start, format!("`{operator}` is not an operator of `${{…}}`"), help)
            }
        }
    }

    /// What follows the operator, up to `}`.
    fn operand(&mut self, start: usize, stop: char, raw_escapes: bool) -> Result<String> {
        match self.until(Some(stop), raw_escapes) {
            Ok((text, _)) => Ok(text),
            Err(_) if self.peek().is_none() => {
                self.error(start, format!("`{stop}` is missing in `${{…}}`"), None)
            }
            Err(error) => Err(error),
        }
    }

    fn default(&mut self, name: &str, operator: char, empty_is_unset: bool, start: usize) -> Result<String> {
        let word = self.operand(start, '}', false)?;
        let value = self.value(name, start);
        let colon = if empty_is_unset { ":" } else { "" };
        if value.is_none() && self.lexer.keep_unset {
            return Ok(format!("${{{name}{colon}{operator}{word}}}"));
        }
        let missing = value.as_deref().is_none_or(|value| empty_is_unset && value.is_empty());
        match (operator, missing) {
            ('-', true) | ('+', false) => Ok(word),
            ('+', true) => Ok(String::new()),
            ('?', true) => {
                let fallback = if value.is_none() { "it must be set" } else { "it must not be empty" };
                let reason = if word.is_empty() { fallback } else { &word };
                self.error(
                    start,
                    format!("{name}: {reason}"),
                    Some("give it a value with ARG, ENV or --build-arg"),
                )
            }
            _ => Ok(value.unwrap_or_default()),
        }
    }

    fn trimmed(&mut self, name: &str, operator: char, start: usize) -> Result<String> {
        let word = self.operand(start, '}', true)?;
        let value = self.value(name, start);
        if value.is_none() && self.lexer.keep_unset {
            return Ok(format!("${{{name}{operator}{word}}}"));
        }
        // What is not set is empty, and the pattern must be right all the same.
        let value = value.unwrap_or_default();
        let longest = word.strip_prefix(operator);
        let pattern = match Pattern::parse(longest.unwrap_or(&word)) {
            Ok(pattern) => pattern,
            Err(message) => return self.error(start, message, None),
        };
        Ok(match operator {
            '#' => pattern.without_prefix(&value, longest.is_some()),
            _ => pattern.without_suffix(&value, longest.is_some()),
        })
    }

    fn replacement(&mut self, name: &str, start: usize) -> Result<String> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let pattern = self.operand(start, '/', true)?;
        let replacement = self.operand(start, '}', true)?;
        let value = self.value(name, start);
        if value.is_none() && self.lexer.keep_unset {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        }
        let value = value.unwrap_or_default();
        let pattern = match Pattern::parse(&pattern) {
            Ok(pattern) => pattern,
            Err(message) => return self.error(start, message, None),
        };
        match pattern.replace(&value, &replacement, all, LONGEST) {
            Some(text) => Ok(text),
            None => self.error(start, format!("this expands to more than {LONGEST} bytes"), None),
        }
    }

    /// A variable's name, a position (`$1`) or one of the shell's special parameters; may be empty.
    fn name(&mut self) -> String {
        let rest = &self.text[self.at..];
        let len = match rest.chars().next() {
            Some(c) if c.is_numeric() => rest.find(|c: char| !c.is_numeric()).unwrap_or(rest.len()),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            _ => rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len()),
        };
        self.at += len;
        rest[..len].to_owned()
    }

    fn value(&mut self, name: &str, start: usize) -> Option<String> {
        let value = self.variables.get(name);
        self.used.push(Use { name: name.to_owned(), set: value.is_some(), range: start..self.at });
        value.map(str::to_owned)
    }
}

#[cfg(test)]
mod tests;
