//! The simple part of the shell's language: enough to know what a shell form starts, and to know when it cannot be known.

use std::collections::BTreeMap;

/// A line of shell, as far as it is simple.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) commands: Vec<Simple>,
    /// It goes on with something that is not simple: a loop, a substitution, a group.
    pub(super) cut: bool,
}

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Simple {
    /// Assignments before the command.
    pub(super) sets: Vec<(String, String)>,
    /// The words; `None` where the value is known only when it runs.
    pub(super) words: Vec<Option<String>>,
    pub(super) then: Then,
}

/// What stands after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    End,
    /// `&&`
    And,
    /// `||`
    Or,
    /// `;` or the end of a line
    Next,
    /// `|`
    Pipe,
    /// `&`
    Background,
}

/// Words that begin what is not simple.
const RESERVED: [&str; 16] = [
    "if", "for", "while", "until", "case", "select", "function", "{", "}", "!", "[[", "then", "do", "done",
    "fi", "esac",
];

/// Reads it with these variables.
pub(super) fn parse(text: &str, env: &BTreeMap<String, String>) -> Script {
    let mut reader = Reader { rest: text, env };
    let mut script = Script::default();
    loop {
        match reader.command() {
            None => {
                script.cut = true;
                return script;
            }
            Some(simple) => {
                let then = simple.then;
                if !simple.words.is_empty() || !simple.sets.is_empty() {
                    script.commands.push(simple);
                }
                if then == Then::End {
                    return script;
                }
            }
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
    env: &'a BTreeMap<String, String>,
}

impl Reader<'_> {
    fn command(&mut self) -> Option<Simple> {
        let (mut sets, mut words) = (Vec::new(), Vec::new());
        let then = loop {
            self.blanks();
            match self.rest.chars().next() {
                None => break Then::End,
                Some('(' | ')') => return None,
                Some(c @ ('&' | '|' | ';' | '\n' | '\r')) => break self.operator(c)?,
                Some('<' | '>') => self.redirection()?,
                Some(_) => {
                    let quoted = self.rest.starts_with(['"', '\'', '\\']);
                    let word = self.word()?;
                    match &word {
                        Some(word) if words.is_empty() && !quoted && RESERVED.contains(&word.as_str()) => {
                            return None;
                        }
                        Some(word) if words.is_empty() && !quoted && is_assignment(word) => {
                            let (name, value) = word.split_once('=').unwrap_or_default();
                            sets.push((name.to_owned(), value.to_owned()));
                        }
                        // `2>&1`: the number belongs to the redirection.
                        Some(word) if is_number(word) && self.rest.starts_with(['<', '>']) => {
                            self.redirection()?
                        }
                        _ => words.push(word),
                    }
                }
            }
        };
        Some(Simple { sets, words, then })
    }

    fn blanks(&mut self) {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t']);
            if let Some(rest) = self.rest.strip_prefix("\\\n") {
                self.rest = rest;
            } else if self.rest.starts_with('#') {
                self.rest = &self.rest[self.rest.find('\n').unwrap_or(self.rest.len())..];
            } else {
                return;
            }
        }
    }

    fn operator(&mut self, first: char) -> Option<Then> {
        let (length, then) = match first {
            '&' if self.rest.starts_with("&&") => (2, Then::And),
            '|' if self.rest.starts_with("||") => (2, Then::Or),
            ';' if self.rest.starts_with(";;") => return None,
            '&' => (1, Then::Background),
            '|' => (1, Then::Pipe),
            _ => (1, Then::Next),
        };
        self.rest = &self.rest[length..];
        Some(then)
    }

    fn redirection(&mut self) -> Option<()> {
        if self.rest.starts_with("<<") || self.rest.starts_with("<(") || self.rest.starts_with(">(") {
            return None;
        }
        self.rest = self.rest.trim_start_matches(['<', '>', '&', '|']);
        self.blanks();
        self.word().map(drop)
    }

    /// A word: its value if it is known now. The outer `None` is what is not simple.
    fn word(&mut self) -> Option<Option<String>> {
        let (mut text, mut known) = (String::new(), true);
        while let Some(c) = self.rest.chars().next() {
            match c {
                ' ' | '\t' | '\n' | '\r' | '&' | '|' | ';' | '<' | '>' => break,
                '(' | ')' | '`' => return None,
                '\'' => {
                    let (inside, rest) = self.rest[1..].split_once('\'')?;
                    text.push_str(inside);
                    self.rest = rest;
                }
                '"' => {
                    self.rest = &self.rest[1..];
                    known &= self.quoted(&mut text)?;
                }
                '\\' => {
                    let mut rest = self.rest[1..].chars();
                    match rest.next()? {
                        '\n' => {}
                        other => text.push(other),
                    }
                    self.rest = rest.as_str();
                }
                '$' => known &= self.variable(&mut text)?,
                '*' | '?' => {
                    known = false;
                    self.rest = &self.rest[1..];
                }
                c => {
                    text.push(c);
                    self.rest = &self.rest[c.len_utf8()..];
                }
            }
        }
        Some(known.then_some(text))
    }

    fn quoted(&mut self, text: &mut String) -> Option<bool> {
        let mut known = true;
        loop {
            let c = self.rest.chars().next()?;
            match c {
                '"' => {
                    self.rest = &self.rest[1..];
                    return Some(known);
                }
                '`' => return None,
                '$' => known &= self.variable(text)?,
                '\\' => {
                    let next = self.rest[1..].chars().next()?;
                    if !matches!(next, '"' | '\\' | '$' | '`' | '\n') {
                        text.push('\\');
                    }
                    if next != '\n' {
                        text.push(next);
                    }
                    self.rest = &self.rest[1 + next.len_utf8()..];
                }
                c => {
                    text.push(c);
                    self.rest = &self.rest[c.len_utf8()..];
                }
            }
        }
    }

    /// A variable that the image sets is known (somebody may start it with another value; the image's is what is judged).
    fn variable(&mut self, text: &mut String) -> Option<bool> {
        let rest = &self.rest[1..];
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if let Some(inside) = rest.strip_prefix('{') {
            let (inside, after) = inside.split_once('}')?;
            self.rest = after;
            let end = inside.find(|c| !is_name(c)).unwrap_or(inside.len());
            let (name, modifier) = inside.split_at(end);
            let value = self.env.get(name).filter(|value| !value.is_empty());
            let default = modifier.strip_prefix(":-").or_else(|| modifier.strip_prefix('-'));
            return match (value, default) {
                _ if !modifier.is_empty() && default.is_none() => Some(false),
                (Some(value), _) => {
                    text.push_str(value);
                    Some(true)
                }
                (None, Some(default)) if !default.contains(['$', '"', '\'', '`']) => {
                    text.push_str(default);
                    Some(true)
                }
                _ => Some(false),
            };
        }
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let name = &rest[..end];
        match (name.is_empty(), rest.chars().next()) {
            (true, Some('(')) => None,
            (true, Some('@' | '*' | '#' | '?' | '$' | '!' | '-')) => {
                self.rest = &rest[1..];
                Some(false)
            }
            (true, _) => {
                text.push('$');
                self.rest = rest;
                Some(true)
            }
            (false, _) => {
                self.rest = &rest[end..];
                let value = self.env.get(name);
                text.push_str(value.map_or("", String::as_str));
                Some(value.is_some())
            }
        }
    }
}

