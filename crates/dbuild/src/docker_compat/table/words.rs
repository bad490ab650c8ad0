//! Keys and values of flags, build arguments, and what a Dockerfile can say.

use super::{BOTH, BUILDKIT, BUILDX, Entry, Kind, Verdict};

const fn key(
    verdict: Verdict,
    owner: &'static str,
    word: &'static str,
    example: &'static [&'static str],
) -> Entry {
    Entry::new(Kind::Key, verdict, BUILDX, word).of(owner).example(example)
}

const fn done(
    owner: &'static str,
    word: &'static str,
    example: &'static [&'static str],
    proof: &'static str,
) -> Entry {
    key(Verdict::Done, owner, word, example).proof(proof)
}

const fn refused(owner: &'static str, word: &'static str, example: &'static [&'static str]) -> Entry {
    key(Verdict::Refused, owner, word, example)
}

const fn warned(owner: &'static str, word: &'static str, example: &'static [&'static str]) -> Entry {
    key(Verdict::Warned, owner, word, example)
}

const fn silent(owner: &'static str, word: &'static str, example: &'static [&'static str]) -> Entry {
    key(Verdict::Silent, owner, word, example)
}

const OUTPUT: &str = "--output";
const FILES: &str = "export.rs: files_in_a_directory_and_in_a_tar";
const ARCHIVE: &str = "export.rs: an_oci_archive_and_directory";
const NO_SUCH_CACHE: &str =
    "has no effect: this kind of cache is not supported; use type=registry, local or s3";
const BY_REGISTRY: &str = "remote_cache.rs: a_result_travels_through_a_registry";
const BY_DIRECTORY: &str = "remote_cache.rs: a_result_travels_through_a_directory";
const BY_BUCKET: &str = "remote_cache.rs: a_cache_that_is_out_of_reach_costs_a_word";

