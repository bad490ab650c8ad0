//! The part of Go's templates that scripts give to `--format`: fields, a few functions and `range`.

use serde_json::Value;

use crate::error::Error;

/// A template, ready to be filled in.
#[derive(Debug)]
pub(crate) struct Template {
    parts: Vec<Part>,
    /// It began with `table `: the names of its fields are a line above.
    is_table: bool,
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    /// Functions, the one nearest to the value last, and the value.
    Value(Vec<String>, Operand),
    Range(Vec<String>, Vec<Part>),
}

#[derive(Debug, Clone)]
enum Operand {
    /// The names of fields below the present value; none is the value itself.
    Path(Vec<String>),
    /// `index PATH KEY`.
    Index(Vec<String>, String),
    /// `join PATH SEPARATOR`.
    Join(Vec<String>, String),
}

const FUNCTIONS: [&str; 7] = ["json", "upper", "lower", "title", "len", "println", "print"];

impl Template {
    /// Reads a template as `--format` takes it; `json` alone is `{{json .}}`.
    ///
    /// # Errors
    /// When an action is not closed, or holds what is not known here.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let (is_table, text) = match text.strip_prefix("table") {
            Some(rest) if rest.starts_with([' ', '\t']) => (true, rest.trim_start()),
            _ => (false, text),
        };
        let text = if text == "json" { "{{json .}}" } else { text };
        // As in Docker, so that a shell needs no quotes of its own for them.
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        let mut rest = text.as_str();
        let parts = parts(&mut rest, false)?;
        Ok(Self { parts, is_table })
    }

    /// One line for each of the values.
    ///
    /// # Errors
    /// When a value has no field of a name; the error lists those that it has.
    pub(crate) fn lines(&self, values: &[Value]) -> Result<Vec<String>, Error> {
        let mut lines = Vec::with_capacity(values.len() + 1);
        if self.is_table {
            lines.push(headings(&self.parts));
        }
        for value in values {
            let mut line = String::new();
            fill(&self.parts, value, &mut line)?;
            lines.push(line);
        }
        if self.is_table { Ok(aligned(&lines)) } else { Ok(lines) }
    }
}

fn parts(rest: &mut &str, is_nested: bool) -> Result<Vec<Part>, Error> {
    let mut parts = Vec::new();
    while let Some((before, after)) = rest.split_once("{{") {
        if !before.is_empty() {
            parts.push(Part::Text(before.to_owned()));
        }
        let Some((action, after)) = after.split_once("}}") else {
            return Err(Error::usage(format!("`--format`: `{{{{{after}` is not closed by `}}}}`")));
        };
        *rest = after;
        let words = words(action.trim().trim_matches('-').trim())?;
        match words.first().map(String::as_str) {
            Some("range") if words.len() == 2 => {
                parts.push(Part::Range(path(&words[1])?, self::parts(rest, true)?));
            }
            Some("end") if is_nested => return Ok(parts),
            _ => parts.push(value(&words, action)?),
        }
    }
    if is_nested {
        return Err(Error::usage("`--format`: `range` has no `{{end}}`"));
    }
    if !rest.is_empty() {
        parts.push(Part::Text(std::mem::take(rest).to_owned()));
    }
    Ok(parts)
}

/// The words of an action; a text in quotes is one, with its first quote.
fn words(action: &str) -> Result<Vec<String>, Error> {
    let mut words = Vec::new();
    let mut rest = action.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '"' => rest[1..].find('"').map(|end| end + 1),
            _ => Some(rest.find(char::is_whitespace).unwrap_or(rest.len())),
        };
        let end = end.ok_or_else(|| Error::usage(format!("`--format`: a quote of `{action}` is open")))?;
        words.push(rest[..end].to_owned());
        rest = rest[end..].trim_start_matches('"').trim_start();
    }
    Ok(words)
}

fn value(words: &[String], action: &str) -> Result<Part, Error> {
    let unknown = || {
        let hint =
            format!("known are fields (`{{{{.ID}}}}`), range, index, join and {}", FUNCTIONS.join(", "));
        Error::usage(format!("`--format`: `{{{{{action}}}}}` is not known here")).hint(hint)
    };
    let (mut functions, mut at) = (Vec::new(), 0);
    while words.get(at).is_some_and(|word| FUNCTIONS.contains(&word.as_str())) {
        functions.push(words[at].clone());
        at += 1;
    }
    let operand = match &words[at..] {
        [field] => Operand::Path(path(field)?),
        [word, field, key] if word == "index" => {
            Operand::Index(path(field)?, key.trim_start_matches('"').to_owned())
        }
        [word, field, separator] if word == "join" => {
            Operand::Join(path(field)?, separator.trim_start_matches('"').to_owned())
        }
        _ => return Err(unknown()),
    };
    Ok(Part::Value(functions, operand))
}

fn path(word: &str) -> Result<Vec<String>, Error> {
    let names = word.strip_prefix('.').ok_or_else(|| {
        Error::usage(format!("`--format`: `{word}` is no field")).hint(format!("write `.{word}`"))
    })?;
    Ok(names.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

fn fill(parts: &[Part], value: &Value, out: &mut String) -> Result<(), Error> {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Value(functions, operand) => out.push_str(&written(functions, operand, value)?),
            Part::Range(path, below) => match found(path, value)? {
                Value::Array(items) => items.iter().try_for_each(|item| fill(below, item, out))?,
                Value::Object(fields) => fields.values().try_for_each(|item| fill(below, item, out))?,
                _ => {}
            },
        }
    }
    Ok(())
}

