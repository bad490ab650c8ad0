//! A build, from the flags to what was written: the commands that build, plan or explain call this.

pub(crate) mod error_text;
pub(crate) mod export;
pub(crate) mod inputs;
pub(crate) mod prepare;
pub(crate) mod remote_context;
pub(crate) mod resolve_images;
pub(crate) mod start_check;
