//! The mounts of a command, as they are run and as the journal keeps them.

use dbuild_digest::SnapshotId;
use dbuild_plan::CacheSharing;
use serde::{Deserialize, Serialize};

/// A mount of a command. A RUN is mounted from this, and so is a shell that is opened where it
/// failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountInfo {
    /// Absolute. Empty only of a secret that is a variable alone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// What is mounted.
    #[serde(flatten)]
    pub kind: MountType,
}

/// The types of mounts. Modes are the number, not its octal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum MountType {
    /// A path of another step's files.
    Bind {
        /// The step.
        from: u32,
        /// Absolute within its files.
        source: String,
        /// Writes are allowed, and thrown away.
        writable: bool,
        /// The files where they are not those of a stage or an image: a context's, as they were.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        snapshot: Option<SnapshotId>,
    },
    /// A directory that is kept between builds.
    Cache {
        /// As the instruction names it.
        id: String,
        /// As the store names it.
        name: String,
        /// How builds share it at the same time.
        sharing: CacheSharing,
        /// The step whose files it holds when it is new.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<u32>,
        /// Absolute within those files; without `from`, within the directory itself.
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
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u64>,
    },
    /// A secret, by its name alone.
    Secret {
        /// Its name on the command line.
        id: String,
        /// The variable that holds it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        env: Option<String>,
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
        /// Mode of the socket.
        mode: u32,
        /// Owner of the socket.
        uid: u32,
        /// Group of the socket.
        gid: u32,
    },
    /// A file of mode 0755 of root: the here-document that is the command.
    Script {
        /// Its text.
        content: String,
    },
    /// A type that a newer dbuild wrote. It is read, never written.
    #[serde(other)]
    Unknown,
}

impl MountInfo {
    /// What it is, and where or of what name: `cache /root/.cache`, `secret token`.
    pub fn words(&self) -> String {
        let Self { target, kind } = self;
        match kind {
            MountType::Bind { .. } => format!("bind {target}"),
            MountType::Cache { .. } => format!("cache {target}"),
            MountType::Tmpfs { .. } => format!("tmpfs {target}"),
            MountType::Secret { id, .. } => format!("secret {id}"),
            MountType::Ssh { id, .. } => format!("ssh {id}"),
            MountType::Script { .. } => format!("script {target}"),
            MountType::Unknown => format!("mount {target}"),
        }
    }
}
