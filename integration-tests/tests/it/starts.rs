//! The verdict of `dbuild check IMAGE` beside what the image does when it is run.
//!
//! The bar: no image that starts is said not to start. What is missed is listed, so that it can
//! only become less. The images are those of `fixtures/starts` (small ones, made to mislead), of
//! the tutorials, the lessons and the conformance cases. A run takes a part of them by their
//! position; `DBUILD_STARTS=all` takes all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use dbuild_integration_tests::{Bases, TestSpace, workspace};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

/// What still runs after this is a server.
const BOUND: Duration = Duration::from_secs(5);
/// What ends itself when it is asked to, does it within this.
const GRACE: Duration = Duration::from_secs(5);
/// One image of so many of a kind is looked at, unless all are asked for.
const ONE_OF: usize = 4;
/// Images that do not start although nothing is said, and why that is not seen.
const MISSES: [(&str, &str); 4] = [
    ("ld-preload", "a program that was linked without its library is damaged in a way of its own"),
    ("ld-noversion-lib", "a library without versions is taken for one that has them all"),
    ("n-prefix-lib", "an installation's own directory of modules is not the same for each build of node"),
    ("sf-bb-name", "busybox goes by the name by which it is called"),
];

/// An image of `fixtures/starts`.
#[derive(Deserialize)]
struct Variant {
    name: String,
    dockerfile: Vec<String>,
    #[serde(default)]
    files: BTreeMap<String, Content>,
}

#[derive(Deserialize)]
struct Content {
    text: String,
    mode: Option<String>,
}

/// A build, with the words after `dbuild build`.
struct Image {
    name: String,
    words: Vec<String>,
    dir: PathBuf,
    bound: Duration,
}

/// What became of an image.
enum Outcome {
    Runs,
    Ends(Option<i32>, String),
}

impl Outcome {
    fn is_start(&self) -> bool {
        matches!(self, Self::Runs | Self::Ends(Some(0), _))
    }

    /// It did not come so far that it could fail for reasons of its own.
    fn is_no_start(&self) -> bool {
        let words = [
            "ModuleNotFoundError",
            "ImportError",
            "Cannot find module",
            "MODULE_NOT_FOUND",
            "shared librar",
            "not found",
            "No such file",
            "No module named",
            "ermission denied",
            "xec format",
            "no such file",
        ];
        match self {
            Self::Ends(Some(126 | 127), _) => true,
            Self::Ends(Some(0), _) | Self::Runs => false,
            Self::Ends(_, said) => words.iter().any(|word| said.contains(word)),
        }
    }
}

/// The verdicts that did not agree with what happened.
#[derive(Default)]
struct Judged {
    images: usize,
    unbuilt: Vec<String>,
    false_alarms: Vec<String>,
    warnings: usize,
    unknown: usize,
    alarms: usize,
    misses: Vec<String>,
}

/// Whether all images are looked at.
fn is_all() -> bool {
    std::env::var("DBUILD_STARTS").is_ok_and(|value| value == "all")
}

/// Every `ONE_OF`th, or all.
fn some_of<T>(all: Vec<T>) -> Vec<T> {
    let step = if is_all() { 1 } else { ONE_OF };
    all.into_iter().step_by(step).collect()
}

fn variants(space: &TestSpace) -> Vec<Image> {
    let dir = workspace().join("fixtures/starts");
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    files.sort();
    let all = files.iter().flat_map(|file| {
        serde_json::from_str::<Vec<Variant>>(&fs::read_to_string(file).unwrap()).expect("a list of images")
    });
    some_of(all.collect())
        .into_iter()
        .map(|variant| {
            let at = |path: &str| format!("{}/{path}", variant.name);
            space.write(at("Dockerfile"), variant.dockerfile.join("\n") + "\n");
            fs::create_dir_all(space.path(at("context"))).unwrap();
            for (path, Content { text, mode }) in &variant.files {
                let file = space.write(at(&format!("context/{path}")), text);
                let mode = mode.as_ref().map_or(0o644, |mode| u32::from_str_radix(mode, 8).unwrap());
                fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
            }
            let dir = space.path(&variant.name);
            let words = ["-f", "Dockerfile", "context"].map(str::to_owned).to_vec();
            Image { name: variant.name, words, dir, bound: BOUND }
        })
        .collect()
}

