//! COPY and ADD.

use dbuild_digest::BlobDigest;
use dbuild_plan::{CopySource, CopyStep, FetchStep, InlineFile, StepKind, Unpack};

use super::git;
use super::globals;
use super::graph::Origin;
use super::paths;
use super::stage::StageLowering;
use crate::ast::{Copy, Instruction};
use crate::checks::rules;
use crate::diagnostics::Diagnostic;
use crate::expand::Lexer;
use crate::heredoc::Heredoc;
use crate::source::Word;

/// The words of a COPY after expansion.
struct Expanded {
    chown: String,
    chmod: String,
    checksum: String,
    sources: Vec<String>,
    dest: String,
}

impl StageLowering<'_> {
    pub(super) fn copy(
        &mut self,
        instruction: &Instruction,
        copy: &Copy,
        is_add: bool,
    ) -> Result<(), Diagnostic> {
        let words = self.expand_copy(instruction, copy)?;
        if let Some(word) = &copy.chmod {
            check_chmod(&words.chmod, word)?;
        }
        check_checksum(&words, copy)?;
        let origin = match &copy.from {
            Some(from) => Some(self.graph.copy_origin(from, self.node.view.index)?),
            None => None,
        };
        let mut sources: Vec<CopySource> = Vec::new();
        for (source, word) in words.sources.iter().zip(&copy.sources) {
            if let Some(found) = git::git_source(source) {
                let found = found.map_err(|reason| {
                    Diagnostic::error(word.span, format!("this git source is not right: {reason}"))
                })?;
                sources.push(self.git(instruction, copy, &words, found, word, is_add)?);
            } else if git::is_http(source) {
                sources.push(self.fetch(instruction, copy, &words, source, word, is_add)?);
            } else {
                sources.push(self.local(instruction, copy, origin.as_ref(), source, word, is_add)?);
            }
        }
        for document in &copy.documents {
            let name = document_name(instruction, document)?;
            let content = self.document(instruction, document)?;
            sources.push(CopySource::Inline(InlineFile { name, content }));
        }
        let text = history_text(copy, &words, is_add);
        self.add_step(instruction, copy, &words, sources);
        self.record(format!("{text} # buildkit"), true);
        Ok(())
    }

    fn expand_copy(&mut self, instruction: &Instruction, copy: &Copy) -> Result<Expanded, Diagnostic> {
        let mut optional = |word: &Option<Word>| match word {
            Some(word) => self.expand(instruction, word),
            None => Ok(String::new()),
        };
        let chown = optional(&copy.chown)?;
        let chmod = optional(&copy.chmod)?;
        let checksum = optional(&copy.checksum)?;
        let sources = self.expand_all(instruction, &copy.sources)?;
        let dest = self.expand(instruction, &copy.dest)?;
        Ok(Expanded { chown, chmod, checksum, sources, dest })
    }

    /// One instruction is one step and one layer.
    fn add_step(
        &mut self,
        instruction: &Instruction,
        copy: &Copy,
        words: &Expanded,
        sources: Vec<CopySource>,
    ) {
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let chmod = given(&words.chmod);
        let step = CopyStep {
            parent: self.last,
            sources,
            dest: paths::destination(&self.workdir, &words.dest),
            chown: given(&words.chown),
            // A layer that does not know its parent cannot be given its modes: BuildKit copies the
            // ordinary way then.
            link: copy.link && chmod.is_none(),
            chmod,
            parents: copy.parents,
            exclude: copy.exclude.iter().map(|word| word.text.clone()).collect(),
        };
        self.extend(instruction, StepKind::Copy(step));
    }

    fn local(
        &mut self,
        instruction: &Instruction,
        copy: &Copy,
        origin: Option<&Origin>,
        source: &str,
        word: &Word,
        is_add: bool,
    ) -> Result<CopySource, Diagnostic> {
        let path = if copy.parents { paths::source_with_pivot(source) } else { paths::source(source) };
        // Each side of a pivot is a path of its own.
        let whole = paths::source(&path);
        let from = match origin {
            Some(origin) => self.step_of(origin, &whole, instruction.span)?,
            None => {
                self.check_ignored(instruction, &whole, word);
                self.shared.context(None, &whole, self.id, instruction.span)
            }
        };
        // ADD unpacks what is local unless a flag says otherwise, and COPY nothing.
        let unpack = match copy.unpack {
            _ if !is_add => Unpack::Never,
            None => Unpack::ByDefault,
            Some(flag) => by_flag(flag),
        };
        Ok(CopySource::Path { from, path, unpack })
    }

    fn check_ignored(&mut self, instruction: &Instruction, path: &str, word: &Word) {
        if let Some(ignored) = &self.build.ignored
            && (ignored.0)(path)
        {
            let shown = if path.is_empty() { "." } else { path };
            let message = format!("`{shown}` is excluded by .dockerignore");
            self.shared.lint.report(&rules::COPY_IGNORED_FILE, &instruction.comments, word.span, message);
        }
    }

    fn git(
        &mut self,
        instruction: &Instruction,
        copy: &Copy,
        words: &Expanded,
        mut found: git::GitSource,
        word: &Word,
        is_add: bool,
    ) -> Result<CopySource, Diagnostic> {
        if !is_add {
            let error = Diagnostic::error(word.span, "COPY cannot take from a git repository");
            return Err(error.help("use ADD"));
        }
        if let (Some(flag), Some(query)) = (copy.keep_git_dir, found.keep_git_dir)
            && flag != query
        {
            return Err(Diagnostic::error(
                word.span,
                "`--keep-git-dir` and `keep-git-dir` here contradict each other",
            ));
        }
        found.keep_git_dir = found.keep_git_dir.or(copy.keep_git_dir);
        if !words.checksum.is_empty() {
            if let (Err(reason), Some(flag)) = (git::check_commit(&words.checksum), &copy.checksum) {
                return Err(Diagnostic::error(flag.span, reason)
                    .help("the checksum of a git repository is the id of a commit, or its beginning"));
            }
            if found.checksum.as_ref().is_some_and(|checksum| *checksum != words.checksum) {
                return Err(Diagnostic::error(
                    word.span,
                    "`--checksum` and the checksum here contradict each other",
                ));
            }
            found.checksum = Some(words.checksum.clone());
        }
        let from = self.shared.checkout(found.into_step(), self.id, instruction.span);
        Ok(CopySource::Path { from, path: String::new(), unpack: Unpack::Never })
    }

    fn fetch(
        &mut self,
        instruction: &Instruction,
        copy: &Copy,
        words: &Expanded,
        source: &str,
        word: &Word,
        is_add: bool,
    ) -> Result<CopySource, Diagnostic> {
        if !is_add {
            return Err(Diagnostic::error(word.span, "COPY cannot take from a URL").help("use ADD"));
        }
        let checksum = match words.checksum.as_str() {
            "" => None,
            text => Some(text.parse::<BlobDigest>().map_err(|error| {
                let span = copy.checksum.as_ref().map_or(word.span, |flag| flag.span);
                Diagnostic::error(span, format!("`--checksum`: {error}"))
                    .help("write the digest that `sha256sum` prints: `--checksum=sha256:…`")
            })?),
        };
        let file_name = git::file_name(source);
        let step = FetchStep { url: source.to_owned(), file_name: file_name.clone(), checksum };
        let from = self.shared.fetch(step, self.id, instruction.span);
        // What comes from a server is unpacked only if it is asked for.
        let unpack = by_flag(copy.unpack.unwrap_or(false));
        Ok(CopySource::Path { from, path: file_name, unpack })
    }

    /// The bytes of a here-document. Its variables are expanded unless its word is quoted.
    fn document(&mut self, instruction: &Instruction, document: &Heredoc) -> Result<String, Diagnostic> {
        let body = Word::new(document.body(), document.span);
        if !document.expand {
            return Ok(body.text);
        }
        let expansion = globals::expand(Lexer::heredoc_body(), &body, &self.env)?;
        self.check_variables(instruction, &body, &expansion);
        Ok(expansion.text)
    }
}

