//! How a path is followed through symlinks.

use dbuild_support::resolve_links::PendingPath;

use crate::{ResolveError, TreePath};

/// What a path component is, for [`resolve_with`].
pub(crate) enum PathComponent {
    Missing,
    Dir,
    Link(Box<[u8]>),
    Other,
}

/// The one place that knows how a path is followed; `look` says what stands at a path without
/// symlinks.
pub(crate) fn resolve_with(
    root: &TreePath,
    path: &[u8],
    follow_last: bool,
    mut look: impl FnMut(&TreePath) -> PathComponent,
) -> Result<TreePath, ResolveError> {
    let name = || TreePath::clean(path).unwrap_or_default();
    let mut pending = PendingPath::new(path);
    let mut at = root.clone();
    while let Some(component) = pending.next_component() {
        if *component == *b".." {
            if at != *root {
                at = at.parent().unwrap_or_default();
            }
            continue;
        }
        let next = at.child(&component)?;
        match look(&next) {
            PathComponent::Link(target) if follow_last || !pending.is_empty() => {
                if pending.follow(&target).map_err(|_| ResolveError::TooManyLinks(name()))? {
                    at = root.clone();
                }
            }
            PathComponent::Other | PathComponent::Link(_) if !pending.is_empty() => {
                return Err(ResolveError::NotADirectory(next));
            }
            _ => at = next,
        }
    }
    Ok(at)
}
