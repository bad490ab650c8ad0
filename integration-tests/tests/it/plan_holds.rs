//! What a plan says is what the build then does, and what it takes from the cache is right: over
//! generated Dockerfiles with RUN, and edits of them, for each strategy, through the program.
//!
//! The commands are of the kinds that matter to a cache: some give another tree when a file
//! changes, some give the same one after all (the cut-off is early there), some give nothing. None
//! depends on a clock, so a build that took a wrong result from its cache gives another image than
//! one under another strategy.

use std::fmt::Write as _;

use dbuild_integration_tests::TestSpace;
use proptest::prelude::*;

use crate::plan::{assert_holds, carried_out};

/// An instruction of a stage. Numbers choose files, stages and spellings.
#[derive(Clone, Debug)]
enum Instruction {
    Copy {
        file: u8,
        link: bool,
    },
    CopyFrom(u8),
    /// Its tree follows the file.
    Read(u8),
    /// Its tree follows the number of lines, which an edit may leave as it is.
    Count,
    /// Another spelling gives the same tree.
    Spelled(u8),
    /// Its layer has no entries.
    Nothing(u8),
    /// Its tree follows half of the argument.
    Argument,
    /// It sees another stage.
    Mount(u8),
}

/// Something that happens between two builds.
#[derive(Clone, Debug)]
enum Edit {
    File { file: u8, content: u8 },
    Mode(bool),
    Argument(u8),
    Instruction { stage: u8, index: u8, new: Instruction },
    NoCacheFilter,
}

const FILES: u8 = 2;
/// With one line and with two.
const CONTENTS: [&str; 3] = ["one\n", "uno\n", "one\ntwo\n"];
/// The first two have the same half.
const ARGUMENTS: [&str; 3] = ["1.1", "1.2", "2.1"];

fn instruction() -> impl Strategy<Value = Instruction> {
    prop_oneof![
        (0..FILES, any::<bool>()).prop_map(|(file, link)| Instruction::Copy { file, link }),
        any::<u8>().prop_map(Instruction::CopyFrom),
        (0..FILES).prop_map(Instruction::Read),
        Just(Instruction::Count),
        (0..3_u8).prop_map(Instruction::Spelled),
        (0..3_u8).prop_map(Instruction::Nothing),
        Just(Instruction::Argument),
        any::<u8>().prop_map(Instruction::Mount),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => (0..FILES, 0..3_u8).prop_map(|(file, content)| Edit::File { file, content }),
        1 => any::<bool>().prop_map(Edit::Mode),
        2 => (0..3_u8).prop_map(Edit::Argument),
        2 => (any::<u8>(), any::<u8>(), instruction())
            .prop_map(|(stage, index, new)| Edit::Instruction { stage, index, new }),
        1 => Just(Edit::NoCacheFilter),
    ]
}

type Stages = Vec<Vec<Instruction>>;

fn dockerfile(stages: &Stages) -> String {
    let mut text = String::new();
    for (number, instructions) in stages.iter().enumerate() {
        writeln!(text, "FROM busybox AS s{number}\nARG V=1.1\nCOPY f0 f1 /d/").unwrap();
        for (index, instruction) in instructions.iter().enumerate() {
            let other = |stage: &u8| usize::from(*stage) % number.max(1);
            match instruction {
                Instruction::Copy { file, link } => {
                    let link = if *link { "--link " } else { "" };
                    writeln!(text, "COPY {link}f{file} /c/{index}").unwrap();
                }
                Instruction::CopyFrom(stage) if number > 0 => {
                    writeln!(text, "COPY --from=s{} /d/f0 /from/{index}", other(stage)).unwrap();
                }
                Instruction::Mount(stage) if number > 0 => {
                    let mount = format!("--mount=type=bind,from=s{},source=/d,target=/m", other(stage));
                    writeln!(text, "RUN {mount} cat /m/f1 > /mounted{index}").unwrap();
                }
                Instruction::CopyFrom(file) | Instruction::Mount(file) => {
                    writeln!(text, "COPY f{} /other/", file % FILES).unwrap();
                }
                Instruction::Read(file) => writeln!(text, "RUN cat /d/f{file} > /read{index}").unwrap(),
                Instruction::Count => writeln!(text, "RUN cat /d/* | wc -l > /count{index}").unwrap(),
                Instruction::Spelled(number) => {
                    writeln!(text, "RUN : {number}; echo same > /spelled{index}").unwrap();
                }
                Instruction::Nothing(number) => writeln!(text, "RUN true {number}").unwrap(),
                Instruction::Argument => writeln!(text, "RUN echo ${{V%.*}} > /argument{index}").unwrap(),
            }
        }
    }
    // Whatever else there is, the target needs all stages.
    writeln!(text, "FROM busybox").unwrap();
    for number in 0..stages.len() {
        writeln!(text, "COPY --from=s{number} / /all/{number}/").unwrap();
    }
    text
}

