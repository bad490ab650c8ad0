//! What is to be run, and in what.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::wire;

/// One process and everything it will see. Paths of the host are absolute; paths of the container
/// are absolute too, and resolved inside its root: a link never leads out.
#[derive(Clone, Serialize, Deserialize)]
pub struct Spec {
    /// The root file system.
    pub rootfs: Rootfs,
    /// The program and its arguments. A program without a slash is looked up in the PATH of `env`,
    /// inside the root file system.
    pub argv: Vec<String>,
    /// The whole environment: nothing of the host is added.
    pub env: Vec<(String, String)>,
    /// Where it starts. It must exist.
    pub cwd: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary group ids.
    pub groups: Vec<u32>,
    /// The name of the machine.
    pub hostname: String,
    /// What the process can reach.
    pub network: Network,
    /// Mounted in this order, over the standard mounts.
    pub mounts: Vec<Mount>,
    /// What it reads as `/etc/resolv.conf`; `None` leaves the image's own.
    #[serde(with = "wire::maybe_bytes")]
    pub resolv_conf: Option<Vec<u8>>,
    /// What it reads as `/etc/hosts`; `None` leaves the image's own.
    #[serde(with = "wire::maybe_bytes")]
    pub hosts: Option<Vec<u8>>,
    /// What it may do.
    pub security: Security,
    /// Programs with set-user-id bits and file capabilities give nothing. BuildKit leaves this off,
    /// so that sudo works in a RUN.
    pub no_new_privs: bool,
    /// What it reads. With a terminal, `Null` and `Inherit` mean the terminal.
    #[serde(skip)]
    pub stdin: Stdin,
    /// Where it writes. With a terminal: there.
    pub output: Output,
    /// Give it a terminal of this size: see [`crate::terminal`].
    pub terminal: Option<TerminalSize>,
    /// How much it may use.
    pub limits: Limits,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: u64,
    /// Resource limits of the process and its children, instead of those that they have otherwise.
    pub ulimits: Vec<Ulimit>,
    /// Which paths it asks for is recorded; see [`crate::Running::wait_traced`].
    pub trace: bool,
}

/// A resource limit, as `setrlimit` knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// One of [`Ulimit::NAMES`].
    pub name: String,
    /// What holds; [`u64::MAX`] is no limit.
    pub soft: u64,
    /// Up to where the process may raise it.
    pub hard: u64,
}

impl Ulimit {
    /// The limits that there are, as Docker calls them.
    pub const NAMES: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
}

/// A root file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rootfs {
    /// Directories stacked by overlayfs; what the process writes goes to `upper`.
    Overlay {
        /// Lowest first, at most 500. Empty is the empty file system of `scratch`.
        #[serde(with = "wire::paths")]
        lower: Vec<PathBuf>,
        /// An existing directory. It should be empty, and on a file system that can hold overlayfs'
        /// marks.
        #[serde(with = "wire::path")]
        upper: PathBuf,
        /// An existing empty directory on the same file system. The kernel leaves a directory of
        /// mode 000 in it.
        #[serde(with = "wire::path")]
        work: PathBuf,
    },
    /// Directories stacked by overlayfs, and nothing can be written except to mounts.
    ReadonlyOverlay {
        /// Lowest first, at most 500. Empty is the empty file system of `scratch`.
        #[serde(with = "wire::paths")]
        lower: Vec<PathBuf>,
    },
    /// A plain directory, written to directly.
    Dir(#[serde(with = "wire::path")] PathBuf),
}

/// One mount of the process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path in the container. It is made when it is missing, and what was made is removed
    /// again afterwards, with parents that stayed empty.
    pub target: String,
    /// What is mounted.
    pub source: MountSource,
}

/// What is mounted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// A directory, file or socket of the host.
    Bind {
        /// Where it is. A link at its end is not followed.
        #[serde(with = "wire::path")]
        path: PathBuf,
        /// Writes are refused.
        readonly: bool,
    },
    /// Memory.
    Tmpfs {
        /// In bytes; `None` is half of the machine's memory.
        size: Option<u64>,
        /// Permission bits of its root.
        mode: u32,
    },
    /// A file that is in memory only.
    File {
        /// Its bytes.
        contents: Contents,
        /// Permission bits.
        mode: u32,
        /// Owner in the container.
        uid: u32,
        /// Group in the container.
        gid: u32,
    },
    /// A path of a stack of directories.
    OverlayBind {
        /// Lowest first, at most 500.
        #[serde(with = "wire::paths")]
        lower: Vec<PathBuf>,
        /// Which path of the stack, links resolved inside it; empty or `/` is all of it.
        subpath: String,
        /// Writes go here, and are the caller's to throw away. `None`: writes are refused.
        writable: Option<OverlayDirs>,
    },
}

