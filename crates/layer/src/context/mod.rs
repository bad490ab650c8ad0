//! Build contexts: which files a COPY can take, and what is known of their contents.

pub(crate) mod absence;
pub(crate) mod content_cache;
pub(crate) mod glob;
pub(crate) mod ignore;
pub(crate) mod path_filter;
pub(crate) mod walk;
