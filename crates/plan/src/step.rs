//! What one step does. Every word is expanded and every path is absolute: a step means the same
//! wherever it is read.

use dbuild_digest::BlobDigest;
use serde::{Deserialize, Serialize};

use crate::{BaseImage, StageId, StepId};

/// One unit of work. Its output is a file system: the parent's with one more layer, or a tree that
/// other steps take files from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The stage whose lane this step stands in. Contexts, fetched files and images that only a
    /// `COPY --from` names stand in the stage that names them first.
    pub stage: StageId,
    /// The instruction as people know it, on one line: `RUN make install`, `FROM debian:12`,
    /// `load build context`.
    pub text: String,
    /// What is done.
    pub kind: StepKind,
}

/// The kinds of work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    clippy::large_enum_variant,
    reason = "a plan has hundreds of steps, not millions; a box would only be in the way"
)]
pub enum StepKind {
    /// The file system of an image that is pinned by digest.
    Image(ImageStep),
    /// The empty file system of `FROM scratch`.
    Scratch,
    /// Files of a local directory: the build context or a named one.
    Context(ContextStep),
    /// One file from an HTTP server.
    Fetch(FetchStep),
    /// A checkout of a git repository.
    Git(GitStep),
    /// Files copied onto the parent: COPY and ADD.
    Copy(CopyStep),
    /// A command run in the parent's file system.
    Run(RunStep),
    /// A directory made on the parent by WORKDIR.
    Workdir(WorkdirStep),
}

/// See [`StepKind::Image`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageStep {
    /// The pinned image.
    pub image: BaseImage,
}

/// See [`StepKind::Context`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextStep {
    /// The context's name; `None` is the build context itself. Which directory that is, and its
    /// ignore rules, are handed to the scheduler.
    pub name: Option<String>,
    /// The paths that steps of the plan select, relative to the context, slash-separated and clean,
    /// and possibly with wildcards: nothing else needs to be read. `None`: all of it.
    pub wanted: Option<Vec<String>>,
}

/// See [`StepKind::Fetch`]. The output holds one file, [`FetchStep::file_name`], at its root: 0600
/// of root, with the time that the server says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchStep {
    /// An http or https URL.
    pub url: String,
    /// The name under which the file stands in the output.
    pub file_name: String,
    /// The digest that the bytes must have.
    pub checksum: Option<BlobDigest>,
}

/// See [`StepKind::Git`]. The output is the work tree at its root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitStep {
    /// The remote, as git takes it.
    pub remote: String,
    /// A branch, tag or commit; `None` is the remote's HEAD.
    pub reference: Option<String>,
    /// The object that the reference was found to name. Whoever runs the step fills it in before
    /// the step is keyed.
    pub commit: Option<String>,
    /// A directory of the repository to take instead of all of it.
    pub subdir: Option<String>,
    /// Whether `.git` is part of the output.
    pub keep_git_dir: bool,
    /// The commit that the reference must be, or start with.
    pub checksum: Option<String>,
    /// Take the checksum for the commit, and do not ask what the reference names.
    pub fetch_by_commit: bool,
    /// Whether submodules are part of the output.
    pub submodules: bool,
    /// Files have the time of the commit, not of the checkout.
    pub commit_time: bool,
}

/// See [`StepKind::Copy`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyStep {
    /// The file system that is copied onto. With `link` it is not read.
    pub parent: StepId,
    /// What is copied, in order.
    pub sources: Vec<CopySource>,
    /// Absolute and as written otherwise: a trailing slash (or a last component `.`) makes it a
    /// directory.
    pub dest: String,
    /// `user[:group]`, names or ids, of the image's own passwd; `None` is 0:0.
    pub chown: Option<String>,
    /// Octal or symbolic, as written; `None` keeps the source's modes.
    pub chmod: Option<String>,
    /// The layer does not depend on the parent.
    pub link: bool,
    /// Source paths keep their parents below the destination.
    pub parents: bool,
    /// Patterns below each source that are left out.
    pub exclude: Vec<String>,
}

