//! How a path is followed through symlinks.

use crate::{ResolveError, TreePath};

/// Links that may be followed on the way to one path (as many as Docker follows).
pub(crate) const MAX_LINKS: usize = 255;

/// What a path component is, for [`resolve_with`].
pub(crate) enum Step {
    Missing,
    Dir,
    Link(Box<[u8]>),
    Other,
}

/// The one place that knows how a path is followed; `look` says what stands at a path without symlinks.
pub(crate) fn resolve_with(
    root: &TreePath,
    path: &[u8],
    follow_last: bool,
    mut look: impl FnMut(&TreePath) -> Step,
) -> Result<TreePath, ResolveError> {
    let name = || TreePath::clean(path).unwrap_or_default();
    let mut pending: Vec<Box<[u8]>> = Vec::new();
    push_components(&mut pending, path);
    let mut at = root.clone();
    let mut links = 0;
    while let Some(component) = pending.pop() {
        match &*component {
            b"." => continue,
            b".." => {
                if at != *root {
                    at = at.parent().unwrap_or_default();
                }
                continue;
            }
            _ => {}
        }
        let next = at.child(&component)?;
        match look(&next) {
            Step::Link(target) if follow_last || !pending.is_empty() => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(ResolveError::TooManyLinks(name()));
                }
                if target.first() == Some(&b'/') {
                    at = root.clone();
                }
                push_components(&mut pending, &target);
            }
            Step::Other | Step::Link(_) if !pending.is_empty() => {
                return Err(ResolveError::NotADirectory(next));
            }
            _ => at = next,
        }
    }
    Ok(at)
}

fn push_components(pending: &mut Vec<Box<[u8]>>, path: &[u8]) {
    let components = path.split(|byte| *byte == b'/').filter(|component| !component.is_empty());
    pending.extend(components.rev().map(Into::into));
}
