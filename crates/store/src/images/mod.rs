//! Images by name: `index.json` of the OCI layout.
//!
//! `index.json` is the truth, so that other tools can read the images and may write some, too. It
//! is changed under a lock and replaced by a rename. The database keeps a copy of the names for the
//! case that the file is damaged.

pub(crate) mod downloads;
pub(crate) mod resolved_references;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use dbuild_digest::BlobDigest;
use dbuild_support::io_context::IoContext as _;
use dbuild_support::lock;
use oci_spec::image::{Descriptor, ImageManifest};
use serde_json::{Value, json};

use crate::db::seal;
use crate::publish::{Durability, publish_bytes};
use crate::{Store, StoreError};

/// A name and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageEntry {
    /// The name in full: `docker.io/library/app:latest`. Empty for an image that another tool wrote
    /// without one.
    pub name: String,
    /// The manifest, or the index of several.
    pub descriptor: Descriptor,
}

impl ImageEntry {
    /// The digest of the manifest or index.
    pub fn digest(&self) -> Option<BlobDigest> {
        self.descriptor.digest().to_string().parse().ok()
    }
}

const NAME: &str = "org.opencontainers.image.ref.name";
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// Larger manifests and indexes are not followed.
const LARGEST_MANIFEST: u64 = 8 << 20;
/// Indexes in indexes are not followed deeper.
const DEEPEST: usize = 4;

impl Store {
    /// Gives an image a name; an image that had the name loses it. All blobs of the image must be
    /// in the store; they, and the name, survive a crash of the machine when this returns.
    pub fn tag(&self, name: &str, descriptor: &Descriptor) -> Result<(), StoreError> {
        let path = self.room("index.json");
        let mut entry = serde_json::to_value(descriptor).map_err(io::Error::from).on("write", &path)?;
        let annotations = &mut entry["annotations"];
        if !annotations.is_object() {
            *annotations = json!({});
        }
        annotations[NAME] = json!(name);
        annotations[CONTAINERD_NAME] = json!(name);
        // Nothing is collected between the check and the name.
        let guard = self.publishing()?;
        let digest = parse_digest(descriptor)
            .ok_or_else(|| damaged(&path, format!("{} is no sha256 digest", descriptor.digest())))?;
        let blobs = self.blobs_of(&digest)?;
        self.sync_blobs(&blobs)?;
        self.change_index(|manifests| {
            manifests.retain(|old| name_of(old) != name);
            manifests.push(entry);
        })?;
        drop(guard);
        let text = serde_json::to_string(descriptor).unwrap_or_default();
        let sealed = seal("tags", &[name.as_bytes()], text.as_bytes());
        let copied = self.inner.db.write(|db| {
            db.execute(
                "INSERT OR REPLACE INTO tags (name, descriptor, seal) VALUES (?1, ?2, ?3)",
                (name, &text, &sealed),
            )
        });
        if let Err(error) = copied {
            tracing::debug!("the copy of a name is not kept: {error}");
        }
        Ok(())
    }

    /// Takes a name away; false if nobody had it. The blobs stay until they are collected.
    pub(crate) fn untag(&self, name: &str) -> Result<bool, StoreError> {
        let mut found = false;
        self.change_index(|manifests| {
            let before = manifests.len();
            manifests.retain(|entry| name_of(entry) != name);
            found = manifests.len() < before;
        })?;
        let _ = self.inner.db.write(|db| db.execute("DELETE FROM tags WHERE name=?1", [name]));
        Ok(found)
    }

    /// Removes an image: the one name that is given, or, given an id, all its names. The names that
    /// are gone.
    pub fn remove_image(&self, name_or_id: &str) -> Result<Vec<String>, StoreError> {
        let entry = self.image(name_or_id)?;
        let by_name = !entry.name.is_empty() && spellings(name_or_id).contains(&entry.name);
        if by_name {
            self.untag(&entry.name)?;
            return Ok(vec![entry.name]);
        }
        let digest = entry.descriptor.digest().to_string();
        let mut names = Vec::new();
        self.change_index(|manifests| {
            manifests.retain(|old| {
                let gone = old["digest"] == digest.as_str();
                if gone {
                    names.push(name_of(old).to_owned());
                }
                !gone
            });
        })?;
        let _ = self.inner.db.write(|db| {
            names.iter().try_for_each(|name| db.execute("DELETE FROM tags WHERE name=?1", [name]).map(drop))
        });
        Ok(names)
    }

