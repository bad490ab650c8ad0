//! Views of a build, made from its events: listings, graphs, comparisons, traces, and the report,
//! which is one HTML file.
//!
//! [`Build`] is a function of events and knows nothing of where they come from: a build that is
//! running, the journal, or a test. What the layers contain is asked of [`Trees`], which the store
//! implements. Everything else is made of these two.

mod columns;
mod compare;
mod contents;
mod find;
pub mod graph;
mod inventory;
mod labels;
mod model;
mod page;
mod reader;
mod summary;
mod timeline;
mod trace;
mod why;

pub use compare::{Comparison, Difference, Pair, Side, StepSide};
pub use contents::{Change, Contents, NoTrees, Operation, PathBytes, StepContents, Totals, Trees};
pub use find::NoSuchStep;
pub use inventory::{Inventory, image_files};
pub use labels::Labels;
pub use model::{
    Build, Dockerfile, Export, Image, LogLine, Message, Pinned, Stage, StageBytes, Starts, State, Step,
};
pub use page::{compare_page, page};
pub use summary::{Summary, cache_export_line, warning_line};
pub use trace::{Trace, TraceContext};
pub use why::{Cause, Why};
