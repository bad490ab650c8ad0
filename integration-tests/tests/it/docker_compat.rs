//! Each word that Docker, buildx or BuildKit knows is done, or refused or warned of by its name:
//! the program is held against the table from which the lists of `docs/reference/compatibility.md`
//! are written.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use dbuild_integration_tests::{Dbuild, Outcome, TestSpace, workspace};

#[path = "../../../crates/dbuild/src/docker_compat/table/mod.rs"]
mod table;

use table::{Entry, Kind, Verdict, entries};

/// Set to write the section of the document anew.
const WRITE: &str = "DBUILD_WRITE_DOCS";
const BEGIN: &str = "<!-- The lists below are written from crates/dbuild/src/docker_compat/table by a test: \
                     DBUILD_WRITE_DOCS=1 -->\n";
const END: &str = "<!-- The end of the lists. -->\n";
const DOCKERFILE: &str = "FROM scratch\nCOPY Dockerfile /\n";

#[test]
fn commands_and_flags_of_all_commands() {
    walk(|entry| entry.kind == Kind::Command || entry.kind == Kind::Flag && entry.owner != "build");
}

#[test]
fn flags_of_a_build() {
    walk(|entry| entry.kind == Kind::Flag && entry.owner == "build");
}

#[test]
fn keys_and_values() {
    walk(|entry| entry.kind == Kind::Key);
}

#[test]
fn build_arguments_and_variables() {
    walk(|entry| matches!(entry.kind, Kind::BuildArgument | Kind::Variable));
}

#[test]
fn words_of_a_dockerfile() {
    walk(|entry| entry.kind == Kind::Dockerfile);
}

/// Tries rows with the program, and tells all that do not hold.
#[track_caller]
fn walk(is_of: impl Fn(&Entry) -> bool) {
    let space = TestSpace::offline();
    let mut wrong = String::new();
    let mut count = 0;
    for entry in entries().filter(|entry| is_of(entry)) {
        count += 1;
        let outcome = call(&space, entry).run();
        if let Err(problem) = judge(entry, &outcome) {
            writeln!(wrong, "{}: {problem}\n{outcome}", entry.name()).unwrap();
        }
    }
    assert!(count > 10, "the table has such rows");
    assert!(wrong.is_empty(), "{wrong}");
}

fn call(space: &TestSpace, entry: &Entry) -> Dbuild {
    let one = || entry.example.first().copied().unwrap_or_default();
    match entry.kind {
        Kind::Command => {
            space.write("context/Dockerfile", DOCKERFILE);
            match entry.example {
                [] => space.dbuild(entry.word.split(' ').chain(["--all", "x"])),
                words => space.dbuild(words),
            }
        }
        Kind::Flag if entry.owner != "build" => space.dbuild(entry.example),
        Kind::Flag | Kind::Key => match entry.example {
            [] => space.build(DOCKERFILE, [entry.word]),
            words => space.build(DOCKERFILE, words),
        },
        Kind::BuildArgument => space.build(DOCKERFILE, ["--build-arg", &format!("{}={}", entry.word, one())]),
        Kind::Variable => space.build(DOCKERFILE, [""; 0]).env(entry.word, one()),
        Kind::Dockerfile => space.build(entry.text, [""; 0]),
    }
}

/// Refused: with its sentence, as wrong usage. Warned: with its sentence, and it goes on. Else it
/// is accepted, and no word is lost about it.
fn judge(entry: &Entry, outcome: &Outcome) -> Result<(), String> {
    let says = outcome.stderr.contains(entry.sentence) && !entry.sentence.is_empty();
    // The flag of a key may be named with the whole value, and a row's word may stand for many.
    let name = entry.word.trim_start_matches('-').split(['=', '/', ' ']).next().unwrap_or_default();
    let names = outcome.stderr.contains(name) || entry.kind == Kind::Key;
    let usage = if entry.kind == Kind::Dockerfile { 1 } else { 2 };
    let is_accepted = outcome.code() != Some(2) && outcome.code().is_some();
    let is_told = outcome.stderr.contains(&format!("`{}`", entry.name()));
    match entry.verdict {
        Verdict::Refused if outcome.code() != Some(usage) => Err("it is not refused".to_owned()),
        Verdict::Refused if !says || !names => Err("it is not refused in its words".to_owned()),
        Verdict::Warned if outcome.code() != Some(0) => Err("the build does not go on".to_owned()),
        Verdict::Warned if !says || !names || !outcome.stderr.contains("warning: ") => {
            Err("it is not warned of in its words".to_owned())
        }
        Verdict::Silent if !is_accepted || is_told => Err("it is not accepted silently".to_owned()),
        Verdict::Done if !is_accepted || is_told => Err("it is not accepted".to_owned()),
        _ => Ok(()),
    }
}

