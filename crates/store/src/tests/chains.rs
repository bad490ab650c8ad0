use std::sync::Arc;
use std::{fs, io};

use dbuild_digest::{BlobDigest, ContentDigest};
use dbuild_layer::{Entry, EntryKind, LayerFiles, OverlayFlavor, Tree, TreePath};
use dbuild_support::io_context::IoError;

use crate::snapshots::is_damage;
use crate::{PruneOptions, Snapshot, SnapshotDraft, Store, StoreError, UsageKind};

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store"), OverlayFlavor::Trusted).unwrap();
    (dir, store)
}

fn chain(text: &str) -> BlobDigest {
    BlobDigest::of(text.as_bytes())
}

/// A layer with one file.
fn draft(store: &Store, content: &str) -> (SnapshotDraft, Tree) {
    let draft = store.new_snapshot().unwrap();
    fs::write(draft.fs_dir().join("file"), content).unwrap();
    let kind = EntryKind::File { size: content.len() as u64, content: ContentDigest::of(content.as_bytes()) };
    let path = TreePath::from_bytes(b"file").unwrap();
    let entry = Entry { kind, mode: 0o644, ..Entry::new_dir(path) };
    (draft, Tree::from_entries(vec![entry]).unwrap())
}

fn made(store: &Store, content: &str) -> Snapshot {
    let (draft, tree) = draft(store, content);
    store.publish_snapshot(draft, tree).unwrap()
}

#[test]
fn what_a_step_made_serves_the_chains_that_are_linked_to_it() {
    let (_dir, store) = store();
    let snapshot = made(&store, "a");
    assert!(store.base_snapshot(&chain("1")).is_none());
    store.link_chain(&chain("1"), &snapshot.id).unwrap();
    store.link_chain(&chain("2"), &snapshot.id).unwrap();
    for name in ["1", "2"] {
        assert_eq!(store.base_snapshot(&chain(name)).unwrap().id, snapshot.id);
    }
    // The first result stays.
    store.link_chain(&chain("1"), &made(&store, "b").id).unwrap();
    assert_eq!(store.base_snapshot(&chain("1")).unwrap().id, snapshot.id);
}

#[test]
fn of_two_that_unpack_the_same_layer_one_stays() {
    let (_dir, store) = store();
    let (one, other) = (draft(&store, "a"), draft(&store, "a"));
    let first = store.publish_base_snapshot(one.0, &chain("1"), one.1).unwrap();
    let second = store.publish_base_snapshot(other.0, &chain("1"), other.1).unwrap();
    assert_eq!(first.id, second.id);
    assert_eq!(fs::read_dir(store.room("snapshots")).unwrap().count(), 1);
}

#[test]
fn a_layer_that_was_damaged_is_replaced_by_the_next_one() {
    let (_dir, store) = store();
    let (one, other) = (draft(&store, "a"), draft(&store, "a"));
    let first = store.publish_base_snapshot(one.0, &chain("1"), one.1).unwrap();
    let index = store.snapshot_dir(&first.id).join("index");
    fs::remove_dir_all(first.dir.unwrap()).unwrap();
    fs::write(index, "nonsense").unwrap();
    let second = store.publish_base_snapshot(other.0, &chain("1"), other.1).unwrap();
    assert_ne!(first.id, second.id);
    assert!(second.dir.unwrap().join("file").exists());
    assert_eq!(store.base_snapshot(&chain("1")).unwrap().id, second.id);
}

#[test]
fn a_damaged_row_of_a_chain_is_a_miss() {
    let (_dir, store) = store();
    let (wrong, right) = (made(&store, "wrong"), made(&store, "right"));
    store.link_chain(&chain("1"), &right.id).unwrap();
    store.inner.db.write(|db| db.execute("UPDATE chains SET snapshot=?1", [wrong.id.as_str()])).unwrap();
    assert!(store.base_snapshot(&chain("1")).is_none());
    assert!(store.snapshot(&wrong.id).is_some(), "the snapshot itself is not to blame");
    assert_eq!(store.take_warnings().len(), 1);
}

