//! The configuration file, and where the store is.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::cli::Global;
use crate::error::Error;

/// `config.toml`. It knows of registries what BuildKit's `buildkitd.toml` knows.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) registry: dbuild_registry::Config,
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
                "the keys are those of buildkitd.toml: [registry.\"docker.io\"] mirrors = [\"host:port\"]",
            )
        })
    }
}

/// The store's directory: as asked for, or `/var/lib/dbuild` for root, or the user's data directory.
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
        Error::usage("HOME is not set, so there is no place for the store").hint("name one with --store DIR")
    })
}

fn user_dir(variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute());
    absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(Path::new(below_home))))
}
