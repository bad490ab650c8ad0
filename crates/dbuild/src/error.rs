//! Where errors become words. Libraries say what happened; here it is said what to try, and how the
//! process ends.

use std::fmt;

use dbuild_exporter::ExportError;
use dbuild_layer::{CopyError, DestinationConflict, LayerError};
use dbuild_registry::{RegistryError, RemoteError};
use dbuild_sandbox::{SandboxError, rootless};
use dbuild_scheduler::StepError;
use rustix::io::Errno;

/// Exit code of a build (or any command) that failed.
pub(crate) const EXIT_FAILED: u8 = 1;
/// Exit code of wrong usage.
pub(crate) const EXIT_USAGE: u8 = 2;
/// Exit code after SIGINT or SIGTERM.
pub(crate) const EXIT_INTERRUPTED: u8 = 130;

/// An error as the user reads it.
#[derive(Debug)]
pub(crate) struct Error {
    /// What happened; may be several lines, and begins with its own `error:` when `rendered`.
    message: String,
    /// The message is a complete text with source lines and its own heading.
    rendered: bool,
    hint: Option<String>,
    code: u8,
    /// What is damaged in the store, if that is the reason.
    damage: Option<Box<LayerError>>,
}

impl Error {
    /// The command did not do what it should.
    pub(crate) fn failed(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), rendered: false, hint: None, code: EXIT_FAILED, damage: None }
    }

    /// The command did not do what it should, for this reason; with what the reason says to try.
    pub(crate) fn of(cause: &(dyn std::error::Error + 'static)) -> Self {
        Self::failed(cause).maybe_hint(hint_of(cause))
    }

    /// An output could not be written, with what to try and the damage that is the reason.
    pub(crate) fn of_export(error: ExportError) -> Self {
        let failed = Self::failed(chain(&error)).maybe_hint(hint_of(&error));
        match error {
            ExportError::Interrupted => Self::interrupted(),
            ExportError::Layer(damage @ LayerError::Damaged { .. }) => failed.by_damage(damage),
            _ => failed,
        }
    }

    /// The command line, or a file that it names as configuration, is wrong.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self { code: EXIT_USAGE, ..Self::failed(message) }
    }

    /// The user interrupted.
    pub(crate) fn interrupted() -> Self {
        Self { code: EXIT_INTERRUPTED, ..Self::failed("interrupted") }
    }

    /// A text that already shows source lines.
    pub(crate) fn rendered(message: impl fmt::Display) -> Self {
        Self { rendered: true, ..Self::failed(message) }
    }

    /// A program that ran in an image ended with this code, and has said why itself.
    pub(crate) fn exit_code(code: u8) -> Self {
        Self { code, ..Self::rendered("") }
    }

    /// The same with another exit code.
    pub(crate) fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// The same without the name of a directory of ours, which means nothing to the user.
    pub(crate) fn without(mut self, dir: &std::path::Path) -> Self {
        self.message = self.message.replace(&format!("{}/", dir.display()), "");
        self
    }

    /// Adds what to try.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what to try, where that is known.
    pub(crate) fn maybe_hint(self, hint: Option<String>) -> Self {
        Self { hint: hint.or(self.hint), ..self }
    }

    /// The same, where damage to the files of a layer is the reason.
    pub(crate) fn by_damage(mut self, damage: LayerError) -> Self {
        self.damage = Some(Box::new(damage));
        self
    }

    /// The damage that is the reason.
    pub(crate) fn damage(&self) -> Option<&LayerError> {
        self.damage.as_deref()
    }

    pub(crate) fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rendered {
            true => f.write_str(&self.message)?,
            false => write!(f, "error: {}", self.message)?,
        }
        match &self.hint {
            Some(hint) => write!(f, "\nhelp: {hint}"),
            None => Ok(()),
        }
    }
}

/// What to try, where the library that failed knows it.
pub(crate) fn hint_of(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<RegistryError>() {
        return error.hint();
    }
    if let Some(ExportError::Registry(error)) = error.downcast_ref::<ExportError>() {
        return error.hint();
    }
    error.downcast_ref::<RemoteError>().and_then(RemoteError::hint)
}

/// What to try after a step failed.
pub(crate) fn hint_of_step(error: &StepError) -> Option<String> {
    let text = match error {
        StepError::OfImage(_, error) => return hint_of_step(error),
        StepError::Pull(error) | StepError::Remote(error) => return hint_of(&**error),
        StepError::Layer(error) if error.is_storage_exhausted() => {
            "free some space, or try `dbuild cache prune`; --store names another directory"
        }
        StepError::Command { tail, .. } if lacks_ids(tail) => {
            "this user has one id, so a command cannot give files to others nor change its groups: install uidmap and \
             add a range to /etc/subuid and /etc/subgid (`dbuild doctor` says how)"
        }
        StepError::Checksum { found, .. } => {
            return Some(format!("if the file was changed on purpose, write `--checksum={found}`"));
        }
        StepError::Commit { .. } => "has the branch or the tag moved? name the commit that you want",
        StepError::BadLayer { .. } => {
            "the registry or a mirror serves bytes that do not match the image: try again, or use another mirror"
        }
        StepError::Copy { error: CopyError::NotFound { near: Some(near), .. }, .. } => {
            return Some(format!("did you mean `{near}`?"));
        }
        StepError::Copy {
            error: CopyError::Destination { why: DestinationConflict::Link { .. }, .. },
            ..
        } => {
            "symlinks are followed on the way to the destination, and not inside what is copied: copy this directory \
             by an instruction of its own, to where the link leads"
        }
        StepError::Sandbox(SandboxError::Exec(exec)) => return exec.advice(),
        StepError::Command { code: 127, .. } => {
            "exit code 127 means that a program was not found: is it installed in this stage?"
        }
        StepError::Command { code: 126, .. } => {
            "exit code 126 means that a file could not be run: is it executable, and for this machine?"
        }
        StepError::Command { code: 137, .. } => {
            "the command was killed, as happens when a machine runs out of memory"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

/// Whether a command may have failed since there is no id but the user's own: the kernel then
/// refuses every other owner and group.
fn lacks_ids(tail: &[String]) -> bool {
    let refused = [Errno::PERM, Errno::INVAL].map(|errno| words_of(errno.into()));
    let is_refused = tail.iter().any(|line| refused.iter().any(|words| line.contains(words)));
    is_refused && matches!(rootless::identity(), rootless::Identity::Rootless { sub_ids: false, .. })
}

/// What programs print of an error number.
fn words_of(error: std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// The words of an error and of every cause below it, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}