pub(super) const KEYS: &[Entry] = &[
    done(OUTPUT, "type=cacheonly", &["-o", "type=cacheonly"], "export.rs: files_about_the_build"),
    done(OUTPUT, "type=docker", &["-o", "type=docker,dest=o.tar"], "export.rs: a_docker_archive"),
    done(OUTPUT, "type=image", &["-o", "type=image"], "build.rs: outputs_may_be_bare_names"),
    done(OUTPUT, "type=local", &["-o", "type=local,dest=o"], FILES),
    done(OUTPUT, "type=oci", &["-o", "type=oci,dest=o.tar"], ARCHIVE),
    done(
        OUTPUT,
        "type=registry",
        &["-o", "type=registry,name=127.0.0.1:1/x"],
        "platforms.rs: an_index_is_pushed_whole",
    ),
    done(OUTPUT, "type=tar", &["-o", "type=tar,dest=o.tar"], FILES),
    done(OUTPUT, "annotation.KEY", &["-o", "type=image,annotation.a=b"], "flags.rs: annotations_are_written")
        .says("and annotation-LEVEL.KEY"),
    silent(OUTPUT, "attestation-inline", &["-o", "type=image,attestation-inline=true"])
        .says("there are no attestations"),
    silent(OUTPUT, "attestation-prefix", &["-o", "type=local,dest=o,attestation-prefix=x"])
        .says("there are no attestations"),
    silent(OUTPUT, "buildinfo", &["-o", "type=image,buildinfo=true"]).says("BuildKit no longer has it"),
    silent(OUTPUT, "buildinfo-attrs", &["-o", "type=image,buildinfo-attrs=true"])
        .says("BuildKit no longer has it"),
    done(
        OUTPUT,
        "compression",
        &["-o", "type=image,compression=zstd"],
        "export.rs: layers_are_compressed_as_the_output_says",
    ),
    done(
        OUTPUT,
        "compression-level",
        &["-o", "type=image,compression-level=1"],
        "export.rs: layers_are_compressed_as_the_output_says",
    ),
    refused(OUTPUT, "context", &["-o", "type=docker,context=x"])
        .says("names an endpoint of Docker, and dbuild speaks to no daemon")
        .hint(
            "`type=docker` hands the image to the docker command, which obeys DOCKER_HOST and DOCKER_CONTEXT",
        ),
    silent(OUTPUT, "danging-name-empty-only", &["-o", "type=image,danging-name-empty-only=true"])
        .says("it says when dangling-name-prefix counts"),
    warned(OUTPUT, "dangling-name-prefix", &["-o", "type=image,dangling-name-prefix=x"])
        .says("has no effect: an image without a name is known by its digest"),
    done(OUTPUT, "dest", &["-o", "type=tar,dest=o.tar"], FILES),
    done(
        OUTPUT,
        "force-compression",
        &["-o", "type=image,force-compression=true"],
        "export.rs: layers_are_compressed_as_the_output_says",
    ),
    done(OUTPUT, "mode", &["-o", "type=local,dest=o,mode=copy"], FILES).says("copy alone"),
    refused(OUTPUT, "mode=delete", &["-o", "type=local,dest=o,mode=delete"])
        .says("is not supported: files are only added, as with `copy`"),
    done(OUTPUT, "name", &["-o", "type=image,\"name=a,b\""], "build.rs: outputs_may_be_bare_names"),
    warned(OUTPUT, "name-canonical", &["-o", "type=image,name-canonical=true"])
        .unless(&["false", "0"])
        .says("has no effect: an image is found by its digest in any case"),
    silent(OUTPUT, "oci-artifact", &["-o", "type=image,oci-artifact=true"]).says("there are no attestations"),
    done(OUTPUT, "oci-mediatypes", &["-o", "type=image,oci-mediatypes=false"], "export.rs: a_docker_archive"),
    done(
        OUTPUT,
        "platform-split",
        &["-o", "type=local,dest=o,platform-split=true"],
        "platforms.rs: files_of_each_platform_are_in_a_directory_of_their_own",
    ),
    warned(OUTPUT, "prefer-nondist-layers", &["-o", "type=image,prefer-nondist-layers=true"])
        .unless(&["false", "0"])
        .says("has no effect: layers of a base keep their media types"),
    done(OUTPUT, "push", &["-o", "type=image,push=false"], "platforms.rs: an_index_is_pushed_whole"),
    done(
        OUTPUT,
        "push-by-digest",
        &["-o", "type=image,push-by-digest=true"],
        "platforms.rs: an_index_is_pushed_whole",
    ),
    refused(OUTPUT, "registry.insecure", &["-o", "type=image,registry.insecure=true"])
        .unless(&["false", "0"])
        .says("is not taken here")
        .hint("set `insecure = true` for the registry in the configuration instead"),
    done(
        OUTPUT,
        "rewrite-timestamp",
        &["-o", "type=image,rewrite-timestamp=true"],
        "build.rs: the_same_source_gives_the_same_image_in_another_store",
    ),
    refused(OUTPUT, "source-date-epoch", &["-o", "type=image,source-date-epoch=1"])
        .says("is not taken here")
        .hint("set it for the whole build: `--build-arg SOURCE_DATE_EPOCH=…`"),
    warned(OUTPUT, "store", &["-o", "type=image,store=false"])
        .unless(&["true", "1"])
        .says("has no effect: an image is always kept in dbuild's store"),
    done(OUTPUT, "tar", &["-o", "type=oci,tar=false,dest=o"], ARCHIVE),
    silent(OUTPUT, "unpack", &["-o", "type=image,unpack=true"])
        .says("layers are unpacked when they are needed"),
    done("--cache-from", "type=registry", &["--cache-from", "type=registry,ref=localhost:1/x"], BY_REGISTRY),
    done("--cache-from", "type=local", &["--cache-from", "type=local,src=x"], BY_DIRECTORY),
    warned("--cache-from", "type=gha", &["--cache-from", "type=gha,scope=x"]).says(NO_SUCH_CACHE),
    done(
        "--cache-from",
        "type=s3",
        &["--cache-from", "type=s3,bucket=x,endpoint_url=http://localhost:1"],
        BY_BUCKET,
    ),
    warned("--cache-from", "type=azblob", &["--cache-from", "type=azblob,name=x"]).says(NO_SUCH_CACHE),
    warned("--cache-to", "type=inline", &["--cache-to", "type=inline"]).says(NO_SUCH_CACHE),
    done(
        "--cache-to",
        "type=registry",
        &["--cache-to", "type=registry,ref=localhost:1/x,mode=max"],
        BY_REGISTRY,
    ),
    done("--cache-to", "type=local", &["--cache-to", "type=local,dest=x"], BY_DIRECTORY),
    warned("--cache-to", "type=gha", &["--cache-to", "type=gha,mode=max"]).says(NO_SUCH_CACHE),
    done(
        "--cache-to",
        "type=s3",
        &["--cache-to", "type=s3,bucket=x,endpoint_url=http://localhost:1"],
        BY_BUCKET,
    ),
    warned("--cache-to", "type=azblob", &["--cache-to", "type=azblob,name=x"]).says(NO_SUCH_CACHE),
    done(
        "--secret",
        "id",
        &["--secret", "id=x,env=PATH"],
        "secrets.rs: a_secret_is_where_it_is_asked_for_and_nowhere_else",
    ),
    done(
        "--secret",
        "src",
        &["--secret", "id=x,src=context/Dockerfile"],
        "secrets.rs: a_secret_is_where_it_is_asked_for_and_nowhere_else",
    ),
    done(
        "--secret",
        "source",
        &["--secret", "id=x,source=context/Dockerfile"],
        "secrets.rs: a_secret_is_where_it_is_asked_for_and_nowhere_else",
    ),
    done(
        "--secret",
        "env",
        &["--secret", "id=x,env=PATH"],
        "secrets.rs: a_secret_is_where_it_is_asked_for_and_nowhere_else",
    ),
    done("--secret", "type", &["--secret", "id=x,type=env,env=PATH"], "flags.rs: lists_are_csv"),
    refused("--ssh", "ID=KEY", &["--ssh", "default=context/Dockerfile"])
        .says("is not the socket of an agent")
        .hint("`ssh-agent` and `ssh-add FILE`, then `--ssh default`"),
    done("--allow", "network.host", &["--allow", "network.host"], "sandbox.rs: privileges_are_dockers"),
    done(
        "--allow",
        "security.insecure",
        &["--allow", "security.insecure"],
        "sandbox.rs: privileges_are_dockers",
    ),
    refused("--allow", "device", &["--allow", "device"])
        .says("is not supported: `RUN --device` passes devices in, which dbuild does not do"),
    refused("--allow", "buildx.local.delete", &["--allow", "buildx.local.delete"])
        .says("is not supported: files are only added to a directory, never deleted"),
    done("--call", "build", &["--call", "build"], "check.rs: check_and_call_are_flags_of_build"),
    done("--call", "check", &["--call", "check"], "check.rs: check_and_call_are_flags_of_build"),
    done("--call", "lint", &["--call", "lint"], "check.rs: check_and_call_are_flags_of_build"),
    done("--call", "outline", &["--call", "outline"], "check.rs: an_outline_tells_what_a_target_takes"),
    done("--call", "targets", &["--call", "targets"], "check.rs: targets_are_listed"),
    done("--call", "format", &["--call", "targets,format=json"], "check.rs: json_is_as_buildx_writes_it"),
    done(
        "--call",
        "ignorestatus",
        &["--call", "check,ignorestatus=true"],
        "check.rs: check_and_call_are_flags_of_build",
    ),
    done("--network", "default", &["--network", "default"], "sandbox.rs: the_network_can_be_left_out"),
    done("--network", "host", &["--network", "host"], "sandbox.rs: the_network_can_be_left_out"),
    done("--network", "none", &["--network", "none"], "sandbox.rs: the_network_can_be_left_out"),
    Entry { known_to: BOTH, ..refused("--network", "bridge", &["--network", "bridge"]) }
        .says("is not supported")
        .hint("default, host or none: a step has the host's network, or none"),
    done("--platform", "local", &["--platform", "local"], "flags.rs: platforms_of_the_environment"),
    refused("--platform", "windows/ARCH", &["--platform", "windows/amd64"])
        .says("is not supported: dbuild builds Linux images only"),
];