/// The cases that give an image.
fn cases(space: &TestSpace) -> Vec<Image> {
    let dir = workspace().join("fixtures/cases");
    let all = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> = all.filter(|path| path.join("expect.txt").exists()).collect();
    all.sort();
    some_of(all)
        .into_iter()
        .map(|case| {
            let name = case.file_name().unwrap().to_string_lossy().into_owned();
            let at = space.path("cases").join(&name);
            fs::create_dir_all(at.join("context")).unwrap();
            let prepare = "umask 022; if [ -d \"$1/context\" ]; then cp -a \"$1/context/.\" .; fi; \
                           if [ -f \"$1/prepare.sh\" ]; then . \"$1/prepare.sh\"; fi";
            let made = Command::new("sh")
                .args(["-euc", prepare, "sh"])
                .arg(&case)
                .current_dir(at.join("context"))
                .output();
            assert!(made.is_ok_and(|made| made.status.success()), "{name}");
            fs::copy(case.join("Dockerfile"), at.join("Dockerfile")).unwrap();
            let flags = fs::read_to_string(case.join("flags.txt")).unwrap_or_default();
            let flags =
                flags.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned);
            let words = flags.chain(["-f", "Dockerfile", "context"].map(str::to_owned)).collect();
            // Most are a shell, which ends at once.
            Image { name, words, dir: at, bound: BOUND }
        })
        .collect()
}

fn tutorials() -> Vec<Image> {
    let mut all = Vec::new();
    for folder in fs::read_dir(workspace().join("fixtures/tutorials")).unwrap() {
        let folder = folder.unwrap().path();
        for file in fs::read_dir(&folder).into_iter().flatten() {
            let file = file.unwrap().file_name().to_string_lossy().into_owned();
            if file.starts_with("Dockerfile") {
                let folder_name = folder.file_name().unwrap().to_string_lossy().into_owned();
                let name = format!("{folder_name}-{}", file.to_lowercase().replace('.', "-"));
                let words = vec!["-f".to_owned(), file, ".".to_owned()];
                all.push(Image { name, words, dir: folder.clone(), bound: BOUND });
            }
        }
    }
    all
}

fn lessons(space: &TestSpace) -> Vec<Image> {
    let count = fs::read_dir(workspace().join("fixtures/lessons")).unwrap().count();
    (1..=count)
        .map(|number| {
            let name = format!("lesson-{number}");
            space.dbuild(["demo", "--lesson", &number.to_string(), &name]).run().expect_ok();
            Image { words: vec![".".to_owned()], dir: space.path(&name), name, bound: BOUND }
        })
        .collect()
}

/// Runs an image's own command, for a while.
fn outcome(space: &TestSpace, image: &Image) -> Outcome {
    let log = space.path(format!("{}.log", image.name));
    let mut command = space.dbuild(["run", &image.name]).into_command();
    let file = File::create(&log).unwrap();
    command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
    let mut child = command.spawn().expect("dbuild can be started");
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait().expect("a child can be waited for")));
    if let Ok(status) = ended.recv_timeout(image.bound) {
        let said = fs::read(&log).unwrap_or_default();
        return Outcome::Ends(status.code(), String::from_utf8_lossy(&said).into_owned());
    }
    let _ = kill_process(pid, Signal::TERM);
    if ended.recv_timeout(GRACE).is_err() {
        let _ = kill_process(pid, Signal::KILL);
        let _ = ended.recv();
    }
    Outcome::Runs
}

