//! Archives as sequences of operations: read once, with files' bytes going to the spool, then
//! applied to a [`LayerBuilder`] whose lower layers are known by then.

use std::fs::{DirBuilder, File};
use std::io::{Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use dbuild_digest::{ContentDigest, ContentHasher};
use dbuild_support::io_context::IoContext as _;

use crate::archive::estargz_entries;
use crate::archive::operation::ArchiveOperation;
use crate::archive::tar_reader::{self, Header};
use crate::disk::materialize::{SPOOL, spooled};
use crate::tree::layer_builder::LayerBuilder;
use crate::tree::layer_files::ByteSource;
use crate::tree::sorted_nodes::Node;
use crate::{ArchiveError, Entry, EntryKind, LayerError, Mtime, ResolveError, TreePath, UnpackLimits};

/// An archive that was read to its end.
#[derive(Debug)]
pub(crate) struct Archive {
    pub(crate) operations: Vec<ArchiveOperation>,
    /// The next free number of the spool.
    pub(crate) spooled: u64,
}

/// What an archive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArchivePurpose {
    /// A layer of an image, which names nothing above its root.
    Layer,
    /// A file that ADD unpacks as if its place were the root of everything: `..` ends there, and a
    /// directory is not made where a symlink leads to nothing.
    Add,
}

/// Reads a tar to its end. Bytes of files go to the spool in `out`, numbered from `first`.
pub(crate) fn read(
    reader: impl Read,
    out: &Path,
    first: u64,
    limits: &UnpackLimits,
    purpose: ArchivePurpose,
) -> Result<Archive, LayerError> {
    let spool = out.join(SPOOL);
    match DirBuilder::new().mode(0o700).create(&spool) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        other => other.on("create", &spool)?,
    }
    let mut reader = tar_reader::Reader::new(reader, limits.bytes);
    let mut archive = Archive { operations: Vec::new(), spooled: first };
    let mut buffer = vec![0; 256 << 10];
    while let Some(header) = reader.next()? {
        if archive.operations.len() as u64 >= limits.entries {
            return Err(ArchiveError::TooLarge { limit: limits.entries, unit: "entries" }.into());
        }
        let Some((path, kind)) = classify(&header, purpose)? else { continue };
        let operation = match kind {
            Kind::File => {
                let number = archive.spooled;
                archive.spooled += 1;
                let at = out.join(spooled(number));
                let content = spool_file(&mut reader, &at, &mut buffer)?;
                ArchiveOperation::Put(entry_of(&header, path, content), Some(number))
            }
            Kind::Other(kind) => ArchiveOperation::Put(entry_of(&header, path, kind), None),
            Kind::Link(target) => {
                let entry = entry_of(&header, path, EntryKind::Hardlink { target: target.clone() });
                ArchiveOperation::Link { entry, target }
            }
            Kind::Hide => ArchiveOperation::Hide(path),
            Kind::HideContents => ArchiveOperation::HideContents(path),
        };
        archive.operations.push(operation);
    }
    reader.drain()?;
    if purpose == ArchivePurpose::Layer {
        estargz_entries::leave_out(&mut archive.operations);
    }
    Ok(archive)
}

/// Whether a file is an archive, compressed or not: whether a first member can be read.
pub(crate) fn is_archive(file: File) -> bool {
    // What cannot be decompressed to a first member within this many bytes is none.
    const LIMIT: u64 = 4 << 20;
    let Ok(reader) = crate::decompress(file) else { return false };
    matches!(tar_reader::Reader::new(reader, LIMIT).next(), Ok(Some(_)))
}

enum Kind {
    File,
    Other(EntryKind),
    Link(TreePath),
    Hide,
    HideContents,
}

