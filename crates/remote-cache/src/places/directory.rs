//! A directory that is an OCI image layout: `oci-layout`, `index.json`, `blobs/sha256/`.
//!
//! `index.json` is read and replaced under an exclusive lock (`dbuild.lock`), so that writers on
//! one machine lose nothing of each other. Blobs and `index.json` appear whole, by a rename. Who
//! publishes holds a shared lock (`dbuild.export.lock`) from before it asks for the first blob
//! until its last manifest is written; a sweep takes that lock alone or goes away, so it never
//! removes what an export has found and is going to name.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use dbuild_digest::{BlobDigest, BlobHasher};
use dbuild_oci::media_type::OCI_MANIFEST;
use dbuild_oci::{Descriptor, MediaTypes, index_json};
use dbuild_store::{Incoming, Replacement, Store, replace_file};
use dbuild_support::io_context::{IoContext as _, IoError};
use dbuild_support::lock;
use serde::Deserialize;

use crate::format::MANIFEST_LIMIT;
use crate::places::{HeldLease, Lease, Place, Progress, Result, Swept, TagEntry};

/// The annotation that names a manifest of a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const LAYOUT: &str = "{\"imageLayoutVersion\":\"1.0.0\"}";
/// Largest `index.json`, in bytes.
const INDEX_LIMIT: u64 = 64 << 20;
/// Bytes that are copied at a time.
const PIECE: usize = 256 << 10;

/// A layout.
#[derive(Clone, Debug)]
pub(crate) struct DirectoryPlace {
    pub path: PathBuf,
}

#[derive(Deserialize)]
struct ReadIndex {
    #[serde(default)]
    manifests: Vec<ReadEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadEntry {
    #[serde(default)]
    media_type: String,
    digest: BlobDigest,
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl DirectoryPlace {
    fn blob_path(&self, digest: &BlobDigest) -> PathBuf {
        self.path.join("blobs/sha256").join(digest.hex())
    }

    fn index_path(&self) -> PathBuf {
        self.path.join("index.json")
    }

    /// The manifests by tag. None where there is no layout.
    fn read_index(&self) -> Result<Vec<Descriptor>> {
        let path = self.index_path();
        let bytes = match read_limited(&path, INDEX_LIMIT) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(IoError::new("read", &path, error).into()),
        };
        let broken = |error: serde_json::Error| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
        let index: ReadIndex = serde_json::from_slice(&bytes).map_err(broken).on("read", &path)?;
        let entry = |entry: ReadEntry| {
            let ReadEntry { media_type, digest, size, annotations } = entry;
            Descriptor { annotations, ..Descriptor::new(media_type, digest, size) }
        };
        Ok(index.manifests.into_iter().map(entry).collect())
    }

    /// Changes `index.json` while nobody else does.
    fn change_index(&self, change: impl FnOnce(&mut Vec<Descriptor>)) -> Result<()> {
        self.make()?;
        let path = self.path.join("dbuild.lock");
        let held = lock::open(&path).on("open", &path)?;
        held.lock().on("lock", &path)?;
        let mut manifests = self.read_index()?;
        change(&mut manifests);
        let bytes = index_json(MediaTypes::Oci, &manifests, &BTreeMap::new());
        let bytes = bytes.map_err(io::Error::other).on("write", self.index_path())?;
        replace(&self.index_path(), &bytes)?;
        drop(held);
        Ok(())
    }

    fn make(&self) -> Result<()> {
        let blobs = self.path.join("blobs/sha256");
        fs::create_dir_all(&blobs).on("make", &blobs)?;
        let layout = self.path.join("oci-layout");
        if !layout.exists() {
            replace(&layout, LAYOUT.as_bytes())?;
        }
        Ok(())
    }

    fn find(&self, tag: &str) -> Result<Option<Descriptor>> {
        let manifests = self.read_index()?;
        Ok(manifests.into_iter().rev().find(|one| tag_of(one) == Some(tag)))
    }

    fn read_blob(&self, digest: &BlobDigest, limit: u64) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        let bytes = read_limited(&path, limit).on("read", &path)?;
        if BlobDigest::of(&bytes) != *digest {
            return Err(damaged(&path));
        }
        Ok(bytes)
    }

    /// Whether the blob is there with its size; its bytes are verified when they are read.
    fn has(&self, blob: &Descriptor) -> bool {
        fs::metadata(self.blob_path(&blob.digest)).is_ok_and(|meta| meta.len() == blob.size)
    }

    fn write_blob(&self, blob: &Descriptor, bytes: &[u8]) -> Result<bool> {
        if self.has(blob) {
            return Ok(false);
        }
        self.make()?;
        replace(&self.blob_path(&blob.digest), bytes)?;
        Ok(true)
    }