    /// Takes one entry away.
    pub(crate) fn forget_image(&self, image: &ImageEntry) -> Result<(), StoreError> {
        let digest = image.descriptor.digest().to_string();
        self.change_index(|manifests| {
            manifests.retain(|old| name_of(old) != image.name || old["digest"] != digest.as_str());
        })?;
        let _ = self.inner.db.write(|db| db.execute("DELETE FROM tags WHERE name=?1", [&image.name]));
        Ok(())
    }

    /// All images that have an entry, in the order in which they were tagged.
    pub fn images(&self) -> Result<Vec<ImageEntry>, StoreError> {
        let manifests = match self.read_index()? {
            Some(manifests) => manifests,
            None => {
                self.repair_index()?;
                self.read_index()?.unwrap_or_default()
            }
        };
        let entry = |value: Value| {
            let name = name_of(&value).to_owned();
            let descriptor = serde_json::from_value::<Descriptor>(value).ok()?;
            Some(ImageEntry { name, descriptor })
        };
        Ok(manifests.into_iter().filter_map(entry).collect())
    }

    /// An image by its name (`app` finds `docker.io/library/app:latest`), or by the beginning of
    /// the digest of its manifest or config.
    pub fn image(&self, name_or_id: &str) -> Result<ImageEntry, StoreError> {
        let images = self.images()?;
        for name in spellings(name_or_id) {
            // The last one counts, should another tool have written two.
            if let Some(entry) = images.iter().rfind(|entry| entry.name == name) {
                return Ok(entry.clone());
            }
        }
        let prefix = name_or_id.strip_prefix("sha256:").unwrap_or(name_or_id);
        if prefix.len() >= 4 && prefix.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            let starts = |digest: BlobDigest| digest.hex().starts_with(prefix);
            let has_id = |entry: &&ImageEntry| {
                entry
                    .digest()
                    .is_some_and(|digest| starts(digest) || self.config_of(&digest).is_some_and(starts))
            };
            let found: Vec<&ImageEntry> = images.iter().filter(has_id).collect();
            let digests: BTreeSet<String> =
                found.iter().map(|entry| entry.descriptor.digest().to_string()).collect();
            if digests.len() > 1 {
                let names: Vec<&str> = found.iter().map(|entry| entry.name.as_str()).collect();
                let candidates = names.join(", ");
                return Err(StoreError::AmbiguousId { prefix: prefix.to_owned(), candidates });
            }
            if let Some(entry) = found.first() {
                return Ok((*entry).clone());
            }
        }
        let near = images.iter().find(|entry| {
            let short = entry.name.rsplit('/').next().unwrap_or_default();
            let wanted = name_or_id.rsplit('/').next().unwrap_or_default();
            !wanted.is_empty() && short.split(':').next() == wanted.split(':').next()
        });
        let hint = near.map_or(String::new(), |entry| format!(" (did you mean `{}`?)", entry.name));
        Err(StoreError::NoSuchImage { name: name_or_id.chars().take(256).collect(), hint })
    }

    /// All blobs of an image, the manifest's (or index's) own first. One that is missing or damaged
    /// is an error.
    pub(crate) fn blobs_of(&self, digest: &BlobDigest) -> Result<Vec<BlobDigest>, StoreError> {
        let mut found = Vec::new();
        self.collect_blobs(digest, 0, &mut found)?;
        for digest in &found {
            self.has_blob(digest).ok_or(StoreError::NoSuchBlob { digest: *digest })?;
        }
        Ok(found)
    }

    /// The blobs of all images, as far as their manifests can be read.
    pub(crate) fn blobs_of_images(&self) -> Result<BTreeSet<BlobDigest>, StoreError> {
        let mut found = Vec::new();
        for entry in self.images()? {
            if let Some(digest) = entry.digest() {
                let _ = self.collect_blobs(&digest, 0, &mut found);
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Makes an `index.json` that is missing, and replaces one that is damaged by what the database
    /// remembers.
    pub(crate) fn repair_index(&self) -> Result<(), StoreError> {
        let path = self.room("index.json");
        if path.exists() && self.read_index()?.is_some() {
            return Ok(());
        }
        let lock = self.lock_index()?;
        // Another process may have been faster.
        if path.exists() && self.read_index()?.is_some() {
            return Ok(());
        }
        let manifests = self.remembered_tags();
        if path.exists() {
            let aside = path.with_file_name(format!("index.json.damaged-{}", dbuild_support::time::now_ms()));
            fs::rename(&path, &aside).on("move aside", &path)?;
            self.warn(format!(
                "{} was damaged and moved to {}; {} names were recovered",
                path.display(),
                aside.display(),
                manifests.len()
            ));
        } else if !manifests.is_empty() {
            self.warn(format!("{} was missing; {} names were recovered", path.display(), manifests.len()));
        }
        self.write_index(None, manifests)?;
        drop(lock);
        Ok(())
    }

    fn config_of(&self, digest: &BlobDigest) -> Option<BlobDigest> {
        let manifest: Value = serde_json::from_slice(&self.read_blob(digest, LARGEST_MANIFEST).ok()?).ok()?;
        manifest["config"]["digest"].as_str()?.parse().ok()
    }

    /// The annotations that a manifest gives to its layers, by their blobs. None, where it cannot
    /// be read.
    pub fn layer_annotations(&self, manifest: &BlobDigest) -> BTreeMap<BlobDigest, BTreeMap<String, String>> {
        let manifest = self.read_blob(manifest, LARGEST_MANIFEST).ok();
        let manifest = manifest.and_then(|bytes| ImageManifest::from_reader(bytes.as_slice()).ok());
        let layers = manifest.iter().flat_map(ImageManifest::layers);
        let annotated = layers.filter_map(|layer| {
            let annotations = layer.annotations().as_ref()?.clone();
            Some((parse_digest(layer)?, annotations.into_iter().collect()))
        });
        annotated.collect()
    }

    fn collect_blobs(
        &self,
        digest: &BlobDigest,
        depth: usize,
        found: &mut Vec<BlobDigest>,
    ) -> Result<(), StoreError> {
        if found.contains(digest) {
            return Ok(());
        }
        found.push(*digest);
        let path = self.blob_path(digest);
        if depth > DEEPEST {
            return Err(damaged(&path, "indexes are nested too deeply".to_owned()));
        }
        let bytes = self.read_blob(digest, LARGEST_MANIFEST)?;
        let manifest: Value =
            serde_json::from_slice(&bytes).map_err(|error| damaged(&path, error.to_string()))?;
        let digest_of = |value: &Value| -> Result<BlobDigest, StoreError> {
            let text = value["digest"].as_str().unwrap_or_default();
            text.parse().map_err(|error| damaged(&path, format!("{error}")))
        };
        let list = |member: &str| manifest[member].as_array().cloned().unwrap_or_default();
        for nested in list("manifests") {
            self.collect_blobs(&digest_of(&nested)?, depth + 1, found)?;
        }
        let config = manifest.get("config").filter(|config| config.is_object()).cloned();
        for blob in config.into_iter().chain(list("layers")) {
            // A layer that lives elsewhere is not ours to have.
            if blob["urls"].as_array().is_some_and(|urls| !urls.is_empty()) {
                continue;
            }
            let digest = digest_of(&blob)?;
            if !found.contains(&digest) {
                found.push(digest);
            }
        }
        Ok(())
    }

    fn change_index(&self, change: impl FnOnce(&mut Vec<Value>)) -> Result<(), StoreError> {
        self.repair_index()?;
        let lock = self.lock_index()?;
        let path = self.room("index.json");
        let bytes = fs::read(&path).on("read", &path)?;
        let index: Value =
            serde_json::from_slice(&bytes).map_err(|error| damaged(&path, error.to_string()))?;
        let mut manifests = index["manifests"].as_array().cloned().unwrap_or_default();
        change(&mut manifests);
        self.write_index(Some(index), manifests)?;
        drop(lock);
        Ok(())
    }

    /// Writes the index; members that others added to it stay.
    fn write_index(&self, index: Option<Value>, manifests: Vec<Value>) -> Result<(), StoreError> {
        let empty = || json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json"});
        let mut index = index.filter(Value::is_object).unwrap_or_else(empty);
        index["manifests"] = Value::Array(manifests);
        let path = self.room("index.json");
        let bytes = serde_json::to_vec(&index).map_err(io::Error::from).on("write", &path)?;
        publish_bytes(&self.scratch_path(), &path, &bytes, Durability::Now)
    }

    /// The entries of `index.json`; `None` if it is missing or no index.
    fn read_index(&self) -> Result<Option<Vec<Value>>, StoreError> {
        let path = self.room("index.json");
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.on("read", &path)?,
        };
        let index: Option<Value> = serde_json::from_slice(&bytes).ok();
        let whole = index.filter(|index| index["schemaVersion"] == 2);
        let manifests = whole.and_then(|mut index| match index["manifests"].take() {
            Value::Array(manifests) => Some(manifests),
            _ => None,
        });
        // A flipped byte can leave it readable.
        Ok(manifests.filter(|list| {
            list.iter().all(|entry| serde_json::from_value::<Descriptor>(entry.clone()).is_ok())
        }))
    }

    fn lock_index(&self) -> Result<fs::File, StoreError> {
        let path = self.room("index.lock");
        let file = lock::open(&path).on("lock", &path)?;
        file.lock().on("lock", &path)?;
        Ok(file)
    }

    /// The names that the database remembers and whose manifests are there.
    fn remembered_tags(&self) -> Vec<Value> {
        let rows = self.inner.db.read(|db| {
            let mut query = db.prepare("SELECT name, descriptor, seal FROM tags ORDER BY name")?;
            let row = |row: &rusqlite::Row<'_>| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, Vec<u8>>(2)?))
            };
            query.query_map([], row)?.collect::<Result<Vec<_>, _>>()
        });
        let rows = rows.unwrap_or_default().into_iter();
        let whole =
            rows.filter(|(name, text, sealed)| *sealed == seal("tags", &[name.as_bytes()], text.as_bytes()));
        whole
            .filter_map(|(name, text, _)| {
                let mut entry: Value = serde_json::from_str(&text).ok()?;
                let digest: BlobDigest = entry["digest"].as_str()?.parse().ok()?;
                // Not `has_blob`, which may wait for collectors: a collector may be asking.
                self.blob_path(&digest).exists().then_some(())?;
                entry["annotations"][NAME] = json!(name);
                entry["annotations"][CONTAINERD_NAME] = json!(name);
                Some(entry)
            })
            .collect()
    }
}

fn name_of(entry: &Value) -> &str {
    entry["annotations"][NAME].as_str().unwrap_or_default()
}

fn parse_digest(descriptor: &Descriptor) -> Option<BlobDigest> {
    descriptor.digest().to_string().parse().ok()
}

fn damaged(path: &Path, reason: String) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), reason }
}

/// The names in full that a short one may stand for, the likeliest first.
fn spellings(name: &str) -> Vec<String> {
    let has_tag = name.contains('@') || name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let tagged = if has_tag { name.to_owned() } else { format!("{name}:latest") };
    let mut spellings = vec![name.to_owned(), tagged.clone()];
    let first = name.split('/').next().unwrap_or_default();
    if !name.contains('/') {
        spellings.push(format!("docker.io/library/{tagged}"));
    } else if !first.contains(['.', ':']) && first != "localhost" {
        spellings.push(format!("docker.io/{tagged}"));
    }
    spellings
}
