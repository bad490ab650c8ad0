//! Mending what keeps a store from being opened.
//!
//! A store that can be opened mends itself, or is verified ([`Store::verify`]). Before that come the files that opening needs: a
//! `format` that says nothing, a directory where a file should be. They are only touched by who asks for it, since a build
//! must not take a damaged `format` for its own.

use std::fs;
use std::io;
use std::path::Path;

use dbuild_layer::OverlayFlavor;

use crate::error::Context;
use crate::gc::verify::Finding;
use crate::publish::remove_tree;
use crate::store::{self, FILES, FormatFile, ROOMS};
use crate::{Store, StoreError};

/// Maximum number of files that are looked at to find out how a store marks what is deleted.
const MOST_FILES: usize = 200_000;

impl Store {
    /// [`Store::open`] after mending what keeps it from opening; with what was mended.
    pub fn open_to_repair(dir: &Path, flavor: OverlayFlavor) -> Result<(Self, Vec<Finding>), StoreError> {
        let mut findings = Vec::new();
        if dir.is_dir() {
            // A directory that is something else is not touched.
            store::is_ours(dir)?;
            mend_kinds(dir, &mut findings)?;
            mend_format(dir, flavor, &mut findings)?;
        }
        Ok((Self::open(dir, flavor)?, findings))
    }
}

/// Removes what is no file where a file belongs, and what is no directory where a directory does. It is made anew.
fn mend_kinds(dir: &Path, findings: &mut Vec<Finding>) -> Result<(), StoreError> {
    let database = ["dbuild.db", "dbuild.db-wal", "dbuild.db-shm"];
    let files = FILES.iter().chain(&database).map(|name| (*name, false));
    let rooms = ROOMS.iter().chain(&[crate::gc::reserve::RESERVE]).map(|name| (*name, true));
    for (name, is_room) in files.chain(rooms) {
        let path = dir.join(name);
        let kind = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.on("read", &path)?.file_type(),
        };
        let problem = match is_room {
            false if !kind.is_file() => "it is no file",
            true if !kind.is_dir() => "it is no directory",
            _ => continue,
        };
        remove_tree(&path).on("remove", &path)?;
        findings.push(Finding { path, problem: problem.to_owned() });
    }
    Ok(())
}

/// Removes a `format` that says nothing; opening makes another. One that is right stays, also one of a newer dbuild.
fn mend_format(dir: &Path, flavor: OverlayFlavor, findings: &mut Vec<Finding>) -> Result<(), StoreError> {
    let path = dir.join("format");
    let problem = match store::read_format(&path)? {
        Some(FormatFile::Damaged(problem)) => problem,
        None | Some(FormatFile::Whole { .. }) => return Ok(()),
    };
    let made_by = flavor_of_snapshots(dir)?.unwrap_or(flavor);
    store::write_format(dir, made_by)?;
    findings.push(Finding { path, problem });
    Ok(())
}

/// How the snapshots of a store mark what overlayfs must know; `None` where none has a mark, so that any way fits.
pub(crate) fn flavor_of_snapshots(root: &Path) -> Result<Option<OverlayFlavor>, StoreError> {
    let mut rest = vec![root.join("snapshots")];
    let mut left = MOST_FILES;
    while let Some(dir) = rest.pop() {
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.on("read", &dir)?,
        };
        for entry in entries {
            let entry = entry.on("read", &dir)?;
            left = left.saturating_sub(1);
            if left == 0 {
                return Ok(None);
            }
            let path = entry.path();
            if let Some(flavor) = flavor_of(&path) {
                return Ok(Some(flavor));
            }
            if entry.file_type().on("read", &path)?.is_dir() {
                rest.push(path);
            }
        }
    }
    Ok(None)
}

fn flavor_of(path: &Path) -> Option<OverlayFlavor> {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).ok()?;
    let mut names = names[..length].split(|byte| *byte == 0);
    names.find_map(|name| match name {
        name if name.starts_with(b"trusted.overlay.") => Some(OverlayFlavor::Trusted),
        name if name.starts_with(b"user.overlay.") => Some(OverlayFlavor::User),
        _ => None,
    })
}
