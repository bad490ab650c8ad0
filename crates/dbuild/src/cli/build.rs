//! The flags of `dbuild build`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::{Call, KeyValue, MemorySize, NamedContextArg, Ulimit, go_bool};
use crate::docker_compat::KnownFlags;

/// `dbuild build`. As in Docker, the last value counts of a flag that is given twice and takes one.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct BuildArgs {
    /// The build context: a directory, a URL of an archive or a Dockerfile, a git repository, or
    /// `-`: an archive or a Dockerfile on standard input
    pub(crate) context: PathBuf,
    /// Name the image: NAME[:TAG]; may be given several times
    #[arg(long, short = 't', value_name = "NAME")]
    pub(crate) tag: Vec<String>,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// A secret for RUN --mount=type=secret: id=ID[,src=FILE|,env=VARIABLE]
    #[arg(long, value_name = "id=ID,…")]
    pub(crate) secret: Vec<String>,
    /// The socket of an ssh agent for RUN --mount=type=ssh: default|ID[=SOCKET]
    #[arg(long, value_name = "ID[=SOCKET]")]
    pub(crate) ssh: Vec<String>,
    /// Run every step again, without the cache
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "false", hide_default_value = true, default_missing_value = "true", value_parser = go_bool)]
    pub(crate) no_cache: bool,
    /// Run the steps of these stages again, without the cache
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub(crate) no_cache_filter: Vec<String>,
    /// Take results of steps from here: type=registry,ref=REF|local,src=DIR|s3,bucket=NAME,…; a
    /// bare REF is type=registry
    #[arg(long, value_name = "SPEC")]
    pub(crate) cache_from: Vec<String>,
    /// Publish results of steps here: as --cache-from, with mode=min|max, timeout=SECONDS,
    /// sign-key=FILE, …
    #[arg(long, value_name = "SPEC")]
    pub(crate) cache_to: Vec<String>,
    /// Set a label of the image
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) label: Vec<KeyValue>,
    /// Lines for /etc/hosts of RUN steps
    #[arg(long, value_name = "HOST:IP[,…]")]
    pub(crate) add_host: Vec<String>,
    /// The network of RUN steps that name none: default, host or none
    #[arg(long, value_name = "MODE", default_value = "default")]
    pub(crate) network: String,
    /// What RUN may ask for beyond the sandbox: security.insecure (network.host needs no
    /// permission)
    #[arg(long, value_name = "ENTITLEMENT", value_delimiter = ',')]
    pub(crate) allow: Vec<String>,
    /// Where the result goes: type=oci|docker|local|tar|image|registry,dest=PATH,…; a bare path is
    /// type=local
    #[arg(long, short = 'o', value_name = "SPEC")]
    pub(crate) output: Vec<String>,
    /// Hand the image to `docker load` or `podman load`
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "false", hide_default_value = true, default_missing_value = "true", value_parser = go_bool)]
    pub(crate) load: bool,
    /// Push the image to the registries in its names
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "false", hide_default_value = true, default_missing_value = "true", value_parser = go_bool)]
    pub(crate) push: bool,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Write the build's result as JSON to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Write a report of the build, one HTML file, whether it succeeds or fails
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// How progress is shown; auto is tty on a terminal and plain elsewhere
    #[arg(long, value_name = "MODE", default_value = "auto", env = "BUILDKIT_PROGRESS", hide_env = true,
        value_parser = ProgressMode::named)]
    pub(crate) progress: ProgressMode,
    /// Explain at the end why each step ran
    #[arg(long)]
    pub(crate) explain: bool,
    /// After a RUN has failed, on a terminal, open the shell of `dbuild shell --failed`
    #[arg(long, value_name = "WHAT")]
    pub(crate) on_failure: Option<OnFailure>,
    /// Print only the image's id
    #[arg(long, short = 'q', value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "false", hide_default_value = true, default_missing_value = "true", value_parser = go_bool)]
    pub(crate) quiet: bool,
    /// Size of /dev/shm of RUN steps, such as 64m
    #[arg(long, value_name = "SIZE")]
    pub(crate) shm_size: Option<MemorySize>,
    /// A resource limit of RUN steps: NAME=SOFT[:HARD], such as nofile=1024:4096
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<Ulimit>,
    /// Annotate the image: [manifest:|index:|manifest-descriptor:|index-descriptor:]KEY=VALUE
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) annotation: Vec<String>,
    #[command(flatten)]
    pub(crate) known: KnownFlags,
    /// How many steps may run at the same time [default: 10, or twice the cores]
    #[arg(long, short = 'j', value_name = "N")]
    pub(crate) jobs: Option<std::num::NonZeroUsize>,
    /// What to do with the Dockerfile: build, check, outline or targets [format=text|json,
    /// ignorestatus]
    #[arg(long, value_name = "METHOD[,format=FORMAT]", default_value = "build", alias = "print")]
    pub(crate) call: Call,
    /// Short for --call=check
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = go_bool)]
    pub(crate) check: Option<bool>,
    /// How steps are keyed: linear, content, output or, as an experiment, traced: a RUN by what it
    /// read
    #[arg(long, value_name = "NAME", default_value = "output")]
    pub(crate) strategy: String,
    /// What a RUN that used the network is, if all that it read is as it was: hit or miss
    /// (--strategy traced)
    #[arg(long, value_name = "hit|miss", default_value = "hit", hide_possible_values = true)]
    pub(crate) traced_network: TracedNetworkArg,
}

