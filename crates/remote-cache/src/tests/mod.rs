//! Tests against real places: a directory, Debian's docker-registry, and a server that speaks S3
//! and checks signatures.

mod catalogue;
mod damage;
mod faults;
mod format;
mod places;
mod prune;
mod servers;
mod signatures;

use std::sync::Arc;

use dbuild_cache::{Ingredient, IngredientKind, key_of_ingredients};
use dbuild_digest::{BlobDigest, ContentDigest, StepKey, TreeDigest};
use dbuild_layer::{Entry, EntryKind, Mtime, OverlayFlavor, Tree, TreePath};
use dbuild_registry::{Config, Credentials, Registry};
use dbuild_store::{PackedLayer, Record, Store};

use crate::{
    Answer, CacheOptions, Location, NewRecord, Publication, Published, RemoteCache, RemoteCacheError,
    RemoteHit, RemoteRecord,
};

/// A machine: a store of its own.
struct Machine {
    _dir: tempfile::TempDir,
    store: Store,
    registry: Registry,
}

/// What a step gave.
struct StepResult {
    record: RemoteRecord,
    tree: Tree,
    layer: PackedLayer,
    bytes: Vec<u8>,
}

impl Machine {
    fn new() -> Self {
        Self::with_credentials(Credentials::none())
    }

    fn with_credentials(credentials: Credentials) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store"), OverlayFlavor::Trusted).unwrap();
        let registry = Registry::new(Config::default(), credentials, store.clone());
        Self { _dir: dir, store, registry }
    }

    fn open(&self, location: &Location, options: CacheOptions) -> RemoteCache {
        RemoteCache::open(location, options, &self.registry, &self.store).unwrap()
    }

    /// The cache with default options.
    fn cache(&self, location: &Location) -> RemoteCache {
        self.open(location, CacheOptions::default())
    }

    /// Publishes a result that is made in this machine's store.
    async fn publish(&self, cache: &RemoteCache, result: &StepResult) -> Result<Published, RemoteCacheError> {
        self.store.put_blob(&result.bytes).unwrap();
        let StepResult { record, tree, layer, .. } = result;
        cache.publish(&Publication { record, index: tree, layer: Some(layer), images: &[] }, &|_| {}).await
    }
}

/// The result of a step of this name, with a layer of this many bytes.
fn result_of_size(name: &str, size: usize) -> StepResult {
    let mut seed = u64::from_le_bytes(ContentDigest::of(name.as_bytes()).as_bytes()[..8].try_into().unwrap());
    let bytes: Vec<u8> = (0..size)
        .map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 56) as u8
        })
        .collect();
    let file = EntryKind::File { size: size as u64, content: ContentDigest::of(&bytes) };
    let path = TreePath::from_bytes(name.as_bytes()).unwrap();
    let mtime = Mtime { secs: 1_700_000_000, nanos: 5 };
    let entry = Entry { path, kind: file, mode: 0o644, uid: 0, gid: 0, mtime, xattrs: Vec::new() };
    let tree = Tree::from_entries(vec![entry]).unwrap();
    let layer = PackedLayer {
        diff_id: BlobDigest::of(name.as_bytes()),
        digest: BlobDigest::of(&bytes),
        size: bytes.len() as u64,
        media_type: "application/vnd.oci.image.layer.v1.tar+gzip".to_owned(),
        annotations: Default::default(),
    };
    let ingredients = vec![
        Ingredient { kind: IngredientKind::Instruction, name: String::new(), value: "run".to_owned() },
        Ingredient {
            kind: IngredientKind::Command,
            name: String::new(),
            value: format!("[\"make\",\"{name}\"]"),
        },
    ];
    let key = key_of_ingredients("output", 7, &ingredients);
    let record = Record {
        key,
        strategy: "output".to_owned(),
        definition: StepKey::from_bytes([3; 32]),
        text: format!("RUN make {name}"),
        output: TreeDigest::from_bytes([4; 32]),
        layer: tree.digest(),
        layer_is_empty: false,
        snapshot: None,
        stage: "build".to_owned(),
        inputs: Vec::new(),
        made_from: Vec::new(),
        duration_ms: 1500,
        created_ms: 1_700_000_000_000,
        hits: 0,
        last_used_ms: 0,
    };
    let diff_id = Some(layer.diff_id);
    let platform = "linux/amd64".to_owned();
    let new = NewRecord { record: &record, strategy_version: 7, ingredients, diff_id, platform };
    StepResult { record: RemoteRecord::new(new).unwrap(), tree, layer, bytes }
}

fn result(name: &str) -> StepResult {
    result_of_size(name, 1000)
}

fn directory(path: &std::path::Path) -> Location {
    Location::Directory { path: path.to_owned(), tag: "cache".to_owned() }
}

fn hit(answer: &Answer) -> &Arc<RemoteHit> {
    match answer {
        Answer::Hit(hit) => hit,
        other => panic!("a hit: {other:?}"),
    }
}

async fn look_up_one(cache: &RemoteCache, key: &StepKey) -> Answer {
    cache.look_up(&[*key]).await.unwrap().remove(0)
}
