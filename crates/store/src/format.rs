//! The layout of a store: its directories and files, and `format`, which says what they are.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use dbuild_layer::OverlayFlavor;
use dbuild_support::io_context::IoContext as _;
use serde::{Deserialize, Serialize};

use crate::StoreError;
use crate::ids::unique;
use crate::publish::{Durability, publish_bytes};

/// The version of the store's layout and of its database. A store with a larger one is refused.
pub const FORMAT: u32 = 1;

/// The directories of a store.
pub(crate) const ROOMS: [&str; 8] =
    ["blobs", "blobs/sha256", "snapshots", "indexes", "mounts", "tmp", "leases", "locks"];
/// The files of a store, as far as their names are fixed.
pub(crate) const FILES: [&str; 6] =
    ["oci-layout", "index.json", "format", "lock", "index.lock", "publish.lock"];

/// The directory of the reserve.
pub(crate) const RESERVE: &str = "reserve";
/// Bytes of all files of the reserve: a first deletion of rows, and the part of SQLite's log that
/// is mapped.
pub(crate) const RESERVE_BYTES: u64 = 1 << 20;
/// Maximum number of files that are looked at to find out how a store marks what is deleted.
const MOST_FILES: usize = 200_000;

/// The file `format`.
#[derive(Serialize, Deserialize)]
struct Format {
    format: u32,
    overlay: String,
}

fn overlay_word(flavor: &OverlayFlavor) -> &'static str {
    match flavor {
        OverlayFlavor::Trusted => "trusted",
        OverlayFlavor::User => "user",
    }
}

/// Makes a directory that only its owner can enter, unless it is there.
pub(crate) fn make_private_dir(path: &Path) -> Result<(), StoreError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => Ok(other.on("make", path)?),
    }
}

/// Refuses a directory that holds what no store does.
pub(crate) fn is_ours(dir: &Path) -> Result<(), StoreError> {
    if dir.join("format").symlink_metadata().is_ok() {
        return Ok(());
    }
    // What was damaged is kept beside its place.
    let set_aside = |name: &str| FILES.iter().any(|file| name.starts_with(&format!("{file}.damaged-")));
    let ours = |name: &str| {
        ROOMS.contains(&name)
            || FILES.contains(&name)
            || name == RESERVE
            || name.starts_with("dbuild.db")
            || set_aside(name)
    };
    for entry in fs::read_dir(dir).on("open", dir)? {
        if !ours(&entry.on("open", dir)?.file_name().to_string_lossy()) {
            return Err(StoreError::NotAStore { path: dir.to_owned() });
        }
    }
    Ok(())
}

/// What a file `format` says.
pub(crate) enum FormatFile {
    /// It is what some dbuild writes.
    Whole { number: serde_json::Value, flavor: Option<OverlayFlavor> },
    /// It says nothing, for this reason.
    Damaged(String),
}

/// Reads a file `format`; `None` where there is none.
pub(crate) fn read_format(path: &Path) -> Result<Option<FormatFile>, StoreError> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.on("read", path)?,
    };
    let value: serde_json::Value = match serde_json::from_slice(&bytes) {
        Ok(value) => value,
        Err(error) => return Ok(Some(FormatFile::Damaged(error.to_string()))),
    };
    let number = value["format"].clone();
    let flavor = [OverlayFlavor::Trusted, OverlayFlavor::User]
        .into_iter()
        .find(|flavor| value["overlay"].as_str() == Some(overlay_word(flavor)));
    Ok(Some(match (number.as_u64(), flavor) {
        // What a newer one writes beside its number is its own matter.
        (Some(newer), _) if newer > u64::from(FORMAT) => FormatFile::Whole { number, flavor },
        (Some(_), Some(_)) => FormatFile::Whole { number, flavor },
        (None, _) => FormatFile::Damaged("it has no number".to_owned()),
        (_, None) => FormatFile::Damaged("it does not say how the store marks deleted files".to_owned()),
    }))
}

/// Writes the file `format` of a store.
pub(crate) fn write_format(root: &Path, flavor: OverlayFlavor) -> Result<(), StoreError> {
    let path = root.join("format");
    let format = Format { format: FORMAT, overlay: overlay_word(&flavor).to_owned() };
    let bytes = serde_json::to_vec(&format).map_err(io::Error::from).on("write", &path)?;
    make_private_dir(&root.join("tmp"))?;
    publish_bytes(&root.join("tmp").join(unique()), &path, &bytes, Durability::Now)
}

/// Refuses a store of a newer format, of the other kind of marks, or whose `format` is damaged.
pub(crate) fn check_format(root: &Path, flavor: &OverlayFlavor) -> Result<(), StoreError> {
    let path = root.join("format");
    let (number, found) = match read_format(&path)? {
        None => {
            // Lost from a store that has contents: they say whose it is.
            let made_by = flavor_of_snapshots(root)?;
            (serde_json::Value::from(FORMAT), made_by.or(Some(*flavor)))
        }
        Some(FormatFile::Whole { number, flavor }) => (number, flavor),
        Some(FormatFile::Damaged(reason)) => return Err(StoreError::DamagedFormat { path, reason }),
    };
    if number.as_u64().is_none_or(|number| number > u64::from(FORMAT)) {
        let found = number.to_string();
        return Err(StoreError::NewerFormat { path: root.to_owned(), found, known: FORMAT });
    }
    if found != Some(*flavor) {
        let words = |flavor: Option<OverlayFlavor>| match flavor {
            Some(OverlayFlavor::User) => "without root",
            _ => "by root",
        };
        let (found, wanted) = (words(found), words(Some(*flavor)));
        return Err(StoreError::OtherFlavor { path: root.to_owned(), found, wanted });
    }
    Ok(())
}

/// How the snapshots of a store mark what overlayfs must know; `None` where none has a mark, so
/// that any way fits.
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
