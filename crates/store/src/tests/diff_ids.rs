use dbuild_digest::BlobDigest;

use super::{Space, publish};
use crate::{PackKey, PackedLayer, PruneOptions};

fn packed(blob: BlobDigest, size: u64) -> PackedLayer {
    let diff_id = BlobDigest::of(b"content");
    PackedLayer { diff_id, digest: blob, size, media_type: "tar".to_owned(), annotations: Default::default() }
}

#[test]
fn a_pair_is_known_once_it_was_computed_and_in_the_next_process() {
    let space = Space::new();
    let (blob, diff_id) = (BlobDigest::of(b"blob"), BlobDigest::of(b"content"));
    let store = space.open();
    assert_eq!(store.diff_id(&blob), None);
    store.put_diff_id(&blob, &diff_id).unwrap();
    drop(store);
    let store = space.open();
    assert_eq!(store.diff_id(&blob), Some(diff_id));
    store.inner.db.write(|db| db.execute("UPDATE diff_ids SET diff_id=zeroblob(32)", [])).unwrap();
    assert_eq!(store.diff_id(&blob), None, "its seal is broken");
}

#[test]
fn what_was_packed_is_known_also_where_an_earlier_version_packed_it() {
    let space = Space::new();
    let store = space.open();
    let snapshot = publish(&store, "file", "content");
    let (blob, size) = store.put_blob(b"the layer").unwrap();
    store.put_packed(&snapshot.id, &PackKey("gzip-6".to_owned()), &packed(blob, size)).unwrap();
    // A store of an earlier version has no such table; it is made when the store is opened.
    store.inner.db.write(|db| db.execute("DROP TABLE diff_ids", [])).unwrap();
    drop(store);
    let store = space.open();
    assert_eq!(store.take_warnings(), [""; 0]);
    assert_eq!(store.diff_id(&blob), Some(BlobDigest::of(b"content")));
    store.inner.db.write(|db| db.execute("UPDATE packed SET seal=zeroblob(12)", [])).unwrap();
    assert_eq!(store.diff_id(&blob), None, "its seal is broken");
}

#[test]
fn pairs_of_blobs_that_are_gone_go_when_everything_does() {
    let space = Space::new();
    let store = space.open();
    let diff_id = BlobDigest::of(b"content");
    let (blob, _) = store.put_blob(b"the layer").unwrap();
    store.put_diff_id(&blob, &diff_id).unwrap();
    store.prune(&PruneOptions::default()).unwrap();
    assert_eq!(store.diff_id(&blob), Some(diff_id));
    store.prune(&PruneOptions { all: true, ..PruneOptions::default() }).unwrap();
    assert_eq!(store.diff_id(&blob), None);
}
