//! Commands.

use super::{BUILDX, DOCKER, Entry, Kind, Verdict};

const fn done(word: &'static str, example: &'static [&'static str], proof: &'static str) -> Entry {
    Entry::new(Kind::Command, Verdict::Done, DOCKER, word).example(example).proof(proof)
}

/// Another name of a command.
const fn alias(
    word: &'static str,
    means: &'static [&'static str],
    example: &'static [&'static str],
) -> Entry {
    let proof = "docker_compat.rs: commands_have_dockers_names_too";
    Entry { means, ..done(word, example, proof).says("another name") }
}

const fn alias_of_buildx(
    word: &'static str,
    means: &'static [&'static str],
    example: &'static [&'static str],
) -> Entry {
    Entry { known_to: BUILDX, ..alias(word, means, example) }
}

/// A command that has nothing to do here: it is said, and a script goes on.
const fn nothing_to_do(word: &'static str) -> Entry {
    let says = "manages builders, and dbuild is the only one it knows: nothing is done";
    Entry { known_to: BUILDX, ..Entry::new(Kind::Command, Verdict::Warned, BUILDX, word).says(says) }
}

const fn refused(word: &'static str, sentence: &'static str, hint: &'static str) -> Entry {
    Entry::new(Kind::Command, Verdict::Refused, DOCKER, word).says(sentence).hint(hint)
}

const fn of_buildx(word: &'static str, sentence: &'static str, hint: &'static str) -> Entry {
    Entry { known_to: BUILDX, ..refused(word, sentence, hint) }
}

const NO_CONTAINERS: &str = "is about containers, and dbuild keeps none";
const RUN_ELSEWHERE: &str = "`dbuild run IMAGE` runs a command and keeps nothing; for containers, hand the image to an \
                             engine: `dbuild build --load`";
const NO_DAEMON: &str = "talks to a daemon, and dbuild has none";
const NO_CLUSTER: &str = "talks to a cluster, and dbuild builds images";
const NO_BUILDERS: &str = "manages builders, and dbuild is the only one it knows";
const OF_DESKTOP: &str = "is of Docker Desktop";
const JUST_BUILD: &str = "`dbuild build` needs none";
const OTHER_NAME: &str = "has another name here";

