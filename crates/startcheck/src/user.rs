//! A user of the image, and what the permission bits of a file allow it.

use crate::image_files::Node;

/// A user as the kernel knows one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// From passwd; empty where it is not known.
    pub(crate) home: String,
}

impl User {
    /// Whether one of the permission bits (4 read, 2 write, 1 execute or enter) is theirs. Root may
    /// execute what anybody may.
    pub(crate) fn may(&self, node: &Node, bit: u32) -> bool {
        if self.uid == 0 {
            return bit != 1 || node.is_dir() || node.mode & 0o111 != 0;
        }
        let shift = match node {
            _ if node.uid == self.uid => 6,
            _ if node.gid == self.gid || self.groups.contains(&node.gid) => 3,
            _ => 0,
        };
        node.mode >> shift & bit != 0
    }
}
