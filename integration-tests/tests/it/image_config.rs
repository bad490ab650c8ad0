//! What an image says of itself: its time, its platform, its index.

use std::path::Path;

use dbuild_integration_tests::{GitServer, TestSpace, WebFile, WebServer, run};
use serde_json::Value;

/// A member of an OCI layout.
fn blob(layout: &Path, digest: &Value) -> Value {
    let path = digest.as_str().expect("a digest").replace(':', "/");
    let bytes = std::fs::read(layout.join("blobs").join(path)).expect("the blob is there");
    serde_json::from_slice(&bytes).expect("the blob is JSON")
}

/// What `index.json` of a layout names.
fn top(layout: &Path) -> Value {
    let index: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    blob(layout, &index["manifests"][0]["digest"])
}

/// Builds a layout; gives the config of its only image.
fn config(space: &TestSpace, dockerfile: &str, args: &[&str]) -> Value {
    let layout = space.path("layout");
    let _ = std::fs::remove_dir_all(&layout);
    space.build(dockerfile, ["-q", "-o", "type=oci,tar=false,dest=layout"]).args(args).run().expect_ok();
    let manifest = top(&layout);
    blob(&layout, &manifest["config"]["digest"])
}

#[test]
fn an_image_is_as_old_as_its_base_where_it_adds_no_layer() {
    let space = TestSpace::new();
    space.write("context/f", "f");
    let base = config(&space, "FROM busybox\n", &[])["history"].clone();
    let base = base.as_array().unwrap().last().unwrap()["created"].as_str().unwrap().to_owned();
    let labelled = config(&space, "FROM busybox\nLABEL a=b\nCMD x\n", &[]);
    assert_eq!(labelled["created"], base.as_str());
    let times = |config: &Value| -> Vec<String> {
        let history = config["history"].as_array().unwrap();
        history.iter().map(|entry| entry["created"].as_str().unwrap_or("none").to_owned()).collect()
    };
    assert!(times(&labelled).iter().rev().take(2).all(|time| *time == base), "{labelled}");
    let copied = config(&space, "FROM busybox\nLABEL a=b\nCOPY f /\nCMD x\n", &[]);
    let [.., label, copy, cmd] = &times(&copied)[..] else { panic!("{copied}") };
    assert_eq!((label, copy == cmd, copied["created"] == copy.as_str()), (&base, true, true));
    assert!(*copy > base);
    // On scratch nothing is older than the first layer, and what has none has no time.
    let scratch = config(&space, "FROM scratch\nLABEL a=b\nCOPY f /\n", &[]);
    assert!(times(&scratch).iter().all(|time| scratch["created"] == time.as_str()), "{scratch}");
    assert_eq!(config(&space, "FROM scratch\nLABEL a=b\n", &[]).get("created"), None);
}

#[test]
fn the_time_of_an_image_can_stand_in_its_dockerfile() {
    let (space, server, git) = (TestSpace::offline(), WebServer::start(), TestSpace::offline());
    space.write("context/f", "f");
    let created = |dockerfile: &str, args: &[&str]| {
        config(&space, dockerfile, args)["created"].as_str().unwrap_or("none").to_owned()
    };
    let arg = "ARG SOURCE_DATE_EPOCH=1704067200\nFROM scratch\nCOPY f /\n";
    assert_eq!(created(arg, &[]), "2024-01-01T00:00:00Z");
    assert_eq!(created(arg, &["--build-arg", "SOURCE_DATE_EPOCH=60"]), "1970-01-01T00:01:00Z");
    assert_eq!(
        created("ARG Y=17\nARG SOURCE_DATE_EPOCH=${Y}04067200\nFROM scratch\nCOPY f /\n", &[]),
        "2024-01-01T00:00:00Z"
    );
    let of = |arg: &str, stage: &str| format!("ARG SOURCE_DATE_EPOCH={arg}\n{stage}FROM scratch\nCOPY f /\n");
    // A directory has no time, and then none is set.
    assert!(created(&of("context", ""), &[]).as_str() > "2026");
    let modified = "Sunday, 06-Nov-94 08:49:37 GMT";
    server.put("/a", WebFile::new("a").with("Last-Modified", modified));
    let stage = format!("FROM scratch AS Src\nADD {} /\n", server.url("/a"));
    assert_eq!(created(&of("src", &stage), &[]), "1994-11-06T08:49:37Z");
    let named = format!("where={}", server.url("/a"));
    assert_eq!(created(&of("where", ""), &["--build-context", &named]), "1994-11-06T08:49:37Z");
    let server = GitServer::start(&git.path("git"));
    let repository = server.repository("src");
    repository.commit(&[("f", "x"), ("Dockerfile", &of("context", ""))]);
    let time = repository.git(&["log", "-1", "--format=%ct"]);
    let time: i64 = time.trim().parse().unwrap();
    let layout = space.path("of-git");
    let url = format!("{}#main", server.url("src"));
    space.dbuild(["build", "-q", "-o", "type=oci,tar=false,dest=of-git", &url]).run().expect_ok();
    let found = blob(&layout, &top(&layout)["config"]["digest"])["created"].as_str().unwrap().to_owned();
    let expected = run(std::process::Command::new("date").args(["-u", "-d", &format!("@{time}"), "+%FT%TZ"]));
    assert_eq!(found, expected.expect_ok().stdout.trim());
}

