use dbuild_digest::BlobDigest;

use super::Space;

#[test]
fn a_memo_is_found_again_under_its_topic_and_key() {
    let space = Space::new();
    let store = space.open();
    let key = BlobDigest::of(b"image");
    assert_eq!(store.analysis("starts", &key), None);
    store.put_analysis("starts", &key, "one");
    store.put_analysis("starts", &key, "two");
    assert_eq!(store.analysis("starts", &key).as_deref(), Some("two"));
    assert_eq!(store.analysis("other", &key), None);
    assert_eq!(store.analysis("starts", &BlobDigest::of(b"another")), None);
}
