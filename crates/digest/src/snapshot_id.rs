//! The names of unpacked layers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ParseDigestError;

const LONGEST: usize = 64;

/// Names a snapshot (an unpacked layer) in one store: up to 64 letters and digits, so that it can
/// be a file's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SnapshotId(String);

impl SnapshotId {
    /// The id with this text, which the caller made or found in its own database.
    pub fn from_text(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it can be a file's name. One that was read from a damaged database may not.
    pub fn is_file_name(&self) -> bool {
        let Self(text) = self;
        !text.is_empty() && text.len() <= LONGEST && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SnapshotId {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let id = Self(text.to_owned());
        if id.is_file_name() {
            return Ok(id);
        }
        Err(ParseDigestError::new(text, "a snapshot's id: up to 64 letters and digits"))
    }
}
