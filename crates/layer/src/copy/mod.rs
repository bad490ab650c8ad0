//! COPY, ADD and WORKDIR: first decided in memory on the trees alone, then written.

pub(crate) mod chmod;
pub(crate) mod select;
pub mod users;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use dbuild_digest::ContentDigest;
use dbuild_support::io_context::IoContext as _;

use crate::archive::extract::{self, ArchiveApplier, ArchivePurpose};
use crate::copy::chmod::ModeChange;
use crate::copy::select::{Match, SelectedEntry};
use crate::disk::materialize::{WrittenLayer, place};
use crate::tree::layer_builder::{LayerBuilder, now};
use crate::tree::layer_files::ByteSource;
use crate::tree::sorted_nodes::Node;
use crate::{
    CopyError, DestinationConflict, Entry, EntryKind, LayerFiles, OverlayFormat, ResolveError, Selection,
    Stack, StackLayer, Tree, TreePath, UnpackLimits, UnwrittenLayer,
};

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
    /// A snapshot that the same instruction gave earlier. What a context still has as it is there,
    /// time included, is linked from it and not read again.
    pub earlier: Option<&'a StackLayer>,
    /// The layer that the same copy of the same contents gave: everything has the time that it had
    /// then.
    pub known: Option<&'a Tree>,
}

impl<'a> CopyRequest<'a> {
    /// Sources onto nothing, as they are.
    pub fn new(sources: Vec<Source<'a>>, dest: &'a str) -> Self {
        Self { parent: None, sources, dest, chown: None, chmod: None, earlier: None, known: None }
    }
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

/// Copies into an empty directory, which becomes the layer in overlayfs' form, and gives its index.
///
/// The rules are BuildKit's. The destination is followed through symlinks, also dangling ones,
/// within the file system; what is below it is not. Of a directory its contents are copied; a top
/// directory that is made is 0755 (or the octal `--chmod`), one that exists keeps its mode and
/// owner, and those below take the source's. Hardlinks stay within one source. A file named `.wh.x`
/// hides `x`, since that is what it means in a layer.
pub fn copy(
    request: &CopyRequest<'_>,
    out_dir: &Path,
    form: impl Into<OverlayFormat>,
) -> Result<WrittenLayer, CopyError> {
    let mut copier = decide(request, Some(out_dir))?;
    let top = root_of(request.parent);
    let mut made = place(copier.draft, out_dir, form.into(), &top)?;
    made.changed.append(&mut copier.changed);
    Ok(made)
}

/// Decides as [`copy`] does, and writes nothing: the files stay where they are. `None` where that
/// cannot be: an archive is to be unpacked, or bytes stand in the instruction.
pub fn copy_unwritten(request: &CopyRequest<'_>) -> Result<Option<UnwrittenLayer>, CopyError> {
    let stays = |source: &Source<'_>| matches!(source, Source::Selected { unpack: false, .. });
    if !request.sources.iter().all(stays) {
        return Ok(None);
    }
    Ok(UnwrittenLayer::new(decide(request, None)?.draft.finish())?)
}

/// `spool` is where the bytes of unpacked archives wait.
fn decide<'a>(request: &CopyRequest<'a>, spool: Option<&Path>) -> Result<Copier<'a>, CopyError> {
    let chmod = request.chmod.map(ModeChange::parse).transpose()?;
    let mut copier = Copier {
        draft: LayerBuilder::new(request.parent),
        made_dir: Entry {
            mode: chmod.as_ref().map_or(0o755, ModeChange::of_made_dirs),
            uid: request.chown.map_or(0, |(uid, _)| uid),
            gid: request.chown.map_or(0, |(_, gid)| gid),
            mtime: now(),
            ..Entry::new_dir(TreePath::root())
        },
        chown: request.chown,
        chmod,
        earlier: request.earlier.map(|earlier| (&*earlier.tree, Arc::new(earlier.files.clone()))),
        groups: HashMap::new(),
        spooled: 0,
        changed: Vec::new(),
    };
    for source in &request.sources {
        match source {
            Source::Selected { selection, unpack } => {
                let files: Vec<Arc<LayerFiles>> =
                    selection.source.layers().iter().map(|layer| Arc::new(layer.files.clone())).collect();
                for one in &selection.matches {
                    if let (true, Some(spool)) = (*unpack, spool)
                        && copier.unpack(selection, one, request.dest, spool)?
                    {
                        continue;
                    }
                    copier.copy(selection, one, &files, request.dest)?;
                }
            }
            Source::Inline { name, content } => copier.inline(name, content, request.dest)?,
        }
    }
    if let Some(known) = request.known {
        copier.draft.take_times(known);
    }
    Ok(copier)
}

/// Makes a directory and the missing ones above it, all 0755 and of the given owner, as WORKDIR
/// does. The layer is empty if it is there already.
pub fn make_dir(
    parent: &Stack,
    path: &str,
    uid: u32,
    gid: u32,
    out_dir: &Path,
    form: impl Into<OverlayFormat>,
) -> Result<WrittenLayer, CopyError> {
    let mut draft = LayerBuilder::new(Some(parent));
    let made_dir = Entry { uid, gid, mtime: now(), ..Entry::new_dir(TreePath::root()) };
    let at = draft.resolve(&TreePath::root(), path.as_bytes(), true)?;
    make_dirs(&mut draft, &at, &made_dir)?;
    Ok(place(draft, out_dir, form.into(), &root_of(Some(parent)))?)
}

