//! The patterns of `${V#…}`, `${V%…}` and `${V/…/…}`: `*`, `?` and literal characters.

/// A pattern, cut at its stars.
#[derive(Debug)]
pub(super) struct Pattern {
    /// Between two of them stands a star; there is at least one.
    segments: Vec<Vec<Token>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// Any character but a newline.
    Any,
    Char(char),
}

impl Token {
    fn accepts(self, c: char) -> bool {
        match self {
            Self::Any => c != '\n',
            Self::Char(expected) => c == expected,
        }
    }
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut segments = vec![Vec::new()];
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let token = match c {
                '*' => {
                    segments.push(Vec::new());
                    continue;
                }
                '?' => Token::Any,
                // `\}` and `\/` are escaped for the sake of `${…}`, not of the pattern.
                '\\' if matches!(chars.peek(), Some('}' | '/')) => continue,
                '\\' => match chars.next() {
                    Some(escaped @ ('*' | '?' | '\\')) => Token::Char(escaped),
                    Some(other) => return Err(format!("`\\{other}` is not an escape of a pattern")),
                    None => return Err("the pattern ends with `\\`".to_owned()),
                },
                c => Token::Char(c),
            };
            if let Some(last) = segments.last_mut() {
                last.push(token);
            }
        }
        Ok(Self { segments })
    }

    pub(super) fn without_prefix(&self, value: &str, longest: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        match self.match_at(&chars, 0, longest) {
            Found::End(end) => chars[end..].iter().collect(),
            Found::No | Found::NoneHereOrLater => value.to_owned(),
        }
    }

    pub(super) fn without_suffix(&self, value: &str, longest: bool) -> String {
        let chars: Vec<char> = value.chars().rev().collect();
        let mut segments: Vec<Vec<Token>> = self.segments.iter().rev().cloned().collect();
        segments.iter_mut().for_each(|segment| segment.reverse());
        match (Self { segments }).match_at(&chars, 0, longest) {
            Found::End(end) => chars[end..].iter().rev().collect(),
            Found::No | Found::NoneHereOrLater => value.to_owned(),
        }
    }

    /// Replaces the first match, or all of them. In a replacement of all, `$0` and `${0}` are the
    /// match and other `$name` are empty, as BuildKit's use of Go's regular expressions has it.
    /// `None`: longer than `most` bytes.
    pub(super) fn replace(&self, value: &str, with: &str, all: bool, most: usize) -> Option<String> {
        let chars: Vec<char> = value.chars().collect();
        let mut out = String::new();
        let mut at = 0;
        let mut replaced = false;
        // An empty match right after a match does not count.
        let mut last_end = None;
        let mut barren_until = 0;
        while at <= chars.len() {
            if (all || !replaced) && at >= barren_until {
                match self.match_at(&chars, at, true) {
                    Found::End(end) if end > at || last_end != Some(at) => {
                        let matched: String = chars[at..end].iter().collect();
                        out.push_str(&if all { expand_groups(with, &matched) } else { with.to_owned() });
                        replaced = true;
                        last_end = Some(end);
                        if end > at {
                            at = end;
                            continue;
                        }
                    }
                    Found::NoneHereOrLater => {
                        let line = chars[at..].iter().position(|c| *c == '\n');
                        barren_until = line.map_or(chars.len() + 1, |len| at + len + 1);
                    }
                    Found::End(_) | Found::No => {}
                }
            }
            out.extend(chars.get(at));
            at += 1;
            if out.len() > most {
                return None;
            }
        }
        (out.len() <= most).then_some(out)
    }

    /// Matches at one position. Linear: with only stars and characters of fixed width the earliest
    /// place of each segment is as good as any other, and the last segment alone decides about the
    /// length.
    fn match_at(&self, chars: &[char], start: usize, longest: bool) -> Found {
        let fits = |segment: &[Token], at: usize| {
            chars
                .get(at..at + segment.len())
                .is_some_and(|part| segment.iter().zip(part).all(|(token, c)| token.accepts(*c)))
        };
        let Some((first, rest)) = self.segments.split_first() else {
            return Found::No;
        };
        if !fits(first, start) {
            return Found::No;
        }
        let mut end = start + first.len();
        let Some((last, middle)) = rest.split_last() else {
            return Found::End(end);
        };
        // A star does not cross a newline.
        let line_end =
            |from: usize| chars[from..].iter().position(|c| *c == '\n').map_or(chars.len(), |len| from + len);
        for segment in middle {
            let limit = line_end(end);
            match (end..=limit).find(|at| fits(segment, *at)) {
                Some(at) => end = at + segment.len(),
                None => return Found::NoneHereOrLater,
            }
        }
        let limit = line_end(end);
        let place = if longest {
            (end..=limit).rev().find(|at| fits(last, *at))
        } else {
            (end..=limit).find(|at| fits(last, *at))
        };
        place.map_or(Found::NoneHereOrLater, |at| Found::End(at + last.len()))
    }
}

enum Found {
    /// One past the match.
    End(usize),
    /// Not here.
    No,
    /// Not here, and not at a later position of this line: what follows the first segment is not to
    /// be found.
    NoneHereOrLater,
}

/// `$name` in a replacement, where only the whole match has a name.
fn expand_groups(template: &str, matched: &str) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let braced = rest.strip_prefix('{');
        let body = braced.unwrap_or(rest);
        let len = body.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(body.len());
        let closed = braced.is_none() || body[len..].starts_with('}');
        if len == 0 || !closed {
            out.push('$');
            continue;
        }
        if body[..len].bytes().all(|b| b == b'0') {
            out.push_str(matched);
        }
        rest = &body[len + usize::from(braced.is_some())..];
    }
    out.push_str(rest);
    out
}