/// The name of the file that a here-document is. It lies in an empty directory until it is copied.
/// What becomes of an archive where the flag `--unpack` says it.
const fn by_flag(flag: bool) -> Unpack {
    if flag { Unpack::Always } else { Unpack::Never }
}

fn document_name(instruction: &Instruction, document: &Heredoc) -> Result<String, Diagnostic> {
    let path = paths::source(&document.name);
    if path.is_empty() || path.contains('/') {
        let message = format!("the word `{}` of a here-document is not a file's name", document.name);
        return Err(Diagnostic::error(instruction.line.span, message).help(
            "end the document with a plain word such as `EOF`, and write the path as the destination",
        ));
    }
    Ok(path)
}

fn history_text(copy: &Copy, words: &Expanded, is_add: bool) -> String {
    let mut text = if is_add { "ADD" } else { "COPY" }.to_owned();
    if copy.parents {
        text.push_str(" --parents");
    }
    for (flag, value) in [("chown", &words.chown), ("chmod", &words.chmod)] {
        if !value.is_empty() {
            text.push_str(&format!(" --{flag}={value}"));
        }
    }
    for source in &words.sources {
        text.push_str(&format!(" {source}"));
    }
    for document in &copy.documents {
        text.push_str(&format!(" <<{}", document.name));
    }
    format!("{text} {}", words.dest)
}

