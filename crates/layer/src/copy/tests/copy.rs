//! One test for each rule of COPY and ADD; numbers are those of the list of observed behaviour.

use crate::testing::{
    Space, TarBuilder, assert_on_disk, at, form, live, plain, selected, show, snapshot, text,
};
use crate::{
    CopyError, CopyRequest, EntryKind, Ignore, NoContentIndex, SelectOptions, Selection, Source, Stack,
    WrittenLayer, copy, select, walk_context,
};

/// `COPY source… dest` from a context onto a layer, and what the new layer holds.
struct Case<'a> {
    context: &'a [&'a str],
    parent: &'a [&'a str],
    sources: &'a [&'a str],
    dest: &'a str,
    chown: Option<(u32, u32)>,
    chmod: Option<&'a str>,
    exclude: &'a [&'a str],
    parents: bool,
    link: bool,
    unpack: bool,
}

const CASE: Case<'_> = Case {
    context: &[],
    parent: &[],
    sources: &[],
    dest: "/",
    chown: None,
    chmod: None,
    exclude: &[],
    parents: false,
    link: false,
    unpack: false,
};

impl Case<'_> {
    fn run(&self, space: &Space) -> Result<(WrittenLayer, Stack), CopyError> {
        let context = space.context("context", self.context);
        let parent = space.layer("parent", self.parent);
        let options = SelectOptions {
            exclude: self.exclude.iter().map(ToString::to_string).collect(),
            parents: self.parents,
            literal: false,
        };
        let selections: Vec<Selection> =
            self.sources.iter().map(|path| select(&context, path, &options)).collect::<Result<_, _>>()?;
        let sources =
            selections.iter().map(|selection| Source::Selected { selection, unpack: self.unpack }).collect();
        let parent = (!self.link).then_some(&parent);
        let request = CopyRequest {
            parent,
            sources,
            dest: self.dest,
            chown: self.chown,
            chmod: self.chmod,
            earlier: None,
            known: None,
        };
        let made = space.copy(&request)?;
        assert_on_disk(&made, &space.path("out"));
        let merged = parent.cloned().unwrap_or_default().with(space.out(&made));
        Ok((made, merged))
    }

    fn check(&self, expected: &[&str]) {
        let (made, _) = self.run(&Space::new()).unwrap();
        assert_eq!(show(&made.tree), expected);
        assert!(made.changed.is_empty() && made.notes.is_empty());
    }

    fn check_error(&self, expected: &str) {
        let error = self.run(&Space::new()).unwrap_err().to_string();
        assert_eq!(error, expected);
    }
}

#[test]
fn a_file_goes_into_a_directory_and_becomes_a_name() {
    let case = Case { context: &["a = 123"], sources: &["a"], ..CASE };
    Case { dest: "/d/", ..case }.check(&["d0755 0:0 d", "f0644 0:0 d/a 3"]);
    Case { dest: "/d/.", ..case }.check(&["d0755 0:0 d", "f0644 0:0 d/a 3"]);
    Case { dest: "/d/b", ..case }.check(&["d0755 0:0 d", "f0644 0:0 d/b 3"]);
    Case { dest: "/", ..case }.check(&["f0644 0:0 a 3"]);
    Case { parent: &["d/ 0700"], dest: "/d", ..case }.check(&["d0700 0:0 d", "f0644 0:0 d/a 3"]);
}

/// 17: no slash, two sources: the second replaces the first.
#[test]
fn two_files_to_one_name_leave_the_last() {
    let space = Space::new();
    let case = Case { context: &["a = 1", "b = 22"], sources: &["a", "b"], dest: "/d", ..CASE };
    let (made, merged) = case.run(&space).unwrap();
    assert_eq!(show(&made.tree), ["f0644 0:0 d 2"]);
    assert_eq!(text(&merged, "d"), "22");
}

