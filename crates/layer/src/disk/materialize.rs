//! Puts a finished [`LayerBuilder`] on disk in overlayfs' form: directories first, then files on
//! several threads, then hardlinks, and last, from the bottom up, what directories are.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use dbuild_support::io_context::{IoContext as _, IoError};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::disk::hash::hash_bytes;
use crate::disk::{self, Root};
use crate::tree::layer_builder::LayerBuilder;
use crate::tree::layer_files::ByteSource;
use crate::tree::layer_files::OpenedFiles;
use crate::{Entry, EntryKind, LayerError, LayerFiles, OverlayFormat, Tree, TreePath};

/// The directory, in the layer's own, in which bytes wait that came before their place was known.
/// An archive cannot hold an entry of this name (it would be a whiteout).
pub(crate) const SPOOL: &str = ".wh..dbuild-spool";

/// The file in the spool with this number.
pub(crate) fn spooled(number: u64) -> String {
    format!("{SPOOL}/{number}")
}

/// A layer that was made.
#[derive(Clone, Debug)]
pub struct WrittenLayer {
    /// Its index.
    pub tree: Tree,
    /// Files of a context that were not, while they were copied, what they had been when the
    /// context was walked; as paths of the layer. The index tells what was copied.
    pub changed: Vec<TreePath>,
    /// What people should know: device nodes that are in the layer but could not be made on disk
    /// here, say.
    pub notes: Vec<String>,
}

struct Materializer<'a> {
    out: Root,
    form: OverlayFormat,
    roots: HashMap<&'a Arc<LayerFiles>, Root>,
}

/// What became of one entry.
#[derive(Default)]
struct NodeChanges {
    /// A file of a context turned out to be another: its size and digest.
    changed: Option<EntryKind>,
    note: Option<String>,
}

impl NodeChanges {
    /// `None` for the many files that became what they should be.
    fn if_any(self) -> Option<Box<Self>> {
        (self.changed.is_some() || self.note.is_some()).then(|| Box::new(self))
    }
}

/// Writes the draft below `out`, which must be empty (but for the spool), and gives its tree. `top`
/// is what the root of the file system is, which the directory itself becomes.
pub(crate) fn place(
    draft: LayerBuilder<'_>,
    out: &Path,
    form: OverlayFormat,
    top: &Entry,
) -> Result<WrittenLayer, LayerError> {
    let mut nodes = draft.finish();
    let mut changed = Vec::new();
    let mut notes = Vec::new();
    let placed = {
        let mut placer = Materializer { out: Root::open(out, false)?, form, roots: HashMap::new() };
        for (_, bytes) in &nodes {
            if let ByteSource::Layer { files, path, .. } = bytes
                && !placer.roots.contains_key(files)
            {
                // What is borrowed has been followed to where it is.
                let Some(OpenedFiles::Dir(opened)) = files.open()? else {
                    return Err(LayerError::NotUnpacked { path: path.clone() });
                };
                placer.roots.insert(files, opened);
            }
        }
        for (entry, _) in nodes.iter().filter(|(entry, _)| entry.is_dir() && !entry.path.is_root()) {
            rustix::fs::mkdirat(placer.out.fd(), entry.path.as_path(), Mode::RWXU)
                .on("create", placer.out.full(&entry.path))?;
        }
        let placed =
            disk::parallel(&nodes, |(entry, bytes)| placer.place(entry, bytes).map(NodeChanges::if_any))?;
        for (entry, _) in &nodes {
            if let EntryKind::Hardlink { target } = &entry.kind {
                placer.link(&placer.out, target, &entry.path)?;
            }
        }
        match rustix::fs::unlinkat(placer.out.fd(), SPOOL, AtFlags::REMOVEDIR) {
            // What is left in it belongs to entries that were replaced.
            Err(Errno::NOTEMPTY) => std::fs::remove_dir_all(out.join(SPOOL)).on("remove", out.join(SPOOL))?,
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(LayerError::from(IoError::new("remove", out.join(SPOOL), errno))),
        }
        for (entry, _) in nodes.iter().rev().filter(|(entry, _)| entry.is_dir() && !entry.path.is_root()) {
            placer.finish_dir(entry, &mut notes)?;
        }
        let top = nodes.first().map(|(entry, _)| entry).filter(|entry| entry.path.is_root()).unwrap_or(top);
        placer.finish_dir(&Entry { path: TreePath::root(), ..top.clone() }, &mut notes)?;
        placed
    };
    for ((entry, _), placed) in nodes.iter_mut().zip(placed) {
        let Some(placed) = placed else { continue };
        if let Some(kind) = placed.changed {
            entry.kind = kind;
            changed.push(entry.path.clone());
        }
        notes.extend(placed.note);
    }
    let tree = Tree::from_entries(nodes.into_iter().map(|(entry, _)| entry).collect())?;
    Ok(WrittenLayer { tree, changed, notes })
}

