//! How the kernel follows a path in the files of an image, as one user.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use dbuild_support::resolve_links::KERNEL_MAX_LINKS;

use crate::image_files::{Files, Node, NodeKind};
use crate::user::User;

/// Maximum number of bytes read at once.
const MAX_READ: usize = 1 << 20;

/// The files as somebody sees them: links followed, permissions heeded, each path looked up once.
pub(crate) struct View<'a> {
    files: &'a dyn Files,
    known: RefCell<HashMap<String, Option<Rc<Node>>>>,
    listed: RefCell<HashMap<String, Rc<Vec<String>>>>,
    libraries: RefCell<HashMap<String, Rc<Vec<String>>>>,
    pub(crate) user: User,
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    /// Without links.
    pub(crate) path: String,
    pub(crate) node: Rc<Node>,
}

/// Why a path leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PathError {
    /// Nothing is at `path`; `link` is the last symbolic link that was followed to it.
    Missing { path: String, link: Option<String> },
    /// It stands where a directory should.
    NotADirectory(String),
    /// It is below a directory that is filled when the image runs: `/proc`, `/dev`, `/sys`.
    AtRunTime(String),
    /// A cycle of links.
    Loop(String),
    /// A directory that the user may not enter.
    Denied(String),
}

impl<'a> View<'a> {
    pub(crate) fn new(files: &'a dyn Files, user: User) -> Self {
        Self {
            files,
            known: RefCell::default(),
            listed: RefCell::default(),
            libraries: RefCell::default(),
            user,
        }
    }

    /// Follows an absolute path, the link at its end too.
    pub(crate) fn walk(&self, path: &str) -> Result<Location, PathError> {
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
                return Err(PathError::NotADirectory(at));
            }
            if !self.user.may(&node, 1) {
                return Err(PathError::Denied(if at.is_empty() { "/".to_owned() } else { at }));
            }
            let next = format!("{at}/{name}");
            let Some(found) = self.lookup(&next) else {
                let is_there_later = |dir: &&&str| next == ***dir || next.starts_with(&format!("{dir}/"));
                if let Some(dir) = ["/proc", "/dev", "/sys"].iter().find(is_there_later) {
                    return Err(PathError::AtRunTime((*dir).to_owned()));
                }
                let rest = pending.iter().rev().map(|name| format!("/{name}"));
                return Err(PathError::Missing { path: rest.fold(next, |path, name| path + &name), link });
            };
            if let NodeKind::Link(target) = &found.kind {
                links += 1;
                if links > KERNEL_MAX_LINKS {
                    return Err(PathError::Loop(path.to_owned()));
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
        Ok(Location { path: if at.is_empty() { "/".to_owned() } else { at }, node })
    }

    /// The regular file that a path leads to.
    pub(crate) fn file(&self, path: &str) -> Option<Location> {
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

    /// The first `limit` bytes of the file that a path leads to, as text; `None` where there is
    /// none or its content is not available.
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

/// The names of a path, last first.
fn components(path: &str) -> Vec<String> {
    path.split('/').rev().filter(|name| !matches!(*name, "" | ".")).map(str::to_owned).collect()
}

fn plain_root() -> Node {
    Node { kind: NodeKind::Dir, mode: 0o755, uid: 0, gid: 0 }
}