/// 18
#[test]
fn a_wildcard_may_match_nothing_and_a_name_may_not() {
    let case = Case { context: &["main.go = x"], ..CASE };
    Case { sources: &["*.py"], dest: "/d/", ..case }.check(&[]);
    Case { sources: &["mian.go"], ..case }.check_error("`mian.go` is not there; did you mean `main.go`?");
    Case { sources: &["main.go/x"], ..case }.check_error("`main.go/x` is not there");
    Case { sources: &["nothing"], ..case }.check_error("`nothing` is not there");
}

/// 19: two stars are one without `--parents`, and matched directories give their contents.
#[test]
fn wildcards_match_one_level_and_flatten_directories() {
    let context = &["src/a/x.txt = 1", "src/b/y.txt = 22", "src/z.txt = 333"];
    Case { context, sources: &["src/**/*.txt"], dest: "/d/", ..CASE }.check(&[
        "d0755 0:0 d",
        "f0644 0:0 d/x.txt 1",
        "f0644 0:0 d/y.txt 2",
    ]);
    Case { context, sources: &["src/*"], dest: "/d/", ..CASE }.check(&[
        "d0755 0:0 d",
        "f0644 0:0 d/x.txt 1",
        "f0644 0:0 d/y.txt 2",
        "f0644 0:0 d/z.txt 3",
    ]);
    Case { context: &["a[1].txt = 1", "a1.txt = 22"], sources: &["a[[]1].txt"], ..CASE }
        .check(&["f0644 0:0 a[1].txt 1"]);
}

#[test]
fn parents_keeps_paths_from_the_root_or_from_the_pivot() {
    let context = &["src/ 0700", "src/a/x.txt = 1", "src/b/y.md = 22", "src/b/deep/z.txt = 333"];
    let case = Case { context, parents: true, dest: "/d/", ..CASE };
    Case { sources: &["src/a/x.txt"], ..case }.check(&[
        "d0755 0:0 d",
        "d0700 0:0 d/src",
        "d0755 0:0 d/src/a",
        "f0644 0:0 d/src/a/x.txt 1",
    ]);
    Case { sources: &["src/./**/*.txt"], ..case }.check(&[
        "d0755 0:0 d",
        "d0755 0:0 d/a",
        "f0644 0:0 d/a/x.txt 1",
        "d0755 0:0 d/b",
        "d0755 0:0 d/b/deep",
        "f0644 0:0 d/b/deep/z.txt 3",
    ]);
    Case { sources: &["./src/./b"], ..case }.check(&[
        "d0755 0:0 d",
        "d0755 0:0 d/b",
        "d0755 0:0 d/b/deep",
        "f0644 0:0 d/b/deep/z.txt 3",
        "f0644 0:0 d/b/y.md 2",
    ]);
    Case { sources: &["src/./c"], ..case }.check_error("`src/./c` is not there");
}

/// 20
#[test]
fn exclude_is_matched_below_each_source() {
    let context = &["app/app/keep = 1", "app/skip.log = 1", "app/sub/skip.log = 1", "app/sub/in = 22"];
    Case { context, sources: &["app"], exclude: &["app", "**/*.log"], dest: "/d", ..CASE }.check(&[
        "d0755 0:0 d",
        "d0755 0:0 d/sub",
        "f0644 0:0 d/sub/in 2",
    ]);
    Case { context, sources: &["app"], exclude: &["sub", "!sub/in", "app"], dest: "/d", ..CASE }.check(&[
        "d0755 0:0 d",
        "f0644 0:0 d/skip.log 1",
        "d0755 0:0 d/sub",
        "f0644 0:0 d/sub/in 2",
    ]);
    Case { context: &["a.log = 1"], sources: &["a.log"], exclude: &["*.log"], dest: "/d/", ..CASE }
        .check(&["d0755 0:0 d", "f0644 0:0 d/a.log 1"]);
}

