//! The `config` object of an image and its history, with Docker's additions, which the crate
//! `oci-spec` does not have.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The `PATH` of an image that sets none, as Docker has it.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A set written as OCI writes sets: an object with empty objects as values.
pub type PortSet = BTreeMap<String, serde_json::Map<String, serde_json::Value>>;

/// How a container of the image is started. Field names in JSON are those of the OCI image
/// specification; members that dbuild does not know are kept as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// `user`, `user:group`, ids or names; empty is root.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub user: String,
    /// `port/protocol`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub exposed_ports: PortSet,
    /// `NAME=value`, in order, names unique.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    /// The program that is started; `None` starts `cmd` itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// The arguments, or the command where there is no entrypoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Paths that hold data which outlives the container.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub volumes: PortSet,
    /// Where it starts; empty is `/`.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub working_dir: String,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    /// The signal that stops it.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub stop_signal: String,
    /// How its health is asked for (Docker's addition).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// The shell of the shell forms (Docker's addition); `None` is `/bin/sh -c`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Instructions for builds on top of this image (Docker's addition).
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub on_build: Vec<String>,
    /// MAINTAINER. It stands beside this object in the image's configuration, not in it.
    #[serde(skip)]
    pub author: Option<String>,
    /// Members that dbuild has no use for.
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_json::Value>,
}

/// An entry of an image's history, as the OCI image configuration has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryEntry {
    /// RFC 3339. `None` in a plan: whoever exports the image knows the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who a base's history says made it; BuildKit and dbuild do not write it, not for MAINTAINER
    /// either.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The person that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The instruction made no layer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// Docker's health check. Durations are in nanoseconds; absent ones inherit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", text]`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub test: Vec<String>,
    /// Between two checks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<i64>,
    /// Time limit of one check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
    /// During which failures do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_period: Option<i64>,
    /// Between two checks during the start period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_interval: Option<i64>,
    /// Failures in a row that make it unhealthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<i64>,
}

impl ImageConfig {
    /// The value of a variable of `env`.
    pub fn env_value(&self, name: &str) -> Option<&str> {
        self.env
            .iter()
            .find_map(|entry| entry.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
    }

    /// Sets a variable of `env`: an existing one keeps its position, a new one goes to the end.
    pub fn set_env(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        let same_name = |old: &&mut String| old.split('=').next() == Some(name);
        match self.env.iter_mut().find(same_name) {
            Some(old) => *old = entry,
            None => self.env.push(entry),
        }
    }
}

/// Docker writes `null` for empty members.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::ImageConfig;

    #[test]
    fn dockers_config_is_read_and_written_back() {
        let text = r#"{"User":"","ExposedPorts":{"80/tcp":{}},"Env":["PATH=/bin","A=b=c"],"Cmd":null,"Labels":null,"ArgsEscaped":true}"#;
        let mut config: ImageConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.env_value("A"), Some("b=c"));
        config.set_env("PATH", "/usr/bin");
        config.set_env("NEW", "");
        assert_eq!(
            serde_json::to_string(&config).unwrap(),
            r#"{"ExposedPorts":{"80/tcp":{}},"Env":["PATH=/usr/bin","A=b=c","NEW="],"ArgsEscaped":true}"#
        );
    }
}
