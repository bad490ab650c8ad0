use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use crate::testing::at;
use crate::{Entry, EntryKind, Mtime, Tree, TreeError, TreePath};

fn bytes() -> impl Strategy<Value = Box<[u8]>> {
    vec(any::<u8>(), 0..20).prop_map(Into::into)
}

fn kind() -> impl Strategy<Value = EntryKind> {
    prop_oneof![
        (any::<u64>(), any::<[u8; 32]>()).prop_map(|(size, digest)| {
            EntryKind::File { size, content: dbuild_digest::ContentDigest::from_bytes(digest) }
        }),
        bytes().prop_map(|target| EntryKind::Symlink { target }),
        Just(EntryKind::Fifo),
        (any::<u32>(), any::<u32>()).prop_map(|(major, minor)| EntryKind::CharDevice { major, minor }),
        (any::<u32>(), any::<u32>()).prop_map(|(major, minor)| EntryKind::BlockDevice { major, minor }),
        Just(EntryKind::Whiteout),
    ]
}

prop_compose! {
    fn entry()(
        kind in kind(),
        mode in 0..0o10000_u32,
        uid: u32,
        gid: u32,
        secs: i64,
        nanos in 0..1_000_000_000_u32,
        xattrs in vec((bytes(), bytes()), 0..2),
    ) -> Entry {
        Entry { kind, mode, uid, gid, mtime: Mtime { secs, nanos }, xattrs, ..Entry::new_dir(TreePath::root()) }
    }
}

/// Directories two deep with entries in them, and now and then one more name for the file before.
fn tree() -> impl Strategy<Value = Tree> {
    let names = btree_set("[a-c.-]{0,2}[a-z]", 0..4);
    let within = btree_set("[a-c]{1,3}", 0..4);
    (names, within, vec(entry(), 20), any::<bool>()).prop_map(|(dirs, names, entries, link)| {
        let mut made = Vec::new();
        let mut entries = entries.into_iter();
        for dir in &dirs {
            let dir = at(dir);
            let opaque = EntryKind::Dir { opaque: dir.as_bytes().len().is_multiple_of(2) };
            made.push(Entry { kind: opaque, ..Entry::new_dir(dir.clone()) });
            let mut file: Option<TreePath> = None;
            for name in &names {
                let Some(entry) = entries.next() else { break };
                let path = dir.join(&at(name));
                let kind = match (&file, link) {
                    (Some(target), true) => EntryKind::Hardlink { target: target.clone() },
                    _ => entry.kind.clone(),
                };
                if file.is_none() && kind != EntryKind::Whiteout {
                    file = Some(path.clone());
                }
                made.push(Entry { path, kind, ..entry });
            }
        }
        Tree::from_entries(made).unwrap()
    })
}

proptest! {
    #[test]
    fn trees_are_read_as_they_were_written(tree in tree()) {
        let encoded = tree.encode();
        let decoded = Tree::decode(&encoded).unwrap();
        prop_assert_eq!(&decoded, &tree);
        prop_assert_eq!(decoded.digest(), tree.digest());
        prop_assert_eq!(decoded.encode(), encoded);
    }

    #[test]
    fn damage_is_seen(tree in tree(), place: prop::sample::Index, bit in 0..8_u8) {
        let mut encoded = tree.encode();
        let place = place.index(encoded.len());
        prop_assert!(Tree::decode(&encoded[..place]).is_err(), "cut at {place}");
        encoded[place] ^= 1 << bit;
        prop_assert!(Tree::decode(&encoded).is_err(), "bit {bit} of byte {place}");
    }

    #[test]
    fn no_bytes_make_it_panic(body in vec(any::<u8>(), 0..200)) {
        // With a checksum that fits, so that the reader itself is met.
        let mut bytes = [b"dbuild tree\n\x01", &body[..]].concat();
        bytes.extend_from_slice(blake3::hash(&bytes).as_bytes());
        let _ = Tree::decode(&bytes);
    }
}

#[test]
fn another_version_is_told_apart_from_damage() {
    let mut encoded = Tree::default().encode();
    encoded[12] = 9;
    assert_eq!(Tree::decode(&encoded), Err(TreeError::Version(9)));
    assert!(Tree::decode(&Tree::default().encode()).unwrap().is_empty());
}

/// What an earlier dbuild cannot read it does not take for damage.
#[test]
fn only_links_to_something_else_than_files_need_the_second_version() {
    let content = dbuild_digest::ContentDigest::of(b"");
    for (kind, version) in [(EntryKind::File { size: 0, content }, 1), (EntryKind::Fifo, 2)] {
        let first = Entry { kind, ..Entry::new_dir(at("a")) };
        let link = Entry { kind: EntryKind::Hardlink { target: at("a") }, ..Entry::new_dir(at("b")) };
        let tree = Tree::from_entries(vec![first, link]).unwrap();
        assert_eq!(tree.encode()[12], version);
        assert_eq!(Tree::decode(&tree.encode()), Ok(tree));
    }
}

/// Stores hold such bytes: they change only with the version.
#[test]
fn the_format_does_not_drift() {
    let tree = Tree::from_entries(vec![
        Entry::new_dir(at("a")),
        Entry { mtime: Mtime { secs: -2, nanos: 5 }, uid: 300, ..Entry::new_dir(at("a/b")) },
    ]);
    let encoded = tree.unwrap().encode();
    let body: String = encoded[12..encoded.len() - 32].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(body, "010200016102 00ed030000000000 0102 2f62 0200ed03ac0200030500".replace(' ', ""));
}