/// The state that edits lead to.
struct State {
    stages: Stages,
    files: [u8; FILES as usize],
    executable: bool,
    argument: u8,
    no_cache_filter: bool,
}

impl State {
    fn edit(&mut self, edit: &Edit) {
        self.no_cache_filter = false;
        match edit {
            Edit::File { file, content } => self.files[usize::from(*file)] = *content,
            Edit::Mode(executable) => self.executable = *executable,
            Edit::Argument(argument) => self.argument = *argument,
            Edit::Instruction { stage, index, new } => {
                let count = self.stages.len();
                let stage = &mut self.stages[usize::from(*stage) % count];
                let index = usize::from(*index) % stage.len();
                stage[index] = new.clone();
            }
            Edit::NoCacheFilter => self.no_cache_filter = true,
        }
    }

    /// Plans and builds it, and gives what is in the image.
    fn check(&self, space: &TestSpace, strategy: &str, round: usize) -> String {
        for (number, content) in self.files.iter().enumerate() {
            space.write(format!("context/f{number}"), CONTENTS[usize::from(*content)]);
        }
        let mode = if self.executable { 0o755 } else { 0o644 };
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(space.path("context/f0"), mode).expect("a mode can be set");
        let text = dockerfile(&self.stages);
        space.write("context/Dockerfile", &text);
        let argument = format!("V={}", ARGUMENTS[usize::from(self.argument)]);
        let mut words = vec!["--strategy", strategy, "--build-arg", &argument];
        if self.no_cache_filter {
            words.extend(["--no-cache-filter", "s0"]);
        }
        let plan = space.dbuild(["plan", "--json"]).args(&words).args(["context"]).run().expect_ok().json();
        let build = space.dbuild(["build", "--progress", "rawjson", "-t", "app", "context"]).args(&words);
        let done = carried_out(&build.run().expect_ok());
        assert_holds(&plan, &done, &format!("{strategy}, round {round}, {argument}:\n{text}"));
        space.run_in("app", &["sh", "-c", "cd /all; find . -type f ! -path '*/bin/*' | sort | xargs md5sum"])
    }
}

/// One space for each strategy, all at once: they only wait for each other's images.
fn check(stages: Stages, edits: &[Edit]) {
    let mut state =
        State { stages, files: [0; FILES as usize], executable: false, argument: 0, no_cache_filter: false };
    let spaces = ["linear", "content", "output"].map(|strategy| (strategy, TestSpace::new()));
    for round in 0..=edits.len() {
        if let Some(edit) = round.checked_sub(1).map(|edit| &edits[edit]) {
            state.edit(edit);
        }
        let images: Vec<String> = std::thread::scope(|scope| {
            let each = spaces.iter().map(|(strategy, space)| {
                let state = &state;
                scope.spawn(move || state.check(space, strategy, round))
            });
            let each: Vec<_> = each.collect();
            each.into_iter()
                .map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        let text = dockerfile(&state.stages);
        assert_eq!(images[0], images[1], "linear, content: round {round} of {edits:?}\n{text}");
        assert_eq!(images[1], images[2], "content, output: round {round} of {edits:?}\n{text}");
    }
}

#[test]
fn a_run_after_a_linked_copy_sees_what_is_below_both() {
    let stages = vec![vec![Instruction::Copy { file: 1, link: true }, Instruction::Read(0)]];
    check(stages, &[Edit::File { file: 0, content: 1 }, Edit::File { file: 0, content: 0 }]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, failure_persistence: None, max_shrink_iters: 20, ..ProptestConfig::default() })]

    #[test]
    fn what_a_plan_says_is_what_the_build_does_with_run(
        stages in prop::collection::vec(prop::collection::vec(instruction(), 2..5), 1..3),
        edits in prop::collection::vec(edit(), 2..5),
    ) {
        check(stages, &edits);
    }
}
