//! The flags of `dbuild build`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Call, HabitArgs, KeyValue, MemorySize, NamedContextArg, Ulimit};

/// `dbuild build`. Of a flag that is given twice and takes one value the last one counts, as in Docker.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct BuildArgs {
    /// The build context: a directory, a URL of an archive or a Dockerfile, a git repository, or `-`: an archive or a
    /// Dockerfile on standard input
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
    /// Run every step anew
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Run the steps of these stages anew
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub(crate) no_cache_filter: Vec<String>,
    /// Set a label of the image
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) label: Vec<KeyValue>,
    /// A line for /etc/hosts of RUN steps
    #[arg(long, value_name = "HOST:IP")]
    pub(crate) add_host: Vec<String>,
    /// The network of RUN steps that do not say: default, host or none
    #[arg(long, value_name = "MODE", default_value = "default")]
    pub(crate) network: String,
    /// What RUN may ask for beyond the sandbox: security.insecure (network.host needs no permission)
    #[arg(long, value_name = "ENTITLEMENT", value_delimiter = ',')]
    pub(crate) allow: Vec<String>,
    /// Where the result goes: type=oci|docker|local|tar|image|registry,dest=PATH,…; a bare path is type=local
    #[arg(long, short = 'o', value_name = "SPEC")]
    pub(crate) output: Vec<String>,
    /// Hand the image to `docker load` or `podman load`
    #[arg(long)]
    pub(crate) load: bool,
    /// Push the image to the registries that its names say
    #[arg(long)]
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
    #[arg(long, value_name = "MODE", default_value = "auto", env = "BUILDKIT_PROGRESS", hide_env = true)]
    pub(crate) progress: ProgressMode,
    /// Say at the end why each step ran
    #[arg(long)]
    pub(crate) explain: bool,
    /// After a RUN has failed, on a terminal: open what `dbuild shell --failed` opens
    #[arg(long, value_name = "WHAT")]
    pub(crate) on_failure: Option<OnFailure>,
    /// Print only the image's id
    #[arg(long, short = 'q')]
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
    pub(crate) habits: HabitArgs,
    /// How many steps may run at the same time [default: 10, or twice the cores]
    #[arg(long, short = 'j', value_name = "N")]
    pub(crate) jobs: Option<std::num::NonZeroUsize>,
    /// What is done with the Dockerfile: build, check, outline or targets [format=text|json, ignorestatus]
    #[arg(long, value_name = "METHOD[,format=FORMAT]", default_value = "build")]
    pub(crate) call: Call,
    /// Short for --call=check
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) check: Option<bool>,
    /// How steps are keyed: linear, content or output
    #[arg(long, value_name = "NAME", default_value = "output")]
    pub(crate) strategy: String,
}

/// What is read, and as what: the flags that `build` and `check` have in common.
#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    /// The Dockerfile; `-` reads it from standard input [default: CONTEXT/Dockerfile]
    #[arg(long, short = 'f', value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The stage to build [default: the last]
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Set a build argument; without a value it is taken from the environment
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) build_arg: Vec<KeyValue>,
    /// A further context: NAME=DIRECTORY, a URL, a git repository, docker-image://REFERENCE or oci-layout://DIR:TAG
    #[arg(long, value_name = "NAME=SOURCE")]
    pub(crate) build_context: Vec<NamedContextArg>,
    /// Build for these platforms, such as linux/arm64
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    pub(crate) platform: Vec<String>,
    /// Ask the registry for every base image; `--pull=false` never asks for one that is here
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) pull: Option<bool>,
}

/// What is done when a RUN has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnFailure {
    /// A shell where it failed.
    Shell,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
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
    #[value(alias = "none")]
    Quiet,
}
