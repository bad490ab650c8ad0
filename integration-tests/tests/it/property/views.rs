//! What a RUN sees at its end is what the next RUN sees, what the image gives when umoci unpacks
//! it, what `type=local` and `type=tar` write, and what a COPY of everything, or a mount of it,
//! gives.

use std::path::Path;
use std::process::Command;

use dbuild_integration_tests::{Outcome, TestSpace, Unpacked, run};

use super::commands::{commands, tree};
use super::listing::{Listing, Tolerance};
use super::random::Random;
use super::{rounds, tool};
use crate::rootless;

/// Sequences of commands in one build, each in a directory of its own.
const SEQUENCES: usize = 50;
const RUNS: usize = 4;

/// Somebody who builds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Builder {
    Root,
    /// Of a user namespace of one id.
    OneId,
    /// Of a user namespace with further ids.
    SubIds,
}

/// One round: its Dockerfile, and what each RUN does in each directory.
struct Round {
    seed: u64,
    dockerfile: String,
    /// By RUN, by sequence.
    scripts: Vec<Vec<Vec<String>>>,
    /// The RUNs in front of which a layer was copied.
    copied_before: Vec<bool>,
}

#[test]
fn every_view_of_a_file_system_is_the_same() {
    rounds(1, 2, |seed| check(seed, Builder::Root));
}

#[test]
fn every_view_of_a_file_system_is_the_same_without_root() {
    rounds(1_000_001, 2, |seed| {
        check(seed, if seed.is_multiple_of(2) { Builder::SubIds } else { Builder::OneId });
    });
}

fn check(seed: u64, builder: Builder) {
    let Some(space) = space(builder) else { return };
    tool(&space);
    let round = Round::new(seed, &space);
    space.write("context/Dockerfile", &round.dockerfile);
    build(&space, builder, &["--target", "lists", "-o", "lists"]);
    let read = |name: &str| Listing::parse(&space.read(format!("lists/lists/{name}")));
    for at in 0..RUNS - 1 {
        if round.copied_before[at + 1] {
            continue;
        }
        let (end, begin) = (read(&format!("end{at}")), read(&format!("begin{}", at + 1)));
        // What was mounted in the one or is in the other is hidden in it.
        let mounted = Listing::parse(&(space.read(format!("lists/lists/begin{at}"))));
        let end = end.without_sockets().without_mounts(&mounted).without_mounts(&begin);
        let begin = begin.without_mounts(&mounted).without_mounts(&read(&format!("begin{}", at + 1)));
        let tolerance = Tolerance { linked_again: true, ..Tolerance::default() };
        round.expect_same(&format!("RUN {} after RUN {at}", at + 1), &end, &begin, tolerance);
    }
    let seen = read("look");
    assert!(seen.len() > SEQUENCES * 2, "the trees are not empty: {}", seen.len());
    for name in ["copied", "linked", "bound"] {
        round.expect_same(name, &seen, &read(name), Tolerance::default());
    }

    let outputs = [
        "--target",
        "seq",
        "-o",
        "type=local,dest=local",
        "-o",
        "type=tar,dest=files.tar",
        "-o",
        "type=oci,dest=layout,tar=false,name=app",
    ];
    build(&space, builder, &outputs);
    let listed = |dir: &Path| {
        let mut list = Command::new(space.path("context/tool"));
        Listing::parse(&run(list.arg("list").arg(dir.join("w"))).expect_ok().stdout)
    };
    let local = Tolerance { any_owner: builder != Builder::Root, ..Tolerance::default() };
    round.expect_same("type=local", &seen, &listed(&space.path("local")), local);
    let whole_seconds = Tolerance { whole_seconds: true, ..Tolerance::default() };
    std::fs::create_dir(space.path("untarred")).unwrap();
    let mut untar = Command::new("tar");
    untar.args(["--numeric-owner", "-p", "--xattrs", "--xattrs-include=security.capability", "-x", "-C"]);
    run(untar.arg(space.path("untarred")).arg("-f").arg(space.path("files.tar"))).expect_ok();
    round.expect_same("type=tar", &seen, &listed(&space.path("untarred")), whole_seconds);
    let image = Unpacked::from_layout(&space.path("layout"), "latest", &space.path("bundle"));
    round.expect_same("the image", &seen, &listed(&image.rootfs), whole_seconds);
}

fn space(builder: Builder) -> Option<TestSpace> {
    match builder {
        Builder::Root => rustix::process::geteuid().is_root().then(TestSpace::new),
        Builder::OneId | Builder::SubIds => rootless::space(),
    }
}

fn build(space: &TestSpace, builder: Builder, words: &[&str]) -> Outcome {
    let words = [&["build", "--progress", "plain"], words, &["context"]].concat();
    let outcome = match builder {
        Builder::Root => space.dbuild(words).run(),
        Builder::OneId | Builder::SubIds => rootless::as_user(space, builder == Builder::SubIds, &words),
    };
    outcome.expect_ok()
}

