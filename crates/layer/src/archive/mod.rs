//! Tar archives: reading them strictly, writing headers, and unpacking them.

pub(crate) mod chunks;
pub(crate) mod decompress;
pub(crate) mod estargz_entries;
pub(crate) mod extract;
pub(crate) mod limits;
pub(crate) mod operation;
pub(crate) mod tar_reader;
pub(crate) mod tar_writer;
pub(crate) mod unpack;
