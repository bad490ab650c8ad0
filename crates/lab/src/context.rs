//! The build context of a commit: its files as a tree, its Dockerfile, its ignore file.

use std::collections::HashMap;
use std::sync::Arc;

use dbuild_digest::{ContentDigest, ContentHasher};
use dbuild_frontend::Source;
use dbuild_layer::{Entry, EntryKind, Ignore, MatchedPatterns, Tree, TreePath};

use crate::LabError;
use crate::git::{Commit, ItemKind, Objects, Oid, TreeItem};

/// More than this is no Dockerfile and no ignore file.
const LARGEST: u64 = 16 << 20;

/// Reads trees and blobs, each object once.
pub(crate) struct Blobs {
    objects: Objects,
    trees: HashMap<Oid, Arc<Vec<TreeItem>>>,
    contents: HashMap<Oid, (ContentDigest, u64)>,
    links: HashMap<Oid, Box<[u8]>>,
    /// Where a content can be read again.
    blobs: HashMap<ContentDigest, Oid>,
    /// Contents without the lines that a rule of the cost file does not count.
    code: HashMap<(ContentDigest, String), ContentDigest>,
}

/// What a build of a commit would begin with.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) dockerfile: Source,
    pub(crate) ignore: Ignore,
    /// What is not ignored.
    pub(crate) tree: Arc<Tree>,
    /// Where the bytes of its files and links are.
    pub(crate) blobs: Vec<(TreePath, Oid)>,
    pub(crate) submodules: usize,
}

/// Why a commit has no context.
#[derive(Debug)]
pub(crate) enum NoContext {
    /// There is no Dockerfile at the place.
    NoDockerfile,
    /// What is wrong with it.
    Bad(String),
}

impl Blobs {
    pub(crate) fn new(objects: Objects) -> Self {
        Self {
            objects,
            trees: HashMap::new(),
            contents: HashMap::new(),
            links: HashMap::new(),
            blobs: HashMap::new(),
            code: HashMap::new(),
        }
    }

    /// The bytes of a blob.
    pub(crate) fn bytes(&self, oid: Oid) -> Result<Vec<u8>, LabError> {
        self.objects.read(oid)
    }

    /// The context of a commit below `prefix`, and in it the Dockerfile (`None`: by its usual
    /// names).
    pub(crate) fn context(
        &mut self,
        commit: &Commit,
        prefix: &str,
        file: Option<&str>,
    ) -> Result<Result<Context, NoContext>, LabError> {
        let Some(root) = self.below(commit.tree, prefix)? else { return Ok(Err(NoContext::NoDockerfile)) };
        let names: &[&str] = match &file {
            Some(file) => &[file],
            None => &["Dockerfile", "Containerfile"],
        };
        let mut found = None;
        for name in names {
            if found.is_none() {
                found = self.small_file(root, name)?.map(|bytes| (*name, bytes));
            }
        }
        let Some((name, bytes)) = found else { return Ok(Err(NoContext::NoDockerfile)) };
        let dockerfile = Source::from_bytes(name, &bytes);
        let mut ignore = Ignore::default();
        for ignored_by in [format!("{name}.dockerignore"), ".dockerignore".to_owned()] {
            if let Some(bytes) = self.small_file(root, &ignored_by)? {
                ignore = match Ignore::parse(&bytes) {
                    Ok(ignore) => ignore,
                    Err(error) => return Ok(Err(NoContext::Bad(format!("{ignored_by}: {error}")))),
                };
                break;
            }
        }
        let mut walk = Walk { entries: Vec::new(), blobs: Vec::new(), submodules: 0 };
        self.walk(root, &TreePath::root(), &ignore, &MatchedPatterns::default(), false, &mut walk)?;
        let tree = match Tree::from_entries(walk.entries) {
            Ok(tree) => Arc::new(tree),
            Err(error) => return Ok(Err(NoContext::Bad(error.to_string()))),
        };
        Ok(Ok(Context { dockerfile, ignore, tree, blobs: walk.blobs, submodules: walk.submodules }))
    }

    /// The bytes of a content that was met.
    pub(crate) fn size(&self, content: &ContentDigest) -> Option<u64> {
        self.contents.get(self.blobs.get(content)?).map(|(_, size)| *size)
    }

    /// The digest of a file's lines, without empty ones and those that begin with one of these
    /// marks.
    pub(crate) fn code(&mut self, content: ContentDigest, marks: &[String]) -> ContentDigest {
        if marks.is_empty() {
            return content;
        }
        let key = (content, marks.join("\n"));
        if let Some(known) = self.code.get(&key) {
            return *known;
        }
        let bytes = self.blobs.get(&content).and_then(|oid| self.objects.read(*oid).ok());
        let code = bytes.map_or(content, |bytes| {
            let counts = |line: &&[u8]| {
                let line = line.trim_ascii();
                !line.is_empty() && !marks.iter().any(|mark| line.starts_with(mark.as_bytes()))
            };
            let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').filter(counts).collect();
            ContentDigest::of(&lines.join(&b'\n'))
        });
        self.code.insert(key, code);
        code
    }

