use std::cell::Cell;
use std::fs;

use dbuild_cache::default_policy;

use super::{Space, key, publish, record};
use crate::{PruneOptions, Store, UpkeepLimits};

fn limits(keep_size: Option<u64>) -> UpkeepLimits {
    UpkeepLimits { keep_size, keep_for: None, policy: default_policy() }
}

fn directories(store: &Store) -> usize {
    fs::read_dir(store.root().join("snapshots")).unwrap().count()
}

#[test]
fn within_the_limit_nothing_goes_and_above_it_what_is_not_leased() {
    let space = Space::new();
    let (build, other) = (space.open(), space.open());
    for number in 1..=2 {
        let snapshot = publish(&build, &format!("file-{number}"), &"x".repeat(1 << 20));
        build.put_record(&record(number, "RUN", Some(&snapshot)), &[]).unwrap();
    }
    assert_eq!(other.upkeep(&limits(None)).unwrap(), None, "the default is at least 10 GB");
    let lease = build.lease().unwrap();
    assert!(build.record(&key(2)).is_some());
    build.flush_uses();
    let done = other.upkeep(&limits(Some(0))).unwrap().unwrap();
    assert_eq!((done.pruned.snapshots, directories(&other)), (1, 1), "{done:?}");
    assert_eq!(other.upkeep(&limits(Some(0))).unwrap(), None, "what is leased stays, and nothing is said");
    drop(lease);
    assert_eq!(other.upkeep(&limits(Some(0))).unwrap().unwrap().pruned.snapshots, 1);
    assert_eq!(directories(&other), 0);
}

#[test]
fn what_there_was_no_time_for_goes_the_next_time() {
    let space = Space::new();
    let store = space.open();
    let trash = store.scratch_path();
    for name in ["a/b", "c/d", "e"] {
        fs::create_dir_all(trash.join(name)).unwrap();
    }
    let asked = Cell::new(0);
    let in_time = || asked.replace(asked.get() + 1) < 2;
    store.discard(&trash, &in_time).unwrap();
    assert!(!trash.exists());
    assert_eq!((asked.get(), directories(&store)), (3, 1), "it stops at once when the time is over");
    store.upkeep(&limits(None)).unwrap();
    assert_eq!(directories(&store), 0);
}

#[test]
fn no_time_removes_nothing() {
    let space = Space::new();
    let store = space.open();
    drop(publish(&store, "file", "content"));
    let deadline = Some(std::time::Duration::ZERO);
    let all = PruneOptions { keep_size: Some(0), deadline, ..PruneOptions::default() };
    assert_eq!(store.prune(&all).unwrap().snapshots, 0);
    assert_eq!(directories(&store), 1);
}