/// Where an overlay keeps what is written to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayDirs {
    /// As in [`Rootfs::Overlay`].
    #[serde(with = "wire::path")]
    pub upper: PathBuf,
    /// As in [`Rootfs::Overlay`].
    #[serde(with = "wire::path")]
    pub work: PathBuf,
}

/// Bytes that may be secret: their `Debug` says only how many there are.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Contents(#[serde(with = "wire::bytes")] pub Vec<u8>);

/// What a process can reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// The host's network.
    #[default]
    Host,
    /// A loopback device of its own and nothing else.
    None,
}

/// What a process may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    /// Docker's 14 capabilities (for root alone), its system call filter, masked and read-only
    /// paths.
    #[default]
    Default,
    /// All capabilities that dbuild has, no filter, nothing masked.
    Insecure,
}

/// What a process reads.
#[derive(Clone, Debug, Default)]
pub enum Stdin {
    /// Nothing: end-of-file.
    #[default]
    Null,
    /// What dbuild reads.
    Inherit,
    /// This file.
    Fd(Arc<OwnedFd>),
}

/// Where a process writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// To two pipes: see [`crate::Running::take_stdout`].
    #[default]
    Pipes,
    /// Where dbuild writes.
    Inherit,
}

/// In characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters on a line.
    pub columns: u16,
}

/// How much a process and its children may use. A limit that this machine cannot enforce is not:
/// then [`crate::Running::notes`] says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Processes and threads at the same time.
    pub pids: Option<u32>,
    /// Memory in bytes.
    pub memory: Option<u64>,
}

impl Default for Limits {
    /// A bound that stops a fork bomb and no real build.
    fn default() -> Limits {
        Limits { pids: Some(16_384), memory: None }
    }
}

impl Spec {
    /// A root process in `/` with an empty environment, the host's network and the default limits.
    pub fn new(rootfs: Rootfs, argv: Vec<String>) -> Spec {
        Spec {
            rootfs,
            argv,
            env: Vec::new(),
            cwd: "/".into(),
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            hostname: "dbuild".into(),
            network: Network::Host,
            mounts: Vec::new(),
            resolv_conf: None,
            hosts: None,
            security: Security::Default,
            no_new_privs: false,
            stdin: Stdin::Null,
            output: Output::Pipes,
            terminal: None,
            limits: Limits::default(),
            shm_size: 64 << 20,
            ulimits: Vec::new(),
            trace: false,
        }
    }
}

impl fmt::Debug for Spec {
    /// Without the values of variables: they may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Spec")
            .field("rootfs", &self.rootfs)
            .field("argv", &self.argv)
            .field("env", &names)
            .field("cwd", &self.cwd)
            .field("uid", &self.uid)
            .field("gid", &self.gid)
            .field("mounts", &self.mounts)
            .field("network", &self.network)
            .field("security", &self.security)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Contents({} bytes)", self.0.len())
    }
}

impl From<Vec<u8>> for Contents {
    fn from(bytes: Vec<u8>) -> Contents {
        Contents(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{Contents, Mount, MountSource, Rootfs, Spec};

    #[test]
    fn neither_variables_nor_files_are_shown() {
        let mut spec = Spec::new(Rootfs::Dir("/".into()), vec!["true".into()]);
        spec.env.push(("TOKEN".into(), "hunter2".into()));
        spec.mounts.push(Mount {
            target: "/run/secrets/a".into(),
            source: MountSource::File { contents: b"hunter2".to_vec().into(), mode: 0o400, uid: 0, gid: 0 },
        });
        let shown = format!("{spec:?}");
        assert!(
            shown.contains("TOKEN") && shown.contains("7 bytes") && !shown.contains("hunter2"),
            "{shown}"
        );
    }

    #[test]
    fn any_bytes_survive_the_wire() {
        use std::os::unix::ffi::OsStringExt as _;
        let odd = std::ffi::OsString::from_vec(vec![b'/', 0xff, 0x01, b'"', 0x80]);
        let mut spec = Spec::new(Rootfs::Dir(odd.into()), vec!["true".into()]);
        spec.hosts = Some((0..=255).collect());
        spec.mounts.push(Mount {
            target: "/f".into(),
            source: MountSource::File { contents: Contents((0..=255).collect()), mode: 0, uid: 0, gid: 0 },
        });
        let text = serde_json::to_string(&spec).unwrap();
        let back: Spec = serde_json::from_str(&text).unwrap();
        assert_eq!(back.rootfs, spec.rootfs);
        assert_eq!(back.hosts, spec.hosts);
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
    }
}
