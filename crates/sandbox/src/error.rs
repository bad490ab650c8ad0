//! What can go wrong before, and instead of, the process.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use crate::emulation::Emulation;

/// Why a process was not run. Nothing is left behind: no mount, no process, no made mount point.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxError {
    /// The kernel refused a step of the setup.
    #[error("the sandbox cannot {what}: {}{}", message(*errno), hint(advice))]
    Setup {
        /// What was tried: "mount /proc".
        what: String,
        /// The kernel's answer.
        errno: i32,
        /// What may help.
        advice: Option<String>,
    },
    /// The program cannot be started.
    #[error(transparent)]
    Exec(ExecError),
    /// The working directory cannot be entered.
    #[error("the working directory {path} cannot be entered: {}", message(*errno))]
    WorkingDirectory {
        /// As in the spec.
        path: String,
        /// The kernel's answer.
        errno: i32,
    },
    /// A mount of the spec cannot be made.
    #[error("cannot mount at {target}: {reason}")]
    Mount {
        /// As in the spec.
        target: String,
        /// In words.
        reason: String,
    },
    /// The user or a group has no place in the user namespace.
    #[error(
        "cannot run as {who}: only the ids 0 to {} exist here, as /etc/subuid and /etc/subgid \
             give this user no more (install uidmap and add a range to both)",
        last_id
    )]
    NoSuchId {
        /// "user 1000", "group 1000".
        who: String,
        /// The last id that exists.
        last_id: u32,
    },
    /// The spec contradicts itself.
    #[error("the sandbox cannot be set up: {0}")]
    Spec(String),
    /// It was killed before the program started.
    #[error("stopped before the program was started")]
    Killed,
    /// The helper process ended without an answer.
    #[error("the sandbox's helper process {0}")]
    HelperDied(String),
}

/// Why a program was not started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecError {
    /// `argv[0]` as given.
    pub program: String,
    /// The file that was tried, where one was found.
    pub path: Option<String>,
    /// What is wrong with it.
    pub kind: ExecErrorKind,
}

/// Kinds of [`ExecError`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecErrorKind {
    /// No such file, or none in the directories of PATH.
    NotFound {
        /// The PATH that was searched; `None` when the program has a slash.
        searched: Option<String>,
    },
    /// It is not executable for this user, or is a directory.
    PermissionDenied,
    /// It is no program that this kernel can run.
    Format {
        /// The architecture that it was made for, where it is an ELF file for another one.
        made_for: Option<String>,
        /// This machine's.
        machine: String,
    },
    /// The file exists, but the interpreter that it names does not.
    Interpreter {
        /// Its path.
        interpreter: String,
    },
    /// Arguments and environment are more than the kernel takes.
    TooLong,
    /// Anything else.
    Other {
        /// The kernel's answer.
        errno: i32,
    },
}

impl SandboxError {
    pub(crate) fn setup(what: impl Into<String>, error: impl Into<io::Error>) -> SandboxError {
        let errno = error.into().raw_os_error().unwrap_or(0);
        SandboxError::Setup { what: what.into(), errno, advice: general_advice(errno) }
    }

    pub(crate) fn advise(self, text: impl Into<String>) -> SandboxError {
        match self {
            SandboxError::Setup { what, errno, .. } => {
                SandboxError::Setup { what, errno, advice: Some(text.into()) }
            }
            other => other,
        }
    }
}

impl ExecError {
    /// What a shell would have exited with: 127 for a program that is not there, 126 for one that
    /// cannot be run.
    pub fn exit_code(&self) -> i32 {
        match self.kind {
            ExecErrorKind::NotFound { .. } | ExecErrorKind::Interpreter { .. } => 127,
            _ => 126,
        }
    }
}

impl ExecError {
    /// Whether the program is for another processor.
    pub fn is_foreign(&self) -> bool {
        matches!(self.kind, ExecErrorKind::Format { made_for: Some(_), .. })
    }

    /// What would make a foreign program run.
    pub fn advice(&self) -> Option<String> {
        match &self.kind {
            ExecErrorKind::Format { made_for: Some(arch), .. } => {
                Some(Emulation::on_this_machine(arch).advice(arch))
            }
            _ => None,
        }
    }
}

impl std::error::Error for ExecError {}

impl fmt::Display for ExecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = self.path.as_deref().unwrap_or(&self.program);
        match &self.kind {
            ExecErrorKind::NotFound { searched: None } => write!(f, "{program}: no such file in the image"),
            ExecErrorKind::NotFound { searched: Some(path) } if path.is_empty() => {
                write!(f, "{program}: not found, as PATH is empty")
            }
            ExecErrorKind::NotFound { searched: Some(path) } => {
                write!(f, "{program}: not found in the image's PATH ({path})")
            }
            ExecErrorKind::PermissionDenied => {
                write!(f, "{program}: permission denied (is it a program, and executable for this user?)")
            }
            ExecErrorKind::Format { made_for: Some(arch), machine } => write!(
                f,
                "{program}: exec format error: it was made for {arch}, and this machine is {machine}"
            ),
            ExecErrorKind::Format { made_for: None, .. } => write!(
                f,
                "{program}: exec format error: neither a program of this machine nor a script that starts with #!"
            ),
            ExecErrorKind::Interpreter { interpreter } => write!(
                f,
                "{program}: its interpreter {interpreter} is not in the image (for a program: it was \
                 linked against another C library than the image has)"
            ),
            ExecErrorKind::TooLong => write!(f, "{program}: argument list too long"),
            ExecErrorKind::Other { errno } => write!(f, "{program}: {}", message(*errno)),
        }
    }
}

/// The kernel's words for an error number, without the number.
pub(crate) fn message(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    match text.rfind(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

fn hint(advice: &Option<String>) -> String {
    advice.as_ref().map(|text| format!(" ({text})")).unwrap_or_default()
}

fn general_advice(errno: i32) -> Option<String> {
    let text = match errno {
        libc::EMFILE => "too many open files: raise the limit with ulimit -n",
        libc::ENFILE => "the machine's table of open files is full",
        libc::ENOSPC => "no space, or no inodes, or a limit in /proc/sys/user is reached",
        libc::EAGAIN => "too many processes: raise the limit with ulimit -u",
        libc::ENOSYS => "this kernel is too old: 5.12 is needed",
        _ => return None,
    };
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{ExecError, ExecErrorKind, SandboxError};

    #[test]
    fn errors_say_what_and_what_to_try() {
        let error = SandboxError::setup("mount /proc", rustix::io::Errno::PERM).advise("try as root");
        assert_eq!(
            error.to_string(),
            "the sandbox cannot mount /proc: Operation not permitted (try as root)"
        );
        let error = ExecError {
            program: "app".into(),
            path: Some("/bin/app".into()),
            kind: ExecErrorKind::Format { made_for: Some("aarch64".into()), machine: "x86_64".into() },
        };
        assert!(error.to_string().starts_with("/bin/app: exec format error: it was made for aarch64"));
        assert_eq!(error.exit_code(), 126);
    }
}
