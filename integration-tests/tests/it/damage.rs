//! Damage to the store is a miss or a clean error, never a wrong image; and a disk that is full is
//! no damage.

use std::path::{Path, PathBuf};
use std::process::Command;

use dbuild_integration_tests::{Outcome, TestSpace, Unpacked, run};

const DOCKERFILE: &str = "FROM busybox\nCOPY file /file\nRUN cat /file /file > /twice\nCMD cat /twice\n";

/// Every regular file below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut rest = vec![dir.to_owned()];
    while let Some(dir) = rest.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => rest.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}

fn truncate(path: &Path) {
    let length = std::fs::metadata(path).unwrap().len();
    std::fs::File::options().write(true).open(path).unwrap().set_len(length / 2).unwrap();
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 0x20;
    }
    std::fs::write(path, bytes).unwrap();
}

fn delete(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

/// Builds, damages one kind of file, and builds again, for export. Either that is the right image
/// or a clean error.
#[track_caller]
fn check(what: &str, is_meant: impl Fn(&Path) -> bool) {
    for (how, damage) in [("truncate", truncate as fn(&Path)), ("flip", flip), ("delete", delete)] {
        let space = TestSpace::new();
        space.write("context/file", "right\n");
        space.build(DOCKERFILE, [""; 0]).run().expect_ok();
        let store = space.path("store");
        let meant: Vec<PathBuf> = files(&store)
            .into_iter()
            .filter(|path| is_meant(path.strip_prefix(&store).unwrap()))
            .filter(|path| std::fs::metadata(path).unwrap().len() > 0)
            .collect();
        assert!(!meant.is_empty(), "{what}: nothing to damage");
        meant.iter().for_each(|path| damage(path));

        let outcome = space.build(DOCKERFILE, [""; 0]).run().lacks(&["panicked"]);
        match outcome.code() {
            Some(0) => {
                let image = Unpacked::new(&space, "app");
                assert_eq!(image.read("/twice"), "right\nright\n", "{how} {what}");
                assert_eq!(space.run_in("app", &[]), "right\nright\n", "{how} {what}");
            }
            Some(1) => drop(outcome.stderr_has(&["error"])),
            _ => panic!("{how} {what}\n{outcome}"),
        }
    }
}

#[test]
fn blobs() {
    check("blobs", |path| path.starts_with("blobs"));
}

#[test]
fn the_database() {
    check("the database", |path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("dbuild.db"))
    });
}

#[test]
fn the_list_of_images() {
    check("index.json", |path| path == Path::new("index.json"));
}

#[test]
fn a_full_disk_is_an_error_and_no_more() {
    if !rustix::process::geteuid().is_root() {
        // Only root can mount a small file system for the store.
        return;
    }
    let space = TestSpace::new();
    space.write("context/file", "right\n");
    space.write("run/Dockerfile", "FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=100\n");
    space.write("copy/Dockerfile", "FROM busybox\nCOPY big /big\n");
    // It does not shrink.
    space.shell("", "head -c 60000000 /dev/urandom > copy/big").expect_ok();
    space.write("context/Dockerfile", DOCKERFILE);
    let outcome = on_small_disk(
        &space,
        "size=32m",
        "dbuild build run && exit 8; echo === run >&2; \
         dbuild build copy && exit 7; echo === copied >&2; \
         dbuild build -t app context && dbuild run app",
    );
    assert_eq!(outcome.stdout.lines().last(), Some("right"), "{outcome}");
    let (failed, _) = outcome.stderr.split_once("=== copied").expect("both builds failed");
    for failed in failed.split("=== run") {
        assert!(failed.contains("No space left"), "{outcome}");
    }
}

/// Runs a script with a small file system for the store, which ends with it.
#[track_caller]
fn on_small_disk(space: &TestSpace, options: &str, script: &str) -> Outcome {
    std::fs::create_dir(space.path("store")).unwrap();
    let build = space.dbuild(["build"]).into_command();
    let script = format!(
        "cd {root} && mount -t tmpfs -o {options} none store || exit 9; dbuild() {{ {dbuild} \"$@\"; }}; {script}",
        root = space.root().display(),
        dbuild = build.get_program().to_string_lossy(),
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]);
    for (name, value) in build.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    run(&mut command).expect_ok().lacks(&["panicked"])
}

