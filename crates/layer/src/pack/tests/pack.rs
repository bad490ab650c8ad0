use std::collections::HashSet;
use std::process::Command;
use std::sync::Mutex;

use dbuild_digest::ContentDigest;

use super::{Compression, PackOptions, pack};
use crate::testing::{Space, at, form, live, plain, selected, snapshot};
use crate::{
    Entry, EntryKind, GzipBlockForm, GzipBlocks, LayerFiles, NoGzipBlocks, Stack, Tree, WrittenGzipBlock,
    copy,
};

const PLAIN: PackOptions =
    PackOptions { compression: Compression::Uncompressed, level: None, clamp_mtime: None };

fn packed(tree: &Tree, space: &Space, name: &str, options: &PackOptions) -> Vec<u8> {
    let mut bytes = Vec::new();
    pack(tree, &LayerFiles::Snapshot(space.path(name)), options, &NoGzipBlocks, &mut bytes).unwrap();
    bytes
}

#[test]
fn other_peoples_tar_reads_it() {
    let space = Space::new();
    let long = format!("deep/{}/{} 4755 = text", "d".repeat(200), "é".repeat(60));
    let layer = space.layer("l", &["a 0600 = 12345", "b => a", "l -> a", "p |", &long]);
    let tree = &layer.layers()[0].tree;
    for compression in [Compression::Gzip, Compression::Zstd, Compression::Uncompressed] {
        let file = space.path("layer.tar");
        std::fs::write(&file, packed(tree, &space, "l", &PackOptions { compression, ..PLAIN })).unwrap();
        // GNU tar knows gzip by content and zstd only with its program, which need not be there.
        if compression == Compression::Zstd {
            continue;
        }
        let listed = Command::new("tar").arg("-tvf").arg(&file).env("LC_ALL", "C.UTF-8").output().unwrap();
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.starts_with("-rw------- 0/0"), "{listed}");
        assert!(listed.contains("b link to a\n") && listed.contains("l -> a\n"), "{listed}");
        assert!(listed.contains("-rwsr-xr-x"), "{listed}");
        assert!(
            listed.lines().all(|line| !line.contains("1970-01-01 00:00") || line.contains("deep")),
            "{listed}"
        );
    }
}

#[test]
fn whiteouts_and_opaque_directories_are_named_as_oci_names_them() {
    let space = Space::new();
    space.dir("l");
    let tree = Tree::from_entries(vec![
        Entry::new_whiteout(at("gone")),
        Entry { kind: EntryKind::Dir { opaque: true }, ..Entry::new_dir(at("d")) },
        Entry::new_whiteout(at("d/x")),
    ]);
    let bytes = packed(&tree.unwrap(), &space, "l", &PLAIN);
    let names: Vec<&[u8]> = bytes
        .chunks(512)
        .map(|block| block.split(|byte| *byte == 0).next().unwrap_or_default())
        .filter(|name| !name.is_empty())
        .collect();
    assert_eq!(names, [&b"d/"[..], b"d/.wh..wh..opq", b"d/.wh.x", b".wh.gone"]);
    assert_eq!(bytes.len() % 512, 0);
}

#[test]
fn clamping_changes_later_times_only() {
    let space = Space::new();
    let layer = space.layer("l", &["a = x"]);
    let tree = &layer.layers()[0].tree;
    let clamped = |clamp_mtime| packed(tree, &space, "l", &PackOptions { clamp_mtime, ..PLAIN });
    assert_ne!(clamped(Some(5)), clamped(None));
    assert_eq!(clamped(Some(1_000_000)), clamped(None));
    assert_eq!(&clamped(Some(5))[136..147], b"00000000005");
}

