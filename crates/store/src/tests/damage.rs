//! The damage matrix: truncate, flip, delete × blob, snapshot index, database, `index.json`.
//! Whatever happens to a file, what the store answers afterwards is right or nothing, and it can be
//! used again.

use std::fs;
use std::path::Path;

use dbuild_cache::{Ingredient, IngredientKind};
use dbuild_digest::{BlobDigest, SnapshotId};
use dbuild_layer::{LayerError, Stack, Tree, TreePath};

use super::{Space, image, ingredient, key, publish, record};
use crate::{PackKey, PackedLayer, Record, ResolvedReference, Store};

/// Everything that a store can know, and what it is.
struct Truth {
    record: Record,
    ingredients: Vec<Ingredient>,
    snapshot: SnapshotId,
    tree: Tree,
    packed: PackedLayer,
    reference: ResolvedReference,
    image: String,
}

const NAME: &str = "docker.io/library/app:latest";

fn pack_key() -> PackKey {
    PackKey("gzip-6".to_owned())
}

fn fill(store: &Store) -> Truth {
    let snapshot = publish(store, "file", "content");
    let record = record(1, "RUN make", Some(&snapshot));
    let ingredients: Vec<Ingredient> = (0..300)
        .map(|n| ingredient(IngredientKind::Path, &format!("path-{n}"), &format!("file 0644 0:0 {n:064x}")))
        .collect();
    store.put_record(&record, &ingredients).unwrap();
    let (digest, size) = store.put_blob(b"the layer").unwrap();
    let packed = PackedLayer {
        diff_id: digest,
        digest,
        size,
        media_type: "tar".to_owned(),
        annotations: Default::default(),
    };
    store.put_packed(&snapshot.id, &pack_key(), &packed).unwrap();
    let reference = ResolvedReference { manifest: digest, index: None, fetched_ms: 5 };
    store.remember_reference("base", "linux/amd64", &reference).unwrap();
    let image = image(store, "the layer");
    store.tag(NAME, &image).unwrap();
    store.make_durable().unwrap();
    Truth {
        record,
        ingredients,
        snapshot: snapshot.id.clone(),
        tree: (*snapshot.tree).clone(),
        packed,
        reference,
        image: image.digest().to_string(),
    }
}

/// Each answer is the truth or nothing; how many were the truth.
fn check(store: &Store, truth: &Truth, told: &str) -> usize {
    ALL - missing(store, truth, told).len()
}

const ALL: usize = 9;

/// What the store does not know.
fn missing(store: &Store, truth: &Truth, told: &str) -> Vec<&'static str> {
    let mut missing = Vec::new();
    let mut expect = |what: &'static str, answer: Option<bool>| match answer {
        None => missing.push(what),
        Some(is_true) => assert!(is_true, "{told}: a wrong {what}"),
    };
    expect(
        "record",
        store
            .record(&key(1))
            .map(|found| Record { created_ms: 0, last_used_ms: 0, hits: 0, ..found } == truth.record),
    );
    expect("list", store.ingredients(&key(1)).map(|found| found == truth.ingredients));
    expect("snapshot", store.snapshot(&truth.snapshot).map(|found| *found.tree == truth.tree));
    let layer = truth.tree.digest();
    expect("known result", store.known_result(&key(200), &layer).map(|found| found == truth.snapshot));
    expect("packed layer", store.packed(&truth.snapshot, &pack_key()).map(|found| found == truth.packed));
    expect(
        "reference",
        store.reference("base", "linux/amd64").unwrap_or_default().map(|found| found == truth.reference),
    );
    expect(
        "image",
        store.image("app").ok().map(|found| found.descriptor.digest().to_string() == truth.image),
    );
    let layer = BlobDigest::of(b"the layer");
    expect("blob", store.has_blob(&layer).map(|size| size == 9));
    expect("bytes", store.read_blob(&layer, 100).ok().map(|bytes| bytes == b"the layer"));
    missing
}