/// What an entry is, and its path. `None` for what is skipped.
fn classify(header: &Header, purpose: ArchivePurpose) -> Result<Option<(TreePath, Kind)>, ArchiveError> {
    let refuse = |why: String| ArchiveError::Refused { name: tar_reader::shown(&header.name), why };
    let path = inside(&header.name, purpose).map_err(|why| refuse(why.to_owned()))?;
    // Without a slash in front it means the place of the archive itself, of which nothing is said
    // then.
    if path.is_root() && purpose == ArchivePurpose::Add && !header.name.starts_with(b"/") {
        return Ok(None);
    }
    if let Some((parent, name)) = path.split()
        && let Some(hidden) = name.strip_prefix(b".wh.")
    {
        let clean = |bytes: &[u8]| {
            TreePath::from_bytes(bytes).map_err(|error| refuse(format!("is refused: {error}")))
        };
        let parent = clean(parent)?;
        return Ok(match hidden {
            b".wh..opq" => Some((parent, Kind::HideContents)),
            // Marks of AUFS itself (`.wh..wh.plnk` and the like).
            aufs if aufs.starts_with(b".wh.") => None,
            hidden => Some((parent.join(&clean(hidden)?), Kind::Hide)),
        });
    }
    let (major, minor) = header.device;
    let kind = match header.kind {
        // In the old format a directory is a file with a slash at the end.
        0 | b'0' | b'7' if header.name.ends_with(b"/") => Kind::Other(EntryKind::Dir { opaque: false }),
        0 | b'0' | b'7' => Kind::File,
        b'1' => Kind::Link(
            inside(&header.link, purpose)
                .map_err(|why| refuse(format!("is a hard link whose target {why}")))?,
        ),
        b'2' if header.link.len() > crate::MAX_PATH || header.link.contains(&0) || header.link.is_empty() => {
            return Err(refuse("is a symbolic link to an impossible path".to_owned()));
        }
        b'2' => Kind::Other(EntryKind::Symlink { target: header.link.clone().into() }),
        b'3' if (major, minor) == (0, 0) => return Err(refuse("is a device 0:0".to_owned())),
        b'3' => Kind::Other(EntryKind::CharDevice { major, minor }),
        b'4' => Kind::Other(EntryKind::BlockDevice { major, minor }),
        b'5' => Kind::Other(EntryKind::Dir { opaque: false }),
        b'6' => Kind::Other(EntryKind::Fifo),
        other => {
            let other = other.escape_ascii().to_string();
            return Err(refuse(format!("has the type `{other}`, which dbuild does not know")));
        }
    };
    match kind {
        Kind::Other(EntryKind::Dir { .. }) => {}
        _ if path.is_root() => return Err(refuse("would replace the root".to_owned())),
        _ => {}
    }
    Ok(Some((path, kind)))
}

/// The path of a name in an archive: a leading slash says nothing, and nothing leads above the
/// root.
fn inside(name: &[u8], purpose: ArchivePurpose) -> Result<TreePath, &'static str> {
    let mut depth = 0_i64;
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => depth -= 1,
            _ => depth += 1,
        }
        if depth < 0 && purpose == ArchivePurpose::Layer {
            return Err("leads out of the archive");
        }
    }
    TreePath::clean(name).map_err(|_| "has a name that is no path here")
}

fn entry_of(header: &Header, path: TreePath, kind: EntryKind) -> Entry {
    let mode = if matches!(kind, EntryKind::Symlink { .. }) { 0o777 } else { header.mode };
    let mut xattrs = header.xattrs.clone();
    // What overlayfs says with these, we say ourselves.
    xattrs.retain(|(name, _)| !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"user.overlay."));
    Entry { path, kind, mode, uid: header.uid, gid: header.gid, mtime: header.mtime, xattrs }
}

fn spool_file<R: Read>(
    reader: &mut tar_reader::Reader<R>,
    at: &Path,
    buffer: &mut [u8],
) -> Result<EntryKind, LayerError> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(at).on("create", at)?;
    let mut hasher = ContentHasher::default();
    let mut size = 0;
    loop {
        let got = reader.read_data(buffer)?;
        if got == 0 {
            return Ok(EntryKind::File { size, content: hasher.finish() });
        }
        hasher.update(&buffer[..got]);
        file.write_all(&buffer[..got]).on("write", at)?;
        size += got as u64;
    }
}

