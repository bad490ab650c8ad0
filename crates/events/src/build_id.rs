//! The names of builds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Names a build: a short text that sorts by the time at which builds began.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BuildId(String);

impl BuildId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id with this text.
    pub fn from_text(text: String) -> Self {
        Self(text)
    }

    /// The id of a number that grows with time: ten digits and letters, without those that are
    /// easily confused.
    pub fn from_number(number: u64) -> Self {
        const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let digit = |place: u32| char::from(DIGITS[(number >> (5 * place)) as usize & 31]);
        Self((0..10).rev().map(digit).collect())
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BuildId {
    type Err = std::convert::Infallible;

    /// Takes any text: whether there is such a build, the journal knows.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}
