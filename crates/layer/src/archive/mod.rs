//! Tar archives: reading them strictly, writing headers, and unpacking them.

pub(crate) mod decompress;
pub(crate) mod extract;
pub(crate) mod tar_reader;
pub(crate) mod tar_writer;
pub(crate) mod unpack;
