//! Mending what keeps a store from being opened.
//!
//! A store that can be opened mends itself, or is verified ([`Store::verify`]). Before that come
//! the files that opening needs: a `format` that says nothing, a directory where a file should be.
//! They are only touched by who asks for it, since a build must not take a damaged `format` for its
//! own.

use std::fs;
use std::io;
use std::path::Path;

use dbuild_layer::OverlayFlavor;
use dbuild_support::io_context::IoContext as _;

use crate::format::{self, FILES, FormatFile, RESERVE, ROOMS, flavor_of_snapshots};
use crate::gc::verify::Finding;
use crate::publish::remove_tree;
use crate::{Store, StoreError};

impl Store {
    /// [`Store::open`] after mending what keeps it from opening; with what was mended.
    pub fn open_to_repair(dir: &Path, flavor: OverlayFlavor) -> Result<(Self, Vec<Finding>), StoreError> {
        let mut findings = Vec::new();
        if dir.is_dir() {
            // A directory that is something else is not touched.
            format::is_ours(dir)?;
            mend_kinds(dir, &mut findings)?;
            mend_format(dir, flavor, &mut findings)?;
        }
        Ok((Self::open(dir, flavor)?, findings))
    }
}

/// Removes what is no file where a file belongs, and what is no directory where a directory does.
/// It is made anew.
fn mend_kinds(dir: &Path, findings: &mut Vec<Finding>) -> Result<(), StoreError> {
    let database = ["dbuild.db", "dbuild.db-wal", "dbuild.db-shm"];
    let files = FILES.iter().chain(&database).map(|name| (*name, false));
    let rooms = ROOMS.iter().chain(&[RESERVE]).map(|name| (*name, true));
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

/// Removes a `format` that says nothing; opening makes another. One that is right stays, also one
/// of a newer dbuild.
fn mend_format(dir: &Path, flavor: OverlayFlavor, findings: &mut Vec<Finding>) -> Result<(), StoreError> {
    let path = dir.join("format");
    let problem = match format::read_format(&path)? {
        Some(FormatFile::Damaged(problem)) => problem,
        None | Some(FormatFile::Whole { .. }) => return Ok(()),
    };
    let made_by = flavor_of_snapshots(dir)?.unwrap_or(flavor);
    format::write_format(dir, made_by)?;
    findings.push(Finding { path, problem });
    Ok(())
}