#[test]
fn commands_have_dockers_names_too() {
    let space = TestSpace::new();
    space.write("context/Dockerfile", "FROM busybox\nRUN echo content > /file\n");
    let call = |line: &str| space.dbuild(line.split(' ')).run().expect_ok();
    call("buildx build -t app context");
    call("image tag app other:2");
    assert_eq!(call("image ls -q").stdout, call("images -q").stdout);
    assert_eq!(call("buildx du").stdout, call("cache du").stdout);
    call("image rm other:2").stdout_has(&["removed other:2"]);
    call("builder prune -f");
    call("help image ls").stdout_has(&["--filter"]);
    assert_eq!(call("version").stdout, call("buildx version").stdout);
    let version = call("version --format {{.Client.Version}}").stdout;
    assert_eq!(call("version").stdout, format!("dbuild {version}"));
    // A script goes on: there is one builder, which need not be made.
    call("buildx create --use --name x").stderr_has(&["warning: `buildx create`", "nothing is done"]);
    // A link of that name is what a script calls.
    std::os::unix::fs::symlink(dbuild_integration_tests::binary(), space.path("docker")).unwrap();
    let store = space.path("store");
    let listed = space.shell("", &format!("./docker --store {} image ls -q", store.display()));
    assert_eq!(listed.expect_ok().stdout, call("images -q").stdout);
}

#[test]
fn images_are_listed_as_scripts_ask() {
    let space = TestSpace::new();
    let dockerfile = "FROM busybox\nLABEL tier=web\nENV A=1\nCMD [\"sh\"]\n";
    space.build(dockerfile, ["-t", "web:1", "-t", "localhost:5000/team/app"]).run().expect_ok();
    let call = |words: &[&str]| space.dbuild(words).run().expect_ok().stdout;
    let id = call(&["images", "-q", "web"]);
    assert_eq!(id.trim().len(), 12, "{id}");
    let whole = call(&["inspect", "-f", "{{.Id}}", "web:1"]);
    assert!(whole.starts_with(&format!("sha256:{}", id.trim())), "{whole} {id}");
    assert_eq!(call(&["images", "-q", "--no-trunc", "web"]), whole);
    assert_eq!(call(&["images", "--format", "{{.Repository}}:{{.Tag}}", "-f", "reference=web"]), "web:1\n");
    assert_eq!(call(&["images", "--format", "{{.Repository}}", "*/team/*"]), "localhost:5000/team/app\n");
    assert_eq!(call(&["images", "-q", "-f", "label=tier=db"]), "");
    assert_eq!(call(&["images", "-q", "-f", "label=tier"]).lines().count(), 3);
    assert_eq!(call(&["images", "-q", "-f", "dangling=true"]), "");
    let table = call(&["images", "--format", "table {{.Repository}}\\t{{.Tag}}", "web"]);
    assert_eq!(table, "REPOSITORY   TAG\nweb          1\n");
    assert_eq!(
        call(&["inspect", "-f", "{{json .Config.Env}} {{.Os}}", "--type", "image", "web:1"]).trim(),
        { "[\"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\",\"A=1\"] linux" }
    );
    space.dbuild(["images", "--format", "{{.Nmae}}"]).run().expect_code(2).stderr_has(&[
        "there is no field `.Nmae`",
        "there are CreatedAt, CreatedSince, Digest, ID, Platform, Repository, Size, Tag",
    ]);
    space.dbuild(["images", "-f", "nmae=x"]).run().expect_code(2).stderr_has(&["there is no filter `nmae`"]);
    space.dbuild(["inspect", "--type", "volume", "web:1"]).run().expect_code(2).stderr_has(&["only images"]);
}

#[test]
fn shells_and_man_know_the_commands() {
    let space = TestSpace::offline();
    for (shell, word) in [("bash", "complete -F"), ("zsh", "#compdef dbuild"), ("fish", "complete -c dbuild")]
    {
        space.dbuild(["completion", shell]).run().expect_ok().stdout_has(&[word, "prune"]);
    }
    let script = space.dbuild(["completion", "bash"]).run().expect_ok().stdout;
    space.write("completion.bash", script);
    // The shell reads it, and completes a command by it.
    let line = "bash -c '. ./completion.bash; COMP_WORDS=(dbuild bui); COMP_CWORD=1; \
                _dbuild dbuild bui dbuild; echo ${COMPREPLY[@]}'";
    assert_eq!(space.shell("", line).expect_ok().stdout, "build\n");
    space.dbuild(["man", "pages"]).current_dir(space.root()).run().expect_ok();
    assert!(space.read("pages/dbuild-cache-prune.1").contains("keep"), "a page for each command");
    assert!(space.read("pages/dbuild.1").contains("dbuild\\-build"));
}

