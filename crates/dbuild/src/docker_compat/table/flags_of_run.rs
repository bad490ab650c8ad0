//! Flags of `docker run`.

use super::{DOCKER, Entry, Kind, Verdict};

const fn switch(word: &'static str, example: &'static [&'static str]) -> Entry {
    Entry::new(Kind::Flag, Verdict::Refused, DOCKER, word)
        .of("run")
        .says("is not supported: `dbuild run` starts one command to look at what was built")
        .hint("hand the image to an engine: `dbuild build --load`, and `docker run` or `podman run`")
        .example(example)
}

const fn value(word: &'static str, example: &'static [&'static str]) -> Entry {
    switch(word, example).value()
}

const fn done(word: &'static str, example: &'static [&'static str], proof: &'static str) -> Entry {
    Entry::new(Kind::Flag, Verdict::Done, DOCKER, word).of("run").example(example).proof(proof)
}

pub(super) const FLAGS_OF_RUN: &[Entry] = &[
    done(
        "--entrypoint",
        &["run", "--entrypoint", "x", "no-such-image"],
        "cli.rs: run_passes_on_the_command_and_its_end",
    ),
    done("--env", &["run", "-e", "A=b", "no-such-image"], "cli.rs: run_passes_on_the_command_and_its_end")
        .short('e'),
    done("--interactive", &["run", "-i", "no-such-image"], "cli.rs: run_passes_on_the_command_and_its_end")
        .short('i'),
    done(
        "--network",
        &["run", "--network", "none", "no-such-image"],
        "cli.rs: run_passes_on_the_command_and_its_end",
    ),
    done("--rm", &["run", "--rm", "no-such-image"], "cli.rs: run_passes_on_the_command_and_its_end"),
    done("--tty", &["run", "-t", "no-such-image"], "cli.rs: run_passes_on_the_command_and_its_end")
        .short('t'),
    done("--user", &["run", "-u", "1", "no-such-image"], "cli.rs: run_passes_on_the_command_and_its_end")
        .short('u'),
    done(
        "--volume",
        &["run", "-v", "/tmp:/x", "no-such-image"],
        "cli.rs: run_passes_on_the_command_and_its_end",
    )
    .short('v'),
    done("--workdir", &["run", "-w", "/", "no-such-image"], "cli.rs: run_passes_on_the_command_and_its_end")
        .short('w'),
    value("--add-host", &["run", "--add-host", "x", "no-such-image"]),
    value("--annotation", &["run", "--annotation", "x", "no-such-image"]),
    value("--attach", &["run", "--attach", "x", "no-such-image"]).short('a'),
    value("--blkio-weight", &["run", "--blkio-weight", "x", "no-such-image"]),
    value("--blkio-weight-device", &["run", "--blkio-weight-device", "x", "no-such-image"]),
    value("--cap-add", &["run", "--cap-add", "x", "no-such-image"]),
    value("--cap-drop", &["run", "--cap-drop", "x", "no-such-image"]),
    value("--cgroup-parent", &["run", "--cgroup-parent", "x", "no-such-image"]),
    value("--cgroupns", &["run", "--cgroupns", "x", "no-such-image"]),
    value("--cidfile", &["run", "--cidfile", "x", "no-such-image"]),
    value("--cpu-count", &["run", "--cpu-count", "x", "no-such-image"]),
    value("--cpu-percent", &["run", "--cpu-percent", "x", "no-such-image"]),
    value("--cpu-period", &["run", "--cpu-period", "x", "no-such-image"]),
    value("--cpu-quota", &["run", "--cpu-quota", "x", "no-such-image"]),
    value("--cpu-rt-period", &["run", "--cpu-rt-period", "x", "no-such-image"]),
    value("--cpu-rt-runtime", &["run", "--cpu-rt-runtime", "x", "no-such-image"]),
    value("--cpu-shares", &["run", "--cpu-shares", "x", "no-such-image"]).short('c'),
    value("--cpus", &["run", "--cpus", "x", "no-such-image"]),
    value("--cpuset-cpus", &["run", "--cpuset-cpus", "x", "no-such-image"]),
    value("--cpuset-mems", &["run", "--cpuset-mems", "x", "no-such-image"]),
    switch("--detach", &["run", "--detach", "no-such-image"]).short('d'),
    value("--detach-keys", &["run", "--detach-keys", "x", "no-such-image"]),
    value("--device", &["run", "--device", "x", "no-such-image"]),
    value("--device-cgroup-rule", &["run", "--device-cgroup-rule", "x", "no-such-image"]),
    value("--device-read-bps", &["run", "--device-read-bps", "x", "no-such-image"]),
    value("--device-read-iops", &["run", "--device-read-iops", "x", "no-such-image"]),
    value("--device-write-bps", &["run", "--device-write-bps", "x", "no-such-image"]),
    value("--device-write-iops", &["run", "--device-write-iops", "x", "no-such-image"]),
    switch("--disable-content-trust", &["run", "--disable-content-trust", "no-such-image"]),
    value("--dns", &["run", "--dns", "x", "no-such-image"]),
    value("--dns-option", &["run", "--dns-option", "x", "no-such-image"]),
    value("--dns-search", &["run", "--dns-search", "x", "no-such-image"]),
    value("--domainname", &["run", "--domainname", "x", "no-such-image"]),
    value("--env-file", &["run", "--env-file", "x", "no-such-image"]),
    value("--expose", &["run", "--expose", "x", "no-such-image"]),
    value("--gpus", &["run", "--gpus", "x", "no-such-image"]),
    value("--group-add", &["run", "--group-add", "x", "no-such-image"]),
    value("--health-cmd", &["run", "--health-cmd", "x", "no-such-image"]),
    value("--health-interval", &["run", "--health-interval", "x", "no-such-image"]),
    value("--health-retries", &["run", "--health-retries", "x", "no-such-image"]),
    value("--health-start-interval", &["run", "--health-start-interval", "x", "no-such-image"]),
    value("--health-start-period", &["run", "--health-start-period", "x", "no-such-image"]),
    value("--health-timeout", &["run", "--health-timeout", "x", "no-such-image"]),
    value("--hostname", &["run", "--hostname", "x", "no-such-image"]),
    switch("--init", &["run", "--init", "no-such-image"]),
    value("--io-maxbandwidth", &["run", "--io-maxbandwidth", "x", "no-such-image"]),
    value("--io-maxiops", &["run", "--io-maxiops", "x", "no-such-image"]),
    value("--ip", &["run", "--ip", "x", "no-such-image"]),
    value("--ip6", &["run", "--ip6", "x", "no-such-image"]),
    value("--ipc", &["run", "--ipc", "x", "no-such-image"]),
    value("--isolation", &["run", "--isolation", "x", "no-such-image"]),
    value("--label", &["run", "--label", "x", "no-such-image"]).short('l'),
    value("--label-file", &["run", "--label-file", "x", "no-such-image"]),
    value("--link", &["run", "--link", "x", "no-such-image"]),
    value("--link-local-ip", &["run", "--link-local-ip", "x", "no-such-image"]),
    value("--log-driver", &["run", "--log-driver", "x", "no-such-image"]),
    value("--log-opt", &["run", "--log-opt", "x", "no-such-image"]),
    value("--mac-address", &["run", "--mac-address", "x", "no-such-image"]),
    value("--memory", &["run", "--memory", "x", "no-such-image"]).short('m'),
    value("--memory-reservation", &["run", "--memory-reservation", "x", "no-such-image"]),
    value("--memory-swap", &["run", "--memory-swap", "x", "no-such-image"]),
    value("--memory-swappiness", &["run", "--memory-swappiness", "x", "no-such-image"]),
    value("--mount", &["run", "--mount", "x", "no-such-image"]),
    value("--name", &["run", "--name", "x", "no-such-image"]),
    value("--network-alias", &["run", "--network-alias", "x", "no-such-image"]),
    switch("--no-healthcheck", &["run", "--no-healthcheck", "no-such-image"]),
    switch("--oom-kill-disable", &["run", "--oom-kill-disable", "no-such-image"]),
    value("--oom-score-adj", &["run", "--oom-score-adj", "x", "no-such-image"]),
    value("--pid", &["run", "--pid", "x", "no-such-image"]),
    value("--pids-limit", &["run", "--pids-limit", "x", "no-such-image"]),
    value("--platform", &["run", "--platform", "x", "no-such-image"]),
    switch("--privileged", &["run", "--privileged", "no-such-image"]),
    value("--publish", &["run", "--publish", "x", "no-such-image"]).short('p'),
    switch("--publish-all", &["run", "--publish-all", "no-such-image"]).short('P'),
    value("--pull", &["run", "--pull", "x", "no-such-image"]),
    switch("--quiet", &["run", "--quiet", "no-such-image"]).short('q'),
    switch("--read-only", &["run", "--read-only", "no-such-image"]),
    value("--restart", &["run", "--restart", "x", "no-such-image"]),
    value("--runtime", &["run", "--runtime", "x", "no-such-image"]),
    value("--security-opt", &["run", "--security-opt", "x", "no-such-image"]),
    value("--shm-size", &["run", "--shm-size", "x", "no-such-image"]),
    switch("--sig-proxy", &["run", "--sig-proxy", "no-such-image"]),
    value("--stop-signal", &["run", "--stop-signal", "x", "no-such-image"]),
    value("--stop-timeout", &["run", "--stop-timeout", "x", "no-such-image"]),
    value("--storage-opt", &["run", "--storage-opt", "x", "no-such-image"]),
    value("--sysctl", &["run", "--sysctl", "x", "no-such-image"]),
    value("--tmpfs", &["run", "--tmpfs", "x", "no-such-image"]),
    value("--ulimit", &["run", "--ulimit", "x", "no-such-image"]),
    switch("--use-api-socket", &["run", "--use-api-socket", "no-such-image"]),
    value("--userns", &["run", "--userns", "x", "no-such-image"]),
    value("--uts", &["run", "--uts", "x", "no-such-image"]),
    value("--volume-driver", &["run", "--volume-driver", "x", "no-such-image"]),
    value("--volumes-from", &["run", "--volumes-from", "x", "no-such-image"]),
];
