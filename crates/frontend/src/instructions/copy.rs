//! COPY and ADD.

use super::{Request, flags};
use crate::ast::{Copy, InstructionKind};
use crate::diagnostics::Diagnostic;
use crate::heredoc::{self, Heredoc};
use crate::source::{Span, Word};

/// COPY and ADD.
pub(super) fn meaning(
    request: Request<'_>,
    keyword: &str,
    errors: &mut Vec<Diagnostic>,
) -> Option<InstructionKind> {
    use flags::Takes::{Bool, Text, Texts};
    let is_add = keyword == "ADD";
    let common = [("chown", Text), ("chmod", Text), ("link", Bool), ("exclude", Texts)];
    let only_add = [("keep-git-dir", Bool), ("checksum", Text), ("unpack", Bool)];
    let only_copy = [("from", Text), ("parents", Bool)];
    let own = if is_add { &only_add[..] } else { &only_copy[..] };
    let known: Vec<_> = common.iter().chain(own).copied().collect();
    let found = flags::read(&request.command.flags, keyword, &known, errors);
    let keyword_span = request.command.keyword.span;
    let mut words = request.args.into_words();
    let dest = words.pop().filter(|_| !words.is_empty());
    let Some(dest) = dest else {
        let span = if words.is_empty() { keyword_span } else { words[0].span };
        errors.push(
            Diagnostic::error(span, format!("{keyword} needs a source and a destination"))
                .help(format!("write `{keyword} source … destination`")),
        );
        return None;
    };
    if heredoc::announced(&dest.text).is_ok_and(|document| document.is_some()) {
        let error = Diagnostic::error(dest.span, "a here-document cannot be the destination");
        errors.push(error.help(format!("write `{keyword} {} destination`", dest.text)));
    }
    let (sources, documents) = sort_out(words, &request.heredocs);
    let copy = Copy {
        sources,
        documents,
        dest,
        from: found.text("from").filter(|from| !from.text.is_empty()),
        chown: found.text("chown"),
        chmod: found.text("chmod"),
        link: found.flag("link").unwrap_or(false),
        parents: found.flag("parents").unwrap_or(false),
        exclude: found.texts("exclude"),
        checksum: found.text("checksum"),
        keep_git_dir: found.flag("keep-git-dir"),
        unpack: found.flag("unpack"),
    };
    Some(if is_add { InstructionKind::Add(copy) } else { InstructionKind::Copy(copy) })
}

/// Separates paths from here-documents. Where two documents have one name, the body of the last
/// counts for both.
fn sort_out(words: Vec<Word>, heredocs: &[Heredoc]) -> (Vec<Word>, Vec<Heredoc>) {
    let mut sources = Vec::new();
    let mut documents = Vec::new();
    for word in words {
        let Ok(Some(announced)) = heredoc::announced(&word.text) else {
            sources.push(word);
            continue;
        };
        let body = heredocs.iter().rev().find(|document| document.name == announced.name);
        documents.push(Heredoc {
            name: announced.name,
            expand: announced.expand,
            chomp: announced.chomp,
            content: body.map_or_else(String::new, |document| document.content.clone()),
            span: body.map_or(Span::new(word.span.start, word.span.end), |document| document.span),
        });
    }
    (sources, documents)
}