pub(super) const COMMANDS: &[Entry] = &[
    done("build", &["build", "context"], "build.rs: only_the_final_stage_is_in_the_image"),
    done("images", &["images"], "cli.rs: images_are_listed_named_and_removed"),
    done("tag", &["tag", "no-such-image", "b"], "cli.rs: images_are_listed_named_and_removed"),
    done("rmi", &["rmi", "no-such-image"], "cli.rs: images_are_listed_named_and_removed"),
    done("inspect", &["inspect", "no-such-image"], "cli.rs: an_image_is_inspected_as_json"),
    done("save", &["save", "no-such-image"], "export.rs: an_image_survives_save_and_load"),
    done("load", &["load", "-i", "no-such-file"], "export.rs: an_image_survives_save_and_load"),
    done("pull", &["pull", "127.0.0.1:1/no-such-image"], "errors.rs: a_registry_cannot_be_reached"),
    done("push", &["push", "no-such-image"], "platforms.rs: an_index_is_pushed_whole"),
    done("run", &["run", "no-such-image"], "cli.rs: run_passes_on_the_command_and_its_end")
        .says("one command, in the foreground, and nothing of it is kept"),
    done("rm", &["rm", "no-such-image"], "cli.rs: images_are_listed_named_and_removed")
        .says("removes images, as `rmi`; Docker's removes containers"),
    done("history", &["history"], "journal.rs: history_lists_builds_and_logs_shows_what_they_wrote")
        .says("lists builds, as `docker buildx history ls`; Docker's lists the layers of an image"),
    done("logs", &["logs"], "journal.rs: history_lists_builds_and_logs_shows_what_they_wrote")
        .says("shows what the steps of a build wrote; Docker's is for containers"),
    done("image", &["image", "from-host", "--help"], "cli.rs: the_demo_needs_no_registry")
        .says("also has `from-host`"),
    refused("attach", NO_CONTAINERS, RUN_ELSEWHERE),
    refused("commit", NO_CONTAINERS, "write what should be in the image into the Dockerfile"),
    refused("container", NO_CONTAINERS, RUN_ELSEWHERE),
    refused("cp", NO_CONTAINERS, "files of an image: `FROM IMAGE`, and `dbuild build --output DIR`"),
    refused("create", NO_CONTAINERS, RUN_ELSEWHERE),
    refused("diff", NO_CONTAINERS, "`dbuild compare A B` compares images and builds"),
    refused("exec", NO_CONTAINERS, "`dbuild shell` opens a shell in an image or a step"),
    refused(
        "export",
        NO_CONTAINERS,
        "files of an image: `FROM IMAGE`, and `dbuild build --output type=tar,dest=FILE`",
    ),
    refused("kill", NO_CONTAINERS, RUN_ELSEWHERE),
    refused("pause", NO_CONTAINERS, RUN_ELSEWHERE),
    refused("port", NO_CONTAINERS, RUN_ELSEWHERE),
    refused("ps", NO_CONTAINERS, "`dbuild history` lists builds, `dbuild images` images"),
    refused("rename", NO_CONTAINERS, "`dbuild tag` gives an image another name"),
    refused("restart", NO_CONTAINERS, RUN_ELSEWHERE),
    refused("start", NO_CONTAINERS, RUN_ELSEWHERE),
    refused("stats", NO_CONTAINERS, RUN_ELSEWHERE),
    refused("stop", NO_CONTAINERS, "Ctrl-C ends a build"),
    refused("top", NO_CONTAINERS, RUN_ELSEWHERE),
    refused("unpause", NO_CONTAINERS, RUN_ELSEWHERE),
    refused("update", NO_CONTAINERS, RUN_ELSEWHERE),
    refused("wait", NO_CONTAINERS, RUN_ELSEWHERE),
    refused("checkpoint", NO_CONTAINERS, RUN_ELSEWHERE),
    refused(
        "volume",
        NO_CONTAINERS,
        "`dbuild run -v` mounts a directory; `dbuild cache du` lists cache mounts",
    ),
    refused("network", NO_CONTAINERS, "steps are on the host's network, or on none: `--network`"),
    refused("context", NO_DAEMON, "`--load` obeys DOCKER_HOST and DOCKER_CONTEXT"),
    refused("events", NO_DAEMON, "`dbuild build --progress rawjson` writes the events of a build"),
    alias("info", &["doctor"], &["info"]),
    done("version", &["version"], "docker_compat.rs: commands_have_dockers_names_too"),
    refused("system", NO_DAEMON, "`dbuild doctor` says what this machine offers"),
    alias("system df", &["cache", "du"], &["system", "df"]),
    alias("system prune", &["cache", "prune"], &["system", "prune", "-f"])
        .says("as `dbuild cache prune`: images with names stay; with `-a` also what could be pulled again"),
    alias("system info", &["doctor"], &["system", "info"]),
    refused("plugin", NO_DAEMON, "dbuild is one program"),
    done(
        "login",
        &["login", "-u", "a", "-p", "b", "127.0.0.1:1"],
        "sources.rs: a_login_is_tried_and_kept_where_docker_keeps_it",
    ),
    done("logout", &["logout", "127.0.0.1:1"], "sources.rs: a_login_is_tried_and_kept_where_docker_keeps_it"),
    refused("search", "is not supported", "look for the image on the registry's page"),
    refused("import", "is not supported", "`FROM scratch` and `ADD FILE.tar /` make an image of a tar"),
    refused(
        "manifest",
        "is not supported yet",
        "several platforms are built and pushed as one index: \
             `dbuild build --platform A,B --push`",
    ),
    refused("trust", "signs images, which dbuild does not", "sign what was pushed, by its digest"),
    refused(
        "scout",
        "looks for vulnerabilities, which dbuild does not",
        "`dbuild check IMAGE` says whether it will start",
    ),
    refused(
        "sbom",
        "lists packages, which dbuild does not",
        "give the image of `dbuild save` to such a tool",
    ),
    refused(
        "compose",
        "is not supported yet",
        "build each service: `dbuild build -f FILE --target STAGE CONTEXT`",
    ),
    refused("bake", "is not supported yet", "`dbuild build` with the flags of each target"),
    refused("swarm", NO_CLUSTER, "push the image: `dbuild build --push`"),
    refused("node", NO_CLUSTER, "push the image: `dbuild build --push`"),
    refused("service", NO_CLUSTER, "push the image: `dbuild build --push`"),
    refused("stack", NO_CLUSTER, "push the image: `dbuild build --push`"),
    refused("config", NO_CLUSTER, "push the image: `dbuild build --push`"),
    refused("secret", NO_CLUSTER, "secrets of a build are given with `dbuild build --secret`"),
    refused("model", NO_DAEMON, "dbuild builds images"),
    refused("init", "is not supported", "`dbuild demo` writes a sample project"),
    refused("debug", OF_DESKTOP, "`dbuild shell` opens a shell in an image or a step"),
    refused("desktop", OF_DESKTOP, "dbuild is one program"),
    refused("extension", OF_DESKTOP, "dbuild is one program"),
    refused("mcp", OF_DESKTOP, "dbuild is one program"),
    refused("offload", OF_DESKTOP, "dbuild builds on this machine"),
    done("help", &["help", "build"], "docker_compat.rs: commands_have_dockers_names_too"),
    done("completion", &["completion", "bash"], "docker_compat.rs: shells_and_man_know_the_commands"),
    refused("builder", NO_BUILDERS, "`dbuild build`, `dbuild cache`"),
    alias("builder build", &["build"], &["builder", "build", "context"]),
    alias("builder prune", &["cache", "prune"], &["builder", "prune", "-f"]),
    alias("image build", &["build"], &["image", "build", "context"]),
    refused("image history", "is not supported", "`dbuild inspect IMAGE` shows an image's history"),
    refused("image import", "is not supported", "`FROM scratch` and `ADD FILE.tar /` make an image of a tar"),
    alias("image inspect", &["inspect"], &["image", "inspect", "no-such-image"]),
    alias("image load", &["load"], &["image", "load", "-i", "no-such-file"]),
    alias("image ls", &["images"], &["image", "ls"]),
    alias("image list", &["images"], &["image", "list"]),
    refused("image prune", OTHER_NAME, "`dbuild cache prune`"),
    alias("image pull", &["pull"], &["image", "pull", "127.0.0.1:1/no-such-image"]),
    alias("image push", &["push"], &["image", "push", "no-such-image"]),
    alias("image rm", &["rm"], &["image", "rm", "no-such-image"]),
    alias("image remove", &["rm"], &["image", "remove", "no-such-image"]),
    alias("image save", &["save"], &["image", "save", "no-such-image"]),
    alias("image tag", &["tag"], &["image", "tag", "no-such-image", "b"]),
    of_buildx("buildx", "is a plug-in of Docker", "`dbuild build` takes its flags"),
    alias_of_buildx("buildx b", &["build"], &["buildx", "b", "context"]),
    alias_of_buildx("buildx build", &["build"], &["buildx", "build", "context"]),
    of_buildx("buildx bake", "is not supported yet", "`dbuild build` with the flags of each target"),
    nothing_to_do("buildx create"),
    of_buildx("buildx dap", "is for editors, and is not supported", "`dbuild build --on-failure shell`"),
    of_buildx(
        "buildx debug",
        "is not supported",
        "`dbuild build --on-failure shell`, `dbuild shell --failed`",
    ),
    of_buildx("buildx dial-stdio", NO_BUILDERS, JUST_BUILD),
    alias_of_buildx("buildx du", &["cache", "du"], &["buildx", "du"]),
    of_buildx(
        "buildx history",
        "has other names here",
        "`dbuild history`, `dbuild logs`, `dbuild report`, `dbuild compare`",
    ),
    alias_of_buildx("buildx history ls", &["history"], &["buildx", "history", "ls"]),
    alias_of_buildx("buildx history logs", &["logs"], &["buildx", "history", "logs"]),
    of_buildx("buildx imagetools", "is not supported yet", "`dbuild inspect`, `dbuild tag`, `dbuild push`"),
    of_buildx("buildx inspect", NO_BUILDERS, "`dbuild doctor` says what this machine offers"),
    nothing_to_do("buildx install"),
    of_buildx("buildx ls", NO_BUILDERS, "`dbuild doctor` says what this machine offers"),
    of_buildx("buildx policy", "is not supported", "leave it out: dbuild evaluates no policies"),
    alias_of_buildx("buildx prune", &["cache", "prune"], &["buildx", "prune", "-f"]),
    nothing_to_do("buildx rm"),
    nothing_to_do("buildx stop"),
    nothing_to_do("buildx uninstall"),
    nothing_to_do("buildx use"),
    alias_of_buildx("buildx version", &["version"], &["buildx", "version"]),
];
