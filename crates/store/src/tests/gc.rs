use std::fs;
use std::process::Command;
use std::time::Duration;

use dbuild_cache::policy;
use dbuild_digest::BlobDigest;
use dbuild_events::{Event, EventSink as _, Outcome};

use super::{Space, id, image, key, names, publish, record};
use crate::{BuildInfo, PackKey, PackedLayer, PruneOptions, Snapshot, Store, UsageKind};

/// A result of so many KiB, used at a time of its own.
fn result(store: &Store, number: u8, kib: usize) -> Snapshot {
    let snapshot = publish(store, &format!("file-{number}"), &"x".repeat(kib << 10));
    store.put_record(&record(number, &format!("RUN step {number}"), Some(&snapshot)), &[]).unwrap();
    used_at(store, number, u64::from(number));
    snapshot
}

fn used_at(store: &Store, number: u8, time: u64) {
    store
        .inner
        .db
        .write(|db| {
            db.execute(
                "UPDATE snapshots SET last_used_ms=?2 WHERE id=(SELECT snapshot FROM records WHERE key=?1)",
                (key(number).as_bytes(), time as i64),
            )?;
            db.execute(
                "UPDATE records SET last_used_ms=?2 WHERE key=?1",
                (key(number).as_bytes(), time as i64),
            )
        })
        .unwrap();
}

fn there(store: &Store) -> Vec<u8> {
    let mut keys: Vec<u8> =
        store.record_entries().unwrap().iter().map(|entry| entry.record.key.as_bytes()[0]).collect();
    keys.sort_unstable();
    keys
}

/// Gives back what the database does not need, so that sizes can be foretold.
fn compact(store: &Store) {
    let pruned = store.prune(&PruneOptions { keep_size: Some(u64::MAX), ..PruneOptions::default() }).unwrap();
    assert_eq!((pruned.snapshots, pruned.blobs), (0, 0));
}

