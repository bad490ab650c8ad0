use std::sync::Arc;

use super::{LayerFiles, Stack, StackLayer};
use crate::testing::{Space, at, text};
use crate::{Entry, EntryKind, ResolveError, Tree};

/// Layers of entries without bytes: `a/` a directory, `a/!` an opaque one, `a -> b`, `-a` a
/// whiteout, `a` a file whose size is the layer's number.
fn stack(layers: &[&[&str]]) -> Stack {
    let layer = |(number, lines): (usize, &&[&str])| {
        let entry = |line: &&str| match line.split_once(" -> ") {
            Some((path, target)) => Entry {
                kind: EntryKind::Symlink { target: target.as_bytes().into() },
                ..Entry::new_dir(at(path))
            },
            None if line.starts_with('-') => Entry::new_whiteout(at(&line[1..])),
            None if line.ends_with("/!") => Entry {
                kind: EntryKind::Dir { opaque: true },
                ..Entry::new_dir(at(line.trim_end_matches("/!")))
            },
            None if line.ends_with('/') => Entry::new_dir(at(line.trim_end_matches('/'))),
            None => {
                let content = dbuild_digest::ContentDigest::of(b"");
                Entry { kind: EntryKind::File { size: number as u64, content }, ..Entry::new_dir(at(line)) }
            }
        };
        let tree = Arc::new(Tree::from_entries(lines.iter().map(entry).collect()).unwrap());
        StackLayer { tree, files: LayerFiles::Absent }
    };
    Stack::new(layers.iter().enumerate().map(layer).collect())
}

/// What a walk shows, which must be what looking up shows, and reading directories.
fn shown(stack: &Stack, prefix: &str) -> Vec<String> {
    let all = stack.walk(&at(prefix));
    for found in &all {
        let looked_up = stack.lookup(&found.entry.path).unwrap();
        assert_eq!((looked_up.layer, looked_up.entry), (found.layer, found.entry));
    }
    let mut read: Vec<String> = Vec::new();
    let mut todo = vec![at(prefix)];
    while let Some(dir) = todo.pop() {
        for found in stack.read_dir(&dir) {
            read.push(found.entry.path.to_string());
            todo.push(found.entry.path.clone());
        }
    }
    let mut walked: Vec<String> = all.iter().map(|found| found.entry.path.to_string()).collect();
    walked.retain(|path| *path != at(prefix).to_string());
    read.sort();
    let mut sorted = walked;
    sorted.sort();
    assert_eq!(read, sorted);
    all.iter().map(|found| format!("{}:{}", found.entry.path, found.layer)).collect()
}

#[test]
fn upper_layers_hide_replace_and_merge() {
    let stack = stack(&[
        &["a/", "a/x", "a/y", "b/", "b/z", "c", "d/", "d/e/", "d/e/f"],
        &["a/", "-a/x", "b/!", "b/new", "c/", "c/in", "-d"],
        &["a/", "a/y", "d/", "d/g"],
    ]);
    assert_eq!(
        shown(&stack, ""),
        ["/a:2", "/a/y:2", "/b:1", "/b/new:1", "/c:1", "/c/in:1", "/d:2", "/d/g:2"]
    );
    assert_eq!(shown(&stack, "b"), ["/b:1", "/b/new:1"]);
    assert_eq!(shown(&stack, "nothing"), Vec::<String>::new());
    assert!(stack.lookup(&at("d/e/f")).is_none() && stack.lookup(&at("c/in/x")).is_none());
}

#[test]
fn an_opaque_directory_hides_through_directories_below_it() {
    let stack = stack(&[&["a/", "a/b/", "a/b/x"], &["a/!", "a/b/", "a/b/y"]]);
    assert_eq!(shown(&stack, ""), ["/a:1", "/a/b:1", "/a/b/y:1"]);
    assert_eq!(shown(&stack, "a/b"), ["/a/b:1", "/a/b/y:1"]);
}

#[test]
fn a_file_hides_what_was_a_directory() {
    let stack = stack(&[&["a/", "a/x"], &["a"], &["b"]]);
    assert_eq!(shown(&stack, ""), ["/a:1", "/b:2"]);
    assert!(shown(&stack, "a/x").is_empty());
}

#[test]
fn paths_are_followed_within_the_root() {
    let stack = stack(&[&[
        "usr/",
        "usr/lib/",
        "usr/lib/f",
        "lib -> usr/lib",
        "abs -> /usr",
        "up -> ../../../usr",
        "loop -> loop2",
        "loop2 -> loop",
        "dangling -> gone/x",
        "usr/rel -> ./lib/../lib",
    ]]);
    let resolve = |path: &str, follow| stack.resolve(path, follow).map(|resolved| resolved.path.to_string());
    for (path, expected) in [
        ("lib/f", "/usr/lib/f"),
        ("/abs/lib/f", "/usr/lib/f"),
        ("up/lib", "/usr/lib"),
        ("../../usr", "/usr"),
        ("lib/../..", "/"),
        ("lib/..", "/usr"),
        ("usr/rel/f", "/usr/lib/f"),
        ("dangling", "/gone/x"),
        ("dangling/y", "/gone/x/y"),
        ("new/../lib/new", "/usr/lib/new"),
        ("", "/"),
    ] {
        assert_eq!(resolve(path, true), Ok(expected.to_owned()), "{path}");
    }
    assert_eq!(resolve("lib", false), Ok("/lib".to_owned()));
    assert_eq!(resolve("loop", true), Err(ResolveError::TooManyLinks(at("loop"))));
    assert_eq!(resolve("lib/f/x", true), Err(ResolveError::NotADirectory(at("usr/lib/f"))));
    assert!(stack.resolve("lib/f", true).unwrap().found.is_some());
}

#[test]
fn files_are_read_through_links_and_limits() {
    let space = Space::new();
    let stack = space.layer("l", &["d/f = text", "d/h => d/f", "l -> /d/h", "p |"]);
    assert_eq!(text(&stack, "l"), "text");
    assert_eq!(stack.read_file("d/f", 3).unwrap(), None);
    assert_eq!(stack.read_file("p", 3).unwrap(), None);
    assert_eq!(stack.read_file("d", 3).unwrap(), None);
    let absent =
        Stack::new(vec![StackLayer { tree: Arc::clone(&stack.layers()[0].tree), files: LayerFiles::Absent }]);
    let error = absent.read_file("d/f", 9).unwrap_err().to_string();
    assert_eq!(error, "/d/f is needed, but the layer that holds it has not been unpacked");
}
