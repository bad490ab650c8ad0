use dbuild_events::Stamped;

use super::Comparison;
use crate::contents::tests::{build as small, known};
use crate::reader::tests::events;
use crate::{Build, Contents, NoTrees};

fn none() -> Contents {
    Contents::of(&Build::default(), &NoTrees)
}

#[test]
fn steps_are_matched_by_their_words_then_by_their_kind() {
    let a = Build::of(&events());
    let mut b: Build = Build::of(&events());
    b.steps[1].text = "RUN sleep 2".to_owned();
    b.steps[2].duration_ms = 10;
    b.steps[2].reasons = vec!["RUN sleep 3: words".to_owned()];
    b.steps.pop();
    insta::assert_snapshot!(Comparison::of((&a, &none()), (&b, &none())).to_string(), @"
                  0b      0b
    what          app     app
    result        done    done
    time          3.02s   3.02s
    cached        1 of 5  1 of 4
    image         none    none
    unpacked      none    none
    made          0B      0B
    left behind   0B      0B

    steps, + only the second has, - only the first has, ~ edited:
      [left 1/2] FROM busybox
    ~ [left 2/2] RUN sleep 2
        was: RUN sleep 1
      [right 1/1] RUN sleep 3
        3.00s -> 0.01s, 20B -> 20B
        because: RUN sleep 3: words
      [app 1/2] COPY --from=left /a /a
    - [app 2/2] COPY --from=right /b /b: 0.01s, 20B
    ");
}

#[test]
fn files_that_differ_are_named() {
    let a = small();
    let mut layers = known();
    let contents_a = Contents::of(&a, &layers);
    layers.rename("copy", "renamed");
    let contents_b = Contents::of(&a, &layers);
    let comparison = Comparison::of((&a, &contents_a), (&a, &contents_b));
    let copy = comparison.steps.iter().find(|pair| pair.b.as_ref().is_some_and(|b| b.id == 4)).unwrap();
    assert_eq!(copy.files.as_ref().unwrap().examples, ["- /app", "+ /renamed"]);
    let run = comparison.steps.iter().find(|pair| pair.b.as_ref().is_some_and(|b| b.id == 1)).unwrap();
    assert_eq!(run.files.as_ref().unwrap().count(), 0);
}

#[test]
fn a_build_equals_itself() {
    let build = Build::of(&events().into_iter().collect::<Vec<Stamped>>());
    let comparison = Comparison::of((&build, &none()), (&build, &none()));
    assert!(comparison.steps.iter().all(|pair| pair.a.is_some() && pair.b.is_some()));
    assert_eq!(comparison.steps.len(), 5);
}

#[test]
fn two_targets_of_one_dockerfile_are_matched() {
    let side = |target: &str, stage: u32| {
        let mut build = Build::of(&events());
        build.targets = vec![target.to_owned()];
        build.steps.retain(|step| step.stage == Some(stage));
        build
    };
    let (left, right) = (side("left", 0), side("right", 1));
    for (a, b, was) in [(&left, &right, "RUN sleep 1"), (&right, &left, "RUN sleep 3")] {
        let told = Comparison::of((a, &none()), (b, &none())).to_string();
        assert!(told.contains(&format!("    was: {was}")), "{told}");
    }
}

#[test]
fn what_changed_is_said_as_a_share() {
    assert_eq!(super::change(1000, 220), "-78%");
    assert_eq!(super::change(1000, 1500), "+50%");
    assert_eq!(super::change(10, 1000), "100 times");
    assert_eq!((super::change(0, 5), super::change(5, 5)), (String::new(), String::new()));
    let mut failed = Build::of(&events());
    failed.outcome = Some(dbuild_events::Outcome::Failed);
    let told = Comparison::of((&failed, &none()), (&failed, &none())).to_string();
    assert!(told.contains("image         none") && told.contains("left behind   unknown  unknown"), "{told}");
}