/// Fills the disk with `fill`, prunes, and builds on what the prune has freed.
fn prune_when_full(options: &str, fill: &str) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let space = TestSpace::new();
    space.write("context/file", "right\n");
    space.write("context/Dockerfile", DOCKERFILE);
    let many =
        "for i in $(seq 300); do touch /$i; done; dd if=/dev/urandom of=/big bs=1k count=9000 2> /dev/null";
    space.write("waste/Dockerfile", format!("FROM busybox\nRUN {many}\n"));
    let script = format!(
        "set -e; dbuild build -t app context; dbuild build waste; test -d store/reserve; \
         dbuild tag app kept; mkdir store/fill; {{ {fill}; }} 2> /dev/null || true; \
         ! (touch store/fill/none && echo more > store/fill/none) 2> /dev/null; \
         echo === full >&2; ! dbuild build waste --no-cache || exit 7; echo === pruned >&2; \
         dbuild rm app; dbuild cache prune; test -d store/reserve; dbuild cache verify; \
         dbuild cache prune --all --keep-size 3MB; test $(du -s -B1 --exclude=fill store | cut -f1) -le 3000000; \
         dbuild build -t app context; dbuild run app"
    );
    let outcome = on_small_disk(&space, options, &script);
    assert_eq!(outcome.stdout.lines().last(), Some("right"), "{outcome}");
    let (_, full) = outcome.stderr.split_once("=== full").unwrap();
    let (full, pruned) = full.split_once("=== pruned").unwrap();
    assert!(full.contains("cache prune"), "{full}");
    // Records and images are what they were: the database was not given up.
    assert!(!pruned.contains("database"), "{pruned}");
    assert!(outcome.stdout.contains("freed "), "{outcome}");
}

#[test]
fn a_disk_that_is_full_to_its_last_byte_can_be_pruned() {
    prune_when_full("size=48m", "cat /dev/zero > store/fill/zero");
}

#[test]
fn a_disk_without_an_inode_left_can_be_pruned() {
    prune_when_full("size=64m,nr_inodes=2000", "i=0; while touch store/fill/$i; do i=$((i+1)); done");
}

#[test]
fn a_newer_database_or_store_is_refused_and_stays_and_a_foreign_one_is_set_aside() {
    let space = TestSpace::new();
    space.write("context/file", "right\n");
    space.build(DOCKERFILE, [""; 0]).run().expect_ok();
    // This copies the log into the database.
    space.dbuild(["cache", "prune", "--keep-size", "1GB"]).run().expect_ok();
    let database = space.path("store/dbuild.db");
    let whole = std::fs::read(&database).unwrap();
    let with = |at: usize, number: u32| {
        let mut bytes = whole.clone();
        bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
        bytes
    };
    // `user_version` and `application_id` of SQLite's header.
    let newer = with(60, 7);
    std::fs::write(&database, &newer).unwrap();
    for words in [&["images"][..], &["cache", "prune", "--all"], &["build", "context"]] {
        let refused = space.dbuild(words).run().expect_code(1).lacks(&["panicked"]);
        refused.stderr_has(&["has format 7", "use a newer dbuild, or another directory with --store"]);
    }
    assert!(std::fs::read(&database).unwrap() == newer, "it is as it was");

    std::fs::write(&database, with(68, 0x0bad_cafe)).unwrap();
    let again = space.build(DOCKERFILE, [""; 0]).run().expect_ok();
    again.stderr_has(&["could not be used (it is another program's)", "steps run again, images are kept"]);
    assert_eq!(space.run_in("app", &[]), "right\nright\n");
    space.build(DOCKERFILE, [""; 0]).run().expect_ok().lacks(&["could not be used"]);

    let format = space.read("store/format").replace("\"format\":1", "\"format\":9");
    space.write("store/format", &format);
    space.dbuild(["images"]).run().expect_code(1).stderr_has(&["has format 9"]);
    assert_eq!(space.read("store/format"), format);
}

/// The files of snapshots below a space's store that are meant.
fn in_snapshots(space: &TestSpace, is_meant: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let store = space.path("store/snapshots");
    let below_fs = |path: &PathBuf| -> Option<PathBuf> {
        let below = path.strip_prefix(&store).ok()?;
        Some(below.components().skip(1).collect::<PathBuf>().strip_prefix("fs").ok()?.to_owned())
    };
    files(&store).into_iter().filter(|path| below_fs(path).is_some_and(|path| is_meant(&path))).collect()
}