/// One source of a [`CopyStep`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CopySource {
    /// A path of another step's output.
    Path {
        /// The step.
        from: StepId,
        /// Relative to that output's root, slash-separated, possibly with wildcards. A trailing
        /// `/.`, and `/./` as the pivot of `--parents`, are kept as written.
        path: String,
        /// What becomes of an archive.
        unpack: Unpack,
    },
    /// A here-document.
    Inline(InlineFile),
}

/// Whether a source is unpacked where it is an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unpack {
    /// It is copied as it is.
    #[default]
    Never,
    /// It is unpacked, as ADD does with local files where no flag says otherwise.
    ByDefault,
    /// It is unpacked, since a flag says so.
    Always,
}

impl Unpack {
    /// Whether an archive is unpacked.
    pub const fn is_wanted(self) -> bool {
        match self {
            Self::Never => false,
            Self::ByDefault | Self::Always => true,
        }
    }
}

/// A file whose bytes stand in the Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InlineFile {
    /// The name that it gets in a directory.
    pub name: String,
    /// Its bytes.
    pub content: String,
}

/// See [`StepKind::Run`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunStep {
    /// The root file system.
    pub parent: StepId,
    /// The program and its arguments, the shell included where the instruction's form asks for one.
    pub argv: Vec<String>,
    /// A script that the command needs as a file: the body of a here-document with a shebang.
    pub script: Option<ScriptFile>,
    /// The environment of the command, in order, names unique. HOME is not in it unless it was set.
    pub env: Vec<(String, String)>,
    /// Variables with proxies that the command gets besides, where `env` does not have them: they
    /// say how a network is reached, and are no part of what the step is. Their values can hold
    /// passwords.
    pub proxies: Vec<(String, String)>,
    /// The names in `env` that come from ARG (for explanations: `ARG VERSION 1.2 → 1.3`).
    pub args: Vec<String>,
    /// Absolute.
    pub workdir: String,
    /// As in the image config: empty, `user`, `user:group`, ids or names.
    pub user: String,
    /// In the order of the instruction.
    pub mounts: Vec<Mount>,
    /// What the command can reach.
    pub network: NetworkMode,
    /// What the command may do.
    pub security: SecurityMode,
    /// Lines for `/etc/hosts`.
    pub extra_hosts: Vec<HostEntry>,
    /// The host name that the command sees; `None` is the sandbox's usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
}

/// A file that is mounted for one RUN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptFile {
    /// Absolute path in the file system.
    pub path: String,
    /// Its bytes; the mode is 0755.
    pub content: String,
}

/// A line of `/etc/hosts`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostEntry {
    /// The name.
    pub host: String,
    /// The address; `host-gateway` is resolved by whoever runs the step.
    pub ip: String,
}

/// A mount of `RUN --mount`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path in the file system. Empty only for a secret that is an environment variable
    /// alone.
    pub target: String,
    /// What is mounted.
    pub kind: MountKind,
}

/// The kinds of mounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountKind {
    /// A path of another step's output.
    Bind {
        /// The step.
        from: StepId,
        /// Absolute within that output; `/` is all of it.
        source: String,
        /// Writes are allowed, and thrown away.
        writable: bool,
    },
    /// A directory that is kept between builds, and in no layer.
    Cache {
        /// Names the directory.
        id: String,
        /// How builds share it at the same time.
        sharing: CacheSharing,
        /// What the directory holds when it is new.
        from: Option<StepId>,
        /// Absolute within `from`.
        source: String,
        /// Writes are refused.
        readonly: bool,
        /// Mode of the directory when it is new.
        mode: u32,
        /// Owner of the directory when it is new.
        uid: u32,
        /// Group of the directory when it is new.
        gid: u32,
    },
    /// Memory.
    Tmpfs {
        /// In bytes; `None` is half of the memory.
        size: Option<u64>,
    },
    /// A secret of the command line.
    Secret {
        /// Its name there.
        id: String,
        /// The variable that holds it.
        env: Option<String>,
        /// The step fails without it.
        required: bool,
        /// Mode of the file.
        mode: u32,
        /// Owner of the file.
        uid: u32,
        /// Group of the file.
        gid: u32,
    },
    /// The socket of an ssh agent.
    Ssh {
        /// Its name on the command line.
        id: String,
        /// The step fails without it.
        required: bool,
        /// Mode of the socket.
        mode: u32,
        /// Owner of the socket.
        uid: u32,
        /// Group of the socket.
        gid: u32,
    },
}