#[test]
fn only_what_is_broken_is_dropped() {
    let failed = |kind: io::ErrorKind| is_damage(&StoreError::Io(IoError::new("read", "index", kind)));
    assert!(failed(io::ErrorKind::NotFound));
    assert!(!failed(io::ErrorKind::PermissionDenied) && !failed(io::ErrorKind::OutOfMemory));
    let no_descriptors = io::Error::from(rustix::io::Errno::MFILE);
    assert!(!is_damage(&StoreError::Io(IoError::new("read", "", no_descriptors))));
}

#[test]
fn a_collected_snapshot_leaves_no_chain() {
    let (_dir, store) = store();
    let snapshot = made(&store, "a");
    store.link_chain(&chain("1"), &snapshot.id).unwrap();
    assert_eq!(store.disk_usage().unwrap().entries[0].kind, UsageKind::BaseSnapshot);
    let pruned = store.prune(&PruneOptions { all: true, ..PruneOptions::default() }).unwrap();
    assert_eq!(pruned.snapshots, 1);
    assert!(store.base_snapshot(&chain("1")).is_none());
    let left = store.inner.db.read(|db| db.prepare("SELECT 1 FROM chains")?.exists([]));
    assert!(!left.unwrap());
}

/// A layer whose files were not written.
fn index_of(store: &Store, content: &str) -> Snapshot {
    let (_, tree) = draft(store, content);
    store.publish_index(Arc::new(tree)).unwrap()
}

#[test]
fn a_layer_without_files_is_found_so_and_is_given_them_later() {
    let (_dir, store) = store();
    let alone = index_of(&store, "a");
    store.link_chain(&chain("1"), &alone.id).unwrap();
    for found in [store.snapshot(&alone.id).unwrap(), store.base_snapshot(&chain("1")).unwrap()] {
        assert_eq!((found.dir.as_ref(), found.files()), (None, LayerFiles::Absent));
        assert_eq!(found.tree, alone.tree);
    }
    assert!(store.verify(false).unwrap().findings.is_empty());

    let (files, _) = draft(&store, "a");
    store.make_durable().unwrap();
    let given = store.give_files(alone.clone(), files).unwrap();
    assert_eq!(given.id, alone.id);
    let root = store.root().to_owned();
    drop(store);
    let store = Store::open(&root, OverlayFlavor::Trusted).unwrap();
    let found = store.snapshot(&alone.id).unwrap();
    assert_eq!(fs::read_to_string(found.dir.unwrap().join("file")).unwrap(), "a");
    assert!(store.verify(false).unwrap().findings.is_empty());
    // What came after everything had been made durable is not believed after a crash.
    super::crash(&store);
    drop(store);
    let store = Store::open(&root, OverlayFlavor::Trusted).unwrap();
    assert!(store.snapshot(&alone.id).is_none());
}

#[test]
fn of_two_that_give_files_the_first_is_taken() {
    let (_dir, store) = store();
    let alone = index_of(&store, "a");
    let (one, other) = (draft(&store, "a").0, draft(&store, "a").0);
    store.give_files(alone.clone(), one).unwrap();
    let given = store.give_files(alone, other).unwrap();
    assert!(given.dir.unwrap().join("file").exists());
}

#[test]
fn an_unpacked_layer_takes_the_place_of_one_without_files() {
    let (_dir, store) = store();
    let alone = index_of(&store, "a");
    store.link_chain(&chain("1"), &alone.id).unwrap();
    let (files, tree) = draft(&store, "a");
    let unpacked = store.publish_base_snapshot(files, &chain("1"), tree).unwrap();
    assert!(unpacked.dir.is_some());
    assert_eq!(store.base_snapshot(&chain("1")).unwrap().id, unpacked.id);
}
