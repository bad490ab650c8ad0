//! What the tests of this crate share: little trees written as text, layers made of them, and trees
//! shown as text.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{
    CopyError, CopyRequest, EntryKind, Ignore, LayerFiles, NoContentIndex, OverlayFlavor, OverlayFormat,
    Ownership, SelectOptions, Selection, Source, Stack, StackLayer, Tree, TreePath, WrittenLayer, copy,
    select, walk_context,
};

/// Files on disk that are gone after the test.
pub(crate) struct Space(tempfile::TempDir);

impl Space {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A new empty directory in it.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A directory with files: `a/` is a directory, `a -> b` a symlink, `a => b` a hardlink, `a |`
    /// a FIFO, `a 0755 = text` a file with a mode, `a = text` one with 0644. Parents are made.
    pub(crate) fn files(&self, name: &str, lines: &[&str]) -> PathBuf {
        let dir = self.dir(name);
        lines.iter().for_each(|line| make(&dir, line));
        dir
    }

    /// The files as a context.
    pub(crate) fn context(&self, name: &str, lines: &[&str]) -> Stack {
        let dir = self.files(name, lines);
        live(walk_context(&dir, &Ignore::default(), None, &NoContentIndex).unwrap(), &dir)
    }

    /// The files as a stack of one immutable layer, of root.
    pub(crate) fn layer(&self, name: &str, lines: &[&str]) -> Stack {
        let dir = self.files(name, lines);
        let tree = walk_context(&dir, &Ignore::default(), None, &NoContentIndex).unwrap();
        Stack::new(vec![snapshot(tree, &dir)])
    }

    /// Copies into the layer directory `out`.
    pub(crate) fn copy(&self, request: &CopyRequest<'_>) -> Result<WrittenLayer, CopyError> {
        let out = self.path("out");
        if out.exists() {
            fs::remove_dir_all(&out).unwrap();
        }
        copy(request, &self.dir("out"), form())
    }

    /// The layer directory `out` as a layer.
    pub(crate) fn out(&self, made: &WrittenLayer) -> StackLayer {
        snapshot(made.tree.clone(), &self.path("out"))
    }
}

pub(crate) fn snapshot(tree: Tree, dir: &Path) -> StackLayer {
    StackLayer { tree: Arc::new(tree), files: LayerFiles::Snapshot(dir.to_owned()) }
}

pub(crate) fn live(tree: Tree, dir: &Path) -> Stack {
    Stack::new(vec![StackLayer { tree: Arc::new(tree), files: LayerFiles::Live(dir.to_owned()) }])
}

/// Whether we are root, in a user namespace or not.
pub(crate) fn acts_as_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether we are root of the machine: only then all ids, `trusted.*` attributes and devices can be
/// had.
pub(crate) fn is_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    acts_as_root() && map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// As the tests' user can have it.
pub(crate) fn form() -> OverlayFormat {
    let flavor = if is_root() { OverlayFlavor::Trusted } else { OverlayFlavor::User };
    OverlayFormat { flavor, ownership: Ownership::BestEffort }
}

pub(crate) fn at(path: &str) -> TreePath {
    TreePath::from_bytes(path.as_bytes()).unwrap()
}

pub(crate) fn selected(source: &Stack, path: &str) -> Selection {
    select(source, path, &SelectOptions::default()).unwrap()
}

/// `COPY` of these selections, and nothing else said.
pub(crate) fn plain<'a>(
    parent: Option<&'a Stack>,
    sources: &'a [Selection],
    dest: &'a str,
) -> CopyRequest<'a> {
    let sources = sources.iter().map(|selection| Source::Selected { selection, unpack: false }).collect();
    CopyRequest { parent, ..CopyRequest::new(sources, dest) }
}

/// A tree, one line for each entry: `d0755 0:0 a`, `f0644 0:0 a/b 3` (bytes),
/// `h0644 0:0 a/c => a/b`, `l0777 0:0 x -> y`, `w a`, `o…` for opaque directories.
pub(crate) fn show(tree: &Tree) -> Vec<String> {
    tree.entries()
        .iter()
        .map(|entry| {
            let path = String::from_utf8_lossy(entry.path.as_bytes());
            let (letter, rest) = match &entry.kind {
                EntryKind::File { size, .. } => ('f', format!(" {size}")),
                EntryKind::Hardlink { target } => {
                    ('h', format!(" => {}", String::from_utf8_lossy(target.as_bytes())))
                }
                EntryKind::Dir { opaque } => (if *opaque { 'o' } else { 'd' }, String::new()),
                EntryKind::Symlink { target } => ('l', format!(" -> {}", String::from_utf8_lossy(target))),
                EntryKind::Fifo => ('p', String::new()),
                EntryKind::CharDevice { major, minor } => ('c', format!(" {major}:{minor}")),
                EntryKind::BlockDevice { major, minor } => ('b', format!(" {major}:{minor}")),
                EntryKind::Whiteout => return format!("w {path}"),
            };
            let attributes = if entry.xattrs.is_empty() { "" } else { " +x" };
            format!("{letter}{:04o} {}:{} {path}{rest}{attributes}", entry.mode, entry.uid, entry.gid)
        })
        .collect()
}

