//! COPY, ADD and WORKDIR.

use std::path::Path;

use crate::{CopyError, DiskForm, LayerError, Selection, Stack, Tree, TreePath};

/// What a COPY or ADD does.
#[derive(Clone, Debug)]
pub struct CopyRequest<'a> {
    /// The file system that is copied onto. `None` with `--link`: the layer does not depend on it.
    pub parent: Option<&'a Stack>,
    /// What is copied, in order.
    pub sources: Vec<Source<'a>>,
    /// Absolute, as written: a trailing slash or a last component `.` makes it a directory.
    pub dest: &'a str,
    /// The owner of everything; `None` keeps the source's (a context's is 0:0).
    pub chown: Option<(u32, u32)>,
    /// Octal or symbolic, as written; `None` keeps the source's modes.
    pub chmod: Option<&'a str>,
}

/// One source of a [`CopyRequest`].
#[derive(Clone, Debug)]
pub enum Source<'a> {
    /// Paths of another tree.
    Selected {
        /// Which.
        selection: &'a Selection,
        /// Files that are archives, by content, are unpacked (ADD of local files, `--unpack`).
        unpack: bool,
    },
    /// A here-document: a file 0644 of root.
    Inline {
        /// Its name in a directory.
        name: &'a str,
        /// Its bytes.
        content: &'a [u8],
    },
}

/// A layer that was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its index.
    pub tree: Tree,
    /// Files of a context that were not, while they were copied, what they had been when the context was walked. The
    /// index tells what was copied.
    pub changed: Vec<TreePath>,
    /// What people should know: device nodes that are in the layer but could not be made on disk here, say.
    pub notes: Vec<String>,
}

/// Copies into an empty directory, which becomes the layer in overlayfs' form, and gives its index.
pub fn copy(request: &CopyRequest<'_>, out_dir: &Path, form: impl Into<DiskForm>) -> Result<Made, CopyError> {
    let _ = (request, form.into());
    Err(CopyError::Layer(LayerError::io("write", out_dir)(rustix::io::Errno::NOSYS)))
}

/// Makes a directory and the missing ones above it, all 0755 and of the given owner, as WORKDIR does. The layer is
/// empty if it is there already.
pub fn make_dir(
    parent: &Stack,
    path: &str,
    uid: u32,
    gid: u32,
    out_dir: &Path,
    form: impl Into<DiskForm>,
) -> Result<Made, CopyError> {
    let _ = (parent, path, uid, gid, form.into());
    Err(CopyError::Layer(LayerError::io("write", out_dir)(rustix::io::Errno::NOSYS)))
}
