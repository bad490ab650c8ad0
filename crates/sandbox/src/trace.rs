//! What a process asked of its file system.

use serde::{Deserialize, Serialize};

use crate::wire;

/// What was asked of a path: bits that can be combined. Each of the first three includes those
/// before it.
pub mod question {
    /// What kind of thing it is: whether it exists, the owner and mode of a directory, the target
    /// of a link. Asked of every component of a path.
    pub const KIND: u8 = 1;
    /// Mode, owner and attributes, of a file too.
    pub const ACCESS: u8 = 2;
    /// All of a file: it was opened, executed, changed, or its time and size were asked for.
    pub const CONTENT: u8 = 4;
    /// The names in a directory.
    pub const LISTING: u8 = 8;
}

/// A path that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedPath {
    /// Relative to the root, without links, `.` and `..`; the root is empty.
    #[serde(rename = "p", with = "wire::bytes")]
    pub path: Vec<u8>,
    /// Bits of [`question`].
    #[serde(rename = "q")]
    pub questions: u8,
}

/// What a process and all that it started asked of the root file system, sorted by path. What lies
/// below mounts (`/proc`, `/sys`, `/dev` and those of the spec) is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The paths.
    pub paths: Vec<AskedPath>,
    /// It made a socket that can reach a network.
    pub network: bool,
    /// Why the paths are not all that it asked for, in words; then they are of no use.
    pub incomplete: Option<String>,
}
