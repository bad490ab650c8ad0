//! The command line. Flags and their meaning are those of `docker buildx build`, so that habits and
//! scripts carry over; what dbuild adds is named in plain words.

mod build;
mod cache;
mod check;
mod images;
mod journal;
mod lab;
mod limits;
mod plan;
mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use build::{BuildArgs, ProgressMode, SourceArgs};
pub(crate) use cache::{CacheCommand, CacheListArgs, CacheSort, PruneArgs, VerifyArgs};
pub(crate) use check::{CheckArgs, FindingsFormat};
pub(crate) use images::{ImageFilter, ImagesArgs, InspectArgs, LoginArgs, VersionArgs};
pub(crate) use journal::{CompareArgs, GraphArgs, GraphFormat, HistoryArgs, LogsArgs, ReportArgs};
pub(crate) use lab::{LabCommand, ReplayArgs};
pub(crate) use limits::{MemorySize, Ulimit, annotations};
pub(crate) use plan::{PlanArgs, WhyArgs};
pub(crate) use values::{Age, ByteSize, Call, KeyValue, Method, NamedContextArg, go_bool};

/// Builds container images from Dockerfiles: no daemon, no root, one binary.
#[derive(Debug, Parser)]
#[command(name = "dbuild", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Where images, snapshots and cache records are kept [default: /var/lib/dbuild for root, else
    /// $XDG_DATA_HOME/dbuild]
    #[arg(long, global = true, value_name = "DIR", env = "DBUILD_STORE", hide_env_values = true)]
    pub(crate) store: Option<PathBuf>,
    /// The configuration file [default: $XDG_CONFIG_HOME/dbuild/config.toml]
    #[arg(long, global = true, value_name = "FILE", env = "DBUILD_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// Messages for the developers of dbuild: error, warn, info, debug or trace
    #[arg(long, global = true, value_name = "LEVEL", default_value = "error")]
    pub(crate) log: String,
}

/// What dbuild can be asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
    /// Draw the steps of a Dockerfile or of a build as a graph
    Graph(Box<GraphArgs>),
    /// Write one HTML file that shows a build
    Report(ReportArgs),
    /// Compare two builds, Dockerfiles, stages or images
    Compare(CompareArgs),
    /// List the builds that the store remembers
    History(HistoryArgs),
    /// Show what the steps of a build wrote
    Logs(LogsArgs),
    /// Check a Dockerfile for mistakes, or whether an image will start
    Check(Box<CheckArgs>),
    /// Show what a build would do and why, step by step, without doing it
    Plan(Box<PlanArgs>),
    /// Explain why steps of a build ran again: what had changed, and where the change came from
    Why(WhyArgs),
    /// Run a command in an image of the store
    Run(RunArgs),
    /// Open a shell in a stage of a Dockerfile, in a step of a build, where a RUN failed, or in an
    /// image
    Shell(ShellArgs),
    /// List the images of the store
    #[command(visible_alias = "ls")]
    Images(ImagesArgs),
    /// Give an image another name
    Tag {
        /// A name or the first digits of a digest
        image: String,
        /// The new name
        name: String,
    },
    /// Remove images from the store
    #[command(visible_alias = "rmi")]
    Rm {
        /// Names or the first digits of digests
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Show an image's manifest and config as JSON
    Inspect(InspectArgs),
    /// Write an image to an archive
    Save(SaveArgs),
    /// Read images from an archive or directory into the store
    Load(LoadArgs),
    /// Pull an image into the store
    Pull {
        /// A reference, such as debian:12
        reference: String,
        /// The platform to pull
        #[arg(long, env = "DOCKER_DEFAULT_PLATFORM", hide_env = true)]
        platform: Option<String>,
    },
    /// Push an image of the store to a registry
    Push {
        /// A name of the store, which is also where it goes
        image: String,
    },
    /// Inspect the cache and remove from it
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Compare cache strategies and eviction policies on a history
    #[command(subcommand)]
    Lab(LabCommand),
    /// Write a small sample project, build it, run it, and explain what happened; or write a lesson
    Demo {
        /// Where the project is written [default: dbuild-demo, or dbuild-lesson-N]
        dir: Option<PathBuf>,
        /// Write the project of lesson N instead; without N, list the lessons
        #[arg(long, value_name = "N", num_args = 0..=1)]
        lesson: Option<Option<usize>>,
    },
    /// Make images without a Dockerfile
    #[command(subcommand)]
    Image(ImageCommand),
    /// Show what this machine offers, what it lacks, and what to install
    Doctor(ListArgs),
    /// Log in to a registry: the password is tried, and kept where Docker keeps it
    Login(LoginArgs),
    /// Forget a login
    Logout {
        /// The registry [default: docker.io]
        server: Option<String>,
    },
    /// Print the version
    Version(VersionArgs),
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write manual pages
    #[command(hide = true)]
    Man {
        /// Where they are written
        dir: PathBuf,
    },
}