#[test]
fn a_time_that_is_none_is_refused_where_it_stands() {
    let space = TestSpace::offline();
    let says = |dockerfile: &str, expected: &[&str]| {
        space.build(dockerfile, ["-q"]).run().expect_code(1).stderr_has(expected);
    };
    says(
        "ARG SOURCE_DATE_EPOCH=today\nFROM scratch\n",
        &["SOURCE_DATE_EPOCH=today is not a number", "Dockerfile:1:23", "`context`"],
    );
    says("ARG SOURCE_DATE_EPOCH=-1\nFROM scratch\n", &["SOURCE_DATE_EPOCH=-1 is not a number"]);
    says(
        "ARG SOURCE_DATE_EPOCH=a\nFROM scratch AS a\nWORKDIR /x\nFROM scratch\n",
        &["the stage `a` has no time for SOURCE_DATE_EPOCH", "one ADD of one URL or git repository"],
    );
}

/// The text stays in the config, and whatever starts there enters it clean.
#[test]
fn a_workdir_with_dots_is_entered_clean_everywhere() {
    let space = TestSpace::new();
    let dockerfile = "FROM busybox\nWORKDIR /srv/app/../data\nRUN touch made\nCMD [\"pwd\"]\n";
    let outcome = space.build(dockerfile, [""; 0]).run().expect_ok();
    outcome.lacks(&["will not start", "may fail"]);
    assert_eq!(space.run_in("app", &["pwd"]), "/srv/data\n");
    assert_eq!(space.run_in("app", &["ls"]), "made\n");
    assert_eq!(
        space.dbuild(["run", "-w", "/srv/x/../data", "app", "pwd"]).run().expect_ok().stdout,
        "/srv/data\n"
    );
    let shell = space.dbuild(["shell", "app"]).stdin("pwd\n").run().expect_ok();
    shell.stdout_has(&["/srv/data\n"]);
    space.dbuild(["check", "app"]).run().lacks(&["WORKDIR"]);
}

#[test]
fn an_image_is_labelled_with_the_platform_that_was_asked_for() {
    let space = TestSpace::new();
    let amd = "FROM --platform=linux/amd64 busybox\nLABEL a=b\n";
    assert_eq!(config(&space, amd, &["--platform", "linux/arm64"])["architecture"], "arm64");
    let layout = space.path("both");
    let both = ["-q", "--platform", "linux/amd64,linux/arm64", "-o", "type=oci,tar=false,dest=both"];
    space.build(amd, both).run().expect_ok();
    let index = top(&layout);
    let names: Vec<&str> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["platform"]["architecture"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["amd64", "arm64"]);
    // The image of another platform alone keeps its own label where none was asked for, with a
    // warning.
    space.write("context/f", "f");
    space
        .build("FROM scratch\nCOPY f /\n", ["-q", "--platform", "linux/riscv64", "-t", "other"])
        .run()
        .expect_ok();
    let outcome = space
        .build("FROM --platform=linux/s390x other\nLABEL a=b\n", ["-o", "type=oci,tar=false,dest=kept"])
        .run()
        .expect_ok();
    outcome.stderr_has(&["linux/riscv64, but linux/s390x was requested"]);
    let layout = space.path("kept");
    assert_eq!(blob(&layout, &top(&layout)["config"]["digest"])["architecture"], "riscv64");
}

