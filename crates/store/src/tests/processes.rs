//! Several processes on one store. A child is this test binary again, told by the environment what
//! to do.

use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::{env, fs};

use dbuild_events::{Event, EventSink as _};
use dbuild_layer::OverlayFlavor;

use super::{Space, id, image, key, names, publish, record, scratch};
use crate::{BuildInfo, PruneOptions, Store};

const TASK: &str = "DBUILD_STORE_TEST_TASK";
const ROOT: &str = "DBUILD_STORE_TEST_ROOT";

/// Does nothing in an ordinary run.
#[test]
fn child() {
    let Ok(task) = env::var(TASK) else { return };
    let root = PathBuf::from(env::var_os(ROOT).unwrap());
    match task.as_str() {
        "hold" => hold(&root),
        "count" => count(&root),
        "tag" => tag(&root),
        "fill" => fill_up(&root),
        other => panic!("no task {other}"),
    }
}

fn command(task: &str, root: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "tests::processes::child", "--nocapture"]);
    command.env(TASK, task).env(ROOT, root).stdout(Stdio::piped()).stdin(Stdio::piped());
    command
}

/// Starts a child and waits until it says `ready`.
fn start(task: &str, root: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut child = command(task, root).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while line.trim() != "ready" {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "the child ended");
    }
    (child, output)
}

fn ready() {
    println!("\nready");
    std::io::stdout().flush().unwrap();
}

fn open(root: &Path) -> Store {
    Store::open(root, OverlayFlavor::User).unwrap()
}

/// Is in the middle of everything until it is killed.
fn hold(root: &Path) {
    let store = open(root);
    let _lease = store.lease().unwrap();
    let _key = store.lock_key(&key(1)).unwrap();
    let done = publish(&store, "done", "1");
    store.put_record(&record(2, "RUN done", Some(&done)), &[]).unwrap();
    let draft = store.new_snapshot().unwrap();
    fs::write(draft.fs_dir().join("half"), "2").unwrap();
    let mut blob = store.blob_writer().unwrap();
    blob.write_all(b"half a blob").unwrap();
    let _mount = store.cache_mount("held", dbuild_plan::CacheSharing::Locked, false, |_| Ok(())).unwrap();
    let build = store.begin_build(&BuildInfo::default()).unwrap();
    let journal = store.journal(&build).unwrap();
    journal.emit(Event::Note { text: "before".to_owned() });
    journal.flush();
    ready();
    // Until the parent is gone or kills us.
    let _ = std::io::stdin().lines().next();
}

#[test]
fn a_killed_process_loses_nothing_that_was_done_and_holds_nothing() {
    let space = Space::new();
    drop(space.open());
    let (mut child, _output) = start("hold", &space.root());
    let store = space.open();
    assert!(store.try_lock_key(&key(1)).unwrap().is_none(), "it works on the key");
    assert_eq!(scratch(&space), 2, "its scratch is left alone");
    let everything = PruneOptions { all: true, ..PruneOptions::default() };
    store.prune(&everything).unwrap();
    assert!(store.record(&key(2)).is_some(), "its lease holds");
    assert_eq!(store.cache_mounts().unwrap().len(), 1);

    // SIGKILL.
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(store.try_lock_key(&key(1)).unwrap().is_some(), "another takes over");
    drop(store);
    let store = space.open();
    assert_eq!(scratch(&space), 1, "what it left is swept");
    let found = store.record(&key(2)).unwrap();
    assert!(store.snapshot(&found.snapshot.unwrap()).is_some());
    let build = store.build(None).unwrap();
    assert_eq!((build.outcome, store.events(&build.id).unwrap().len()), (None, 1));
    store.prune(&everything).unwrap();
    assert!(store.record(&key(2)).is_none(), "its lease ended with it");
    assert_eq!(fs::read_dir(space.root().join("leases")).unwrap().count(), 0);
}

