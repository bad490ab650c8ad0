//! What a build was, told from its events: text for the terminal.
//!
//! Everything here is a function of events and knows nothing of where they come from: a build that is
//! running, the journal, or a test.

mod labels;
mod summary;
mod units;

pub use labels::Labels;
pub use summary::Summary;
pub use units::{Bytes, Seconds};
