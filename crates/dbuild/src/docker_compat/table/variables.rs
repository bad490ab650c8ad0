//! Variables of the environment.

use super::{BUILDKIT, BUILDX, DOCKER, Entry, Kind, Verdict};

const fn variable(
    verdict: Verdict,
    known_to: &'static str,
    word: &'static str,
    example: &'static [&'static str],
) -> Entry {
    Entry::new(Kind::Variable, verdict, known_to, word).example(example)
}

const fn done(
    known_to: &'static str,
    word: &'static str,
    example: &'static [&'static str],
    proof: &'static str,
) -> Entry {
    variable(Verdict::Done, known_to, word, example).proof(proof)
}

const fn warned(known_to: &'static str, word: &'static str, example: &'static [&'static str]) -> Entry {
    variable(Verdict::Warned, known_to, word, example)
}

const fn silent(known_to: &'static str, word: &'static str, sentence: &'static str) -> Entry {
    variable(Verdict::Silent, known_to, word, &["1"]).says(sentence)
}

const OFF: &[&str] = &["", "0", "f", "F", "false", "FALSE", "False"];
const NO_DAEMON: &str = "there is no daemon";
const BAKE: &str = "it is read by `docker buildx bake` alone";
const COMPOSE: &str = "it is read by `docker compose` alone";
const FOR_LOAD: &str = "handed on to the docker command of `--load`; nothing else talks to a daemon";

