//! Upper directories as a real overlayfs writes them. Mounts live in a mount namespace of their
//! own, which goes away with its last process.

use std::path::Path;
use std::process::Command;

use super::{prepare_upper, scan_upper};
use crate::testing::{Space, is_root, show, snapshot, text};
use crate::{
    CopyRequest, LayerFiles, NoGzipBlocks, OverlayFlavor, OverlayFormat, Ownership, PackOptions, Stack, Tree,
    UnpackLimits, decompress, pack, testing, unpack,
};

const ROOT: OverlayFormat = OverlayFormat { flavor: OverlayFlavor::Trusted, ownership: Ownership::Exact };
const USER: OverlayFormat = OverlayFormat { flavor: OverlayFlavor::User, ownership: Ownership::BestEffort };

/// Runs a script in `/` of the layers with a fresh upper directory. False where this machine does
/// not let us; dbuild itself is always root, of the machine or of a user namespace.
fn run(space: &Space, stack: &Stack, form: OverlayFormat, script: &str) -> bool {
    if !testing::acts_as_root() {
        return false;
    }
    let (upper, work, merged) = (space.dir("upper"), space.dir("work"), space.dir("merged"));
    prepare_upper(&upper, stack, form).unwrap();
    let lower: Vec<&str> = stack
        .layers()
        .iter()
        .rev()
        .map(|layer| match &layer.files {
            crate::LayerFiles::Snapshot(dir) => dir.to_str().unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={},redirect_dir=nofollow,metacopy=off{}",
        lower.join(":"),
        upper.display(),
        work.display(),
        if form.flavor == OverlayFlavor::User { ",userxattr" } else { "" },
    );
    let mut unshare = Command::new("unshare");
    match form.flavor {
        OverlayFlavor::Trusted => unshare.arg("-m"),
        OverlayFlavor::User => unshare.args(["-U", "-r", "-m"]),
    };
    let mount = "mount -t overlay overlay -o \"$1\" \"$2\" || exit 99; cd \"$2\" || exit 98; eval \"$3\"";
    let done = unshare.args(["sh", "-ec", mount, "sh"]).arg(&options).arg(&merged).arg(script).output();
    let Ok(done) = done else { return false };
    if !done.status.success() {
        // Without root there may be no way to mount; with it there is.
        assert!(
            !is_root() || form.flavor == OverlayFlavor::User,
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        assert!(matches!(done.status.code(), Some(1 | 99)), "{}", String::from_utf8_lossy(&done.stderr));
        return false;
    }
    true
}

const LOWER: &[&str] = &[
    "d/a = one",
    "d/b = two",
    "d/sub/x = deep",
    "f 0600 = text",
    "h1 = linked",
    "h2 => h1",
    "l -> f",
    "gone/y = 1",
    "same/ 0711",
];

/// What a RUN of the script gives. Checks on the way that disk and index agree: mounted again, the
/// layers show what the stack says; and that packing and unpacking the layer gives it once more.
fn check(script: &str, expected: &[&str]) {
    for form in [ROOT, USER] {
        if form == ROOT && !is_root() {
            continue;
        }
        let space = Space::new();
        let lower = space.layer("lower", LOWER);
        if !run(&space, &lower, form, script) {
            continue;
        }
        let tree = scan_upper(&space.path("upper"), &lower, form).unwrap();
        assert_eq!(show(&tree), expected, "{script} {form:?}");
        let again = scan_upper(&space.path("upper"), &lower, form).unwrap();
        assert_eq!(again, tree, "a second look sees the same");
        let upper = space.path("upper");
        let stack = lower.with(snapshot(tree.clone(), &upper));
        assert_mount_agrees(&stack, form);
        let mut bytes = Vec::new();
        pack(&tree, &LayerFiles::Snapshot(upper.clone()), &PackOptions::default(), &NoGzipBlocks, &mut bytes)
            .unwrap();
        let reader = decompress(&bytes[..]).unwrap();
        let unpacked = unpack(reader, &space.dir("unpacked"), form, &UnpackLimits::default()).unwrap();
        let made = unpacked.complete(&lower).unwrap();
        assert_eq!(show(&made.tree), expected, "unpacked: {script}");
        assert_mount_agrees(&lower.with(snapshot(made.tree, &space.path("unpacked"))), form);
    }
}

/// What a mount of the layers lists is what the stack lists.
fn assert_mount_agrees(stack: &Stack, form: OverlayFormat) {
    let space = Space::new();
    let script = format!(
        "find . -mindepth 1 -printf '%P %y %m %l\\n' | LC_ALL=C sort > {}",
        space.path("list").display()
    );
    if !run(&space, stack, form, &script) {
        return;
    }
    let listed = std::fs::read_to_string(space.path("list")).unwrap();
    let mut shown: Vec<String> = stack
        .walk(&crate::TreePath::root())
        .iter()
        .map(|found| {
            let path = String::from_utf8_lossy(found.entry.path.as_bytes());
            let (letter, target) = match found.kind() {
                crate::EntryKind::Dir { .. } => ("d", String::new()),
                crate::EntryKind::Symlink { target } => ("l", String::from_utf8_lossy(target).into_owned()),
                crate::EntryKind::Fifo => ("p", String::new()),
                _ => ("f", String::new()),
            };
            format!("{path} {letter} {:o} {target}", found.entry.mode)
        })
        .collect();
    shown.sort();
    assert_eq!(listed.lines().collect::<Vec<_>>(), shown);
}

/// 30: nothing done is an empty layer.
#[test]
fn what_changes_nothing_leaves_nothing() {
    check("true", &[]);
    check("cat f d/a > /dev/null; touch t; rm t; mkdir m; rmdir m", &[]);
    check("chmod 600 d/a; chmod 644 d/a", &[]);
    check(": >> f; chmod 0700 same; chmod 0711 same", &[]);
    check(": >> d/a; chmod 700 d/sub; chmod 755 d/sub", &[]);
}

/// 40: also where nothing else of the directory changed.
#[test]
fn a_directory_keeps_its_time() {
    check("touch -d @5 same", &["d0711 0:0 same"]);
    check("echo -n stub > d/stub; rm d/stub", &["d0755 0:0 d"]);
    check("echo -n stub > d/sub/stub; rm d/sub/stub", &["d0755 0:0 d", "d0755 0:0 d/sub"]);
}

/// On disk as in the index, whatever was taken out of a directory.
#[test]
fn what_is_removed_from_an_upper_directory_leaves_no_time_behind() {
    let space = Space::new();
    let lower = space.layer("lower", LOWER);
    let socket = "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"d/sub/s\")'";
    let script = format!(": >> d/a; : >> d/sub/x; {socket}; touch -d @77 d d/sub");
    if !run(&space, &lower, USER, &script) {
        return;
    }
    let tree = scan_upper(&space.path("upper"), &lower, USER).unwrap();
    assert_eq!(show(&tree), ["d0755 0:0 d", "d0755 0:0 d/sub"]);
    for dir in ["d", "d/sub"] {
        let meta = std::fs::metadata(space.path("upper").join(dir)).unwrap();
        let on_disk = std::os::unix::fs::MetadataExt::mtime(&meta);
        assert_eq!((on_disk, tree.get(&testing::at(dir)).unwrap().mtime.secs), (77, 77), "{dir}");
    }
}

/// The owner of the root holds, its mode does not.
#[test]
fn the_owner_of_the_root_is_kept() {
    check("chown 0:0 .; chmod 700 .", &[]);
    if !is_root() {
        return;
    }
    let space = Space::new();
    let lower = space.layer("lower", LOWER);
    let upper = space.path("upper");
    if !run(&space, &lower, ROOT, "chmod 711 .; chown 5:6 .") {
        return;
    }
    let tree = scan_upper(&upper, &lower, ROOT).unwrap();
    assert_eq!(show(&tree), ["d0755 5:6 "]);
    assert_eq!(scan_upper(&upper, &lower, ROOT).unwrap(), tree, "a second look sees the same");
    let stack = lower.with(snapshot(tree, &upper));
    let later = space.dir("later");
    prepare_upper(&later, &stack, ROOT).unwrap();
    assert_eq!(show(&scan_upper(&later, &stack, ROOT).unwrap()), [""; 0]);
    prepare_upper(&later, &stack, ROOT).unwrap();
    rustix::fs::chown(&later, Some(rustix::fs::Uid::ROOT), Some(rustix::fs::Gid::ROOT)).unwrap();
    assert_eq!(show(&scan_upper(&later, &stack, ROOT).unwrap()), ["d0755 0:0 "], "given back to root");
}

#[test]
fn changes_are_seen_with_their_directories() {
    check("echo -n 1234567 > d/a", &["d0755 0:0 d", "f0644 0:0 d/a 7"]);
    check("chmod 755 d/sub/x", &["d0755 0:0 d", "d0755 0:0 d/sub", "f0755 0:0 d/sub/x 4"]);
    check("touch -d @5 f", &["f0600 0:0 f 4"]);
    check("chmod 700 same", &["d0700 0:0 same"]);
    check("mkfifo d/p; chmod 644 d/p; ln -s x d/s", &["d0755 0:0 d", "p0644 0:0 d/p", "l0777 0:0 d/s -> x"]);
    check("ln -sf d l", &["l0777 0:0 l -> d"]);
}

#[test]
fn removals_are_whiteouts() {
    check("rm d/a", &["d0755 0:0 d", "w d/a"]);
    check("rm -r gone l", &["w gone", "w l"]);
    check("rm d/a; echo -n back > d/a", &["d0755 0:0 d", "f0644 0:0 d/a 4"]);
    check("mv f g", &["w f", "f0600 0:0 g 4"]);
}

#[test]
fn replaced_directories_hide_what_was_in_them_and_new_ones_are_plain() {
    check("rm -r d; mkdir d; echo -n 1 > d/new", &["o0755 0:0 d", "f0644 0:0 d/new 1"]);
    check("rm -r d; echo -n 1 > d", &["f0644 0:0 d 1"]);
    // What is made again as it was is there again.
    check(
        "cp -a d ../copy-$$; rm -r d; mv ../copy-$$ d",
        &["o0755 0:0 d", "f0644 0:0 d/a 3", "f0644 0:0 d/b 3", "d0755 0:0 d/sub", "f0644 0:0 d/sub/x 4"],
    );
    check("rm -r d; mkdir -p d/sub; touch -d @5 d d/sub", &["o0755 0:0 d", "d0755 0:0 d/sub"]);
    check(
        "cp -a d k; rm -r d; ln -s k d; rm d; mv k d",
        &["o0755 0:0 d", "f0644 0:0 d/a 3", "f0644 0:0 d/b 3", "d0755 0:0 d/sub", "f0644 0:0 d/sub/x 4"],
    );
    check("rm f; mkdir f; echo -n 1 > f/x", &["d0755 0:0 f", "f0644 0:0 f/x 1"]);
    check(
        "mkdir -p n/m; mkdir d/sub/k",
        &["d0755 0:0 d", "d0755 0:0 d/sub", "d0755 0:0 d/sub/k", "d0755 0:0 n", "d0755 0:0 n/m"],
    );
}

#[test]
fn hardlinks_that_a_run_makes_are_links_and_those_below_come_apart() {
    check("echo -n 1 > n; ln n m", &["f0644 0:0 m 1", "h0644 0:0 n => m"]);
    check("echo -n changed > h1", &["f0644 0:0 h1 7"]);
    check("ln f g", &["f0600 0:0 f 4", "h0600 0:0 g => f"]);
    check(
        "ln -s a n; ln n m; mkfifo p; chmod 644 p; ln p q; ln l k; touch -h -d @7 k",
        &[
            "l0777 0:0 k -> f",
            "h0777 0:0 l => k",
            "l0777 0:0 m -> a",
            "h0777 0:0 n => m",
            "p0644 0:0 p",
            "h0644 0:0 q => p",
        ],
    );
}

/// 6
#[test]
fn only_capabilities_are_kept_of_attributes() {
    if !is_root() {
        return;
    }
    let space = Space::new();
    let lower = space.layer("lower", LOWER);
    let script = "setfattr -n user.x -v y f 2>/dev/null || python3 -c 'import os; os.setxattr(\"f\", \"user.x\", b\"y\")'
        python3 -c 'import os; os.setxattr(\"d/a\", \"security.capability\", bytes.fromhex(\"0100000200040000000000000000000000000000\"))'";
    if !run(&space, &lower, ROOT, script) {
        return;
    }
    let tree = scan_upper(&space.path("upper"), &lower, ROOT).unwrap();
    assert_eq!(
        show(&tree),
        ["d0755 0:0 d", "f0644 0:0 d/a 3 +x"],
        "a changed user.x is no change of the image"
    );
}

#[test]
fn sockets_are_removed() {
    let space = Space::new();
    let upper = space.files("upper", &["d/"]);
    drop(std::os::unix::net::UnixListener::bind(upper.join("d/s")).unwrap());
    let tree = scan_upper(&upper, &Stack::default(), testing::form()).unwrap();
    assert_eq!(tree.entries().iter().map(|entry| entry.path.clone()).collect::<Vec<_>>(), [testing::at("d")]);
    assert!(!upper.join("d/s").exists());
    // The link of the lower layers is gone, as the command saw it.
    let socket =
        |at: &str| format!("python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"{at}\")'");
    check(&format!("rm l; {}", socket("l")), &["w l"]);
    check(&format!("rm -r d; mkdir d; {}", socket("d/a")), &["o0755 0:0 d"]);
}

#[test]
fn a_redirected_directory_is_refused() {
    let space = Space::new();
    let upper = space.files("upper", &["d/"]);
    let name = format!("{}redirect", testing::form().flavor.prefix());
    rustix::fs::setxattr(upper.join("d"), &*name, b"x", rustix::fs::XattrFlags::empty()).unwrap();
    let error = scan_upper(&upper, &Stack::default(), testing::form()).unwrap_err().to_string();
    assert!(error.contains("redirect_dir=off"), "{error}");
}

/// One id is all there is: the image's owners are kept where a RUN changed a file in place.
#[test]
fn owners_that_the_disk_cannot_have_come_from_below() {
    let space = Space::new();
    let lower = owned_by_others(&space);
    let script = "echo -n more >> www; echo -n new > made; chmod 700 dir; touch -d @9 link -h; touch dir/in";
    if !run(&space, &lower, USER, script) {
        return;
    }
    let tree = scan_upper(&space.path("upper"), &lower, USER).unwrap();
    assert_eq!(
        show(&tree),
        [
            "d0700 33:33 dir",
            "f0644 0:0 dir/in 0",
            "l0777 33:33 link -> www",
            "f0644 0:0 made 3",
            "f0644 33:33 www 8"
        ]
    );
    assert_eq!(text(&lower.with(snapshot(tree, &space.path("upper"))), "www"), "textmore");
}

/// A layer whose index says 33:33 while the disk says what a namespace of one id says.
fn owned_by_others(space: &Space) -> Stack {
    let plain = space.layer("lower", &["www = text", "dir/", "link -> www", "other = x"]);
    let owned: Vec<crate::Entry> = plain.layers()[0]
        .tree
        .entries()
        .iter()
        .map(|entry| crate::Entry { uid: 33, gid: 33, ..entry.clone() })
        .collect();
    Stack::new(vec![snapshot(Tree::from_entries(owned).unwrap(), Path::new(&space.path("lower")))])
}

#[test]
fn a_layer_that_copy_makes_mounts_as_its_index_says() {
    let space = Space::new();
    let context = space.context("context", &["s/d = a file now", "s/.wh.gone = ", "s/new/x = 1"]);
    let lower = space.layer("lower", LOWER);
    let selections = [testing::selected(&context, "s/new"), testing::selected(&context, "s/.wh.gone")];
    let request = CopyRequest { parent: Some(&lower), ..testing::plain(None, &selections, "/") };
    let form = if is_root() { ROOT } else { USER };
    let made = crate::copy(&request, &space.dir("out"), form).unwrap();
    assert_eq!(show(&made.tree), ["w gone", "f0644 0:0 x 1"]);
    assert_mount_agrees(&lower.with(snapshot(made.tree, &space.path("out"))), form);
}
