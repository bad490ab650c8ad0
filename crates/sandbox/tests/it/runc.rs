//! The same program in runc: what it sees must be the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use crate::support::{Scene, make_base};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[("it_looks_like_a_container_of_runc", Needs::Root, like_runc)];

const SCRIPT: &str = "
    grep -E '^(Cap|Seccomp:|NoNewPrivs|Groups|Sig[BI])' /proc/self/status
    echo fds $(ls /proc/1/fd)
    awk '{ split($6, o, \",\"); print \"mount\", $5, o[1], index($6, \"nosuid\") > 0, index($6, \"noexec\") > 0 }' /proc/self/mountinfo
    ls -l /dev | awk 'NR > 1 { print \"dev\", $1, $NF }'";

/// Docker's masks as they stand in a runc bundle.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

fn like_runc() {
    let ours = Scene::sh(SCRIPT).output();
    let theirs = in_runc();
    let lines = |text: &str, word: &str| -> BTreeSet<String> {
        text.lines().filter(|line| line.starts_with(word)).map(str::to_owned).collect()
    };
    for word in ["Cap", "NoNewPrivs", "Seccomp", "Groups", "fds"] {
        assert_eq!(lines(&ours, word), lines(&theirs, word));
    }
    let theirs_dev: BTreeSet<String> =
        lines(&theirs, "dev").into_iter().filter(|line| !line.ends_with("kcore")).collect();
    assert_eq!(lines(&ours, "dev"), theirs_dev);
    // Where, whether read-only, without set-user-id, without programs. Our devices are mounts,
    // theirs nodes.
    let mounts = |text: &str| -> BTreeMap<String, String> {
        lines(text, "mount ")
            .into_iter()
            .filter_map(|line| {
                let (place, rest) = line.strip_prefix("mount ")?.split_once(' ')?;
                let is_node =
                    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];
                let skip = is_node.contains(&place) || place == "/" || place.starts_with("/sys/fs/cgroup");
                (!skip).then(|| (place.to_owned(), rest.to_owned()))
            })
            .collect()
    };
    let (ours, theirs) = (mounts(&ours), mounts(&theirs));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (place, theirs) in theirs.iter().filter(|(place, _)| !MASKED.contains(&place.as_str())) {
        assert_eq!(&ours[place], theirs, "{place}");
    }
}

fn in_runc() -> String {
    let dir = tempfile::tempdir().unwrap();
    // It makes mount points there and leaves them.
    let root = make_base();
    let spec = Command::new("runc").arg("spec").current_dir(dir.path()).status();
    assert!(spec.expect("there is no runc: run scripts/test.sh").success());
    let config = dir.path().join("config.json");
    let mut spec: serde_json::Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    let capabilities = [
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "NET_RAW",
        "SYS_CHROOT",
        "MKNOD",
        "AUDIT_WRITE",
        "SETFCAP",
    ]
    .map(|name| format!("CAP_{name}"));
    let process = &mut spec["process"];
    process["terminal"] = false.into();
    process["noNewPrivileges"] = false.into();
    process["args"] = serde_json::json!(["/bin/sh", "-c", SCRIPT]);
    process["capabilities"] =
        serde_json::json!({"bounding": capabilities, "effective": capabilities, "permitted": capabilities});
    process["rlimits"] = serde_json::json!([]);
    spec["root"] = serde_json::json!({"path": root.path(), "readonly": false});
    spec["linux"]["maskedPaths"] = serde_json::json!(MASKED);
    spec["linux"]["seccomp"] = serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["keyctl"], "action": "SCMP_ACT_ERRNO"}],
    });
    // The hierarchies of this machine are not what is compared.
    let mounts = spec["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] != "/sys/fs/cgroup");
    fs::write(&config, spec.to_string()).unwrap();
    let name = format!("dbuild-sandbox-{}", std::process::id());
    let output = Command::new("runc").args(["run", "--bundle"]).arg(dir.path()).arg(name).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
