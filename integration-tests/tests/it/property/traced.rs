//! A result that `--strategy traced` keeps is the one that a fresh run gives.
//!
//! A round is a random tree, some random commands over it, each in a stage of its own, and random
//! edits of the tree. After each edit the build is made twice: traced, and under `output`, which
//! runs every command whose parent is not one that it knows. Both must give the same files.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use dbuild_integration_tests::{TestSpace, run};

use super::random::Random;
use super::{rounds, tool};

const STAGES: usize = 8;
const EDITS: usize = 4;
const NAMES: &[&str] = &["a", "b", "c", "d"];

/// A path below the tree, at most three deep.
fn path(random: &mut Random) -> String {
    let depth = 1 + random.below(3);
    (0..depth).map(|_| random.pick(NAMES)).collect::<Vec<_>>().join("/")
}

/// One line that changes the tree, or fails and changes nothing.
fn edit(random: &mut Random) -> String {
    let (one, two) = (path(random), path(random));
    let dir = one.rsplit_once('/').map_or(".", |(dir, _)| dir);
    match random.below(12) {
        0..6 => format!("mkdir -p {dir} && echo {} > {one}", random.below(1000)),
        6 => format!("[ -f {one} ] && echo {} > {one}", random.below(1000)),
        7 => format!("rm -rf {one}"),
        8 => format!("mkdir -p {one}"),
        9 => format!("mkdir -p {dir} && ln -sfn /app/{two} {one}"),
        10 => format!("[ -e {one} ] && chmod {} {one}", random.pick(&["700", "755", "750"])),
        _ => format!("[ -e {one} ] && mv {one} {two}"),
    }
}

/// One line of a command.
fn line(random: &mut Random) -> String {
    let (one, two) = (path(random), path(random));
    match random.below(30) {
        0 | 1 => format!("cat {one}"),
        2 => format!("ls -a {one}"),
        3 => format!("test -e {one} && echo there"),
        4 => format!("test -d {one} && echo dir"),
        5 => format!("test -x {one} && echo may"),
        6 => format!("stat -c '%a %u %F' {one}"),
        7 => format!("stat -L -c '%a %u %F' {one}"),
        8 => format!("readlink {one}"),
        9 => format!("readlink -f {one}"),
        10 => format!("find {one} | sort"),
        11 => format!("cp -a {one} {two}"),
        12 => format!("mv {one} {two}"),
        13 => format!("ln -sfn /app/{one} {two}"),
        14 => format!("ln -sfn {one} /l{}; cat /l0 /l1/a; ls /l1/", random.below(2)),
        15 => format!("ln {one} {two}"),
        16 => format!("rm -rf {one}"),
        17 => format!("mkdir -p {one}"),
        18 => format!("echo {} > {one}", random.below(100)),
        19 => format!("echo {} >> {one}", random.below(100)),
        20 => format!("chmod {} {one}", random.pick(&["700", "711"])),
        21 => format!("(cd {one} && cat a ../b; pwd)"),
        22 => format!("for f in {one}/*; do echo $f; done"),
        23 => format!("if [ -f {one} ]; then cat {two}; fi"),
        24 => format!("echo 'cat {one}' > /s; sh /s"),
        25 => format!("exec 3< {one}; cat /proc/self/fd/3 /dev/fd/3 /proc/self/fd/3/a; exec 3<&-"),
        26 => format!(
            "printf '#!/app/{one}\\n' > /i; cp /tool {two}; chmod 755 /i; /i list {one} | cut -d' ' -f 1-4"
        ),
        27 => format!("/tool list {one} | cut -d' ' -f 1-4,7-"),
        28 => format!("mkdir /m; mv /m {one}; cp {two} {one}/x; mv {one} /n; cat /n/x; rm -r /n"),
        _ => format!("rmdir {one}"),
    }
}

fn command(random: &mut Random) -> String {
    let lines: Vec<String> = (0..1 + random.below(6)).map(|_| line(random)).collect();
    // Each line in a subshell, so that a shell that gives up does so there.
    lines.iter().map(|line| format!("( {line} )")).collect::<Vec<_>>().join("; ")
}

