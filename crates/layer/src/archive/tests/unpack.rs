use std::path::Path;

use proptest::prelude::*;

use super::unpack;
use crate::testing::{Space, TarBuilder, assert_on_disk, form, is_root, show, snapshot, text};
use crate::{
    Compression, Entry, LayerError, LayerFiles, Mtime, NoGzipBlocks, PackOptions, Stack, Tree, UnpackLimits,
    WrittenLayer, pack,
};

/// Unpacks a layer on lower ones, into a directory of this name.
fn on(space: &Space, lower: &Stack, name: &str, tar: &[u8]) -> Result<(WrittenLayer, Stack), LayerError> {
    let out = space.dir(name);
    let unpacked = unpack(tar, &out, form(), &UnpackLimits::default())?;
    assert_eq!(unpacked.diff_id, dbuild_digest::BlobDigest::of(tar));
    let made = unpacked.complete(lower)?;
    assert_on_disk(&made, &out);
    let stack = lower.with(snapshot(made.tree.clone(), &out));
    Ok((made, stack))
}

fn check(lower: &[&str], tar: TarBuilder, expected: &[&str]) {
    let space = Space::new();
    let lower = if lower.is_empty() { Stack::default() } else { space.layer("lower", lower) };
    let (made, _) = on(&space, &lower, "out", &tar.end()).unwrap();
    assert_eq!(show(&made.tree), expected);
}

