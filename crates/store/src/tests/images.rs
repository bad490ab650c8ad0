use std::fs;
use std::sync::Barrier;
use std::thread;

use serde_json::Value;

use super::{Space, descriptor, image, names};
use crate::{Store, StoreError};

fn index(store: &Store) -> Value {
    serde_json::from_slice(&fs::read(store.root().join("index.json")).unwrap()).unwrap()
}

#[test]
fn a_name_stands_in_the_layouts_index() {
    let space = Space::new();
    let store = space.open();
    let one = image(&store, "one");
    store.tag("docker.io/library/app:latest", &one).unwrap();
    let entry = &index(&store)["manifests"][0];
    assert_eq!(entry["digest"], one.digest().to_string().as_str());
    assert_eq!(entry["size"], one.size());
    for annotation in ["org.opencontainers.image.ref.name", "io.containerd.image.name"] {
        assert_eq!(entry["annotations"][annotation], "docker.io/library/app:latest");
    }
    let two = image(&store, "two");
    store.tag("docker.io/library/app:latest", &two).unwrap();
    assert_eq!(index(&store)["manifests"].as_array().unwrap().len(), 1, "a name has one image");
    assert_eq!(store.image("app").unwrap().descriptor.digest(), two.digest());
    assert!(store.untag("docker.io/library/app:latest").unwrap());
    assert!(!store.untag("docker.io/library/app:latest").unwrap());
    assert_eq!(names(&store), Vec::<String>::new());
}

#[test]
fn an_image_is_found_by_name_and_by_id() {
    let space = Space::new();
    let store = space.open();
    let (one, two) = (image(&store, "one"), image(&store, "two"));
    store.tag("docker.io/library/app:latest", &one).unwrap();
    store.tag("docker.io/me/tool:2", &two).unwrap();
    store.tag("localhost:5000/tool:2", &two).unwrap();
    let found = |name: &str| store.image(name).map(|entry| entry.descriptor.digest().to_string());
    for name in ["app", "app:latest", "docker.io/library/app:latest", one.digest().as_ref()] {
        assert_eq!(found(name).unwrap(), one.digest().to_string(), "{name}");
    }
    for name in ["me/tool:2", "localhost:5000/tool:2", &two.digest().to_string()[7..19]] {
        assert_eq!(found(name).unwrap(), two.digest().to_string(), "{name}");
    }
    let manifest: Value = serde_json::from_slice(
        &store.read_blob(&store.image("app").unwrap().digest().unwrap(), 4096).unwrap(),
    )
    .unwrap();
    let config = manifest["config"]["digest"].as_str().unwrap();
    assert_eq!(found(config).unwrap(), one.digest().to_string(), "docker's image id");
    let error = found("app:2").unwrap_err();
    assert!(error.to_string().contains("did you mean `docker.io/library/app:latest`?"), "{error}");
    assert!(matches!(found(""), Err(StoreError::NoSuchImage { .. })));
}

#[test]
fn removing_takes_one_name_or_all_of_an_id() {
    let space = Space::new();
    let store = space.open();
    let one = image(&store, "one");
    for name in ["a:1", "a:2", "a:3"] {
        store.tag(name, &one).unwrap();
    }
    assert_eq!(store.remove_image("a:2").unwrap(), ["a:2"]);
    assert_eq!(names(&store), ["a:1", "a:3"]);
    assert_eq!(store.remove_image(one.digest().as_ref()).unwrap(), ["a:1", "a:3"]);
    assert!(store.remove_image("a:1").is_err());
}

#[test]
fn an_image_whose_blobs_are_missing_gets_no_name() {
    let space = Space::new();
    let store = space.open();
    let one = image(&store, "one");
    fs::remove_file(store.blob_path(&dbuild_digest::BlobDigest::of(b"one"))).unwrap();
    assert!(matches!(store.tag("app", &one), Err(StoreError::NoSuchBlob { .. })));
    let nothing = descriptor(dbuild_digest::BlobDigest::of(b"nothing"), 7);
    assert!(matches!(store.tag("app", &nothing), Err(StoreError::NoSuchBlob { .. })));
    assert_eq!(names(&store), Vec::<String>::new());
}

#[test]
fn names_that_others_wrote_stay() {
    let space = Space::new();
    let store = space.open();
    let (one, two) = (image(&store, "one"), image(&store, "two"));
    store.tag("ours", &one).unwrap();
    let mut foreign = index(&store);
    let mut entry = foreign["manifests"][0].clone();
    entry["digest"] = two.digest().to_string().into();
    entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "theirs", "x": "y"});
    foreign["manifests"].as_array_mut().unwrap().push(entry);
    foreign["annotations"] = serde_json::json!({"kept": "yes"});
    fs::write(store.root().join("index.json"), foreign.to_string()).unwrap();
    store.tag("more", &one).unwrap();
    assert_eq!(names(&store), ["ours", "theirs", "more"]);
    assert_eq!(index(&store)["annotations"]["kept"], "yes");
    assert_eq!(index(&store)["manifests"][1]["annotations"]["x"], "y");
}

#[test]
fn names_given_at_the_same_time_are_all_there() {
    let space = Space::new();
    let first = space.open();
    let one = image(&first, "one");
    let barrier = Barrier::new(6);
    thread::scope(|scope| {
        for thread in 0..6 {
            let (barrier, one, space) = (&barrier, &one, &space);
            scope.spawn(move || {
                let store = space.open();
                barrier.wait();
                for number in 0..5 {
                    store.tag(&format!("t{thread}:{number}"), one).unwrap();
                    if number == 4 {
                        store.untag(&format!("t{thread}:0")).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(names(&first).len(), 24);
}
