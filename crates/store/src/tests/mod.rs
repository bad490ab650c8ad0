//! What a store promises, each promise with its test.

mod after_build;
mod analysis_cache;
mod blobs;
mod cache_mounts;
mod chains;
mod content_cache;
mod damage;
mod diff_ids;
mod downloads;
mod gc;
mod gzip_blocks;
mod images;
mod incoming;
mod journal;
mod locks;
mod open;
mod processes;
mod records;
mod snapshots;

use std::fs;
use std::path::PathBuf;

use dbuild_cache::{Ingredient, IngredientKind};
use dbuild_digest::{BlobDigest, ContentDigest, SnapshotId, StepKey, TreeDigest};
use dbuild_layer::{Entry, EntryKind, Mtime, OverlayFlavor, Tree, TreePath};
use oci_spec::image::{Descriptor, DescriptorBuilder, MediaType};
use serde_json::json;

use crate::{Record, Snapshot, Store};

/// A directory of its own for a store; gone when dropped.
struct Space {
    dir: tempfile::TempDir,
}

impl Space {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// Opens the store anew, as another process would.
    fn open(&self) -> Store {
        Store::open(&self.root(), OverlayFlavor::User).unwrap()
    }
}

fn key(byte: u8) -> StepKey {
    StepKey::from_bytes([byte; 32])
}

fn tree_digest(byte: u8) -> TreeDigest {
    TreeDigest::from_bytes([byte; 32])
}

/// A tree of one file.
fn tree(name: &str, content: &str) -> Tree {
    let kind = EntryKind::File { size: content.len() as u64, content: ContentDigest::of(content.as_bytes()) };
    let entry = Entry {
        path: TreePath::from_bytes(name.as_bytes()).unwrap(),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Mtime { secs: 0, nanos: 0 },
        xattrs: Vec::new(),
    };
    Tree::from_entries(vec![entry]).unwrap()
}

/// Publishes a snapshot of one file.
fn publish(store: &Store, name: &str, content: &str) -> Snapshot {
    let draft = store.new_snapshot().unwrap();
    fs::write(draft.fs_dir().join(name), content).unwrap();
    store.publish_snapshot(draft, tree(name, content)).unwrap()
}

fn record(key_byte: u8, text: &str, snapshot: Option<&Snapshot>) -> Record {
    Record {
        key: key(key_byte),
        strategy: "output".to_owned(),
        definition: key(200),
        text: text.to_owned(),
        output: tree_digest(key_byte),
        layer: snapshot.map_or(tree_digest(key_byte), |snapshot| snapshot.tree.digest()),
        layer_is_empty: false,
        snapshot: snapshot.map(|snapshot| snapshot.id.clone()),
        stage: String::new(),
        inputs: Vec::new(),
        made_from: Vec::new(),
        duration_ms: 1500,
        created_ms: 0,
        hits: 0,
        last_used_ms: 0,
    }
}

fn ingredient(kind: IngredientKind, name: &str, value: &str) -> Ingredient {
    Ingredient { kind, name: name.to_owned(), value: value.to_owned() }
}

/// Stores an image of one layer and gives what to tag.
fn image(store: &Store, layer: &str) -> Descriptor {
    let (layer_digest, layer_size) = store.put_blob(layer.as_bytes()).unwrap();
    let (config, config_size) = store.put_blob(format!("{{\"of\":\"{layer}\"}}").as_bytes()).unwrap();
    let blob = |media_type: &str, digest: BlobDigest, size: u64| json!({"mediaType": media_type, "digest": digest.to_string(), "size": size});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("application/vnd.oci.image.config.v1+json", config, config_size),
        "layers": [blob("application/vnd.oci.image.layer.v1.tar", layer_digest, layer_size)],
    });
    let (digest, size) = store.put_blob(&serde_json::to_vec(&manifest).unwrap()).unwrap();
    descriptor(digest, size)
}

fn descriptor(digest: BlobDigest, size: u64) -> Descriptor {
    DescriptorBuilder::default()
        .media_type(MediaType::ImageManifest)
        .digest(digest.to_string().parse::<oci_spec::image::Digest>().unwrap())
        .size(size)
        .build()
        .unwrap()
}

/// Pretends that everything that is not durable yet was published before the machine crashed.
fn crash(store: &Store) {
    store
        .inner
        .db
        .write(|db| {
            db.execute("UPDATE snapshots SET boot='another' WHERE boot IS NOT NULL", [])?;
            db.execute("UPDATE blobs SET boot='another' WHERE boot IS NOT NULL", [])
        })
        .unwrap();
}

/// What is in `tmp/`.
fn scratch(space: &Space) -> usize {
    fs::read_dir(space.root().join("tmp")).unwrap().count()
}

fn names(store: &Store) -> Vec<String> {
    store.images().unwrap().into_iter().map(|entry| entry.name).collect()
}

fn id(snapshot: &Snapshot) -> SnapshotId {
    snapshot.id.clone()
}
