//! What is kept of builds: their events, and analyses of their results.

pub(crate) mod analysis_cache;
pub(crate) mod journal;
