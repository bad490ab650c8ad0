use std::collections::HashSet;
use std::time::{Duration, Instant};

use dbuild_cache::{Ingredient, IngredientKind};
use dbuild_events::{ImageId, Origin};

use super::{Space, ingredient, key, publish, record, tree_digest};
use crate::records::ingredient_chunks::chunks_of;
use crate::{PackKey, PackedLayer, Record, RecordQuery, ResolvedReference};

/// What does not change by being looked at.
fn core(record: &Record) -> Record {
    Record { created_ms: 0, last_used_ms: 0, hits: 0, ..record.clone() }
}

fn paths(count: usize) -> Vec<Ingredient> {
    let path = |index: usize| {
        ingredient(
            IngredientKind::Path,
            &format!("src/file-{index}.py"),
            &format!("file 0644 0:0 {index:064x}"),
        )
    };
    (0..count).map(path).collect()
}

#[test]
fn a_record_is_kept_with_its_ingredients() {
    let space = Space::new();
    let store = space.open();
    let snapshot = publish(&store, "file", "content");
    let put = record(1, "RUN make", Some(&snapshot));
    let list = [ingredient(IngredientKind::Argument, "VERSION", "1.2")];
    store.put_record(&put, &list).unwrap();
    let store = space.open();
    let found = store.record(&key(1)).unwrap();
    assert_eq!(core(&found), put);
    assert!(found.created_ms > 0 && found.last_used_ms >= found.created_ms);
    assert_eq!(store.ingredients(&key(1)).unwrap(), list);
    assert_eq!(store.ingredients(&key(2)), None);
    let both = store.records(&[key(2), key(1)]);
    assert_eq!(both.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true]);
    assert_eq!(store.expected_duration(&key(200)), Some(Duration::from_millis(1500)));
    assert_eq!(store.expected_duration(&key(201)), None);
}

#[test]
fn uses_are_counted() {
    let space = Space::new();
    let store = space.open();
    store.put_record(&record(1, "RUN make", None), &[]).unwrap();
    store.record_hit(&key(1));
    store.record_hits(&[key(1), key(9)]);
    assert_eq!(store.record_entries().unwrap()[0].record.hits, 2);
    store.record_hit(&key(1));
    drop(store);
    assert_eq!(space.open().record(&key(1)).unwrap().hits, 3, "written when the store is closed");
}

#[test]
fn a_record_without_its_snapshot_is_a_miss() {
    let space = Space::new();
    let store = space.open();
    let snapshot = publish(&store, "file", "content");
    store.put_record(&record(1, "RUN make", Some(&snapshot)), &[]).unwrap();
    std::fs::remove_dir_all(snapshot.dir.as_ref().unwrap().parent().unwrap()).unwrap();
    assert_eq!(store.record(&key(1)), None);
    assert_eq!(store.record_entries().unwrap(), [], "and is forgotten");
}

#[test]
fn the_output_follows_the_parent() {
    let one = record(1, "COPY --link a b", None);
    assert_ne!(one.output_on(tree_digest(1)), one.output_on(tree_digest(2)));
    let empty = Record { layer_is_empty: true, ..one };
    assert_eq!(empty.output_on(tree_digest(2)), tree_digest(2));
}

#[test]
fn the_first_result_of_a_definition_is_known() {
    let space = Space::new();
    let store = space.open();
    let first = publish(&store, "file", "content");
    let second = publish(&store, "file", "content");
    store.put_record(&record(1, "RUN make", Some(&first)), &[]).unwrap();
    store.put_record(&record(2, "RUN make", Some(&second)), &[]).unwrap();
    let layer = first.tree.digest();
    assert_eq!(store.known_result(&key(200), &layer), Some(first.id.clone()));
    assert_eq!(store.known_result(&key(201), &layer), None, "another step");
    assert_eq!(store.known_result(&key(200), &tree_digest(9)), None, "another result");
    std::fs::remove_file(first.dir.as_ref().unwrap().parent().unwrap().join("index")).unwrap();
    drop(first);
    assert_eq!(store.known_result(&key(200), &layer), Some(second.id));
}

#[test]
fn long_lists_share_their_pieces() {
    let mut list = paths(20_000);
    let before = chunks_of(&list);
    list[10_000].value.push('!');
    list.remove(15_000);
    let after = chunks_of(&list);
    let new = after.iter().filter(|id| !before.contains(id)).count();
    assert!((40..200).contains(&before.len()) && new <= 4, "{} pieces, {new} new", before.len());

    let space = Space::new();
    let store = space.open();
    store.put_record(&record(1, "COPY . .", None), &list).unwrap();
    assert_eq!(store.ingredients(&key(1)).unwrap(), list);
    assert_eq!(chunks_of(&[][..]).len(), 0);
}

