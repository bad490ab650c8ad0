use std::fs;
use std::io;

use dbuild_plan::CacheSharing;

use super::Space;
use crate::PruneOptions;

fn nothing(_: &std::path::Path) -> io::Result<()> {
    Ok(())
}

#[test]
fn a_cache_is_filled_once_and_kept() {
    let space = Space::new();
    let store = space.open();
    let mut filled = 0;
    for _ in 0..2 {
        let mount = store
            .cache_mount("pip", CacheSharing::Shared, false, |dir| {
                filled += 1;
                fs::write(dir.join("seed"), "")
            })
            .unwrap();
        assert!(mount.dir().join("seed").exists());
        fs::write(mount.dir().join("wheel"), "data").unwrap();
    }
    assert_eq!(filled, 1);
    let listed = space.open().cache_mounts().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].id, "pip");
    let other = store.cache_mount("../pip", CacheSharing::Shared, false, nothing).unwrap();
    assert!(other.dir().starts_with(store.root().join("mounts")));
    assert!(!other.dir().join("wheel").exists());
}

#[test]
fn a_cache_that_could_not_be_filled_is_filled_next_time() {
    let space = Space::new();
    let store = space.open();
    let failed = store.cache_mount("x", CacheSharing::Locked, false, |dir| {
        fs::write(dir.join("half"), "")?;
        Err(io::Error::other("no seed"))
    });
    assert!(failed.unwrap_err().to_string().contains("no seed"));
    let mount =
        store.cache_mount("x", CacheSharing::Shared, false, |dir| fs::write(dir.join("whole"), "")).unwrap();
    assert!(mount.dir().join("whole").exists() && !mount.dir().join("half").exists());
}

#[test]
fn who_would_have_to_wait_can_be_told() {
    let space = Space::new();
    let (one, two) = (space.open(), space.open());
    let busy = |sharing| two.cache_mount_is_busy("x", sharing);
    assert!(!busy(CacheSharing::Locked), "there is none yet");
    let held = one.cache_mount("x", CacheSharing::Shared, false, nothing).unwrap();
    assert_eq!(
        (busy(CacheSharing::Shared), busy(CacheSharing::Locked), busy(CacheSharing::Private)),
        (false, true, false)
    );
    drop(held);
    let held = one.cache_mount("x", CacheSharing::Locked, false, nothing).unwrap();
    assert_eq!(
        (busy(CacheSharing::Shared), busy(CacheSharing::Locked), busy(CacheSharing::Private)),
        (true, true, false)
    );
    drop(held);
    assert!(!busy(CacheSharing::Shared) && !busy(CacheSharing::Locked));
}

#[test]
fn sharing_is_kept_between_stores() {
    let space = Space::new();
    let (one, two) = (space.open(), space.open());
    let first = one.cache_mount("shared", CacheSharing::Shared, false, nothing).unwrap();
    let second = two.cache_mount("shared", CacheSharing::Shared, false, nothing).unwrap();
    assert_eq!(first.dir(), second.dir());

    let first = one.cache_mount("private", CacheSharing::Private, false, nothing).unwrap();
    let second = two.cache_mount("private", CacheSharing::Private, false, nothing).unwrap();
    assert_ne!(first.dir(), second.dir());
    let dir = first.dir().to_owned();
    drop(first);
    assert_eq!(
        two.cache_mount("private", CacheSharing::Private, false, nothing).unwrap().dir(),
        dir,
        "taken up again"
    );

    let first = one.cache_mount("locked", CacheSharing::Locked, false, nothing).unwrap();
    std::thread::scope(|scope| {
        let (started, has_started) = std::sync::mpsc::channel();
        let (first, two) = (first, &two);
        let waiter = scope.spawn(move || {
            started.send(()).unwrap();
            let mount = two.cache_mount("locked", CacheSharing::Locked, false, nothing).unwrap();
            mount.dir().join("mark").exists()
        });
        has_started.recv().unwrap();
        fs::write(first.dir().join("mark"), "").unwrap();
        drop(first);
        assert!(waiter.join().unwrap(), "one after the other");
    });
}

#[test]
fn a_cache_in_use_is_not_collected() {
    let space = Space::new();
    let store = space.open();
    let used = store.cache_mount("used", CacheSharing::Shared, false, nothing).unwrap();
    drop(store.cache_mount("free", CacheSharing::Shared, false, nothing).unwrap());
    let pruned = space.open().prune(&PruneOptions { all: true, ..PruneOptions::default() }).unwrap();
    assert_eq!(pruned.cache_mounts, 1);
    assert!(used.dir().exists());
    drop(used);
    let pruned = store.prune(&PruneOptions { all: true, ..PruneOptions::default() }).unwrap();
    assert_eq!(pruned.cache_mounts, 1);
    assert_eq!(store.cache_mounts().unwrap(), []);
    store.cache_mount("used", CacheSharing::Shared, false, nothing).unwrap();
}

#[test]
fn a_mount_begins_anew_when_nobody_is_in_it() {
    let space = Space::new();
    let (one, two) = (space.open(), space.open());
    for sharing in [CacheSharing::Shared, CacheSharing::Locked, CacheSharing::Private] {
        let name = format!("{sharing:?}");
        let mount = one.cache_mount(&name, sharing, false, nothing).unwrap();
        let dir = mount.dir().to_owned();
        fs::write(dir.join("old"), "").unwrap();
        let waiting = std::thread::scope(|scope| {
            let begun = scope.spawn(|| {
                let mount =
                    two.cache_mount(&name, sharing, true, |dir| fs::write(dir.join("first"), "")).unwrap();
                (mount.dir().join("old").exists(), mount.dir().join("first").exists())
            });
            // The step that is in it keeps it to the end.
            assert!(dir.join("old").exists() && (sharing == CacheSharing::Private || !begun.is_finished()));
            drop(mount);
            begun.join().unwrap()
        });
        assert_eq!(waiting, (false, true), "{name}");
        let kept = one.cache_mount(&name, sharing, false, nothing).unwrap();
        assert!(
            kept.dir().join("first").exists() || sharing == CacheSharing::Private,
            "{name}: the new one is kept"
        );
    }
}
