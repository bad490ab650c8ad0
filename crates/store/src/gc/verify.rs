//! Looking for damage that only reading finds.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dbuild_digest::{BlobDigest, BlobHasher, SnapshotId};
use dbuild_layer::Tree;
use dbuild_support::io_context::IoContext as _;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::compare::{compare, compare_content, copy_into};
use crate::db::seal;
use crate::publish::remove_tree;
use crate::snapshots::{ALONE, INDEX};
use crate::{Store, StoreError};

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

/// Tables whose rows are sealed, each with its key and what the seal covers.
const SEALED: [(&str, &[&str], &str); 7] = [
    ("chains", &["chain"], "snapshot"),
    ("records", &["key"], "body"),
    ("packed", &["snapshot", "pack"], "body"),
    ("refs", &["reference", "platform"], "body"),
    ("tags", &["name"], "descriptor"),
    ("downloads", &["url"], "body"),
    ("diff_ids", &["blob"], "diff_id"),
];

/// Another tool writes a blob before it has its name; younger files are left to it.
const STRANGE_FOR: Duration = Duration::from_secs(3600);

impl Store {
    /// Reads every blob and every file of every snapshot and compares them with their digests, and
    /// the database with itself. With `repair`, what is damaged is dropped: it is a miss from then
    /// on.
    pub fn verify(&self, repair: bool) -> Result<VerifyReport, StoreError> {
        let mut report = VerifyReport::default();
        self.verify_database(repair, &mut report)?;
        self.verify_kinds(repair, &mut report)?;
        let room = self.room("blobs/sha256");
        for entry in fs::read_dir(&room).on("read", &room)? {
            let path = entry.on("read", &room)?.path();
            report.blobs += 1;
            self.verify_blob(&path, repair, &mut report)?;
        }
        for row in self.snapshot_rows()? {
            let id = SnapshotId::from_text(row.id);
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
                if repair {
                    self.forget_image(&image)?;
                }
            }
        }
        Ok(report)
    }

    fn verify_blob(&self, path: &Path, repair: bool, report: &mut VerifyReport) -> Result<(), StoreError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let meta = fs::symlink_metadata(path).on("read", path)?;
        let digest = format!("sha256:{name}").parse::<BlobDigest>().ok();
        let Some(digest) = digest else {
            let age = meta.modified().ok().and_then(|time| time.elapsed().ok());
            if age.is_some_and(|age| age >= STRANGE_FOR) {
                self.found(path, "not a blob's name".to_owned(), repair, report)?;
            }
            return Ok(());
        };
        if !meta.is_file() {
            self.found(path, "it is no file".to_owned(), repair, report)?;
            if repair {
                self.forget_blob(&digest);
            }
            return Ok(());
        }
        let mut hasher = BlobHasher::default();
        let read = File::open(path).and_then(|mut file| copy_into(&mut file, |bytes| hasher.update(bytes)));
        let problem = match read {
            Err(error) => format!("it cannot be read: {error}"),
            Ok(()) => match hasher.finish() {
                found if found == digest => return Ok(()),
                found => format!("its digest is {found}"),
            },
        };
        report.findings.push(Finding { path: path.to_owned(), problem });
        if repair {
            self.quarantine(&digest);
        }
        Ok(())
    }

    /// Looks for what is no file in rooms that hold nothing else.
    fn verify_kinds(&self, repair: bool, report: &mut VerifyReport) -> Result<(), StoreError> {
        for room in ["indexes", "locks", "leases"].map(|room| self.room(room)) {
            for entry in fs::read_dir(&room).on("read", &room)? {
                let entry = entry.on("read", &room)?;
                if entry.file_type().is_ok_and(|kind| !kind.is_file()) {
                    self.found(&entry.path(), "it is no file".to_owned(), repair, report)?;
                }
            }
        }
        Ok(())
    }

    /// Compares the database with itself, and its rows with their seals.
    fn verify_database(&self, repair: bool, report: &mut VerifyReport) -> Result<(), StoreError> {
        let path = self.room("dbuild.db");
        let checked: String =
            self.inner.db.read(|db| db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)))?;
        if checked != "ok" {
            report.findings.push(Finding { path: path.clone(), problem: checked.clone() });
            if repair {
                self.inner.db.give_up(&checked)?;
            }
        }
        for (table, keys, body) in SEALED {
            let broken = self.inner.db.read(|db| broken_rows(db, table, keys, body))?;
            if broken.is_empty() {
                continue;
            }
            let problem = format!("{} rows of `{table}` are damaged", broken.len());
            report.findings.push(Finding { path: path.clone(), problem });
            if repair {
                let matching: Vec<String> =
                    keys.iter().enumerate().map(|(at, key)| format!("{key} IS ?{}", at + 1)).collect();
                let delete = format!("DELETE FROM {table} WHERE {}", matching.join(" AND "));
                self.inner.db.write(|db| {
                    broken.iter().try_for_each(|row| db.execute(&delete, params_from_iter(row)).map(drop))
                })?;
            }
        }
        Ok(())
    }

    fn found(
        &self,
        path: &Path,
        problem: String,
        repair: bool,
        report: &mut VerifyReport,
    ) -> Result<(), StoreError> {
        report.findings.push(Finding { path: path.to_owned(), problem });
        if repair {
            remove_tree(&self.to_trash(path)?).on("remove", path)?;
        }
        Ok(())
    }
}

/// The keys of a table's rows whose seals do not hold.
fn broken_rows(
    db: &Connection,
    table: &'static str,
    keys: &[&str],
    body: &str,
) -> rusqlite::Result<Vec<Vec<Value>>> {
    let mut query = db.prepare(&format!("SELECT {}, {body}, seal FROM {table}", keys.join(", ")))?;
    let mut rows = query.query([])?;
    let mut broken = Vec::new();
    while let Some(row) = rows.next()? {
        let bytes = |at: usize| row.get_ref(at).map(|value| value.as_bytes().unwrap_or_default().to_vec());
        let found = (0..keys.len()).map(bytes).collect::<rusqlite::Result<Vec<_>>>()?;
        let found: Vec<&[u8]> = found.iter().map(Vec::as_slice).collect();
        if bytes(keys.len() + 1)? != seal(table, &found, &bytes(keys.len())?) {
            broken.push((0..keys.len()).map(|at| row.get(at)).collect::<rusqlite::Result<_>>()?);
        }
    }
    Ok(broken)
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
    if !fs::symlink_metadata(dir.join("fs")).is_ok_and(|meta| meta.is_dir()) {
        return Err("its files are gone".to_owned());
    }
    let files = dir.join("fs");
    tree.entries().iter().try_for_each(|entry| {
        let compared = compare(&files, &tree, entry).and_then(|_| compare_content(&files, entry));
        compared.map_err(|fault| format!("{}: {fault}", entry.path))
    })
}
