//! The options of `RUN --mount`.

use dbuild_plan::CacheSharing;
use dbuild_support::csv::{CsvError, csv_fields};
use dbuild_support::edit_distance;

use crate::diagnostics::Diagnostic;
use crate::source::{Span, Word};

/// A mount whose values are expanded.
#[derive(Debug)]
pub(crate) struct MountOptions {
    pub(crate) kind: MountType,
    pub(crate) from: Option<Word>,
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) readonly: bool,
    pub(crate) size: Option<u64>,
    pub(crate) id: String,
    pub(crate) sharing: Option<CacheSharing>,
    pub(crate) required: bool,
    pub(crate) env: Option<String>,
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    /// All of the flag's value.
    pub(crate) span: Span,
}

/// What is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MountType {
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

const TYPES: [(&str, MountType); 5] = [
    ("bind", MountType::Bind),
    ("cache", MountType::Cache),
    ("tmpfs", MountType::Tmpfs),
    ("secret", MountType::Secret),
    ("ssh", MountType::Ssh),
];

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

impl MountType {
    pub(crate) fn name(self) -> &'static str {
        TYPES.iter().find(|(_, kind)| *kind == self).map_or("bind", |(name, _)| name)
    }
}

/// What is known of a mount before expansion: enough for the graph of stages.
pub(crate) fn from_of(value: &Word) -> Option<Word> {
    let fields = fields(value).ok()?;
    let last = fields.into_iter().rev().find_map(|field| {
        let (key, from, _) = field.pair()?;
        (key == "from").then_some(from)
    })?;
    (!last.text.is_empty()).then_some(last)
}

/// What can be said before expansion: the list can be cut, and `from` holds no variable.
pub(crate) fn check_syntax(value: &Word, errors: &mut Vec<Diagnostic>) {
    let fields = match fields(value) {
        Ok(fields) => fields,
        Err(error) => return errors.push(error),
    };
    for field in fields {
        if let Some((key, from, _)) = field.pair()
            && key == "from"
            && from.text.find('$').is_some_and(|at| at + 1 != from.text.len())
        {
            errors.push(
                Diagnostic::error(from.span, "`from` of a mount cannot hold a variable")
                    .help("name a stage: `FROM $IMAGE AS tools` before this one, and `from=tools` here"),
            );
        }
    }
}

/// Reads the options; values are expanded by `expand`.
pub(crate) fn read(
    value: &Word,
    mut expand: impl FnMut(&Word) -> Result<String, Diagnostic>,
) -> Result<MountOptions, Diagnostic> {
    let mut reader = Reader { options: MountOptions::new(value.span), readonly: None };
    for field in fields(value)? {
        match field.pair() {
            Some((key, value, _)) => {
                let text = expand(&value)?;
                reader.set(&key, &Word::new(text, value.span), field.span(value.span))?;
            }
            None => reader.set_bare(&field)?,
        }
    }
    reader.finish()
}

impl MountOptions {
    fn new(span: Span) -> Self {
        Self {
            kind: MountType::Bind,
            from: None,
            source: String::new(),
            target: String::new(),
            readonly: false,
            size: None,
            id: String::new(),
            sharing: None,
            required: false,
            env: None,
            mode: None,
            uid: None,
            gid: None,
            span,
        }
    }
}

struct Reader {
    options: MountOptions,
    readonly: Option<bool>,
}

impl Reader {
    fn set_bare(&mut self, field: &Field) -> Result<(), Diagnostic> {
        let key = field.word.text.to_ascii_lowercase();
        match key.as_str() {
            "readonly" | "ro" => self.readonly = Some(true),
            "readwrite" | "rw" => self.readonly = Some(false),
            "required" => self.set_required(true, field.word.span)?,
            _ => {
                let shown: String = field.word.text.chars().take(60).collect();
                let error = Diagnostic::error(field.word.span, format!("`{shown}` needs a value"));
                return Err(match unknown_key(&key) {
                    Some(help) => error.help(help),
                    None => error.help(format!("write `{key}=…`; options are separated by commas")),
                });
            }
        }
        Ok(())
    }

    fn set_required(&mut self, required: bool, span: Span) -> Result<(), Diagnostic> {
        if !matches!(self.options.kind, MountType::Secret | MountType::Ssh) {
            return Err(self.not_of_this_type("required", span));
        }
        self.options.required = required;
        Ok(())
    }

    fn not_of_this_type(&self, key: &str, span: Span) -> Diagnostic {
        let kind = self.options.kind.name();
        Diagnostic::error(span, format!("a mount of type `{kind}` has no `{key}`"))
            .help("an option must follow the `type` that it belongs to")
    }