/// 21
#[test]
fn octal_chmod_reaches_made_parents_and_symbolic_does_not() {
    let case = Case { context: &["s/ 0700", "s/sub/ 0700", "s/sub/a 0600 = 1"], sources: &["s"], ..CASE };
    Case { chmod: Some("1711"), dest: "/p/q", ..case }.check(&[
        "d0711 0:0 p",
        "d0711 0:0 p/q",
        "d1711 0:0 p/q/sub",
        "f1711 0:0 p/q/sub/a 1",
    ]);
    Case { chmod: Some("go+rX,u+s"), dest: "/p/q", ..case }.check(&[
        "d0755 0:0 p",
        "d0755 0:0 p/q",
        "d4755 0:0 p/q/sub",
        "f4644 0:0 p/q/sub/a 1",
    ]);
    Case { chmod: Some("rwx"), ..case }
        .check_error("`rwx` is not a mode: write it in octal (0755) or as chmod takes it (u=rwx,go=rx)");
}

/// 22
#[test]
fn a_new_top_directory_is_0755_and_existing_ones_below_take_the_sources_mode() {
    let context = &["top/ 0700", "top/etc/ 0711", "top/etc/new = 1"];
    Case { context, sources: &["top"], dest: "/d", ..CASE }.check(&[
        "d0755 0:0 d",
        "d0711 0:0 d/etc",
        "f0644 0:0 d/etc/new 1",
    ]);
    Case {
        context,
        sources: &["top"],
        parent: &["d/ 0750", "d/etc/ 0755", "d/etc/old = 1"],
        dest: "/d",
        ..CASE
    }
    .check(&["d0750 0:0 d", "d0711 0:0 d/etc", "f0644 0:0 d/etc/new 1"]);
}

#[test]
fn chown_gives_everything_and_made_parents_an_owner() {
    let case = Case { context: &["s/a = 1", "s/l -> a"], sources: &["s"], chown: Some((7, 8)), ..CASE };
    Case { dest: "/p/q", ..case }.check(&[
        "d0755 7:8 p",
        "d0755 7:8 p/q",
        "f0644 7:8 p/q/a 1",
        "l0777 7:8 p/q/l -> a",
    ]);
    Case { parent: &["p/"], dest: "/p", ..case }.check(&[
        "d0755 0:0 p",
        "f0644 7:8 p/a 1",
        "l0777 7:8 p/l -> a",
    ]);
}

/// 23
#[test]
fn symlinks_on_the_way_to_the_destination_are_followed_within_the_root() {
    let case = Case { context: &["a = 1"], sources: &["a"], ..CASE };
    Case { parent: &["l -> /real/deep"], dest: "/l/", ..case }.check(&[
        "d0755 0:0 real",
        "d0755 0:0 real/deep",
        "f0644 0:0 real/deep/a 1",
    ]);
    Case { parent: &["real/", "l -> ../../real"], dest: "/l/x", ..case }
        .check(&["d0755 0:0 real", "f0644 0:0 real/x 1"]);
    Case { parent: &["l -> target"], dest: "/l", ..case }.check(&["f0644 0:0 target 1"]);
    Case { parent: &["l -> l"], dest: "/l/", ..case }.check_error("/l leads through too many symbolic links");
    Case { parent: &["f = x"], dest: "/f/", ..case }.check_error("/f is not a directory");
}

/// 23
#[test]
fn a_symlink_in_the_merged_tree_where_the_source_has_a_directory_is_an_error() {
    let case =
        Case { context: &["s/sub/a = 1"], sources: &["s"], parent: &["d/sub -> /x"], dest: "/d", ..CASE };
    case.check_error(
        "cannot copy to /d/sub: a symlink to `/x` stands there, where the source has a directory",
    );
    Case { context: &["s/sub = file"], parent: &["d/sub/x = 1"], ..case }
        .check_error("cannot copy to /d/sub: a directory stands there, which a file does not replace");
    Case { context: &["s/sub = file"], parent: &["d/sub -> /x"], ..case }
        .check(&["d0755 0:0 d", "f0644 0:0 d/sub 4"]);
}

/// 24
#[test]
fn link_does_not_know_the_parent() {
    let case = Case { context: &["a = 1"], sources: &["a"], link: true, ..CASE };
    Case { parent: &["p/ 0700", "p/l -> /else"], dest: "/p/l/", ..case }.check(&[
        "d0755 0:0 p",
        "d0755 0:0 p/l",
        "f0644 0:0 p/l/a 1",
    ]);
    Case { parent: &["d/x = 1"], dest: "/d", ..case }.check(&["f0644 0:0 d 1"]);
}

