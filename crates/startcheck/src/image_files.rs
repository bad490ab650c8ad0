//! The files of an image as the analysis sees them, and how the kernel follows a path in them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use dbuild_support::resolve_links::KERNEL_MAX_LINKS;

use crate::accounts::Who;

/// No file is read further than this at once.
const MAX_READ: usize = 1 << 20;

/// The files of an image. Whoever implements it follows no links: that is done here.
pub trait Files {
    /// What stands at exactly this absolute path; `/` is the root.
    fn lookup(&self, path: &str) -> Option<Node>;

    /// The names in a directory, sorted.
    fn names(&self, dir: &str) -> Vec<String>;

    /// At most `len` bytes of a regular file from `offset` on; fewer at its end. `None` where its bytes are not at hand:
    /// then what depends on them is unknown.
    fn read(&self, path: &str, offset: u64, len: usize) -> Option<Vec<u8>>;
}

/// One path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file of so many bytes.
    File(u64),
    /// A directory.
    Dir,
    /// A symbolic link with this text.
    Link(String),
    /// A device, a pipe.
    Other,
}

/// The files as somebody sees them: links followed, permissions heeded, each path looked up once.
pub(crate) struct View<'a> {
    files: &'a dyn Files,
    known: RefCell<HashMap<String, Option<Rc<Node>>>>,
    listed: RefCell<HashMap<String, Rc<Vec<String>>>>,
    libraries: RefCell<HashMap<String, Rc<Vec<String>>>>,
    pub(crate) who: Who,
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Without links.
    pub(crate) path: String,
    pub(crate) node: Rc<Node>,
}

/// Why a path leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Nothing is at `path`; `link` is the last symbolic link that was followed to it.
    Missing { path: String, link: Option<String> },
    /// It stands where a directory should.
    NotADirectory(String),
    /// It is below a directory that is filled when the image runs: `/proc`, `/dev`, `/sys`.
    AtRunTime(String),
    /// Links in a circle.
    Loop(String),
    /// A directory that the user may not enter.
    Denied(String),
}

impl Node {
    pub(crate) fn is_dir(&self) -> bool {
        self.kind == NodeKind::Dir
    }

    pub(crate) fn is_file(&self) -> bool {
        matches!(self.kind, NodeKind::File(_))
    }
}

impl<'a> View<'a> {
    pub(crate) fn new(files: &'a dyn Files, who: Who) -> Self {
        Self {
            files,
            known: RefCell::default(),
            listed: RefCell::default(),
            libraries: RefCell::default(),
            who,
        }
    }

    /// Follows an absolute path, the link at its end too.
    pub(crate) fn walk(&self, path: &str) -> Result<Place, Broken> {
        let mut pending: Vec<String> = components(path);
        let mut at = String::new();
        let (mut links, mut link) = (0, None);
        let mut node = self.lookup("/").unwrap_or_else(|| Rc::new(plain_root()));
        while let Some(name) = pending.pop() {
            if name == ".." {
                at.truncate(at.rfind('/').unwrap_or(0));
                node = self.lookup(if at.is_empty() { "/" } else { &at }).unwrap_or(node);
                continue;
            }
            if !node.is_dir() {
                return Err(Broken::NotADirectory(at));
            }
            if !self.who.may(&node, 1) {
                return Err(Broken::Denied(if at.is_empty() { "/".to_owned() } else { at }));
            }
            let next = format!("{at}/{name}");
            let Some(found) = self.lookup(&next) else {
                let is_there_later = |dir: &&&str| next == ***dir || next.starts_with(&format!("{dir}/"));
                if let Some(dir) = ["/proc", "/dev", "/sys"].iter().find(is_there_later) {
                    return Err(Broken::AtRunTime((*dir).to_owned()));
                }
                let rest = pending.iter().rev().map(|name| format!("/{name}"));
                return Err(Broken::Missing { path: rest.fold(next, |path, name| path + &name), link });
            };
            if let NodeKind::Link(target) = &found.kind {
                links += 1;
                if links > KERNEL_MAX_LINKS {
                    return Err(Broken::Loop(path.to_owned()));
                }
                if target.starts_with('/') {
                    at.clear();
                    node = self.lookup("/").unwrap_or_else(|| Rc::new(plain_root()));
                }
                pending.extend(components(target));
                link = Some(next);
                continue;
            }
            at = next;
            node = found;
        }
        Ok(Place { path: if at.is_empty() { "/".to_owned() } else { at }, node })
    }

    /// The regular file that a path leads to.
    pub(crate) fn file(&self, path: &str) -> Option<Place> {
        self.walk(path).ok().filter(|place| place.node.is_file())
    }

    /// The directory that a path leads to, without links.
    pub(crate) fn dir(&self, path: &str) -> Option<String> {
        self.walk(path).ok().filter(|place| place.node.is_dir()).map(|place| place.path)
    }

    /// The names in the directory that a path leads to.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let Some(dir) = self.dir(path) else { return Vec::new() };
        let mut listed = self.listed.borrow_mut();
        let names = listed.entry(dir).or_insert_with_key(|dir| Rc::new(self.files.names(dir)));
        names.as_ref().clone()
    }

    /// Those of them that end in `.so`: few, where the names are many.
    pub(crate) fn libraries(&self, path: &str) -> Rc<Vec<String>> {
        if let Some(known) = self.libraries.borrow().get(path) {
            return Rc::clone(known);
        }
        let names = self.names(path).into_iter().filter(|name| name.ends_with(".so"));
        let libraries = Rc::new(names.collect());
        self.libraries.borrow_mut().insert(path.to_owned(), Rc::clone(&libraries));
        libraries
    }

    /// Bytes of a file that [`View::walk`] found.
    pub(crate) fn read_at(&self, path: &str, offset: u64, len: usize) -> Option<Vec<u8>> {
        self.files.read(path, offset, len.min(MAX_READ))
    }

    /// The first `limit` bytes of the file that a path leads to, as text; `None` where there is none or it is not at hand.
    pub(crate) fn text(&self, path: &str, limit: usize) -> Option<String> {
        let bytes = self.read_at(&self.file(path)?.path, 0, limit)?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn lookup(&self, path: &str) -> Option<Rc<Node>> {
        if let Some(known) = self.known.borrow().get(path) {
            return known.clone();
        }
        let node = self.files.lookup(path).map(Rc::new);
        self.known.borrow_mut().insert(path.to_owned(), node.clone());
        node
    }
}

/// A path below a directory; an absolute one stays.
pub(crate) fn join(dir: &str, path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", dir.trim_end_matches('/')) }
}

/// The last name of a path.
pub(crate) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The directory of an absolute path.
pub(crate) fn parent(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(end) => &path[..end],
    }
}

/// The names of a path, last first.
fn components(path: &str) -> Vec<String> {
    path.split('/').rev().filter(|name| !matches!(*name, "" | ".")).map(str::to_owned).collect()
}

fn plain_root() -> Node {
    Node { kind: NodeKind::Dir, mode: 0o755, uid: 0, gid: 0 }
}