fn written(functions: &[String], operand: &Operand, value: &Value) -> Result<String, Error> {
    let value = match operand {
        Operand::Path(path) => found(path, value)?.clone(),
        Operand::Index(path, key) => match found(path, value)? {
            Value::Array(items) => {
                let at = key.parse::<usize>().ok();
                at.and_then(|at| items.get(at)).cloned().unwrap_or_default()
            }
            other => other.get(key).cloned().unwrap_or_default(),
        },
        Operand::Join(path, separator) => {
            let items = found(path, value)?.as_array().cloned().unwrap_or_default();
            Value::String(items.iter().map(plain).collect::<Vec<_>>().join(separator))
        }
    };
    let mut functions = functions.iter().rev();
    let Some(first) = functions.next() else { return Ok(plain(&value)) };
    let mut text = match first.as_str() {
        "json" => serde_json::to_string(&value).unwrap_or_default(),
        "len" => match &value {
            Value::Array(items) => items.len().to_string(),
            Value::Object(fields) => fields.len().to_string(),
            other => plain(other).chars().count().to_string(),
        },
        name => applied(name, plain(&value)),
    };
    for name in functions {
        text = applied(name, text);
    }
    Ok(text)
}

fn applied(name: &str, text: String) -> String {
    match name {
        "upper" => text.to_uppercase(),
        "lower" => text.to_lowercase(),
        "title" => {
            let mut chars = text.chars();
            chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
        }
        "println" => text + "\n",
        _ => text,
    }
}

fn found<'a>(path: &[String], value: &'a Value) -> Result<&'a Value, Error> {
    let mut found = value;
    for name in path {
        found = match found {
            Value::Object(fields) => fields.get(name).ok_or_else(|| {
                let known: Vec<&str> = fields.keys().map(String::as_str).collect();
                let hint = format!("there are {}", known.join(", "));
                Error::usage(format!("`--format`: there is no field `.{}`", path.join("."))).hint(hint)
            })?,
            // As with nil in Go: nothing is below it, and that is no error.
            _ => &Value::Null,
        };
    }
    Ok(found)
}

/// A value as Go prints it.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(name, value)| format!("{name}:{}", plain(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}

/// The names of the fields in capitals, with the text between them.
fn headings(parts: &[Part]) -> String {
    let heading = |part: &Part| match part {
        Part::Text(text) => text.clone(),
        Part::Value(_, Operand::Path(path) | Operand::Index(path, _) | Operand::Join(path, _))
        | Part::Range(path, _) => {
            let name = path.last().map(String::as_str).unwrap_or_default();
            if name == "ID" { "IMAGE ID".to_owned() } else { name.to_uppercase() }
        }
    };
    parts.iter().map(heading).collect()
}

/// Lines whose columns, which tabs divide, are as wide as the widest.
fn aligned(lines: &[String]) -> Vec<String> {
    let mut widths: Vec<usize> = Vec::new();
    for line in lines {
        for (at, cell) in line.split('\t').enumerate() {
            let width = console::measure_text_width(cell);
            match widths.get_mut(at) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    let line = |line: &String| {
        let cells: Vec<String> = line
            .split('\t')
            .zip(&widths)
            .map(|(cell, width)| console::pad_str(cell, *width, console::Alignment::Left, None).into_owned())
            .collect();
        cells.join("   ").trim_end().to_owned()
    };
    lines.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Template;

    fn filled(template: &str) -> String {
        let value = json!({
            "ID": "abc", "Repository": "app", "Empty": null, "Size": 5,
            "Config": {"Env": ["A=1", "B=2"], "Labels": {"a.b": "c"}},
        });
        match Template::parse(template).and_then(|template| template.lines(&[value])) {
            Ok(lines) => lines.join("|"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_scripts_write() {
        assert_eq!(filled("{{.Repository}}:{{ .ID }}"), "app:abc");
        assert_eq!(filled("{{json .Config.Env}}"), r#"["A=1","B=2"]"#);
        assert_eq!(filled("{{.Size}} {{upper .ID}} {{len .Config.Env}}"), "5 ABC 2");
        assert_eq!(filled("{{range .Config.Env}}{{println .}}{{end}}x"), "A=1\nB=2\nx");
        assert_eq!(filled(r#"{{index .Config.Labels "a.b"}} {{index .Config.Env 1}}"#), "c B=2");
        assert_eq!(filled(r#"{{join .Config.Env ", "}}"#), "A=1, B=2");
        assert_eq!(filled("{{.Empty}} {{.Empty.Below}}"), "<no value> <no value>");
        assert_eq!(filled("{{.Config.Env}}"), "[A=1 B=2]");
        assert_eq!(filled("table {{.ID}}\\t{{.Repository}}"), "IMAGE ID   REPOSITORY|abc        app");
        assert!(filled("json").starts_with("{\"Config\":"));
        assert_eq!(filled("plain"), "plain");
    }

    #[test]
    fn what_is_not_known_is_named() {
        insta::assert_snapshot!(filled("{{.Tag}}"), @"
        error: `--format`: there is no field `.Tag`
        help: there are Config, Empty, ID, Repository, Size
        ");
        insta::assert_snapshot!(filled("{{ID}}"), @"
        error: `--format`: `ID` is no field
        help: write `.ID`
        ");
        insta::assert_snapshot!(filled("{{if .ID}}x{{end}}"), @"
        error: `--format`: `{{if .ID}}` is not known here
        help: known are fields (`{{.ID}}`), range, index, join and json, upper, lower, title, len, println, print
        ");
        insta::assert_snapshot!(filled("{{.ID"), @"error: `--format`: `{{.ID` is not closed by `}}`");
        insta::assert_snapshot!(filled("{{range .Config.Env}}x"), @"error: `--format`: `range` has no `{{end}}`");
    }
}
