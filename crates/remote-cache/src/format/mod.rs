//! What is written, and how it is read: the one place that knows the bytes of the format.

pub(crate) mod catalogue;
pub(crate) mod compress;
pub(crate) mod inline;
pub(crate) mod manifest;
pub(crate) mod record;
pub(crate) mod signature;

/// The version of the format. A reader takes its own version alone.
pub const FORMAT: u32 = 1;

/// The type of the artifact of one record.
pub const RECORD_ARTIFACT: &str = "application/vnd.dbuild.cache.record.v1";
/// The media type of its config: a [`crate::RemoteRecord`] as JSON.
pub const RECORD_CONFIG: &str = "application/vnd.dbuild.cache.record.v1+json";
/// The media type of an index: the tree of the layer, as `dbuild_layer::Tree::encode` writes it,
/// compressed.
pub const INDEX: &str = "application/vnd.dbuild.cache.index.v1+zstd";
/// The type of the artifact of a catalogue.
pub const CATALOGUE_ARTIFACT: &str = "application/vnd.dbuild.cache.catalogue.v1";
/// The media type of a catalogue's one blob.
pub const CATALOGUE: &str = "application/vnd.dbuild.cache.catalogue.v1+zstd";
/// The config of an artifact that has none: two bytes, `{}`.
pub const EMPTY_CONFIG: &str = "application/vnd.oci.empty.v1+json";
/// The annotation that holds the signatures of a record.
pub const SIGNATURE: &str = "dev.dbuild.cache.signature";
/// The annotation that holds the key, for people who list a cache.
pub const KEY: &str = "dev.dbuild.cache.key";

/// Largest manifest of a record, in bytes.
pub const MANIFEST_LIMIT: u64 = 256 << 10;
/// Largest config of a record, in bytes.
pub const CONFIG_LIMIT: u64 = 64 << 20;
/// Largest index of a layer, in bytes as it is stored.
pub const INDEX_LIMIT: u64 = 64 << 20;
/// Largest index of a layer, in bytes when it is unpacked.
pub const UNPACKED_INDEX_LIMIT: u64 = 512 << 20;
/// Largest catalogue, in bytes as it is stored.
pub const CATALOGUE_LIMIT: u64 = 8 << 20;
/// Largest catalogue, in bytes when it is unpacked.
pub const UNPACKED_CATALOGUE_LIMIT: u64 = 32 << 20;
