//! Following a path component by component, symbolic links included.

/// Maximum number of links that are followed in one path of an image or a context, as in Docker.
pub const MAX_LINKS: usize = 255;
/// Maximum number of links that the kernel follows in one path: for paths that it resolves too.
pub const KERNEL_MAX_LINKS: usize = 40;

/// One link too many was met: most likely they lead to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many symbolic links")]
pub struct TooManyLinks;

/// The components of a path that are not walked yet; the target of a link takes the place of the
/// link.
#[derive(Clone, Debug)]
pub struct PendingPath {
    /// The next one last.
    components: Vec<Box<[u8]>>,
    links: usize,
}

impl PendingPath {
    /// Begins with all components of a path.
    pub fn new(path: &[u8]) -> Self {
        let mut pending = Self { components: Vec::new(), links: 0 };
        pending.push(path);
        pending
    }

    /// The next component: a name or `..`.
    pub fn next_component(&mut self) -> Option<Box<[u8]>> {
        loop {
            match self.components.pop()? {
                dot if *dot == *b"." => {}
                component => return Some(component),
            }
        }
    }

    /// Whether nothing follows, not even a `.`: a link before it is the last of the path then.
    pub fn is_empty(&self) -> bool {
        self.components.is_empty()
    }

    /// Goes on with the target of a link; whether it is absolute, so that it begins at the root.
    pub fn follow(&mut self, target: &[u8]) -> Result<bool, TooManyLinks> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(TooManyLinks);
        }
        self.push(target);
        Ok(target.first() == Some(&b'/'))
    }

    fn push(&mut self, path: &[u8]) {
        let components = path.split(|byte| *byte == b'/').filter(|component| !component.is_empty());
        self.components.extend(components.rev().map(Into::into));
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_LINKS, PendingPath, TooManyLinks};

    #[test]
    fn a_link_is_replaced_by_its_target() {
        let mut pending = PendingPath::new(b"/a/./link//b");
        assert_eq!(pending.next_component().as_deref(), Some(&b"a"[..]));
        assert_eq!(pending.next_component().as_deref(), Some(&b"link"[..]));
        assert!(!pending.follow(b"../c").unwrap());
        let rest: Vec<_> = std::iter::from_fn(|| pending.next_component()).collect();
        assert_eq!(rest.iter().map(|part| &**part).collect::<Vec<_>>(), [&b".."[..], b"c", b"b"]);
        assert!(pending.follow(b"/").unwrap());
        assert!(pending.is_empty());
    }

    #[test]
    fn links_that_lead_to_each_other_end() {
        let mut pending = PendingPath::new(b"loop");
        let mut followed = 0;
        while pending.next_component().is_some() {
            match pending.follow(b"loop") {
                Ok(_) => followed += 1,
                Err(TooManyLinks) => break,
            }
        }
        assert_eq!(followed, MAX_LINKS);
    }
}
