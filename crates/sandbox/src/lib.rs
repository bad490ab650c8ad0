//! Runs one process in a root file system; knows nothing of builds.
//!
//! The program that uses this crate calls [`dispatch_helper`] first thing in `main`, and, when it
//! may be run by an ordinary user, [`rootless::enter`] right after, before any thread exists. Then
//! [`spawn`] starts processes:
//!
//! ```text
//! dbuild ── spawner thread ── helper (own session, new PID namespace for its child)
//!    └────── socket ──────────┘ └── PID 1 = the user's process: own mounts, IPC, UTS, cgroup, net
//! ```
//!
//! The helper is this program run again under a private `argv[0]`, so that it has one thread and a
//! small address space whatever the program around it is; from a file that nobody can write to
//! (`own_program.rs`). It lives in the caller's mount namespace and sees the file system that it
//! made only through its child, so a mount cannot outlive the process it was made for: when PID 1
//! ends, the kernel kills the rest of its PID namespace and takes the mounts down before the helper
//! hears of it. End-of-file on the socket means that dbuild is gone or wants the process gone; the
//! helper then kills PID 1 through a pidfd and cleans up.
//!
//! What the crate does not know: layers, caches, images, users' names. A root file system is a list
//! of directories, a user is a number.

#[cfg(not(target_os = "linux"))]
compile_error!("dbuild's sandbox is made of Linux namespaces");

mod capability;
mod cgroup;
mod emulation;
mod error;
mod exit;
mod helper;
mod own_program;
mod probe;
mod probe_store;
mod protocol;
pub mod rootless;
mod seccomp;
mod spawn;
mod spec;
#[allow(unsafe_code)]
mod sys;
#[allow(unsafe_code)]
pub mod terminal;
mod trace;
mod wire;

pub use capability::Capability;
pub use emulation::Emulation;
pub use error::{ExecError, ExecErrorKind, SandboxError};
pub use exit::{Exit, ExitStatus, Usage};
pub use helper::dispatch_helper;
pub use probe::probe;
pub use probe_store::{probe_store, unfit_for_overlay};
pub use spawn::{Killer, Running, spawn};
pub use spec::{
    Contents, Limits, Mount, MountSource, Network, Output, OverlayDirs, Rootfs, Security, Spec, Stdin,
    TerminalSize, Ulimit,
};
pub use trace::{AskedPath, Trace, question};
