//! Differences in words, and which record is nearest.

use dbuild_plan::StepKind;

use super::fixture::{answers, copy, image, key, of_image, run, step};
use crate::{Ingredient, IngredientKind, SelectedPath, explain, similarity, text_similarity};

fn list(kind: StepKind) -> Vec<Ingredient> {
    key("output", &step(kind), &answers()).unwrap().1
}

fn words(before: &[Ingredient], after: &[Ingredient]) -> Vec<String> {
    explain(before, after).iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_differs_in_equal_lists() {
    let one = list(StepKind::Run(run()));
    assert_eq!(explain(&one, &one), []);
    assert_eq!(similarity(&one, &one), 1000);
    assert_eq!(similarity(&[], &[]), 1000);
}

#[test]
fn a_runs_differences() {
    let mut after = run();
    after.argv[2] = "make install".into();
    after.env[1].1 = "1.3".into();
    after.env.push(("CC".into(), "gcc".into()));
    after.user.clear();
    after.script = None;
    after.extra_hosts.pop();
    assert_eq!(
        words(&list(StepKind::Run(run())), &list(StepKind::Run(after))),
        [
            "the command `make all` → `make install`",
            "script /dev/pipes/EOF: gone",
            "ARG VERSION 1.2 → 1.3",
            "ENV CC: new, gcc",
            "the user app → (empty)",
            "--add-host a: gone, was 10.0.0.1",
        ]
    );
}

#[test]
fn paths_differ_in_content_mode_owner_and_kind() {
    let path =
        |one: SelectedPath| Ingredient { kind: IngredientKind::Path, name: one.path, value: one.digest };
    let file =
        |name: &str, mode, uid, content: &str| path(SelectedPath::new(name, "file", mode, uid, uid, content));
    let before = [
        file("gone.py", 0o644, 0, "a"),
        file("run.sh", 0o644, 0, "b"),
        file("src/app.py", 0o644, 0, "c"),
        file("x", 0o644, 0, "d"),
        path(SelectedPath::new("y", "symlink", 0o777, 0, 0, "old")),
        file("z", 0o644, 0, "e"),
    ];
    let after = [
        file("new\u{1b}[31m.py", 0o644, 0, "a"),
        file("run.sh", 0o755, 0, "b"),
        file("src/app.py", 0o644, 0, "changed"),
        file("x", 0o600, 7, "d"),
        path(SelectedPath::new("y", "symlink", 0o777, 0, 0, "new")),
        path(SelectedPath::new("z", "dir", 0o755, 0, 0, "")),
    ];
    assert_eq!(
        words(&before, &after),
        [
            "gone.py: gone",
            "new\\u{1b}[31m.py: new",
            "run.sh: mode 0644 → 0755",
            "src/app.py: content",
            "x: mode 0644 → 0600, owner 0:0 → 7:7",
            "y: target old → new",
            "z: file → dir, mode 0644 → 0755",
        ]
    );
}

#[test]
fn bases_and_parents() {
    let mut newer = image();
    newer.layers.clear();
    let [line] = words(&list(of_image(image())), &list(of_image(newer))).try_into().unwrap();
    assert!(
        line.starts_with("the base's digest ") && line.contains(" → ") && line.chars().count() < 65,
        "{line}"
    );
    let mut inputs = answers();
    inputs.outputs.insert(super::fixture::PARENT, 99);
    let after = key("output", &step(StepKind::Run(run())), &inputs).unwrap().1;
    assert_eq!(words(&list(StepKind::Run(run())), &after), ["the parent"]);
}

#[test]
fn an_order_is_told_and_a_move_from_arg_to_env_is_not_one() {
    let mut turned = run();
    turned.env.reverse();
    assert_eq!(words(&list(StepKind::Run(run())), &list(StepKind::Run(turned))), ["the order of ARG"]);
    let mut moved = run();
    moved.args.clear();
    assert_eq!(words(&list(StepKind::Run(run())), &list(StepKind::Run(moved))), Vec::<String>::new());
}

#[test]
fn long_values_are_cut_where_they_differ() {
    let with = |end: &str| {
        let mut run = run();
        run.argv[2] = format!("{}{end}", "true && ".repeat(100));
        list(StepKind::Run(run))
    };
    let [line] = words(&with("make a"), &with("make b")).try_into().unwrap();
    assert!(line.contains("make a") && line.contains("make b") && line.len() < 400, "{line}");
}

#[test]
fn the_earlier_version_is_nearer_than_another_step() {
    let now = list(StepKind::Run(run()));
    let mut edited = run();
    edited.argv[2] = "make all install".into();
    let mut other = run();
    other.argv[2] = "apt-get install -y gcc".into();
    let (edited, other) = (list(StepKind::Run(edited)), list(StepKind::Run(other)));
    assert!(similarity(&edited, &now) > similarity(&other, &now));
    assert!(similarity(&other, &now) > similarity(&list(StepKind::Copy(copy())), &now));
    assert!(text_similarity("RUN make all", "RUN make") > text_similarity("RUN make all", "RUN true"));
    assert_eq!(text_similarity("RUN make", "RUN make"), 1000);
    assert_eq!(text_similarity("", "x"), 0);
}

#[test]
fn an_ingredient_is_kept_as_json() {
    let one = Ingredient { kind: IngredientKind::Argument, name: "A".into(), value: "1".into() };
    let json = serde_json::to_string(&one).unwrap();
    assert_eq!(json, r#"{"k":"argument","n":"A","v":"1"}"#);
    assert_eq!(serde_json::from_str::<Ingredient>(&json).unwrap(), one);
}
