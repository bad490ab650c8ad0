//! Looking for damage that only reading finds.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use dbuild_digest::ContentHasher;
use dbuild_layer::{Entry, EntryKind, Tree};

use crate::error::Context;
use crate::snapshots::{ALONE, INDEX};
use crate::{SnapshotId, Store, StoreError};

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file or directory.
    pub path: PathBuf,
    /// What is wrong.
    pub problem: String,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Blobs that were read.
    pub blobs: u64,
    /// Snapshots that were read.
    pub snapshots: u64,
    /// What is damaged.
    pub findings: Vec<Finding>,
}

impl Store {
    /// Reads every blob and every file of every snapshot and compares them with their digests. With `repair`, what is
    /// damaged is dropped: it is a miss from then on.
    pub fn verify(&self, repair: bool) -> Result<VerifyReport, StoreError> {
        let mut report = VerifyReport::default();
        let room = self.room("blobs/sha256");
        for entry in fs::read_dir(&room).on("read", &room)? {
            let path = entry.on("read", &room)?.path();
            report.blobs += 1;
            self.verify_blob(&path, repair, &mut report)?;
        }
        for row in self.snapshot_rows()? {
            let id = SnapshotId(row.id);
            let dir = self.snapshot_dir(&id);
            report.snapshots += 1;
            if let Err(problem) = verify_snapshot(&dir) {
                report.findings.push(Finding { path: dir, problem });
                if repair {
                    self.drop_snapshot(&id);
                }
            }
        }
        for image in self.images()? {
            let Some(digest) = image.digest() else { continue };
            if let Err(error) = self.blobs_of(&digest) {
                let problem = format!("the image {} is incomplete: {error}", image.name);
                report.findings.push(Finding { path: self.blob_path(&digest), problem });
            }
        }
        Ok(report)
    }

    fn verify_blob(&self, path: &Path, repair: bool, report: &mut VerifyReport) -> Result<(), StoreError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Ok(digest) = format!("sha256:{name}").parse() else {
            report.findings.push(Finding { path: path.to_owned(), problem: "not a blob's name".to_owned() });
            return Ok(());
        };
        let mut hasher = dbuild_digest::BlobHasher::default();
        let mut file = File::open(path).on("read", path)?;
        copy_into(&mut file, |bytes| hasher.update(bytes)).on("read", path)?;
        let found = hasher.finish();
        if found != digest {
            let problem = format!("its digest is {found}");
            report.findings.push(Finding { path: path.to_owned(), problem });
            if repair {
                self.quarantine(&digest);
            }
        }
        Ok(())
    }
}

/// Compares a snapshot's directory with its index.
fn verify_snapshot(dir: &Path) -> Result<(), String> {
    let has_files = !dir.join(ALONE).exists();
    let index = dir.join(if has_files { INDEX } else { ALONE });
    let bytes = fs::read(index).map_err(|error| format!("its index: {error}"))?;
    let tree = Tree::decode(&bytes).map_err(|error| error.to_string())?;
    if !has_files {
        return Ok(());
    }
    tree.entries().iter().try_for_each(|entry| verify_entry(&dir.join("fs"), &tree, entry))
}

fn verify_entry(root: &Path, tree: &Tree, entry: &Entry) -> Result<(), String> {
    let relative = Path::new(std::ffi::OsStr::from_bytes(entry.path.as_bytes()));
    let path = root.join(relative);
    let told = |problem: String| format!("{}: {problem}", entry.path);
    let meta = fs::symlink_metadata(&path).map_err(|error| told(error.to_string()))?;
    let kind = meta.file_type();
    let matches = match &tree.first_name(entry).kind {
        EntryKind::File { .. } => kind.is_file(),
        EntryKind::Dir { .. } => kind.is_dir(),
        EntryKind::Symlink { target } => {
            let there = fs::read_link(&path).map_err(|error| told(error.to_string()))?;
            there.as_os_str().as_bytes() == &**target
        }
        // Devices may stand for themselves or, where they cannot be made, for something else.
        _ => true,
    };
    if !matches {
        return Err(told("it is something else than its index says".to_owned()));
    }
    let EntryKind::File { size, content } = &entry.kind else { return Ok(()) };
    if meta.len() != *size {
        return Err(told(format!("it has {} bytes, not {size}", meta.len())));
    }
    let mut hasher = ContentHasher::default();
    let mut file = File::open(&path).map_err(|error| told(error.to_string()))?;
    copy_into(&mut file, |bytes| hasher.update(bytes)).map_err(|error| told(error.to_string()))?;
    if hasher.finish() == *content { Ok(()) } else { Err(told("its content changed".to_owned())) }
}

fn copy_into(reader: &mut impl Read, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 18];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(()),
            count => take(&buffer[..count]),
        }
    }
}