fn judge(space: &TestSpace, image: &Image, judged: &Mutex<Judged>) {
    let built = space
        .dbuild(["build", "--progress", "plain", "-t", &image.name])
        .args(&image.words)
        .current_dir(&image.dir)
        .run();
    if built.code() != Some(0) {
        judged.lock().unwrap().unbuilt.push(image.name.clone());
        return;
    }
    let said = space.dbuild(["check", "--format", "json", &format!("{}:latest", image.name)]).run();
    let said: serde_json::Value = serde_json::from_str(&said.stdout).expect("JSON");
    let verdict = said["verdict"].as_str().expect("a verdict").to_owned();
    if verdict == "no_command" {
        return;
    }
    let outcome = outcome(space, image);
    let mut judged = judged.lock().unwrap();
    judged.images += 1;
    match verdict.as_str() {
        "will_not_start" if outcome.is_start() => {
            judged.false_alarms.push(format!("{}: {}", image.name, said["findings"]));
        }
        "will_not_start" => judged.alarms += 1,
        "may_fail" if outcome.is_start() => judged.warnings += 1,
        "unknown" => judged.unknown += 1,
        "starts" if outcome.is_no_start() => judged.misses.push(image.name.clone()),
        _ => {}
    }
}

/// Looks at all of them, some at once.
#[track_caller]
fn judge_all(space: &TestSpace, images: Vec<Image>, may_be_unbuilt: usize) {
    let judged = Mutex::new(Judged::default());
    let left = Mutex::new(images.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let image = left.lock().unwrap().next();
                    match image {
                        Some(image) => judge(space, &image, &judged),
                        None => return,
                    }
                }
            });
        }
    });
    let judged = judged.into_inner().unwrap();
    let _ = writeln!(
        std::io::stderr(),
        "{} images run: {} false alarms, {} alarms, {} warnings of images that start, {} unknown, missed: {:?}",
        judged.images,
        judged.false_alarms.len(),
        judged.alarms,
        judged.warnings,
        judged.unknown,
        judged.misses
    );
    assert!(
        judged.false_alarms.is_empty(),
        "said not to start, and they do:\n{}",
        judged.false_alarms.join("\n")
    );
    let new = judged.misses.iter().filter(|name| !MISSES.iter().any(|(known, _)| known == name));
    assert_eq!(new.collect::<Vec<_>>(), Vec::<&String>::new(), "nothing is said, and they do not start");
    assert!(judged.unbuilt.len() <= may_be_unbuilt, "not built: {:?}", judged.unbuilt);
    assert!(judged.images > 0);
}

#[test]
fn images_made_to_mislead() {
    let space = TestSpace::with_bases(Bases::All);
    let images = variants(&space);
    judge_all(&space, images, 0);
}

#[test]
fn images_of_the_cases() {
    let space = TestSpace::with_bases(Bases::Small);
    let images = cases(&space);
    judge_all(&space, images, 12);
}

#[test]
fn images_of_the_tutorials_and_lessons() {
    let space = TestSpace::with_bases(Bases::All);
    let mut images = tutorials();
    images.extend(lessons(&space));
    judge_all(&space, images, 3);
}

/// Debian's interpreter at another place than it was built for: what was said wrongly of four
/// tutorials.
#[test]
fn a_debian_interpreter_finds_its_library_from_anywhere() {
    let space = TestSpace::with_bases(Bases::All);
    let moved = "FROM python:3.11-slim\nRUN mv /usr/local/lib/python3.11 /usr/lib/python3.11\n";
    let command = "CMD [\"python\", \"-c\", \"import json; print(json.dumps(1))\"]\n";
    space.build(&format!("{moved}{command}"), [""; 0]).run().expect_ok().stderr_has(&["\nstarts: python "]);
    assert_eq!(space.run_in("app", &[]), "1\n");
    // And where it is nowhere, that is still said.
    let gone =
        moved.replace("mv /usr/local/lib/python3.11 /usr/lib/python3.11", "rm -r /usr/local/lib/python3.11");
    space
        .build(&format!("{gone}{command}"), [""; 0])
        .run()
        .expect_ok()
        .stderr_has(&["will not start: ", "has no library"]);
    assert_ne!(space.dbuild(["run", "app"]).run().code(), Some(0));
}

#[test]
fn every_known_miss_is_an_image() {
    let dir = workspace().join("fixtures");
    let all = |name: &Path| fs::read_to_string(name).unwrap_or_default();
    let texts: String =
        fs::read_dir(dir.join("starts")).unwrap().map(|entry| all(&entry.unwrap().path())).collect();
    for (name, _) in MISSES {
        let is_variant = texts.contains(&format!("\"name\": \"{name}\""));
        assert!(is_variant || dir.join("cases").join(name).is_dir(), "{name}");
    }
}