/// The text of a file of a stack.
pub(crate) fn text(stack: &Stack, path: &str) -> String {
    let bytes = stack.read_file(path, 1 << 20).unwrap().unwrap_or_else(|| panic!("{path} is no file"));
    String::from_utf8(bytes).unwrap()
}

/// The index must be what is on disk: overlay form, modes, links, contents.
pub(crate) fn assert_on_disk(made: &WrittenLayer, dir: &Path) {
    let tree = crate::walk_context(dir, &Ignore::default(), None, &NoContentIndex).unwrap();
    for entry in made.tree.entries() {
        match &entry.kind {
            EntryKind::Whiteout | EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } => {
                assert!(fs::symlink_metadata(dir.join(entry.path.as_path())).is_ok(), "{}", entry.path);
            }
            EntryKind::Dir { .. } if entry.path.is_root() => {}
            EntryKind::Dir { .. } => {
                let on_disk = tree.get(&entry.path).unwrap_or_else(|| panic!("{} is missing", entry.path));
                assert_eq!((on_disk.mode, on_disk.mtime), (entry.mode, entry.mtime), "{}", entry.path);
            }
            kind => {
                let on_disk = tree.get(&entry.path).unwrap_or_else(|| panic!("{} is missing", entry.path));
                assert_eq!((on_disk.mode, on_disk.mtime), (entry.mode, entry.mtime), "{}", entry.path);
                let file = |tree: &Tree| {
                    tree.get(&entry.path).and_then(|entry| tree.file_of(entry)).map(|e| e.kind.clone())
                };
                match kind {
                    EntryKind::File { .. } | EntryKind::Hardlink { .. } => {
                        assert_eq!(file(&tree), file(&made.tree), "{}", entry.path);
                    }
                    other => assert_eq!(&on_disk.kind, other, "{}", entry.path),
                }
            }
        }
    }
    let extra: Vec<_> = tree.entries().iter().filter(|entry| made.tree.get(&entry.path).is_none()).collect();
    assert!(extra.is_empty(), "{extra:?}");
}

fn make(dir: &Path, line: &str) {
    let (path, rest) = line.split_once(' ').unwrap_or((line, ""));
    let full = dir.join(path);
    fs::create_dir_all(full.parent().unwrap()).unwrap();
    if path.ends_with('/') {
        fs::create_dir_all(&full).unwrap();
        let mode = if rest.is_empty() { 0o755 } else { u32::from_str_radix(rest, 8).unwrap() };
        fs::set_permissions(&full, fs::Permissions::from_mode(mode)).unwrap();
    } else if let Some(target) = rest.strip_prefix("-> ") {
        symlink(target, &full).unwrap();
    } else if let Some(target) = rest.strip_prefix("=> ") {
        fs::hard_link(dir.join(target), &full).unwrap();
    } else if rest == "|" {
        let mode = rustix::fs::Mode::from_raw_mode(0o644);
        rustix::fs::mknodat(rustix::fs::CWD, &full, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    } else {
        let (mode, text) = rest.split_once("= ").unwrap_or((rest, ""));
        let mode = mode.trim();
        let mode = if mode.is_empty() { 0o644 } else { u32::from_str_radix(mode, 8).unwrap() };
        fs::write(&full, text).unwrap();
        fs::set_permissions(&full, fs::Permissions::from_mode(mode)).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        File::open(&full).unwrap().set_modified(time).unwrap();
    }
}

/// Writes tars of members as no honest tool would.
#[derive(Default)]
pub(crate) struct TarBuilder(pub(crate) Vec<u8>);

impl TarBuilder {
    pub(crate) fn file(self, name: &str, bytes: &[u8]) -> Self {
        self.member(b'0', name, "", bytes)
    }

    pub(crate) fn dir(self, name: &str) -> Self {
        self.member(b'5', name, "", b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.member(b'2', name, target, b"")
    }

    pub(crate) fn hardlink(self, name: &str, target: &str) -> Self {
        self.member(b'1', name, target, b"")
    }

    /// An extended header with these bytes as its records.
    pub(crate) fn pax(self, records: &[u8]) -> Self {
        self.member(b'x', "pax", "", records)
    }

    pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let rest = key.len() + value.len() + 3;
        let length = (rest..).find(|length| rest + length.to_string().len() == *length).unwrap();
        [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
    }

    pub(crate) fn member(mut self, kind: u8, name: &str, link: &str, bytes: &[u8]) -> Self {
        let header = raw_header(kind, name, link, bytes.len() as u64, |_| ());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A header, changed before its checksum is made.
pub(crate) fn raw_header(
    kind: u8,
    name: &str,
    link: &str,
    size: u64,
    change: impl FnOnce(&mut [u8; 512]),
) -> [u8; 512] {
    let mut block = [0_u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(if kind == b'5' { b"0000755" } else { b"0000644" });
    block[108..115].copy_from_slice(b"0000000");
    block[116..123].copy_from_slice(b"0000000");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[136..147].copy_from_slice(b"00003641100");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    change(&mut block);
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}