fn empty(path: &Path) {
    std::fs::File::options().write(true).open(path).unwrap().set_len(0).unwrap();
}

/// Another byte under the same size and time, as a disk that loses bits makes it.
fn flip_silently(path: &Path) {
    let time = std::fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    // In a program: the machine that it is for.
    let at = 18.min(bytes.len() - 1);
    bytes[at] ^= 0x20;
    std::fs::write(path, bytes).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

fn replace_by_directory(path: &Path) {
    delete(path);
    std::fs::create_dir(path).unwrap();
}

#[test]
fn damage_to_what_a_failing_run_stood_on_is_named_and_mended_and_the_run_runs_once_more() {
    let compare = "test $(cat /file /twice | wc -l) = 3 && test $(cat /file /twice | sort -u) = right && \
                   echo done > /done";
    let more = format!("{DOCKERFILE}RUN {compare}\n");
    let program = |path: &Path| path == Path::new("bin/busybox");
    let copied = |path: &Path| path == Path::new("file");
    let made = |path: &Path| path == Path::new("twice");
    for (name, is_meant, how, damage) in [
        ("the shell", program as fn(&Path) -> bool, "truncated", truncate as fn(&Path)),
        ("the shell", program, "emptied", empty),
        ("the shell", program, "flipped", flip_silently),
        ("the shell", program, "deleted", delete),
        ("the shell", program, "a directory", replace_by_directory),
        ("a copied file", copied, "flipped", flip_silently),
        ("a copied file", copied, "deleted", delete),
        ("what a RUN made", made, "emptied", empty),
        ("what a RUN made", made, "flipped", flip),
    ] {
        let space = TestSpace::new();
        space.write("context/file", "right\n");
        space.build(DOCKERFILE, [""; 0]).run().expect_ok();
        let victims = in_snapshots(&space, is_meant);
        assert!(!victims.is_empty(), "{name}: nothing to damage");
        victims.iter().for_each(|path| damage(path));
        let outcome = space.build(&more, [""; 0]).run();
        assert_eq!(outcome.code(), Some(0), "{name} {how}\n{outcome}");
        outcome.stderr_has(&["is damaged, and its step runs again"]);
        let image = Unpacked::new(&space, "app");
        assert_eq!((image.read("/twice"), image.read("/done")), ("right\nright\n".into(), "done\n".into()));
        // It is mended for good.
        let outcome = space.build(&more, [""; 0]).run().expect_ok().lacks(&["damaged"]);
        outcome.stderr_has(&["CACHED"]);
        space.dbuild(["cache", "verify"]).run().expect_ok();
    }
}

#[test]
fn a_run_that_fails_by_itself_fails_once() {
    let space = TestSpace::new();
    space.write("context/file", "right\n");
    let outcome = space.build(&format!("{DOCKERFILE}RUN echo once; exit 3\n"), [""; 0]).run();
    outcome.expect_code(1).lacks(&["damaged"]).stderr_has(&["exit code 3"]);
}

/// A way to damage a file, and its name.
type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 7] = [
    ("truncated", truncate),
    ("flipped", flip),
    ("emptied", empty),
    ("deleted", delete),
    ("replaced by a directory", replace_by_directory),
    ("replaced by a link to another file", |path| {
        delete(path);
        std::os::unix::fs::symlink("/etc/passwd", path).unwrap();
    }),
    ("replaced by a link to nothing", |path| {
        delete(path);
        std::os::unix::fs::symlink("/nowhere", path).unwrap();
    }),
];

/// Whether a path, relative to the store, is of a class of its files.
type IsOfClass = fn(&Path) -> bool;

