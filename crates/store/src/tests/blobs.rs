use std::fs;
use std::io::{Read, Write};

use dbuild_digest::BlobDigest;

use super::{Space, crash, image, names};
use crate::StoreError;

#[test]
fn what_is_written_is_read_and_an_abandoned_blob_leaves_nothing() {
    let space = Space::new();
    let store = space.open();
    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"hello ").unwrap();
    writer.write_all(b"world").unwrap();
    let (digest, size) = writer.commit(None).unwrap();
    assert_eq!((digest, size), (BlobDigest::of(b"hello world"), 11));
    assert_eq!(store.has_blob(&digest), Some(11));
    assert_eq!(store.read_blob(&digest, 11).unwrap(), b"hello world");
    assert!(matches!(store.read_blob(&digest, 10), Err(StoreError::TooLarge { size: 11, .. })));
    assert_eq!(store.put_blob(b"hello world").unwrap(), (digest, 11));

    let mut writer = store.blob_writer().unwrap();
    writer.write_all(b"abandoned").unwrap();
    drop(writer);
    assert_eq!(store.has_blob(&BlobDigest::of(b"abandoned")), None);
    assert_eq!(fs::read_dir(store.scratch_path().parent().unwrap()).unwrap().count(), 0);
}

#[test]
fn of_the_room_that_is_reserved_for_a_large_file_nothing_stays() {
    use std::os::unix::fs::MetadataExt as _;
    let space = Space::new();
    let store = space.open();
    let piece = [7; 1 << 20];
    let write = |out: &mut dyn Write| (0..40).try_for_each(|_| out.write_all(&piece));
    let room = |path: &std::path::Path| {
        let meta = fs::metadata(path).unwrap();
        (meta.len(), meta.blocks() * 512)
    };
    let mut writer = store.blob_writer().unwrap();
    write(&mut writer).unwrap();
    let (digest, size) = writer.commit(None).unwrap();
    let (length, taken) = room(&store.blob_path(&digest));
    assert_eq!((size, length), (40 << 20, 40 << 20));
    assert!(taken <= (40 << 20) + (64 << 10), "{taken} bytes of the disk");
    assert_eq!(store.read_blob(&digest, u64::MAX).unwrap(), piece.repeat(40));

    let place = space.dir.path().join("archive");
    crate::replace_file(&place, |file| write(file)).unwrap();
    let (length, taken) = room(&place);
    assert_eq!(length, 40 << 20);
    assert!(taken <= (40 << 20) + (64 << 10), "{taken} bytes of the disk");
}

#[test]
fn bytes_that_were_not_expected_are_refused() {
    let space = Space::new();
    let store = space.open();
    let (wanted, other) = (BlobDigest::of(b"wanted"), BlobDigest::of(b"other"));
    for (expected, told) in [((wanted, 5), wanted.to_string()), ((other, 7), "7 bytes".to_owned())] {
        let mut writer = store.blob_writer().unwrap();
        writer.write_all(b"other").unwrap();
        let error = writer.commit(Some(&expected)).unwrap_err();
        assert!(error.to_string().contains(&told), "{error}");
        assert_eq!(store.has_blob(&wanted), None);
        assert_eq!(store.has_blob(&other), None);
    }
}

#[test]
fn a_changed_blob_is_found_without_reading_and_by_reading() {
    let space = Space::new();
    let store = space.open();
    let (digest, _) = store.put_blob(b"some bytes").unwrap();
    fs::write(store.blob_path(&digest), b"same size!").unwrap();
    assert_eq!(store.has_blob(&digest), None, "its time differs, so it was hashed");
    assert!(!store.blob_path(&digest).exists());

    let (digest, _) = store.put_blob(b"some bytes").unwrap();
    let path = store.blob_path(&digest);
    let times = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, b"same size!").unwrap();
    fs::File::open(&path).unwrap().set_modified(times).unwrap();
    let mut bytes = Vec::new();
    let error = store.open_blob(&digest).unwrap().read_to_end(&mut bytes).unwrap_err();
    assert!(error.to_string().contains("is damaged"), "{error}");
    assert_eq!(store.has_blob(&digest), None);
    assert_eq!(store.take_warnings().len(), 1);
}

#[test]
fn a_blob_that_another_tool_wrote_is_hashed_first() {
    let space = Space::new();
    let store = space.open();
    let (good, bad) = (BlobDigest::of(b"good"), BlobDigest::of(b"bad"));
    fs::write(store.blob_path(&good), b"good").unwrap();
    fs::write(store.blob_path(&bad), b"lie").unwrap();
    assert_eq!(store.has_blob(&good), Some(4));
    assert_eq!(store.has_blob(&bad), None);
}

#[test]
fn after_a_crash_a_torn_blob_is_missing_and_a_tagged_one_is_there() {
    let space = Space::new();
    let store = space.open();
    store.tag("app", &image(&store, "durable")).unwrap();
    let (torn, _) = store.put_blob(b"written but not synced").unwrap();
    let (whole, _) = store.put_blob(b"written and, by luck, whole").unwrap();
    fs::File::options().write(true).open(store.blob_path(&torn)).unwrap().set_len(3).unwrap();
    crash(&store);
    drop(store);
    let store = space.open();
    assert_eq!(store.has_blob(&torn), None);
    assert!(store.has_blob(&whole).is_some());
    assert_eq!(names(&store), ["app"]);
    assert!(store.blobs_of(&store.image("app").unwrap().digest().unwrap()).is_ok());
}

#[test]
fn small_or_large_a_blob_is_hashed_while_it_is_copied() {
    let space = Space::new();
    let store = space.open();
    for length in [0, 1, 300 << 10, (3 << 20) + 5] {
        let bytes: Vec<u8> = (0..length).map(|at: u32| (at % 251) as u8).collect();
        let mut writer = store.unhashed_blob_writer().unwrap();
        writer.write_all(&bytes).unwrap();
        let (digest, size) = writer.commit_as(BlobDigest::of(&bytes)).unwrap();
        let mut copy = Vec::new();
        assert_eq!(store.open_blob(&digest).unwrap().copy_to(&mut copy).unwrap(), size);
        assert!(copy == bytes, "{length} bytes");
        if length == 0 {
            continue;
        }
        let file = fs::File::options().write(true).open(store.blob_path(&digest)).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xff], u64::from(length) - 1).unwrap();
        let error = store.open_blob(&digest).unwrap().copy_to(&mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("is damaged"), "{error}");
        assert!(!store.blob_path(&digest).exists(), "{length} bytes");
    }
}