/// What is done is shown by a test.
#[test]
fn each_proof_is_there() {
    let mut missing = BTreeSet::new();
    let dirs = ["integration-tests/tests/it", "crates/registry/src"].map(|dir| workspace().join(dir));
    for entry in entries() {
        let is_there = match (entry.proof, entry.proof.split_once(": ")) {
            ("", _) => entry.verdict != Verdict::Done,
            (case, None) => workspace().join(case).is_dir(),
            (_, Some((file, name))) => dirs.iter().any(|dir| {
                std::fs::read_to_string(dir.join(file))
                    .is_ok_and(|text| text.contains(&format!("fn {name}(")))
            }),
        };
        if !is_there {
            missing.insert(format!("{}: `{}`", entry.name(), entry.proof));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn the_document_has_what_the_table_has() {
    let path = workspace().join("docs/reference/compatibility.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the document has the section");
    let (section, after) = rest.split_once(END).expect("the section has an end");
    let lists = lists();
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{lists}{END}{after}")).unwrap();
    } else {
        assert!(section == lists, "run this test with {WRITE}=1, and look at {}", shown(&path));
    }
}

fn shown(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn lists() -> String {
    let kinds = [
        (Kind::Command, "Commands"),
        (Kind::Flag, "Flags"),
        (Kind::Key, "Keys and values of flags"),
        (Kind::BuildArgument, "Build arguments"),
        (Kind::Variable, "Variables"),
        (Kind::Dockerfile, "Dockerfile"),
    ];
    let mut text = String::new();
    for (kind, title) in kinds {
        write!(text, "\n### {title}\n").unwrap();
        let of = |verdict| entries().filter(move |entry| entry.kind == kind && entry.verdict == verdict);
        for (verdict, heading) in
            [(Verdict::Refused, "Refused"), (Verdict::Warned, "Warned of, and nothing is done")]
        {
            list(&mut text, heading, &grouped(of(verdict)), true);
        }
        list(&mut text, "Accepted silently, since nothing is lost", &grouped(of(Verdict::Silent)), false);
        list(&mut text, "Done", &grouped(of(Verdict::Done)), false);
    }
    text.push('\n');
    text
}

/// Words of which the same is said, in the order of the first.
fn grouped(rows: impl Iterator<Item = &'static Entry>) -> Vec<(Vec<String>, &'static str, &'static str)> {
    let mut groups: Vec<(Vec<String>, &str, &str)> = Vec::new();
    for entry in rows {
        let hint = if entry.verdict == Verdict::Refused { entry.hint } else { "" };
        let word = format!("`{}`", entry.name());
        match groups.iter_mut().find(|(_, says, other)| (*says, *other) == (entry.sentence, hint)) {
            Some((words, ..)) => words.push(word),
            None => groups.push((vec![word], entry.sentence, hint)),
        }
    }
    groups
}

fn list(text: &mut String, heading: &str, groups: &[(Vec<String>, &str, &str)], one_each: bool) {
    if groups.is_empty() {
        return;
    }
    if one_each {
        write!(text, "\n{heading}:\n\n").unwrap();
        for (words, says, hint) in groups {
            let hint = if hint.is_empty() { String::new() } else { format!(" ({hint})") };
            text.push_str(&wrapped(&format!("- {}: {says}{hint}", words.join(", ")), "  "));
        }
        return;
    }
    let groups = groups.iter().map(|(words, says, _)| match *says {
        "" => words.join(", "),
        says => format!("{} ({says})", words.join(", ")),
    });
    write!(text, "\n{}", wrapped(&format!("{heading}: {}.", groups.collect::<Vec<_>>().join(" · ")), ""))
        .unwrap();
}

/// Cut at blanks, but for those between backticks.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut is_open = false;
    for word in text.split(' ') {
        match words.last_mut().filter(|_| is_open) {
            Some(last) => write!(last, " {word}").unwrap(),
            None => words.push(word.to_owned()),
        }
        is_open ^= word.matches('`').count() % 2 == 1;
    }
    words
}

/// At most 100 columns.
fn wrapped(text: &str, indent: &str) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for word in words(text) {
        if line.chars().count() + 1 + word.chars().count() > 100 {
            writeln!(lines, "{line}").unwrap();
            line = format!("{indent}{word}");
        } else {
            let blank = if line.is_empty() { "" } else { " " };
            write!(line, "{blank}{word}").unwrap();
        }
    }
    writeln!(lines, "{line}").unwrap();
    lines
}
