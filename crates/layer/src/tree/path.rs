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
/// Clones share the bytes: a path stands in the index of a context, in what a COPY selects of it,
/// and in the layer that it makes.
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

    /// Takes bytes that are clean already: no empty component, no `.` or `..`, no NUL, not
    /// absolute, no component over 255 bytes, at most [`MAX_PATH`] bytes in all.
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
        if self.is_root() || name.is_empty() || fault(name).is_some() {
            return Self::from_bytes(name).map(|name| self.join(&name));
        }
        // Made once for each file of a context, so with one allocation where it can be.
        let mut short = [0; 256];
        let length = self.0.len() + 1 + name.len();
        let Some(joined) = short.get_mut(..length) else {
            let joined = [&*self.0, b"/", name].concat();
            return if length > MAX_PATH { Self::from_bytes(&joined) } else { Ok(Self(joined.into())) };
        };
        joined[..self.0.len()].copy_from_slice(&self.0);
        joined[self.0.len()] = b'/';
        joined[self.0.len() + 1..].copy_from_slice(name);
        Ok(Self((&*joined).into()))
    }

    /// Compares with the bytes of another path, in the order of paths.
    pub fn cmp_bytes(&self, other: &[u8]) -> Ordering {
        compare(&self.0, other)
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

fn compare(a: &[u8], b: &[u8]) -> Ordering {
    // A slash counts as less than every other byte, which compares component by component.
    let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
    match a.iter().zip(b).find(|(a, b)| a != b) {
        Some((a, b)) => rank(*a).cmp(&rank(*b)),
        None => a.len().cmp(&b.len()),
    }
}

impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
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
    fn a_child_is_the_path_that_its_bytes_are() {
        let deep = "d/".repeat(200);
        for parent in ["", "a", "a/b", deep.trim_end_matches('/')] {
            for name in ["x", "x/y", "", &"n".repeat(255)] {
                let joined = [parent, name].join("/");
                let child = path(parent).child(name.as_bytes()).unwrap();
                assert_eq!(child.as_bytes(), joined.trim_matches('/').as_bytes());
            }
            for bad in ["..", "/x", "a\0", &"n".repeat(256)] {
                assert!(path(parent).child(bad.as_bytes()).is_err(), "{bad:?}");
            }
        }
        let long = path(["n".repeat(255).as_str(); 15].join("/").as_str());
        assert!(
            long.child("n".repeat(255).as_bytes()).is_ok()
                && path("a/b").join(&long).child(&[b'n'; 255]).is_err()
        );
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
        assert!(paths.is_sorted_by(|a, b| a.cmp_bytes(b.as_bytes()).is_lt()));
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