    fn copy_in(&self, blob: &Descriptor, store: &Store, progress: &(dyn Fn(u64) + Send)) -> Result<u64> {
        if self.has(blob) {
            progress(blob.size);
            return Ok(0);
        }
        self.make()?;
        let path = self.blob_path(&blob.digest);
        let mut reader = store.open_blob(&blob.digest)?;
        let written = Replacement::begin(&path)?;
        let (mut piece, mut at) = (vec![0; PIECE], 0);
        loop {
            let count = match reader.read(&mut piece) {
                Ok(0) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                count => count.on("read", store.blob_path(&blob.digest))?,
            };
            written.write_over(at, &piece[..count]).on("write", &path)?;
            at += count as u64;
            progress(at);
        }
        written.publish()?;
        Ok(at)
    }

    fn copy_out(
        &self,
        blob: &Descriptor,
        store: &Store,
        incoming: Option<&Incoming>,
        progress: &(dyn Fn(u64) + Send),
    ) -> Result<()> {
        if store.has_blob(&blob.digest) == Some(blob.size) {
            progress(blob.size);
            return Ok(());
        }
        let path = self.blob_path(&blob.digest);
        // One byte more than expected is enough to be refused.
        let mut reader = File::open(&path).on("open", &path)?.take(blob.size + 1);
        let mut writer = match incoming {
            Some(incoming) => store.shown_blob_writer(incoming)?,
            None => store.blob_writer()?,
        };
        let (mut hasher, mut piece) = (BlobHasher::default(), vec![0; PIECE]);
        loop {
            let count = match reader.read(&mut piece) {
                Ok(0) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                count => count.on("read", &path)?,
            };
            hasher.update(&piece[..count]);
            writer.write_all(&piece[..count]).on("write", store.root())?;
            progress(writer.size());
        }
        if hasher.finish() != blob.digest || writer.size() != blob.size {
            return Err(damaged(&path));
        }
        writer.commit(Some(&(blob.digest, blob.size)))?;
        Ok(())
    }

    fn remove(&self, manifests: &[(String, BlobDigest)]) -> Result<()> {
        let gone: HashSet<(&str, &BlobDigest)> = manifests.iter().map(|(tag, d)| (tag.as_str(), d)).collect();
        self.change_index(|all| {
            all.retain(|one| !tag_of(one).is_some_and(|tag| gone.contains(&(tag, &one.digest))));
        })
    }

    fn sweep_blobs(&self) -> Result<Option<Swept>> {
        let path = self.path.join("dbuild.export.lock");
        let held = lock::open(&path).on("open", &path)?;
        if !lock::try_lock(&held).on("lock", &path)? {
            return Ok(None);
        }
        // Images of others in the same layout are kept, too.
        let mut needed = HashSet::new();
        for manifest in self.read_index()? {
            self.add_blobs(&manifest, &mut needed, 0);
        }
        let blobs = self.path.join("blobs/sha256");
        let mut swept = Swept::default();
        for entry in fs::read_dir(&blobs).on("read", &blobs)? {
            let entry = entry.on("read", &blobs)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(digest) = format!("sha256:{name}").parse::<BlobDigest>() else { continue };
            let Ok(meta) = entry.metadata() else { continue };
            if !needed.contains(&digest) && fs::remove_file(entry.path()).is_ok() {
                swept.blobs += 1;
                swept.bytes += meta.len();
            }
        }
        Ok(Some(swept))
    }

    /// Adds a manifest and all that it names, indexes included.
    fn add_blobs(&self, manifest: &Descriptor, needed: &mut HashSet<BlobDigest>, depth: u8) {
        if !needed.insert(manifest.digest) && depth > 0 {
            return;
        }
        #[derive(Deserialize)]
        struct Names {
            config: Option<ReadEntry>,
            #[serde(default)]
            layers: Vec<ReadEntry>,
            #[serde(default)]
            manifests: Vec<ReadEntry>,
        }
        let Ok(bytes) = self.read_blob(&manifest.digest, INDEX_LIMIT) else { return };
        let Ok(names) = serde_json::from_slice::<Names>(&bytes) else { return };
        needed.extend(names.config.iter().chain(&names.layers).map(|blob| blob.digest));
        for below in names.manifests.iter().filter(|_| depth < 4) {
            self.add_blobs(&Descriptor::new("", below.digest, below.size), needed, depth + 1);
        }
    }
}

#[async_trait]
impl Place for DirectoryPlace {
    fn shown(&self) -> String {
        self.path.display().to_string()
    }

    fn is_remote(&self) -> bool {
        false
    }

    async fn tags(&self, prefix: &str, most: usize) -> Result<Vec<TagEntry>> {
        let (this, prefix) = (self.clone(), prefix.to_owned());
        blocking(move || {
            let manifests = this.read_index()?;
            let ours = manifests.iter().filter_map(|one| {
                let tag = tag_of(one).filter(|tag| tag.starts_with(&prefix))?.to_owned();
                Some(TagEntry { tag, modified_ms: modified_ms(&this.blob_path(&one.digest)) })
            });
            Ok(ours.take(most).collect())
        })
        .await
    }

