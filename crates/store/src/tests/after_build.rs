use std::cell::Cell;
use std::fs;

use dbuild_cache::default_policy;
use dbuild_plan::CacheSharing;

use super::{Space, key, publish, record};
use crate::{AfterBuildLimits, PruneOptions, Store};

fn limits(keep_size: Option<u64>) -> AfterBuildLimits {
    AfterBuildLimits { keep_size, keep_for: None, policy: default_policy() }
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
    assert_eq!(other.collect_after_build(&limits(None)).unwrap(), None, "the default is at least 10 GB");
    let lease = build.lease().unwrap();
    assert!(build.record(&key(2)).is_some());
    build.flush_uses();
    let done = other.collect_after_build(&limits(Some(0))).unwrap().unwrap();
    assert_eq!((done.pruned.snapshots, directories(&other)), (1, 1), "{done:?}");
    assert_eq!(
        other.collect_after_build(&limits(Some(0))).unwrap(),
        None,
        "what is leased stays, and nothing is said"
    );
    drop(lease);
    assert_eq!(other.collect_after_build(&limits(Some(0))).unwrap().unwrap().pruned.snapshots, 1);
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
    store.collect_after_build(&limits(None)).unwrap();
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

#[test]
fn a_cache_mount_is_measured_after_its_use_and_goes_like_a_result() {
    let space = Space::new();
    let store = space.open();
    let write = |name: &str| {
        let mount = store.cache_mount("m", CacheSharing::Shared, false, |_| Ok(())).unwrap();
        fs::write(mount.dir().join(name), vec![1; 1 << 20]).unwrap();
        mount
    };
    let size = || store.cache_mounts().unwrap()[0].size;
    let mount = write("one");
    store.measure_mounts(&|| true).unwrap();
    assert!(size() >= 1 << 20, "also while a step is in it");
    fs::write(mount.dir().join("two"), vec![1; 1 << 20]).unwrap();
    drop(mount);
    // It was in use, so what was counted may be too little.
    store.measure_mounts(&|| true).unwrap();
    assert!(size() >= 2 << 20);
    let (known, estimated) = (size(), store.estimated_size().unwrap());
    // Of a walk that is cut short a part is known, and what was known before is not forgotten.
    let mount = write("three");
    drop(mount);
    let asked = Cell::new(0);
    store.measure_mounts(&|| asked.replace(asked.get() + 1) < 2).unwrap();
    assert_eq!((size(), store.cache_mounts().unwrap()[0].hits), (known, 1));
    assert!(estimated > known);

    let used = store.cache_mount("m", CacheSharing::Shared, false, |_| Ok(())).unwrap();
    assert_eq!(store.collect_after_build(&limits(Some(0))).unwrap(), None, "a step is in it");
    drop(used);
    let done = store.collect_after_build(&limits(Some(0))).unwrap().unwrap();
    assert_eq!((done.pruned.cache_mounts, done.unfinished), (1, false), "{done:?}");
    assert_eq!(store.cache_mounts().unwrap(), []);
    let rows = store.inner.db.read(|db| db.prepare("SELECT 1 FROM mounts")?.exists([]));
    assert!(!rows.unwrap(), "nothing is left of it");
}

#[test]
fn a_use_that_cannot_be_written_protects_everything_until_its_lease_ends() {
    let space = Space::new();
    let (build, other) = (space.open(), space.open());
    let snapshot = publish(&build, "file", "content");
    build.put_record(&record(1, "RUN", Some(&snapshot)), &[]).unwrap();
    let lease = build.lease().unwrap();
    build.inner.last_used.protect_everything();
    let all = PruneOptions { all: true, ..PruneOptions::default() };
    assert_eq!(other.prune(&all).unwrap().snapshots, 0);
    drop(lease);
    assert_eq!(other.prune(&all).unwrap().snapshots, 1);
}

#[test]
fn a_reserve_is_kept_and_made_again_whoever_took_it() {
    let space = Space::new();
    let store = space.open();
    let reserve = store.room(crate::format::RESERVE);
    let blocks = || fs::read_dir(&reserve).unwrap().count();
    assert_eq!(blocks(), 16);
    // There is space, so it stays.
    Store::make_room(store.root()).unwrap();
    assert_eq!(blocks(), 16);
    fs::remove_dir_all(&reserve).unwrap();
    store.prune(&PruneOptions::default()).unwrap();
    assert_eq!(blocks(), 16);
    // A limit that leaves no room for it holds all the same.
    let limit = |keep| PruneOptions { keep_size: Some(keep), ..PruneOptions::default() };
    let least = store.prune(&limit(0)).unwrap().remaining;
    assert!(!reserve.exists() && least < 1 << 20, "{least}");
    assert!(store.prune(&limit(least + (1 << 20))).unwrap().remaining < least + (1 << 20));
    assert!(!reserve.exists());
    drop(space.open());
    assert_eq!(blocks(), 16);
}
