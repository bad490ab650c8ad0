//! The part of a context that the sources of a build can select.
//!
//! Sources are followed on disk here, as [`crate::copy::select`] follows them in the finished tree,
//! so that nothing else need be read. One promise holds it together: selecting from a tree that was
//! walked with a filter gives what selecting from the tree of the whole context gives, in errors
//! too. It follows that no source depends on which others there are. Walking too much is no fault,
//! only slow; walking too little is one.

use std::collections::{BTreeMap, HashSet};

use dbuild_support::io_context::IoError;
use dbuild_support::resolve_links::{PendingPath, TooManyLinks};
use rustix::fs::FileType;
use rustix::io::Errno;

use crate::context::glob;
use crate::disk::{self, Root};
use crate::{Ignore, LayerError, TreePath};

/// Paths without symlinks, as a tree of names.
#[derive(Debug, Default)]
pub(crate) struct PathFilter {
    top: Node,
}

#[derive(Debug, Default)]
struct Node {
    /// With all that is below.
    all: bool,
    children: BTreeMap<Box<[u8]>, Node>,
}

/// Where a path of a walk stands in a filter. Paths that stand nowhere are not walked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position<'a> {
    /// `None`: below a directory that is taken as a whole.
    node: Option<&'a Node>,
}

impl PathFilter {
    /// The filter that everything passes.
    pub(crate) fn everything() -> Self {
        Self { top: Node { all: true, children: BTreeMap::new() } }
    }

    /// What the sources lead to: relative paths, possibly with wildcards. The symlinks and
    /// directories on the way pass, too, since a source is resolved through them.
    pub(crate) fn new(root: &Root, ignore: &Ignore, sources: &[String]) -> Result<Self, LayerError> {
        let mut top = Node::default();
        for source in sources {
            // A pattern of --parents is read without the white space around it.
            let mut texts = vec![source.as_str()];
            texts.extend(Some(source.trim()).filter(|trimmed| trimmed != source));
            for text in texts {
                let Ok(path) = TreePath::clean(text.as_bytes()) else { continue };
                if glob::has_slash_class(path.as_bytes()) {
                    return Ok(Self::everything());
                }
                let components: Vec<&[u8]> = path.components().collect();
                let mut way = Way { root, ignore, top: &mut top, seen: HashSet::new() };
                way.follow_all(&components)?;
            }
        }
        Ok(Self { top })
    }

    /// Where the root of the context stands.
    pub(crate) fn start(&self) -> Position<'_> {
        Position::of(&self.top)
    }
}

impl<'a> Position<'a> {
    fn of(node: &'a Node) -> Self {
        Self { node: Some(node).filter(|node| !node.all) }
    }

    /// Where a name in this directory stands.
    pub(crate) fn below(self, name: &[u8]) -> Option<Self> {
        match self.node {
            None => Some(self),
            Some(node) => node.children.get(name).map(Self::of),
        }
    }

    /// Whether the path passes with everything below it.
    pub(crate) fn is_whole(self) -> bool {
        self.node.is_none()
    }
}

impl Node {
    fn at(&mut self, path: &TreePath) -> &mut Node {
        path.components().fold(self, |node, name| node.children.entry(name.into()).or_default())
    }
}

/// Where a source has led, and its components that are left.
type Branch<'c> = (TreePath, Vec<&'c [u8]>);

/// The ways on which one source leads into the context.
struct Way<'a> {
    root: &'a Root,
    ignore: &'a Ignore,
    top: &'a mut Node,
    /// Directories that were listed already, with how many components were left there: without
    /// this, names such as `*` in directories of the same name would double the work with each
    /// level.
    seen: HashSet<(TreePath, usize)>,
}

impl Way<'_> {
    /// Follows a source, whose wildcards branch.
    fn follow_all(&mut self, components: &[&[u8]]) -> Result<(), LayerError> {
        let mut branches = vec![(TreePath::root(), components.to_vec(), None)];
        while let Some((at, rest, name)) = branches.pop() {
            let Some((dir, rest)) = self.follow(at, &rest, name)? else { continue };
            let Some((pattern, after)) = rest.split_first() else {
                self.top.at(&dir).all = true;
                continue;
            };
            // Recursive with --parents; elsewhere it is no more than one level.
            if pattern.windows(2).any(|two| two == b"**") {
                self.top.at(&dir).all = true;
            }
            if !self.seen.insert((dir.clone(), rest.len())) {
                continue;
            }
            for name in names(self.root, &dir)? {
                // A mount's source is never a pattern, so the name itself counts as well.
                if *name == **pattern || glob::matches(pattern, &name) {
                    branches.push((dir.clone(), after.to_vec(), Some(name)));
                }
            }
        }
        Ok(())
    }

    /// Follows components from a directory, `name` first, to the first that has wildcards, or to
    /// the end. Gives where that is, with what is left; nothing where the way ends before.
    fn follow<'c>(
        &mut self,
        mut at: TreePath,
        components: &[&'c [u8]],
        name: Option<Box<[u8]>>,
    ) -> Result<Option<Branch<'c>>, LayerError> {
        let mut rest = components;
        let mut pending = PendingPath::new(&name.unwrap_or_default());
        loop {
            let component: Box<[u8]> = match (pending.next_component(), rest) {
                (Some(component), _) => component,
                (None, [first, after @ ..]) if !is_pattern(first) => {
                    rest = after;
                    (*first).into()
                }
                (None, _) => return Ok(Some((at, rest.to_vec()))),
            };
            match &*component {
                b"" | b"." => continue,
                b".." => {
                    at = at.parent().unwrap_or_default();
                    continue;
                }
                _ => {}
            }
            let Ok(next) = at.child(&component) else { return Ok(None) };
            let Some(kind) = self.kind_of(&next)? else {
                // A `..` after it leads back, as it does when a path is resolved.
                at = next;
                continue;
            };
            self.top.at(&next);
            match kind {
                FileType::Directory => at = next,
                FileType::Symlink => {
                    let target = self.root.read_link(&next)?;
                    match pending.follow(&target) {
                        Ok(true) => at = TreePath::root(),
                        Ok(false) => {}
                        Err(TooManyLinks) => return Ok(None),
                    }
                }
                _ => return Ok(None),
            }
        }
    }

    /// What stands at a path, unless the ignore file surely leaves it out.
    fn kind_of(&self, path: &TreePath) -> Result<Option<FileType>, LayerError> {
        let kind = match self.root.stat(path) {
            Ok(stat) => stat.kind,
            Err(errno) if disk::is_gone(Some(errno)) => return Ok(None),
            Err(errno) => return Err(LayerError::from(IoError::new("stat", self.root.full(path), errno))),
        };
        let is_dir = kind == FileType::Directory;
        let is_ignored = self.ignore.matches(path) && !(is_dir && self.ignore.may_reinclude_below(path));
        Ok((!is_ignored).then_some(kind))
    }
}

/// The names in a directory; none if it is not there.
fn names(root: &Root, dir: &TreePath) -> Result<Vec<Box<[u8]>>, LayerError> {
    match root.list(dir) {
        Ok(listed) => Ok(listed.into_iter().map(|(name, _)| name).collect()),
        Err(error) if error.io_error().is_some_and(|error| disk::is_gone(Errno::from_io_error(error))) => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// Whether a component can mean other names than its own.
fn is_pattern(component: &[u8]) -> bool {
    component.contains(&b'\\') || glob::has_wildcards(component)
}
