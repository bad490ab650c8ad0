use dbuild_digest::BlobDigest;

use super::Space;
use crate::{KnownDownload, Validators};

fn known(text: &str) -> KnownDownload {
    let validators = Validators { etag: Some(format!("\"{text}\"")), last_modified: None };
    KnownDownload { digest: BlobDigest::of(text.as_bytes()), validators }
}

#[test]
fn what_a_server_said_is_remembered_without_the_url() {
    let space = Space::new();
    let store = space.open();
    let url = "https://user:hunter2@h/f?token=hunter3";
    assert_eq!(store.known_download(url).unwrap(), None);
    store.remember_download(url, &known("1")).unwrap();
    store.remember_download(url, &known("2")).unwrap();
    assert_eq!(space.open().known_download(url).unwrap(), Some(known("2")));
    assert_eq!(store.known_download("https://h/f?token=hunter3").unwrap(), None);
    for name in ["dbuild.db", "dbuild.db-wal"] {
        let bytes = std::fs::read(space.root().join(name)).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"hunter"), "{name} has a password");
    }
}

#[test]
fn a_damaged_row_is_no_answer() {
    let space = Space::new();
    let store = space.open();
    store.remember_download("https://h/f", &known("1")).unwrap();
    store.inner.db.write(|db| db.execute("UPDATE downloads SET body=replace(body, '1', '2')", [])).unwrap();
    assert_eq!(store.known_download("https://h/f").unwrap(), None);
}

#[test]
fn a_store_that_was_made_before_gets_the_table() {
    let space = Space::new();
    let store = space.open();
    let snapshot = super::publish(&store, "a", "a");
    store.put_record(&super::record(1, "RUN a", Some(&snapshot)), &[]).unwrap();
    store.inner.db.write(|db| db.execute("DROP TABLE downloads", [])).unwrap();
    drop(store);
    let store = space.open();
    assert_eq!(store.take_warnings(), Vec::<String>::new());
    store.remember_download("https://h/f", &known("1")).unwrap();
    assert_eq!(store.record_entries().unwrap().len(), 1, "what it knew is still there");
}
