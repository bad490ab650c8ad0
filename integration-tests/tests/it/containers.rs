//! dbuild inside of ordinary containers, as Docker, containerd and Kubernetes make them: their
//! capabilities, what they hide of `/proc` and `/sys`, and the namespaces that they allow. `runc`
//! makes them from the same settings. `docs/guide/containers.md` has the same rows.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use dbuild_integration_tests::{Outcome, TestSpace, run, workspace};
use serde_json::{Value, json};

/// What Docker and containerd leave to root of a container.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// A container around dbuild.
struct Setting {
    /// As the document names it.
    name: &'static str,
    uid: u32,
    capabilities: &'static [&'static str],
    /// Docker's own filter refuses namespaces to everybody without CAP_SYS_ADMIN.
    allows_namespaces: bool,
    masks: bool,
    /// What a build with a RUN says.
    outcome: Expected,
}

enum Expected {
    Runs,
    /// With this note.
    RunsAndSays(&'static str),
    Refused(&'static str),
}

const OUTER_PROC: &str = "the container around dbuild hides parts of /proc, so steps see that one";

const SETTINGS: [Setting; 5] = [
    Setting {
        name: "Kubernetes, and Docker with `seccomp=unconfined`",
        uid: 0,
        capabilities: &CAPABILITIES,
        allows_namespaces: true,
        masks: true,
        outcome: Expected::RunsAndSays(OUTER_PROC),
    },
    Setting {
        name: "the same with `systempaths=unconfined`",
        uid: 0,
        capabilities: &CAPABILITIES,
        allows_namespaces: true,
        masks: false,
        outcome: Expected::Runs,
    },
    Setting {
        name: "the same as uid 1000, without capabilities",
        uid: 1000,
        capabilities: &[],
        allows_namespaces: true,
        masks: true,
        outcome: Expected::RunsAndSays(OUTER_PROC),
    },
    Setting {
        name: "root with all capabilities dropped",
        uid: 0,
        capabilities: &[],
        allows_namespaces: true,
        masks: true,
        outcome: Expected::Refused("lacks CAP_SETUID, CAP_SETGID or CAP_SETFCAP"),
    },
    Setting {
        name: "Docker as it is",
        uid: 0,
        capabilities: &CAPABILITIES,
        allows_namespaces: false,
        masks: true,
        outcome: Expected::Refused("--security-opt seccomp=unconfined"),
    },
];

#[test]
fn a_build_in_each_kind_of_container() {
    let space = TestSpace::offline();
    let bundle = Bundle::new(&space);
    for (number, setting) in SETTINGS.iter().enumerate() {
        let outcome = bundle.run(setting, number);
        match setting.outcome {
            Expected::Runs => {
                let outcome = outcome.expect_ok().stdout_has(&["one ran", "the other ran"]);
                assert!(!outcome.stdout.contains("note: "), "{}: {outcome}", setting.name);
            }
            Expected::RunsAndSays(note) => {
                let outcome = outcome.expect_ok().stdout_has(&["one ran", "the other ran"]);
                let told = outcome.stdout.matches(note).count();
                assert_eq!(told, 1, "{}: it is said once: {outcome}", setting.name);
            }
            Expected::Refused(why) => {
                drop(outcome.expect_code(1).stdout_has(&[why]));
            }
        }
    }
}

#[test]
fn the_document_has_each_kind() {
    let text = std::fs::read_to_string(workspace().join("docs/guide/containers.md")).unwrap();
    for Setting { name, outcome, .. } in &SETTINGS {
        let row = text.lines().find(|line| line.starts_with(&format!("| {name} |")));
        let row = row.unwrap_or_else(|| panic!("no row for {name}"));
        let runs = !matches!(outcome, Expected::Refused(_));
        assert_eq!(row.contains("| yes"), runs, "{row}");
    }
}

/// A container with nothing in it but a shell and dbuild.
struct Bundle<'a> {
    space: &'a TestSpace,
    /// The settings that `runc` begins with.
    spec: Value,
}

impl<'a> Bundle<'a> {
    fn new(space: &'a TestSpace) -> Self {
        let dist = workspace().join("target/packages");
        let is_program = |name: &str| name.starts_with("dbuild-") && name.ends_with("-linux-gnu");
        let program = std::fs::read_dir(&dist).ok().and_then(|entries| {
            entries.flatten().find(|entry| is_program(&entry.file_name().to_string_lossy()))
        });
        let program = program.expect("`scripts/release.sh --profile dev` makes a static program").path();
        for dir in ["bin", "proc", "dev", "sys", "etc", "tmp", "store", "home"] {
            std::fs::create_dir_all(space.path("rootfs").join(dir)).unwrap();
        }
        // What is mounted on a directory has its mode.
        for dir in ["tmp", "store"] {
            let mode = std::fs::Permissions::from_mode(0o1777);
            std::fs::set_permissions(space.path("rootfs").join(dir), mode).unwrap();
        }
        std::fs::copy(program, space.path("rootfs/bin/dbuild")).unwrap();
        space.write("rootfs/etc/passwd", "root:x:0:0:root:/home:/bin/sh\nme:x:1000:1000::/home:/bin/sh\n");
        let busybox = space.shell("", "command -v busybox").expect_ok().stdout;
        std::fs::create_dir_all(space.path("rootfs/context")).unwrap();
        std::fs::copy(Path::new(busybox.trim()), space.path("rootfs/context/busybox")).unwrap();
        // Two of them, to see that a note is not repeated.
        let dockerfile = "FROM scratch\nCOPY busybox /bin/sh\n\
                          RUN test -r /proc/self/status && echo one ran\n\
                          RUN echo the other ran\n";
        space.write("rootfs/context/Dockerfile", dockerfile);
        run(Command::new("runc").arg("spec").current_dir(space.root())).expect_ok();
        Self { space, spec: serde_json::from_str(&space.read("config.json")).unwrap() }
    }

    fn run(&self, setting: &Setting, number: usize) -> Outcome {
        let mut config = self.spec.clone();
        let process = &mut config["process"];
        process["terminal"] = json!(false);
        process["noNewPrivileges"] = json!(false);
        process["user"] = json!({"uid": setting.uid, "gid": setting.uid});
        process["env"] = json!(["PATH=/bin", "HOME=/home"]);
        process["args"] =
            json!(["dbuild", "--store", "/store/s", "build", "--progress", "plain", "/context"]);
        process["capabilities"] = json!({
            "bounding": setting.capabilities,
            "effective": setting.capabilities,
            "permitted": setting.capabilities,
        });
        config["root"] = json!({"path": "rootfs", "readonly": true});
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !["/store", "/tmp"].contains(&mount["destination"].as_str().unwrap()));
        for place in ["/store", "/tmp"] {
            let options = json!(["mode=1777"]);
            mounts
                .push(json!({"destination": place, "type": "tmpfs", "source": "tmpfs", "options": options}));
        }
        let linux = &mut config["linux"];
        if !setting.masks {
            linux["maskedPaths"] = json!([]);
            linux["readonlyPaths"] = json!([]);
        }
        if !setting.allows_namespaces {
            // The part of Docker's profile that matters here: none of these without CAP_SYS_ADMIN.
            let denied =
                ["unshare", "mount", "umount2", "pivot_root", "setns", "fsopen", "move_mount", "open_tree"];
            linux["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
                "syscalls": [{"names": denied, "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
            });
        }
        self.space.write("config.json", config.to_string());
        let name = format!("dbuild-test-{}-{number}", std::process::id());
        // One stream, in order.
        let line = format!("exec runc --root {}/runc run -b . {name}", self.space.root().display());
        self.space.shell("", &line)
    }
}
