//! Where the store lies: on file systems that cannot hold it, or have no room.

use std::process::Command;

use dbuild_integration_tests::{Outcome, TestSpace, run};

/// Runs a script in a mount namespace of its own after `mount` has put a file system on `disk`,
/// below which the store is.
#[track_caller]
fn on_disk(space: &TestSpace, mount: &str, script: &str) -> Outcome {
    std::fs::create_dir(space.path("disk")).unwrap();
    let build = space.dbuild(["build"]).into_command();
    let script = format!(
        "cd {root} && {mount} || exit 9; dbuild() {{ {dbuild} --store disk/store \"$@\"; }}; {script}",
        root = space.root().display(),
        dbuild = build.get_program().to_string_lossy(),
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]);
    for (name, value) in build.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    run(&mut command)
}

const OVERLAY: &str = "mkdir l u w && mount -t overlay -o lowerdir=l,upperdir=u,workdir=w none disk";

#[test]
fn a_store_on_overlayfs_is_refused_at_the_start_of_what_needs_another_and_doctor_says_so() {
    if !rustix::process::geteuid().is_root() {
        // Only root can mount an overlay on the host's directories.
        return;
    }
    let space = TestSpace::new();
    space.write("context/Dockerfile", "FROM busybox\nRUN rm -r /bin\n");
    space.write("copy/Dockerfile", "FROM busybox\nCOPY Dockerfile /x\n");
    let refused = on_disk(
        &space,
        OVERLAY,
        "dbuild build -t app context; echo === built $? >&2; dbuild build -t app copy && echo === copied >&2; \
         dbuild run app true; echo === ran $? >&2; dbuild doctor",
    );
    let (at_start, rest) = refused.stderr.split_once("=== built 1").expect("it is an error");
    assert!(at_start.contains("lies on overlayfs") && at_start.contains("--store"), "{refused}");
    assert!(!at_start.contains("FROM busybox"), "nothing was begun\n{refused}");
    let (_, ran) = rest.split_once("=== copied").expect("nothing is stacked for a COPY");
    assert!(ran.contains("lies on overlayfs") && ran.contains("--store"), "{refused}");
    refused.lacks(&["panicked"]).stdout_has(&[
        "missing  store  ",
        "missing  store overlay  ",
        "ok       store links  ",
        "ok       overlay  ",
    ]);
}

#[test]
fn doctor_tries_the_file_system_of_the_store_and_leaves_nothing_there() {
    let space = TestSpace::new();
    for made in [false, true] {
        if made {
            space.build("FROM busybox\n", [""; 0]).run().expect_ok();
        }
        let before = space.shell("", "find . | sort").stdout;
        let found = space.dbuild(["doctor", "--json"]).run().expect_ok().json();
        let of = |name: &str| found.as_array().unwrap().iter().find(|one| one["name"] == name).cloned();
        for name in ["store", "store links", "store attributes", "store overlay", "identity"] {
            assert_eq!(of(name).unwrap_or_default()["ok"], true, "{name} of {found}");
        }
        assert_eq!(space.shell("", "find . | sort").stdout, before);
    }
}

#[test]
fn doctor_asks_for_capabilities_and_not_for_the_name_of_root() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let space = TestSpace::new();
    let program = space.dbuild([""; 0]).into_command().get_program().to_string_lossy().into_owned();
    let words =
        ["setpriv", "--bounding-set", "-setfcap,-sys_admin", "--inh-caps", "-all", &program, "doctor"];
    let told = space.shell("", &words.join(" "));
    told.stdout_has(&["missing  identity", "root of this machine, without CAP_SYS_ADMIN, CAP_SETFCAP"]);
}

#[test]
fn no_room_to_unpack_an_image_is_no_fault_of_its_registry() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let space = TestSpace::new();
    space.write("context/Dockerfile", "FROM busybox\nRUN true\n");
    let mut unpacking = 0;
    // The blob does not fit, or what it unpacks to, or what the RUN needs.
    for size in (1200..3600).step_by(150) {
        let disk = format!("mount -t tmpfs -o size={size}k none disk");
        let failed = on_disk(&space, &disk, "dbuild build -t app context");
        std::fs::remove_dir(space.path("disk")).unwrap();
        if failed.code() == Some(0) {
            continue;
        }
        let failed = failed.expect_code(1).lacks(&["panicked", "registry or a mirror", "other bytes"]);
        let failed = failed.stderr_has(&["cache prune"]);
        let is_said =
            ["No space left on device", "disk is full"].iter().any(|words| failed.stderr.contains(words));
        assert!(is_said, "{size}k\n{failed}");
        unpacking += usize::from(failed.stderr.contains("cannot write"));
    }
    assert!(unpacking > 0, "none of these failed while a layer was unpacked");
}

#[test]
fn a_warning_has_one_heading() {
    let space = TestSpace::new();
    let flags = ["--build-arg", "NOBODY=1", "--build-arg", "BUILDKIT_SYNTAX=another/language"];
    let built = space.build("FROM busybox\nCMD true\n", flags).run().expect_ok();
    built.lacks(&["warning: warning"]).stderr_has(&[
        "warning: the frontend `another/language` is not used",
        "  = note: the build argument `BUILDKIT_SYNTAX` asks for it",
        "warning: the build argument `NOBODY` is not used",
        "  = help: declare it",
        "warning[JSONArgsRecommended]: ",
    ]);
}
