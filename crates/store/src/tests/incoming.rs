//! Blobs that are read while they come.

use std::io::{Read as _, Write as _};

use dbuild_digest::BlobDigest;

use super::{Space, scratch};
use crate::Incoming;

/// As many bytes as these, and they are these.
fn reads(reader: &mut impl std::io::Read, expected: &str) {
    let mut bytes = vec![0; expected.len()];
    reader.read_exact(&mut bytes).unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
}

#[test]
fn what_has_come_can_be_read_and_the_end_when_the_blob_is_whole() {
    let (space, incoming) = (Space::new(), Incoming::default());
    let store = space.open();
    let mut writer = store.shown_blob_writer(&incoming).unwrap();
    writer.write_all(b"abc").unwrap();
    let mut reader = incoming.next(0).unwrap();
    reads(&mut reader, "abc");
    let following = std::thread::spawn(move || {
        let mut rest = String::new();
        reader.read_to_string(&mut rest).map(|_| rest)
    });
    writer.write_all(b"def").unwrap();
    let digest = BlobDigest::of(b"abcdef");
    writer.commit(Some(&(digest, 6))).unwrap();
    assert_eq!(following.join().unwrap().unwrap(), "def");
    assert!(incoming.becomes_whole(1));
    assert_eq!(store.has_blob(&digest), Some(6));
}

#[test]
fn other_bytes_have_no_end() {
    let (space, incoming) = (Space::new(), Incoming::default());
    let store = space.open();
    let before = scratch(&space);
    let mut writer = store.shown_blob_writer(&incoming).unwrap();
    writer.write_all(b"abc").unwrap();
    let mut reader = incoming.next(0).unwrap();
    reads(&mut reader, "abc");
    let following = std::thread::spawn(move || reader.read(&mut [0]));
    writer.commit(Some(&(BlobDigest::of(b"other"), 3))).unwrap_err();
    assert!(following.join().unwrap().is_err());
    assert!(!incoming.becomes_whole(1));
    incoming.close();
    assert!(incoming.next(0).is_none());
    assert_eq!(scratch(&space), before);
}

#[test]
fn a_second_attempt_is_read_from_its_beginning() {
    let (space, incoming) = (Space::new(), Incoming::default());
    let store = space.open();
    let mut writer = store.shown_blob_writer(&incoming).unwrap();
    writer.write_all(b"abc").unwrap();
    let mut first = incoming.next(0).unwrap();
    reads(&mut first, "a");
    drop(writer);
    let mut writer = store.shown_blob_writer(&incoming).unwrap();
    writer.write_all(b"xyz").unwrap();
    assert!(first.read(&mut [0]).is_err(), "what is left of the first attempt is not read");
    let mut second = incoming.next(first.attempt()).unwrap();
    reads(&mut second, "xyz");
    writer.commit(None).unwrap();
    assert_eq!(second.read(&mut [0]).unwrap(), 0);
    assert_eq!((incoming.becomes_whole(1), incoming.becomes_whole(2)), (false, true));
}

#[test]
fn nobody_waits_for_a_writer_that_will_not_come() {
    let incoming = Incoming::default();
    let waiting = incoming.clone();
    let waiting = std::thread::spawn(move || waiting.next(0).is_none());
    incoming.close();
    assert!(waiting.join().unwrap());
    assert!(!incoming.becomes_whole(1));
}