#[test]
fn one_platform_can_be_an_index() {
    let space = TestSpace::offline();
    space.write("context/f", "f");
    let text = "FROM scratch\nCOPY f /\n";
    let noted = "type=oci,tar=false,dest=noted,annotation-index.k=v";
    let outcome = space.build(text, ["-q", "-o", noted]).run().expect_code(2);
    outcome.stderr_has(&["the annotation `k` is for an index", "BUILDKIT_MULTI_PLATFORM=1"]);
    let multi = ["-q", "--platform", "linux/arm64", "--build-arg", "BUILDKIT_MULTI_PLATFORM=1"];
    space
        .build(text, multi)
        .args(["-o", noted, "-o", "files", "-o", "type=tar,dest=files.tar"])
        .run()
        .expect_ok();
    let index = top(&space.path("noted"));
    assert_eq!(index["annotations"]["k"], "v");
    assert_eq!(index["manifests"].as_array().map(Vec::len), Some(1));
    assert_eq!(space.read("files/linux_arm64/f"), "f");
    assert_eq!(space.shell("", "tar tf files.tar").stdout, "linux_arm64/\nlinux_arm64/f\n");
    let none =
        ["-q", "--platform", "linux/arm64,linux/amd64", "--build-arg", "BUILDKIT_MULTI_PLATFORM=false"];
    space.build(text, none).run().expect_code(2).stderr_has(&["BUILDKIT_MULTI_PLATFORM=false contradicts"]);
    let odd = ["-q", "--build-arg", "BUILDKIT_MULTI_PLATFORM=maybe"];
    space.build(text, odd).run().expect_code(2).stderr_has(&["expected true or false"]);
}

#[test]
fn a_tar_of_several_platforms_has_a_directory_for_each() {
    let space = TestSpace::offline();
    space.write("context/d/f", "f");
    std::fs::hard_link(space.path("context/d/f"), space.path("context/d/g")).unwrap();
    std::os::unix::fs::symlink("f", space.path("context/d/l")).unwrap();
    let words = ["-q", "--platform", "linux/arm/v7,linux/amd64", "-o", "type=tar,dest=files.tar"];
    space.build("FROM scratch\nARG TARGETARCH\nCOPY d /d-$TARGETARCH\n", words).run().expect_ok();
    let listed =
        space.shell("", "tar tvf files.tar | awk '{$2=$3=$4=$5=\"\"; print}' | tr -s ' '").expect_ok().stdout;
    let expected = "\
drwxr-xr-x linux_arm_v7/
drwxr-xr-x linux_arm_v7/d-arm/
-rw-r--r-- linux_arm_v7/d-arm/f
hrw-r--r-- linux_arm_v7/d-arm/g link to linux_arm_v7/d-arm/f
lrwxrwxrwx linux_arm_v7/d-arm/l -> f
drwxr-xr-x linux_amd64/
drwxr-xr-x linux_amd64/d-amd64/
-rw-r--r-- linux_amd64/d-amd64/f
hrw-r--r-- linux_amd64/d-amd64/g link to linux_amd64/d-amd64/f
lrwxrwxrwx linux_amd64/d-amd64/l -> f
";
    assert_eq!(listed, expected);
    space.shell("", "mkdir out && tar xf files.tar -C out && cat out/linux_amd64/d-amd64/g").expect_ok();
}

#[test]
fn a_context_can_be_for_one_platform() {
    let space = TestSpace::offline();
    for (path, text) in [("arm/f", "arm"), ("any/f", "any")] {
        space.write(path, text);
    }
    let text = "FROM scratch\nCOPY --from=src f /\n";
    let words = ["-q", "--platform", "linux/arm64,linux/amd64", "-o", "out"];
    let contexts = ["--build-context", "src=any", "--build-context", "src::linux/arm64=arm"];
    space.build(text, words).args(contexts).run().expect_ok();
    assert_eq!(
        (space.read("out/linux_arm64/f"), space.read("out/linux_amd64/f")),
        ("arm".to_owned(), "any".to_owned())
    );
    let outcome = space.build(text, ["--build-context", "src::amd46=any"]).run().expect_code(2);
    outcome.stderr_has(&["`amd46` is not a platform", "what follows `::` is the platform"]);
}