fn root_of(parent: Option<&Stack>) -> Entry {
    parent
        .and_then(|parent| parent.lookup(&TreePath::root()))
        .map_or_else(|| Entry::new_dir(TreePath::root()), |found| found.entry.clone())
}

/// Makes a directory and all above it, unless it is there.
fn make_dirs(draft: &mut LayerBuilder<'_>, at: &TreePath, made_dir: &Entry) -> Result<(), CopyError> {
    match draft.look(at) {
        _ if at.is_root() => Ok(()),
        Some(entry) if entry.is_dir() => Ok(()),
        Some(_) => Err(ResolveError::NotADirectory(at.clone()).into()),
        None => {
            let entry = Entry { path: at.clone(), ..made_dir.clone() };
            draft.put(Node { entry, bytes: ByteSource::None, group: None }, made_dir);
            Ok(())
        }
    }
}

struct Copier<'a> {
    draft: LayerBuilder<'a>,
    chown: Option<(u32, u32)>,
    chmod: Option<ModeChange>,
    earlier: Option<(&'a Tree, Arc<LayerFiles>)>,
    /// What a directory is that is made on the way to the destination.
    made_dir: Entry,
    /// What has several names in the current source and was met, with its group.
    groups: HashMap<(usize, TreePath), u64>,
    /// Files of archives that wait in the spool.
    spooled: u64,
    changed: Vec<TreePath>,
}

