//! Looking for damage that only reading finds.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use dbuild_layer::Tree;

use crate::compare::{compare, compare_content, copy_into};
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
    let files = dir.join("fs");
    tree.entries().iter().try_for_each(|entry| {
        let compared = compare(&files, &tree, entry).and_then(|_| compare_content(&files, entry));
        compared.map_err(|fault| format!("{}: {fault}", entry.path))
    })
}