/// Every class of files that a store is made of.
const CLASSES: [(&str, IsOfClass); 14] = [
    ("blob", |path| path.starts_with("blobs")),
    ("index of a snapshot", |path| path.starts_with("snapshots") && path.ends_with("index")),
    ("file of a snapshot", |path| path.starts_with("snapshots") && path.ends_with("fs/twice")),
    ("program of a snapshot", |path| path.starts_with("snapshots") && path.ends_with("fs/bin/busybox")),
    ("database", |path| path == Path::new("dbuild.db")),
    ("log of the database", |path| path == Path::new("dbuild.db-wal")),
    ("shared memory of the database", |path| path == Path::new("dbuild.db-shm")),
    ("format", |path| path == Path::new("format")),
    ("index.json", |path| path == Path::new("index.json")),
    ("oci-layout", |path| path == Path::new("oci-layout")),
    ("index of a context", |path| path.starts_with("indexes")),
    ("lock", |path| path == Path::new("lock") || path == Path::new("index.lock")),
    ("lock of publishing", |path| path == Path::new("publish.lock")),
    ("reserve", |path| path.starts_with("reserve")),
];

/// Damages a copy of a store in one way, repairs it, and builds.
#[track_caller]
fn is_mended(space: &TestSpace, class: &str, is_meant: IsOfClass, (how, damage): Damage) {
    let store = space.path("store");
    std::fs::remove_dir_all(&store).ok();
    space.shell("", "cp -a template store").expect_ok();
    let of_class = |path: &PathBuf| is_meant(path.strip_prefix(&store).unwrap());
    let meant: Vec<PathBuf> = files(&store).into_iter().filter(of_class).collect();
    assert!(!meant.is_empty(), "{class}: nothing to damage");
    meant.iter().for_each(|path| damage(path));
    let repaired = space.dbuild(["cache", "verify", "--repair"]).run();
    assert_eq!(repaired.code(), Some(0), "{class} {how}\n{repaired}");
    let verified = space.dbuild(["cache", "verify"]).run().lacks(&["warning"]);
    assert_eq!(verified.code(), Some(0), "{class} {how}, after {repaired}\n{verified}");
    let built = space.build(DOCKERFILE, [""; 0]).run();
    assert_eq!(built.code(), Some(0), "{class} {how}, after {repaired}\n{built}");
    let built = built.lacks(&["damaged", "warning: "]);
    assert_eq!(space.run_in("app", &[]), "right\nright\n", "{class} {how}\n{built}");
}

/// Damages every file of these classes in every way.
#[track_caller]
fn are_mended(classes: &[(&str, IsOfClass)]) {
    let space = TestSpace::new();
    space.write("context/file", "right\n");
    space.build(DOCKERFILE, [""; 0]).run().expect_ok();
    std::fs::rename(space.path("store"), space.path("template")).unwrap();
    for (class, is_meant) in classes.iter().copied() {
        for damage in DAMAGES {
            is_mended(&space, class, is_meant, damage);
        }
    }
    assert!(std::fs::metadata("/etc/passwd").unwrap().is_file(), "what a link leads to is not ours");
}

#[test]
fn repair_mends_blobs_and_snapshots_that_are_damaged_in_any_way() {
    are_mended(&CLASSES[..4]);
}

#[test]
fn repair_mends_the_database_and_what_tells_of_the_store_damaged_in_any_way() {
    are_mended(&CLASSES[4..9]);
}

#[test]
fn repair_mends_every_other_file_that_is_damaged_in_any_way() {
    are_mended(&CLASSES[9..]);
}

#[test]
fn a_format_that_says_nothing_is_told_from_one_that_says_otherwise() {
    let space = TestSpace::new();
    space.write("context/file", "right\n");
    space.build(DOCKERFILE, [""; 0]).run().expect_ok();
    let right = space.read("store/format");
    let (own, other) = match right.contains("trusted") {
        true => ("trusted", "user"),
        false => ("user", "trusted"),
    };
    for wrong in [right.replace(own, "trustex"), "{\"format\":1}".to_owned(), "x".to_owned()] {
        space.write("store/format", &wrong);
        let refused = space.dbuild(["images"]).run().expect_code(1).lacks(&["made by root", "made without"]);
        refused.stderr_has(&["format is damaged", "cache verify --repair"]);
        space.dbuild(["cache", "verify", "--repair"]).run().expect_ok().stdout_has(&["format"]);
        assert_eq!(space.read("store/format"), right);
        space.build(DOCKERFILE, [""; 0]).run().expect_ok().stderr_has(&["CACHED"]);
    }
    // It may be true: repair does not take another one's store.
    space.write("store/format", right.replace(own, other));
    space.dbuild(["cache", "verify", "--repair"]).run().expect_code(1).stderr_has(&["was made"]);
}