fn check_error(tar: &[u8], expected: &str) {
    let space = Space::new();
    let error = on(&space, &Stack::default(), "out", tar).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

fn tar() -> TarBuilder {
    TarBuilder::default()
}

#[test]
fn all_kinds_are_unpacked() {
    let xattr = [
        TarBuilder::record(
            "SCHILY.xattr.security.capability",
            b"\x01\0\0\x02\0\x04\0\n\0\0\0\0\0\0\0\0\0\0\0\0",
        ),
        TarBuilder::record("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        TarBuilder::record("SCHILY.xattr.user.overlay.whiteout", b"y"),
    ];
    check(
        &[],
        tar()
            .dir("./")
            .dir("d/")
            .file("d/f", b"12345")
            .hardlink("d/a", "/d/f")
            .symlink("d/l", "../../anything")
            .member(b'6', "d/p", "", b"")
            .pax(&xattr.concat())
            .file("d/ping", b"x")
            .file("no/parents/given", b""),
        &[
            "d0755 0:0 ",
            "d0755 0:0 d",
            "f0644 0:0 d/a 5",
            "h0644 0:0 d/f => d/a",
            "l0777 0:0 d/l -> ../../anything",
            "p0644 0:0 d/p",
            "f0644 0:0 d/ping 1 +x",
            "d0755 0:0 no",
            "d0755 0:0 no/parents",
            "f0644 0:0 no/parents/given 0",
        ],
    );
}

#[test]
fn later_entries_replace_earlier_ones() {
    check(
        &[],
        tar()
            .dir("a/")
            .file("a/x", b"")
            .file("a", b"file")
            .dir("b")
            .file("b/y", b"")
            .dir("b/")
            .file("c", b"1")
            .file("c", b"22"),
        &["f0644 0:0 a 4", "d0755 0:0 b", "f0644 0:0 b/y 0", "f0644 0:0 c 2"],
    );
    let space = Space::new();
    let bytes = tar().file("a", b"first").hardlink("b", "a").file("a", b"second").end();
    let (made, stack) = on(&space, &Stack::default(), "out", &bytes).unwrap();
    assert_eq!(show(&made.tree), ["f0644 0:0 a 6", "f0644 0:0 b 5"]);
    assert_eq!(text(&stack, "b"), "first");
}

#[test]
fn whiteouts_hide_what_is_below_and_nothing_else() {
    let lower = &["d/x = 1", "d/y = 1", "e/z = 1", "f = 1"];
    check(
        lower,
        tar()
            .file(".wh.f", b"")
            .file("d/.wh.x", b"")
            .file("d/.wh.none", b"")
            .file("e/new", b"")
            .file("e/.wh..wh..opq", b""),
        &["d0755 0:0 d", "w d/x", "o0755 0:0 e", "f0644 0:0 e/new 0", "w f"],
    );
    // In whatever order: the layer's own stay, and what was below does not come back with them.
    let own = &["o0755 0:0 d", "f0644 0:0 d/own 0", "f0644 0:0 f 0"];
    check(
        lower,
        tar().dir("d/").file("d/own", b"").file(".wh.d", b"").file("f", b"").file(".wh.f", b""),
        own,
    );
    check(
        lower,
        tar().file(".wh.d", b"").dir("d/").file("d/own", b"").file(".wh.f", b"").file("f", b""),
        own,
    );
    check(&[], tar().file(".wh.x", b"").file(".wh..wh.plnk", b""), &[]);
}

#[test]
fn symlinks_of_lower_layers_are_followed_within_the_root() {
    check(
        &["usr/lib/old = 1", "lib -> usr/lib", "out -> /../../../etc"],
        tar().file("lib/new", b"").file("out/passwd", b"").hardlink("lib/hard", "lib/new"),
        &[
            "d0755 0:0 etc",
            "f0644 0:0 etc/passwd 0",
            "d0755 0:0 usr",
            "d0755 0:0 usr/lib",
            "f0644 0:0 usr/lib/hard 0",
            "h0644 0:0 usr/lib/new => usr/lib/hard",
        ],
    );
    // An explicit directory replaces the link.
    check(
        &["usr/lib/old = 1", "lib -> usr/lib"],
        tar().dir("lib/").file("lib/new", b""),
        &["d0755 0:0 lib", "f0644 0:0 lib/new 0"],
    );
}

#[test]
fn hardlinks_into_lower_layers_bring_what_they_lead_to() {
    let space = Space::new();
    let lower = space.layer("lower", &["d/f 0600 = below", "d/s -> f"]);
    let bytes = tar().hardlink("d/g", "d/f").hardlink("d/t", "d/s").end();
    let (made, stack) = on(&space, &lower, "out", &bytes).unwrap();
    assert_eq!(
        show(&made.tree),
        [
            "d0755 0:0 d",
            "f0644 0:0 d/f 5",
            "h0644 0:0 d/g => d/f",
            "l0777 0:0 d/s -> f",
            "h0777 0:0 d/t => d/s"
        ]
    );
    assert_eq!(text(&stack, "d/g"), "below");
    assert_eq!(text(&stack, "d/t"), "below", "a link that has two names leads on");
}

/// 43: whatever the headers before it say.
#[test]
fn the_last_header_of_a_hard_link_counts_for_all_names() {
    let later = |kind, name: &str, link: &str| {
        crate::testing::raw_header(kind, name, link, 0, |block| {
            block[100..108].copy_from_slice(b"0000751\0");
            block[108..116].copy_from_slice(b"0000007\0");
        })
    };
    let link = later(b'1', "c", "b");
    check(
        &[],
        tar().file("a", b"1").hardlink("b", "a").raw(&link).member(b'6', "p", "", b"").hardlink("o", "p"),
        &["f0751 7:0 a 1", "h0751 7:0 b => a", "h0751 7:0 c => a", "p0644 0:0 o", "h0644 0:0 p => o"],
    );
}

#[test]
fn a_directory_takes_the_place_of_a_whiteout() {
    check(
        &["d/x = 1", "f = 1"],
        tar().file(".wh.d", b"").file("d/e/own", b"").file(".wh.f", b"").file("f/in", b""),
        &["o0755 0:0 d", "d0755 0:0 d/e", "f0644 0:0 d/e/own 0", "d0755 0:0 f", "f0644 0:0 f/in 0"],
    );
}

#[test]
fn nothing_leads_out() {
    let space = Space::new();
    let victim = space.dir("victim");
    let into = victim.to_str().unwrap();
    let bytes = tar()
        .symlink("abs", into)
        .file("abs/planted", b"x")
        .symlink("up", "../../../../../../../../tmp")
        .file("up/planted-by-dbuild-test", b"x")
        .end();
    let (_, stack) = on(&space, &Stack::default(), "out", &bytes).unwrap();
    assert!(std::fs::read_dir(&victim).unwrap().next().is_none());
    assert!(!Path::new("/tmp/planted-by-dbuild-test").exists());
    assert_eq!(text(&stack, "tmp/planted-by-dbuild-test"), "x");
    assert_eq!(text(&stack, "abs/planted"), "x");
    for name in ["../x", "a/../../x", "/../x"] {
        check_error(&tar().file(name, b"").end(), "leads out of the archive");
        check_error(&tar().file("ok", b"").hardlink("l", name).end(), "leads out of the archive");
    }
    check(
        &[],
        tar().file("/abs", b"").file("./a/./b/../c", b""),
        &["d0755 0:0 a", "f0644 0:0 a/c 0", "f0644 0:0 abs 0"],
    );
}

#[test]
fn impossible_entries_are_refused() {
    check_error(&tar().hardlink("a", "none").end(), "which is not there");
    check_error(&tar().dir("d").hardlink("a", "d").end(), "which is a directory");
    check_error(&tar().file("f", b"").file("f/x", b"").end(), "/f is not a directory");
    check_error(&tar().symlink("l", "l").file("l/x", b"").end(), "too many symbolic links");
    check_error(&tar().symlink("l", "").end(), "impossible path");
    check_error(&tar().member(b'V', "v", "", b"").end(), "has the type `V`");
    check_error(&tar().member(b'3', "null", "", b"").end(), "device 0:0");
    check_error(&tar().file("x/.wh...", b"").end(), "is refused");
    let long = "x".repeat(300);
    check_error(
        &tar().pax(&TarBuilder::record("path", long.as_bytes())).file("a", b"").end(),
        "no path here",
    );
    let whole = tar().file("a", &[1; 4000]).end();
    check_error(&whole[..2000], "ends within a file");
    let space = Space::new();
    let limits = UnpackLimits { bytes: 1 << 20, entries: 2 };
    let three = tar().file("a", b"").file("b", b"").file("c", b"").end();
    let error = unpack(&three[..], &space.dir("out"), form(), &limits).unwrap_err().to_string();
    assert_eq!(error, "the archive exceeds the limit of 2 entries");
}

#[test]
fn devices_are_in_the_index_whoever_unpacks() {
    let space = Space::new();
    let header = crate::testing::raw_header(b'3', "null", "", 0, |block| {
        block[329..337].copy_from_slice(b"0000001\0");
        block[337..345].copy_from_slice(b"0000003\0");
    });
    let (made, _) = on(&space, &Stack::default(), "out", &tar().raw(&header).end()).unwrap();
    assert_eq!(show(&made.tree), ["c0644 0:0 null 1:3"]);
    assert_eq!(made.notes.is_empty(), is_root());
}

fn entries() -> impl Strategy<Value = Vec<(String, u8, Vec<u8>, u32, u32, i64)>> {
    let name = "[a-d]{1,2}(/[a-dé]{1,60}){0,3}";
    proptest::collection::vec(
        (
            name,
            0..6_u8,
            proptest::collection::vec(any::<u8>(), 0..700),
            any::<u32>(),
            0..5_000_000_u32,
            any::<i32>(),
        ),
        0..12,
    )
    .prop_map(|all| {
        all.into_iter()
            .map(|(name, kind, bytes, mode, id, time)| {
                (name, kind, bytes, mode & 0o7777 | 0o700, id, i64::from(time))
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a draft can hold: packed, compressed, read back, it is the same tree.
    #[test]
    fn packing_and_unpacking_agree(entries in entries(), compression in 0..3_u8) {
        let mut draft = crate::tree::layer_builder::LayerBuilder::new(None);
        let implied = Entry::new_dir(crate::TreePath::root());
        let mut group = None;
        for (name, kind, bytes, mode, id, secs) in entries {
            let path = crate::TreePath::from_bytes(name.as_bytes()).unwrap();
            if path.ancestors().any(|above| draft.look(&above).is_some_and(|entry| !entry.is_dir())) {
                continue;
            }
            let mut entry = Entry { mode, uid: id, gid: id / 2, mtime: Mtime { secs, nanos: 0 }, ..Entry::new_dir(path) };
            let mut content = crate::tree::layer_files::ByteSource::None;
            let mut of_group = None;
            match kind {
                0 => {}
                1 => entry.kind = crate::EntryKind::Fifo,
                2 => {
                    entry.kind = crate::EntryKind::Symlink { target: [b"t", &bytes[..]].concat().iter().map(|b| b | 1).collect() };
                    entry.mode = 0o777;
                }
                _ => {
                    let (size, digest) = (bytes.len() as u64, dbuild_digest::ContentDigest::of(&bytes));
                    entry.kind = crate::EntryKind::File { size, content: digest };
                    content = crate::tree::layer_files::ByteSource::Inline(bytes.into());
                    of_group = (kind == 5).then(|| draft.new_group());
                }
            }
            let node = crate::tree::sorted_nodes::Node { entry, bytes: content, group: of_group };
            if kind == 5 {
                group = Some(node.clone());
            } else if let (4, Some(one)) = (kind, &group) {
                // One more name for the last file of a group.
                let entry = Entry { path: node.entry.path.clone(), ..one.entry.clone() };
                draft.put(crate::tree::sorted_nodes::Node { entry, ..one.clone() }, &implied);
                continue;
            }
            draft.put(node, &implied);
        }
        let space = Space::new();
        let made = crate::disk::materialize::place(draft, &space.dir("one"), form(), &implied).unwrap();
        assert_on_disk(&made, &space.path("one"));
        let compression = [Compression::Gzip, Compression::Zstd, Compression::Uncompressed][usize::from(compression)];
        let options = PackOptions { compression, ..PackOptions::default() };
        let mut bytes = Vec::new();
        let packed = pack(&made.tree, &LayerFiles::Snapshot(space.path("one")), &options, &NoGzipBlocks, &mut bytes).unwrap();
        prop_assert_eq!((packed.digest, packed.size), (dbuild_digest::BlobDigest::of(&bytes), bytes.len() as u64));
        let unpacked = unpack(crate::decompress(&bytes[..]).unwrap(), &space.dir("two"), form(), &UnpackLimits::default()).unwrap();
        prop_assert_eq!(unpacked.diff_id, packed.diff_id);
        let again: WrittenLayer = unpacked.complete(&Stack::default()).unwrap();
        assert_on_disk(&again, &space.path("two"));
        prop_assert_eq!(show(&again.tree), show(&made.tree));
        let (one, two): (&Tree, &Tree) = (&made.tree, &again.tree);
        prop_assert_eq!(one, two);
    }
}
