//! The system calls that name paths, as the tracer understands them.

use std::collections::HashMap;

use super::{AUDIT_ARCH_AARCH64, AUDIT_ARCH_ARM, AUDIT_ARCH_I386, AUDIT_ARCH_X86_64, X32_BIT, table};
use crate::trace::question::{ACCESS, CONTENT, KIND, LISTING};

/// Whether a link at the end of a path is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follow {
    Always,
    Never,
    /// Unless the argument has the bit.
    Unless(usize, u64),
    /// If the argument has the bit.
    If(usize, u64),
}

/// One path among the arguments of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PathArgument {
    /// The argument that holds the directory's descriptor.
    pub(crate) dir: Option<usize>,
    /// The argument that points to the path.
    pub(crate) path: usize,
    pub(crate) questions: u8,
    pub(crate) follow: Follow,
    /// A name is made, moved or removed here.
    pub(crate) changes_name: bool,
}

/// What the tracer does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TracedCall {
    /// It asks for a path.
    Path(PathArgument),
    /// It asks for two.
    Paths(PathArgument, PathArgument),
    /// A file is opened: directory, path, and the argument with the flags.
    Open(Option<usize>, usize, usize),
    /// As [`TracedCall::Open`], with flags in memory.
    OpenHow,
    /// A program is executed.
    Exec(PathArgument),
    /// A socket of the internet.
    Network,
    /// Afterwards paths mean something else.
    NewRoot,
}

const NOFOLLOW: u64 = 0x100;
const SYMLINK_FOLLOW: u64 = 0x400;

const fn asks(dir: Option<usize>, path: usize, questions: u8, follow: Follow) -> TracedCall {
    TracedCall::Path(PathArgument { dir, path, questions, follow, changes_name: false })
}

const fn name(dir: Option<usize>, path: usize, questions: u8) -> PathArgument {
    PathArgument { dir, path, questions, follow: Follow::Never, changes_name: true }
}

/// The call of a name, if it is traced. What a call changes is asked for whole: then nothing that a
/// layer holds, or hides, can depend on what was not asked.
pub(super) fn traced(call: &str) -> Option<TracedCall> {
    use Follow::{Always, If, Never, Unless};
    use TracedCall::{Exec, Network, NewRoot, Open, OpenHow, Path, Paths};
    const ALL: u8 = CONTENT | LISTING;
    Some(match call {
        "open" => Open(None, 0, 1),
        "openat" => Open(Some(0), 1, 2),
        "openat2" => OpenHow,
        "creat" | "truncate" | "truncate64" => asks(None, 0, CONTENT, Always),
        "stat" | "stat64" => asks(None, 0, CONTENT, Always),
        "lstat" | "lstat64" => asks(None, 0, CONTENT, Never),
        "newfstatat" | "fstatat64" => asks(Some(0), 1, CONTENT, Unless(3, NOFOLLOW)),
        "statx" => asks(Some(0), 1, CONTENT, Unless(2, NOFOLLOW)),
        "access" => asks(None, 0, ACCESS, Always),
        "faccessat" => asks(Some(0), 1, ACCESS, Always),
        "faccessat2" => asks(Some(0), 1, ACCESS, Unless(3, NOFOLLOW)),
        "statfs" | "statfs64" => asks(None, 0, KIND, Always),
        "inotify_add_watch" => asks(None, 1, CONTENT, Always),
        "name_to_handle_at" => asks(Some(0), 1, ACCESS, If(4, SYMLINK_FOLLOW)),
        "readlink" => asks(None, 0, KIND, Never),
        "readlinkat" => asks(Some(0), 1, KIND, Never),
        "getxattr" | "listxattr" => asks(None, 0, ACCESS, Always),
        "lgetxattr" | "llistxattr" => asks(None, 0, ACCESS, Never),
        "getxattrat" | "listxattrat" => asks(Some(0), 1, ACCESS, Unless(2, NOFOLLOW)),
        "chdir" => asks(None, 0, KIND, Always),
        "chroot" => NewRoot,
        "execve" => {
            Exec(PathArgument { dir: None, path: 0, questions: CONTENT, follow: Always, changes_name: false })
        }
        "execveat" => Exec(PathArgument {
            dir: Some(0),
            path: 1,
            questions: CONTENT,
            follow: Always,
            changes_name: false,
        }),
        "chmod" | "chown" | "chown32" | "setxattr" | "removexattr" | "utime" | "utimes" => {
            asks(None, 0, CONTENT, Always)
        }
        "lchown" | "lchown32" | "lsetxattr" | "lremovexattr" => asks(None, 0, CONTENT, Never),
        "fchmodat" | "futimesat" => asks(Some(0), 1, CONTENT, Always),
        "fchmodat2" | "utimensat" | "utimensat_time64" => asks(Some(0), 1, CONTENT, Unless(3, NOFOLLOW)),
        "fchownat" => asks(Some(0), 1, CONTENT, Unless(4, NOFOLLOW)),
        "setxattrat" | "removexattrat" => asks(Some(0), 1, CONTENT, Unless(2, NOFOLLOW)),
        "mkdir" | "mknod" => Path(name(None, 0, CONTENT)),
        "mkdirat" | "mknodat" => Path(name(Some(0), 1, CONTENT)),
        "unlink" => Path(name(None, 0, CONTENT)),
        "rmdir" => Path(name(None, 0, ALL)),
        "unlinkat" => Path(name(Some(0), 1, ALL)),
        "rename" => Paths(name(None, 0, ALL), name(None, 1, ALL)),
        "renameat" | "renameat2" => Paths(name(Some(0), 1, ALL), name(Some(2), 3, ALL)),
        "link" => Paths(name(None, 0, CONTENT), name(None, 1, CONTENT)),
        "linkat" => {
            let old = PathArgument { follow: If(4, SYMLINK_FOLLOW), ..name(Some(0), 1, CONTENT) };
            Paths(old, name(Some(2), 3, CONTENT))
        }
        "symlink" => Path(name(None, 1, CONTENT)),
        "symlinkat" => Path(name(Some(1), 2, CONTENT)),
        "socket" | "socketcall" => Network,
        _ => return None,
    })
}

/// The traced calls of every architecture of this machine, by architecture and number.
pub(crate) fn by_number() -> HashMap<(u32, u32), TracedCall> {
    let columns: &[(u32, usize, u32)] = &[
        (AUDIT_ARCH_X86_64, 0, 0),
        (AUDIT_ARCH_I386, 1, 0),
        (AUDIT_ARCH_X86_64, 2, X32_BIT),
        (AUDIT_ARCH_AARCH64, 3, 0),
        (AUDIT_ARCH_ARM, 4, 0),
    ];
    let mut calls = HashMap::new();
    for (name, numbers) in table::ALLOWED.iter().chain(table::SPECIAL) {
        let Some(call) = traced(name) else { continue };
        for (arch, column, offset) in columns {
            if numbers[*column] != u32::MAX {
                calls.insert((*arch, numbers[*column] + offset), call);
            }
        }
    }
    calls
}
