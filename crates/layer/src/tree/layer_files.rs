//! A layer whose files stay where they are copied from.
//!
//! A COPY of an image that nobody but the exporter looks into need not be written twice, once as
//! files and once as a blob: what is in it is decided as for any other ([`crate::copy`]), and its
//! bytes are read from the context when it is packed. Until then the context can change. Whoever
//! reads compares with the index, and a difference is [`LayerError::Changed`].

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::Root;
use crate::{Entry, LayerError, Tree, TreePath};

/// Where the files of a layer are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LayerFiles {
    /// Not unpacked: only the index is known.
    Absent,
    /// In a directory in overlayfs' form that nobody changes any more: its files may be hardlinked.
    Snapshot(PathBuf),
    /// In a directory of the user's (a build context), which can change at any moment.
    Live(PathBuf),
    /// In directories of the user's, each at a place of its own.
    Unwritten(Arc<UnwrittenLayer>),
}

/// Where a regular file's bytes come from.
#[derive(Clone, Debug)]
pub(crate) enum ByteSource {
    /// It is no regular file.
    None,
    /// From another layer or a context.
    Layer {
        files: Arc<LayerFiles>,
        path: TreePath,
        /// The file there has the same mode, owner, time and attributes, and never changes.
        linkable: bool,
    },
    /// From memory.
    Inline(Arc<[u8]>),
    /// From the spool, under this number.
    Spool(u64),
}

/// The files of a layer that was decided and not written.
pub struct UnwrittenLayer {
    tree: Arc<Tree>,
    /// Where files are in truth: directories of the user's.
    places: Vec<Arc<LayerFiles>>,
    /// For each entry of the index, the place that has its bytes, and its path there.
    bytes: Vec<Option<(u32, TreePath)>>,
}

impl UnwrittenLayer {
    /// `None` where bytes come from elsewhere than files.
    pub(crate) fn new(mut nodes: Vec<(Entry, ByteSource)>) -> Result<Option<Self>, LayerError> {
        let mut places: Vec<Arc<LayerFiles>> = Vec::new();
        let mut bytes = Vec::with_capacity(nodes.len());
        for (_, from) in &mut nodes {
            bytes.push(match std::mem::replace(from, ByteSource::None) {
                ByteSource::None => None,
                ByteSource::Layer { files, path, .. } => {
                    let known = places.iter().position(|place| Arc::ptr_eq(place, &files));
                    let at = known.unwrap_or_else(|| {
                        places.push(files);
                        places.len() - 1
                    });
                    Some((u32::try_from(at).unwrap_or(u32::MAX), path))
                }
                ByteSource::Inline(_) | ByteSource::Spool(_) => return Ok(None),
            });
        }
        // The list becomes the index where it stands.
        let tree = Arc::new(Tree::from_entries(nodes.into_iter().map(|(entry, _)| entry).collect())?);
        Ok(Some(Self { tree, places, bytes }))
    }

    /// The layer's index.
    pub fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    /// Which place has the bytes of the file at a path of the layer, and where.
    fn place(&self, path: &TreePath) -> Option<(usize, &TreePath)> {
        let (place, path) = self.bytes.get(self.tree.position(path).ok()?)?.as_ref()?;
        Some((*place as usize, path))
    }
}

impl fmt::Debug for UnwrittenLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnwrittenLayer").field("places", &self.places).finish_non_exhaustive()
    }
}

/// One is equal to itself alone.
impl PartialEq for UnwrittenLayer {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for UnwrittenLayer {}

impl Hash for UnwrittenLayer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::ptr::hash(self, state);
    }
}

/// The opened directories of a layer's files.
#[derive(Debug)]
pub(crate) enum OpenedFiles {
    /// Files are at the paths of the index.
    Dir(Root),
    /// Each file has a place.
    Unwritten(Arc<UnwrittenLayer>, Vec<Root>),
}

impl OpenedFiles {
    /// Below which directory the file at a path of the layer is, and where.
    pub(crate) fn at<'a>(&'a self, path: &'a TreePath) -> Result<(&'a Root, &'a TreePath), LayerError> {
        match self {
            Self::Dir(root) => Ok((root, path)),
            Self::Unwritten(borrowed, roots) => {
                let found = borrowed.place(path).and_then(|(place, path)| Some((roots.get(place)?, path)));
                found.ok_or_else(|| LayerError::NotUnpacked { path: path.clone() })
            }
        }
    }
}

impl LayerFiles {
    /// Opens the directories; `None` if there are none.
    pub(crate) fn open(&self) -> Result<Option<OpenedFiles>, LayerError> {
        match self {
            Self::Unwritten(borrowed) => {
                let root = |place: &Arc<LayerFiles>| match place.open()? {
                    Some(OpenedFiles::Dir(root)) => Ok(root),
                    _ => Err(LayerError::NotUnpacked { path: TreePath::root() }),
                };
                let roots = borrowed.places.iter().map(root).collect::<Result<_, _>>()?;
                Ok(Some(OpenedFiles::Unwritten(Arc::clone(borrowed), roots)))
            }
            Self::Absent => Ok(None),
            Self::Snapshot(dir) => Ok(Some(OpenedFiles::Dir(Root::of_layer(dir)?))),
            Self::Live(dir) => Ok(Some(OpenedFiles::Dir(Root::open(dir, true)?))),
        }
    }

    /// Where the file at a path of the layer is in truth.
    pub(crate) fn origin(files: &Arc<Self>, path: &TreePath) -> (Arc<Self>, TreePath) {
        let Self::Unwritten(borrowed) = &**files else { return (Arc::clone(files), path.clone()) };
        let found = borrowed.place(path).and_then(|(place, path)| Some((borrowed.places.get(place)?, path)));
        let (files, path) = found.unwrap_or((files, path));
        (Arc::clone(files), path.clone())
    }
}

#[cfg(test)]
#[path = "tests/layer_files.rs"]
mod tests;
