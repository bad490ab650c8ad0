use dbuild_digest::BlobDigest;

use super::Space;

#[test]
fn a_memo_is_found_again_under_its_topic_and_key() {
    let space = Space::new();
    let store = space.open();
    let key = BlobDigest::of(b"image");
    assert_eq!(store.memo("starts", &key), None);
    store.remember("starts", &key, "one");
    store.remember("starts", &key, "two");
    assert_eq!(store.memo("starts", &key).as_deref(), Some("two"));
    assert_eq!(store.memo("other", &key), None);
    assert_eq!(store.memo("starts", &BlobDigest::of(b"another")), None);
}
