//! The flags of `dbuild cache`.

use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};

use super::{Age, ByteSize, ListArgs};

/// `dbuild cache`.
#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List the results of steps, the latest first
    Ls(CacheListArgs),
    /// Show what a result's key is made of, what it cost and what it led to
    Inspect {
        /// The first digits of a key, or words of the instruction
        result: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what the store takes on disk
    Du(ListArgs),
    /// Read the whole store and check it against its digests
    Verify(VerifyArgs),
    /// Remove what no image needs
    Prune(PruneArgs),
    /// Publish all results for other machines
    Export {
        /// Where: as --cache-to of build
        #[arg(value_name = "SPEC")]
        to: String,
    },
    /// Take all results of a cache of other machines into the store
    Import {
        /// Where from: as --cache-from of build
        #[arg(value_name = "SPEC")]
        from: String,
    },
    /// Make a pair of keys to sign results with: FILE, and FILE.pub for those who trust it
    Keygen {
        /// The file of the private key
        file: std::path::PathBuf,
    },
}

/// `dbuild cache ls`.
#[derive(Debug, Args)]
pub(crate) struct CacheListArgs {
    /// Only results of instructions that contain this text
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
    /// Sort by this, the largest first
    #[arg(long, value_name = "WHAT", default_value = "created")]
    pub(crate) sort: CacheSort,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a list of results is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CacheSort {
    /// When they were made.
    Created,
    /// When they were used last.
    Used,
    /// The bytes on disk.
    Size,
    /// The time that it took to make them.
    Cost,
    /// How often they were used.
    Hits,
}

/// `dbuild cache verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Drop what is damaged, so that it is made or pulled again
    #[arg(long)]
    pub(crate) repair: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `dbuild cache prune`.
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Prune a cache of other machines instead of the store: as --cache-to of build
    #[arg(long, value_name = "SPEC", conflicts_with = "all")]
    pub(crate) remote: Option<String>,
    /// Also remove the layers of base images, the cache mounts and the journal
    #[arg(long, short = 'a')]
    pub(crate) all: bool,
    /// Stop when this much or less is left, such as 10GB
    #[arg(long, value_name = "SIZE", visible_alias = "keep-storage")]
    pub(crate) keep_size: Option<ByteSize>,
    /// Keep what was used within this time, such as 24h or 7d
    #[arg(long, value_name = "TIME", conflicts_with = "filter")]
    pub(crate) keep_for: Option<Age>,
    /// until=TIME: another spelling of --keep-for
    #[arg(long, value_name = "until=TIME")]
    pub(crate) filter: Option<PruneFilter>,
    /// What is removed first to reach a size: lru, lfu or gdsf
    #[arg(long, value_name = "NAME", default_value_t = dbuild_cache::default_policy().name().to_owned())]
    pub(crate) policy: String,
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Accepted for compatibility: dbuild never asks
    #[arg(long, short = 'f')]
    pub(crate) force: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `until=TIME`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PruneFilter(pub(crate) Age);

impl FromStr for PruneFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some(("until", age)) => age.parse().map(Self),
            _ => Err("expected until=TIME, such as until=24h".to_owned()),
        }
    }
}