/// 25
#[test]
fn hardlinks_survive_within_one_source_only() {
    let context = &["s/b = 123", "s/c => s/b", "a => s/b"];
    Case { context, sources: &["s"], dest: "/d/", ..CASE }.check(&[
        "d0755 0:0 d",
        "f0644 0:0 d/b 3",
        "h0644 0:0 d/c => d/b",
    ]);
    Case { context, sources: &["s/b", "s/c"], dest: "/d/", ..CASE }.check(&[
        "d0755 0:0 d",
        "f0644 0:0 d/b 3",
        "f0644 0:0 d/c 3",
    ]);
    let space = Space::new();
    let (made, _) = Case { context, sources: &["s"], dest: "/d/", ..CASE }.run(&space).unwrap();
    std::fs::rename(space.path("out"), space.path("first")).unwrap();
    let first = Stack::new(vec![crate::testing::snapshot(made.tree, &space.path("first"))]);
    // Two links more to one inode of the store must not look like links of the image.
    let twice = [selected(&first, "d/b"), selected(&first, "d/c")];
    let made = space.copy(&plain(None, &twice, "/e/")).unwrap();
    assert_eq!(show(&made.tree), ["d0755 0:0 e", "f0644 0:0 e/b 3", "f0644 0:0 e/c 3"]);
}

#[test]
fn source_symlinks_are_followed_at_the_top_and_kept_below() {
    let context = &["real/f = 1", "real/in -> f", "l -> real", "lf -> real/f", "out -> ../../../real"];
    let case = Case { context, dest: "/d/", ..CASE };
    Case { sources: &["l"], ..case }.check(&["d0755 0:0 d", "f0644 0:0 d/f 1", "l0777 0:0 d/in -> f"]);
    Case { sources: &["lf"], ..case }.check(&["d0755 0:0 d", "f0644 0:0 d/lf 1"]);
    Case { sources: &["l/f"], ..case }.check(&["d0755 0:0 d", "f0644 0:0 d/f 1"]);
    Case { sources: &["out/f"], ..case }.check(&["d0755 0:0 d", "f0644 0:0 d/f 1"]);
    Case { sources: &["../../real/f"], ..case }.check(&["d0755 0:0 d", "f0644 0:0 d/f 1"]);
}

#[test]
fn fifos_setuid_and_empty_directories_are_copied() {
    Case { context: &["s/p |", "s/su 4755 = x", "s/empty/ 1777"], sources: &["s"], dest: "/d", ..CASE }
        .check(&["d0755 0:0 d", "d1777 0:0 d/empty", "p0644 0:0 d/p", "f4755 0:0 d/su 1"]);
}

#[test]
fn an_empty_directory_copied_to_an_existing_one_changes_nothing_but_its_time() {
    Case { context: &["s/"], sources: &["s"], parent: &["d/ 0711"], dest: "/d", ..CASE }
        .check(&["d0711 0:0 d"]);
    Case { context: &["s/a = 1"], sources: &["s/."], dest: "/", ..CASE }.check(&["f0644 0:0 a 1"]);
}

#[test]
fn a_file_named_like_a_whiteout_hides() {
    Case {
        context: &["s/.wh.old = ", "s/.wh.none = "],
        sources: &["s"],
        parent: &["d/old/x = 1"],
        dest: "/d",
        ..CASE
    }
    .check(&["d0755 0:0 d", "w d/old"]);
}

#[test]
fn here_documents_are_files_of_root() {
    let space = Space::new();
    let parent = space.layer("parent", &["d/"]);
    let sources = vec![
        Source::Inline { name: "one", content: b"text" },
        Source::Inline { name: "x/two", content: b"" },
    ];
    let request = CopyRequest {
        parent: Some(&parent),
        sources,
        dest: "/d",
        chown: Some((5, 6)),
        chmod: None,
        earlier: None,
        known: None,
    };
    let made = space.copy(&request).unwrap();
    assert_eq!(show(&made.tree), ["d0755 0:0 d", "f0644 5:6 d/one 4", "f0644 5:6 d/two 0"]);
    assert_eq!(text(&Stack::new(vec![space.out(&made)]), "d/one"), "text");
}