#[test]
fn a_file_that_is_not_what_the_index_says_is_never_packed() {
    for (damage, why) in [("12346", "it has other bytes"), ("1234", "it has another size")] {
        let space = Space::new();
        let layer = space.layer("l", &["a = 12345"]);
        std::fs::write(space.path("l/a"), damage).unwrap();
        let error = pack(
            &layer.layers()[0].tree,
            &LayerFiles::Snapshot(space.path("l")),
            &PackOptions::default(),
            &NoGzipBlocks,
            Vec::new(),
        )
        .unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    let space = Space::new();
    let layer = space.layer("l", &["a = 12345"]);
    std::fs::remove_file(space.path("l/a")).unwrap();
    let error = pack(
        &layer.layers()[0].tree,
        &LayerFiles::Snapshot(space.path("l")),
        &PackOptions::default(),
        &NoGzipBlocks,
        Vec::new(),
    )
    .unwrap_err();
    assert!(error.to_string().contains("(it is gone)"), "{error}");
}

#[test]
fn a_capability_reaches_the_tar_as_it_is() {
    let space = Space::new();
    let layer = space.layer("l", &["ping = x"]);
    let value: Box<[u8]> = b"\x01\0\0\x02\n\0\n=".as_slice().into();
    let mut entry = layer.layers()[0].tree.entries()[0].clone();
    entry.xattrs = vec![((*b"security.capability").into(), value), ((*b"user.other").into(), (*b"v").into())];
    let bytes = packed(&Tree::from_entries(vec![entry]).unwrap(), &space, "l", &PLAIN);
    let mut reader = crate::archive::tar_reader::Reader::new(&bytes[..], 1 << 20);
    let header = reader.next().unwrap().unwrap();
    assert_eq!(header.xattrs.len(), 1);
    assert_eq!(&*header.xattrs[0].1, b"\x01\0\0\x02\n\0\n=");
}

#[test]
fn a_stack_as_one_tar_has_no_whiteouts_and_links_among_what_is_left() {
    let space = Space::new();
    let lower = space.layer("lower", &["a = one", "b => a", "c => a", "gone = x"]);
    let context = space.context("context", &["n = new"]);
    let selections = [selected(&context, "n")];
    let made = copy(&plain(Some(&lower), &selections, "/a"), &space.dir("upper"), form()).unwrap();
    let mut entries = made.tree.entries().to_vec();
    entries.push(Entry::new_whiteout(at("gone")));
    let stack = lower.with(snapshot(Tree::from_entries(entries).unwrap(), &space.path("upper")));
    let mut bytes = Vec::new();
    stack.write_tar(&mut bytes, None).unwrap();
    let mut reader = crate::archive::tar_reader::Reader::new(&bytes[..], 1 << 20);
    let mut shown = Vec::new();
    while let Some(header) = reader.next().unwrap() {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut data = [0; 9];
        let got = reader.read_data(&mut data).unwrap();
        shown.push(format!("{} {}{}", text(&header.name), text(&header.link), text(&data[..got])));
    }
    assert_eq!(shown, ["a new", "b one", "c b"]);
    let context = live(Tree::default(), &space.path("context"));
    context.write_tar(Vec::new(), None).unwrap();
    assert!(Stack::default().walk(&at("")).is_empty());
}

/// The contents of the blocks that a layer was compressed as.
#[derive(Default)]
struct Contents(Mutex<HashSet<ContentDigest>>);

impl GzipBlocks for Contents {
    fn find(&self, _: &ContentDigest, _: u32, _: GzipBlockForm) -> Option<Vec<u8>> {
        None
    }

    fn written(&self, block: &WrittenGzipBlock<'_>) {
        self.0.lock().unwrap().insert(block.content);
    }
}

#[test]
fn a_file_that_grew_or_went_leaves_most_blocks_as_they_were() {
    let text = |seed: usize, length: usize| -> String {
        (0..length).map(|at| char::from(b'a' + ((at * at + seed * 7 + at / 9) % 23) as u8)).collect()
    };
    let space = Space::new();
    let mut lines: Vec<String> =
        (0..600).map(|n| format!("d{}/f{n} = {}", n % 10, text(n, 10_000))).collect();
    // One that fills blocks alone.
    lines.push(format!("d4/large = {}", text(7, 3 << 20)));
    let blocks = |name: &str, lines: &[String]| {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let (layer, contents) = (space.layer(name, &lines), Contents::default());
        let options = PackOptions { clamp_mtime: Some(1), ..PackOptions::default() };
        pack(
            &layer.layers()[0].tree,
            &LayerFiles::Snapshot(space.path(name)),
            &options,
            &contents,
            std::io::sink(),
        )
        .unwrap();
        contents.0.into_inner().unwrap()
    };
    let before = blocks("before", &lines);
    assert!(before.len() > 15, "{} blocks", before.len());
    let mut grown = lines.clone();
    grown[123].push_str(&text(5, 3_333));
    let after = blocks("grown", &grown);
    let new = after.difference(&before).count();
    assert!((1..=4).contains(&new), "{new} of {} blocks are new", after.len());
    lines.remove(300);
    let after = blocks("removed", &lines);
    let new = after.difference(&before).count();
    assert!((1..=4).contains(&new), "{new} of {} blocks are new", after.len());
}