/// Applies operations to a draft, below one directory of it, which is the root for every path and
/// symlink in the archive.
pub(crate) struct ArchiveApplier<'d, 'a> {
    draft: &'d mut LayerBuilder<'a>,
    root: &'d TreePath,
    owner: Option<(u32, u32)>,
    purpose: ArchivePurpose,
    /// The directory of the entry before, as written and resolved: most entries share it.
    before: Option<(TreePath, TreePath)>,
}

impl<'d, 'a> ArchiveApplier<'d, 'a> {
    /// With `owner`, everything belongs to it.
    pub(crate) fn new(
        draft: &'d mut LayerBuilder<'a>,
        root: &'d TreePath,
        owner: Option<(u32, u32)>,
        purpose: ArchivePurpose,
    ) -> Self {
        Self { draft, root, owner, purpose, before: None }
    }

    pub(crate) fn apply(&mut self, operation: ArchiveOperation) -> Result<(), LayerError> {
        match operation {
            ArchiveOperation::Put(entry, spool) => self.put(entry, spool),
            ArchiveOperation::Link { entry, target } => self.link(entry, &target),
            ArchiveOperation::Hide(path) => {
                let at = self.place_of(&path)?;
                self.draft.hide(&at);
                Ok(())
            }
            ArchiveOperation::HideContents(path) => {
                let at = self.draft.resolve(self.root, path.as_bytes(), true)?;
                self.draft.hide_contents(&at, &implied(Mtime::default()));
                Ok(())
            }
        }
    }

    fn put(&mut self, mut entry: Entry, spool: Option<u64>) -> Result<(), LayerError> {
        let is_root = entry.path.is_root();
        entry.path = self.place_of(&entry.path)?;
        if let Some((uid, gid)) = self.owner {
            (entry.uid, entry.gid) = (uid, gid);
        }
        if is_root && self.purpose == ArchivePurpose::Add {
            self.put_destination(entry);
            return Ok(());
        }
        if !matches!(entry.kind, EntryKind::File { .. }) {
            self.before = None;
        }
        let implied = implied(entry.mtime);
        let bytes = spool.map_or(ByteSource::None, ByteSource::Spool);
        self.draft.put(Node { entry, bytes, group: None }, &implied);
        Ok(())
    }

    /// An entry `/` in a file of ADD: it says what the destination is, a directory that is there.
    /// The mode and the time of the root of the file system are no layer's, as in BuildKit; its
    /// owner holds for later steps.
    fn put_destination(&mut self, entry: Entry) {
        let there = self.draft.look(self.root).cloned();
        let there = there.unwrap_or_else(|| Entry::new_dir(self.root.clone()));
        let kind = match self.draft.own(self.root) {
            Some(node) => node.entry.kind.clone(),
            None => EntryKind::Dir { opaque: false },
        };
        let entry = match self.root.is_root() {
            true if (there.uid, there.gid) == (entry.uid, entry.gid) => return,
            true => Entry { kind, uid: entry.uid, gid: entry.gid, ..there },
            false => Entry { kind, xattrs: there.xattrs, ..entry },
        };
        let implied = implied(entry.mtime);
        self.draft.put(Node { entry, bytes: ByteSource::None, group: None }, &implied);
    }