const fn argument(verdict: Verdict, word: &'static str, example: &'static [&'static str]) -> Entry {
    Entry::new(Kind::BuildArgument, verdict, BUILDKIT, word).example(example)
}

const fn argument_done(word: &'static str, example: &'static [&'static str], proof: &'static str) -> Entry {
    argument(Verdict::Done, word, example).proof(proof)
}

const OFF: &[&str] = &["", "0", "f", "F", "false", "FALSE", "False"];
const PROXIES: &str = "fixtures/cases/proxy-args";

pub(super) const BUILD_ARGUMENTS: &[Entry] = &[
    argument(Verdict::Refused, "BUILDKIT_ATTEST_PROVENANCE", &["mode=max"])
        .unless(&["", "false", "0", "disabled=true"])
        .says("asks for an attestation, and attestations are not supported")
        .hint("leave it out: an image of dbuild has none"),
    argument(Verdict::Refused, "BUILDKIT_ATTEST_SBOM", &["true"])
        .unless(&["", "false", "0", "disabled=true"])
        .says("asks for an attestation, and attestations are not supported")
        .hint("leave it out: an image of dbuild has none"),
    argument_done("BUILDKIT_CACHE_MOUNT_NS", &["x"], "build_args.rs: cache_mounts_have_name_spaces"),
    argument_done(
        "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
        &["1"],
        "build_args.rs: the_git_directory_of_a_context_is_kept",
    ),
    argument(Verdict::Refused, "BUILDKIT_DISABLE_FILEOP", &["1"])
        .unless(OFF)
        .says("is not supported, and BuildKit no longer has it")
        .hint("leave it out"),
    argument_done(
        "BUILDKIT_DOCKERFILE_CHECK",
        &["skip=all"],
        "check.rs: a_build_argument_says_which_rules_apply",
    ),
    argument(Verdict::Silent, "BUILDKIT_INLINE_BUILDINFO_ATTRS", &["1"]).says("BuildKit no longer has it"),
    argument(Verdict::Warned, "BUILDKIT_INLINE_CACHE", &["1"])
        .unless(OFF)
        .says("has no effect yet: the cache is not written into images"),
    argument_done("BUILDKIT_MULTI_PLATFORM", &["1"], "image_config.rs: one_platform_can_be_an_index"),
    argument_done("BUILDKIT_SANDBOX_HOSTNAME", &["x"], "build_args.rs: the_host_name_can_be_given")
        .says("part of the key of a RUN, which can ask for its host name"),
    argument(Verdict::Silent, "BUILDKIT_SBOM_SCAN_CONTEXT", &["true"]).says("there are no attestations"),
    argument(Verdict::Silent, "BUILDKIT_SBOM_SCAN_STAGE", &["true"]).says("there are no attestations"),
    argument(Verdict::Warned, "BUILDKIT_SYNTAX", &["example/other"])
        .says("dbuild reads the file as a Dockerfile of BuildKit")
        .unless(&["", "dockerfile.v0", "docker/dockerfile", "docker/dockerfile-upstream"]),
    argument_done(
        "SOURCE_DATE_EPOCH",
        &["1"],
        "build.rs: the_same_source_gives_the_same_image_in_another_store",
    ),
    argument_done("HTTP_PROXY", &["x"], PROXIES),
    argument_done("HTTPS_PROXY", &["x"], PROXIES),
    argument_done("FTP_PROXY", &["x"], PROXIES),
    argument_done("NO_PROXY", &["x"], PROXIES),
    argument_done("ALL_PROXY", &["x"], PROXIES),
];

const fn instruction(word: &'static str, example: &'static str, proof: &'static str) -> Entry {
    Entry { text: example, ..Entry::new(Kind::Dockerfile, Verdict::Done, BUILDKIT, word) }.proof(proof)
}

pub(super) const DOCKERFILE: &[Entry] = &[
    instruction(
        "# check=",
        "# check=skip=all\nFROM scratch\n",
        "check.rs: a_build_argument_says_which_rules_apply",
    ),
    instruction("# escape=", "# escape=`\nFROM scratch\n", "fixtures/cases/syntax-escape"),
    instruction(
        "# syntax=",
        "# syntax=docker/dockerfile:1\nFROM scratch\n",
        "fixtures/cases/syntax-directive-syntax",
    ),
    instruction("ADD", "FROM scratch\nADD Dockerfile /\n", "fixtures/cases/add-plain"),
    instruction(
        "ADD --checksum",
        "FROM scratch\nADD --checksum=sha256:0000000000000000000000000000000000000000000000000000000000000000 http://127.0.0.1:1/x /\n",
        "add_url.rs: a_checksum_that_is_known_asks_nobody",
    ),
    instruction(
        "ADD --chmod",
        "FROM scratch\nADD --chmod=600 Dockerfile /\n",
        "fixtures/cases/copy-chmod-octal",
    ),
    instruction(
        "ADD --chown",
        "FROM scratch\nADD --chown=1 Dockerfile /\n",
        "fixtures/cases/add-archive-chown",
    ),
    instruction("ADD --exclude", "FROM scratch\nADD --exclude=x . /\n", "fixtures/cases/copy-exclude"),
    instruction(
        "ADD --keep-git-dir",
        "FROM scratch\nADD --keep-git-dir=true https://127.0.0.1:1/x.git /\n",
        "add_git.rs: the_git_directory_is_kept_when_told_so",
    ),
    instruction("ADD --link", "FROM scratch\nADD --link Dockerfile /\n", "fixtures/cases/copy-link"),
    instruction(
        "ADD --unpack",
        "FROM scratch\nADD --unpack=false Dockerfile /\n",
        "fixtures/cases/add-unpack-true",
    ),
    instruction("ARG", "FROM scratch\nARG A=b\n", "fixtures/cases/arg-scope"),
    instruction("CMD", "FROM scratch\nCMD [\"/x\"]\n", "fixtures/cases/cmd-shell-line"),
    instruction("COPY", "FROM scratch\nCOPY Dockerfile /\n", "fixtures/cases/copy-destinations"),
    instruction(
        "COPY --chmod",
        "FROM scratch\nCOPY --chmod=600 Dockerfile /\n",
        "fixtures/cases/copy-chmod-octal",
    ),
    instruction("COPY --chown", "FROM scratch\nCOPY --chown=1 Dockerfile /\n", "fixtures/cases/chown-forms"),
    instruction("COPY --exclude", "FROM scratch\nCOPY --exclude=x . /\n", "fixtures/cases/copy-exclude"),
    instruction(
        "COPY --from",
        "FROM scratch AS a\nCOPY Dockerfile /\nFROM scratch\nCOPY --from=a / /\n",
        "fixtures/cases/stage-index-from",
    ),
    instruction("COPY --link", "FROM scratch\nCOPY --link Dockerfile /\n", "fixtures/cases/copy-link"),
    instruction(
        "COPY --parents",
        "FROM scratch\nCOPY --parents Dockerfile /\n",
        "fixtures/cases/copy-parents",
    ),
    instruction("ENTRYPOINT", "FROM scratch\nENTRYPOINT [\"/x\"]\n", "fixtures/cases/entrypoint-clears-cmd"),
    instruction("ENV", "FROM scratch\nENV A=b\n", "fixtures/cases/env-order"),
    instruction("EXPOSE", "FROM scratch\nEXPOSE 80\n", "fixtures/cases/expose-forms"),
    instruction("FROM", "FROM scratch\n", "fixtures/cases/from-arg"),
    instruction(
        "FROM --platform",
        "FROM --platform=$BUILDPLATFORM scratch\n",
        "fixtures/cases/from-platform-scratch",
    ),
    instruction("HEALTHCHECK", "FROM scratch\nHEALTHCHECK NONE\n", "fixtures/cases/healthcheck"),
    instruction("LABEL", "FROM scratch\nLABEL a=b\n", "fixtures/cases/label"),
    instruction("MAINTAINER", "FROM scratch\nMAINTAINER x\n", "fixtures/cases/maintainer"),
    instruction("ONBUILD", "FROM scratch\nONBUILD ENV A=b\n", "fixtures/cases/onbuild"),
    instruction("RUN", "FROM scratch AS a\nRUN x\nFROM scratch\n", "fixtures/cases/run-forms"),
    instruction(
        "RUN --mount=type=bind",
        "FROM scratch AS a\nRUN --mount=type=bind,target=/x x\nFROM scratch\n",
        "fixtures/cases/mount-bind",
    ),
    instruction(
        "RUN --mount=type=cache",
        "FROM scratch AS a\nRUN --mount=type=cache,target=/x x\nFROM scratch\n",
        "fixtures/cases/mount-cache",
    ),
    instruction(
        "RUN --mount=type=secret",
        "FROM scratch AS a\nRUN --mount=type=secret,id=x x\nFROM scratch\n",
        "fixtures/cases/mount-secret",
    ),
    instruction(
        "RUN --mount=type=ssh",
        "FROM scratch AS a\nRUN --mount=type=ssh x\nFROM scratch\n",
        "secrets.rs: an_agent_answers_whom_the_mount_lets_in",
    ),
    instruction(
        "RUN --mount=type=tmpfs",
        "FROM scratch AS a\nRUN --mount=type=tmpfs,target=/x x\nFROM scratch\n",
        "fixtures/cases/mount-tmpfs",
    ),
    instruction(
        "RUN --network",
        "FROM scratch AS a\nRUN --network=none x\nFROM scratch\n",
        "fixtures/cases/run-network-none",
    ),
    instruction(
        "RUN --security",
        "FROM scratch AS a\nRUN --security=insecure x\nFROM scratch\n",
        "fixtures/cases/run-insecure",
    ),
    Entry {
        verdict: Verdict::Refused,
        ..instruction("RUN --device", "FROM scratch\nRUN --device=x y\n", "")
    }
    .says("is not supported"),
    instruction("SHELL", "FROM scratch\nSHELL [\"/x\"]\n", "fixtures/cases/shell"),
    instruction("STOPSIGNAL", "FROM scratch\nSTOPSIGNAL 9\n", "fixtures/cases/stopsignal"),
    instruction("USER", "FROM scratch\nUSER 1\n", "fixtures/cases/user-forms"),
    instruction("VOLUME", "FROM scratch\nVOLUME /x\n", "fixtures/cases/volume"),
    instruction("WORKDIR", "FROM scratch\nWORKDIR /x\n", "fixtures/cases/workdir-as-written"),
    Entry {
        verdict: Verdict::Refused,
        ..instruction("FROM --platform=windows/ARCH", "FROM --platform=windows/amd64 x\n", "")
    }
    .says("is not supported"),
];