#[test]
fn a_context_file_that_changed_is_told_and_indexed_as_copied() {
    let space = Space::new();
    let context = space.context("context", &["a = old", "b = same"]);
    let selections = [selected(&context, "a"), selected(&context, "b")];
    std::fs::write(space.path("context/a"), "new").unwrap();
    let made = space.copy(&plain(None, &selections, "/d/")).unwrap();
    assert_eq!(made.changed, [at("d/a")]);
    assert_eq!(text(&Stack::new(vec![space.out(&made)]), "d/a"), "new");
    assert_on_disk(&made, &space.path("out"));
}

#[test]
fn a_context_file_that_became_a_link_out_is_an_error() {
    let space = Space::new();
    let context = space.context("context", &["a = old", "d/b = old"]);
    let selections = [selected(&context, "a")];
    std::fs::remove_file(space.path("context/a")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", space.path("context/a")).unwrap();
    assert!(space.copy(&plain(None, &selections, "/d/")).is_err());
    let selections = [selected(&context, "d/b")];
    std::fs::remove_dir_all(space.path("context/d")).unwrap();
    std::os::unix::fs::symlink("/etc", space.path("context/d")).unwrap();
    assert!(space.copy(&plain(None, &selections, "/d/")).is_err());
}

#[test]
fn a_damaged_snapshot_is_an_error() {
    let space = Space::new();
    let source = space.layer("source", &["a = whole"]);
    let selections = [selected(&source, "a")];
    std::fs::write(space.path("source/a"), "cut").unwrap();
    let error = space.copy(&plain(None, &selections, "/d/")).unwrap_err().to_string();
    assert!(error.contains("is not what its layer's index says"), "{error}");
    // Also without links, where the file is opened.
    for request in [
        plain(None, &selections, "/d/"),
        CopyRequest { chmod: Some("700"), ..plain(None, &selections, "/d/") },
    ] {
        let _ = std::fs::remove_file(space.path("source/a"));
        let error = space.copy(&request).unwrap_err().to_string();
        assert!(error.contains("a in ") && error.contains("(it is gone)"), "{error}");
    }
    std::fs::remove_dir(space.path("source")).unwrap();
    let error = space.copy(&plain(None, &selections, "/d/")).unwrap_err().to_string();
    assert!(error.contains("(it is gone)"), "{error}");
}

#[test]
fn unchanged_files_of_a_snapshot_are_hardlinked_and_changed_ones_are_not() {
    use std::os::unix::fs::MetadataExt as _;
    let space = Space::new();
    let source = space.layer("source", &["a = whole"]);
    let selections = [selected(&source, "a")];
    let inode = |path: &str| std::fs::metadata(space.path(path)).unwrap().ino();
    space.copy(&plain(None, &selections, "/d/")).unwrap();
    assert_eq!(inode("out/d/a"), inode("source/a"));
    let made = space.copy(&CopyRequest { chmod: Some("700"), ..plain(None, &selections, "/d/") }).unwrap();
    assert_ne!(inode("out/d/a"), inode("source/a"));
    assert_on_disk(&made, &space.path("out"));
}

#[test]
fn holes_stay_holes() {
    use std::os::unix::fs::MetadataExt as _;
    let space = Space::new();
    let dir = space.dir("context");
    let file = std::fs::File::create(dir.join("big")).unwrap();
    file.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"middle", 32 << 20).unwrap();
    let context = space.context("context", &[]);
    let made = space.copy(&plain(None, &[selected(&context, "big")], "/one")).unwrap();
    assert_on_disk(&made, &space.path("out"));
    assert!(std::fs::metadata(space.path("out/one")).unwrap().blocks() < 1 << 12);
    // And once more between layers, where the kernel copies.
    std::fs::rename(space.path("out"), space.path("first")).unwrap();
    let first = Stack::new(vec![crate::testing::snapshot(made.tree, &space.path("first"))]);
    let selections = [selected(&first, "one")];
    let made = space.copy(&CopyRequest { chmod: Some("600"), ..plain(None, &selections, "/two") }).unwrap();
    assert_on_disk(&made, &space.path("out"));
    assert!(std::fs::metadata(space.path("out/two")).unwrap().blocks() < 1 << 12);
}

