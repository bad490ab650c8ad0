//! Flags of `docker build` and `docker buildx build`, and those of other commands.

use super::{BOTH, BUILDX, DOCKER, Entry, Kind, Verdict};

const fn done(word: &'static str, example: &'static [&'static str], proof: &'static str) -> Entry {
    Entry::new(Kind::Flag, Verdict::Done, BOTH, word).of("build").example(example).proof(proof)
}

const fn refused(word: &'static str, sentence: &'static str, hint: &'static str) -> Entry {
    Entry::new(Kind::Flag, Verdict::Refused, BOTH, word).of("build").says(sentence).hint(hint)
}

const fn warned(word: &'static str, sentence: &'static str) -> Entry {
    Entry::new(Kind::Flag, Verdict::Warned, BOTH, word).of("build").says(sentence)
}

const fn silent(word: &'static str, sentence: &'static str) -> Entry {
    Entry::new(Kind::Flag, Verdict::Silent, BOTH, word).of("build").says(sentence)
}

const NO_LIMIT: &str = "has no effect: steps have no limits of this kind";
const NO_ATTESTATION: &str = "asks for an attestation, and attestations are not supported";
const NONE_WANTED: &str = "leave it out: an image of dbuild has none, as with `--provenance=false`";
const OFF: &[&str] = &["", "false", "0", "f", "F", "FALSE", "False", "disabled=true"];

pub(super) const FLAGS: &[Entry] = &[
    done("--add-host", &["--add-host", "a:1.2.3.4,b=::1"], "flags.rs: hosts_are_a_list"),
    done("--allow", &["--allow", "network.host"], "sandbox.rs: privileges_are_dockers"),
    done("--annotation", &["--annotation", "a=b"], "flags.rs: annotations_are_written"),
    refused("--attest", NO_ATTESTATION, NONE_WANTED)
        .value()
        .unless(&["disabled=true"])
        .example(&["--attest", "type=sbom"]),
    done(
        "--build-arg",
        &["--build-arg", "http_proxy=x"],
        "build.rs: the_words_of_a_dockerfile_reach_the_config",
    ),
    done(
        "--build-context",
        &["--build-context", "x=context"],
        "contexts.rs: named_contexts_come_from_elsewhere_too",
    )
    .says("NAME, or NAME::PLATFORM"),
    silent("--builder", "there is one builder").value().example(&["--builder", "default"]),
    done(
        "--cache-from",
        &["--cache-from", "type=local,src=nowhere"],
        "remote_cache.rs: a_result_travels_through_a_directory",
    ),
    done(
        "--cache-to",
        &["--cache-to", "type=local,dest=cache"],
        "remote_cache.rs: a_result_travels_through_a_directory",
    ),
    done("--call", &["--call", "targets"], "check.rs: check_and_call_are_flags_of_build"),
    refused(
        "--cgroup-parent",
        "is not supported: steps are in the control group of dbuild",
        "start dbuild itself in the \
             group, such as with `systemd-run --slice`",
    )
    .value()
    .unless(&[""])
    .example(&["--cgroup-parent", "x"]),
    done("--check", &["--check"], "check.rs: check_and_call_are_flags_of_build"),
    silent("--compress", "there is no daemon to send the context to").example(&["--compress"]),
    warned("--cpu-period", NO_LIMIT).value().unless(&["", "0"]).example(&["--cpu-period", "100000"]),
    warned("--cpu-quota", NO_LIMIT).value().unless(&["", "0"]).example(&["--cpu-quota", "50000"]),
    warned("--cpu-shares", NO_LIMIT).short('c').value().unless(&["", "0"]).example(&["-c", "512"]),
    warned("--cpuset-cpus", NO_LIMIT).value().unless(&[""]).example(&["--cpuset-cpus", "0"]),
    warned("--cpuset-mems", NO_LIMIT).value().unless(&[""]).example(&["--cpuset-mems", "0"]),
    warned("--debug", "has no effect: it is Docker's log that it is about")
        .hint("`--log debug`")
        .short('D')
        .example(&["-D"]),
    refused("--detach", "is not supported: a build ends with its command", "`dbuild build … &`")
        .example(&["--detach"]),
    silent("--disable-content-trust", "signatures are not looked at")
        .example(&["--disable-content-trust=true"]),
    done("--file", &["--file", "context/Dockerfile"], "build.rs: the_dockerfile_can_come_from_elsewhere")
        .short('f'),
    silent("--force-rm", "there are no intermediate containers").example(&["--force-rm"]),
    done("--iidfile", &["--iidfile", "iid"], "export.rs: files_about_the_build"),
    refused("--invoke", "is not supported", "`dbuild build --on-failure shell`, `dbuild shell`")
        .value()
        .example(&["--invoke", "sh"]),
    warned("--isolation", "has no effect: it is for Windows")
        .value()
        .unless(&["", "default"])
        .example(&["--isolation", "hyperv"]),
    done("--label", &["--label", "a=b"], "flags.rs: booleans_are_gos"),
    done("--load", &["--load=false"], "export.rs: a_docker_archive")
        .says("hands the image to `docker load` or `podman load`"),
    warned("--memory", NO_LIMIT).short('m').value().unless(&["", "0"]).example(&["-m", "1g"]),
    warned("--memory-swap", NO_LIMIT).value().unless(&["", "0"]).example(&["--memory-swap", "-1"]),
    done("--metadata-file", &["--metadata-file", "metadata.json"], "export.rs: files_about_the_build"),
    done("--network", &["--network", "none"], "sandbox.rs: the_network_can_be_left_out"),
    done("--no-cache", &["--no-cache"], "no_cache.rs: the_table_of_flags_holds_under_each_strategy"),
    done(
        "--no-cache-filter",
        &["--no-cache-filter", "a,b"],
        "no_cache.rs: the_table_of_flags_holds_under_each_strategy",
    ),
    done("--output", &["--output", "type=tar,dest=out.tar"], "export.rs: files_in_a_directory_and_in_a_tar")
        .short('o'),
    done("--platform", &["--platform", "linux/amd64"], "platforms.rs: several_platforms_are_one_index"),
    refused(
        "--policy",
        "is not supported: dbuild evaluates no policies",
        "pin images and files by their digests",
    )
    .value()
    .unless(&["", "disabled=true"])
    .example(&["--policy", "filename=x"]),
    done("--print", &["--print", "targets"], "check.rs: check_and_call_are_flags_of_build").says("as --call"),
    done("--progress", &["--progress", "plain"], "cli.rs: plain_progress_says_what_was_shipped_and_left"),
    refused("--provenance", NO_ATTESTATION, NONE_WANTED)
        .value()
        .unless(OFF)
        .example(&["--provenance", "mode=max"]),
    done("--pull", &["--pull"], "no_cache.rs: the_table_of_flags_holds_under_each_strategy"),
    done("--push", &["--push=false"], "platforms.rs: an_index_is_pushed_whole"),
    done("--quiet", &["--quiet"], "cli.rs: a_quiet_build_prints_the_id_and_nothing_else").short('q'),
    warned("--resource", NO_LIMIT).value().unless(&[""]).example(&["--resource", "memory=2g"]),
    silent("--rm", "there are no intermediate containers").example(&["--rm"]),
    silent("--root", "there is no daemon").value().example(&["--root", "x"]),
    refused("--sbom", NO_ATTESTATION, NONE_WANTED).value().unless(OFF).example(&["--sbom", "true"]),
    done(
        "--secret",
        &["--secret", "id=a,env=PATH"],
        "secrets.rs: a_secret_is_where_it_is_asked_for_and_nowhere_else",
    ),
    refused(
        "--security-opt",
        "is not supported",
        "for a RUN without the sandbox: `RUN --security=insecure` and \
             `--allow security.insecure`",
    )
    .value()
    .unless(&[""])
    .example(&["--security-opt", "seccomp=unconfined"]),
    silent("--server-config", "there is no daemon").value().example(&["--server-config", "x"]),
    done("--shm-size", &["--shm-size", "8m"], "flags.rs: limits_of_steps"),
    refused(
        "--squash",
        "is not supported: a multi-stage build ships only its last stage",
        "copy what is wanted into \
             a last stage: `COPY --from=… / /`",
    )
    .example(&["--squash"]),
    done("--ssh", &["--ssh", ""], "flags.rs: an_ssh_agent_is_there_for_its_step_and_in_no_layer")
        .says("the socket of an agent"),
    silent("--stream", "there is no daemon to send the context to").example(&["--stream"]),
    done("--tag", &["--tag", "b"], "cli.rs: images_are_listed_named_and_removed").short('t'),
    done("--target", &["--target", ""], "flags.rs: an_empty_target_is_none_and_an_empty_file_the_default"),
    done("--ulimit", &["--ulimit", "nofile=100:200"], "flags.rs: limits_of_steps"),
];

const fn of(owner: &'static str, word: &'static str, sentence: &'static str, hint: &'static str) -> Entry {
    Entry::new(Kind::Flag, Verdict::Refused, DOCKER, word).of(owner).says(sentence).hint(hint)
}

const fn done_of(
    owner: &'static str,
    word: &'static str,
    example: &'static [&'static str],
    proof: &'static str,
) -> Entry {
    Entry::new(Kind::Flag, Verdict::Done, DOCKER, word).of(owner).example(example).proof(proof)
}