impl Materializer<'_> {
    fn place(&self, entry: &Entry, bytes: &ByteSource) -> Result<NodeChanges, LayerError> {
        let out = &self.out;
        let failed = |errno| LayerError::from(IoError::new("create", out.full(&entry.path), errno));
        let path = entry.path.as_path();
        let mut placed = NodeChanges::default();
        match &entry.kind {
            EntryKind::Dir { .. } | EntryKind::Hardlink { .. } => return Ok(placed),
            EntryKind::File { .. } => return self.file(entry, bytes),
            EntryKind::Whiteout => {
                self.node(path, FileType::CharacterDevice, 0, 0, 0).map_err(failed)?;
                return Ok(placed);
            }
            EntryKind::Symlink { target } => {
                rustix::fs::symlinkat(&**target, out.fd(), path).map_err(failed)?;
            }
            EntryKind::Fifo => self.node(path, FileType::Fifo, entry.mode, 0, 0).map_err(failed)?,
            EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
                let kind = match entry.kind {
                    EntryKind::CharDevice { .. } => FileType::CharacterDevice,
                    _ => FileType::BlockDevice,
                };
                match self.node(path, kind, entry.mode, *major, *minor) {
                    Ok(()) => {}
                    Err(Errno::PERM) => {
                        // A whiteout at least hides what lower layers have there.
                        self.node(path, FileType::CharacterDevice, 0, 0, 0).map_err(failed)?;
                        let path = &entry.path;
                        placed.note = Some(format!(
                            "{path} is a device: it is in the image, but steps of this build do not see it, since only root can make it"
                        ));
                        return Ok(placed);
                    }
                    Err(errno) => return Err(failed(errno)),
                }
            }
        }
        disk::set_meta_at(out.fd(), entry, self.form).map_err(failed)?;
        Ok(placed)
    }

    fn node(&self, path: &Path, kind: FileType, mode: u32, major: u32, minor: u32) -> Result<(), Errno> {
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(self.out.fd(), path, kind, Mode::from_raw_mode(mode), device)
    }

    fn file(&self, entry: &Entry, bytes: &ByteSource) -> Result<NodeChanges, LayerError> {
        let full = || self.out.full(&entry.path);
        let mut placed = NodeChanges::default();
        let file = match bytes {
            ByteSource::Layer { files, path, linkable } => {
                let root = self.roots.get(files).ok_or(LayerError::NotUnpacked { path: path.clone() })?;
                if *linkable && self.try_link(root, path, entry)? {
                    return Ok(placed);
                }
                let (from, stat) = root.open_file(path)?;
                let file = self.create(&entry.path)?;
                placed.changed = self.fill(&file, (&from, &stat), root, (path, files), entry)?;
                file
            }
            ByteSource::Inline(content) => {
                let mut file = self.create(&entry.path)?;
                std::io::Write::write_all(&mut file, content).on("write", full())?;
                file
            }
            ByteSource::Spool(number) => {
                let from = spooled(*number);
                rustix::fs::renameat(self.out.fd(), &from, self.out.fd(), entry.path.as_path())
                    .on("create", full())?;
                self.out.open_file(&entry.path)?.0
            }
            ByteSource::None => self.create(&entry.path)?,
        };
        let missing = disk::set_meta(&file, entry, self.form).on("set the metadata of", full())?;
        placed.note =
            missing.map(|what| format!("{} could not be given {what} on this file system", entry.path));
        Ok(placed)
    }

    /// Copies bytes, and answers what the file is if it is not what the index said.
    fn fill(
        &self,
        file: &File,
        (from, stat): (&File, &disk::Stat),
        root: &Root,
        (path, files): (&TreePath, &LayerFiles),
        entry: &Entry,
    ) -> Result<Option<EntryKind>, LayerError> {
        let EntryKind::File { size, .. } = entry.kind else { return Ok(None) };
        let failed = |error| LayerError::from(IoError::new("copy", root.full(path), error));
        if !matches!(files, LayerFiles::Live(_)) {
            if stat.size != size || disk::copy_bytes(from, stat, file).map_err(failed)? != size {
                return Err(root.damaged(path, "it has another size"));
            }
            return Ok(None);
        }
        let (size, content) = hash_bytes(from, stat.size, Some((file, stat.is_sparse()))).map_err(failed)?;
        let kind = EntryKind::File { size, content };
        Ok((kind != entry.kind).then_some(kind))
    }

    fn create(&self, path: &TreePath) -> Result<File, LayerError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(self.out.fd(), path.as_path(), flags, Mode::RUSR | Mode::WUSR)
            .map(File::from)
            .on("create", self.out.full(path))
            .map_err(LayerError::from)
    }

    /// Hardlinks a file of a snapshot, if the file system lets us and it is the file that its index
    /// says.
    fn try_link(&self, root: &Root, path: &TreePath, entry: &Entry) -> Result<bool, LayerError> {
        let stat = match root.stat(path) {
            Err(errno) if disk::is_gone(Some(errno)) => return Err(root.damaged(path, "it is gone")),
            stat => stat.on("stat", root.full(path))?,
        };
        let EntryKind::File { size, .. } = entry.kind else { return Ok(false) };
        if stat.kind != FileType::RegularFile || stat.size != size {
            return Err(root.damaged(path, "it has another type or size"));
        }
        // BestEffort files may be of another owner on disk, so what counts is what the index said
        // when it was asked.
        if stat.mode != entry.mode || stat.mtime != entry.mtime {
            return Ok(false);
        }
        let linked = rustix::fs::linkat(
            root.fd(),
            path.as_path(),
            self.out.fd(),
            entry.path.as_path(),
            AtFlags::empty(),
        );
        match linked {
            Ok(()) => Ok(true),
            Err(Errno::XDEV | Errno::MLINK | Errno::PERM | Errno::OPNOTSUPP) => Ok(false),
            Err(errno) => Err(LayerError::from(IoError::new("create", self.out.full(&entry.path), errno))),
        }
    }

    fn link(&self, root: &Root, target: &TreePath, path: &TreePath) -> Result<(), LayerError> {
        rustix::fs::linkat(root.fd(), target.as_path(), self.out.fd(), path.as_path(), AtFlags::empty())
            .on("create", self.out.full(path))
            .map_err(LayerError::from)
    }

    fn finish_dir(&self, entry: &Entry, notes: &mut Vec<String>) -> Result<(), LayerError> {
        let full = self.out.full(&entry.path);
        let fd = self.out.open_dir(&entry.path)?;
        if entry.kind == (EntryKind::Dir { opaque: true }) {
            let opaque = self.form.flavor.opaque();
            rustix::fs::fsetxattr(&fd, opaque, b"y", rustix::fs::XattrFlags::empty())
                .on("mark as opaque", &full)?;
        }
        let missing = disk::set_meta(&fd, entry, self.form).on("set the metadata of", &full)?;
        if let Some(what) = missing {
            notes.push(format!("{} could not be given {what} on this file system", entry.path));
        }
        Ok(())
    }
}
