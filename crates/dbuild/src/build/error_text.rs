//! Errors of a build with their place in the Dockerfile.

use std::collections::BTreeSet;

use dbuild_frontend::{Diagnostic, Diagnostics, Lowered, Source, Span, render};
use dbuild_layer::CopyError;
use dbuild_plan::{MountKind, SecurityMode, Step, StepId, StepKind};
use dbuild_sandbox::SandboxError;
use dbuild_scheduler::StepError;
use dbuild_startcheck::quoted;

use super::flags;
use crate::cli::BuildArgs;
use crate::error::{Error, hint_of_step};
use crate::session::Session;

/// All that is wrong with a Dockerfile, one after the other.
pub(crate) fn render_all(errors: &Diagnostics, source: &Source, color: bool) -> Error {
    let texts: Vec<String> = errors.0.iter().map(|error| render(error, source, color)).collect();
    Error::rendered(texts.join("\n\n"))
}

/// A step that failed: its lines, what is wrong, the end of its output, what to try. `shell` opens
/// a shell there.
pub(crate) fn render_step(
    id: StepId,
    error: &StepError,
    lowered: &Lowered,
    source: &Source,
    color: bool,
    shell: Option<&str>,
) -> Error {
    if let StepError::OfImage(image, error) = error {
        return render_step(*image, error, lowered, source, color, shell);
    }
    let step = lowered.plan.step(id);
    let stage = &lowered.plan.stage(step.stage).name;
    let (message, label) = match error {
        StepError::Command { how, .. } => {
            (format!("a command of stage `{stage}` failed: {how}"), how.clone())
        }
        StepError::Copy { error: CopyError::NotFound { path, .. }, from } => {
            let place = from.as_deref().unwrap_or_default();
            (format!("there is no `{path}`{place}"), "not found".to_owned())
        }
        StepError::Pull(_) | StepError::BadLayer { .. } => {
            (error.to_string(), "this image is not available".to_owned())
        }
        StepError::Sandbox(SandboxError::Exec(exec)) if exec.is_foreign() => {
            let platform = &lowered.plan.stage(step.stage).platform;
            let machine = dbuild_oci::Platform::host();
            (exec.to_string(), format!("stage `{stage}` is for {platform}, and this machine is {machine}"))
        }
        StepError::Remote(error) => (error.to_string(), "this could not be fetched".to_owned()),
        StepError::Checksum { .. } | StepError::Commit { .. } => {
            (error.to_string(), "what was fetched does not match".to_owned())
        }
        other => (other.to_string(), format!("in stage `{stage}`")),
    };
    let diagnostic = match lowered.source_of(id) {
        Some(place) => Diagnostic::error(words(error, place.span, source), message).label(label),
        None => Diagnostic::placeless(message),
    };
    let mut text = render(&diagnostic.maybe_help(hint_of_step(error)), source, color);
    if let StepError::Command { tail, .. } = error
        && !tail.is_empty()
    {
        text.push_str("\n\nthe end of its output:\n");
        text.push_str(&tail.iter().map(|line| format!("  | {line}")).collect::<Vec<_>>().join("\n"));
    }
    if let Some(shell) = shell.filter(|_| error.is_of_command()) {
        text.push_str(&format!("\n\n`{shell}` opens a shell where it failed"));
    }
    Error::rendered(text)
}

/// The command that opens a shell where a RUN failed, with what its mounts need of this command
/// line.
pub(crate) fn shell_command(session: &Session, flags: &BuildArgs, step: &Step) -> String {
    let mut words = vec!["dbuild".to_owned(), "shell".to_owned(), "--failed".to_owned()];
    let mut flag = |name: &str, value: &str| words.extend([name.to_owned(), value.to_owned()]);
    if let Some(dir) = &session.store_flag {
        flag("--store", &dir.to_string_lossy());
    }
    let StepKind::Run(run) = &step.kind else { return quoted(&words) };
    let (mut secrets, mut agents) = (BTreeSet::new(), BTreeSet::new());
    for mount in &run.mounts {
        match &mount.kind {
            MountKind::Secret { id, .. } => drop(secrets.insert(id)),
            MountKind::Ssh { id, .. } => drop(agents.insert(id)),
            _ => {}
        }
    }
    let of = |text: &String| flags::secrets(std::slice::from_ref(text)).unwrap_or_default();
    for text in flags.secret.iter().filter(|text| of(text).keys().any(|id| secrets.contains(id))) {
        flag("--secret", text);
    }
    let of = |text: &String| flags::agents(std::slice::from_ref(text)).unwrap_or_default();
    for text in flags.ssh.iter().filter(|text| of(text).keys().any(|id| agents.contains(id))) {
        flag("--ssh", text);
    }
    if run.security == SecurityMode::Insecure {
        flag("--allow", "security.insecure");
    }
    quoted(&words)
}

/// The words of an instruction that an error is about; all of it where they are not there as they
/// are (a variable was expanded, say).
fn words(error: &StepError, instruction: Span, source: &Source) -> Span {
    let words = match error {
        StepError::Copy { error: CopyError::NotFound { path, .. }, .. } => path.clone(),
        StepError::Checksum { expected, .. } => expected.to_string(),
        StepError::Commit { expected, .. } => expected.clone(),
        _ => return instruction,
    };
    let found = source.slice(instruction).find(&words).filter(|_| !words.is_empty());
    found.map_or(instruction, |at| Span {
        start: instruction.start + at,
        end: instruction.start + at + words.len(),
    })
}
