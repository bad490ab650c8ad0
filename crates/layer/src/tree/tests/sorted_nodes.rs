use std::collections::BTreeMap;

use super::SortedNodes;
use crate::tree::layer_files::ByteSource;
use crate::tree::sorted_nodes::Node;
use crate::{Entry, TreePath};

fn path(text: &str) -> TreePath {
    TreePath::from_bytes(text.as_bytes()).unwrap()
}

fn node(at: &TreePath, mode: u32) -> Node {
    Node { entry: Entry { mode, ..Entry::new_dir(at.clone()) }, bytes: ByteSource::None, group: None }
}

/// What is done to both gives the same, in whatever order it comes.
#[test]
fn they_are_a_map() {
    let paths =
        ["", "a", "a/b", "a/b/c", "a/b/d", "a/c", "a-b", "b", "b/a", "b/a/a", "c", "c/a", "c/b"].map(path);
    for seed in 0..200_u64 {
        // xorshift: any order will do, the same each time.
        let mut state = seed * 2_654_435_769 + 1;
        let mut draw = |bound: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % bound as u64).unwrap()
        };
        let (mut nodes, mut map) = (SortedNodes::default(), BTreeMap::new());
        for step in 0..40 {
            // A part of the runs begins in order.
            let at =
                if seed % 3 == 0 && step < paths.len() { &paths[step] } else { &paths[draw(paths.len())] };
            if step % 7 == 6 {
                nodes.remove_tree(at);
                map.retain(|other: &TreePath, _| !other.starts_with(at));
            } else {
                nodes.put(node(at, step as u32));
                map.insert(at.clone(), step as u32);
            }
            for at in &paths {
                assert_eq!(nodes.get(at).map(|node| node.entry.mode), map.get(at).copied());
                assert_eq!(nodes.get(at).is_some(), map.contains_key(at));
                assert_eq!(nodes.get_mut(at).is_some(), map.contains_key(at));
                let beside = |other: &TreePath| other.parent().is_some() && other.parent() == at.parent();
                assert!(!nodes.has_directory_of(at) || map.keys().any(beside), "{at} {map:?}");
            }
        }
        let sorted: Vec<(TreePath, u32)> =
            nodes.into_sorted().into_iter().map(|node| (node.entry.path, node.entry.mode)).collect();
        assert_eq!(sorted, map.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn the_last_one_says_which_directories_are_there() {
    let mut nodes = SortedNodes::default();
    assert!(!nodes.has_directory_of(&path("a/b")));
    nodes.put(node(&path("a"), 0));
    assert!(!nodes.has_directory_of(&path("a/b")) && nodes.has_directory_of(&path("b")));
    nodes.put(node(&path("a/b"), 0));
    assert!(nodes.has_directory_of(&path("a/c")) && !nodes.has_directory_of(&path("c/b")));
    assert!(!nodes.has_directory_of(&path("a/b/c")) && !nodes.has_directory_of(&path("")));
    nodes.remove_tree(&path("a/b"));
    assert!(!nodes.has_directory_of(&path("a/c")));
}