impl Copier<'_> {
    /// Makes the directories on the way to the destination, and says where it is and whether it is
    /// a directory.
    fn destination(&mut self, dest: &str) -> Result<(TreePath, bool), CopyError> {
        let directory = match dest.rsplit_once('/') {
            Some((_, "" | ".")) => dest,
            Some((above, _)) => above,
            None => "",
        };
        let directory = self.draft.resolve(&TreePath::root(), directory.as_bytes(), true)?;
        make_dirs(&mut self.draft, &directory, &self.made_dir)?;
        let at = self.draft.resolve(&TreePath::root(), dest.as_bytes(), true)?;
        let is_dir = at.is_root() || self.draft.look(&at).is_some_and(Entry::is_dir);
        Ok((at, is_dir))
    }

    fn copy(
        &mut self,
        selection: &Selection,
        one: &Match,
        files: &[Arc<LayerFiles>],
        dest: &str,
    ) -> Result<(), CopyError> {
        let mut paths = selection.paths(one);
        let Some(top) = paths.next() else { return Ok(()) };
        let (mut at, at_is_dir) = self.destination(dest)?;
        // Hardlinks survive within one source.
        self.groups.clear();
        if !top.entry.is_dir() {
            if at_is_dir {
                at = child(&at, one.named.file_name().unwrap_or_default())?;
            }
            let node = self.node_of(&top, files, at);
            return self.put_file(node);
        }
        make_dirs(&mut self.draft, &at, &self.made_dir)?;
        if !at.is_root() {
            if !self.draft.look(&at).is_some_and(Entry::is_dir) {
                return Err(ResolveError::NotADirectory(at).into());
            }
            self.draft.make_parents(&child(&at, b"x")?, &self.made_dir);
            self.draft.change(&at, |entry| entry.mtime = top.entry.mtime);
        }
        for item in paths {
            let path = at.join(item.rel);
            if item.entry.is_dir() {
                self.put_dir(&item, path)?;
            } else {
                let node = self.node_of(&item, files, path);
                self.put_file(node)?;
            }
        }
        Ok(())
    }

    fn inline(&mut self, name: &str, content: &[u8], dest: &str) -> Result<(), CopyError> {
        let (mut at, at_is_dir) = self.destination(dest)?;
        if at_is_dir {
            at = child(&at, name.rsplit('/').next().unwrap_or(name).as_bytes())?;
        }
        let kind = EntryKind::File { size: content.len() as u64, content: ContentDigest::of(content) };
        let mut entry = Entry { kind, mode: 0o644, mtime: now(), ..Entry::new_dir(at) };
        self.own(&mut entry);
        self.put_file(Node { entry, bytes: ByteSource::Inline(content.into()), group: None })
    }

    /// Unpacks a source if it is an archive; whether it was.
    fn unpack(
        &mut self,
        selection: &Selection,
        one: &Match,
        dest: &str,
        out: &Path,
    ) -> Result<bool, CopyError> {
        let Some(item) = selection.paths(one).next() else { return Ok(false) };
        let (Some((layer, path)), EntryKind::File { content, .. }) = (item.file, item.kind) else {
            return Ok(false);
        };
        let open = || match selection.source.layers()[layer].files.open()? {
            Some(opened) => {
                let (root, path) = opened.at(path)?;
                Ok(root.open_file(path)?.0)
            }
            None => Err(crate::LayerError::NotUnpacked { path: path.clone() }),
        };
        if !extract::is_archive(open()?) {
            return Ok(false);
        }
        let at = self.draft.resolve(&TreePath::root(), dest.as_bytes(), true)?;
        make_dirs(&mut self.draft, &at, &Entry { mode: 0o755, ..self.made_dir.clone() })?;
        let mut reader = extract::HashingReader::new(open()?);
        let limits = UnpackLimits::default();
        let decompressed = crate::decompress(&mut reader).map_err(crate::LayerError::from)?;
        let read = extract::read(decompressed, out, self.spooled, &limits, ArchivePurpose::Add)?;
        self.spooled = read.spooled;
        if reader.finish().on("read", path.as_path()).map_err(crate::LayerError::from)? != *content {
            self.changed.push(at.clone());
        }
        let mut applied = ArchiveApplier::new(&mut self.draft, &at, self.chown, ArchivePurpose::Add);
        for operation in read.operations {
            applied.apply(operation)?;
        }
        Ok(true)
    }

    /// Owner and mode as the instruction says.
    fn own(&self, entry: &mut Entry) {
        if let Some((uid, gid)) = self.chown {
            (entry.uid, entry.gid) = (uid, gid);
        }
        if let (Some(chmod), false) = (&self.chmod, matches!(entry.kind, EntryKind::Symlink { .. })) {
            entry.mode = chmod.apply(entry.mode, entry.is_dir());
        }
    }

    fn node_of(&mut self, item: &SelectedEntry<'_>, files: &[Arc<LayerFiles>], path: TreePath) -> Node {
        let as_there = Entry { path, kind: item.kind.clone(), ..item.entry.clone() };
        let mut entry = as_there.clone();
        self.own(&mut entry);
        let draft = &mut self.draft;
        let (layer, first) = item.first_name;
        let group = item
            .has_links
            .then(|| *self.groups.entry((layer, first.clone())).or_insert_with(|| draft.new_group()));
        let Some((layer, path)) = item.file else { return Node { entry, bytes: ByteSource::None, group } };
        let files = &files[layer];
        let earlier = match &self.earlier {
            Some((tree, earlier)) if matches!(**files, LayerFiles::Live(_)) => {
                tree.get(&entry.path).filter(|known| **known == entry).map(|known| (known, earlier))
            }
            _ => None,
        };
        let bytes = match earlier {
            Some((known, earlier)) => {
                // Both have the one path.
                entry.path = known.path.clone();
                ByteSource::Layer { files: Arc::clone(earlier), path: known.path.clone(), linkable: true }
            }
            None => {
                let (files, path) = LayerFiles::origin(files, path);
                let linkable =
                    entry.same_but_path_and_time(&as_there) && matches!(*files, LayerFiles::Snapshot(_));
                ByteSource::Layer { files, path, linkable }
            }
        };
        Node { entry, bytes, group }
    }

    fn put_file(&mut self, node: Node) -> Result<(), CopyError> {
        let path = &node.entry.path;
        if let Some((parent, name)) = path.split()
            && let Some(hidden) = name.strip_prefix(b".wh.")
        {
            let parent = TreePath::from_bytes(parent).map_err(ResolveError::from)?;
            match hidden {
                b".wh..opq" => self.draft.hide_contents(&parent, &self.made_dir),
                _ => self.draft.hide(&child(&parent, hidden)?),
            }
            return Ok(());
        }
        if self.draft.look(path).is_some_and(Entry::is_dir) {
            let why = DestinationConflict::Directory;
            return Err(CopyError::Destination { path: path.clone(), why });
        }
        self.draft.put(node, &self.made_dir);
        Ok(())
    }

    /// A directory below the source's own.
    fn put_dir(&mut self, item: &SelectedEntry<'_>, path: TreePath) -> Result<(), CopyError> {
        let existing = self.draft.look(&path);
        let mut entry = Entry { path, ..item.entry.clone() };
        entry.kind = EntryKind::Dir { opaque: false };
        match existing {
            Some(existing) if !existing.is_dir() => {
                let why = match &existing.kind {
                    EntryKind::Symlink { target } => {
                        DestinationConflict::Link { target: String::from_utf8_lossy(target).into_owned() }
                    }
                    _ => DestinationConflict::File,
                };
                return Err(CopyError::Destination { path: entry.path, why });
            }
            // A directory that is only led through changes the mode of one that exists, and nothing
            // else.
            Some(existing) if item.only_parent => {
                entry = Entry { mode: entry.mode, ..existing.clone() };
                if let EntryKind::Dir { opaque } = &mut entry.kind
                    && self.draft.own(&entry.path).is_none()
                {
                    *opaque = false;
                }
            }
            _ => self.own(&mut entry),
        }
        self.draft.put(Node { entry, bytes: ByteSource::None, group: None }, &self.made_dir);
        Ok(())
    }
}

fn child(path: &TreePath, name: &[u8]) -> Result<TreePath, CopyError> {
    Ok(path.child(name).map_err(ResolveError::from)?)
}

#[cfg(test)]
#[path = "tests/copy.rs"]
mod tests;
