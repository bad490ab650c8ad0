use std::path::Path;
use std::sync::Mutex;

use dbuild_digest::ContentDigest;

use super::walk_context;
use crate::testing::{Space, at, show};
use crate::{AskedFile, ContentIndex, FileStat, Ignore, LearnedFile, NoContentIndex, Tree, TreePath};

fn walk(dir: &Path, ignore: &str, wanted: Option<&[&str]>) -> Vec<String> {
    let wanted: Option<Vec<String>> = wanted.map(|paths| paths.iter().map(ToString::to_string).collect());
    let ignore = Ignore::parse(ignore.as_bytes()).unwrap();
    let tree = walk_context(dir, &ignore, wanted.as_deref(), &NoContentIndex).unwrap();
    show(&tree).into_iter().map(|line| line.split_once(' ').unwrap().1[4..].to_owned()).collect()
}

/// 5
#[test]
fn owners_are_roots_sockets_empty_files_and_fifos_stay() {
    let space = Space::new();
    let dir = space.files("c", &["a 4711 = x", "p |", "l -> /etc/passwd", "h => a"]);
    let _socket = std::os::unix::net::UnixListener::bind(dir.join("s")).unwrap();
    if crate::testing::is_root() {
        std::os::unix::fs::chown(dir.join("a"), Some(5), Some(6)).unwrap();
        std::fs::set_permissions(dir.join("a"), std::os::unix::fs::PermissionsExt::from_mode(0o4711))
            .unwrap();
    }
    let tree = walk_context(&dir, &Ignore::default(), None, &NoContentIndex).unwrap();
    let shown = show(&tree);
    assert_eq!(
        shown[..4],
        ["f4711 0:0 a 1", "h4711 0:0 h => a", "l0777 0:0 l -> /etc/passwd", "p0644 0:0 p"]
    );
    assert!(shown[4].ends_with("0:0 s 0"), "{shown:?}");
    assert_eq!(tree.get(&at("a")).unwrap().mtime.secs, 1_000_000);
}

/// 27
#[test]
fn ignored_directories_appear_with_re_included_children() {
    let space = Space::new();
    let dir = space.files("c", &["d/keep/x = 1", "d/drop = 1", "e/y = 1", "f/z = 1", "g/only = 1"]);
    assert_eq!(walk(&dir, "d\n!d/keep\ne/y\nf\ng\n!g/other", None), ["d", "d/keep", "d/keep/x 1", "e"]);
    assert_eq!(walk(&dir, "*\n!**/z", None), ["f", "f/z 1"]);
}

#[test]
fn only_what_is_wanted_is_walked_through_symlinks_too() {
    let space = Space::new();
    let dir = space.files(
        "c",
        &[
            "src/a.c = 1",
            "src/b.h = 1",
            "other/x = 1",
            "l -> src",
            "deep/er/l -> ../../other",
            "loop -> loop/x",
            "lib/v1/f = 1",
            "lib/v2/f = 1",
            "up -> ../c/src",
        ],
    );
    assert_eq!(walk(&dir, "", Some(&["src/*.c"])), ["src", "src/a.c 1"]);
    assert_eq!(walk(&dir, "", Some(&["/src/", "nothing"])), ["src", "src/a.c 1", "src/b.h 1"]);
    assert_eq!(walk(&dir, "", Some(&["l/a.c"])), ["l -> src", "src", "src/a.c 1"]);
    assert_eq!(
        walk(&dir, "", Some(&["deep/*/l"])),
        ["deep", "deep/er", "deep/er/l -> ../../other", "other", "other/x 1"]
    );
    assert_eq!(walk(&dir, "", Some(&["loop/y"])), ["loop -> loop/x"]);
    assert_eq!(walk(&dir, "", Some(&["lib/**/f"])), ["lib", "lib/v1", "lib/v1/f 1", "lib/v2", "lib/v2/f 1"]);
    assert_eq!(
        walk(&dir, "", Some(&["src/*.x", "lib/*/f/x", "src/a.c/x"])),
        ["lib", "lib/v1", "lib/v1/f 1", "lib/v2", "lib/v2/f 1", "src", "src/a.c 1"],
        "what is on the way is there"
    );
    assert_eq!(walk(&dir, "", Some(&["."])).len(), walk(&dir, "", None).len());
    assert!(walk(&dir, "", Some(&[])).is_empty());
    assert_eq!(
        walk(&dir, "", Some(&["up"])),
        ["up -> ../c/src"],
        "what leads above the context ends at its root"
    );
}

