//! Small notions that several crates need and none of them owns.
//!
//! Nothing here knows of images, builds or stores. A notion moves here when a second crate needs
//! it; what one crate alone needs stays in that crate.

pub mod csv;
pub mod edit_distance;
pub mod escape;
pub mod io_context;
pub mod lock;
pub mod resolve_links;
pub mod time;
pub mod units;
