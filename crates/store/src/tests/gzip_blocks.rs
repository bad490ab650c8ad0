use dbuild_digest::ContentDigest;
use dbuild_layer::{GzipBlockForm, GzipBlocks as _, WrittenGzipBlock};

use super::Space;
use crate::{PruneOptions, Store};

const PART: GzipBlockForm = GzipBlockForm::Part;

/// A blob that holds two blocks, the first of three bytes.
fn kept(store: &Store) -> (dbuild_digest::BlobDigest, [ContentDigest; 2]) {
    let (blob, _) = store.put_blob(b"onetwo").unwrap();
    let contents = [ContentDigest::of(b"1"), ContentDigest::of(b"2")];
    let index = store.gzip_blocks();
    for (content, start, bytes) in [(contents[0], 0, b"one"), (contents[1], 3, b"two")] {
        index.written(&WrittenGzipBlock { content, level: 4, form: PART, start, bytes });
    }
    index.keep(&blob);
    (blob, contents)
}

#[test]
fn a_block_is_found_by_its_content_level_and_form() {
    let space = Space::new();
    let (_, [one, two]) = kept(&space.open());
    let index = space.open().gzip_blocks();
    assert_eq!(index.find(&one, 4, PART).as_deref(), Some(b"one".as_slice()));
    assert_eq!(index.find(&two, 4, PART).as_deref(), Some(b"two".as_slice()));
    assert_eq!(index.find(&two, 6, PART), None);
    assert_eq!(index.find(&two, 4, GzipBlockForm::Member), None);
    assert_eq!(index.find(&ContentDigest::of(b"3"), 4, PART), None);
}

#[test]
fn a_damaged_blob_gives_no_block() {
    let space = Space::new();
    let store = space.open();
    let (blob, [one, two]) = kept(&store);
    for damaged in [b"oneTwo".as_slice(), b"onet", b""] {
        std::fs::write(store.blob_path(&blob), damaged).unwrap();
        assert_eq!(store.gzip_blocks().find(&two, 4, PART), None, "{damaged:?}");
    }
    std::fs::remove_file(store.blob_path(&blob)).unwrap();
    assert_eq!(store.gzip_blocks().find(&one, 4, PART), None);
}

#[test]
fn a_block_goes_with_its_blob() {
    let space = Space::new();
    let store = space.open();
    let (_, [one, _]) = kept(&store);
    store.prune(&PruneOptions { all: true, ..PruneOptions::default() }).unwrap();
    assert_eq!(store.gzip_blocks().find(&one, 4, PART), None);
    let rows = store
        .inner
        .db
        .read(|db| db.query_row("SELECT count(*) FROM members", [], |row| row.get::<_, i64>(0)));
    assert_eq!(rows.unwrap(), 0);
}