/// A directory that one source takes as a whole does not hide what another one goes through.
#[test]
fn links_in_a_directory_that_is_walked_as_a_whole_are_followed_for_other_sources() {
    let space = Space::new();
    let dir = space.files(
        "c",
        &[
            "pkg/shared -> ../shared",
            "pkg/main = m",
            "pkg/out -> /other/./../other",
            "pkg/via -> ../way/../shared/b",
            "way -> far/away",
            "far/shared/b = f",
            "shared/b = b",
            "shared/c = c",
            "other/x = x",
        ],
    );
    let all = |sources: &[&str]| walk(&dir, "", Some(sources));
    let pkg = [
        "pkg",
        "pkg/main 1",
        "pkg/out -> /other/./../other",
        "pkg/shared -> ../shared",
        "pkg/via -> ../way/../shared/b",
    ];
    assert_eq!(all(&["pkg"]), pkg);
    assert_eq!(all(&["pkg", "pkg/shared"])[5..], ["shared", "shared/b 1", "shared/c 1"]);
    assert_eq!(all(&["pkg", "pkg/*"])[..2], ["far", "far/shared"]);
    assert_eq!(all(&["pkg/out", "pkg"])[..2], ["other", "other/x 1"]);
    assert_eq!(
        all(&["pkg/via"])[..3],
        ["far", "far/shared", "far/shared/b 1"],
        "`..` after a link is the link's"
    );
}

/// What leads to a source is there if it would be in the whole context.
#[test]
fn an_ignored_directory_on_the_way_appears_as_in_the_whole_context() {
    let space = Space::new();
    let dir = space.files("c", &["d/keep/x = 1", "d/drop = 1", "e/drop = 1"]);
    let ignore = "d\n!d/keep\ne\n!e/none";
    assert_eq!(walk(&dir, ignore, Some(&["d/*.x", "e/*.x"])), ["d"]);
    assert_eq!(walk(&dir, ignore, Some(&["d/drop"])), ["d"]);
}

#[derive(Default)]
struct Memory(Mutex<Vec<(TreePath, FileStat, ContentDigest)>>);

impl ContentIndex for Memory {
    fn get_many<'a>(
        &self,
        _root: &Path,
        files: &mut dyn Iterator<Item = AskedFile<'a>>,
    ) -> Vec<Option<ContentDigest>> {
        let known = self.0.lock().unwrap();
        let find = |(path, stat): AskedFile<'_>| {
            known.iter().find(|(p, s, _)| (p, s) == (path, &stat)).map(|(.., digest)| *digest)
        };
        files.map(find).collect()
    }

    fn put_many<'a>(&self, _root: &Path, files: &mut dyn Iterator<Item = LearnedFile<'a>>) {
        self.0.lock().unwrap().extend(files.map(|(path, stat, digest)| (path.clone(), stat, digest)));
    }
}

#[test]
fn known_files_are_not_read_again_and_changed_ones_are() {
    let space = Space::new();
    let dir = space.files("c", &["a = one", "b = two", "empty = "]);
    let index = Memory::default();
    let tree = |index: &Memory| -> Tree { walk_context(&dir, &Ignore::default(), None, index).unwrap() };
    let first = tree(&index);
    assert_eq!(index.0.lock().unwrap().len(), 2, "empty files need no memory");
    // What the index says is believed without a look at the file.
    index.0.lock().unwrap().iter_mut().for_each(|(.., digest)| *digest = ContentDigest::of(b"believed"));
    assert_ne!(tree(&index).digest(), first.digest());
    index.0.lock().unwrap().clear();
    tree(&index);
    std::fs::write(dir.join("a"), "six").unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    std::fs::File::open(dir.join("a")).unwrap().set_modified(time).unwrap();
    assert_ne!(tree(&index).digest(), first.digest(), "same size and mtime, another ctime");
}

#[test]
fn a_deep_tree_needs_few_descriptors() {
    let space = Space::new();
    let dir = space.dir("c");
    std::fs::create_dir_all(dir.join("d/".repeat(300))).unwrap();
    assert_eq!(walk(&dir, "", None).len(), 300);
}

#[test]
fn a_missing_context_is_named() {
    let error =
        walk_context(Path::new("/nowhere/at/all"), &Ignore::default(), None, &NoContentIndex).unwrap_err();
    assert!(error.to_string().starts_with("cannot open /nowhere/at/all: "), "{error}");
}