fn dockerfile(random: &mut Random) -> String {
    let mut text = "FROM busybox AS tree\nCOPY --from=tools tool /tool\nWORKDIR /app\nCOPY . .\n".to_owned();
    for stage in 0..STAGES {
        let command = command(random);
        let _ = write!(text, "FROM tree AS s{stage}\nRUN exec > /log 2>&1; {command}; true\n");
    }
    text.push_str("FROM scratch\n");
    for stage in 0..STAGES {
        let _ =
            write!(text, "COPY --from=s{stage} /app /s{stage}/app\nCOPY --from=s{stage} /log /s{stage}/\n");
    }
    text
}

/// Every path with all that a layer says of it, but for times.
fn listing(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let stat = std::fs::symlink_metadata(&path).unwrap();
            let mode = stat.permissions().mode();
            let what = if stat.is_dir() {
                todo.push(path.clone());
                String::new()
            } else if stat.is_symlink() {
                std::fs::read_link(&path).unwrap().display().to_string()
            } else {
                let bytes = std::fs::read(&path).unwrap();
                if bytes.len() > 4096 {
                    bytes.len().to_string()
                } else {
                    String::from_utf8_lossy(&bytes).into()
                }
            };
            let name = path.strip_prefix(root).unwrap().display().to_string();
            found.insert(name, format!("{mode:o} {what}"));
        }
    }
    found
}

/// Which of the stages' commands ran.
fn ran(output: &str) -> [bool; STAGES] {
    std::array::from_fn(|stage| {
        let head = output.lines().find(|line| line.starts_with('#') && line.contains(&format!("[s{stage} ")));
        let number = head.and_then(|line| line.split(' ').next()).unwrap_or_else(|| panic!("{output}"));
        !output.lines().any(|line| line == format!("{number} CACHED"))
    })
}

#[test]
#[expect(clippy::print_stdout, reason = "how much was kept is what a long run is for")]
fn what_is_kept_is_what_a_fresh_run_gives() {
    let (mut kept, mut needless, mut all) = (0, 0, 0);
    rounds(1, 4, |seed| {
        let mut random = Random::new(seed);
        let space = TestSpace::new();
        let tool = tool(&space);
        let tools = space.path("tools");
        std::fs::create_dir(&tools).unwrap();
        std::fs::rename(tool, tools.join("tool")).unwrap();
        let first: Vec<String> = (0..40).map(|_| edit(&mut random)).collect();
        let shell = |lines: &[String]| {
            let mut sh = std::process::Command::new("sh");
            run(sh.args(["-c", &format!("{}; true", lines.join("; "))]).current_dir(space.path("context")))
        };
        let text = dockerfile(&mut random);
        space.write("Dockerfile", &text);
        shell(&first);
        let build = |strategy: &str| {
            let out = space.path(strategy);
            let _ = std::fs::remove_dir_all(&out);
            let words = ["build", "--progress", "plain", "--strategy", strategy, "-f", "Dockerfile"];
            let outcome = space.dbuild(words).args(["--build-context", "tools=tools", "-o"]);
            let outcome = outcome.args([strategy, "context"]).run().expect_ok();
            (ran(&outcome.stderr), listing(&out))
        };
        let mut before: Vec<BTreeMap<String, String>> = vec![build("traced").1, build("output").1];
        for number in 0..EDITS {
            let edited = edit(&mut random);
            shell(std::slice::from_ref(&edited));
            let ((ran_traced, traced), (ran_fresh, fresh)) = (build("traced"), build("output"));
            for stage in 0..STAGES {
                let of = |files: &BTreeMap<String, String>| {
                    let prefix = format!("s{stage}/");
                    let own = files.iter().filter(|(path, _)| path.starts_with(&prefix));
                    own.map(|(path, what)| format!("{path} {what}")).collect::<Vec<_>>()
                };
                let (traced, fresh) = (of(&traced), of(&fresh));
                assert_eq!(
                    traced, fresh,
                    "seed {seed}, stage {stage}, after edit {number} `{edited}`, ran: {}\n{first:?}\n{text}",
                    ran_traced[stage]
                );
                if ran_fresh[stage] {
                    all += 1;
                    kept += usize::from(!ran_traced[stage]);
                    let was = of(&before[1]).iter().any(|line| line.starts_with(&format!("s{stage}/log")))
                        && of(&before[1]) == fresh;
                    needless += usize::from(ran_traced[stage] && was);
                }
            }
            before = vec![traced, fresh];
        }
    });
    println!("{kept} of {all} runs were not needed and not made; {needless} gave nothing new");
    assert!(kept > 0, "nothing was ever kept");
}
