//! Errors in one line each: where, the words that are underlined, what is wrong, what to try.

use super::{args, build};
use crate::{BuildArgs, NamedContext, Source};

/// The errors of one instruction, which stands on line 2.
fn told(line: &str, args: &BuildArgs) -> String {
    let text = format!("FROM scratch AS a\n{line}\n");
    let source = Source::new("Dockerfile", text.as_str());
    let Err(errors) = build(&text, args) else { panic!("no error: {line}") };
    let one = |error: &crate::Diagnostic| {
        let at = error.line(&source).expect("an error has a place");
        let words = error.labels.first().map(|label| source.slice(label.span)).unwrap_or_default();
        assert!(!words.is_empty(), "{error:?}");
        let help = error.help.as_deref().map(|help| format!(" ({help})")).unwrap_or_default();
        format!("{at} «{}» {}{help}", words.replace('\n', "⏎"), error.message)
    };
    errors.0.iter().map(one).collect::<Vec<_>>().join("; ")
}

const ERRORS: &[(&str, &str)] = &[
    ("ENV A='x", "2 «'x» the single quote is not closed (add `'`, or write `\\'`)"),
    ("ENV A=\"x", "2 «\"x» the double quote is not closed (add `\"`, or write `\\\"`)"),
    (
        "ENV A=${}",
        "2 «${}» a variable's name is missing (a variable is written `${NAME}`, `${NAME:-default}` or `${NAME:+value}`)",
    ),
    (
        "ENV A=${B^C}",
        "2 «${B^» `^` is not an operator of `${…}` (expected `}` or an operator after the name)",
    ),
    (
        "ENV A=${B",
        "2 «${B» `}` is missing (a variable is written `${NAME}`, `${NAME:-default}` or `${NAME:+value}`)",
    ),
    ("COPY a", "2 «COPY» COPY needs a source and a destination (write `COPY source … destination`)"),
    ("COPY a <<E\nE", "2 «<<E» a here-document cannot be the destination (write `COPY <<E destination`)"),
    ("HEALTHCHECK NONE x", "2 «x» HEALTHCHECK NONE takes no arguments"),
    ("HEALTHCHECK EXEC x", "2 «EXEC» HEALTHCHECK has no type `EXEC` (expected `CMD` or `NONE`)"),
    ("HEALTHCHECK CMD", "2 «CMD» a command is missing after HEALTHCHECK CMD"),
    ("HEALTHCHECK --interval=1us CMD x", "2 «1us» `--interval` cannot be less than 1ms (0 is the default)"),
    ("VOLUME [\"\"]", "2 «\"\"» a volume's path cannot be empty"),
    ("VOLUME $A", "2 «$A» a volume's path is empty"),
    (
        "COPY https://github.com/a/b.git /",
        "2 «https://github.com/a/b.git» COPY cannot take from a git repository (use ADD)",
    ),
    ("COPY https://example.com/a /", "2 «https://example.com/a» COPY cannot take from a URL (use ADD)"),
    (
        "ADD --checksum=sha256:12 https://example.com/a /",
        "2 «sha256:12» `--checksum`: `sha256:12` is not a digest: expected `sha256:` and 64 lower-case hexadecimal digits (write the digest that `sha256sum` prints: `--checksum=sha256:…`)",
    ),
    (
        "ADD --checksum=sha256:12 https://example.com/a b /",
        "2 «sha256:12» `--checksum` is for one source only",
    ),
    (
        "ADD --checksum=xyz https://github.com/a/b.git /",
        "2 «xyz» `xyz` is not a commit (the checksum of a git repository is the id of a commit, or its beginning)",
    ),
    ("EXPOSE 0-65535 0-65535 0-65535 0-65535", "2 «0-65535» too many ports are exposed at once"),
    (
        "COPY --from=$X a /",
        "2 «$X» what `--from` names is not sure here (use an ARG before the first FROM, or name a stage: `FROM $IMAGE AS tools` and `--from=tools`)",
    ),
    (
        "COPY --from=7 a /",
        "2 «7» there is no stage number 7 (stages are counted from 0; the last one here is 0)",
    ),
    ("COPY --from=a a /", "2 «a» the stage `a` takes from itself (name an earlier stage, or split this one)"),
    ("RUN []", "2 «RUN []» the command is empty (write the program as the first element)"),
    (
        "RUN --mount=type=cache,target=/a,size=1 x",
        "2 «size=1» a mount of type `cache` has no `size` (an option must follow the `type` that it belongs to)",
    ),
    ("RUN --mount=type=bind,target=/a,nope x", "2 «nope» `nope` needs a value (did you mean `type`?)"),
    (
        "RUN --mount=type=tmpfs,target=/a,sharing=shared x",
        "2 «type=tmpfs,target=/a,sharing=shared» a mount of type `tmpfs` has no `sharing`",
    ),
    ("RUN --mount=type=secret,id=a,from=b x", "2 «b» a secret has no `from`"),
    (
        "RUN --mount=type=secret x",
        "2 «type=secret» a secret needs an `id` or a `target` (for example `--mount=type=secret,id=token`)",
    ),
    (
        "RUN --mount=type=secret,id=a,source=b x",
        "2 «type=secret,id=a,source=b» `source` and `id` of a secret mean the same (keep one of them)",
    ),
    ("RUN --mount=type=ssh,source=b x", "2 «type=ssh,source=b» a mount of type `ssh` has no `source`"),
    (
        "RUN --mount=type=tmpfs,target=/a,size=x x",
        "2 «x» this is not a size (write bytes or a unit, such as `64m` or `1g`)",
    ),
    (
        "RUN --mount=\"type=bind,\"\"x\" x",
        "2 «--mount=\"type=bind,\"\"x\"» `x` needs a value (write `x=…`; options are separated by commas)",
    ),
    (
        "RUN --mount=type=bind x",
        "2 «type=bind» a mount cannot cover the root (give it a `target` below the root, such as `target=/src`)",
    ),
    (
        "ONBUILD ONBUILD RUN x",
        "2 «ONBUILD» ONBUILD cannot trigger ONBUILD (a trigger is any other instruction, such as RUN or COPY)",
    ),
    (
        "ONBUILD FROM x",
        "2 «FROM» ONBUILD cannot trigger FROM (a trigger is any other instruction, such as RUN or COPY)",
    ),
    ("STOPSIGNAL SIGTREM", "2 «SIGTREM» `SIGTREM` is not a signal (did you mean `SIGTERM`?)"),
    ("RUN --security=insecur x", "2 «insecur» `--security` cannot be `insecur` (did you mean `insecure`?)"),
    ("RUN --device=x y", "2 «x» `--device` is not supported"),
    ("WORKDIR", "2 «WORKDIR» WORKDIR needs one argument (for example `WORKDIR /app`)"),
    ("SHELL sh", "2 «sh» SHELL takes a JSON array only (write `SHELL [\"sh\"]`)"),
];

#[test]
fn each_error_names_its_line_and_words() {
    let mut wrong = Vec::new();
    for (line, expected) in ERRORS {
        let found = told(line, &args());
        if found != *expected {
            wrong.push(format!("({line:?}, {found:?}),"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_context_that_is_no_image_is_told_where_it_is_used() {
    let mut args = args();
    args.contexts.insert("tools".to_owned(), NamedContext::Image("A b".to_owned()));
    let found = told("COPY --from=tools /a /", &args);
    assert_eq!(
        found,
        "2 «tools» the context `tools` is not an image: `A b` is not the name of an image: a repository is written in lower case"
    );
}