/// 28
#[test]
fn local_archives_are_unpacked_by_content() {
    let space = Space::new();
    let dir = space.files("context", &["plain.tar = no archive at all"]);
    let tar = TarBuilder::default()
        .dir("./")
        .dir("sub/")
        .file("sub/f", b"1234")
        .hardlink("sub/h", "sub/f")
        .dir("etc/")
        .symlink("out", "/etc")
        .file("out/inside", b"x")
        .file("../../up", b"x")
        .file(".wh.gone", b"")
        .end();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, &tar).unwrap();
    std::fs::write(dir.join("data"), encoder.finish().unwrap()).unwrap();
    let case = Case { unpack: true, parent: &["d/gone = 1", "d/sub = file"], dest: "/d", ..CASE };
    let (made, merged) = Case { sources: &["data"], ..case }.run(&space).unwrap();
    // The archive's root is the destination, for its symlinks too.
    assert_eq!(
        show(&made.tree),
        [
            "d0755 0:0 d",
            "d0755 0:0 d/etc",
            "f0644 0:0 d/etc/inside 1",
            "w d/gone",
            "l0777 0:0 d/out -> /etc",
            "d0755 0:0 d/sub",
            "f0644 0:0 d/sub/f 4",
            "h0644 0:0 d/sub/h => d/sub/f",
            "f0644 0:0 d/up 1",
        ]
    );
    assert_eq!(text(&merged, "d/sub/h"), "1234");
    let (made, _) = Case { sources: &["plain.tar"], dest: "/p", ..case }.run(&space).unwrap();
    assert_eq!(show(&made.tree), ["f0644 0:0 p 17"]);
    let case = Case { sources: &["data"], chown: Some((3, 4)), chmod: Some("700"), dest: "/n", ..case };
    let (made, _) = case.run(&space).unwrap();
    assert!(show(&made.tree).starts_with(&["d0755 3:4 n".to_owned(), "d0755 3:4 n/etc".to_owned()]));
    assert!(show(&made.tree).contains(&"f0644 3:4 n/sub/f 4".to_owned()), "{:?}", show(&made.tree));
}

#[test]
fn make_dir_makes_what_is_missing_and_follows_links() {
    let space = Space::new();
    let parent = space.layer("parent", &["a/ 0700", "l -> /a/x"]);
    let check = |path: &str, expected: &[&str]| {
        let out = space.dir(&format!("made{}", path.replace('/', "_")));
        let made = crate::make_dir(&parent, path, 7, 7, &out, crate::testing::form()).unwrap();
        assert_eq!(show(&made.tree), expected, "{path}");
        assert_on_disk(&made, &out);
    };
    check("/a", &[]);
    check("/", &[]);
    check("/a/b/c", &["d0700 0:0 a", "d0755 7:7 a/b", "d0755 7:7 a/b/c"]);
    check("/l/y", &["d0700 0:0 a", "d0755 7:7 a/x", "d0755 7:7 a/x/y"]);
}

#[test]
fn a_selection_tells_everything_but_times() {
    let space = Space::new();
    let context = space.context("context", &["s/a = 1", "s/b => s/a", "s/l -> a b", "s/d/ 0700", "s/p |"]);
    let items: Vec<String> = selected(&context, "s")
        .items()
        .map(|item| format!("{} {} {:o} {}", item.path, item.kind, item.mode, item.rest))
        .collect();
    let hash = dbuild_digest::ContentDigest::of(b"1").hex();
    assert_eq!(
        items,
        [
            "s dir 755 ".to_owned(),
            format!("s/a file 644 {hash}"),
            format!("s/b hardlink 644 {hash} to a"),
            "s/d dir 700 ".to_owned(),
            "s/l symlink 777 a\\u{20}b".to_owned(),
            "s/p fifo 644 ".to_owned(),
        ]
    );
    assert!(matches!(context.lookup(&at("s/a")).unwrap().entry.kind, EntryKind::File { size: 1, .. }));
}

