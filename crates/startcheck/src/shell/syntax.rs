//! The simple part of the shell's language: enough to know what a shell form starts, and to know
//! when it cannot be known.

use std::collections::BTreeMap;

/// A line of shell, as far as it is simple.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Script {
    pub(crate) commands: Vec<Simple>,
    /// It goes on with something that is not simple: a loop, a substitution, a group.
    pub(crate) cut: bool,
}

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Simple {
    /// Assignments before the command.
    pub(crate) sets: Vec<(String, String)>,
    /// The words; `None` where the value is known only when it runs.
    pub(crate) words: Vec<Option<String>>,
    pub(crate) then: Then,
}

/// What stands after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
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
const RESERVED: [&str; 18] = [
    "time", "coproc", "if", "for", "while", "until", "case", "select", "function", "{", "}", "!", "[[",
    "then", "do", "done", "fi", "esac",
];

/// Reads it with these variables.
pub(crate) fn parse(text: &str, env: &BTreeMap<String, String>) -> Script {
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

/// The options and operands of a shell.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options<'w> {
    /// `word` is a line; else it is a file.
    pub(crate) has_line: bool,
    /// It reads the files of a login first.
    pub(crate) is_login: bool,
    pub(crate) word: Option<&'w str>,
    pub(crate) rest: &'w [String],
}

/// Reads the words after a shell's name; `None` where it reads standard input.
pub(crate) fn read_options(words: &[String]) -> Option<Options<'_>> {
    let mut options = Options::default();
    let mut rest = words;
    while let [word, after @ ..] = rest {
        let sign = word.chars().next().filter(|c| matches!(c, '-' | '+'));
        let Some(letters) = sign.and_then(|sign| word.strip_prefix(sign)) else { break };
        rest = after;
        match letters {
            "" | "-" => break,
            "-login" => options.is_login = true,
            "-rcfile" | "-init-file" => rest = rest.get(1..).unwrap_or_default(),
            _ if letters.starts_with('-') => {}
            _ => {
                options.has_line |= letters.contains('c') && sign == Some('-');
                options.is_login |= letters.contains('l');
                if letters.contains('s') && !options.has_line {
                    return None;
                }
                let with_value = letters.chars().filter(|c| matches!(c, 'o' | 'O')).count();
                rest = rest.get(with_value..).unwrap_or_default();
            }
        }
    }
    options.word = rest.first().map(String::as_str);
    options.rest = rest.get(1..).unwrap_or_default();
    Some(options)
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
        // A home directory, which not only HOME decides.
        known &= !self.rest.starts_with('~');
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
                '$' => {
                    let before = text.len();
                    known &= self.variable(&mut text)?;
                    // Outside of quotes a value is cut into words, and one that is empty is none.
                    known &=
                        text.len() > before && !text[before..].contains([' ', '\t', '\n', '*', '?', '[']);
                }
                '{' | '[' if self.is_pattern(c) => {
                    known = false;
                    text.push(c);
                    self.rest = &self.rest[1..];
                }
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

    /// Whether a bracket makes several words of one, or stands for others: `{a,b}`, `[ab]`.
    fn is_pattern(&self, open: char) -> bool {
        let close = if open == '{' { '}' } else { ']' };
        let word = self.rest.split([' ', '\t', '\n', ';', '&', '|']).next().unwrap_or_default();
        word.len() > 2 && word.contains(close)
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

    /// A variable that the image sets is known (somebody may start it with another value; the
    /// image's is what is judged).
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

    use super::{Then, parse, read_options};

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

    #[test]
    fn what_is_not_one_known_word() {
        for (text, expected) in [
            ("~/run", "?"),
            ("/bin/{a,b}", "?"),
            ("[ -f x ]", "[·-f·x·]"),
            ("run [ab]", "run·?"),
            ("time run", " …"),
            ("run \"$PORT\" $PORT", "run·80·80"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn options_of_a_shell() {
        for (line, has_line, is_login, word) in [
            ("-c run", true, false, Some("run")),
            ("-eo pipefail -c run", true, false, Some("run")),
            ("-o pipefail +e -c run", true, false, Some("run")),
            ("-lc run", true, true, Some("run")),
            ("--rcfile x -- run", false, false, Some("run")),
            ("--init-file x", false, false, None),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let options = read_options(&words).unwrap();
            assert_eq!(
                (options.has_line, options.is_login, options.word),
                (has_line, is_login, word),
                "{line}"
            );
        }
        assert_eq!(read_options(&["-s".to_owned()]), None);
    }
}
