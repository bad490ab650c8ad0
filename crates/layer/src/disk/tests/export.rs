use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use crate::testing::{Space, is_root};
use crate::{Ignore, NoContentIndex, Stack, WriteOptions, walk_context};

#[test]
fn files_arrive_as_they_are() {
    let space = Space::new();
    let stack =
        space.layer("l", &["d/ 0700", "d/a 4755 = text", "d/b => d/a", "l -> d", "p |", "empty/ 1777"]);
    let options = WriteOptions::default();
    assert!(stack.write_files(&space.path("made/out"), &options).unwrap().is_empty());
    let read =
        |name: &str| walk_context(&space.path(name), &Ignore::default(), None, &NoContentIndex).unwrap();
    assert_eq!(read("made/out"), read("l"));
    // And once more onto itself.
    stack.write_files(&space.path("made/out"), &options).unwrap();
    assert_eq!(read("made/out"), read("l"));
    let inode = |name: &str| std::fs::metadata(space.path(name)).unwrap().ino();
    assert_eq!(inode("made/out/d/a"), inode("made/out/d/b"));
    assert_ne!(inode("made/out/d/a"), inode("l/d/a"), "the user's files are not the store's");
}

#[test]
fn what_is_in_the_way_is_replaced_without_following_links() {
    let space = Space::new();
    let stack = space.layer("l", &["d/a = new", "f = new", "e = file"]);
    let victim = space.files("victim", &["a = untouched", "f = untouched"]);
    let out = space.files("out", &["other = stays", "e/"]);
    std::os::unix::fs::symlink(&victim, out.join("d")).unwrap();
    std::os::unix::fs::symlink(victim.join("f"), out.join("f")).unwrap();
    stack.write_files(&out, &WriteOptions::default()).unwrap();
    for (path, text) in [
        ("victim/a", "untouched"),
        ("victim/f", "untouched"),
        ("out/other", "stays"),
        ("out/d/a", "new"),
        ("out/f", "new"),
        ("out/e", "file"),
    ] {
        assert_eq!(std::fs::read_to_string(space.path(path)).unwrap(), text, "{path}");
    }
    assert!(std::fs::symlink_metadata(out.join("d")).unwrap().is_dir());
    let full = space.files("full", &["e/kept = x"]);
    let error = stack.write_files(&full, &WriteOptions::default()).unwrap_err().to_string();
    assert!(error.starts_with("cannot write ") && full.join("e/kept").exists(), "{error}");
}

#[test]
fn owners_and_times_are_as_asked() {
    let space = Space::new();
    let context = space.context("c", &["a 0600 = x"]);
    let selections = [crate::testing::selected(&context, "a")];
    let request =
        crate::CopyRequest { chown: Some((12, 34)), ..crate::testing::plain(None, &selections, "/a") };
    let made = space.copy(&request).unwrap();
    let stack = Stack::new(vec![space.out(&made)]);
    for (owners, name) in [(true, "owned"), (false, "mine")] {
        let options = WriteOptions { owners, clamp_mtime: Some(77) };
        stack.write_files(&space.path(name), &options).unwrap();
        let stat = std::fs::metadata(space.path(name).join("a")).unwrap();
        assert_eq!((stat.mtime(), stat.permissions().mode() & 0o7777), (77, 0o600));
        let expected = if owners && is_root() { (12, 34) } else { crate::disk::own_ids() };
        assert_eq!((stat.uid(), stat.gid()), expected);
    }
}