    fn set(&mut self, key: &str, value: &Word, field: Span) -> Result<(), Diagnostic> {
        let text = value.text.as_str();
        let options = &mut self.options;
        match key {
            "type" => options.kind = one_of(value, "type", &TYPES)?,
            "from" => options.from = (!text.is_empty()).then(|| value.clone()),
            "source" | "src" => options.source = text.to_owned(),
            "target" | "dst" | "destination" => options.target = text.to_owned(),
            "readonly" | "ro" => self.readonly = Some(truth(value, key)?),
            "readwrite" | "rw" => self.readonly = Some(!truth(value, key)?),
            "required" => self.set_required(truth(value, key)?, field)?,
            "size" if options.kind == MountType::Tmpfs => options.size = Some(size(value)?),
            "size" => return Err(self.not_of_this_type(key, field)),
            "id" => options.id = text.to_owned(),
            "sharing" => {
                let known = [
                    ("shared", CacheSharing::Shared),
                    ("private", CacheSharing::Private),
                    ("locked", CacheSharing::Locked),
                ];
                options.sharing = Some(one_of(value, "sharing", &known)?);
            }
            "mode" => options.mode = Some(number(value, key, 8)?),
            "uid" => options.uid = Some(number(value, key, 10)?),
            "gid" => options.gid = Some(number(value, key, 10)?),
            "env" => options.env = Some(text.to_owned()),
            _ => {
                let shown: String = key.chars().take(60).collect();
                let error = Diagnostic::error(field, format!("a mount has no option `{shown}`"));
                return Err(error.help(
                    unknown_key(key).unwrap_or_else(|| format!("expected {}", KEYS[..12].join(", "))),
                ));
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<MountOptions, Diagnostic> {
        let Self { mut options, readonly } = self;
        let kind = options.kind;
        let span = options.span;
        let owned = matches!(kind, MountType::Secret | MountType::Ssh | MountType::Cache);
        for (name, given) in
            [("mode", options.mode.is_some()), ("uid", options.uid.is_some()), ("gid", options.gid.is_some())]
        {
            if given && !owned {
                return Err(Diagnostic::error(
                    span,
                    format!("a mount of type `{}` has no `{name}`", kind.name()),
                ));
            }
        }
        options.readonly = readonly.unwrap_or(!matches!(kind, MountType::Cache | MountType::Tmpfs));
        if options.sharing.is_some() && kind != MountType::Cache {
            return Err(Diagnostic::error(
                span,
                format!("a mount of type `{}` has no `sharing`", kind.name()),
            ));
        }
        if kind == MountType::Secret {
            if let Some(from) = &options.from {
                return Err(Diagnostic::error(from.span, "a secret has no `from`"));
            }
            if options.source.is_empty() && options.target.is_empty() && options.id.is_empty() {
                let error = Diagnostic::error(span, "a secret needs an `id` or a `target`");
                return Err(error.help("for example `--mount=type=secret,id=token`"));
            }
            if !options.source.is_empty() && !options.id.is_empty() {
                let error = Diagnostic::error(span, "`source` and `id` of a secret mean the same");
                return Err(error.help("keep one of them"));
            }
        }
        if kind == MountType::Ssh && !options.source.is_empty() {
            return Err(Diagnostic::error(span, "a mount of type `ssh` has no `source`"));
        }
        Ok(options)
    }
}

fn unknown_key(key: &str) -> Option<String> {
    edit_distance::nearest(key, KEYS).map(|near| format!("did you mean `{near}`?"))
}

fn one_of<T: Copy>(value: &Word, key: &str, known: &[(&str, T)]) -> Result<T, Diagnostic> {
    let text = value.text.to_ascii_lowercase();
    if let Some((_, found)) = known.iter().find(|(name, _)| *name == text) {
        return Ok(*found);
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let shown: String = value.text.chars().take(60).collect();
    let error = Diagnostic::error(value.span, format!("`{shown}` is not a {key} of mounts"));
    Err(match edit_distance::nearest(&text, names.iter().copied()) {
        Some(near) => error.help(format!("did you mean `{near}`?")),
        None => error.help(format!("expected `{}`", names.join("`, `"))),
    })
}

fn truth(value: &Word, key: &str) -> Result<bool, Diagnostic> {
    match value.text.as_str() {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(Diagnostic::error(value.span, format!("`{key}` is true or false"))),
    }
}

fn number(value: &Word, key: &str, radix: u32) -> Result<u32, Diagnostic> {
    // A sign is no part of a number here.
    let digits = !value.text.starts_with('+');
    u32::from_str_radix(&value.text, radix).ok().filter(|_| digits).ok_or_else(|| {
        let kind = if radix == 8 { "an octal number, such as 0755" } else { "a number" };
        Diagnostic::error(value.span, format!("`{key}` is {kind}"))
    })
}

/// `64m`, `1.5 GiB`, `100`: bytes, in steps of 1024.
fn size(value: &Word) -> Result<u64, Diagnostic> {
    let error = || {
        Diagnostic::error(value.span, "this is not a size")
            .help("write bytes or a unit, such as `64m` or `1g`")
    };
    let text = value.text.trim();
    let len = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(len);
    let number: f64 = number.parse().map_err(|_| error())?;
    let unit = unit.trim_start().to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit);
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(error()),
    };
    // As in Docker the fraction of a byte is dropped.
    Ok((number * 1024_f64.powi(power)) as u64)
}

/// One element of the comma-separated list.
#[derive(Debug)]
struct Field {
    word: Word,
}

impl Field {
    /// The key in lower case, the value, and where the value begins.
    fn pair(&self) -> Option<(String, Word, usize)> {
        let at = self.word.text.find('=')?;
        let key = self.word.text[..at].to_ascii_lowercase();
        let value = Word::new(&self.word.text[at + 1..], self.word.part(at + 1..self.word.text.len()));
        Some((key, value, at + 1))
    }

    fn span(&self, value: Span) -> Span {
        self.word.span.to(value)
    }
}

/// Cuts the list.
fn fields(value: &Word) -> Result<Vec<Field>, Diagnostic> {
    let fields = csv_fields(&value.text).map_err(|CsvError { at, reason }| {
        Diagnostic::error(value.part(at..value.text.len()), reason)
            .help("options are separated by commas: put one that contains a comma in double quotes")
    })?;
    let words = fields.into_iter().map(|field| Field { word: Word::new(field.text, value.part(field.at)) });
    Ok(words.collect())
}

#[cfg(test)]
mod tests {
    use super::{MountOptions, MountType, from_of, read};
    use crate::source::{Span, Word};

    fn options(text: &str) -> Result<MountOptions, String> {
        let word = Word::new(text, Span::new(0, text.len()));
        read(&word, |value| Ok(value.text.clone())).map_err(|error| error.message)
    }

    #[test]
    fn options_are_read() {
        let found = options("type=cache,target=/c,id=x,sharing=locked,uid=7,gid=8,mode=0700,ro").unwrap();
        assert_eq!((found.kind, found.target.as_str(), found.id.as_str()), (MountType::Cache, "/c", "x"));
        assert_eq!((found.uid, found.gid, found.mode, found.readonly), (Some(7), Some(8), Some(0o700), true));
        assert!(options("target=/x").unwrap().readonly);
        assert!(!options("target=/x,rw").unwrap().readonly);
        assert!(!options("target=/x,readonly=false").unwrap().readonly);
        assert_eq!(options("type=tmpfs,size=64m").unwrap().size, Some(64 << 20));
        assert_eq!(options("type=tmpfs,size=1.5GiB").unwrap().size, Some(3 << 29));
        assert_eq!(options("type=bind,\"source=a,\"\"b\",dst=/x").unwrap().source, "a,\"b");
        assert!(options("type=secret,id=a,required").unwrap().required);
        assert_eq!(options("TYPE=Bind,dst=/x").unwrap().kind, MountType::Bind);
    }

    #[test]
    fn wrong_options_are_refused() {
        for (text, word) in [
            ("type=band", "type"),
            ("targt=/x", "no option `targt`"),
            ("target", "needs a value"),
            ("type=bind,uid=1", "`uid`"),
            ("type=bind,required", "`required`"),
            ("type=bind,size=1", "`size`"),
            ("type=cache,mode=9", "octal"),
            ("type=cache,uid=-1", "number"),
            ("type=cache,sharing=all", "sharing"),
            ("type=bind,sharing=shared", "sharing"),
            ("type=secret", "`id`"),
            ("type=secret,id=a,source=b", "mean the same"),
            ("type=secret,id=a,from=b", "from"),
            ("type=ssh,source=x", "source"),
            ("type=tmpfs,size=x", "size"),
            ("ro=maybe", "true or false"),
            ("\"type=bind", "quote"),
            ("a\"b", "quote"),
        ] {
            let error = options(text).map(drop).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn from_is_known_before_expansion() {
        let from = |text: &str| from_of(&Word::new(text, Span::new(0, text.len()))).map(|from| from.text);
        assert_eq!(from("from=a,target=/x").as_deref(), Some("a"));
        assert_eq!(from("type=bind,From=b").as_deref(), Some("b"));
        assert_eq!(from("type=bind"), None);
    }
}
