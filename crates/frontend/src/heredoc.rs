//! Here-documents: `<<EOF`, `<<-EOF`, `<<"EOF"`.

use crate::expand::{ExpandError, Lexer, NoVariables};
use crate::source::Span;

/// A here-document of RUN, COPY or ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it, and the file's name in COPY and ADD.
    pub name: String,
    /// Variables in the body are expanded (COPY and ADD): no part of the word was quoted.
    pub expand: bool,
    /// Tabs before the lines are removed: `<<-`.
    pub chomp: bool,
    /// The body as written, with its line endings.
    pub content: String,
    /// The body and the line that ends it.
    pub span: Span,
}

impl Heredoc {
    /// The body, without leading tabs where `<<-` asks for that.
    pub fn body(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// What `<<WORD` announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    pub(crate) name: String,
    pub(crate) expand: bool,
    pub(crate) chomp: bool,
}

impl Announced {
    /// Whether a physical line ends the document.
    pub(crate) fn is_end(&self, line: &str) -> bool {
        let line = line.trim_end_matches(['\r', '\n']);
        let line = if self.chomp { line.trim_start_matches('\t') } else { line };
        line == self.name
    }
}

/// Reads a whole word as the announcement of a here-document: `<<EOF`, `3<<-"EOF"`. `None`: it is
/// something else.
pub(crate) fn announced(word: &str) -> Result<Option<Announced>, ExpandError> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let Some(rest) = rest.strip_prefix("<<") else {
        return Ok(None);
    };
    let (chomp, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    let rest = rest.trim_start_matches(['\t', '\n', '\u{c}', '\r', ' ']);
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let lexer = Lexer { keep_unset: true, ..Lexer::new('\\') };
    let [name] = <[String; 1]>::try_from(lexer.expand(rest, &NoVariables)?.words).unwrap_or_default();
    if name.is_empty() {
        return Ok(None);
    }
    let raw = Lexer { raw_quotes: true, ..lexer }.expand(rest, &NoVariables)?.words;
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    let expand = raw.first().is_some_and(|raw| quotes(raw) == quotes(&name));
    Ok(Some(Announced { name, expand, chomp }))
}

/// The here-documents that a line announces, in order. A line that the shell's lexer cannot read
/// has none.
pub(crate) fn announced_in(line: &str) -> Result<Vec<Announced>, ExpandError> {
    if !line.contains("<<") {
        return Ok(Vec::new());
    }
    let lexer = Lexer { raw_quotes: true, raw_escapes: true, keep_unset: true, ..Lexer::new('\\') };
    let words = lexer.expand(line, &NoVariables).map(|expansion| expansion.words).unwrap_or_default();
    words.iter().filter_map(|word| announced(word).transpose()).collect()
}

#[cfg(test)]
mod tests {
    use super::{Announced, announced_in};

    fn check(line: &str, expected: &[(&str, bool, bool)]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, expand, chomp)| Announced {
                name: (*name).to_owned(),
                expand: *expand,
                chomp: *chomp,
            })
            .collect();
        assert_eq!(announced_in(line), Ok(expected), "{line}");
    }

    #[test]
    fn documents_are_announced() {
        check("RUN <<EOF", &[("EOF", true, false)]);
        check("RUN << EOF cat", &[("EOF", true, false)]);
        check("RUN cat <<A 3<<-'B' > x", &[("A", true, false), ("B", false, true)]);
        check("COPY <<\"EOF\" <<E\"O\"F /x", &[("EOF", false, false), ("EOF", false, false)]);
        check("RUN echo '<<EOF'", &[]);
        check("RUN echo \\<<EOF", &[]);
        check("RUN cat <<<text", &[]);
        check("RUN x<<EOF", &[]);
        check("RUN a << b", &[("b", true, false)]);
        check("RUN <<", &[]);
        check("RUN echo 'unclosed <<EOF", &[]);
        check("RUN <<$x", &[("$x", true, false)]);
    }
}