#[test]
fn the_nearest_record_is_the_steps_earlier_version() {
    let space = Space::new();
    let store = space.open();
    let list = |command: &str, version: &str| {
        [
            ingredient(IngredientKind::Instruction, "", "RUN"),
            ingredient(IngredientKind::Command, "", &format!(r#"["/bin/sh","-c","{command}"]"#)),
            ingredient(IngredientKind::Argument, "VERSION", version),
        ]
    };
    for (number, command, version) in
        [(1, "make", "1.0"), (2, "make", "1.1"), (3, "apt-get install gcc", "1.2"), (4, "echo", "1.2")]
    {
        let mut record = record(number, &format!("RUN {command}"), None);
        record.definition = key(100 + number);
        record.created_ms = 1000 * u64::from(number);
        store.put_record(&record, &list(command, version)).unwrap();
    }
    let now = list("make", "1.2");
    let wanted = RecordQuery {
        key: None,
        definition: &key(150),
        text: "RUN make",
        stage: "",
        ingredients: &now,
        others: &HashSet::new(),
    };
    let all = store.earlier_records("output", u64::MAX);
    let nearest = store.nearest_record(&all, &wanted).unwrap();
    assert_eq!(
        (nearest.record.key, nearest.ingredients.as_slice()),
        (key(2), list("make", "1.1").as_slice())
    );
    let earlier = store.nearest_record(&store.earlier_records("output", 2000), &wanted).unwrap();
    assert_eq!(earlier.record.key, key(1));
    let other = store.nearest_record(&all, &RecordQuery { key: Some(&key(2)), ..wanted }).unwrap();
    assert_eq!(other.record.key, key(1));
    assert_eq!(store.nearest_record(&store.earlier_records("linear", u64::MAX), &wanted), None);
    assert_eq!(store.nearest_record(&all, &RecordQuery { text: "COPY a b", ..wanted }), None);
    // What other steps of the plan are is not what this one was.
    let others = HashSet::from([key(101), key(102)]);
    assert_eq!(store.nearest_record(&all, &RecordQuery { others: &others, ..wanted }), None);
    assert_eq!(
        store.nearest_record(&all, &RecordQuery { text: "RUN ls -l /", ..wanted }),
        None,
        "another instruction"
    );
}

#[test]
fn packed_layers_and_references_are_remembered() {
    let space = Space::new();
    let store = space.open();
    let snapshot = publish(&store, "file", "content");
    let (digest, size) = store.put_blob(b"packed").unwrap();
    let layer = PackedLayer {
        diff_id: digest,
        digest,
        size,
        media_type: "tar".to_owned(),
        annotations: Default::default(),
    };
    let gzip = PackKey("gzip-6".to_owned());
    store.put_packed(&snapshot.id, &gzip, &layer).unwrap();
    assert_eq!(store.packed(&snapshot.id, &gzip), Some(layer));
    assert_eq!(store.packed(&snapshot.id, &PackKey("zstd-3".to_owned())), None);
    std::fs::remove_file(store.blob_path(&digest)).unwrap();
    assert_eq!(store.packed(&snapshot.id, &gzip), None, "its blob is gone");

    let resolved = ResolvedReference { manifest: digest, index: None, fetched_ms: 7 };
    store.remember_reference("docker.io/library/a:1", "linux/amd64", &resolved).unwrap();
    assert_eq!(store.reference("docker.io/library/a:1", "linux/amd64").unwrap(), Some(resolved));
    assert_eq!(store.reference("docker.io/library/a:1", "linux/arm64").unwrap(), None);
}

#[test]
fn two_thousand_keys_are_looked_up_at_once() {
    let space = Space::new();
    let store = space.open();
    let all: Vec<_> =
        (0..2000_u16).map(|n| dbuild_digest::StepKey::from_bytes([(n % 256) as u8; 32])).collect();
    store.put_record(&record(7, "RUN make", None), &[]).unwrap();
    let start = Instant::now();
    let found = store.records(&all);
    assert_eq!(found.iter().flatten().count(), 8);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn where_the_inputs_came_from_is_kept_and_is_not_asked_of_earlier_records() {
    let space = Space::new();
    let store = space.open();
    let image =
        ImageId { reference: "docker.io/library/a:1".into(), digest: dbuild_digest::BlobDigest::of(b"a") };
    let linked = Origin::Linked { key: key(8), below: Box::new(Origin::Image(image)) };
    let inputs = vec![linked, Origin::Step(key(9)), Origin::Scratch, Origin::Outside];
    let put = Record { stage: "build".into(), inputs, ..record(1, "RUN make", None) };
    store.put_record(&put, &[]).unwrap();
    assert_eq!(core(&store.record_kept(&key(1)).unwrap()), put);
    assert_eq!(store.record_kept(&key(2)), None);
    // As a dbuild wrote it that did not know of them.
    let plain = record(3, "RUN make", None);
    store.put_record(&plain, &[]).unwrap();
    let read = |key: &[u8]| {
        let body = "SELECT body FROM records WHERE key=?1";
        store.inner.db.read(|db| db.query_row(body, [key], |row| row.get::<_, String>(0))).unwrap()
    };
    let body = read(&[3; 32]);
    assert!(!body.contains("inputs") && !body.contains("stage"), "{body}");
    assert_eq!(core(&store.record_kept(&key(3)).unwrap()), plain);
}

#[test]
fn of_two_records_that_are_equally_near_the_one_of_the_own_stage_is_nearer() {
    let space = Space::new();
    let store = space.open();
    let list = |parent: &str| {
        [
            ingredient(IngredientKind::Instruction, "", "WORKDIR"),
            ingredient(IngredientKind::Parent, "", parent),
        ]
    };
    for (number, stage) in [(1, "build"), (2, "app")] {
        let created_ms = 1000 * u64::from(number);
        let record = Record { stage: stage.into(), created_ms, ..record(number, "WORKDIR /app", None) };
        store.put_record(&record, &list(stage)).unwrap();
    }
    let (definition, others, now) = (key(200), HashSet::new(), list("new"));
    let all = store.earlier_records("output", u64::MAX);
    let nearest = |stage: &'static str| {
        let wanted = RecordQuery {
            key: None,
            definition: &definition,
            text: "WORKDIR /app",
            stage,
            ingredients: &now,
            others: &others,
        };
        store.nearest_record(&all, &wanted).unwrap().record.key
    };
    assert_eq!((nearest("build"), nearest("app")), (key(1), key(2)));
    assert_eq!(nearest("renamed"), key(2), "the latest");
}