    async fn manifest(&self, tag: &str) -> Result<Option<Vec<u8>>> {
        let (this, tag) = (self.clone(), tag.to_owned());
        blocking(move || match this.find(&tag)? {
            None => Ok(None),
            Some(found) => this.read_blob(&found.digest, MANIFEST_LIMIT).map(Some),
        })
        .await
    }

    async fn put_manifest(&self, tag: &str, bytes: Vec<u8>) -> Result<()> {
        let (this, tag) = (self.clone(), tag.to_owned());
        blocking(move || {
            let mut manifest = Descriptor::new(OCI_MANIFEST, BlobDigest::of(&bytes), bytes.len() as u64);
            this.write_blob(&manifest, &bytes)?;
            manifest.annotations.insert(REF_NAME.to_owned(), tag.clone());
            this.change_index(|all| {
                all.retain(|one| tag_of(one) != Some(&tag));
                all.push(manifest);
            })
        })
        .await
    }

    async fn remove_manifests(&self, manifests: &[(String, BlobDigest)]) -> Result<()> {
        let (this, manifests) = (self.clone(), manifests.to_vec());
        blocking(move || this.remove(&manifests)).await
    }

    async fn blob(&self, blob: &Descriptor) -> Result<Vec<u8>> {
        let (this, blob) = (self.clone(), blob.clone());
        blocking(move || this.read_blob(&blob.digest, blob.size)).await
    }

    async fn put_blob(&self, blob: &Descriptor, bytes: Vec<u8>) -> Result<bool> {
        let (this, blob) = (self.clone(), blob.clone());
        blocking(move || this.write_blob(&blob, &bytes)).await
    }

    async fn fetch(
        &self,
        blob: &Descriptor,
        store: &Store,
        incoming: Option<&Incoming>,
        progress: Progress<'_>,
    ) -> Result<()> {
        let (this, blob, store, incoming) = (self.clone(), blob.clone(), store.clone(), incoming.cloned());
        reporting(progress, move |report| this.copy_out(&blob, &store, incoming.as_ref(), report)).await
    }

    async fn push(
        &self,
        blob: &Descriptor,
        store: &Store,
        _images: &[String],
        progress: Progress<'_>,
    ) -> Result<u64> {
        let (this, blob, store) = (self.clone(), blob.clone(), store.clone());
        reporting(progress, move |report| this.copy_in(&blob, &store, report)).await
    }

    async fn touch(&self, tag: &str) {
        let (this, tag) = (self.clone(), tag.to_owned());
        // A cache that may only be read keeps no notes.
        let touched = blocking(move || {
            let Some(found) = this.find(&tag)? else { return Ok(()) };
            let path = this.blob_path(&found.digest);
            let file = File::options().append(true).open(&path).on("open", &path)?;
            Ok(file.set_modified(std::time::SystemTime::now()).on("touch", &path)?)
        });
        if let Err(error) = touched.await {
            tracing::debug!(%error, "not noted");
        }
    }

    async fn lease(&self) -> Result<Box<dyn Lease>> {
        let this = self.clone();
        blocking(move || {
            this.make()?;
            let path = this.path.join("dbuild.export.lock");
            let held = lock::open(&path).on("open", &path)?;
            // A sweep holds it for as long as it takes to remove some files.
            held.lock_shared().on("lock", &path)?;
            Ok(Box::new(HeldLease(held)) as Box<dyn Lease>)
        })
        .await
    }

    async fn sweep(&self) -> Result<Option<Swept>> {
        let this = self.clone();
        blocking(move || this.sweep_blobs()).await
    }
}

fn tag_of(manifest: &Descriptor) -> Option<&str> {
    manifest.annotations.get(REF_NAME).map(String::as_str)
}

fn modified_ms(path: &Path) -> Option<u64> {
    let modified = fs::metadata(path).ok()?.modified().ok()?;
    u64::try_from(modified.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

fn read_limited(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is larger than {limit} bytes")));
    }
    Ok(bytes)
}

fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    Ok(replace_file(path, |file| file.write_all(bytes))?)
}

fn damaged(path: &Path) -> crate::RemoteCacheError {
    let error = io::Error::new(io::ErrorKind::InvalidData, "its bytes are not those of its digest");
    IoError::new("read", path, error).into()
}

/// Runs something that waits for a disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(IoError::new("wait for", "a thread", io::Error::other(error.to_string())).into()),
    }
}

/// [`blocking`], for work that tells how far it is.
async fn reporting<T: Send + 'static>(
    progress: Progress<'_>,
    work: impl FnOnce(&(dyn Fn(u64) + Send)) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, mut reports) = tokio::sync::mpsc::unbounded_channel();
    let working = blocking(move || {
        work(&move |bytes| {
            let _ = sender.send(bytes);
        })
    });
    tokio::pin!(working);
    loop {
        tokio::select! {
            done = &mut working => {
                while let Ok(bytes) = reports.try_recv() {
                    progress(bytes);
                }
                return done;
            }
            Some(bytes) = reports.recv() => progress(bytes),
        }
    }
}