pub(super) const VARIABLES: &[Entry] = &[
    warned(BUILDKIT, "BUILDKIT_COLORS", &["run=green"])
        .says("has no effect: the view has colours of its own, and NO_COLOR turns them off"),
    silent(BUILDKIT, "BUILDKIT_HOST", NO_DAEMON),
    done(BUILDKIT, "BUILDKIT_PROGRESS", &["plain"], "flags.rs: variables_of_the_view"),
    warned(BUILDKIT, "BUILDKIT_TTY_LOG_LINES", &["20"])
        .says("has no effect: the view shows what the terminal has room for"),
    silent(BUILDX, "BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP", BAKE),
    silent(BUILDX, "BUILDX_BAKE_ENTITLEMENTS_FS", BAKE),
    silent(BUILDX, "BUILDX_BAKE_FILE", BAKE),
    silent(BUILDX, "BUILDX_BAKE_FILE_RELATIVE_PATHS", BAKE),
    silent(BUILDX, "BUILDX_BAKE_GIT_AUTH_HEADER", BAKE),
    silent(BUILDX, "BUILDX_BAKE_GIT_AUTH_TOKEN", BAKE),
    silent(BUILDX, "BUILDX_BAKE_GIT_SSH", BAKE),
    silent(BUILDX, "BUILDX_BAKE_PATH_SEPARATOR", BAKE),
    silent(BUILDX, "BUILDX_BUILDER", "there is one builder"),
    silent(BUILDX, "BUILDX_CONFIG", "there is one builder"),
    warned(BUILDX, "BUILDX_CPU_PROFILE", &["x"]).says("has no effect: no profile is written"),
    silent(BUILDX, "BUILDX_DAP_USER_AGENT", "there is no debug adapter"),
    warned(BUILDX, "BUILDX_DEFAULT_POLICY", &["1"])
        .unless(OFF)
        .says("has no effect: dbuild evaluates no policies"),
    silent(BUILDX, "BUILDX_EXPERIMENTAL", "nothing here waits for it"),
    silent(BUILDX, "BUILDX_GIT_CHECK_DIRTY", "it is about provenance, and there are no attestations"),
    silent(BUILDX, "BUILDX_GIT_INFO", "it is about provenance, and there are no attestations"),
    warned(BUILDX, "BUILDX_GIT_LABELS", &["full"])
        .unless(OFF)
        .says("has no effect: no labels are made of the git repository; give them with `--label`"),
    warned(BUILDX, "BUILDX_MEM_PROFILE", &["x"]).says("has no effect: no profile is written"),
    silent(BUILDX, "BUILDX_METADATA_PROVENANCE", "there is no provenance to write"),
    warned(BUILDX, "BUILDX_METADATA_WARNINGS", &["1"])
        .unless(OFF)
        .says("has no effect: `--metadata-file` has no warnings; `dbuild check --format json` lists them"),
    silent(BUILDX, "BUILDX_NO_DEFAULT_ATTESTATIONS", "there are none"),
    silent(BUILDX, "BUILDX_NO_DEFAULT_LOAD", "an image goes to Docker with `--load` alone"),
    silent(BUILDX, "BUILDX_NO_DEFAULT_OCI_ARTIFACT", "there are no attestations"),
    silent(BUILDX, "BUILDX_SEND_GIT_QUERY_AS_INPUT", "there is one frontend, and it knows them"),
    silent(DOCKER, "COMPOSE_BAKE", COMPOSE),
    silent(DOCKER, "COMPOSE_DOCKER_CLI_BUILD", COMPOSE),
    silent(DOCKER, "COMPOSE_FILE", COMPOSE),
    silent(DOCKER, "COMPOSE_PROFILES", COMPOSE),
    silent(DOCKER, "COMPOSE_PROJECT_NAME", COMPOSE),
    silent(DOCKER, "DOCKER_API_VERSION", NO_DAEMON),
    done(DOCKER, "DOCKER_AUTH_CONFIG", &["{\"auths\":{}}"], "flags.rs: credentials_may_be_in_a_variable"),
    warned(DOCKER, "DOCKER_BUILDKIT", &["0"])
        .unless(&["", "1", "t", "T", "true", "TRUE", "True"])
        .says("asks for Docker's classic builder: dbuild builds as BuildKit does"),
    done(DOCKER, "DOCKER_CERT_PATH", &["x"], "flags.rs: variables_of_docker_reach_its_command")
        .says(FOR_LOAD),
    silent(DOCKER, "DOCKER_CLI_EXPERIMENTAL", "nothing here waits for it"),
    silent(DOCKER, "DOCKER_CLI_HINTS", "it is about Docker's own hints"),
    done(DOCKER, "DOCKER_CONFIG", &["x"], "credentials.rs: a_variable_lets_in"),
    warned(DOCKER, "DOCKER_CONTENT_TRUST", &["1"])
        .unless(OFF)
        .says("has no effect: signatures are not looked at"),
    silent(DOCKER, "DOCKER_CONTENT_TRUST_SERVER", "signatures are not looked at"),
    done(DOCKER, "DOCKER_CONTEXT", &["x"], "flags.rs: variables_of_docker_reach_its_command").says(FOR_LOAD),
    warned(DOCKER, "DOCKER_CUSTOM_HEADERS", &["a=b"]).says("has no effect: registries get no headers of it"),
    done(DOCKER, "DOCKER_DEFAULT_PLATFORM", &["linux/amd64"], "flags.rs: platforms_of_the_environment"),
    silent(DOCKER, "DOCKER_HIDE_LEGACY_COMMANDS", "there are none"),
    done(DOCKER, "DOCKER_HOST", &["x"], "flags.rs: variables_of_docker_reach_its_command").says(FOR_LOAD),
    silent(DOCKER, "DOCKER_SCAN_SUGGEST", "nothing is suggested"),
    done(DOCKER, "DOCKER_TLS", &["1"], "flags.rs: variables_of_docker_reach_its_command").says(FOR_LOAD),
    done(DOCKER, "DOCKER_TLS_VERIFY", &["1"], "flags.rs: variables_of_docker_reach_its_command")
        .says(FOR_LOAD),
    variable(Verdict::Refused, BUILDX, "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY", &["x"])
        .says("is not supported: dbuild evaluates no policies")
        .hint("unset it, and pin images and files by their digests"),
    done("all", "HOME", &["x"], "credentials.rs: a_variable_lets_in"),
    done("all", "HTTPS_PROXY", &[""], "add_url.rs: proxies_of_the_environment_are_used")
        .says("in lower case, too"),
    done("all", "HTTP_PROXY", &[""], "add_url.rs: proxies_of_the_environment_are_used").says("in lower case"),
    done("all", "NO_COLOR", &["1"], "terminal.rs: no_color_is_heard_and_a_failure_is_told"),
    done("all", "NO_PROXY", &[""], "add_url.rs: proxies_of_the_environment_are_used")
        .says("in lower case, too"),
    done(BUILDKIT, "OTEL_EXPORTER_OTLP_ENDPOINT", &[""], "telemetry.rs: a_build_is_a_trace")
        .says("and others of OpenTelemetry"),
    warned(BUILDKIT, "PROGRESS_NO_TRUNC", &["1"])
        .unless(OFF)
        .says("has no effect: `--progress plain` writes every line whole"),
    done(
        BUILDKIT,
        "SOURCE_DATE_EPOCH",
        &["1"],
        "build.rs: the_same_source_gives_the_same_image_in_another_store",
    ),
    done(BUILDX, "SSH_AUTH_SOCK", &["x"], "flags.rs: a_key_is_not_taken_for_an_agent"),
    warned(BUILDKIT, "TTY_DISPLAY_RATE", &["10"]).says("has no effect: the view draws at a rate of its own"),
];