    fn tree(&mut self, oid: Oid) -> Result<Arc<Vec<TreeItem>>, LabError> {
        if let Some(known) = self.trees.get(&oid) {
            return Ok(Arc::clone(known));
        }
        let items = Arc::new(self.objects.tree(oid)?);
        self.trees.insert(oid, Arc::clone(&items));
        Ok(items)
    }

    /// The entry at a path.
    fn find(&mut self, root: Oid, path: &str) -> Result<Option<TreeItem>, LabError> {
        let mut found: Option<TreeItem> = None;
        let mut at = root;
        for name in path.split('/').filter(|name| !name.is_empty() && *name != ".") {
            if found.as_ref().is_some_and(|item| item.kind != ItemKind::Directory) {
                return Ok(None);
            }
            let items = self.tree(at)?;
            let Some(item) = items.iter().find(|item| item.name == name.as_bytes()) else { return Ok(None) };
            at = item.oid;
            found = Some(item.clone());
        }
        Ok(found)
    }

    fn below(&mut self, root: Oid, prefix: &str) -> Result<Option<Oid>, LabError> {
        if prefix.is_empty() {
            return Ok(Some(root));
        }
        let item = self.find(root, prefix)?;
        Ok(item.filter(|item| item.kind == ItemKind::Directory).map(|item| item.oid))
    }

    /// The bytes of a file. A link is not followed.
    fn small_file(&mut self, root: Oid, path: &str) -> Result<Option<Vec<u8>>, LabError> {
        match self.find(root, path)? {
            Some(TreeItem { kind: ItemKind::File { .. }, oid, .. }) if self.content(oid)?.1 <= LARGEST => {
                self.objects.read(oid).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn content(&mut self, oid: Oid) -> Result<(ContentDigest, u64), LabError> {
        if let Some(known) = self.contents.get(&oid) {
            return Ok(*known);
        }
        let mut hasher = ContentHasher::default();
        let size = self.objects.stream(oid, &mut |chunk| hasher.update(chunk))?;
        let content = hasher.finish();
        self.contents.insert(oid, (content, size));
        self.blobs.insert(content, oid);
        Ok((content, size))
    }

    fn link(&mut self, oid: Oid) -> Result<Box<[u8]>, LabError> {
        if let Some(known) = self.links.get(&oid) {
            return Ok(known.clone());
        }
        let target: Box<[u8]> = self.objects.read(oid)?.into();
        self.links.insert(oid, target.clone());
        Ok(target)
    }

    /// As `dbuild_layer::walk_context` walks a directory: an ignored one appears if something in it
    /// is not ignored.
    fn walk(
        &mut self,
        dir: Oid,
        path: &TreePath,
        ignore: &Ignore,
        above: &MatchedPatterns,
        is_ignored: bool,
        walk: &mut Walk,
    ) -> Result<(), LabError> {
        let items = self.tree(dir)?;
        let mut pending = is_ignored.then(|| Entry::new_dir(path.clone()));
        for item in items.iter() {
            // Names that git takes and a tree does not: nothing a checkout would give.
            let Ok(at) = path.child(&item.name) else { continue };
            let (ignored, matched) = match ignore.is_empty() {
                true => (false, MatchedPatterns::default()),
                false => ignore.matches_below(&at, above),
            };
            if ignored && !(item.kind == ItemKind::Directory && ignore.may_reinclude_below(&at)) {
                continue;
            }
            let before = walk.entries.len();
            let kind = match item.kind {
                ItemKind::Submodule => {
                    walk.submodules += 1;
                    continue;
                }
                ItemKind::Directory => {
                    if !ignored {
                        walk.entries.push(Entry::new_dir(at.clone()));
                    }
                    self.walk(item.oid, &at, ignore, &matched, ignored, walk)?;
                    None
                }
                ItemKind::Symlink => {
                    let target = self.link(item.oid)?;
                    Some((EntryKind::Symlink { target }, 0o777))
                }
                ItemKind::File { executable } => {
                    let (content, size) = self.content(item.oid)?;
                    Some((EntryKind::File { size, content }, if executable { 0o755 } else { 0o644 }))
                }
            };
            if let Some((kind, mode)) = kind {
                walk.entries.push(Entry { kind, mode, ..Entry::new_dir(at.clone()) });
                walk.blobs.push((at, item.oid));
            }
            if walk.entries.len() > before {
                walk.entries.extend(pending.take());
            }
        }
        Ok(())
    }
}

/// What a walk has found.
struct Walk {
    entries: Vec<Entry>,
    blobs: Vec<(TreePath, Oid)>,
    submodules: usize,
}