/// How builds share a cache mount at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheSharing {
    /// Any number of steps.
    #[default]
    Shared,
    /// Each concurrent step gets a directory of its own.
    Private,
    /// One after the other.
    Locked,
}

/// What a command can reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// What the builder gives by default.
    #[default]
    Default,
    /// The host's network.
    Host,
    /// A loopback device of its own, and nothing else.
    None,
}

/// What a command may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecurityMode {
    /// Default capabilities, seccomp, masked paths.
    #[default]
    Sandbox,
    /// Everything; needs `--allow security.insecure`.
    Insecure,
}

/// See [`StepKind::Workdir`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkdirStep {
    /// The file system that it is made on.
    pub parent: StepId,
    /// Absolute; parents are made too.
    pub path: String,
    /// Whose it will be: the stage's USER at that point, as written.
    pub user: String,
}

impl Step {
    /// The step whose file system this one extends. `None` for steps that begin one.
    pub fn parent(&self) -> Option<StepId> {
        match &self.kind {
            StepKind::Copy(CopyStep { parent, .. })
            | StepKind::Run(RunStep { parent, .. })
            | StepKind::Workdir(WorkdirStep { parent, .. }) => Some(*parent),
            StepKind::Image(_)
            | StepKind::Scratch
            | StepKind::Context(_)
            | StepKind::Fetch(_)
            | StepKind::Git(_) => None,
        }
    }

    /// The steps that files are taken from or mounted from, in the order in which the step names
    /// them, without the parent and possibly with repetitions.
    pub fn sources(&self) -> Vec<StepId> {
        match &self.kind {
            StepKind::Copy(copy) => copy
                .sources
                .iter()
                .filter_map(|source| match source {
                    CopySource::Path { from, .. } => Some(*from),
                    CopySource::Inline(_) => None,
                })
                .collect(),
            StepKind::Run(run) => run
                .mounts
                .iter()
                .filter_map(|mount| match &mount.kind {
                    MountKind::Bind { from, .. } => Some(*from),
                    MountKind::Cache { from, .. } => *from,
                    MountKind::Tmpfs { .. } | MountKind::Secret { .. } | MountKind::Ssh { .. } => None,
                })
                .collect(),
            StepKind::Workdir(_)
            | StepKind::Image(_)
            | StepKind::Scratch
            | StepKind::Context(_)
            | StepKind::Fetch(_)
            | StepKind::Git(_) => Vec::new(),
        }
    }

    /// Everything that must be done before this step, parent first, each once.
    pub fn inputs(&self) -> Vec<StepId> {
        let mut inputs: Vec<StepId> = Vec::new();
        for input in self.parent().into_iter().chain(self.sources()) {
            if !inputs.contains(&input) {
                inputs.push(input);
            }
        }
        inputs
    }

    /// Whether the step adds a layer to its parent's file system.
    pub fn makes_layer(&self) -> bool {
        self.parent().is_some()
    }

    pub(crate) fn for_each_id(&mut self, mut change: impl FnMut(&mut StepId)) {
        match &mut self.kind {
            StepKind::Copy(copy) => {
                change(&mut copy.parent);
                for source in &mut copy.sources {
                    if let CopySource::Path { from, .. } = source {
                        change(from);
                    }
                }
            }
            StepKind::Run(run) => {
                change(&mut run.parent);
                for mount in &mut run.mounts {
                    match &mut mount.kind {
                        MountKind::Bind { from, .. } => change(from),
                        MountKind::Cache { from: Some(from), .. } => change(from),
                        _ => {}
                    }
                }
            }
            StepKind::Workdir(workdir) => change(&mut workdir.parent),
            StepKind::Image(_)
            | StepKind::Scratch
            | StepKind::Context(_)
            | StepKind::Fetch(_)
            | StepKind::Git(_) => {}
        }
    }
}