/// Counts in a file that only the holder of a key may touch.
fn count(root: &Path) {
    let store = open(root);
    ready();
    let counter = root.parent().unwrap().join("counter");
    for _ in 0..100 {
        let _lock = store.lock_key(&key(3)).unwrap();
        let count: u32 = fs::read_to_string(&counter).map_or(0, |text| text.parse().unwrap());
        fs::write(&counter, (count + 1).to_string()).unwrap();
    }
}

#[test]
fn processes_exclude_each_other_per_key() {
    let space = Space::new();
    let mut children: Vec<_> = (0..4).map(|_| start("count", &space.root())).collect();
    for (child, _) in &mut children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(fs::read_to_string(space.dir.path().join("counter")).unwrap(), "400");
}

fn tag(root: &Path) {
    let store = open(root);
    let image = image(&store, "same");
    ready();
    for number in 0..5 {
        store.tag(&format!("{}:{number}", std::process::id()), &image).unwrap();
    }
}

#[test]
fn processes_that_open_and_tag_at_once_lose_no_name() {
    let space = Space::new();
    let mut children: Vec<_> = (0..4).map(|_| start("tag", &space.root())).collect();
    for (child, _) in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let store = space.open();
    assert_eq!(names(&store).len(), 20);
    assert_eq!(store.take_warnings(), Vec::<String>::new());
}

/// Runs on a file system of 4 MiB.
fn fill_up(root: &Path) {
    let store = open(root);
    let kept = publish(&store, "kept", "1");
    store.put_record(&record(1, "RUN kept", Some(&kept)), &[]).unwrap();
    store.tag("app", &image(&store, "small")).unwrap();
    let ballast = root.parent().unwrap().join("ballast");
    let error = fs::write(&ballast, vec![0; 16 << 20]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);

    let told = |error: crate::StoreError| {
        let text = error.to_string();
        assert!(error.is_storage_exhausted(), "{text}");
        assert!(text.contains(root.to_str().unwrap()) && text.contains("dbuild cache prune"), "{text}");
    };
    told(store.put_blob(&vec![1; 1 << 20]).unwrap_err());
    let draft = store.new_snapshot();
    if let Ok(draft) = draft {
        let list: Vec<_> = (0..5000).map(|n| format!("file-{n}")).collect();
        let text = list.concat();
        told(
            store
                .publish_snapshot(draft, super::tree(&"n".repeat(200), &text))
                .map_or_else(|e| e, |_| store.put_blob(&vec![2; 1 << 20]).unwrap_err()),
        );
    }
    // What was there is there, and with space again everything goes on.
    assert!(store.snapshot(&id(&kept)).is_some());
    assert_eq!(names(&store), ["app"]);
    fs::remove_file(&ballast).unwrap();
    store.put_blob(&vec![1; 1 << 20]).unwrap();
    let more = publish(&store, "more", "2");
    store.put_record(&record(2, "RUN more", Some(&more)), &[]).unwrap();
    assert!(store.record(&key(1)).is_some() && store.record(&key(2)).is_some());
    drop(store);
    let store = open(root);
    assert!(store.record(&key(1)).is_some() && store.record(&key(2)).is_some());
    println!("\nsurvived");
}

/// In a mount namespace of its own, which unshare(1) makes.
#[test]
fn a_full_disk_is_one_clear_error() {
    let space = Space::new();
    let inside = command("fill", &space.dir.path().join("disk/store"));
    let exe = inside.get_program().to_owned();
    let disk = space.dir.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let script = "mount -t tmpfs -o size=4m none \"$0\" && exec \"$@\"";
    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.arg("--user").arg("--map-root-user");
    }
    unshare.args(["--mount", "--", "sh", "-c", script]).arg(&disk).arg(exe).args(inside.get_args());
    unshare.env(TASK, "fill").env(ROOT, disk.join("store"));
    let output = unshare.output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("survived"), "{text}");
}
