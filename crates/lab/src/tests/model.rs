//! What the simulation knows of contexts and steps.

use std::process::Command;

use super::{Bases, options, scripted, simulate};
use crate::{Costs, Mode, Options, Replay, Repository, replay};

fn run(script: &str, costs: &str) -> Replay {
    let (_dir, repository) = scripted(script);
    simulate(&repository, &options(&[]), &Costs::parse(costs).unwrap()).unwrap()
}

/// The steps that `output` rebuilds at each commit.
fn rebuilt(replay: &Replay) -> Vec<String> {
    let steps = replay.commits.iter().map(|commit| {
        let of = commit.rebuilt.iter().find(|one| one.strategy == "output");
        let steps = of.into_iter().flat_map(|one| &one.steps);
        steps.map(|step| step.step.clone()).collect::<Vec<_>>().join(" | ")
    });
    steps.collect()
}

#[test]
fn a_context_is_the_files_of_the_commit() {
    let replay = run(
        "printf 'FROM base\\nCOPY . /\\n' > Dockerfile; printf 'kept\\nlogs/*\\n!logs/audit\\n' > .dockerignore\n\
         mkdir logs; echo a > logs/a; echo a > logs/audit; echo x > run.sh; ln -s run.sh link; commit one\n\
         echo b > logs/a; commit ignored\n\
         echo b > logs/audit; commit re-included\n\
         chmod +x run.sh; commit mode\n\
         ln -sf other link; commit link\n\
         commit nothing",
        "",
    );
    let whys: Vec<String> = replay
        .commits
        .iter()
        .map(|commit| {
            let steps = &commit.rebuilt.iter().find(|one| one.strategy == "output").unwrap().steps;
            steps.iter().flat_map(|step| step.why.clone()).collect::<Vec<_>>().join(", ")
        })
        .collect();
    assert_eq!(
        whys,
        [
            "the first commit",
            "",
            "logs/audit: content",
            "run.sh: mode 0644 → 0755",
            "link: target run.sh → other",
            ""
        ]
    );
}

#[test]
fn a_directory_of_a_repository_is_a_context_of_its_own() {
    let (_dir, repository) = scripted(
        "mkdir service; printf 'FROM base\\nCOPY a /\\n' > service/Dockerfile; echo a > service/a; echo z > z; commit one\n\
         echo y > z; commit beside; echo b > service/a; commit inside",
    );
    let replay = simulate(&repository.join("service"), &options(&[]), &Costs::default()).unwrap();
    assert_eq!(rebuilt(&replay), ["COPY a /", "", "COPY a /"]);
}

#[test]
fn a_rule_says_what_a_run_reads() {
    let script = "printf 'FROM base AS b\\nCOPY . /src/\\nRUN make\\nFROM base\\nCOPY --from=b /out /out\\nRUN test\\n' > Dockerfile\n\
                  echo Dockerfile > .dockerignore; mkdir lib\n\
                  echo code > lib/a.c; echo text > text; commit one\n\
                  echo more > text; commit text\n\
                  printf '\\n  # a comment\\ncode\\n' > lib/a.c; commit comment\n\
                  echo other > lib/a.c; commit code";
    let all = "COPY . /src/ | RUN make | COPY --from=b /out /out | RUN test";
    let both = "COPY . /src/ | RUN make";
    // Without a rule a RUN gives something else whenever it sees something else.
    assert_eq!(rebuilt(&run(script, "")), [all; 4]);
    let rule = "[[step]]\ntext = \"RUN make\"\nwrites = [\"/out\"]\n";
    let reads = format!("{rule}reads = [\"/src/**/*.c\"]\n");
    assert_eq!(rebuilt(&run(script, &reads)), [all, both, all, all]);
    let comments = format!("{reads}comments = [\"#\"]\n");
    assert_eq!(rebuilt(&run(script, &comments)), [all, both, both, all]);
    assert_eq!(rebuilt(&run(script, &format!("{rule}same-output = true\n"))), [all, both, both, both]);
}

#[test]
fn downloads_are_the_same_for_the_same_words() {
    let script =
        |add: &str| format!("printf 'FROM base\\nADD {add} /d/\\nRUN use\\n' > Dockerfile; commit '{add}'\n");
    let (one, two) = ("https://example.com/file", "https://example.com/r.git#main");
    let replay = run(&[script(one), script(two), script(one)].concat(), "");
    let rebuilt = rebuilt(&replay);
    assert!(rebuilt[0].ends_with("RUN use") && rebuilt[1].ends_with("RUN use"), "{rebuilt:?}");
    assert_eq!(rebuilt[2], "");
}

#[test]
fn durations_and_sizes_have_an_order_of_precedence() {
    let script =
        "printf 'FROM base\\nRUN a\\nRUN b\\nCOPY x /x\\n' > Dockerfile; printf 12345 > x; commit one";
    let replay = run(script, "[[step]]\ntext = \"RUN a\"\nseconds = 1.5\nmegabytes = 3\n");
    let steps = &replay.commits[0].rebuilt[0].steps;
    assert_eq!(steps.iter().map(|step| step.ms).collect::<Vec<_>>(), [1500, 5000, 100]);
    // The rule's, the usual one of a RUN, and what the context holds.
    assert_eq!(replay.rows.last().unwrap().stored, Some(3_000_000 + 20_000_000 + 5));
}

#[test]
fn each_base_is_asked_for_once() {
    let (_dir, repository) = scripted(
        "printf 'FROM base\\nRUN a\\n' > Dockerfile; commit one; printf 'FROM base\\nRUN b\\n' > Dockerfile; commit two\n\
         printf 'FROM other\\nRUN b\\n' > Dockerfile; commit three",
    );
    let mut bases = Bases::default();
    let costs = Costs::default();
    let repository = Repository::open(&repository).unwrap();
    replay(&repository, &options(&[]), &mut bases, Mode::Simulate(&costs)).unwrap();
    assert_eq!(bases.asked, ["base", "other"]);
}

#[test]
fn revisions_bound_the_history_and_both_ends_are_taken() {
    let (_dir, repository) = scripted(
        "printf 'FROM base\\nCOPY a /\\n' > Dockerfile; for i in 1 2 3 4; do echo $i > a; commit $i; git tag t$i; done",
    );
    let between = Options { from: Some("t2".to_owned()), to: "t3".to_owned(), ..options(&[]) };
    let replay = simulate(&repository, &between, &Costs::default()).unwrap();
    let subjects: Vec<&str> = replay.commits.iter().map(|commit| commit.subject.as_str()).collect();
    assert_eq!(subjects, ["2", "3"]);
}

#[test]
fn the_repository_stays_as_it_is() {
    let (_dir, repository) =
        scripted("printf 'FROM base\\nRUN a\\n' > Dockerfile; commit one; echo dirty > Dockerfile");
    let state = || {
        let list = Command::new("find").arg(&repository).args(["-printf", "%p %T@ %C@\n"]).output().unwrap();
        let mut lines: Vec<String> =
            String::from_utf8(list.stdout).unwrap().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let before = state();
    simulate(&repository, &options(&[]), &Costs::default()).unwrap();
    assert_eq!(state(), before);
}
