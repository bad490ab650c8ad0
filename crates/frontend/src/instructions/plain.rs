//! Instructions with one argument or a list: FROM, ONBUILD, EXPOSE, VOLUME, USER and the like.

use super::{Request, flags, needs};
use crate::ast::{From, InstructionKind};
use crate::diagnostics::Diagnostic;

/// MAINTAINER, STOPSIGNAL, USER, WORKDIR: the whole rest of the line.
pub(super) fn whole(
    request: Request<'_>,
    keyword: &str,
    errors: &mut Vec<Diagnostic>,
) -> Option<InstructionKind> {
    let (example, make): (_, fn(_) -> _) = match keyword {
        "MAINTAINER" => ("LABEL org.opencontainers.image.authors=…", InstructionKind::Maintainer),
        "STOPSIGNAL" => ("STOPSIGNAL SIGTERM", InstructionKind::StopSignal),
        "USER" => ("USER 1000:1000", InstructionKind::User),
        _ => ("WORKDIR /app", InstructionKind::Workdir),
    };
    // BuildKit does not look at the flags of STOPSIGNAL.
    if keyword != "STOPSIGNAL" {
        flags::read(&request.command.flags, keyword, &[], errors);
    }
    let error = needs(&request, "one argument", example);
    match request.args.into_words().pop() {
        Some(word) => Some(make(word)),
        None => {
            errors.push(error);
            None
        }
    }
}

/// EXPOSE and VOLUME.
pub(super) fn list(
    request: Request<'_>,
    keyword: &str,
    errors: &mut Vec<Diagnostic>,
) -> Option<InstructionKind> {
    flags::read(&request.command.flags, keyword, &[], errors);
    let is_expose = keyword == "EXPOSE";
    let example = if is_expose { "EXPOSE 8080/tcp" } else { "VOLUME /data" };
    let missing = needs(&request, "at least one argument", example);
    let mut words = request.args.into_words();
    if words.is_empty() {
        errors.push(missing);
        return None;
    }
    if is_expose {
        words.sort_by(|left, right| left.text.cmp(&right.text));
        return Some(InstructionKind::Expose(words));
    }
    for word in &mut words {
        word.text = word.text.trim().to_owned();
        if word.text.is_empty() {
            errors.push(Diagnostic::error(word.span, "a volume's path cannot be empty"));
        }
    }
    Some(InstructionKind::Volume(words))
}

/// FROM.
pub(super) fn from(request: Request<'_>, errors: &mut Vec<Diagnostic>) -> Option<InstructionKind> {
    const FORM: &str = "write `FROM image` or `FROM image AS name`";
    let found = flags::read(&request.command.flags, "FROM", &[("platform", flags::Takes::Text)], errors);
    let keyword = request.command.keyword.span;
    let words = request.args.into_words();
    let name = match words.as_slice() {
        [_] => None,
        [_, between, name] if between.text.eq_ignore_ascii_case("as") => {
            if !is_stage_name(&name.text.to_lowercase()) {
                let shown: String = name.text.chars().take(60).collect();
                errors.push(
                    Diagnostic::error(name.span, format!("`{shown}` cannot be the name of a stage"))
                        .help("a name begins with a letter; letters, digits, `-`, `_` and `.` follow"),
                );
            }
            Some((between.clone(), name.clone()))
        }
        [] => {
            errors.push(Diagnostic::error(keyword, "FROM needs an image").help(FORM));
            None
        }
        [_, second, ..] => {
            let span = words.last().map_or(second.span, |last| second.span.to(last.span));
            let error = Diagnostic::error(span, "FROM takes one image, and a name after AS");
            errors.push(error.label("this is neither").help(FORM));
            None
        }
    };
    let image = words.into_iter().next()?;
    Some(InstructionKind::From(From { image, platform: found.text("platform"), name }))
}

fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c))
}

/// ONBUILD: only the first word of what follows is looked at.
pub(super) fn onbuild(request: Request<'_>, errors: &mut Vec<Diagnostic>) -> Option<InstructionKind> {
    flags::read(&request.command.flags, "ONBUILD", &[], errors);
    let missing = needs(&request, "an instruction", "ONBUILD COPY . /src");
    let Some(word) = request.args.into_words().pop() else {
        errors.push(missing);
        return None;
    };
    let first = word.text.split(crate::words::is_blank).next().unwrap_or_default();
    let keyword = first.to_ascii_uppercase();
    if matches!(keyword.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
        let span = word.part(0..first.len());
        errors.push(
            Diagnostic::error(span, format!("ONBUILD cannot trigger {keyword}"))
                .help("a trigger is any other instruction, such as RUN or COPY"),
        );
    }
    Some(InstructionKind::Onbuild(word))
}