fn is_assignment(word: &str) -> bool {
    let name = word.split_once('=').map_or("", |(name, _)| name);
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Then, parse};

    /// The commands as text: words that are not known are `?`, what is cut ends in `…`.
    fn shown(text: &str) -> String {
        let env = BTreeMap::from([("PORT".to_owned(), "80".to_owned())]);
        let script = parse(text, &env);
        let mut shown: Vec<String> = Vec::new();
        for simple in &script.commands {
            let sets = simple.sets.iter().map(|(name, value)| format!("{name}={value}"));
            let words = simple.words.iter().map(|word| word.clone().unwrap_or_else(|| "?".to_owned()));
            let then = match simple.then {
                Then::End => "",
                Then::And => " &&",
                Then::Or => " ||",
                Then::Next => " ;",
                Then::Pipe => " |",
                Then::Background => " &",
            };
            shown.push(sets.chain(words).collect::<Vec<_>>().join("·") + then);
        }
        shown.join(" ") + if script.cut { " …" } else { "" }
    }

    #[test]
    fn simple_lines() {
        for (text, expected) in [
            ("python app.py", "python·app.py"),
            ("exec gunicorn -b :$PORT 'a b' \"c $PORT\" d\\ e", "exec·gunicorn·-b·:80·a b·c 80·d e"),
            ("cd /app && A=1 node . # go", "cd·/app && A=1·node·."),
            ("a; b | c || d &\ne", "a ; b | c || d & e"),
            ("run >log 2>&1 </dev/null x", "run·x"),
            ("run ${PORT:-1} ${OTHER:-x} $OTHER $1", "run·80·x·?·?"),
            ("$UNSET/run", "?"),
            ("a && for x in 1; do b; done", "a && …"),
            ("a \"$(date)\"", " …"),
            ("cat <<END", " …"),
            ("echo 'open", " …"),
            ("ls *.py", "ls·?"),
            ("a \\\n  b", "a·b"),
            ("", ""),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }
}
