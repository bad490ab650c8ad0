//! The reason why a context does not have a path: what an error may say of an ignore file only
//! where it is so.

use std::path::Path;

use dbuild_support::io_context::IoError;
use rustix::fs::FileType;

use crate::context::ignore::DecidingPattern;
use crate::context::walk::{holds_anything, is_left_out};
use crate::disk::{self, Root, Stat};
use crate::tree::resolve::{PathComponent, resolve_with};
use crate::{Ignore, LayerError, TreePath};

/// The place where a path ends that is not in a context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absence {
    /// The path that is not there, without symlinks: the one that was asked for, a directory above
    /// it, or where a symlink leads.
    pub path: TreePath,
    /// Why it is not.
    pub why: AbsenceReason,
    /// The last symlink on the way, with its target.
    pub link: Option<(TreePath, String)>,
}

/// Why a context does not have a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AbsenceReason {
    /// Nothing is there.
    NotOnDisk,
    /// Something is there, and a pattern leaves it out.
    Ignored(DecidingPattern),
    /// It is a device, and a context has none.
    Device,
    /// It is no directory, and more of the path follows.
    NotADirectory,
}

/// Looks up why a context does not have a path, without wildcards and relative to its root,
/// symlinks followed. `None` if it has the path, or if the path leads in a circle.
pub fn explain_absence(root: &Path, ignore: &Ignore, path: &str) -> Result<Option<Absence>, LayerError> {
    let root = Root::open(root, true)?;
    let (mut end, mut link, mut failed) = (None, None, None::<LayerError>);
    let resolved = resolve_with(&TreePath::root(), path.as_bytes(), true, |at| {
        if end.is_some() || failed.is_some() {
            return PathComponent::Missing;
        }
        let looked = look(&root, ignore, at).and_then(|found| match found {
            Ok(stat) => step_of(&root, at, &stat),
            Err(why) => {
                end = Some((at.clone(), why));
                Ok(PathComponent::Missing)
            }
        });
        let step = looked.unwrap_or_else(|error| {
            failed = Some(error);
            PathComponent::Missing
        });
        if let PathComponent::Link(target) = &step {
            link = Some((at.clone(), String::from_utf8_lossy(target).into_owned()));
        }
        step
    });
    if let Some(error) = failed {
        return Err(error);
    }
    let absence = |(path, why)| Absence { path, why, link: link.clone() };
    Ok(match (end, resolved) {
        (Some(end), _) => Some(absence(end)),
        (None, Err(crate::ResolveError::NotADirectory(path))) => {
            Some(absence((path, AbsenceReason::NotADirectory)))
        }
        _ => None,
    })
}

/// Whether a path is left out itself, whatever symlinks lead to or from it, though something is
/// there.
pub fn is_ignored(root: &Path, ignore: &Ignore, path: &TreePath) -> Result<bool, LayerError> {
    let root = Root::open(root, true)?;
    Ok(matches!(look(&root, ignore, path)?, Err(AbsenceReason::Ignored(_))))
}

fn look(root: &Root, ignore: &Ignore, path: &TreePath) -> Result<Result<Stat, AbsenceReason>, LayerError> {
    let stat = match root.stat(path) {
        Ok(stat) => stat,
        Err(errno) if disk::is_gone(Some(errno)) => return Ok(Err(AbsenceReason::NotOnDisk)),
        Err(errno) => return Err(LayerError::from(IoError::new("stat", root.full(path), errno))),
    };
    if is_left_out(stat.kind) {
        return Ok(Err(AbsenceReason::Device));
    }
    let Some(pattern) = ignore.deciding_pattern(path) else { return Ok(Ok(stat)) };
    let appears = stat.kind == FileType::Directory
        && ignore.may_reinclude_below(path)
        && holds_anything(root, ignore, path, &ignore.matched_at(path))?;
    Ok(if appears { Ok(stat) } else { Err(AbsenceReason::Ignored(pattern)) })
}

fn step_of(root: &Root, path: &TreePath, stat: &Stat) -> Result<PathComponent, LayerError> {
    Ok(match stat.kind {
        FileType::Directory => PathComponent::Dir,
        FileType::Symlink => PathComponent::Link(root.read_link(path)?),
        _ => PathComponent::Other,
    })
}

#[cfg(test)]
#[path = "tests/absence.rs"]
mod tests;