/// Brings everything into the database file itself.
fn checkpoint(store: &Store) {
    store.inner.db.read(|db| db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")).unwrap();
}

/// Damages one file of a full store, in one way, and looks what it knows then.
fn damaged(
    told: &str,
    victim: impl Fn(&Path, &Truth) -> std::path::PathBuf,
    damage: impl Fn(&Path),
) -> usize {
    let space = Space::new();
    let store = space.open();
    let truth = fill(&store);
    assert_eq!(check(&store, &truth, told), 9);
    checkpoint(&store);
    drop(store);
    damage(&victim(&space.root(), &truth));
    let store = space.open();
    let right = check(&store, &truth, told);
    let warnings = store.take_warnings();
    assert!(warnings.len() <= 2, "{told}: {warnings:?}");
    // As a build would go on.
    let mut again = fill(&store);
    if !store.take_warnings().is_empty() {
        // The damage was met in the middle of it; what was done before is lost, and only that.
        missing(&store, &again, told);
        again = fill(&store);
    }
    assert_eq!(missing(&store, &again, told), [""; 0], "{told}: cannot be used again");
    drop(store);
    assert_eq!(missing(&space.open(), &again, told), [""; 0], "{told}: does not last");
    right
}

fn every_way(told: &str, victim: impl Fn(&Path, &Truth) -> std::path::PathBuf + Copy) -> Vec<usize> {
    let truncate = |keep: fn(u64) -> u64| {
        move |path: &Path| {
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_len(keep(file.metadata().unwrap().len())).unwrap();
        }
    };
    vec![
        damaged(&format!("{told} deleted"), victim, |path| fs::remove_file(path).unwrap()),
        damaged(&format!("{told} emptied"), victim, truncate(|_| 0)),
        damaged(&format!("{told} cut in half"), victim, truncate(|length| length / 2)),
        damaged(&format!("{told} cut by one"), victim, truncate(|length| length - 1)),
        damaged(&format!("{told} filled with zeros"), victim, |path| {
            let length = fs::metadata(path).unwrap().len();
            fs::write(path, vec![0; usize::try_from(length).unwrap()]).unwrap();
        }),
        damaged(&format!("{told} flipped"), victim, flip(1, 2)),
    ]
}

/// Flips a bit at a place of the file, told as a fraction.
fn flip(numerator: usize, denominator: usize) -> impl Fn(&Path) {
    move |path| {
        let mut bytes = fs::read(path).unwrap();
        let at = bytes.len() * numerator / denominator;
        bytes[at] ^= 0x04;
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn a_blob() {
    let blob = |root: &Path, _: &Truth| root.join("blobs/sha256").join(BlobDigest::of(b"the layer").hex());
    let right = every_way("blob", blob);
    // The blob, its reading and its use as a packed layer are missing; all else is there.
    assert_eq!(right, [6; 6]);
}

#[test]
fn a_snapshots_index() {
    let index =
        |root: &Path, truth: &Truth| root.join("snapshots").join(truth.snapshot.as_str()).join("index");
    let right = every_way("index", index);
    assert!(right.iter().all(|right| (4..=6).contains(right)), "{right:?}");
}

#[test]
fn the_list_of_images() {
    let right = every_way("index.json", |root, _| root.join("index.json"));
    assert!(right.iter().all(|right| *right >= 8), "{right:?}");
    assert_eq!(right[..5], [9; 5], "the names are recovered");
}

#[test]
fn the_database() {
    let right = every_way("database", |root, _| root.join("dbuild.db"));
    // The image and its blobs need no database.
    assert!(right.iter().all(|right| *right >= 3), "{right:?}");
}

#[test]
fn the_databases_log() {
    for part in 0..24 {
        let space = Space::new();
        let store = space.open();
        let truth = fill(&store);
        drop(store);
        flip(part, 24)(&space.root().join("dbuild.db-wal"));
        let store = space.open();
        check(&store, &truth, &format!("log flipped at {part}/24"));
        let again = fill(&store);
        assert_eq!(missing(&store, &again, "log"), [""; 0]);
    }
}

#[test]
fn the_database_anywhere() {
    for part in 0..48 {
        damaged(&format!("database flipped at {part}/48"), |root, _| root.join("dbuild.db"), flip(part, 48));
    }
}

#[test]
fn the_image_layouts_version() {
    let right = every_way("oci-layout", |root, _| root.join("oci-layout"));
    assert_eq!(right, [9; 6]);
}

#[test]
fn another_programs_database_is_moved_aside() {
    let foreign = |path: &Path| {
        for suffix in ["", "-wal"] {
            fs::remove_file(path.with_file_name(format!("dbuild.db{suffix}"))).unwrap();
        }
        let other = rusqlite::Connection::open(path).unwrap();
        other.execute_batch("CREATE TABLE precious (data); INSERT INTO precious VALUES (1);").unwrap();
    };
    let space = Space::new();
    drop(space.open());
    foreign(&space.root().join("dbuild.db"));
    let store = space.open();
    let [warning] = store.take_warnings().try_into().unwrap();
    assert!(warning.contains("another program's") && warning.contains("images are kept"), "{warning}");
    // The file itself, without the log and the shared memory that may have been moved with it.
    let is_aside = |path: &std::path::PathBuf| {
        let name = path.to_string_lossy();
        name.contains("damaged") && !name.ends_with("-wal") && !name.ends_with("-shm")
    };
    let aside = fs::read_dir(space.root()).unwrap().map(|entry| entry.unwrap().path());
    let aside: Vec<_> = aside.filter(is_aside).collect();
    let other = rusqlite::Connection::open(&aside[0]).unwrap();
    assert_eq!(other.query_row("SELECT data FROM precious", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    drop(store);
    assert_eq!(space.open().take_warnings(), Vec::<String>::new(), "said once");
}

#[test]
fn a_database_that_is_damaged_under_a_running_build_is_replaced() {
    let space = Space::new();
    let store = space.open();
    let truth = fill(&store);
    checkpoint(&store);
    let path = space.root().join("dbuild.db");
    let length = usize::try_from(fs::metadata(&path).unwrap().len()).unwrap();
    // In place, as a failing disk would: every page but the first.
    let file = fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![0x55; length - 4096], 4096).unwrap();
    let other = space.open();
    check(&other, &truth, "another process");
    check(&store, &truth, "the running build");
    let again = fill(&store);
    assert_eq!(check(&store, &again, "the running build"), 9);
    assert_eq!(check(&other, &again, "another process"), 9);
}

/// Damages the only file of a snapshot, and looks for what a command that stood on it may have met.
fn found_below(damage: impl Fn(&Path), executed: &[&str]) -> Option<&'static str> {
    let space = Space::new();
    let store = space.open();
    let snapshot = publish(&store, "file", "content");
    let file = snapshot.dir.as_ref().unwrap().join("file");
    fs::File::options().write(true).open(&file).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    // The index is written when the files are complete.
    let index = file.parent().unwrap().parent().unwrap().join("index");
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    let written = fs::File::options().write(true).open(&index).unwrap();
    written.set_modified(later).unwrap();
    damage(&file);
    let executed = executed.iter().map(|path| TreePath::from_bytes(path.as_bytes()).unwrap()).collect();
    let stack = Stack::new(vec![snapshot.layer()]);
    match store.damage_below(&stack, &[], &executed) {
        None => None,
        Some(LayerError::Damaged { path, why, .. }) => {
            assert_eq!(path.to_string(), "/file");
            Some(why)
        }
        Some(other) => panic!("{other}"),
    }
}

#[test]
fn damage_below_a_command_is_found_by_a_look_and_by_the_content_of_what_is_suspect_or_executed() {
    let flip = flip(1, 2);
    let silently = |path: &Path| {
        flip(path);
        fs::File::options().write(true).open(path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    };
    assert_eq!(found_below(|_| {}, &["file"]), None);
    assert_eq!(found_below(|path| fs::remove_file(path).unwrap(), &[]), Some("it is gone"));
    assert_eq!(found_below(|path| fs::write(path, "cont").unwrap(), &[]), Some("it has another size"));
    assert_eq!(found_below(&flip, &[]), Some("its content changed"));
    // Nothing but its bytes tell.
    assert_eq!(found_below(silently, &[]), None);
    assert_eq!(found_below(silently, &["file"]), Some("its content changed"));
    let replace = |path: &Path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    };
    assert_eq!(found_below(replace, &[]), Some("it has another type"));
}
