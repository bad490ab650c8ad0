use std::collections::HashMap;

use dbuild_cache::{Ingredient, IngredientKind, explain, similarity, similarity_beside};

use super::{Outline, Rest};
use crate::records::ingredient_chunks::{ChunkId, Cutter};

fn ingredient(kind: IngredientKind, name: &str, value: &str) -> Ingredient {
    Ingredient { kind, name: name.to_owned(), value: value.to_owned() }
}

/// Of two sources, which give the same paths.
fn list() -> Vec<Ingredient> {
    let mut list = vec![
        ingredient(IngredientKind::Instruction, "", "COPY"),
        ingredient(IngredientKind::Parent, "", "below"),
    ];
    for source in 0..2 {
        list.push(ingredient(IngredientKind::Input, "paths selected", "5000"));
        list.extend((0..5000).map(|n| {
            ingredient(
                IngredientKind::Path,
                &format!("dir/file{n:04}"),
                &format!("file 0644 0:0 {source}{n}"),
            )
        }));
    }
    list
}

/// The pieces of a list, as they would be read.
fn pieces(list: &[Ingredient]) -> (Vec<ChunkId>, HashMap<ChunkId, Vec<Ingredient>>) {
    let (mut ids, mut read, mut items) = (Vec::new(), HashMap::new(), Vec::new());
    let mut cutter = Cutter::new();
    for (index, item) in list.iter().enumerate() {
        items.push(item.clone());
        let mut id = cutter.add(item.kind, &item.name, &item.value);
        if index + 1 == list.len() {
            id = id.or_else(|| cutter.end());
        }
        if let Some(id) = id {
            read.insert(id.clone(), std::mem::take(&mut items));
            ids.push(id);
        }
    }
    (ids, read)
}

fn apart(before: &[Ingredient], after: &[Ingredient]) -> Rest {
    let (ids, read) = pieces(before);
    Outline::of(&after).apart(&ids, &after, |id| read.get(id).cloned()).unwrap()
}

/// What the rest says of two lists, and how long it is.
fn says_the_same(before: &[Ingredient], after: &[Ingredient]) -> usize {
    let rest = apart(before, after);
    assert_eq!(explain(&rest.before, &rest.after), explain(before, after));
    assert_eq!(similarity_beside(&rest.before, &rest.after, rest.same), similarity(before, after));
    assert_eq!(rest.before.len() as u64 + rest.same, before.len() as u64);
    assert_eq!(rest.after.len() as u64 + rest.same, after.len() as u64);
    rest.before.len() + rest.after.len()
}

#[test]
fn what_is_left_of_two_lists_says_all_that_they_do() {
    let before = list();
    type Edit = fn(&mut Vec<Ingredient>);
    let edits: [(&str, Edit, usize); 8] = [
        ("nothing", |_| {}, 10),
        ("one content", |list| list[1000].value.push('!'), 2500),
        (
            "a path more",
            |list| list.insert(7000, ingredient(IngredientKind::Path, "dir/file1997a", "new")),
            2500,
        ),
        ("a path less", |list| drop(list.remove(4321)), 2500),
        ("the parent", |list| list[1].value.push('!'), 2500),
        ("a path that both sources have, of one", |list| drop(list.remove(9000)), 2500),
        ("a source less", |list| list.truncate(5003), 20_010),
        ("two paths in another order", |list| list.swap(2000, 2001), 2500),
    ];
    for (what, edit, most) in edits {
        let mut after = before.clone();
        edit(&mut after);
        let left = says_the_same(&before, &after);
        assert!(left <= most, "{what}: {left}");
        says_the_same(&after, &before);
    }
    assert_eq!(says_the_same(&before, &[]), before.len());
    assert_eq!(says_the_same(&[], &before), before.len());
}

#[test]
fn a_piece_that_cannot_be_read_is_no_list() {
    let before = list();
    let mut after = before.clone();
    after[1000].value.push('!');
    let (ids, _) = pieces(&before);
    assert!(Outline::of(&after).apart(&ids, &after, |_| None).is_none());
    assert!(Outline::of(&before).apart(&ids, &before, |_| None).is_some(), "none of them is read");
}