fn check_checksum(words: &Expanded, copy: &Copy) -> Result<(), Diagnostic> {
    let Some(flag) = copy.checksum.as_ref().filter(|_| !words.checksum.is_empty()) else {
        return Ok(());
    };
    let [source] = words.sources.as_slice() else {
        return Err(Diagnostic::error(flag.span, "`--checksum` is for one source only"));
    };
    if !git::is_http(source) && git::git_source(source).is_none() {
        let error = Diagnostic::error(flag.span, "`--checksum` is for URLs and git repositories only");
        return Err(error.also(copy.sources.first().map_or(flag.span, |word| word.span), "this is a path"));
    }
    Ok(())
}

/// An octal number up to 7777, or a symbolic mode such as `u+x,go=r`.
fn check_chmod(text: &str, word: &Word) -> Result<(), Diagnostic> {
    let error = || {
        let shown: String = text.chars().take(60).collect();
        Diagnostic::error(word.span, format!("`{shown}` is not a mode"))
            .help("write an octal number up to 7777, such as `0755`, or a symbolic mode such as `u+x`")
    };
    if text.is_empty() {
        return Ok(());
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        let mode = u32::from_str_radix(text, 8).map_err(|_| error())?;
        return if mode <= 0o7777 { Ok(()) } else { Err(error()) };
    }
    if text.split(',').all(is_symbolic_clause) { Ok(()) } else { Err(error()) }
}

fn is_symbolic_clause(clause: &str) -> bool {
    let actions = clause.trim_start_matches(['u', 'g', 'o', 'a']);
    actions.starts_with(['+', '-', '=']) && actions.chars().all(|c| "+-=rwxXstugo".contains(c))
}

#[cfg(test)]
mod tests {
    use super::check_chmod;
    use crate::source::{Span, Word};

    #[test]
    fn modes_are_checked() {
        let word = Word::new("", Span::default());
        for text in ["", "755", "0755", "7777", "u+x", "u=rw,go=r", "+x", "a-w+X", "g=u"] {
            assert!(check_chmod(text, &word).is_ok(), "{text}");
        }
        for text in ["8", "10000", "0o755", "rwx", "u", "u+y", "u+x,", "z+x"] {
            assert!(check_chmod(text, &word).is_err(), "{text}");
        }
    }
}