#[test]
fn a_source_with_parents_must_select_something() {
    let case = Case { context: &["d/a = 1", "etc/x = 1", "l -> d"], parents: true, ..CASE };
    let nothing = |path: &str| {
        format!(
            "`{path}` selects nothing: --parents takes paths as they are written, through no symlink, and not what --exclude leaves out"
        )
    };
    for source in ["", "d/./", "l/a", "!d"] {
        let case = Case { sources: &[source], ..case };
        match source {
            "!d" => case.check_error("`!d` is not there; did you mean `d`?"),
            _ => case.check_error(&nothing(source)),
        }
    }
    Case { sources: &["d/a"], exclude: &["**/a"], ..case }.check_error(&nothing("d/a"));
    Case { sources: &["et"], ..case }.check_error("`et` is not there; did you mean `etc`?");
    Case { sources: &["l"], ..case }.check(&["l0777 0:0 l -> d"]);
}

#[test]
fn a_filtered_copy_follows_links_at_the_top() {
    let case = Case { context: &["a = 1", "d/l -> nowhere", "l -> nowhere"], ..CASE };
    let dangling = "`/l` is a symlink to something that is not there, which --parents and --exclude do not take at the top of a source";
    Case { sources: &[""], exclude: &["x"], ..case }.check_error(dangling);
    Case { sources: &["*"], parents: true, ..case }.check_error(dangling);
    Case { sources: &["d"], exclude: &["x"], ..case }.check(&["l0777 0:0 l -> nowhere"]);
    Case { sources: &["d/l"], parents: true, ..case }.check(&["d0755 0:0 d", "l0777 0:0 d/l -> nowhere"]);
}

#[test]
fn what_an_earlier_result_has_is_linked_from_it_and_not_read() {
    use std::os::unix::fs::MetadataExt as _;
    let inode = |path: std::path::PathBuf| std::fs::metadata(path).unwrap().ino();
    let space = Space::new();
    let context = space.context("context", &["s/same = 1", "s/other = 2", "s/new = 3", "s/touched = 4"]);
    let selections = [selected(&context, "s")];
    let first = copy(&plain(None, &selections, "/d"), &space.dir("first"), form()).unwrap();
    let earlier = snapshot(first.tree.clone(), &space.path("first"));

    std::fs::write(space.path("context/s/other"), "5").unwrap();
    std::fs::remove_file(space.path("context/s/new")).unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(9);
    std::fs::File::open(space.path("context/s/touched")).unwrap().set_modified(later).unwrap();
    let changed = walk_context(&space.path("context"), &Ignore::default(), None, &NoContentIndex).unwrap();
    let changed = live(changed, &space.path("context"));
    let selections = [selected(&changed, "s")];
    let request = CopyRequest { earlier: Some(&earlier), ..plain(None, &selections, "/d") };
    let made = space.copy(&request).unwrap();
    assert_on_disk(&made, &space.path("out"));
    assert_eq!(text(&Stack::new(vec![space.out(&made)]), "d/other"), "5");
    assert_eq!(inode(space.path("out/d/same")), inode(space.path("first/d/same")));
    for name in ["d/other", "d/touched"] {
        assert_ne!(inode(space.path("out").join(name)), inode(space.path("first").join(name)), "{name}");
    }
    assert!(!space.path("out/d/new").exists());

    // Another owner or mode is another file.
    let request = CopyRequest { chmod: Some("600"), ..request };
    let made = space.copy(&request).unwrap();
    assert_on_disk(&made, &space.path("out"));
    assert_ne!(inode(space.path("out/d/same")), inode(space.path("first/d/same")));
}
