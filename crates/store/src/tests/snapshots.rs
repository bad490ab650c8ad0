use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use dbuild_digest::BlobDigest;

use super::{Space, crash, id, key, publish, record, scratch, tree};

#[test]
fn a_snapshot_is_published_with_its_index() {
    let space = Space::new();
    let store = space.open();
    let made = publish(&store, "file", "content");
    let found = space.open().snapshot(&made.id).unwrap();
    assert_eq!((&found.tree, &found.dir, found.size), (&made.tree, &made.dir, 7));
    assert_eq!(fs::read_to_string(found.dir.as_ref().unwrap().join("file")).unwrap(), "content");
    assert!(!found.dir.as_ref().unwrap().parent().unwrap().join("work").exists());
    let mode = fs::metadata(found.dir.as_ref().unwrap()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755, "this is the mode of `/`");
}

#[test]
fn a_draft_that_is_dropped_leaves_nothing() {
    let space = Space::new();
    let store = space.open();
    let draft = store.new_snapshot().unwrap();
    // As overlayfs leaves its work directory.
    let work = draft.work_dir().join("work");
    fs::create_dir(&work).unwrap();
    fs::write(work.join("file"), "").unwrap();
    fs::set_permissions(&work, fs::Permissions::from_mode(0o000)).unwrap();
    drop(draft);
    assert_eq!(fs::read_dir(store.scratch_path().parent().unwrap()).unwrap().count(), 0);
    assert_eq!(scratch(&space), 1);
}

#[test]
fn of_two_that_unpack_the_same_base_one_wins() {
    let space = Space::new();
    let (one, two) = (space.open(), space.open());
    let chain = BlobDigest::of(b"chain");
    assert!(one.base_snapshot(&chain).is_none());
    let (draft_one, draft_two) = (one.new_snapshot().unwrap(), two.new_snapshot().unwrap());
    let first = one.publish_base_snapshot(draft_one, &chain, tree("a", "1")).unwrap();
    // As if it had looked before the other was done.
    let second = two.publish_base_snapshot(draft_two, &chain, tree("a", "1")).unwrap();
    assert_eq!(first.id, second.id);
    assert_eq!(one.base_snapshot(&chain).map(|found| found.id), Some(first.id));
    assert_eq!(fs::read_dir(one.root().join("snapshots")).unwrap().count(), 1);
}

#[test]
fn after_a_crash_only_what_was_made_durable_is_there() {
    let space = Space::new();
    let store = space.open();
    let kept = publish(&store, "kept", "1");
    store.put_record(&record(1, "RUN kept", Some(&kept)), &[]).unwrap();
    store.make_durable().unwrap();
    let lost = publish(&store, "lost", "2");
    store.put_record(&record(2, "RUN lost", Some(&lost)), &[]).unwrap();
    crash(&store);
    drop(store);
    let store = space.open();
    assert!(store.snapshot(&id(&kept)).is_some());
    assert!(store.record(&key(1)).is_some());
    assert!(store.snapshot(&id(&lost)).is_none());
    assert_eq!(store.record(&key(2)), None);
    assert!(!lost.dir.as_ref().unwrap().exists());
}
