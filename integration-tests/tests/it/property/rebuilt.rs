//! After any edit the next build in a store equals the build in a new one, under every strategy.

use std::path::Path;
use std::process::Command;

use dbuild_integration_tests::{TestSpace, run};
use serde_json::Value;

use super::edits::{Dockerfile, edit, files};
use super::listing::{Listing, Tolerance};
use super::random::Random;
use super::{rounds, tool};

const EDITS: usize = 5;
const STRATEGIES: [&str; 3] = ["linear", "content", "output"];

/// What a build gave; `None` where it failed.
type Built = Option<(Listing, Value)>;

#[test]
fn after_any_edit_a_store_gives_what_a_new_one_gives() {
    rounds(1, 2, check);
}

fn check(seed: u64) {
    let random = &mut Random::new(seed);
    let space = TestSpace::new();
    tool(&space);
    // The tool is none of the project's files.
    std::fs::rename(space.path("context/tool"), space.path("tool")).unwrap();
    let mut dockerfile = Dockerfile::new(random);
    let mut done = vec![files(random)];
    space.shell("context", &done[0]).expect_ok();
    let mut states: Vec<Dockerfile> = Vec::new();
    for at in 0..=EDITS {
        if at > 0 && random.one_in(5) {
            // Back to what was built before, with the times of then.
            let back = random.below(states.len());
            dockerfile = states[back].clone();
            space.shell("", &format!("rm -rf context && cp -a state{back} context")).expect_ok();
            done.push(format!("# as before edit {back}"));
        } else if at > 0 {
            let line = edit(&mut dockerfile, random);
            space.shell("context", &format!("{line} 2>/dev/null; true")).expect_ok();
            done.push(line);
        }
        space.shell("", &format!("cp -a context state{at}")).expect_ok();
        states.push(dockerfile.clone());
        space.write("Dockerfile", dockerfile.text());
        let fresh = build(&space, "linear", "fresh");
        std::fs::remove_dir_all(space.path("fresh")).unwrap();
        for strategy in STRATEGIES {
            let told = |what: &str| {
                format!(
                    "{what}: {strategy}, edit {at} (DBUILD_PROPERTY_SEED={seed})\n{}\n{}",
                    done.join("\n"),
                    states.iter().map(Dockerfile::text).collect::<Vec<_>>().join("\n# then\n")
                )
            };
            match (&fresh, build(&space, strategy, strategy)) {
                (None, None) => {}
                (Some((files, config)), Some((other_files, other_config))) => {
                    let differences = files.differences(&other_files, Tolerance::default());
                    assert!(differences.is_empty(), "{}\n{}", differences.join("\n"), told("other files"));
                    assert_eq!(*config, other_config, "{}", told("another image"));
                }
                (fresh, _) => panic!("{}", told(if fresh.is_some() { "fails" } else { "does not fail" })),
            }
        }
    }
}

/// Builds in a store of this name.
fn build(space: &TestSpace, strategy: &str, store: &str) -> Built {
    let words = [
        "build",
        "--progress",
        "plain",
        "--strategy",
        strategy,
        "-f",
        "Dockerfile",
        "-o",
        "out",
        "-o",
        "type=oci,dest=layout,tar=false",
        "context",
    ];
    for name in ["out", "layout"] {
        let _ = std::fs::remove_dir_all(space.path(name));
    }
    let outcome = space.dbuild(words).env("DBUILD_STORE", space.path(store)).run();
    if outcome.code() != Some(0) {
        let text = &outcome.stderr;
        assert!(outcome.code() == Some(1) && !text.contains("panicked"), "{outcome}");
        return None;
    }
    let mut list = Command::new(space.path("tool"));
    let files = run(list.arg("list").arg(space.path("out"))).expect_ok().stdout;
    Some((Listing::parse(&files).without_times(), config(&space.path("layout"))))
}

/// The image's configuration, without times and what depends on them.
fn config(layout: &Path) -> Value {
    let json = |path: &Path| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        json(&layout.join("blobs").join(digest.replace(':', "/")))
    };
    let manifest = blob(&json(&layout.join("index.json"))["manifests"][0]);
    let mut config = blob(&manifest["config"]);
    config["created"].take();
    config["rootfs"].take();
    for step in config["history"].as_array_mut().into_iter().flatten() {
        step["created"].take();
    }
    config
}
