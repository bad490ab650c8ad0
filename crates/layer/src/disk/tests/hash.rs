use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;

use dbuild_digest::{ContentDigest, ContentPart};

use super::{LARGE, hash_bytes};

const LENGTH: usize = ContentPart::LENGTH;

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

#[test]
fn files_of_all_sizes_have_the_digest_of_their_bytes_and_are_copied() {
    let dir = tempfile::tempdir().unwrap();
    let large = LARGE as usize;
    for size in [0, 1, 4095, 4096, LENGTH, large - 1, large, large + 1, large + LENGTH, 13 * LENGTH + 77] {
        let (bytes, path) = (bytes(size), dir.path().join("from"));
        fs::write(&path, &bytes).unwrap();
        let from = || File::open(&path).unwrap();
        let expected = (size as u64, ContentDigest::of(&bytes));
        assert_eq!(hash_bytes(&from(), size as u64, None).unwrap(), expected, "{size}");
        for sparse in [false, true] {
            let copy = dir.path().join("copy");
            let to = File::create(&copy).unwrap();
            assert_eq!(hash_bytes(&from(), size as u64, Some((&to, sparse))).unwrap(), expected, "{size}");
            assert!(fs::read(&copy).unwrap() == bytes, "{size}, sparse: {sparse}");
        }
    }
}

#[test]
fn a_file_that_has_another_size_than_it_had_is_taken_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("from"), dir.path().join("copy"));
    let (small, large) = (LARGE as usize / 2, LARGE as usize * 2 + 5);
    for (said, real) in [(large, small), (small, large), (large, large - 1), (large, large + 1), (large, 0)] {
        let bytes = bytes(real);
        fs::write(&path, &bytes).unwrap();
        for sparse in [false, true] {
            let to = File::create(&copy).unwrap();
            let hashed = hash_bytes(&File::open(&path).unwrap(), said as u64, Some((&to, sparse))).unwrap();
            assert_eq!(hashed, (real as u64, ContentDigest::of(&bytes)), "{said}, {real}");
            assert!(fs::read(&copy).unwrap() == bytes, "{said}, {real}, sparse: {sparse}");
        }
    }
}

#[test]
fn holes_stay_holes() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("from"), dir.path().join("copy"));
    let mut from = File::create(&path).unwrap();
    from.write_all(b"begin").unwrap();
    from.set_len(16 << 20).unwrap();
    let to = File::create(&copy).unwrap();
    let (size, content) = hash_bytes(&File::open(&path).unwrap(), 16 << 20, Some((&to, true))).unwrap();
    assert_eq!((size, content), (16 << 20, ContentDigest::of(&fs::read(&path).unwrap())));
    assert_eq!(to.metadata().unwrap().len(), 16 << 20);
    assert!(to.metadata().unwrap().blocks() * 512 <= 64 << 10);
}
