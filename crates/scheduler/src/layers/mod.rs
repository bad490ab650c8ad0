//! What steps give: layers, the file systems they make up, and what an image gets of them.

pub(crate) mod chain_id;
pub(crate) mod filesystem;
pub(crate) mod flatten;
pub(crate) mod image_files;
pub(crate) mod owner_names;
pub(crate) mod pack;
pub(crate) mod remote;
pub(crate) mod unwritten;
