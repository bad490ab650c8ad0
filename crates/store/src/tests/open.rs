use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use dbuild_layer::OverlayFlavor;

use super::{Space, image, names, scratch};
use crate::{Store, StoreError};

#[test]
fn a_store_is_an_oci_layout_and_private() {
    let space = Space::new();
    let store = space.open();
    let read = |name: &str| fs::read_to_string(store.root().join(name)).unwrap();
    assert_eq!(read("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#);
    let index: serde_json::Value = serde_json::from_str(&read("index.json")).unwrap();
    assert_eq!((&index["schemaVersion"], index["manifests"].as_array().map(Vec::len)), (&2.into(), Some(0)));
    assert_eq!(read("format"), r#"{"format":1,"overlay":"user"}"#);
    let mode = fs::metadata(store.root()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(store.take_warnings(), Vec::<String>::new());
}

#[test]
fn opening_again_keeps_everything_and_closing_sweeps_up() {
    let space = Space::new();
    let store = space.open();
    store.tag("app", &image(&store, "layer")).unwrap();
    let again = space.open();
    assert_eq!(names(&again), ["app"]);
    assert_eq!(scratch(&space), 2, "each has a directory of its own");
    drop((store, again));
    assert_eq!(scratch(&space), 0);
}

#[test]
fn a_newer_format_is_refused() {
    let space = Space::new();
    drop(space.open());
    fs::write(space.root().join("format"), r#"{"format":2,"overlay":"user","more":true}"#).unwrap();
    let error = Store::open(&space.root(), OverlayFlavor::User).unwrap_err();
    assert!(matches!(error, StoreError::NewerFormat { .. }));
    let text = error.to_string();
    assert!(text.contains("has format 2") && text.contains("--store"), "{text}");
}

#[test]
fn a_newer_database_is_refused_and_stays() {
    let space = Space::new();
    let store = space.open();
    store.inner.db.read(|db| db.execute_batch("PRAGMA user_version=99")).unwrap();
    drop(store);
    let error = Store::open(&space.root(), OverlayFlavor::User).unwrap_err();
    assert!(matches!(error, StoreError::NewerFormat { .. }), "{error}");
    assert!(space.root().join("dbuild.db").exists());
}

#[test]
fn the_other_kind_of_store_is_refused() {
    let space = Space::new();
    drop(space.open());
    let error = Store::open(&space.root(), OverlayFlavor::Trusted).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("made without root") && text.contains("used by root"), "{text}");
}

#[test]
fn another_programs_directory_is_left_alone() {
    let space = Space::new();
    fs::create_dir(space.root()).unwrap();
    fs::write(space.root().join("precious"), "data").unwrap();
    let error = Store::open(&space.root(), OverlayFlavor::User).unwrap_err();
    assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
    let left: Vec<_> = fs::read_dir(space.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["precious"]);
}

#[test]
fn a_store_that_was_only_half_made_is_completed() {
    let space = Space::new();
    drop(space.open());
    for file in ["format", "oci-layout", "index.json"] {
        fs::remove_file(space.root().join(file)).unwrap();
    }
    fs::remove_dir_all(space.root().join("blobs")).unwrap();
    let store = space.open();
    store.tag("app", &image(&store, "layer")).unwrap();
    assert_eq!(names(&space.open()), ["app"]);
}

#[test]
fn a_read_only_place_gives_one_error_that_names_it() {
    // `/proc` takes no directory from anyone, root included.
    let error = Store::open("/proc/dbuild-store".as_ref(), OverlayFlavor::User).unwrap_err();
    assert!(error.to_string().starts_with("cannot make /proc/dbuild-store"), "{error}");
}
