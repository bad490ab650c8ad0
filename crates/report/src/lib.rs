//! What a build was, told from its events: listings, graphs, and the report, which is one HTML file.
//!
//! [`Build`] is a function of events and knows nothing of where they come from: a build that is running, the journal, or a
//! test. What the layers contain is asked of [`Trees`], which the store implements. Everything else is made of these two.

mod contents;
mod find;
mod labels;
mod model;
mod summary;
mod timeline;
mod units;

pub use contents::{Change, Contents, NoTrees, Operation, PathBytes, StepContents, Trees};
pub use find::NoSuchStep;
pub use labels::Labels;
pub use model::{Build, Dockerfile, Export, Image, LogLine, Message, Pinned, Stage, StageBytes, State, Step};
pub use summary::Summary;
pub use units::{Bytes, Seconds};
