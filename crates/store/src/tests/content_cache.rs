use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use dbuild_digest::ContentDigest;
use dbuild_layer::{ContentIndex as _, FileStat, TreePath};

use super::Space;
use crate::Store;

const HOUR_NS: i64 = 3_600_000_000_000;

fn path(name: &str) -> TreePath {
    TreePath::from_bytes(name.as_bytes()).unwrap()
}

/// Stat data of a file that was written so long ago.
fn written(ago_ns: i64) -> FileStat {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let then = i64::try_from(now.as_nanos()).unwrap() - ago_ns;
    FileStat { dev: 1, ino: 2, size: 3, mtime_ns: then | 1, ctime_ns: then | 1, mode: 0o100_644 }
}

fn look_up(store: &Store, root: &str, files: &[(&str, FileStat)]) -> Vec<Option<ContentDigest>> {
    let files: Vec<(TreePath, FileStat)> = files.iter().map(|(name, stat)| (path(name), *stat)).collect();
    store.get_many(Path::new(root), &mut files.iter().map(|(path, stat)| (path, *stat)))
}

fn put(store: &Store, files: &[(&str, FileStat, &str)]) {
    let files =
        files.iter().map(|(name, stat, bytes)| (path(name), *stat, ContentDigest::of(bytes.as_bytes())));
    let files: Vec<(TreePath, FileStat, ContentDigest)> = files.collect();
    store.put_many(
        Path::new("/context"),
        &mut files.iter().map(|(path, stat, digest)| (path, *stat, *digest)),
    );
}

fn known(store: &Store, name: &str, stat: FileStat) -> bool {
    look_up(store, "/context", &[(name, stat)])[0].is_some()
}

fn learn(store: &Store, name: &str, stat: FileStat) {
    look_up(store, "/context", &[(name, stat)]);
    put(store, &[(name, stat, "abc")]);
}

#[test]
fn a_file_that_did_not_change_is_known() {
    let space = Space::new();
    let stat = written(HOUR_NS);
    learn(&space.open(), "src/a", stat);
    let store = space.open();
    let found = look_up(&store, "/context", &[("src/Z", stat), ("src/a", stat), ("src/b", stat)]);
    assert_eq!(found, [None, Some(ContentDigest::of(b"abc")), None]);
    assert_eq!(look_up(&store, "/other", &[("src/a", stat)]), [None]);
}

#[test]
fn what_is_learned_comes_between_what_is_known_and_replaces_it() {
    let space = Space::new();
    let store = space.open();
    let (old, new) = (written(2 * HOUR_NS), written(HOUR_NS));
    let far =
        FileStat { dev: u64::MAX, ino: u64::MAX, size: 1 << 40, mtime_ns: -1, ctime_ns: i64::MIN, mode: 0 };
    // In the order of paths: a directory, then what is in it, then what only begins like it.
    let all = ["a", "a/b", "a/b/c", "a-b", "b", "c"];
    look_up(&store, "/context", &[]);
    put(&store, &[("a", old, "1"), ("a/b/c", far, "2"), ("a-b", old, "3"), ("c", old, "4")]);
    let digests = |stat: FileStat| look_up(&store, "/context", &all.map(|name| (name, stat)));
    let is = |bytes: &str| Some(ContentDigest::of(bytes.as_bytes()));
    assert_eq!(digests(old), [is("1"), None, None, is("3"), None, is("4")]);
    assert_eq!(digests(far), [None, None, is("2"), None, None, None]);
    put(&store, &[("a/b", new, "5"), ("a-b", new, "6"), ("b", new, "7")]);
    assert_eq!(digests(old), [is("1"), None, None, None, None, is("4")]);
    assert_eq!(digests(new), [None, is("5"), None, is("6"), is("7"), None]);
    assert_eq!(digests(far), [None, None, is("2"), None, None, None]);
}

#[test]
fn any_difference_of_the_stat_data_is_a_change() {
    let space = Space::new();
    let store = space.open();
    let stat = written(HOUR_NS);
    learn(&store, "a", stat);
    assert!(known(&store, "a", stat));
    for changed in [
        FileStat { dev: 9, ..stat },
        FileStat { ino: 9, ..stat },
        FileStat { size: 9, ..stat },
        FileStat { mtime_ns: stat.mtime_ns + 1, ..stat },
        FileStat { ctime_ns: stat.ctime_ns + 1, ..stat },
        FileStat { mode: 0o100_755, ..stat },
    ] {
        assert!(!known(&store, "a", changed), "{changed:?}");
    }
}

#[test]
fn a_file_written_while_it_was_looked_at_is_not_believed() {
    let space = Space::new();
    let store = space.open();
    let whole_seconds = |ns: i64| ns / 1_000_000_000 * 1_000_000_000;
    let cases: [(&str, &dyn Fn() -> FileStat); 5] = [
        ("now", &|| written(0)),
        ("a tick ago", &|| written(15_000_000)),
        ("in the future", &|| written(-HOUR_NS)),
        ("mtime set back", &|| FileStat { mtime_ns: 1, ..written(0) }),
        ("whole seconds", &|| FileStat { ctime_ns: whole_seconds(written(0).ctime_ns), ..written(HOUR_NS) }),
    ];
    for (name, stat) in cases {
        loop {
            let (began, stat) = (std::time::Instant::now(), stat());
            learn(&store, name, stat);
            // On a machine that is busy its times may be past when it is looked up.
            if began.elapsed().as_millis() < 4 {
                assert!(!known(&store, name, stat), "{name}");
                break;
            }
        }
    }
    let late = written(HOUR_NS);
    put(&store, &[]);
    put(&store, &[("never asked for", late, "")]);
    assert!(!known(&store, "never asked for", late));
}

/// BuildKit misses this: same size, same mtime, other bytes.
#[test]
fn a_real_file_that_keeps_size_and_mtime_is_noticed() {
    let space = Space::new();
    let store = space.open();
    let file = space.dir.path().join("file");
    let stat = || {
        let meta = fs::metadata(&file).unwrap();
        FileStat {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.size(),
            mtime_ns: meta.mtime() * 1_000_000_000 + meta.mtime_nsec(),
            ctime_ns: meta.ctime() * 1_000_000_000 + meta.ctime_nsec(),
            mode: meta.mode(),
        }
    };
    fs::write(&file, "one").unwrap();
    let modified = fs::metadata(&file).unwrap().modified().unwrap();
    learn(&store, "file", stat());
    fs::write(&file, "two").unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), modified);
    assert!(!known(&store, "file", stat()));
}

#[test]
fn a_damaged_index_is_empty() {
    let space = Space::new();
    let store = space.open();
    let stat = written(HOUR_NS);
    learn(&store, "a", stat);
    let file = fs::read_dir(store.root().join("indexes")).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&file).unwrap();
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        fs::write(&file, &flipped).unwrap();
        assert!(!known(&store, "a", stat), "byte {at}");
        fs::write(&file, &whole[..at]).unwrap();
        assert!(!known(&store, "a", stat), "cut at {at}");
    }
    learn(&store, "a", stat);
    assert!(known(&store, "a", stat));
}
