//! The configuration file, and where the store is.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use dbuild_cache::Policy;
use dbuild_store::AfterBuildLimits;
use serde::{Deserialize, Deserializer, de};

use crate::cli::{Age, ByteSize, Global};
use crate::error::Error;

/// `config.toml`. It knows of registries what BuildKit's `buildkitd.toml` knows, and of the cache
/// how much is kept.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) registry: dbuild_registry::Config,
    pub(crate) cache: Cache,
}

/// `[cache]`: what a collection after a build keeps.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Cache {
    #[serde(deserialize_with = "size")]
    keep_size: Option<u64>,
    #[serde(deserialize_with = "age")]
    keep_for: Option<Duration>,
    #[serde(deserialize_with = "policy")]
    policy: &'static dyn Policy,
    auto: bool,
}

impl Default for Cache {
    fn default() -> Self {
        Self { keep_size: None, keep_for: None, policy: dbuild_cache::default_policy(), auto: true }
    }
}

impl Cache {
    /// What is collected after a build; `None` where nothing is.
    pub(crate) fn limits(&self) -> Option<AfterBuildLimits> {
        let &Self { keep_size, keep_for, policy, auto } = self;
        auto.then_some(AfterBuildLimits { keep_size, keep_for, policy })
    }
}

/// A value that is written as on the command line.
fn word<'de, T: FromStr<Err = String>, D: Deserializer<'de>>(text: D) -> Result<T, D::Error> {
    let text = String::deserialize(text)?;
    text.parse().map_err(|expected| de::Error::custom(format!("`{text}`: {expected}")))
}

fn size<'de, D: Deserializer<'de>>(text: D) -> Result<Option<u64>, D::Error> {
    word(text).map(|ByteSize(bytes)| Some(bytes))
}

fn age<'de, D: Deserializer<'de>>(text: D) -> Result<Option<Duration>, D::Error> {
    word(text).map(|Age(age)| Some(age))
}

fn policy<'de, D: Deserializer<'de>>(text: D) -> Result<&'static dyn Policy, D::Error> {
    dbuild_cache::policy(&String::deserialize(text)?).map_err(de::Error::custom)
}

impl Config {
    /// Reads the file that the command line names, or the user's own if there is one.
    pub(crate) fn read(global: &Global) -> Result<Self, Error> {
        let (path, named) = match &global.config {
            Some(path) => (path.clone(), true),
            None => match user_dir("XDG_CONFIG_HOME", ".config") {
                Some(dir) => (dir.join("dbuild/config.toml"), false),
                None => return Ok(Self::default()),
            },
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => {
                return Ok(Self::default());
            }
            Err(error) => {
                return Err(Error::usage(format!(
                    "cannot read the configuration {}: {error}",
                    path.display()
                )));
            }
        };
        toml::from_str(&text).map_err(|error| {
            Error::usage(format!("the configuration {} is not valid: {error}", path.display())).hint(
                "the keys are those of buildkitd.toml: [registry.\"docker.io\"] mirrors = [\"host:port\"], \
                 and [cache] keep-size = \"20GB\", keep-for = \"30d\", policy = \"gdsf\", auto = false",
            )
        })
    }
}

/// The store's directory: as asked for, or `/var/lib/dbuild` for root, or the user's data
/// directory.
///
/// `is_root` is about the user who started dbuild: inside a user namespace everybody is root.
pub(crate) fn store_dir(global: &Global, is_root: bool) -> Result<PathBuf, Error> {
    if let Some(dir) = &global.store {
        return std::path::absolute(dir)
            .map_err(|error| Error::usage(format!("cannot use the store {}: {error}", dir.display())));
    }
    if is_root {
        return Ok(PathBuf::from("/var/lib/dbuild"));
    }
    user_dir("XDG_DATA_HOME", ".local/share").map(|dir| dir.join("dbuild")).ok_or_else(|| {
        Error::usage("HOME is not set, so there is no default directory for the store")
            .hint("name one with --store DIR")
    })
}

fn user_dir(variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute());
    absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(Path::new(below_home))))
}