const fn silent_of(
    owner: &'static str,
    word: &'static str,
    example: &'static [&'static str],
    sentence: &'static str,
) -> Entry {
    Entry::new(Kind::Flag, Verdict::Silent, DOCKER, word).of(owner).example(example).says(sentence)
}

const NOT_HERE: &str = "is not supported";
const JSON: &str = "`--json`, for scripts";

pub(super) const FLAGS_OF_OTHERS: &[Entry] = &[
    of(
        "",
        "--context",
        "names an endpoint of Docker, and dbuild speaks to no daemon",
        "`--load` obeys DOCKER_CONTEXT",
    )
    .value()
    .example(&["--context", "default", "images"]),
    of("", "--host", "names a daemon, and dbuild speaks to none", "`--load` obeys DOCKER_HOST")
        .short('H')
        .value()
        .example(&["-H", "unix:///x", "images"]),
    of("", "--log-level", "has another name here", "`--log`")
        .short('l')
        .value()
        .example(&["-l", "debug", "images"]),
    of("", "--tls", "is for a daemon, and dbuild speaks to none", "").example(&["--tls", "images"]),
    of(
        "",
        "--tlscacert",
        "is for a daemon, and dbuild speaks to none",
        "certificates of registries: `ca` in the configuration",
    )
    .value()
    .example(&["--tlscacert", "x", "images"]),
    of("", "--tlscert", "is for a daemon, and dbuild speaks to none", "").value().example(&[
        "--tlscert",
        "x",
        "images",
    ]),
    of("", "--tlskey", "is for a daemon, and dbuild speaks to none", "")
        .value()
        .example(&["--tlskey", "x", "images"]),
    of("", "--tlsverify", "is for a daemon, and dbuild speaks to none", "")
        .example(&["--tlsverify", "images"]),
    silent_of("images", "--all", &["images", "-a"], "all images are listed in any case").short('a'),
    silent_of("images", "--digests", &["images", "--digests"], "digests are listed in any case"),
    done_of(
        "images",
        "--filter",
        &["images", "-f", "dangling=true"],
        "docker_compat.rs: images_are_listed_as_scripts_ask",
    )
    .short('f'),
    done_of(
        "images",
        "--format",
        &["images", "--format", "{{.ID}}"],
        "docker_compat.rs: images_are_listed_as_scripts_ask",
    ),
    done_of(
        "images",
        "--no-trunc",
        &["images", "--no-trunc"],
        "docker_compat.rs: images_are_listed_as_scripts_ask",
    ),
    done_of("images", "--quiet", &["images", "-q"], "docker_compat.rs: images_are_listed_as_scripts_ask")
        .short('q'),
    of("images", "--tree", NOT_HERE, JSON).example(&["images", "--tree"]),
    silent_of("rm", "--force", &["rmi", "-f", "x"], "an image is removed without it").short('f'),
    silent_of(
        "rm",
        "--no-prune",
        &["rmi", "--no-prune", "x"],
        "results stay in the cache until `dbuild cache prune`",
    ),
    of("rm", "--platform", NOT_HERE, "an image is removed with all its platforms").value().example(&[
        "rmi",
        "--platform",
        "linux/amd64",
        "x",
    ]),
    done_of(
        "inspect",
        "--format",
        &["inspect", "-f", "{{.Id}}", "no-such-image"],
        "docker_compat.rs: images_are_listed_as_scripts_ask",
    )
    .short('f'),
    silent_of("inspect", "--size", &["inspect", "-s", "x"], "sizes are in the answer in any case").short('s'),
    done_of(
        "inspect",
        "--type",
        &["inspect", "--type", "image", "no-such-image"],
        "docker_compat.rs: images_are_listed_as_scripts_ask",
    ),
    of("save", "--platform", NOT_HERE, "build for that platform").value().example(&[
        "save",
        "--platform",
        "linux/amd64",
        "x",
    ]),
    silent_of("load", "--quiet", &["load", "-q", "-i", "no-such-file"], "no progress is shown").short('q'),
    of("load", "--platform", NOT_HERE, "all platforms are loaded").value().example(&[
        "load",
        "--platform",
        "linux/amd64",
    ]),
    of("pull", "--all-tags", NOT_HERE, "pull each tag").short('a').example(&["pull", "-a", "x"]),
    of("pull", "--disable-content-trust", NOT_HERE, "signatures are not looked at").example(&[
        "pull",
        "--disable-content-trust",
        "x",
    ]),
    silent_of("pull", "--quiet", &["pull", "-q", "127.0.0.1:1/x"], "no progress is shown").short('q'),
    of("push", "--all-tags", NOT_HERE, "push each name").short('a').example(&["push", "-a", "x"]),
    of("push", "--disable-content-trust", NOT_HERE, "dbuild signs nothing").example(&[
        "push",
        "--disable-content-trust",
        "x",
    ]),
    of("push", "--platform", NOT_HERE, "build for that platform").value().example(&[
        "push",
        "--platform",
        "linux/amd64",
        "x",
    ]),
    silent_of("push", "--quiet", &["push", "-q", "no-such-image"], "no progress is shown").short('q'),
    of("history", "--format", NOT_HERE, JSON).value().example(&["history", "--format", "json"]),
    of("history", "--human", "is of `docker history`, which lists layers", "`dbuild inspect IMAGE`")
        .short('H')
        .example(&["history", "-H"]),
    of("history", "--no-trunc", "is of `docker history`, which lists layers", "`dbuild inspect IMAGE`")
        .example(&["history", "--no-trunc"]),
    of("history", "--quiet", "is of `docker history`, which lists layers", "`dbuild inspect IMAGE`")
        .short('q')
        .example(&["history", "-q"]),
    of("logs", "--details", "is of `docker logs`, for containers", "").example(&["logs", "--details"]),
    of("logs", "--follow", "is of `docker logs`, for containers", "`dbuild build --progress plain`")
        .short('f')
        .example(&["logs", "-f"]),
    of("logs", "--since", "is of `docker logs`, for containers", "")
        .value()
        .example(&["logs", "--since", "1h"]),
    of("logs", "--tail", "is of `docker logs`, for containers", "`dbuild logs | tail`")
        .short('n')
        .value()
        .example(&["logs", "-n", "1"]),
    of("logs", "--timestamps", "is of `docker logs`, for containers", JSON)
        .short('t')
        .example(&["logs", "-t"]),
    of("logs", "--until", "is of `docker logs`, for containers", "")
        .value()
        .example(&["logs", "--until", "1h"]),
    Entry {
        known_to: BUILDX,
        ..of("history", "--builder", "is not supported: there is one builder", "").value()
    }
    .example(&["history", "--builder", "x"]),
];
