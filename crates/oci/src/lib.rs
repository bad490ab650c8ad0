//! The words of the OCI and Docker image specifications, each in one place.
//!
//! It opens no file and no connection, and does not know what a build is. What others wrote (a
//! manifest, a config, a reference) is read here with suspicion; nothing in it makes this crate
//! panic or take memory without bound.

mod chain_id;
mod config;
mod descriptor;
mod error;
mod manifest;
pub mod media_type;
mod platform;
mod reference;
mod written;

pub use chain_id::chain_ids;
pub use config::{DEFAULT_PATH, Healthcheck, HistoryEntry, ImageConfig, PortSet};
pub use descriptor::Descriptor;
pub use error::ManifestError;
pub use manifest::{ConfigFacts, Document, Manifest};
pub use media_type::MediaTypes;
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
pub use written::{index_json, manifest_json};
