//! Each COPY and each bind mount of a Dockerfile gives what it gives alone in a build of its own,
//! whatever links the context has. The same property is tried many times faster on the libraries,
//! in `crates/layer/tests/it/alone.rs`.
//!
//! `DBUILD_PROPERTY_SECONDS` says how long to go on, `DBUILD_PROPERTY_SEED` where to begin; a
//! failure names its seed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use dbuild_integration_tests::TestSpace;

/// Numbers that are the same for the same seed (splitmix64).
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end.max(1) as u64) as usize
    }

    fn pick<'a>(&mut self, items: &[&'a str]) -> &'a str {
        items[self.below(items.len())]
    }

    fn path(&mut self, names: &[&str]) -> String {
        (0..=self.below(3)).map(|_| self.pick(names)).collect::<Vec<_>>().join("/")
    }
}

const NAMES: &[&str] = &["a", "b", "c", "[b]"];
const PATTERNS: &[&str] = &["a", "b", "c", "*", "?", "**", "[ab]", "a*"];

fn make_context(rng: &mut Rng, dir: &Path) {
    for _ in 0..6 + rng.below(10) {
        let path = dir.join(rng.path(NAMES));
        let parent = path.parent().unwrap();
        if fs::create_dir_all(parent).is_err() || !parent.canonicalize().is_ok_and(|real| real == parent) {
            continue;
        }
        let target = rng.path(NAMES);
        // What has no place is left out.
        let _ = match rng.below(8) {
            0..=3 if fs::symlink_metadata(&path).is_err() => {
                fs::write(&path, path.as_os_str().as_encoded_bytes())
            }
            4 => fs::hard_link(dir.join(target), &path),
            _ => symlink(format!("{}{target}", rng.pick(&["", "/", "../", "../../", "./", "c/../"])), &path),
        };
    }
    let lines: Vec<String> =
        (0..rng.below(3)).map(|_| format!("{}{}", rng.pick(&["", "", "!"]), rng.path(PATTERNS))).collect();
    fs::write(dir.join(".dockerignore"), lines.join("\n")).unwrap();
}

/// An instruction that selects from the context, as a stage that has what it gives in `/out`.
fn stage(rng: &mut Rng, number: usize) -> String {
    let names = if rng.below(2) == 0 { NAMES } else { PATTERNS };
    let path = rng.path(names).replace("[b]", "[[]b]");
    let line = match rng.below(6) {
        0 => {
            let path = rng.path(NAMES);
            return format!("FROM busybox AS s{number}\nRUN --mount=source={path},target=/m cp -a /m /out\n");
        }
        1 => format!("COPY --parents {path} /out/"),
        2 => format!("COPY --parents {}/./{path} /out/", rng.pick(NAMES)),
        3 => format!("COPY --exclude={} {path} /out/", rng.path(PATTERNS)),
        _ => format!("COPY {path} /out/"),
    };
    // A wildcard may match nothing.
    format!("FROM scratch AS s{number}\nWORKDIR /out\n{line}\n")
}

/// What stands below a directory, with all that COPY keeps.
fn listed(dir: &Path, below: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir.join(below)).into_iter().flatten() {
        let path = below.join(entry.unwrap().file_name());
        let full = dir.join(&path);
        let meta = fs::symlink_metadata(&full).unwrap();
        let what = if meta.is_dir() {
            listed(dir, &path, found);
            String::new()
        } else if meta.is_symlink() {
            format!("-> {}", fs::read_link(&full).unwrap().display())
        } else {
            format!("{} {:?}", meta.mtime(), fs::read(&full).unwrap())
        };
        found.insert(path.display().to_string(), format!("{:o} {what}", meta.mode()));
    }
}

/// Builds stages and gives what each has in `/out`, or the error.
fn built(
    space: &TestSpace,
    store: &str,
    stages: &[(usize, &String)],
) -> Result<Vec<BTreeMap<String, String>>, String> {
    let mut text: String = stages.iter().map(|(_, stage)| stage.as_str()).collect();
    text.push_str("FROM scratch\n");
    for (number, _) in stages {
        text.push_str(&format!("COPY --from=s{number} /out /{number}\n"));
    }
    let dockerfile = space.write("Dockerfile", text);
    let out = space.path("out");
    let _ = fs::remove_dir_all(&out);
    let outcome = space
        .dbuild(["build", "--progress", "plain", "-f"])
        .args([&dockerfile])
        .args(["-o", "out", "context"])
        .env("DBUILD_STORE", space.path(store))
        .run();
    if outcome.code() != Some(0) {
        let error = outcome.stderr.lines().find(|line| line.starts_with("error"));
        return Err(error.unwrap_or(&outcome.stderr).to_owned());
    }
    let lists = stages.iter().map(|(number, _)| {
        let mut found = BTreeMap::new();
        listed(&out.join(number.to_string()), Path::new(""), &mut found);
        found
    });
    Ok(lists.collect())
}

/// Tries one context; gives how many of its instructions succeed.
fn try_one(seed: u64) -> usize {
    let mut rng = Rng(seed);
    let space = TestSpace::new();
    make_context(&mut rng, &space.path("context").canonicalize().unwrap());
    let stages: Vec<String> = (0..4).map(|number| stage(&mut rng, number)).collect();
    let said = || format!("DBUILD_PROPERTY_SEED={seed}:\n{}", stages.concat());
    let (mut good, mut bad, mut expected) = (Vec::new(), Vec::new(), Vec::new());
    for stage in stages.iter().enumerate() {
        match built(&space, "alone", &[stage]) {
            Ok(lists) => {
                expected.extend(lists);
                good.push(stage);
            }
            Err(error) => bad.push((stage, error)),
        }
    }
    if !good.is_empty() {
        assert_eq!(built(&space, "together", &good), Ok(expected), "{}", said());
    }
    for (stage, error) in bad {
        let with = [&good[..], &[stage]].concat();
        assert_eq!(built(&space, "together", &with), Err(error), "{}", said());
    }
    good.len()
}

#[test]
fn each_instruction_gives_what_it_gives_alone() {
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = variable("DBUILD_PROPERTY_SECONDS");
    let now = || SystemTime::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_nanos() as u64);
    let seed = variable("DBUILD_PROPERTY_SEED").unwrap_or_else(|| seconds.map_or(1, |_| now()));
    let began = Instant::now();
    let (mut count, mut good) = (0, 0);
    while seconds.map_or(count < 8, |seconds| began.elapsed() < Duration::from_secs(seconds)) {
        good += try_one(seed.wrapping_add(count));
        count += 1;
    }
    assert!(seconds.is_some() || good > 8, "only {good} of the generated instructions are right");
}

/// The case from which this came.
#[test]
fn a_link_in_a_directory_that_is_copied_whole_leads_out_of_it() {
    let space = TestSpace::offline();
    for (path, text) in [("pkg/main", "m"), ("shared/b", "b"), ("shared/c", "c")] {
        space.write(format!("context/{path}"), text);
    }
    symlink("../shared", space.path("context/pkg/shared")).unwrap();
    let dockerfile = "FROM scratch\nCOPY pkg /src/\nCOPY shared/b /first/\nCOPY pkg/shared/ /x/\n";
    space.build(dockerfile, ["-o", "out"]).run().expect_ok();
    assert_eq!((space.read("out/x/b"), space.read("out/x/c")), ("b".to_owned(), "c".to_owned()));
    let dockerfile = "FROM scratch\nCOPY pkg /src/\nCOPY pkg/* /x/\n";
    space.build(dockerfile, ["-o", "other"]).run().expect_ok();
    assert_eq!(space.read("other/x/c"), "c");
}
