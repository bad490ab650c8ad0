use std::fs;
use std::sync::Arc;

use crate::testing::{Space, form, live, plain, selected, show, text};
use crate::{
    CopyRequest, Ignore, LayerError, LayerFiles, NoContentIndex, NoGzipBlocks, PackOptions, Source, Stack,
    StackLayer, UnwrittenLayer, copy, copy_unwritten, pack, walk_context,
};

fn context(space: &Space) -> Stack {
    let entries = ["s/a = one", "s/d/b 0600 = two", "s/l -> a", "s/d/c = three"];
    space.context("context", &entries);
    fs::hard_link(space.path("context/s/a"), space.path("context/s/h")).unwrap();
    let tree = walk_context(&space.path("context"), &Ignore::default(), None, &NoContentIndex).unwrap();
    live(tree, &space.path("context"))
}

fn layer(borrowed: UnwrittenLayer) -> StackLayer {
    StackLayer { tree: Arc::clone(borrowed.tree()), files: LayerFiles::Unwritten(Arc::new(borrowed)) }
}

fn packed(layer: &StackLayer) -> Result<Vec<u8>, LayerError> {
    let mut bytes = Vec::new();
    pack(&layer.tree, &layer.files, &PackOptions::default(), &NoGzipBlocks, &mut bytes)?;
    Ok(bytes)
}

#[test]
fn a_layer_that_was_not_written_is_packed_as_one_that_was() {
    let space = Space::new();
    let context = context(&space);
    let below = Stack::new(vec![space.layer("below", &["d/"]).layers()[0].clone()]);
    let selections = [selected(&context, "s"), selected(&context, "s/d/b")];
    let request =
        CopyRequest { chown: Some((1, 2)), chmod: Some("640"), ..plain(Some(&below), &selections, "/d/") };
    let made = copy(&request, &space.dir("written"), form()).unwrap();
    let written =
        StackLayer { tree: Arc::new(made.tree), files: LayerFiles::Snapshot(space.path("written")) };
    let borrowed = layer(copy_unwritten(&request).unwrap().unwrap());
    assert_eq!(show(&borrowed.tree), show(&written.tree));
    assert_eq!(borrowed.tree.digest(), written.tree.digest());
    assert!(packed(&borrowed).unwrap() == packed(&written).unwrap());
}

#[test]
fn its_files_are_read_and_copied_on_from_where_they_are() {
    let space = Space::new();
    let context = context(&space);
    let first = Stack::new(vec![layer(
        copy_unwritten(&plain(None, &[selected(&context, "s")], "/x/y")).unwrap().unwrap(),
    )]);
    assert_eq!(text(&first, "x/y/h"), "one");
    let selections = [selected(&first, "x/y")];
    let request = plain(None, &selections, "/z");
    let made = copy(&request, &space.dir("out"), form()).unwrap();
    let second = Stack::new(vec![space.out(&made)]);
    assert_eq!(text(&second, "z/d/b"), "two");
    // Also once more without being written.
    let again = layer(copy_unwritten(&request).unwrap().unwrap());
    assert_eq!(text(&Stack::new(vec![again.clone()]), "z/d/c"), "three");
    assert!(packed(&again).unwrap() == packed(&second.layers()[0]).unwrap());
}

#[test]
fn a_file_that_changed_meanwhile_is_noticed() {
    type Change = fn(&Space);
    let changes: [(&str, Change); 4] = [
        ("other bytes", |space| fs::write(space.path("context/s/d/b"), "owt").unwrap()),
        ("another size", |space| fs::write(space.path("context/s/d/b"), "longer").unwrap()),
        ("gone", |space| fs::remove_file(space.path("context/s/d/b")).unwrap()),
        ("no file", |space| {
            fs::remove_file(space.path("context/s/d/b")).unwrap();
            fs::create_dir(space.path("context/s/d/b")).unwrap();
        }),
    ];
    for (what, change) in changes {
        let space = Space::new();
        let context = context(&space);
        let borrowed =
            layer(copy_unwritten(&plain(None, &[selected(&context, "s")], "/x/")).unwrap().unwrap());
        change(&space);
        let error = packed(&borrowed).unwrap_err();
        assert!(
            matches!(&error, LayerError::Changed { path } if path.to_string() == "/x/d/b"),
            "{what}: {error}"
        );
    }
}

#[test]
fn archives_and_here_documents_are_not_borrowed() {
    let space = Space::new();
    let context = context(&space);
    let selection = selected(&context, "s/a");
    for source in [
        Source::Selected { selection: &selection, unpack: true },
        Source::Inline { name: "i", content: b"x" },
    ] {
        let request = CopyRequest { sources: vec![source], ..plain(None, &[], "/") };
        assert!(copy_unwritten(&request).unwrap().is_none());
    }
}