/// Options of a listing.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ListArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `dbuild run`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(crate) struct RunArgs {
    /// The image, by name or the first digits of its digest, and the command [default: the image's
    /// own]
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_names = ["IMAGE", "COMMAND"])]
    pub(crate) image_and_command: Vec<String>,
    /// Replace the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    /// Set a variable; without a value it is taken from the environment
    #[arg(long, short = 'e', value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// The working directory of the command
    #[arg(long, short = 'w', value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// The user to run as, and the group
    #[arg(long, short = 'u', value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// host or none
    #[arg(long, value_name = "MODE", default_value = "host")]
    pub(crate) network: String,
    /// Mount a directory or file of this machine
    #[arg(long, short = 'v', value_name = "HOST:CONTAINER[:ro]")]
    pub(crate) volume: Vec<String>,
    /// Keep standard input open
    #[arg(long, short = 'i')]
    pub(crate) interactive: bool,
    /// Give the command a terminal
    #[arg(long, short = 't')]
    pub(crate) tty: bool,
    /// Accepted for compatibility: what a container writes is always discarded
    #[arg(long)]
    pub(crate) rm: bool,
}

/// `dbuild shell`.
#[derive(Debug, Default, Args)]
pub(crate) struct ShellArgs {
    /// A stage of the Dockerfile, built if necessary; the name of an image; or a stage or step of
    /// an earlier build: `builder 3`, `builder:3`, `#7` (as progress shows it), `:12` (its line),
    /// the beginning of its instruction
    #[arg(
        value_name = "STAGE|STEP|IMAGE",
        required_unless_present = "failed",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) subject: String,
    /// Where the command of a RUN failed, with its mounts and what it had written: in the latest
    /// build that failed
    #[arg(long, conflicts_with = "subject")]
    pub(crate) failed: bool,
    /// An earlier build, by its id or the beginning of it [default: the latest]
    #[arg(long = "build", value_name = "ID")]
    pub(crate) of: Option<String>,
    /// With --failed: a secret that the RUN had; for a stage: one that its build needs. As for
    /// `dbuild build`
    #[arg(long, value_name = "id=ID,…")]
    pub(crate) secret: Vec<String>,
    /// An ssh agent, in the same cases
    #[arg(long, value_name = "ID[=SOCKET]")]
    pub(crate) ssh: Vec<String>,
    /// With --failed: security.insecure, if the RUN had it
    #[arg(long, value_name = "ENTITLEMENT", value_delimiter = ',')]
    pub(crate) allow: Vec<String>,
    /// For a stage: flags of `dbuild build`, and the context [default: the current directory]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "BUILD FLAGS… CONTEXT")]
    pub(crate) build: Vec<String>,
    /// Run this line in the shell and exit
    #[arg(long, short = 'c', value_name = "LINE")]
    pub(crate) command: Option<String>,
    /// Set a variable; without a value it is taken from the environment
    #[arg(long, short = 'e', value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// The user to run as, and the group
    #[arg(long, short = 'u', value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Mount a directory or file of this machine
    #[arg(long, short = 'v', value_name = "HOST:CONTAINER[:ro]")]
    pub(crate) volume: Vec<String>,
}

/// `dbuild save`.
#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// A name or the first digits of a digest
    pub(crate) image: String,
    /// The file to write; standard output without it
    #[arg(long, short = 'o', value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// oci or docker
    #[arg(long, default_value = "docker")]
    pub(crate) format: String,
}

/// `dbuild load`.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// An OCI or docker archive, or an OCI layout directory; standard input without it
    #[arg(long, short = 'i', value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// The name to give an image that has none
    #[arg(long, short = 't', value_name = "NAME")]
    pub(crate) tag: Option<String>,
}

/// `dbuild image`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Make a base image from this machine's own programs and the libraries that they need
    FromHost {
        /// The name to give it
        #[arg(long, short = 't', default_value = "dbuild.local/host:latest")]
        tag: String,
        /// Programs to take along, by name or path [default: a shell and a few tools]
        programs: Vec<String>,
    },
}
