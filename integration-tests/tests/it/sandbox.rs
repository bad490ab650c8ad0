//! What a RUN step sees of the machine.

use dbuild_integration_tests::{TestSpace, Unpacked};

/// What a command prints in a RUN step.
#[track_caller]
fn printed(command: &str, args: &[&str]) -> String {
    let space = TestSpace::new();
    space
        .build(&format!("FROM busybox\nRUN {{ {command}; }} > /printed 2>&1\n"), args)
        .env("FROM_THE_HOST", "1")
        .run()
        .expect_ok();
    Unpacked::new(&space, "app").read("/printed")
}

#[test]
fn privileges_are_dockers() {
    let status = printed("cat /proc/self/status", &[]);
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(field("CapEff:"), "00000000a80425fb");
    assert_eq!(field("CapBnd:"), "00000000a80425fb");
    assert_eq!(field("CapInh:"), "0000000000000000");
    assert_eq!(field("CapAmb:"), "0000000000000000");
    assert_eq!(field("Seccomp:"), "2");
    assert_eq!(field("NoNewPrivs:"), "0");
}

#[test]
fn a_run_step_is_alone() {
    let space = TestSpace::new();
    let dockerfile = "FROM busybox\nRUN echo $$ > /pid && ls /proc | grep -c '^[0-9]' > /processes && env > /env && ls /proc/self/fd > /fds && cat > /stdin\n";
    space.build(dockerfile, [""; 0]).env("FROM_THE_HOST", "1").run().expect_ok();
    let image = Unpacked::new(&space, "app");
    assert_eq!(image.read("/pid"), "1\n");
    let processes: u32 = image.read("/processes").trim().parse().unwrap();
    assert!(processes <= 3, "{processes} processes");
    assert!(!image.read("/env").contains("FROM_THE_HOST"));
    // 3 is the directory that ls reads.
    assert_eq!(image.read("/fds"), "0\n1\n2\n3\n");
    assert_eq!(image.read("/stdin"), "");
}

#[test]
fn the_kernel_is_out_of_reach() {
    let report = printed(
        "for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/power/state; do echo x > $f; done; \
         mknod /tmp/disk b 8 0 && cat /tmp/disk; mount -t tmpfs none /mnt; true",
        &[],
    );
    for line in report.lines() {
        let refused = ["Read-only", "not permitted", "denied", "nonexistent", "No such", "can't"];
        assert!(refused.iter().any(|word| line.contains(word)), "{line}\n{report}");
    }
    assert!(report.lines().count() >= 4, "{report}");
}

#[test]
fn hosts_and_resolv_conf_are_never_in_a_layer() {
    let space = TestSpace::new();
    let dockerfile = "FROM busybox\nRUN cat /etc/hosts /etc/resolv.conf > /seen && (echo 1.2.3.4 mine >> /etc/hosts || true)\n";
    space.build(dockerfile, ["--add-host", "friend:10.1.2.3"]).run().expect_ok();
    let image = Unpacked::new(&space, "app");
    let seen = image.read("/seen");
    assert!(seen.contains("127.0.0.1") && seen.contains("10.1.2.3"), "{seen}");
    let paths = image.paths();
    assert!(!paths.contains("/etc/hosts") && !paths.contains("/etc/resolv.conf"));
    assert!(paths.iter().all(|path| !path.starts_with("/dev/") && !path.starts_with("/proc/")));
}

/// Each step would change the directory, and remove from it again what it made there.
#[test]
fn for_what_is_mounted_over_nothing_is_made_in_the_image() {
    let space = TestSpace::new();
    let dockerfile = "FROM busybox\n\
        RUN stat -c %Z /etc > /before && sleep 1.1\n\
        RUN test -s /etc/hosts && stat -c %Z /etc > /after && cmp /before /after\n";
    space.build(dockerfile, [] as [&str; 0]).run().expect_ok();
}

#[test]
fn the_network_can_be_left_out() {
    let devices = printed("ls /sys/class/net || cat /proc/net/dev", &["--network", "none"]);
    assert!(devices.contains("lo") && !devices.contains("eth"), "{devices}");
    let space = TestSpace::new();
    let dockerfile = "FROM busybox\nRUN --network=none ! wget -q -T 2 -O /dev/null http://127.0.0.1:1/ && cat /proc/net/dev > /devices\n";
    space.build(dockerfile, [""; 0]).run().expect_ok();
    let devices = Unpacked::new(&space, "app").read("/devices");
    assert_eq!(devices.lines().count(), 3, "two lines of head, and the loopback device\n{devices}");
}
