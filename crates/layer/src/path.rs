//! Paths inside a tree.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

/// The longest path that is taken, in bytes (PATH_MAX of Linux).
pub const MAX_PATH: usize = 4096;

/// A relative, slash-separated, clean path of bytes; the root is empty.
///
/// The order is by component: a directory comes before what is in it, and a subtree is contiguous.
///
/// Clones share the bytes: a path stands in the index of a context, in what a COPY selects of it, and in the layer that it makes.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct TreePath(Arc<[u8]>);

/// Bytes that are no [`TreePath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` is not a clean relative path: {reason}")]
pub struct PathError {
    path: String,
    reason: &'static str,
}

impl TreePath {
    /// The root.
    pub fn root() -> Self {
        Self::default()
    }

    /// Takes bytes that are clean already: no empty component, no `.` or `..`, no NUL, not absolute,
    /// no component over 255 bytes, at most [`MAX_PATH`] bytes in all.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PathError> {
        match fault(bytes) {
            None => Ok(Self(bytes.into())),
            Some(reason) => {
                Err(PathError { path: String::from_utf8_lossy(bytes).chars().take(200).collect(), reason })
            }
        }
    }

    /// Cleans a path as people write it, absolute or relative to the root: `.` and empty components
    /// vanish, `..` takes one back and stops at the root. Symlinks are not considered.
    pub fn clean(bytes: &[u8]) -> Result<Self, PathError> {
        let mut components: Vec<&[u8]> = Vec::new();
        for component in bytes.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => {
                    components.pop();
                }
                other => components.push(other),
            }
        }
        Self::from_bytes(&components.join(&b'/'))
    }

    /// The bytes, without a leading or trailing slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as a relative path of the operating system; `.` for the root.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(if self.is_root() { b"." } else { &self.0 }))
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// This path with one more component, or several (`other` is relative to this one).
    pub fn join(&self, other: &TreePath) -> TreePath {
        if self.is_root() {
            return other.clone();
        }
        if other.is_root() {
            return self.clone();
        }
        Self([&*self.0, b"/", &*other.0].concat().into())
    }

    /// This path with one more name; names with `/` and the like are refused.
    pub fn child(&self, name: &[u8]) -> Result<TreePath, PathError> {
        let name = Self::from_bytes(name)?;
        let joined = self.join(&name);
        if joined.0.len() > MAX_PATH {
            return Self::from_bytes(&joined.0);
        }
        Ok(joined)
    }

    /// The directory that it lies in; `None` for the root.
    pub fn parent(&self) -> Option<TreePath> {
        self.split().map(|(parent, _)| Self(parent.into()))
    }

    /// The last component; `None` for the root.
    pub fn file_name(&self) -> Option<&[u8]> {
        self.split().map(|(_, name)| name)
    }

    /// The bytes of the parent and the last component.
    pub fn split(&self) -> Option<(&[u8], &[u8])> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (b"", &self.0),
        })
    }

    /// The components, none for the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
    }

    /// Whether it is `prefix` or lies below it.
    pub fn starts_with(&self, prefix: &TreePath) -> bool {
        self.strip_prefix(prefix).is_some()
    }

    /// The rest below `prefix`; the root if both are equal, `None` if it does not lie there.
    pub fn strip_prefix(&self, prefix: &TreePath) -> Option<TreePath> {
        if prefix.is_root() {
            return Some(self.clone());
        }
        match self.0.strip_prefix(&*prefix.0)? {
            [] => Some(Self::root()),
            [b'/', rest @ ..] => Some(Self(rest.into())),
            _ => None,
        }
    }

    /// The directories above it, the nearest first, the root last.
    pub fn ancestors(&self) -> impl Iterator<Item = TreePath> {
        std::iter::successors(self.parent(), TreePath::parent)
    }
}

fn fault(bytes: &[u8]) -> Option<&'static str> {
    if bytes.is_empty() {
        return None;
    }
    if bytes.len() > MAX_PATH {
        return Some("it is too long");
    }
    if bytes.contains(&0) {
        return Some("it holds a NUL byte");
    }
    bytes.split(|byte| *byte == b'/').find_map(|component| match component {
        b"" => Some("it has an empty component"),
        b"." | b".." => Some("it has a component `.` or `..`"),
        long if long.len() > 255 => Some("a name in it is longer than 255 bytes"),
        _ => None,
    })
}

impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> Ordering {
        // A slash counts as less than every other byte, which compares component by component.
        let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
        match self.0.iter().zip(&*other.0).find(|(a, b)| a != b) {
            Some((a, b)) => rank(*a).cmp(&rank(*b)),
            None => self.0.len().cmp(&other.0.len()),
        }
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As people see it: with a leading slash, and with U+FFFD for bytes that are no UTF-8.
impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreePath({:?})", String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::TreePath;

    fn path(text: &str) -> TreePath {
        TreePath::from_bytes(text.as_bytes()).unwrap()
    }

    #[test]
    fn only_clean_paths_are_taken() {
        for bad in ["/", "/a", "a/", "a//b", ".", "a/./b", "..", "a/..", "a\0b", &"x".repeat(256)] {
            assert!(TreePath::from_bytes(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(TreePath::from_bytes("a/".repeat(3000).trim_end_matches('/').as_bytes()).is_err());
        for good in ["", "a", "a/b", "..a", ".wh.x", &"x".repeat(255)] {
            assert_eq!(path(good).as_bytes(), good.as_bytes());
        }
    }

    #[test]
    fn cleaning_stops_at_the_root() {
        for (words, clean) in [("/a//x/../y/", "a/y"), ("../../a", "a"), (".", ""), ("/", ""), ("a/..", "")] {
            assert_eq!(TreePath::clean(words.as_bytes()).unwrap(), path(clean), "{words}");
        }
    }

    #[test]
    fn subtrees_are_contiguous_and_directories_come_first() {
        let mut paths = ["a-b", "a/z", "b", "a", "", "a/b/c", "a/b", "a.b", "a/b-c"].map(path);
        paths.sort();
        let order: Vec<String> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(order, ["/", "/a", "/a/b", "/a/b/c", "/a/b-c", "/a/z", "/a-b", "/a.b", "/b"]);
    }

    #[test]
    fn prefixes_end_at_components() {
        assert!(path("a/b").starts_with(&path("a")));
        assert!(path("a/b").starts_with(&path("")));
        assert!(!path("ab").starts_with(&path("a")));
        assert_eq!(path("a/b/c").strip_prefix(&path("a")), Some(path("b/c")));
        let above: Vec<TreePath> = path("a/b/c").ancestors().collect();
        assert_eq!(above, [path("a/b"), path("a"), path("")]);
    }
}