    fn link(&mut self, mut entry: Entry, target: &TreePath) -> Result<(), LayerError> {
        let path = entry.path.clone();
        let refuse = |why: &str| ArchiveError::Refused {
            name: tar_reader::shown(path.as_bytes()),
            why: format!("is a hard link to {target}, which {why}"),
        };
        let at = self.place_of(&path)?;
        let target_at = self.draft.resolve(self.root, target.as_bytes(), false)?;
        if at == target_at {
            return Ok(());
        }
        let implied = implied(entry.mtime);
        let mut node = match self.draft.own(&target_at) {
            Some(node) => node.clone(),
            None => {
                // Both names are in this layer then: in two they would be two files.
                let node = self.draft.copy_from_below(&target_at).ok_or_else(|| refuse("is not there"))?;
                if !node.entry.is_dir() {
                    self.draft.put(node.clone(), &implied);
                }
                node
            }
        };
        match node.entry.kind {
            EntryKind::Dir { .. } => return Err(refuse("is a directory").into()),
            EntryKind::Whiteout => return Err(refuse("is not there").into()),
            _ => {}
        }
        let group = node.group.unwrap_or_else(|| self.draft.new_group());
        node.group = Some(group);
        self.draft.set_group(&target_at, group);
        self.before = None;
        entry.kind = node.entry.kind.clone();
        if let EntryKind::Symlink { .. } = entry.kind {
            entry.mode = node.entry.mode;
        }
        if let Some((uid, gid)) = self.owner {
            (entry.uid, entry.gid) = (uid, gid);
        }
        if entry.xattrs.is_empty() {
            entry.xattrs = node.entry.xattrs.clone();
        }
        node.entry.path = at;
        let same = node.entry.same_but_path_and_time(&entry) && node.entry.mtime == entry.mtime;
        self.draft.put(node, &implied);
        if !same {
            self.draft.set_meta_of_group(group, &entry);
        }
        Ok(())
    }

    /// Where a path of the archive is: symlinks above it are followed within the root, itself it is
    /// not.
    fn place_of(&mut self, path: &TreePath) -> Result<TreePath, LayerError> {
        let Some((parent, name)) = path.split() else { return Ok(self.root.clone()) };
        if let Some((written, resolved)) = &self.before
            && written.as_bytes() == parent
        {
            return Ok(resolved.child(name).map_err(ResolveError::from)?);
        }
        let resolved = self.draft.resolve(self.root, parent, true)?;
        let written = TreePath::from_bytes(parent).map_err(ResolveError::from)?;
        match self.draft.look(&resolved) {
            Some(entry) if entry.is_dir() => {}
            None if self.purpose == ArchivePurpose::Layer || !self.leads_to_nothing(&written)? => {}
            _ => return Err(ResolveError::NotADirectory(resolved).into()),
        }
        let at = resolved.child(name).map_err(ResolveError::from)?;
        self.before = Some((written, resolved));
        Ok(at)
    }

    /// Whether a symlink on the way to a directory of the archive dangles, the directory itself
    /// included: no directory is made where it points. Below what it leads to there may be one to
    /// make.
    fn leads_to_nothing(&self, directory: &TreePath) -> Result<bool, LayerError> {
        for path in std::iter::once(directory.clone()).chain(directory.ancestors()) {
            let last = self.draft.resolve(self.root, path.as_bytes(), false)?;
            let is_link = matches!(self.draft.look_kind(&last), Some(EntryKind::Symlink { .. }));
            if is_link {
                let end = self.draft.resolve(self.root, path.as_bytes(), true)?;
                if self.draft.look(&end).is_none() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// A directory that an archive needs and does not have.
fn implied(mtime: Mtime) -> Entry {
    Entry { mtime, ..Entry::new_dir(TreePath::root()) }
}

/// Hashes what is read through it.
#[derive(Debug)]
pub(crate) struct HashingReader<R> {
    inner: R,
    hasher: ContentHasher,
}

impl<R: Read> HashingReader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, hasher: ContentHasher::default() }
    }

    /// Reads the rest and gives the digest of all.
    pub(crate) fn finish(mut self) -> std::io::Result<ContentDigest> {
        std::io::copy(&mut self, &mut std::io::sink())?;
        Ok(self.hasher.finish())
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..got]);
        Ok(got)
    }
}

#[cfg(test)]
#[path = "tests/extract.rs"]
mod tests;