impl Round {
    fn new(seed: u64, space: &TestSpace) -> Self {
        let random = &mut Random::new(seed);
        let trees: Vec<String> = (0..SEQUENCES).map(|_| tree(random)).collect();
        archive(space, "seed.tar", &trees);
        let mut dockerfile = "FROM busybox AS seq\nADD seed.tar /w/\nADD seed.tar /orig/\n".to_owned();
        let mut round =
            Self { seed, dockerfile: String::new(), scripts: Vec::new(), copied_before: Vec::new() };
        for at in 0..RUNS {
            let copies = at > 0 && random.one_in(3);
            if copies {
                // Into every fourth directory.
                let trees: Vec<String> =
                    (0..SEQUENCES).map(|at| if at % 4 == 1 { tree(random) } else { String::new() }).collect();
                archive(space, &format!("more{at}.tar"), &trees);
                let unpack = format!("mkdir more{at} && tar xf more{at}.tar -C more{at} && rm more{at}.tar");
                space
                    .shell("context", &format!("{unpack} && rmdir more{at}/* 2>/dev/null; true"))
                    .expect_ok();
                let link = if random.one_in(4) { "" } else { " --link" };
                let from = format!("more{at}");
                dockerfile += &match link {
                    "" => format!("ADD --link {from} /w/\n"),
                    _ => format!("COPY --link {from} /w/\n"),
                };
            }
            round.copied_before.push(copies);
            if at == 2 && seed.is_multiple_of(8) {
                // More layers than are mounted side by side.
                dockerfile.extend((0..130).map(|deep| format!("COPY --link tool.d/file /deep/{deep}\n")));
            }
            let scripts: Vec<Vec<String>> = (0..SEQUENCES).map(|_| commands(random)).collect();
            space.write(format!("context/run{at}.sh"), script(at, &scripts));
            dockerfile += "RUN --mount=type=bind,target=/ctx ";
            for _ in 0..3 {
                let place =
                    format!("target=/w/s{:02}/m", random.below(SEQUENCES / 3) * 3 + round.scripts.len() % 3);
                if dockerfile.lines().last().is_some_and(|line| line.contains(&place)) {
                    continue;
                }
                dockerfile += &match random.below(3) {
                    0 => format!("--mount=type=tmpfs,{place} "),
                    1 => format!("--mount=type=bind,source=tool.d,{place} "),
                    _ => format!("--mount=type=cache,id=c{seed},{place} "),
                };
            }
            dockerfile += &format!("sh /ctx/run{at}.sh\n");
            round.scripts.push(scripts);
        }
        space.write("context/tool.d/file", "mounted\n");
        let list = "RUN --mount=type=bind,target=/ctx /ctx/tool list";
        dockerfile += &format!("FROM seq AS look\n{list} /w > /lists/look\n");
        dockerfile += &format!("FROM busybox AS copied\nCOPY --from=seq / /\n{list} /w > /list\n");
        dockerfile += &format!("FROM busybox AS linked\nCOPY --link --from=seq / /\n{list} /w > /list\n");
        dockerfile += "FROM busybox AS bound\nRUN --mount=type=bind,from=seq,target=/m \
                       --mount=type=bind,target=/ctx /ctx/tool list /m/w > /list\n";
        dockerfile += "FROM scratch AS lists\nCOPY --from=look /lists /lists\nCOPY --from=copied /list /lists/copied\n\
                       COPY --from=linked /list /lists/linked\nCOPY --from=bound /list /lists/bound\n";
        round.dockerfile = dockerfile;
        round
    }

    /// Two views of all directories are one.
    #[track_caller]
    fn expect_same(&self, what: &str, seen: &Listing, later: &Listing, tolerance: Tolerance) {
        let differences = seen.differences(later, tolerance);
        let Some(first) = differences.first() else { return };
        let sequence = first.get(1..3).and_then(|digits| digits.parse::<usize>().ok());
        let commands: Vec<String> = sequence
            .map(|sequence| {
                let of_run = |(at, run): (usize, &Vec<Vec<String>>)| {
                    format!("# RUN {at}\n{}", run[sequence].join("\n"))
                };
                self.scripts.iter().enumerate().map(of_run).collect()
            })
            .unwrap_or_default();
        panic!(
            "{what} is another tree (DBUILD_PROPERTY_SEED={}):\n{}\n{} in all\n{}\n{}",
            self.seed,
            differences.iter().take(8).cloned().collect::<Vec<_>>().join("\n"),
            differences.len(),
            commands.join("\n"),
            self.dockerfile,
        );
    }
}

/// A RUN's script: every sequence in its own directory, and a list before and after.
fn script(at: usize, scripts: &[Vec<String>]) -> String {
    let mut text = format!("T=/ctx/tool\nmkdir -p /lists\n$T list /w > /lists/begin{at} || exit 1\n");
    for (sequence, commands) in scripts.iter().enumerate() {
        let commands = commands.join("\n");
        text += &format!(
            "cd /w/s{sequence:02} || exit 1\nORIG=/orig/s{sequence:02}\n{{\n{commands}\n}} 2>/dev/null\n"
        );
    }
    text + &format!("cd /\n$T list /w > /lists/end{at}\n")
}

/// Makes an archive in the context, with a directory for each of these trees.
fn archive(space: &TestSpace, name: &str, trees: &[String]) {
    let mut script = "set -u\nrm -rf seed && mkdir seed\n".to_owned();
    for (sequence, tree) in trees.iter().enumerate() {
        script += &format!(
            "mkdir seed/s{sequence:02} && cd seed/s{sequence:02}\n{{\n{tree}\n}} 2>/dev/null\ncd ../..\n"
        );
    }
    space.write("seed.sh", script);
    let pack = format!("sh seed.sh; tar -c --sort=name --numeric-owner -f context/{name} -C seed .");
    space.shell("", &pack).expect_ok();
}
