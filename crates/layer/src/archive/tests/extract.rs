//! What ADD makes of archives; numbers are those of the list of observed behaviour.

use crate::testing::{Space, TarBuilder, assert_on_disk, selected, show};
use crate::{CopyRequest, Source};

/// `ADD` of an archive onto a layer, and what the new layer holds.
fn unpacked(parent: &[&str], tar: &[u8], dest: &str) -> Result<Vec<String>, String> {
    let space = Space::new();
    std::fs::write(space.dir("context").join("archive"), tar).unwrap();
    let (context, parent) = (space.context("context", &[]), space.layer("parent", parent));
    let selection = &selected(&context, "archive");
    let sources = vec![Source::Selected { selection, unpack: true }];
    let request = CopyRequest { parent: Some(&parent), ..CopyRequest::new(sources, dest) };
    let made = space.copy(&request).map_err(|error| error.to_string())?;
    assert_on_disk(&made, &space.path("out"));
    Ok(show(&made.tree))
}

/// 43
#[test]
fn what_an_archive_says_of_its_place() {
    let place = |name: &str| {
        crate::testing::raw_header(b'5', name, "", 0, |block| {
            block[100..108].copy_from_slice(b"0000700\0");
            block[108..116].copy_from_slice(b"0000007\0");
        })
    };
    let nameless = crate::testing::raw_header(b'0', "", "", 0, |_| {});
    let tar = TarBuilder::default().raw(&nameless).raw(&place("./")).file("f", b"").end();
    let parent = &["d/f = 1"];
    let is = |lines: &[&str]| Ok(lines.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(unpacked(parent, &tar, "/d"), is(&["d0755 0:0 d", "f0644 0:0 d/f 0"]));
    let tar = TarBuilder::default().raw(&place("/")).file("f", b"").end();
    assert_eq!(unpacked(parent, &tar, "/d"), is(&["d0700 7:0 d", "f0644 0:0 d/f 0"]));
    assert_eq!(unpacked(parent, &tar, "/n"), is(&["d0700 7:0 n", "f0644 0:0 n/f 0"]));
    // The root has no mode in any layer.
    assert_eq!(unpacked(parent, &tar, "/"), is(&["d0755 7:0 ", "f0644 0:0 f 0"]));
}

/// 43
#[test]
fn an_archive_makes_directories_behind_links_that_lead_somewhere() {
    let tar = TarBuilder::default().file("l/new/er/f", b"").end();
    let made = ["d0755 0:0 usr", "d0755 0:0 usr/new", "d0755 0:0 usr/new/er", "f0644 0:0 usr/new/er/f 0"];
    let made = Ok(made.map(str::to_owned).to_vec());
    assert_eq!(unpacked(&["usr/old = 1", "l -> usr"], &tar, "/"), made);
    assert_eq!(unpacked(&["usr/old = 1", "l -> k", "k -> /usr"], &tar, "/"), made);
    for parent in [&["usr/old = 1", "l -> usr/none"], &["l -> usr", "usr/new -> ../none"]] {
        let error = unpacked(parent, &tar, "/").unwrap_err();
        assert!(error.ends_with("is not a directory"), "{error}");
    }
}
