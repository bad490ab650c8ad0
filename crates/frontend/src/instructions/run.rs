//! RUN, CMD, ENTRYPOINT and SHELL.

use dbuild_support::edit_distance;

use super::{Request, flags, needs};
use crate::ast::{CommandLine, InstructionKind, Run};
use crate::diagnostics::Diagnostic;
use crate::source::Word;

/// CMD, ENTRYPOINT and SHELL.
pub(super) fn command(
    request: Request<'_>,
    keyword: &str,
    errors: &mut Vec<Diagnostic>,
) -> Option<InstructionKind> {
    flags::read(&request.command.flags, keyword, &[], errors);
    let missing = needs(&request, "at least one argument", "SHELL [\"/bin/bash\", \"-c\"]");
    let command = request.args.into_command();
    match (keyword, command) {
        ("CMD", command) => Some(InstructionKind::Cmd(command)),
        ("ENTRYPOINT", command) => Some(InstructionKind::Entrypoint(command)),
        (_, CommandLine::Exec(words)) if !words.is_empty() => Some(InstructionKind::Shell(words)),
        (_, CommandLine::Shell(Some(word))) => {
            let words: Vec<String> = word.text.split_whitespace().map(|w| format!("{w:?}")).collect();
            let error = Diagnostic::error(word.span, "SHELL takes a JSON array only");
            errors.push(error.help(format!("write `SHELL [{}]`", words.join(", "))));
            None
        }
        _ => {
            errors.push(missing);
            None
        }
    }
}

/// RUN.
pub(super) fn meaning(request: Request<'_>, errors: &mut Vec<Diagnostic>) -> Option<InstructionKind> {
    use flags::Takes::{Text, Texts};
    let known = [("mount", Texts), ("network", Text), ("security", Text), ("device", Texts)];
    let found = flags::read(&request.command.flags, "RUN", &known, errors);
    let network = found.text("network");
    let security = found.text("security");
    one_of(network.as_ref(), "network", &["default", "none", "host"], errors);
    one_of(security.as_ref(), "security", &["sandbox", "insecure"], errors);
    let mounts = found.texts("mount");
    for mount in &mounts {
        crate::mount_options::check_syntax(mount, errors);
    }
    Some(InstructionKind::Run(Run {
        mounts,
        network,
        security,
        devices: found.texts("device"),
        command: request.args.into_command(),
    }))
}

fn one_of(value: Option<&Word>, flag: &str, known: &[&str], errors: &mut Vec<Diagnostic>) {
    let Some(value) = value.filter(|value| !known.contains(&value.text.as_str())) else {
        return;
    };
    let shown: String = value.text.chars().take(60).collect();
    let near = edit_distance::nearest(&shown, known.iter().copied());
    let help =
        near.map_or(format!("expected `{}`", known.join("`, `")), |near| format!("did you mean `{near}`?"));
    errors.push(Diagnostic::error(value.span, format!("`--{flag}` cannot be `{shown}`")).help(help));
}