/// `--traced-network`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum TracedNetworkArg {
    Hit,
    Miss,
}

impl From<TracedNetworkArg> for dbuild_scheduler::TracedNetwork {
    fn from(arg: TracedNetworkArg) -> Self {
        match arg {
            TracedNetworkArg::Hit => Self::Hit,
            TracedNetworkArg::Miss => Self::Miss,
        }
    }
}

/// What is read, and as what: the flags that `build` and `check` have in common.
#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    /// The Dockerfile; `-` reads it from standard input [default: CONTEXT/Dockerfile]
    #[arg(long, short = 'f', value_name = "FILE")]
    file: Option<OsString>,
    /// The stage to build [default: the last]
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Set a build argument; without a value it is taken from the environment
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) build_arg: Vec<KeyValue>,
    /// An additional context: NAME=DIRECTORY, a URL, a git repository, docker-image://REFERENCE or
    /// oci-layout://DIR:TAG
    #[arg(long, value_name = "NAME=SOURCE")]
    pub(crate) build_context: Vec<NamedContextArg>,
    /// Build for these platforms, such as linux/arm64
    #[arg(
        long,
        value_name = "PLATFORM",
        value_delimiter = ',',
        env = "DOCKER_DEFAULT_PLATFORM",
        hide_env = true
    )]
    platform: Vec<String>,
    /// Ask the registry for every base image; `--pull=false` never asks for one that is here
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = go_bool)]
    pub(crate) pull: Option<bool>,
}

impl SourceArgs {
    /// The Dockerfile that `-f` names. As in Docker an empty name, of a variable that is not set,
    /// is none.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_deref().filter(|file| !file.is_empty()).map(Path::new)
    }

    /// The stage that `--target` names; an empty name is none.
    pub(crate) fn target(&self) -> Option<&str> {
        self.target.as_deref().filter(|target| !target.is_empty())
    }

    /// What `--platform` names, as it is written.
    pub(crate) fn platforms(&self) -> impl Iterator<Item = &str> {
        self.platform.iter().map(String::as_str).filter(|platform| !platform.is_empty())
    }
}

/// What is done when a RUN has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnFailure {
    /// A shell where it failed.
    Shell,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProgressMode {
    /// `tty` on a terminal, `plain` elsewhere.
    Auto,
    /// A live view.
    Tty,
    /// Lines, for logs.
    Plain,
    /// One JSON object a line.
    Rawjson,
    /// Nothing but the result.
    Quiet,
}

impl ProgressMode {
    /// The mode of a word of `--progress` or `BUILDKIT_PROGRESS`. An empty variable is none.
    fn named(text: &str) -> Result<Self, String> {
        Ok(match text {
            "auto" | "" => Self::Auto,
            "tty" => Self::Tty,
            "plain" => Self::Plain,
            "rawjson" => Self::Rawjson,
            "quiet" | "none" => Self::Quiet,
            _ => {
                return Err(
                    "expected auto, tty, plain, rawjson, quiet or none, here or in BUILDKIT_PROGRESS"
                        .to_owned(),
                );
            }
        })
    }
}