fn du(space: &Space) -> u64 {
    let output = Command::new("du").arg("-s").arg("-B1").arg(space.root()).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn usage_agrees_with_du_and_counts_shared_files_once() {
    let space = Space::new();
    let store = space.open();
    let first = result(&store, 1, 512);
    // A COPY that links instead of copying.
    let draft = store.new_snapshot().unwrap();
    fs::hard_link(first.dir.as_ref().unwrap().join("file-1"), draft.fs_dir().join("file-1")).unwrap();
    store.publish_snapshot(draft, (*first.tree).clone()).unwrap();
    store.tag("app", &image(&store, &"layer".repeat(40_000))).unwrap();
    store.put_blob(&vec![7; 100_000]).unwrap();
    let usage = store.disk_usage().unwrap();
    let du = du(&space);
    assert!(usage.total.abs_diff(du) * 50 <= du, "{} and {du}", usage.total);
    assert_eq!(usage.entries.iter().map(|entry| entry.size).sum::<u64>(), usage.total);
    let of = |kind: UsageKind| usage.entries.iter().filter(|e| e.kind == kind).map(|e| e.size).sum::<u64>();
    assert!((512 << 10..600 << 10).contains(&of(UsageKind::Snapshot)), "{}", of(UsageKind::Snapshot));
    assert!(of(UsageKind::Image) >= 200_000 && of(UsageKind::Blob) >= 100_000);
    assert!(usage.reclaimable >= of(UsageKind::Snapshot) + of(UsageKind::Blob));
}

#[test]
fn after_a_prune_to_a_size_the_store_is_not_larger() {
    let space = Space::new();
    let store = space.open();
    (1..=8).for_each(|number| drop(result(&store, number, 256)));
    compact(&store);
    let keep = du(&space) - (600 << 10);
    let pruned = store.prune(&PruneOptions { keep_size: Some(keep), ..PruneOptions::default() }).unwrap();
    assert!(du(&space) <= keep, "{} > {keep}", du(&space));
    assert_eq!(pruned.remaining, du(&space));
    assert_eq!(there(&store), [4, 5, 6, 7, 8], "least recently used first, and no more than needed");
    assert_eq!(fs::read_dir(store.root().join("snapshots")).unwrap().count(), 5);
    assert!((600 << 10..900 << 10).contains(&pruned.freed));
}

#[test]
fn links_are_no_excuse_to_stay_above_the_size() {
    let space = Space::new();
    let store = space.open();
    let first = result(&store, 1, 512);
    for number in 2..=6 {
        let draft = store.new_snapshot().unwrap();
        fs::hard_link(first.dir.as_ref().unwrap().join("file-1"), draft.fs_dir().join("file-1")).unwrap();
        let linked = store.publish_snapshot(draft, (*first.tree).clone()).unwrap();
        store.put_record(&record(number, "COPY", Some(&linked)), &[]).unwrap();
        used_at(&store, number, u64::from(number));
    }
    compact(&store);
    let keep = du(&space) - (300 << 10);
    store.prune(&PruneOptions { keep_size: Some(keep), ..PruneOptions::default() }).unwrap();
    assert!(du(&space) <= keep);
    assert_eq!(there(&store), Vec::<u8>::new(), "the bytes go with the last link");
}

#[test]
fn the_policy_decides() {
    let space = Space::new();
    let store = space.open();
    for (number, kib, duration_ms) in [(1, 64, 90_000), (2, 512, 1000), (3, 64, 5_000)] {
        let snapshot = result(&store, number, kib);
        let mut record = record(number, "RUN", Some(&snapshot));
        record.duration_ms = duration_ms;
        store.put_record(&record, &[]).unwrap();
        used_at(&store, number, u64::from(number));
    }
    compact(&store);
    let keep = du(&space) - (300 << 10);
    let policy = Some(policy("gdsf").unwrap());
    store.prune(&PruneOptions { keep_size: Some(keep), policy, ..PruneOptions::default() }).unwrap();
    assert_eq!(there(&store), [1, 3], "few seconds for many bytes go first");
}

#[test]
fn what_a_lease_has_seen_stays() {
    let space = Space::new();
    let (build, other) = (space.open(), space.open());
    (1..=3).for_each(|number| drop(result(&build, number, 4)));
    let everything = PruneOptions { all: true, ..PruneOptions::default() };
    let lease = build.lease().unwrap();
    assert!(build.record(&key(2)).is_some());
    let (blob, _) = build.put_blob(b"made under the lease").unwrap();
    let made = publish(&build, "made", "under the lease");
    let pruned = other.prune(&everything).unwrap();
    assert_eq!(pruned.snapshots, 2);
    assert_eq!(there(&other), [2]);
    assert!(build.snapshot(&made.id).is_some() && build.has_blob(&blob).is_some());
    drop(lease);
    other.prune(&everything).unwrap();
    assert_eq!(there(&other), Vec::<u8>::new());
    assert!(other.snapshot(&made.id).is_none() && other.has_blob(&blob).is_none());
}

#[test]
fn images_stay_and_what_belongs_to_none_goes() {
    let space = Space::new();
    let store = space.open();
    store.tag("app", &image(&store, "shipped")).unwrap();
    let packed = |content: &[u8]| {
        let snapshot = publish(&store, "f", "c");
        let (digest, size) = store.put_blob(content).unwrap();
        let layer = PackedLayer {
            diff_id: digest,
            digest,
            size,
            media_type: String::new(),
            annotations: Default::default(),
        };
        store.put_packed(&snapshot.id, &PackKey("x".into()), &layer).unwrap();
    };
    packed(b"shipped");
    packed(b"left behind");
    let (pulled, _) = store.put_blob(b"a base's layer").unwrap();
    let chain = BlobDigest::of(b"chain");
    let base =
        store.publish_base_snapshot(store.new_snapshot().unwrap(), &chain, super::tree("b", "c")).unwrap();
    store.prune(&PruneOptions::default()).unwrap();
    assert_eq!(store.has_blob(&BlobDigest::of(b"left behind")), None);
    assert!(store.has_blob(&pulled).is_some(), "bases are kept without --all");
    assert!(store.snapshot(&id(&base)).is_some());
    store.prune(&PruneOptions { all: true, ..PruneOptions::default() }).unwrap();
    assert_eq!(store.has_blob(&pulled), None);
    assert!(store.base_snapshot(&chain).is_none());
    assert_eq!(names(&store), ["app"]);
    store.blobs_of(&store.image("app").unwrap().digest().unwrap()).unwrap();
    store.untag("app").unwrap();
    store.prune(&PruneOptions { all: true, ..PruneOptions::default() }).unwrap();
    assert_eq!(fs::read_dir(store.root().join("blobs/sha256")).unwrap().count(), 0);
}

#[test]
fn what_was_not_used_for_long_goes() {
    let space = Space::new();
    let store = space.open();
    (1..=2).for_each(|number| drop(result(&store, number, 4)));
    assert!(store.record(&key(2)).is_some(), "used now");
    let day = Some(Duration::from_secs(86_400));
    store.prune(&PruneOptions { keep_for: day, ..PruneOptions::default() }).unwrap();
    assert_eq!(there(&store), [2]);
}

#[test]
fn with_a_deadline_nothing_takes_long() {
    let space = Space::new();
    let store = space.open();
    (1..=4).for_each(|number| drop(result(&store, number, 64)));
    let options =
        |keep, deadline| PruneOptions { keep_size: Some(keep), deadline, ..PruneOptions::default() };
    let pruned = store.prune(&options(1 << 30, Some(Duration::from_secs(1)))).unwrap();
    assert_eq!((pruned.snapshots, pruned.freed), (0, 0));
    let pruned = store.prune(&options(0, Some(Duration::ZERO))).unwrap();
    assert_eq!(pruned.snapshots, 0, "there was no time");
    let pruned = store.prune(&options(0, Some(Duration::from_secs(60)))).unwrap();
    assert_eq!(pruned.snapshots, 4);
}

#[test]
fn the_journal_is_the_last_to_go_and_the_database_shrinks() {
    let space = Space::new();
    let store = space.open();
    for _ in 0..4 {
        let build = store.begin_build(&BuildInfo::default()).unwrap();
        let journal = store.journal(&build).unwrap();
        journal.emit(Event::Note { text: "y".repeat(1 << 20) });
        journal.emit(Event::BuildFinished { outcome: Outcome::Done, duration_ms: 1 });
    }
    let running = store.begin_build(&BuildInfo::default()).unwrap();
    result(&store, 1, 4);
    let keep = 2 << 20;
    store.prune(&PruneOptions { keep_size: Some(keep), ..PruneOptions::default() }).unwrap();
    assert!(du(&space) <= keep, "{}", du(&space));
    assert!(store.builds(9).unwrap().iter().any(|build| build.id == running));
}

#[test]
fn files_without_rows_are_swept() {
    let space = Space::new();
    let store = space.open();
    let kept = result(&store, 1, 4);
    fs::create_dir_all(store.root().join("snapshots/orphan/fs")).unwrap();
    fs::write(store.root().join("blobs/sha256").join("0".repeat(64)), "someone is copying an image in")
        .unwrap();
    let lease = store.lease().unwrap();
    fs::create_dir_all(store.root().join("snapshots/made-now/fs")).unwrap();
    used_at(&store, 1, u64::MAX / 4);
    store.prune(&PruneOptions { keep_size: Some(1 << 30), ..PruneOptions::default() }).unwrap();
    let left = |name: &str| store.root().join("snapshots").join(name).exists();
    assert!(left(kept.id.as_str()) && left("made-now"), "{:?}", kept.id);
    drop(lease);
    store.prune(&PruneOptions { keep_size: Some(1 << 30), ..PruneOptions::default() }).unwrap();
    assert!(!left("orphan") && !left("made-now"));
    assert_eq!(fs::read_dir(store.root().join("blobs/sha256")).unwrap().count(), 1);
}

#[test]
fn verifying_finds_and_repairs() {
    let space = Space::new();
    let store = space.open();
    let (good, bad) = (result(&store, 1, 4), result(&store, 2, 4));
    let (blob, _) = store.put_blob(b"a blob").unwrap();
    assert_eq!(store.verify(false).unwrap().findings, []);
    fs::write(bad.dir.as_ref().unwrap().join("file-2"), "short").unwrap();
    fs::write(store.blob_path(&blob), "other!").unwrap();
    let found = store.verify(false).unwrap();
    assert_eq!((found.findings.len(), found.snapshots, found.blobs), (2, 2, 1));
    assert_eq!(store.verify(true).unwrap().findings.len(), 2);
    assert_eq!(store.verify(true).unwrap().findings, []);
    assert!(store.snapshot(&good.id).is_some());
    assert_eq!(there(&store), [1]);
    assert_eq!(store.has_blob(&blob), None);
}
